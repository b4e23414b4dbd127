"""Seconds per round of the ways to train locally, one after the other in every repetition.

python benchmarks/local_training.py --out benchmarks/results/local_training.json

* epochs: E epochs against as many local steps, of clients of one size.
* unequal: one epoch of clients of very different sizes, trained in groups.
* clients: what the algorithms that keep something cost beside plain SGD.
* attackers: what attackers who train cost beside those who do not.

A figure is the median over `--repeats`; a ratio is to the first row of its part. Compiling is not counted.
"""

import argparse
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fljax.bench.rounds import Rounds, medians
from fljax.config.loading import apply_overrides
from fljax.config.schema import parse_config
from fljax.data import Dataset
from fljax.simulation.environment import environment
from fljax.simulation.experiment import assemble

BASE: dict[str, Any] = {
    "rounds": 1,
    "eval_every": 1,
    "num_clients": 50,
    "model": {"name": "mlp", "hidden": [128]},
    "local": {"batch_size": 16},
    "root": {"size": 1},
    "aggregator": {"name": "mean"},
}
TRAINING = {"local.steps": 8}
ATTACKED = {**TRAINING, "attack.fraction": 0.2}
UNEQUAL = {"local.epochs": 1, "partition.name": "power_law_sizes", "partition.exponent": 1.0}
BADNETS = {"name": "badnets"}

PARTS: dict[str, dict[str, Mapping[str, Any]]] = {
    "epochs": {
        "8 steps": TRAINING,
        "1 epoch of 8 batches": {"local.epochs": 1},
        "40 steps": {"local.steps": 40},
        "5 epochs of 8 batches": {"local.epochs": 5},
    },
    "unequal": {f"{size} at once": {**UNEQUAL, "client_chunk": size} for size in (1, 5, 10, 25, 50)},
    "clients": {
        "sgd": TRAINING,
        "momentum": {**TRAINING, "client": {"name": "momentum"}},
        "fedprox": {**TRAINING, "client": {"name": "fedprox", "mu": 0.1}},
        "scaffold": {**TRAINING, "client": {"name": "scaffold"}},
        "feddyn": {**TRAINING, "client": {"name": "feddyn", "alpha": 0.1}},
    },
    "attackers": {
        "badnets": {**ATTACKED, "attack.name": "badnets"},
        "projected_gradient": {**ATTACKED, "attack.name": "projected_gradient", "attack.norm": 1.0},
        "projected_gradient, twice the steps": {
            **ATTACKED,
            "attack.name": "projected_gradient",
            "attack.norm": 1.0,
            "attack.steps": 16,
        },
        "neurotoxin": {**ATTACKED, "attack.name": "neurotoxin"},
        "gradient_ascent": {**ATTACKED, "attack.name": "gradient_ascent"},
    },
}


def made_up() -> Dataset:
    """Random images of 784 pixels, 128 for each of 50 clients and one for the root dataset."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(50 * 128 + 1, 784)).astype(np.float32)
    y = (np.arange(len(x)) % 10).astype(np.int32)
    return Dataset(x, y, x[:100], y[:100], 10, "random")


def measure(cases: Mapping[str, Mapping[str, Any]], repeats: int) -> list[dict[str, Any]]:
    """Rows of one part, the cases interleaved."""
    dataset = made_up()
    rounds = {
        name: Rounds(assemble(parse_config(apply_overrides(BASE, dict(changes))), dataset=dataset))
        for name, changes in cases.items()
    }
    seconds = medians(rounds, repeats)
    first = next(iter(seconds.values()))
    return [
        {
            "case": name,
            "milliseconds": round(1000 * value, 2),
            "ratio": round(value / first, 3),
            "seconds_compile": round(rounds[name].seconds_compile, 2),
        }
        for name, value in seconds.items()
    ]


def main() -> None:
    """Measure all parts, print and keep them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=25)
    parser.add_argument("--part", choices=PARTS, action="append", help="one part only; may be repeated")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    found: dict[str, Any] = {"environment": environment(), "repeats": given.repeats, "parts": {}}
    for part in given.part or PARTS:
        before = os.getloadavg()[0]
        found["parts"][part] = {"load_before": round(before, 2), "rows": measure(PARTS[part], given.repeats)}
        print(f"{part} (load {before:.2f})")
        for row in found["parts"][part]["rows"]:
            print(f"  {row['case']:36} {row['milliseconds']:9.2f} ms {row['ratio']:7.3f}")
    if given.out:
        given.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
