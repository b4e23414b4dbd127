"""Runs and sweeps on meshes of virtual devices beside the same on one device.

A process of its own, since the number of devices is fixed when JAX starts:

    python -m tests.support.meshes    # a line of JSON for every comparison
"""

import json
import os
from functools import cache
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


@cache
def finished(name: str, clients: int | None = None) -> tuple[Any, Any, Any]:
    """The parameters after a run of `RUNS`, its columns, and the compiled chunk."""
    devices = {} if clients is None else {"devices": {"clients": clients}}
    experiment = assemble(parse_config({**BASE, **RUNS[name], **devices}))
    program = compile_experiment(experiment)
    result = run_experiment(experiment, program=program)
    return result.params, result.metrics, program.chunk


def compared(name: str, clients: int) -> dict[str, Any]:
    alone, columns, _ = finished(name)
    params, others, chunk = finished(name, clients)
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


@cache
def swept(runs: int = 1, clients: int = 1) -> tuple[list[list[float]], int]:
    """A sweep of six cells in one program: errors and losses, and how many devices it took."""
    values = {**BASE, "aggregator": {"name": "krum", "num_malicious": 2}}
    devices = {} if runs * clients == 1 else {"devices": {"runs": runs, "clients": clients}}
    (group,) = make_plan(make_sweep({**values, **devices}, SWEEP), size=6).groups
    (batch,) = group.batches
    program = compile_group(group)
    results = run_batch(group, batch, program)
    lines = [[line["test_error"], line["loss"]] for cell in results for line in cell.lines]
    return lines, 1 if program.mesh is None else program.mesh.size


def sweeps_compared(runs: int, clients: int) -> dict[str, Any]:
    (alone, _), (divided, used) = swept(), swept(runs, clients)
    return {"name": f"sweep on {runs} x {clients}", "columns": distance(alone, divided), "used": used}


def main() -> None:
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    for name in RUNS:
        for clients in (2, 4) if name == "all clients" else (3,):
            print(json.dumps(compared(name, clients)), flush=True)
    for runs, clients in ((2, 2), (4, 1), (1, 3)):
        print(json.dumps(sweeps_compared(runs, clients)), flush=True)


if __name__ == "__main__":
    main()
