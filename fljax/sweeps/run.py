"""A sweep from its configuration to its table."""

import collections
import hashlib
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from fljax.errors import SweepError
from fljax.host.limits import room
from fljax.host.signals import Stop
from fljax.simulation.checkpoint import version_changes
from fljax.simulation.environment import environment
from fljax.simulation.progress import say_how_to_go_on
from fljax.sweeps.axes import Sweep, load_sweep
from fljax.sweeps.batch import Saved
from fljax.sweeps.display import Counter, Planning, SweepDisplay
from fljax.sweeps.executors import ExecutorName, make_executor
from fljax.sweeps.executors.base import Executor, Finished, Watcher, Work
from fljax.sweeps.executors.threads import Threads
from fljax.sweeps.folder import Row, SweepFolder, description, make_rows
from fljax.sweeps.plan import Batch, Plan, check_fits, make_plan
from fljax.sweeps.stages import SharedPrograms
from fljax.sweeps.tally import StatusFile
from fljax.sweeps.tracked import tracked
from fljax.tracking import Started, make_trackers


def sweep(
    config: str | Path | Mapping[str, Any] | Sweep,
    out: str | Path | None = None,
    *,
    overrides: Mapping[str, Any] | None = None,
    resume: bool = False,
    workers: int | None = None,
    executor: ExecutorName | Executor = "local",
    address: str | None = None,
    ray_cpus: float = 1.0,
    ray_gpus: float | None = None,
    memory: float | None = None,
    progress: bool | Watcher | Callable[[int, int], object] = True,
    track: Any = None,
) -> pd.DataFrame:
    """Run all cells of a sweep.

    Args:
        config: a TOML file with a `[sweep]` table; such values themselves, the table under the key "sweep";
            or a `Sweep`.
        out: the sweep's folder, new or empty; None keeps nothing.
        overrides: dotted keys to values.
        resume: do what is missing in `out`.
        workers: programs at the same time; None for one a core on a CPU, one a device elsewhere.
        executor: "local", "ray" for a Ray cluster (`pip install "fljax[ray]"`), or an
            `fljax.sweeps.Executor` of your own.
        address: of an existing Ray cluster; None starts one on this machine, unless this process has called
            `ray.init` already.
        ray_cpus: cores a program asks Ray for.
        ray_gpus: GPUs a program asks Ray for, a fraction to share one; None for one if this machine has any.
        memory: gigabytes a program may use; None for what the device has.
        progress: True shows it on the standard error: a bar and the latest cells on a terminal, a line
            a batch and one a minute elsewhere. False shows nothing; a function is called with the numbers of
            cells that are done and of all after every batch; a `Watcher` is told everything.
        track: who is told of every cell that is done: a name of `fljax.tracking.TRACKERS`, which writes below
            `out`, a `Tracker` of your own, or a list of these.

    Returns:
        One row per cell: the axes, of which rules and attacks have their titles, `aggregator_name` and
        `attack_name` as configurations have them, final metrics, curves as lists, configuration, versions,
        device, seconds.

    Raises:
        ConfigError: if a cell cannot be run, or `out` holds another sweep; nothing is written. Also if a
            tracker cannot start.
        DataError: if the data cannot be read.
        SweepError: if cells failed while they ran; the others are in `out`.
        KeyboardInterrupt: with a note on how to continue, if there is an `out`.

    Example:
        >>> base = {"rounds": 10, "num_clients": 10}
        >>> table = sweep({**base, "sweep": {"seeds": 2, "axes": {"aggregator": ["mean", "median"]}}})
        >>> table[["aggregator", "aggregator_name", "seed"]].values.tolist()
        [['FedAvg', 'mean', 0], ['FedAvg', 'mean', 1], ['Median', 'median', 0], ['Median', 'median', 1]]
    """
    console = Console(stderr=True) if progress is True else None
    with Planning(console) as planning:
        cells = (
            load_sweep(config, overrides, planning.told("reading"))
            if not isinstance(config, Sweep)
            else config
        )
        trackers = make_trackers(track, None if out is None else Path(out))
        place = make_executor(
            executor, workers=workers, address=address, ray_cpus=ray_cpus, ray_gpus=ray_gpus
        )
        budget = memory_budget(memory)
        plan = make_plan(cells, workers=place.workers, budget=budget, told=planning.told("planning"))
    if place.in_process or plan.strict:
        check_fits(plan, place.workers)
    with ExitStack() as stack:
        kept = out is not None
        if out is None:
            out, resume = stack.enter_context(tempfile.TemporaryDirectory()), False
        watcher = _watcher(progress, console, plan, SweepFolder(Path(out), cells, resume).finished)
        if isinstance(watcher, SweepDisplay):
            stack.enter_context(watcher)
        try:
            return run_plan(plan, Path(out), resume=resume, executor=place, watcher=watcher, track=trackers)
        except KeyboardInterrupt as error:
            if kept and (Path(out) / "sweep.json").exists():
                say_how_to_go_on(error, f"fljax.sweep(..., out={str(out)!r}, resume=True)")
            raise


def _watcher(progress: Any, console: Console | None, plan: Plan, done: set[str]) -> Watcher:
    """The watcher that `progress` asks for."""
    if console is not None:
        return SweepDisplay(console, plan, missing(plan, done))
    if isinstance(progress, Watcher):
        return progress
    return Counter(progress, len(done), len(plan.sweep.cells)) if callable(progress) else Watcher()


def memory_budget(gigabytes: float | None) -> int | None:
    """Bytes a program may use; None for what the device has."""
    return None if gigabytes is None else room(gigabytes).bytes


def run_plan(
    plan: Plan,
    out: Path,
    *,
    resume: bool = False,
    executor: Executor | None = None,
    watcher: Watcher | None = None,
    track: Any = None,
    stop: Stop | None = None,
) -> pd.DataFrame:
    """`sweep`, for a plan that is made already.

    Args:
        plan: of `make_plan`.
        out, resume: as for `sweep`.
        executor: the place where the batches run; None for one thread of this process.
        watcher: told what happens, from several threads, and of every batch when its rows are in the table.
        track: as for `sweep`; told of the cells that are there already, too.
        stop: asked whether a signal has arrived; then what is under way is saved.

    Returns:
        The table.

    Raises:
        ConfigError: if a tracker cannot start.
        InterruptError: if `stop` says so.
    """
    trackers = make_trackers(track, out)
    failures: list[Finished] = []
    executor, watcher, stop = executor or Threads(1), watcher or Watcher(), stop or Stop()

    def saved(batch: Batch) -> Saved:
        return Saved(folder.batch(batch_id(batch)), watcher.note)

    with ExitStack() as stack:
        folder = stack.enter_context(SweepFolder(out, plan.sweep, resume))
        todo = missing(plan, folder.finished)
        status = StatusFile(out, plan, todo, watcher)
        notes = other_versions(folder.rows) if todo else []
        notes += left_behind(folder, plan, todo) if todo and executor.in_process else []
        for note in notes:
            watcher.note(note)
        # Left at once if anything fails here, a full disk or Ctrl-C: threads left alone would go on.
        batches: Iterable[Finished] = ()
        if todo:
            work = Work(plan, todo, status, saved, stop, SharedPrograms())
            batches = stack.enter_context(executor.run(work))
        folder.start()
        status.begin()
        stack.callback(lambda: status.close(len(folder.finished) == len(plan.sweep.cells)))
        started = Started("sweep", plan.sweep.name, description(plan.sweep), out, resumed=resume)
        stack.enter_context(trackers.following(started, watcher.note))
        number = {cell.id: cell.number for cell in plan.sweep.cells}

        def tell(rows: Sequence[Row]) -> None:
            for row in rows if trackers else ():
                trackers.cell(tracked(row, number[row["cell"]], folder.varying))

        tell(folder.rows)
        for batch in batches:
            if batch.error is not None:
                failures.append(batch)
            elif not batch.results:
                continue  # stopped on its way
            cells = batch.batch.cells[: len(batch.results)]
            rows = make_rows(batch.group, cells, batch.results, batch.seconds_compile, batch.here)
            if rows:
                folder.add(rows)
                tell(rows)
                folder.forget(batch_id(batch.batch))
            status.finished(batch, rows)
        folder.merge()
        if len(folder.finished) + sum(len(f.batch.cells) for f in failures) < len(plan.sweep.cells):
            stop.check()
        if not failures:
            folder.forget()
        lost = sum(len(failure.batch.cells) for failure in failures)
        trackers.end({"cells": len(folder.finished), "failed": lost})
    if failures:
        first = failures[0]
        cell = ", ".join(f"{key}={value}" for key, value in first.batch.cells[0].axes.items())
        raise SweepError(
            f"{lost} of {len(plan.sweep.cells)} cells failed, first {cell}: "
            f"{type(first.error).__name__}: {str(first.error).splitlines()[0] if str(first.error) else ''}"
        ) from first.error
    return folder.frame()


def other_versions(rows: Sequence[Row]) -> list[str]:
    """Notes on rows that were computed with other library versions than these."""
    now = environment()["versions"]
    counts = collections.Counter(row["versions"] for row in rows)
    changed = {text: version_changes(_items(text), now) for text in counts}
    return [
        f"{counts[text]} cells that are there were computed with other versions: {', '.join(changes)}"
        for text, changes in changed.items()
        if changes
    ]


def left_behind(folder: SweepFolder, plan: Plan, todo: Sequence[Batch]) -> list[str]:
    """A note on states saved by batches whose cells are not run together now."""
    batches = [*todo, *(batch for group in plan.groups for batch in group.batches)]
    left = folder.saved - set(map(batch_id, batches)) if folder.saved else set()
    if left:  # perhaps by a program that held fewer cells
        left -= {batch_id(part) for batch in batches for part in _parts(batch)}
    if not left:
        return []
    return [
        f"what {len(left)} batches had saved is of cells that are not run together now; they start again: "
        "to go on from there, stop and use the same number of workers and the same memory as before"
    ]


def _parts(batch: Batch) -> Iterator[Batch]:
    for size in range(1, len(batch.cells)):
        for start in range(0, len(batch.cells), size):
            yield batch._replace(cells=batch.cells[start : start + size])


def _items(text: str) -> list[tuple[str, Any]]:
    """The items of a JSON object; none if the text is anything else."""
    try:
        return list(json.loads(text).items())
    except (ValueError, AttributeError, TypeError):
        return []


def missing(plan: Plan, done: set[str]) -> list[Batch]:
    """The plan's batches, less the cells that are done."""
    left = [
        batch._replace(cells=[cell for cell in batch.cells if cell.id not in done])
        for group in plan.groups
        for batch in group.batches
    ]
    return [batch for batch in left if batch.cells]


def batch_id(batch: Batch) -> str:
    """A name for a batch's folder: the same cells, the same name."""
    return hashlib.sha256(" ".join(cell.id for cell in batch.cells).encode()).hexdigest()[:16]
