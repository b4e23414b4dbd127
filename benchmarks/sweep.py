"""Many seeds as one program against the same seeds one after the other, compile time apart.

python benchmarks/sweep.py configs/digits_seeds.toml --out sweep.json
python benchmarks/sweep.py configs/digits_seeds.toml --sizes 1 4 8 16
"""

import argparse
import json
import os
import statistics
import time
from pathlib import Path

from fljax.simulation.environment import environment
from fljax.simulation.experiment import assemble, compile_experiment, pad_tables, run_experiment
from fljax.sweeps.axes import load_sweep
from fljax.sweeps.executors.base import Work, default_workers
from fljax.sweeps.executors.threads import Threads
from fljax.sweeps.plan import make_plan
from fljax.sweeps.program import compile_group


def time_sweep(sweep, workers: int, size: int | None, repeats: int) -> dict:
    """Seconds for all cells, planning and compiling apart."""
    begin = time.perf_counter()
    plan = make_plan(sweep, workers=workers, size=size)
    planned = time.perf_counter() - begin
    seconds, compiled = [], []
    for _ in range(repeats):
        batches = [batch for group in plan.groups for batch in group.batches]
        begin = time.perf_counter()
        with Threads(workers).run(Work(plan, batches)) as finished:
            done = list(finished)
        total = time.perf_counter() - begin
        errors = [finished.error for finished in done if finished.error]
        if errors:
            raise errors[0]
        compiled.append(done[0].seconds_compile)
        seconds.append(total - compiled[-1])
    return {
        "cells": len(sweep.cells),
        "cells_at_once": plan.groups[0].size,
        "workers": workers,
        "seconds_plan": round(planned, 2),
        "seconds_compile": round(statistics.median(compiled), 2),
        "seconds_run": round(statistics.median(seconds), 2),
        "all": [round(value, 2) for value in seconds],
    }


def time_singles(sweep, count: int, repeats: int) -> dict:
    """Seconds for all cells one after the other, from `count` of them that share a compiled program."""
    experiments = pad_tables([assemble(cell.config) for cell in sweep.cells[:count]])
    program = compile_experiment(experiments[0])
    run_experiment(experiments[0], program=program)
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        for experiment in experiments:
            run_experiment(experiment, program=program)
        seconds.append((time.perf_counter() - begin) / count * len(sweep.cells))
    return {
        "measured_on": count,
        "seconds_compile": round(program.seconds_compile, 2),
        "seconds_run": round(statistics.median(seconds), 2),
        "all": [round(value, 2) for value in seconds],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config")
    parser.add_argument("--sizes", type=int, nargs="*", default=[None], help="cells in a program")
    parser.add_argument("--singles", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--memory", action="store_true", help="also compare the estimate with the compiler")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    sweep = load_sweep(arguments.config)
    results: dict = {"config": arguments.config, **environment(), "cores": os.cpu_count()}
    results["load_average"] = os.getloadavg()[0]
    results["one after the other"] = time_singles(sweep, arguments.singles, arguments.repeats)
    for size in arguments.sizes:
        timed = time_sweep(sweep, default_workers(), size, arguments.repeats)
        timed["of one after the other"] = round(
            timed["seconds_run"] / results["one after the other"]["seconds_run"], 3
        )
        results[f"{timed['cells_at_once']} at once"] = timed
    results["one after the other, again"] = time_singles(sweep, arguments.singles, arguments.repeats)
    if arguments.memory:
        group = make_plan(sweep, workers=default_workers()).groups[0]
        estimated = group.size * group.cell_bytes + group.shared_bytes
        results["memory"] = {"estimated": estimated, "compiled": compile_group(group).bytes}
    text = json.dumps(results, indent=2)
    print(text)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
