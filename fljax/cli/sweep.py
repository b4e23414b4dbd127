"""The command `fljax sweep`: plan, run with a display, report."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from fljax.cli.places import written
from fljax.errors import ConfigError, under_way
from fljax.host.programs import keep_programs
from fljax.host.signals import WAITS_FOR, saving
from fljax.simulation.devices import settle
from fljax.simulation.progress import duration
from fljax.sweeps.axes import load_sweep
from fljax.sweeps.display import Planning, SweepDisplay, plan_table
from fljax.sweeps.executors import ExecutorName, make_executor
from fljax.sweeps.folder import SweepFolder, check_sweep_folder
from fljax.sweeps.plan import check_fits, make_plan, too_large
from fljax.sweeps.run import memory_budget, missing, run_plan
from fljax.sweeps.timing import estimate_seconds
from fljax.tracking import make_trackers


class Options(NamedTuple):
    """The options of the command; see its help."""

    resume: bool = False
    dry_run: bool = False
    executor: ExecutorName = "local"
    address: str | None = None
    ray_cpus: float = 1.0
    ray_gpus: float | None = None
    workers: int | None = None
    memory: float | None = None
    csv: bool = False
    tensorboard: bool = False
    track: tuple[str, ...] = ()


def sweep_and_report(
    console: Console,
    config: Path,
    overrides: Mapping[str, Any],
    folder: Path,
    options: Options,
    hint: str = "",
) -> None:
    """Run a sweep, or show its plan.

    Args:
        console: where to draw.
        config: a TOML file.
        overrides: dotted keys to values.
        folder: the sweep's folder.
        options: of the command line.
        hint: how to go on after a signal.
    """
    budget = memory_budget(options.memory)
    with Planning(console) as planning:
        sweep = load_sweep(config, overrides, planning.told("reading"))
    settle(sweep.cells[0].config)
    executor = make_executor(
        options.executor,
        workers=options.workers,
        address=options.address,
        ray_cpus=options.ray_cpus,
        ray_gpus=options.ray_gpus,
    )
    keep_programs()
    workers = executor.workers
    older = {"csv": options.csv, "tensorboard": options.tensorboard}
    trackers = make_trackers([*(name for name, wanted in older.items() if wanted), *options.track], folder)
    if not options.dry_run:
        check_sweep_folder(folder, sweep, options.resume)
    with Planning(console) as planning:
        plan = make_plan(sweep, workers=workers, budget=budget, told=planning.told("planning"))
    for note in plan.notes:
        console.print(f"note: {note}", markup=False)
    programs = f"{len(sweep.cells)} cells in {len(plan.groups)} programs, {workers} at a time"
    if options.dry_run:
        seconds = estimate_seconds(plan, workers)
        console.print(plan_table(plan, seconds))
        end = f"roughly {duration(sum(seconds))} here; a program may use {plan.budget / 1e9:.1f} GB"
        console.print(f"{programs}, {end}", soft_wrap=True, highlight=False)
        reasons = too_large(plan)
        for number, reason in reasons.items():
            text = f"program {number + 1} does not fit: {reason}"
            console.print(text, soft_wrap=True, highlight=False, markup=False)
        if reasons:
            raise ConfigError(f"{len(reasons)} of {len(plan.groups)} programs do not fit the memory")
        if executor.in_process:
            check_fits(plan, workers)
        return
    if executor.in_process or plan.strict:
        check_fits(plan, workers)
    todo = missing(plan, SweepFolder(folder, sweep, options.resume).finished)
    left = sum(len(batch.cells) for batch in todo)
    console.print(f"{programs}; {left} cells to do", soft_wrap=True, highlight=False)
    begin = time.monotonic()
    with under_way(), SweepDisplay(console, plan, todo) as display, saving(WAITS_FOR, hint) as stop:
        run_plan(
            plan,
            folder,
            resume=options.resume,
            executor=executor,
            watcher=display,
            track=trackers,
            stop=stop,
        )
    if todo:
        console.print(f"{duration(time.monotonic() - begin)} in all", highlight=False)
    # Tables and plots are imported when there is something to show.
    from fljax.report import load_chosen, places, rich_tables, write_report

    files = write_report(folder)
    results, choices = load_chosen(folder)
    for table in rich_tables(results, places(results), choices):
        console.print(table)
    console.print(written(folder, [folder / "results.parquet", *files]), markup=False, soft_wrap=True)
