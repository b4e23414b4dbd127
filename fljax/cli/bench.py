"""`fljax bench`: what all its commands do around a measurement."""

import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import typer
from rich.console import Console
from rich.progress import TimeRemainingColumn

from fljax.bench.measure import Limits, Row, facts
from fljax.bench.report import collect
from fljax.errors import ConfigError, under_way
from fljax.host.signals import saving, status_of
from fljax.host.terminal import Bar, Table


class Shown(NamedTuple):
    """The form of a benchmark's results.

    Attributes:
        unit: what is measured one after the other.
        title: a row in a few words.
        line: a row for a log file.
        tables: all rows for a terminal.
        remarks: sentences below them.
        write: writes the results into a folder.
    """

    unit: str
    title: Callable[[Row], str]
    line: Callable[[Row], str]
    tables: Callable[[Sequence[Row]], list[Table]]
    remarks: Callable[[Sequence[Row]], list[str]]
    write: Callable[[Sequence[Row], Mapping[str, Any], Path], None]


def make_limits(repeats: int, seconds: float) -> Limits:
    """The limits of a side, checked."""
    if repeats < 1:
        raise ConfigError(f"--repeats must be at least 1, got {repeats}")
    if not seconds > 0:
        raise ConfigError(f"--seconds must be positive, got {seconds}")
    return Limits(repeats, seconds)


def run(
    console: Console,
    total: int,
    measured: Iterable[tuple[int, list[Row]]],
    folder: Path,
    limits: Limits,
    peer: Mapping[str, Any] | None,
    shown: Shown,
) -> None:
    """Measure, show how far it is, write what there is, and print it.

    Args:
        console: where to.
        total: how many there are to measure.
        measured: their numbers and rows as they come.
        folder: where to write.
        limits: of each side.
        peer: facts about peers, or None.
        shown: the form of the results.
    """
    known = facts(shlex.join(["fljax", *sys.argv[1:]]), limits, peer)
    if (known["load_average"] or 0) > 0.5:
        # Threads that wait for each other, PyTorch's above all, lose most.
        load_average = f"load average {known['load_average']:.1f} on {known['cores']} cores"
        console.print(f"note: other programs are running ({load_average}); no figure will be worth keeping")
    bar = Bar(console, shown.unit, TimeRemainingColumn())
    task = bar.add_task("", total=total)
    rows: list[Row] = []

    def show(number: int, row: Row) -> None:
        rows.append(row)
        bar.update(task, completed=number + 1, description=shown.title(row))
        if not console.is_terminal:
            console.print(f"{number + 1}/{total}  {shown.line(row)}", markup=False, soft_wrap=True)

    status = 0
    try:
        with under_way(), bar, saving("the measurement under way", f"written so far: {folder}", raises=True):
            collect(measured, known, folder, show, shown.write)
    except KeyboardInterrupt as error:
        status = status_of(error)
    for table in shown.tables(rows):
        console.print(table)
    for remark in shown.remarks(rows):
        console.print(remark, markup=False, soft_wrap=True, highlight=False)
    files = ", ".join(str(path) for path in sorted(folder.iterdir()))
    before = "interrupted; " if status else ""
    console.print(f"{before}written: {files}", markup=False, soft_wrap=True)
    if status:
        raise typer.Exit(status)
