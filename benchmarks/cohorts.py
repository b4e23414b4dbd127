"""Seconds per round of a cohort of 100 among more and more clients, one after the other in every repetition.

python benchmarks/cohorts.py --out benchmarks/results/cohorts.json

The model, the cohort, the batches and the examples stay the same, and every client holds eight of them, which
other clients hold as well: nothing but the number of clients n grows. A figure is the median over
`--repeats` of a call of 10 rounds; a ratio is to the row with the fewest clients, and the exponent p is that
of the least-squares line log(seconds) = p · log(n) + c. Compiling is not counted. "host" is what dealing the
examples out and choosing who is malicious take before the first round.
"""

import argparse
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fljax.bench.rounds import Rounds, medians
from fljax.config.loading import apply_overrides
from fljax.config.schema import parse_config
from fljax.data import Dataset, register_partition
from fljax.simulation.environment import environment
from fljax.simulation.experiment import assemble

COHORT, EXAMPLES, HELD, ROUNDS = 100, 20_000, 8, 10
BASE: dict[str, Any] = {
    "rounds": ROUNDS,
    "eval_every": ROUNDS,
    "cohort_size": COHORT,
    "partition": {"name": "shared_examples"},
    "model": {"name": "logistic_regression"},
    "local": {"batch_size": 4},
    "root": {"size": 20},
    "aggregator": {"name": "mean"},
    "attack": {"name": "sign_flip", "fraction": 0.2},
}
# The second is the width of an example: states of all clients must fit the memory.
CASES: dict[str, tuple[Mapping[str, Any], int]] = {
    "mean, 7,850 parameters": ({}, 784),
    "median, 20 attackers in every cohort": ({"aggregator.name": "median", "attack.in_cohort": 20}, 784),
    "distributed_backdoor": (
        {
            "attack": {"name": "distributed_backdoor", "fraction": 0.2, "in_cohort": 20},
        },
        784,
    ),
    "mimic with warm-up": ({"attack.name": "mimic_warmup"}, 8),
    "scaffold": ({"client": {"name": "scaffold"}}, 8),
    "foolsgold": ({"aggregator.name": "foolsgold"}, 8),
}


@register_partition("shared_examples")
def shared_examples(labels: Any, seed: Any, *, num_clients: int) -> tuple[np.ndarray, np.ndarray]:
    """Every client holds eight examples, which other clients hold as well."""
    places = np.arange(num_clients * HELD, dtype=np.int32).reshape(num_clients, HELD)
    return places % len(labels), np.full(num_clients, HELD, np.int32)


def made_up(width: int) -> Dataset:
    """Random examples of ten classes."""
    draw = np.random.default_rng(0)
    side = int(width**0.5)
    shape = (side, side, 1) if side * side == width else (width,)
    x = draw.normal(size=(EXAMPLES, *shape)).astype(np.float32)
    y = (np.arange(len(x)) % 10).astype(np.int32)
    return Dataset(x, y, x[:100], y[:100], 10, "random")


def measure(change: Mapping[str, Any], width: int, clients: list[int], repeats: int) -> dict[str, Any]:
    """The rows of one case, the numbers of clients interleaved."""
    dataset = made_up(width)
    rounds, host = {}, {}
    for n in clients:
        begin = time.perf_counter()
        config = parse_config(apply_overrides(BASE, {**change, "num_clients": n}))
        experiment = assemble(config, dataset=dataset)
        host[n] = time.perf_counter() - begin
        rounds[n] = Rounds(experiment)
    seconds = medians(rounds, repeats)
    fitted = np.polyfit(np.log(clients), np.log([seconds[n] for n in clients]), 1)[0]
    return {
        "exponent": round(float(fitted), 4),
        "rows": [
            {
                "clients": n,
                "milliseconds": round(1000 * seconds[n], 3),
                "ratio": round(seconds[n] / seconds[clients[0]], 3),
                "host_seconds": round(host[n], 2),
            }
            for n in clients
        ],
    }


def main() -> None:
    """Measure all cases, print and keep them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=25)
    parser.add_argument("--case", choices=CASES, action="append", help="one case only; may be repeated")
    parser.add_argument("--clients", type=int, nargs="+", default=[10**3, 10**4, 10**5, 10**6])
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    found: dict[str, Any] = {"environment": environment(), "repeats": given.repeats, "cases": {}}
    for case in given.case or CASES:
        before = os.getloadavg()[0]
        result = measure(*CASES[case], given.clients, given.repeats)
        found["cases"][case] = {"load_before": round(before, 2), **result}
        print(f"{case}: n^{result['exponent']} (load {before:.2f})")
        for row in result["rows"]:
            print(
                f"  {row['clients']:9,} {row['milliseconds']:9.3f} ms {row['ratio']:7.3f}"
                f"   host {row['host_seconds']:.2f} s"
            )
    if given.out:
        given.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
