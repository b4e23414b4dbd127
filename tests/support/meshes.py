"""Runs and sweeps on meshes of virtual devices beside the same on one device.

A process of its own, since the number of devices is fixed when JAX starts:

    python -m tests.support.meshes    # a line of JSON for every comparison
"""

import json
import os
from typing import Any

import jax
import numpy as np

from fljax.config.schema import parse_config
from fljax.simulation.experiment import assemble, compile_experiment, run_experiment
from fljax.sweeps.axes import make_sweep
from fljax.sweeps.batch import run_batch
from fljax.sweeps.plan import make_plan
from fljax.sweeps.program import compile_group

# Neither the clients nor the parameters are divided evenly.
BASE: dict[str, Any] = {
    "rounds": 4,
    "eval_every": 2,
    "num_clients": 11,
    "model": {"name": "mlp", "hidden": [13]},
    "aggregator": {"name": "trimmed_mean", "trim": 2},
    "attack": {"name": "trim_attack"},
}
SWEEP = {"seeds": 3, "axes": {"attack": [{"name": "sign_flip", "fraction": share} for share in (0.1, 0.3)]}}
RUNS: dict[str, dict[str, Any]] = {
    "all clients": {},
    "epochs, validation": {"local": {"epochs": 1}, "validation": {"size": 30}},
    "cohorts, kept states": {
        "cohort_size": 7,
        "client": {"name": "scaffold"},
        "aggregator": {"name": "mean"},
        "attack": {"name": "sign_flip"},
    },
    "attackers who train": {"attack": {"name": "neurotoxin"}, "aggregator": {"name": "fltrust"}},
    "a history of every client": {"aggregator": {"name": "foolsgold"}, "attack": {"name": "sign_flip"}},
    "streaming": {
        "streaming": True,
        "aggregator": {"name": "fltrust"},
        "attack": {"name": "sign_flip"},
    },
    "batch statistics": {
        "model": {"name": "resnet20", "widths": [2, 4], "blocks": 1},
        "rounds": 2,
        "aggregator": {"name": "median"},
        "attack": {"name": "sign_flip"},
    },
}


def distance(one: Any, other: Any) -> float:
    """The largest difference of two trees."""
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return max(float(np.max(np.abs(np.asarray(a) - np.asarray(b)))) for a, b in pairs)


def finished(values: dict[str, Any]) -> tuple[Any, Any, Any]:
    """The parameters after a run, its columns, and the compiled chunk."""
    experiment = assemble(parse_config(values))
    program = compile_experiment(experiment)
    result = run_experiment(experiment, program=program)
    return result.params, result.metrics, program.chunk


def compared(name: str, values: dict[str, Any], clients: int) -> dict[str, Any]:
    alone, columns, _ = finished(values)
    params, others, chunk = finished(values | {"devices": {"clients": clients}})
    return {
        "name": f"{name} on {clients}",
        "params": distance(alone, params),
        "columns": max(
            float(np.nanmax(np.abs(columns[key] - others[key]), initial=0.0))
            for key in columns
            if key not in ("seconds", "rounds_per_second")
        ),
        "used": len(chunk.input_shardings[0][0].params.device_set),
    }


def swept(runs: int, clients: int) -> dict[str, Any]:
    """A sweep of six cells in one program."""
    values = {**BASE, "aggregator": {"name": "krum", "num_malicious": 2}}
    found, used = [], 0
    for devices in ({}, {"devices": {"runs": runs, "clients": clients}}):
        sweep = make_sweep({**values, **devices}, SWEEP)
        (group,) = make_plan(sweep, size=6).groups
        (batch,) = group.batches
        program = compile_group(group)
        results = run_batch(group, batch, program)
        found.append([[line["test_error"], line["loss"]] for cell in results for line in cell.lines])
        used = 1 if program.mesh is None else program.mesh.size
    return {"name": f"sweep on {runs} x {clients}", "columns": distance(*found), "used": used}


def main() -> None:
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    for name, values in RUNS.items():
        for clients in (2, 4) if name == "all clients" else (3,):
            print(json.dumps(compared(name, {**BASE, **values}, clients)), flush=True)
    for runs, clients in ((2, 2), (4, 1), (1, 3)):
        print(json.dumps(swept(runs, clients)), flush=True)


if __name__ == "__main__":
    main()
