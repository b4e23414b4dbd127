"""One batch of a group's cells from the first round to the last."""

import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from fljax.config.schema import Minutes
from fljax.engine.evaluate import Evaluation
from fljax.engine.loop import Pace, Record, calls
from fljax.engine.round import RoundMetrics
from fljax.engine.state import RunState
from fljax.errors import DataError
from fljax.simulation.checkpoint import Cadence, load_checkpoint, save_checkpoint, version_changes
from fljax.simulation.environment import environment
from fljax.simulation.lines import Line, metrics_line
from fljax.sweeps.inputs import of_batch
from fljax.sweeps.plan import Batch, Group
from fljax.sweeps.program import GroupProgram, blank_metrics


class StoppedError(Exception):
    """Somebody asked the sweep to stop."""


class CellResult(NamedTuple):
    """What came out of one cell.

    Attributes:
        lines: one per evaluation, as in metrics.jsonl.
        seconds: its share of the batch's time.
        changes: of library versions, if it was interrupted and went on with others.
    """

    lines: list[Line]
    seconds: float
    changes: tuple[str, ...] = ()


class Saved(NamedTuple):
    """Where a batch saves what it has; how often, its configuration says (`checkpoint_every`).

    Attributes:
        folder: of this batch.
        note: told, in a sentence each, what a person should know about what was there.
    """

    folder: Path
    note: Callable[[str], None] = warnings.warn


class _Begun(NamedTuple):
    """Where a batch goes on; `metrics` are of the evaluation interval under way."""

    state: RunState
    metrics: RoundMetrics
    lines: list[list[Line]]
    seconds: float = 0.0
    changes: tuple[str, ...] = ()


def run_batch(
    group: Group,
    batch: Batch,
    program: GroupProgram,
    *,
    saved: Saved | None = None,
    progress: Callable[[int, bool], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> list[CellResult]:
    """Run the cells of a batch to their end.

    Args:
        group: theirs.
        batch: the cells; if they are fewer than the program holds, some run twice.
        program: from `compile_group`.
        saved: where to save the state on the way; what is there already is continued.
        progress: called after every call of the program with the rounds all cells did, and whether an
            interrupted run had.
        stop: asked after every call whether to give up; the state is saved before.

    Returns:
        One `CellResult` per cell. A cell that diverges has no lines after that, like a run of its own.

    Raises:
        StoppedError: if `stop` says so.
    """
    rows = [group.places[cell.id] for cell in batch.cells]
    rows += rows[-1:] * (program.size - len(rows))
    inputs = of_batch(program.inputs, rows if program.size > 1 else rows[0])
    config, count = group.config, len(batch.cells)
    begun = _Begun(
        program.start(inputs.params, inputs.keys, inputs.model_state, inputs.traced),
        blank_metrics(group.resized(program.size)),
        [[] for _ in batch.cells],
    )
    if saved is not None:
        begun = _restore(saved, begun)
    state, metrics, lines, seconds, changes = begun
    done = int(np.max(np.asarray(state.round)))
    cadence, pace = Cadence(_plain(config.checkpoint_every), done), Pace()
    if done and progress is not None:
        progress(done * count, True)
    test = inputs.test_x, inputs.test_y, inputs.test_rows

    def chunk(state: RunState, metrics: RoundMetrics, first: Any, end: Any) -> tuple[RunState, RoundMetrics]:
        return program.chunk(state, metrics, inputs.data, inputs.traced, first, end)

    def keep(done: int, paused: RoundMetrics | None, more: int) -> None:
        """After every call: tell, save, stop."""
        if progress is not None:
            progress(more * count, False)
        stopped = stop is not None and stop()
        if done >= config.rounds:
            return
        if saved is not None and (stopped or cadence.due(done)):
            begin = time.perf_counter()
            _save(saved.folder, state, lines, paused, seconds, changes)
            cadence.saved(done, time.perf_counter() - begin)
        if stopped:
            raise StoppedError

    while done < config.rounds and not all(_is_over(of_cell) for of_cell in lines):
        begin, before = time.perf_counter(), done % config.eval_every
        first = done - before
        for call in calls(chunk, state, metrics, before, config.eval_every, pace):
            state, metrics, inside = call
            if inside < config.eval_every:
                seconds += time.perf_counter() - begin
                keep(first + inside, metrics, inside - before)
                begin, before = time.perf_counter(), inside
        evaluation = program.evaluate(state.params, *test, state.model_state)
        fetched: Any = jax.device_get((evaluation, metrics))
        last = time.perf_counter() - begin
        pace.measured(config.eval_every - before, last)
        done = first + config.eval_every
        for i, of_cell in enumerate(lines):
            if not _is_over(of_cell):
                index = i if program.size > 1 else ...
                of_cell.append(_line(done, fetched, index, (seconds + last) / count))
        seconds = 0.0
        keep(done, None, config.eval_every - before)
    return [
        CellResult(of_cell, round(sum(line["seconds"] or 0.0 for line in of_cell), 4), changes)
        for of_cell in lines
    ]


def _plain(every: Any) -> Any:
    return every.model_dump() if isinstance(every, Minutes) else every


def _is_over(lines: Sequence[Line]) -> bool:
    return bool(lines) and bool(lines[-1]["diverged"])


def _line(done: int, fetched: tuple[Evaluation, RoundMetrics], index: Any, seconds: float) -> Line:
    evaluation, metrics = fetched
    record = Record(
        None,  # type: ignore[arg-type]
        done,
        Evaluation(*(float(np.asarray(value)[index]) for value in evaluation)),
        RoundMetrics(*(np.asarray(values)[index] for values in metrics)),
        seconds,
    )
    return metrics_line(record)


def _save(
    folder: Path,
    state: RunState,
    lines: list[list[Line]],
    paused: RoundMetrics | None,
    seconds: float,
    changes: Sequence[str],
) -> None:
    failed = paused is not None and bool(np.any(np.asarray(paused.finite) <= 0))
    about = {
        "run": folder.name,
        "lines": lines,
        # Of an interval under way, rounds that are not done count as failed: that only leaves a check out.
        "diverged": failed or any(map(_is_over, lines)),
        "seconds": seconds,
        "environment": environment()["versions"],
        "changes": [*changes],
    }
    save_checkpoint(folder, state, about, paused)


def _restore(saved: Saved, begun: _Begun) -> _Begun:
    """The last checkpoint of the same batch; one that cannot be used is said, and the batch starts over."""
    try:
        found = load_checkpoint(
            saved.folder, begun.state, begun.metrics, run=saved.folder.name, note=saved.note
        )
    except DataError as error:
        saved.note(f"{error}; these cells start again from round 0")
        return begun
    if found is None:
        return begun
    about = found.about
    if "lines" not in about:
        saved.note(f"{saved.folder} is of an earlier version of fljax; these cells start again from round 0")
        return begun
    changes = version_changes(about["environment"].items(), environment()["versions"])
    if changes:
        done = int(np.max(np.asarray(found.state.round)))
        saved.note(
            f"{len(begun.lines)} cells go on from round {done} with {', '.join(changes)}: their numbers may "
            "differ from those of a sweep in one piece"
        )
    metrics = begun.metrics if found.metrics is None else found.metrics
    return _Begun(found.state, metrics, about["lines"], about["seconds"], (*about["changes"], *changes))
