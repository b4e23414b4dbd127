"""The parts that all executors share."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax

from fljax.engine.loop import StoppedError
from fljax.errors import ConfigError
from fljax.host.limits import Limit, available
from fljax.simulation.environment import environment
from fljax.simulation.memory import in_words, shortage
from fljax.sweeps.batch import CellResult, Saved, run_batch
from fljax.sweeps.folder import Row
from fljax.sweeps.plan import Batch, Group, Plan
from fljax.sweeps.program import GroupProgram, compile_group
from fljax.sweeps.stages import SharedPrograms

# Seconds between two looks whether somebody has asked to stop.
POLL = 0.2


class Finished(NamedTuple):
    """A batch that is done, or what it failed with.

    Attributes:
        group: its group; `size` is the number of cells in its program.
        batch: the batch.
        results: one per cell, or where it was stopped of its first cells; empty after an error.
        seconds_compile: of the group's program.
        error: the exception that ended it, or None.
        here: devices and versions with which it ran; None after an error.
    """

    group: Group
    batch: Batch
    results: list[CellResult]
    seconds_compile: float
    error: Exception | None = None
    here: dict[str, Any] | None = None


class Watcher:
    """A listener to a sweep, called from any thread; this one ignores what it hears."""

    def compiling(self, group: Group) -> None:
        """A group's program is being compiled."""

    def compiled(self, group: Group, seconds: float) -> None:
        """The program is compiled; it took so many seconds."""

    def progress(self, batch: Batch, rounds: int, kept: bool) -> None:
        """The cells of a batch have done so many rounds in total, or an interrupted sweep had (`kept`)."""

    def note(self, text: str) -> None:
        """A sentence for the user; this one warns."""
        warnings.warn(text, stacklevel=2)

    def finished(self, finished: Finished, rows: Sequence[Row]) -> None:
        """A batch is done, and its rows are in the table."""


class Work(NamedTuple):
    """The batches of a sweep for an executor to run.

    Attributes:
        plan: the plan they belong to.
        batches: in the order of the sweep.
        watcher: told what happens.
        saved: the place where a batch of this process saves its state on the way, if anywhere.
        stop: asked whether to stop before all batches are done.
        shared: the programs that groups share; None for none.
    """

    plan: Plan
    batches: Sequence[Batch]
    watcher: Watcher = Watcher()
    saved: Callable[[Batch], Saved | None] = lambda batch: None
    stop: Callable[[], bool] = lambda: False
    shared: SharedPrograms | None = None

    def run(self, batch: Batch, compiled: Callable[[Group], GroupProgram]) -> Finished:
        """Run a batch in this process, by the program that `compiled` returns for its group.

        Returns:
            The finished batch; an error of it is in there.
        """
        group = self.plan.groups[batch.group]
        try:
            program = compiled(group)
            progress = partial(self.watcher.progress, batch)
            results = run_in_parts(group, batch, program, self.saved, progress, self.stop)
            here = environment(program.devices)
            return Finished(group.resized(program.size), batch, results, program.seconds_compile, here=here)
        except StoppedError:
            return Finished(group, batch, [], 0.0)
        except Exception as error:
            return Finished(group, batch, [], 0.0, in_words(error, group.need.largest.lower))

    def compile(self, group: Group) -> GroupProgram:
        """Compile the program of a group for this process, within the memory of the plan."""
        self.watcher.compiling(group)
        limit = self.plan.limit if self.plan.strict else None
        program = compile_within(group, self.plan.budget, self.shared, limit)
        self.watcher.compiled(group, program.seconds_compile)
        return program


class Executor(Protocol):
    """A place where the batches of a sweep run.

    Attributes:
        workers: the number of programs that run at the same time.
        in_process: True if they run in this process, so that together they must fit its memory, and batches
            save their state on the way.
    """

    @property
    def workers(self) -> int: ...

    @property
    def in_process(self) -> bool: ...

    def run(self, work: Work) -> AbstractContextManager[Iterator[Finished]]:
        """Begin to run batches.

        Args:
            work: the batches.

        Returns:
            A context manager whose value yields every batch when it is done, in whatever order. When it is
            left, nothing runs any more. It raises a ConfigError on entering if the place cannot be used.
        """
        ...


def default_workers() -> int:
    """One program a core on a CPU, one a device elsewhere."""
    if jax.default_backend() != "cpu":
        return jax.local_device_count()
    import psutil

    return len(psutil.Process().cpu_affinity() or [0]) if hasattr(psutil.Process, "cpu_affinity") else 1


def number_of_workers(workers: int | None) -> int:
    """The number of programs at the same time, `default_workers` if None.

    Raises:
        ConfigError: if it is not positive.
    """
    if workers is not None and workers < 1:
        raise ConfigError(f"workers={workers} must be at least 1")
    return workers or default_workers()


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


def compile_within(
    group: Group, budget: int, shared: SharedPrograms | None = None, limit: Limit | None = None
) -> GroupProgram:
    """Compile a group; if the compiler's own figure exceeds the budget, for half as many cells, and so on.

    Args:
        group: the group.
        budget: bytes a program should use.
        shared: the programs that groups share; None for none.
        limit: what not even one cell may exceed; None for what there is.

    Returns:
        The `GroupProgram`; its `size` may be smaller than the group's.

    Raises:
        ConfigError: if the compiler says that not even one cell fits.
    """
    program = compile_group(group, shared)
    while program.bytes > budget and program.size > 1:
        group = group.resized(max(1, min(program.size // 2, program.size * budget // program.bytes)))
        program = compile_group(group, shared)
    if program.bytes > budget:
        limit = limit or available()
        if program.bytes > limit.bytes:
            raise ConfigError(shortage(group.need, limit, program.bytes))
    return program


def run_in_parts(
    group: Group,
    batch: Batch,
    program: GroupProgram,
    saved: Callable[[Batch], Saved | None] = lambda part: None,
    progress: Callable[[int, bool], None] = lambda rounds, kept: None,
    stop: Callable[[], bool] = lambda: False,
) -> list[CellResult]:
    """Run a batch by a program that may hold fewer cells.

    Returns:
        One result per cell; of a batch that is stopped those of the parts that are done.

    Raises:
        StoppedError: if none is done.
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
