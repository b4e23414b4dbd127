"""A round on 1, 2, 4 and 8 devices: its seconds, what a device holds, and what it is told by the others.

python benchmarks/devices.py --out benchmarks/results/devices.json

The devices are virtual ones of this machine's CPU, which have its cores together: where there are fewer cores
than devices, seconds show what dividing the work costs and nothing that it gains. All programs are compiled
first; then a call of each follows the other in every repetition. Memory is the compiler's figure for one
device, arguments and temporaries; "told" is the bytes of what collectives hand to one device in a round.
"""

import argparse
import json
import os
import re
import statistics
import time
from collections import Counter
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fljax import use_cores
from fljax.config.schema import parse_config
from fljax.data import Dataset
from fljax.engine.loop import no_metrics
from fljax.engine.mesh import put
from fljax.simulation.environment import environment
from fljax.simulation.experiment import assemble, compile_experiment

FLTRUST = {"aggregator": {"name": "fltrust"}, "attack": {"name": "trim_attack", "fraction": 0.2}}
CASES: dict[str, dict[str, Any]] = {
    "cnn": {"num_clients": 100, "model": {"name": "cnn"}, "local": {"batch_size": 32}, **FLTRUST},
    "digits": {"num_clients": 100, "data": {"name": "digits"}, "model": {"name": "mlp"}, **FLTRUST},
}
KINDS = "all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter"
BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4, "s64": 8, "f64": 8}


def images() -> Dataset:
    """Random images as large as MNIST's, a fifth as many."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(12_200, 28, 28, 1)).astype(np.float32)
    y = (np.arange(len(x)) % 10).astype(np.int32)
    return Dataset(x[200:], y[200:], x[:200], y[:200], 10, "random images")


def told(text: str) -> dict[str, int]:
    """Bytes of the results of a compiled program's collectives on a device, by kind.

    An operation in a loop counts as often as the loop turns, or once where that is decided while it runs, as
    that of the rounds is.
    """
    inside, callers, found = "", {}, []
    for line in text.splitlines():
        if not line.startswith(" "):
            head = re.match(r"(?:ENTRY )?%([\w.\-]+) \(", line)
            inside = head[1] if head else inside
            continue
        turns = re.search(r'"known_trip_count":\{"n":"(\d+)"', line)
        for callee in re.findall(
            r"(?:body|branch_computations=\{|true_computation|calls)=?%([\w.\-]+)", line
        ):
            callers[callee] = inside, int(turns[1]) if turns else 1
        if operation := re.search(rf" = (.*?) ({KINDS})(?:-start)?\(", line):
            shapes = re.findall(r"(\w+)\[([\d,]*)\]", operation[1])
            size = sum(BYTES[kind] * prod(int(n) for n in sizes.split(",") if n) for kind, sizes in shapes)
            found.append((operation[2], size, inside))
    total: Counter[str] = Counter()
    for kind, size, place in found:
        times = 1
        while place in callers:
            place, turns_of_it = callers[place]
            times *= turns_of_it
        total[kind] += times * size
    return dict(total)


def prepared(
    case: dict[str, Any], dataset: Dataset | None, devices: int
) -> tuple[Callable[[], None], dict[str, Any]]:
    """A function that does a round, and what the compiler says of it."""
    values = {"rounds": 1, "eval_every": 1, **case, "devices": {"clients": devices}}
    experiment = assemble(parse_config(values), dataset=dataset)
    program = compile_experiment(experiment)
    memory, params = program.chunk.memory_analysis(), experiment.state.run.params.size
    state, data = experiment.state
    blank = put(no_metrics(1), experiment.mesh)

    def one() -> None:
        nonlocal state
        state, metrics = program.chunk(state, blank, data, np.int32(0), np.int32(1))
        jax.block_until_ready((state.params, metrics))

    return one, {
        "devices": devices,
        "updates_megabytes": round(4e-6 * case["num_clients"] * params / devices, 2),
        "arguments_megabytes": round(memory.argument_size_in_bytes / 1e6, 2),
        "temporaries_megabytes": round(memory.temp_size_in_bytes / 1e6, 2),
        "told_megabytes": {
            kind: round(size / 1e6, 3) for kind, size in told(program.chunk.as_text()).items()
        },
        "seconds_compile": round(program.seconds_compile, 1),
    }


def measure(name: str, devices: list[int], repeats: int) -> list[dict[str, Any]]:
    """The rows of one case, a round of each number of devices after the other."""
    dataset = images() if name == "cnn" else None
    rounds = [prepared(CASES[name], dataset, count) for count in devices]
    seconds: list[list[float]] = [[] for _ in rounds]
    busy: list[list[float]] = [[] for _ in rounds]
    for repeat in range(repeats + 1):
        for number, (one, _) in enumerate(rounds):
            begin, begin_busy = time.perf_counter(), time.process_time()
            one()
            if repeat:  # the first call warms up caches and page tables
                seconds[number].append(time.perf_counter() - begin)
                busy[number].append(time.process_time() - begin_busy)
    return [
        {
            **row,
            "seconds": round(statistics.median(taken), 4),
            "seconds_least": round(min(taken), 4),
            "cpu_seconds": round(statistics.median(used), 4),
        }
        for (_, row), taken, used in zip(rounds, seconds, busy, strict=True)
    ]


def main() -> None:
    """Measure the cases, print and keep them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--case", choices=CASES, action="append", help="one case only; may be repeated")
    parser.add_argument("--devices", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    use_cores(max(given.devices))
    found: dict[str, Any] = {"environment": environment(), "cores": os.cpu_count(), "cases": {}}
    for name in given.case or CASES:
        before = os.getloadavg()[0]
        rows = measure(name, given.devices, given.repeats)
        found["cases"][name] = {"load": [round(before, 1), round(os.getloadavg()[0], 1)], "rows": rows}
        print(f"{name} (load {before:.1f})")
        for row in rows:
            held = row["arguments_megabytes"] + row["temporaries_megabytes"]
            print(
                f"  {row['devices']} devices: {row['seconds']:.3f} s, at least {row['seconds_least']:.3f}, "
                f"CPU {row['cpu_seconds']:.3f} s; {held:.1f} MB, of which {row['updates_megabytes']:.1f} "
                f"updates; told {row['told_megabytes']} MB"
            )
        if given.out:
            given.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
