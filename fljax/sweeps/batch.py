"""One batch of a group's cells from the first round to the last."""

import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fljax.config.schema import Minutes
from fljax.engine.loop import Pause, Record, Start, train
from fljax.engine.mesh import like
from fljax.engine.round import RoundMetrics
from fljax.errors import DataError
from fljax.simulation.checkpoint import Cadence, load_checkpoint, save_checkpoint, version_changes
from fljax.simulation.endings import is_over
from fljax.simulation.environment import environment
from fljax.simulation.lines import Line, metrics_line
from fljax.sweeps.plan import Batch, Group
from fljax.sweeps.program import GroupProgram


class CellResult(NamedTuple):
    """The result of one cell.

    Attributes:
        lines: one per evaluation, as in metrics.jsonl.
        seconds: its share of the batch's time.
        changes: of library versions, if it was interrupted and went on with others.
    """

    lines: list[Line]
    seconds: float
    changes: tuple[str, ...] = ()


class Saved(NamedTuple):
    """The folder in which a batch saves its state, as often as `checkpoint_every` of its configuration says.

    Attributes:
        folder: of this batch.
        note: told, in a sentence each, what a person should know about what was there.
    """

    folder: Path
    note: Callable[[str], None] = warnings.warn


class _Begun(NamedTuple):
    """A batch where it goes on: the lines of every cell up to there, and changes of library versions."""

    start: Start
    lines: list[list[Line]]
    changes: tuple[str, ...] = ()


def run_batch(
    group: Group,
    batch: Batch,
    program: GroupProgram,
    *,
    saved: Saved | None = None,
    progress: Callable[[int, bool], None] = lambda rounds, kept: None,
    stop: Callable[[], bool] = lambda: False,
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
        One `CellResult` per cell. A cell that diverges or is to stop has no lines after that, like a run of
        its own; what the program goes on to compute for it is not kept.

    Raises:
        StoppedError: if `stop` says so.
    """
    rows = [group.places[cell.id] for cell in batch.cells]
    inputs = program.rows(rows)
    config, count = group.config, len(batch.cells)
    bound = program.bind(inputs, config.eval_every)
    initial = program.start(inputs.params, inputs.keys, inputs.model_state, inputs.traced)
    begun = _Begun(Start(initial), [[] for _ in batch.cells])
    if saved is not None:
        begun = _restore(saved, begun, bound.blank)
    start, lines, changes = begun
    done = int(np.max(np.asarray(start.state.round)))
    cadence = Cadence(_plain(config.checkpoint_every), done)
    if done:
        progress(done * count, True)

    def all_over() -> bool:
        return all(
            is_over(of_cell, cell.config.stop) for of_cell, cell in zip(lines, batch.cells, strict=True)
        )

    def measured(record: Record) -> bool:
        for index, (of_cell, cell) in enumerate(zip(lines, batch.cells, strict=True)):
            if not is_over(of_cell, cell.config.stop):
                of_cell.append(metrics_line(record.cell(index)._replace(seconds=record.seconds / count)))
        return all_over()

    def tell(at: Record | Pause) -> None:
        nonlocal done
        before, done = done, at.round
        progress((done - before) * count, False)

    def due(at: Record | Pause, over: bool) -> bool:
        return saved is not None and not over and cadence.due(at.round)

    def save(at: Record | Pause) -> None:
        if saved is not None:
            begin = time.perf_counter()
            _save(saved.folder, at, lines, changes)
            cadence.saved(at.round, time.perf_counter() - begin)

    if not all_over():
        train(
            bound,
            start,
            rounds=config.rounds,
            eval_every=config.eval_every,
            measured=measured,
            tell=tell,
            due=due,
            save=save,
            stop=stop,
        )
    return [
        CellResult(of_cell, round(sum(line["seconds"] or 0.0 for line in of_cell), 4), changes)
        for of_cell in lines
    ]


def _plain(every: Any) -> Any:
    return every.model_dump() if isinstance(every, Minutes) else every


def _save(folder: Path, at: Record | Pause, lines: list[list[Line]], changes: Sequence[str]) -> None:
    paused = isinstance(at, Pause)
    about = {
        "run": folder.name,
        "lines": lines,
        "diverged": at.diverged or any(of_cell and of_cell[-1]["diverged"] for of_cell in lines),
        "seconds": at.seconds if paused else 0.0,
        "environment": environment()["versions"],
        "changes": [*changes],
    }
    save_checkpoint(folder, at.state, about, at.metrics if paused else None)


def _restore(saved: Saved, begun: _Begun, blank: RoundMetrics) -> _Begun:
    """The last checkpoint of the same batch; one that cannot be used is said, and the batch starts over."""
    try:
        found = load_checkpoint(
            saved.folder, begun.start.state, blank, run=saved.folder.name, note=saved.note
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
    start = Start(like(begun.start.state, found.state), found.metrics, about["seconds"])
    return _Begun(start, about["lines"], (*about["changes"], *changes))
