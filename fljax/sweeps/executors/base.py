"""The parts that all executors share."""

import threading
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

from fljax.engine.loop import StoppedError
from fljax.errors import ConfigError
from fljax.host.limits import Limit, available
from fljax.simulation.memory import shortage
from fljax.sweeps.batch import CellResult, Saved, run_batch
from fljax.sweeps.folder import Row
from fljax.sweeps.plan import Batch, Group, Plan
from fljax.sweeps.program import GroupProgram, compile_group

# Seconds between two looks whether somebody has asked to stop.
POLL = 0.2


class Finished(NamedTuple):
    """A batch that is done, or what it failed with.

    Attributes:
        group: its group; `size` is what its program holds.
        batch: the batch.
        results: one per cell, or where it was stopped of its first cells; empty after an error.
        seconds_compile: of the group's program.
        error: what went wrong, or None.
        here: device and versions, if it was another process that ran it.
    """

    group: Group
    batch: Batch
    results: list[CellResult]
    seconds_compile: float
    error: Exception | None = None
    here: dict[str, Any] | None = None


class Watcher:
    """Told what happens while a sweep runs, from any thread; this one ignores it."""

    def compiling(self, group: Group) -> None:
        """A group's program is being compiled."""

    def compiled(self, group: Group, seconds: float) -> None:
        """It is compiled, which took so long."""

    def progress(self, batch: Batch, rounds: int, kept: bool) -> None:
        """All cells of a batch together are so many rounds further, or an interrupted run had done them."""

    def note(self, text: str) -> None:
        """Something a person should know, in a sentence: this one warns."""
        warnings.warn(text, stacklevel=2)

    def finished(self, finished: Finished, rows: Sequence[Row]) -> None:
        """A batch is done, and its rows are in the table."""


def interleaved(batches: Sequence[Batch], workers: int) -> list[Batch]:
    """An order in which workers compile different groups at the same time.

    Example:
        >>> order = interleaved([Batch(group, []) for group in (0, 0, 1, 1, 2)], 2)
        >>> [batch.group for batch in order]
        [0, 1, 0, 1, 2]
    """
    by_group: dict[int, list[Batch]] = {}
    for batch in batches:
        by_group.setdefault(batch.group, []).append(batch)
    groups, order = list(by_group.values()), []
    for start in range(0, len(groups), workers):
        together = groups[start : start + workers]
        for turn in range(max(map(len, together))):
            order += [group[turn] for group in together if turn < len(group)]
    return order


class _Programs:
    """Each group's program on each device, compiled by the first thread that needs it."""

    def __init__(self, plan: Plan, batches: Sequence[Batch], watcher: Watcher) -> None:
        self._plan, self._watcher = plan, watcher
        self._lock = threading.Lock()
        self._futures: dict[tuple[int, int], Future[GroupProgram]] = {}
        self._left: dict[int, int] = {}
        for batch in batches:
            self._left[batch.group] = self._left.get(batch.group, 0) + 1

    def get(self, group: Group, device: int) -> GroupProgram:
        with self._lock:
            first = (group.number, device) not in self._futures
            future = self._futures.setdefault((group.number, device), Future())
        if first:
            try:
                future.set_result(self._compile(group))
            except BaseException as error:
                future.set_exception(error)
        return future.result()

    def _compile(self, group: Group) -> GroupProgram:
        self._watcher.compiling(group)
        program = compile_within(group, self._plan.budget, self._plan.limit if self._plan.strict else None)
        self._watcher.compiled(group, program.seconds_compile)
        return program

    def done(self, group: Group) -> None:
        with self._lock:
            self._left[group.number] -= 1
            if not self._left[group.number]:
                for key in [key for key in self._futures if key[0] == group.number]:
                    del self._futures[key]


def compile_within(group: Group, budget: int, limit: Limit | None = None) -> GroupProgram:
    """Compile a group; if the compiler's own figure exceeds the budget, for half as many cells, and so on.

    Args:
        group: the group.
        budget: bytes a program should use.
        limit: what not even one cell may exceed; None for what there is.

    Returns:
        The `GroupProgram`; its `size` may be smaller than the group's.

    Raises:
        ConfigError: if the compiler says that not even one cell fits.
    """
    program = compile_group(group)
    while program.bytes > budget and program.size > 1:
        group = group.resized(max(1, min(program.size // 2, program.size * budget // program.bytes)))
        program = compile_group(group)
    if program.bytes > budget:
        limit = limit or available()
        if program.bytes > limit.bytes:
            raise ConfigError(shortage(group.need, limit, program.bytes))
    return program


def run_in_parts(
    group: Group,
    batch: Batch,
    program: GroupProgram,
    saved: Callable[[Batch], Saved | None],
    progress: Callable[[int, bool], None],
    stop: Callable[[], bool],
) -> list[CellResult]:
    """A batch by a program that may hold fewer cells; one that is stopped has the results of its first parts.

    Raises:
        StoppedError: if it has none.
    """
    results: list[CellResult] = []
    for start in range(0, len(batch.cells), program.size):
        part = Batch(batch.group, batch.cells[start : start + program.size])
        try:
            results += run_batch(group, part, program, saved=saved(part), progress=progress, stop=stop)
        except StoppedError:
            if not results:
                raise
            break
    return results
