"""The state of a sweep under way, counted from what a watcher hears, and its file for other processes."""

import math
import os
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import pydantic

from fljax.errors import DataError
from fljax.files import read_json, reason, write_atomically
from fljax.simulation.lines import to_json
from fljax.sweeps.executors.base import Finished, Watcher
from fljax.sweeps.folder import Row
from fljax.sweeps.plan import Batch, Group, Plan
from fljax.sweeps.tables import STATUS

# Seconds between two writes of the file.
WRITTEN_EVERY = 1.0


class Tally:
    """Cells, rounds and programs of a sweep; rounds are those of all cells together.

    Args:
        plan: what is run.
        todo: the batches that are missing.

    Attributes:
        before: cells that were done before.
        cells: done now.
        rounds: done of all batches, those that an interrupted sweep had among them.
        kept: rounds that an interrupted sweep had done.
        total: rounds of the batches that are missing.
        under_way: rounds by the id of the first cell of every batch under way, and the batch.
        compiling: groups whose programs are being compiled, by number.
        compiled: numbers of the groups whose programs are there.
        programs: how many groups are missing.
        failed: batches that failed.
    """

    def __init__(self, plan: Plan, todo: Sequence[Batch]) -> None:
        self._of = {group.number: group.config.rounds for group in plan.groups}
        self.total = sum(len(batch.cells) * self._of[batch.group] for batch in todo)
        self.before = len(plan.sweep.cells) - sum(len(batch.cells) for batch in todo)
        self.programs = len({batch.group for batch in todo})
        self.cells = self.rounds = self.kept = 0
        self.under_way: dict[str, tuple[int, Batch]] = {}
        self.compiling: dict[int, Group] = {}
        self.compiled: set[int] = set()
        self.failed: list[Finished] = []
        self._begin = time.monotonic()

    def is_compiling(self, group: Group) -> None:
        """As `Watcher.compiling`."""
        self.compiling[group.number] = group

    def has_compiled(self, group: Group) -> None:
        """As `Watcher.compiled`."""
        self.compiling.pop(group.number, None)
        self.compiled.add(group.number)

    def progressed(self, batch: Batch, rounds: int, kept: bool) -> None:
        """As `Watcher.progress`."""
        name = batch.cells[0].id
        self.under_way[name] = self.under_way.get(name, (0, batch))[0] + rounds, batch
        self.rounds += rounds
        self.kept += kept * rounds

    def has_finished(self, finished: Finished, rows: Sequence[Row]) -> None:
        """As `Watcher.finished`."""
        # Where a cell diverged, and on Ray, they were not all told.
        told, _ = self.under_way.pop(finished.batch.cells[0].id, (0, None))
        self.rounds += len(finished.batch.cells) * self._of[finished.batch.group] - told
        self.cells += len(rows)
        if finished.error is not None:
            self.failed.append(finished)

    def rounds_of(self, batch: Batch) -> int:
        """The rounds of all cells of a batch together."""
        return len(batch.cells) * self._of[batch.group]

    @property
    def per_second(self) -> float:
        """Rounds of all cells together in a second."""
        return (self.rounds - self.kept) / max(time.monotonic() - self._begin, 1e-9)

    @property
    def seconds_left(self) -> float | None:
        """At this speed; None before there is one, and at the end."""
        left = self.total - self.rounds
        return left / self.per_second if self.rounds > self.kept and left > 0 else None


class Running(pydantic.BaseModel):
    """A batch under way; `rounds` and `of` are those of one cell."""

    what: str
    cells: int
    rounds: int
    of: int


class Failed(pydantic.BaseModel):
    """A batch that failed."""

    what: str
    cells: int
    error: str
    reason: str


class Status(pydantic.BaseModel, strict=True, allow_inf_nan=False):
    """What status.json says of a sweep.

    Attributes:
        process: the number of the process that works on it.
        host: its machine.
        started, written: seconds since 1970.
        ended: whether that process has ended in order.
        rounds_per_second: of all cells together.
        seconds_left: at this speed; None where that is not known.
        programs: how many are compiled, and how many there are.
        compiling: the batches whose programs are being compiled, in words.
        running: the batches under way.
        failed: the batches that failed.
    """

    process: Annotated[int, pydantic.Field(gt=0, lt=2**31)]
    host: str
    started: float
    written: float
    ended: bool
    rounds_per_second: float
    seconds_left: float | None
    programs: Annotated[list[int], pydantic.Field(min_length=2, max_length=2)]
    compiling: list[str]
    running: list[Running]
    failed: list[Failed]


def read_status(folder: Path) -> Status | None:
    """The status.json in a folder; None if there is none, or it is none that `StatusFile` has written."""
    try:
        return Status.model_validate(read_json(folder / STATUS))
    except (DataError, pydantic.ValidationError):
        return None


class StatusFile(Watcher):
    """Keeps status.json in a sweep's folder while the sweep runs, for `fljax watch`; tells another watcher.

    A sweep whose cells are all done leaves no such file, another one its last state.

    Args:
        folder: the sweep's.
        plan: what is run.
        todo: the batches that are missing.
        then: told all the same.
    """

    def __init__(self, folder: Path, plan: Plan, todo: Sequence[Batch], then: Watcher) -> None:
        self._path, self._then = folder / STATUS, then
        self._tally = Tally(plan, todo)
        self._lock = threading.Lock()
        self._next = math.inf  # not before the folder is this sweep's
        self._started = time.time()

    def compiling(self, group: Group) -> None:
        with self._lock:
            self._tally.is_compiling(group)
            self._write()
        self._then.compiling(group)

    def compiled(self, group: Group, seconds: float) -> None:
        with self._lock:
            self._tally.has_compiled(group)
            self._write()
        self._then.compiled(group, seconds)

    def progress(self, batch: Batch, rounds: int, kept: bool) -> None:
        with self._lock:
            self._tally.progressed(batch, rounds, kept)
            self._write()
        self._then.progress(batch, rounds, kept)

    def note(self, text: str) -> None:
        self._then.note(text)

    def finished(self, finished: Finished, rows: Sequence[Row]) -> None:
        with self._lock:
            self._tally.has_finished(finished, rows)
            self._write(now=True)  # the next event may be long in coming
        self._then.finished(finished, rows)

    def begin(self) -> None:
        """From now on the folder is this sweep's."""
        with self._lock:
            self._write(now=True)

    def close(self, done: bool) -> None:
        """Leave the last state, or nothing if every cell is done."""
        with self._lock:
            if done:
                self._path.unlink(missing_ok=True)
            else:
                self._write(now=True, ended=True)

    def _write(self, now: bool = False, ended: bool = False) -> None:
        if not now and time.monotonic() < self._next:
            return
        # Nobody's results are lost with it: a full disk is told of where they are written.
        with suppress(OSError, UnicodeError):
            content = to_json(self._state(ended).model_dump(), indent=1).encode()
            write_atomically(self._path, content, lasting=False)
        self._next = time.monotonic() + WRITTEN_EVERY

    def _state(self, ended: bool) -> Status:
        tally = self._tally
        return Status(
            process=os.getpid(),
            host=socket.gethostname(),
            started=self._started,
            written=time.time(),
            ended=ended,
            rounds_per_second=tally.per_second,
            seconds_left=tally.seconds_left,
            programs=[len(tally.compiled), tally.programs],
            compiling=[what(group.cells[0].axes) for group in tally.compiling.values()],
            running=[
                Running(
                    what=what(batch.cells[0].axes),
                    cells=len(batch.cells),
                    rounds=rounds // len(batch.cells),
                    of=tally.rounds_of(batch) // len(batch.cells),
                )
                for rounds, batch in tally.under_way.values()
            ],
            failed=[
                Failed(
                    what=what(finished.batch.cells[0].axes),
                    cells=len(finished.batch.cells),
                    error="" if finished.error is None else type(finished.error).__name__,
                    reason="" if finished.error is None else reason(finished.error),
                )
                for finished in tally.failed
            ],
        )


def what(axes: Any) -> str:
    """A batch in words: its rule and its attack."""
    return f"{axes['aggregator']}, {axes['attack']}"
