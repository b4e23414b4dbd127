"""The display of a sweep under way: a bar and the latest cells, or plain lines."""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Self

from rich.console import Console
from rich.console import Group as Stack
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

from fljax.host.terminal import Bar, Table
from fljax.simulation.lines import EVALUATED
from fljax.simulation.progress import duration, per_second
from fljax.sweeps.cells import Told
from fljax.sweeps.executors.base import Finished, Watcher
from fljax.sweeps.folder import Row
from fljax.sweeps.plan import Batch, Group, Plan, too_large
from fljax.sweeps.tally import Tally, what

# Rows of the table of finished cells.
SHOWN = 10
SHOWN_EVERY = 0.25
# Seconds after which a log has a line even if no batch is done.
SILENCE = 60.0
# Seconds between two lines on the cells that are planned.
PLANNED_EVERY = 5.0


class Planning:
    """The number of cells that are read and planned, while that takes long: a bar, or a line now and then.

    Args:
        console: where to draw; None for nowhere.
    """

    def __init__(self, console: Console | None) -> None:
        self._console = console
        self._last_line = time.monotonic()
        self.bar = Progress(
            SpinnerColumn(),
            BarColumn(),
            TextColumn("{task.description}"),
            console=console,
            transient=True,
            disable=console is None or not console.is_terminal,
        )
        self._task = self.bar.add_task("", total=None)

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def told(self, what: str) -> Told:
        """The function to call with the number of cells; `what` is "reading" or "planning"."""

        def told(done: int, total: int) -> None:
            text = f"{what} {done:,} of {total:,} cells"
            self.bar.update(self._task, completed=done, total=total, description=text)
            due = time.monotonic() - self._last_line > PLANNED_EVERY
            if due and self._console is not None and not self._console.is_terminal:
                self._last_line = time.monotonic()
                self._console.print(text, highlight=False)

        return told


class Counter(Watcher):
    """Calls a function with the cells that are done, and of how many, after every batch.

    Args:
        function: to be called.
        done: cells that an earlier run has done.
        total: all cells.
    """

    def __init__(self, function: Callable[[int, int], object], done: int, total: int) -> None:
        self._function, self._done, self._total = function, done, total

    def finished(self, finished: Finished, rows: Sequence[Row]) -> None:
        self._done += len(rows)
        self._function(self._done, self._total)


class SweepDisplay(Watcher):
    """Cells done, groups, rounds per second, time left and the latest results.

    Args:
        console: where to draw; on anything but a terminal it prints a line for every batch, and one a minute.
        plan: what is run.
        todo: the batches that are missing.
    """

    def __init__(self, console: Console, plan: Plan, todo: Sequence[Batch]) -> None:
        self._console, self._plan = console, plan
        self._lock = threading.Lock()
        self.tally = Tally(plan, todo)
        self._latest: deque[Row] = deque(maxlen=SHOWN)
        self._last_line = time.monotonic()
        self._bar = Bar(console, "cells")
        self._task = self._bar.add_task("", total=len(plan.sweep.cells), completed=self.tally.before)
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live = Live(
                get_renderable=self.render, console=self._console, refresh_per_second=1 / SHOWN_EVERY
            )
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    # --- told from any thread ---

    def compiling(self, group: Group) -> None:
        with self._lock:
            self.tally.is_compiling(group)

    def compiled(self, group: Group, seconds: float) -> None:
        with self._lock:
            self.tally.has_compiled(group)

    def progress(self, batch: Batch, rounds: int, kept: bool) -> None:
        with self._lock:
            self.tally.progressed(batch, rounds, kept)
            if time.monotonic() - self._last_line > SILENCE:
                self._log(f"{self._head()}{self._state()}")

    def note(self, text: str) -> None:
        self._console.print(f"note: {text}", markup=False, soft_wrap=True, highlight=False)

    def finished(self, finished: Finished, rows: Sequence[Row]) -> None:
        """Show a batch that is done."""
        with self._lock:
            self.tally.has_finished(finished, rows)
            self._latest.extend(rows)
            self._bar.update(self._task, completed=self.tally.before + self.tally.cells)
            self._log(self._line(finished, rows))

    # --- what is shown ---

    def _log(self, line: str) -> None:
        self._last_line = time.monotonic()
        if not self._console.is_terminal:
            self._console.print(line, markup=False, soft_wrap=True, highlight=False)

    def _head(self) -> str:
        return f"{self.tally.before + self.tally.cells}/{len(self._plan.sweep.cells)} cells  "

    def _line(self, finished: Finished, rows: Sequence[Row]) -> str:
        cell = finished.batch.cells[0]
        count = len(finished.batch.cells)
        head = f"{self._head()}{what(cell.axes)}"
        if finished.error is not None:
            return f"{head}: {count} cells failed: {type(finished.error).__name__}"
        errors = ", ".join(f"{row['test_error']:.3f}{' †' if row['diverged'] else ''}" for row in rows[:3])
        more = f" (and {count - 3} more)" if count > 3 else ""
        return f"{head}: test error {errors}{more}  {self._state()}"

    def _state(self) -> str:
        tally = self.tally
        parts = [f"program {len(tally.compiled)}/{tally.programs}", per_second(tally.per_second)]
        if tally.compiling:
            parts.append(f"compiling {len(tally.compiling)}")
        left = tally.seconds_left
        if left is not None:
            parts.append(f"{duration(left)} left")
        return "  ".join(parts)

    def render(self) -> Stack:
        with self._lock:
            self._bar.update(self._task, description=self._state())
            rows = list(self._latest)
        return fitting(self._console, rows, self._stack, Stack(self._bar))

    def _stack(self, rows: Sequence[Row]) -> Stack:
        axes = [name for name, values in self._plan.sweep.axes.items() if len(values) > 1]
        return Stack(latest_table(rows, axes), self._bar)


def latest_table(rows: Sequence[Row], axes: Sequence[str]) -> Table:
    """The last cells that are done: where they are on the axes, and their final metrics."""
    table = Table(title="latest cells", title_justify="left")
    for name in [*axes, *(metric.short for metric in EVALUATED.values())]:
        table.add_column(name)
    for row in rows:
        table.add_row(*(escape(str(row[name])) for name in axes), *_numbers(row))
    return table


def fitting(
    console: Console, rows: Sequence[Row], made: Callable[[Sequence[Row]], Stack], least: Stack
) -> Stack:
    """What is made of as many of the latest rows as leave room for it on a terminal."""
    stacks = (made(rows[first:]) for first in range(len(rows)))
    room = console.height - 1
    return next((each for each in stacks if len(console.render_lines(each, pad=False)) <= room), least)


def _numbers(row: Row) -> list[str]:
    """The final metrics of a cell; a model that diverged has a dagger behind the first."""
    values = [row[name] for name in EVALUATED]
    first, *rest = ("" if value is None or math.isnan(value) else f"{value:.4f}" for value in values)
    return [f"{first} †" if row["diverged"] else first, *rest]


def plan_table(plan: Plan, seconds: Sequence[float]) -> Table:
    """The groups of a plan: what `--dry-run` shows.

    Args:
        plan: the plan.
        seconds: estimated run time of every group.
    """
    title = f"{escape(plan.sweep.name)}: {len(plan.sweep.cells)} cells"
    table = Table(title=title, title_justify="left")
    unfit = too_large(plan)
    for name in ("program", "aggregator", "attack", "traced"):
        table.add_column(name, justify="right" if name == "program" else "left")
    for name in ("cells", "at once", "memory", "time"):
        table.add_column(name, justify="right")
    for group, estimate in zip(plan.groups, seconds, strict=True):
        first = group.cells[0]
        seeds = len({cell.config.seed for cell in group.cells}) > 1
        varying = [key for key in plan.sweep.axes if len({str(c.axes[key]) for c in group.cells}) > 1]
        traced = dict.fromkeys([*varying, *group.traced, *(["seed"] if seeds else [])])
        memory = group.bytes / 1e6
        table.add_row(
            str(group.number + 1),
            escape(str(first.axes["aggregator"])),
            escape(str(first.axes["attack"])),
            ", ".join(traced) or "nothing",
            str(len(group.cells)),
            str(group.size),
            f"{memory:,.0f} MB" + (" (too much)" if group.number in unfit else ""),
            duration(estimate) if estimate >= 1 else "< 1 s",
        )
    return table
