"""Metrics as a CSV file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fljax.files import append, write_atomically
from fljax.host.csvs import to_csv
from fljax.tracking.registry import register_tracker
from fljax.tracking.tracker import Line, Started, TrackedCell, Tracker


@register_tracker("csv", title="CSV")
class CSV(Tracker):
    """`metrics.csv` of a run, a row an evaluation; `results.csv` of a sweep, a row a cell.

    The rows of a sweep are in the order in which cells end, and at its end in that of the sweep.
    """

    def __init__(self) -> None:
        self._path = Path()
        self._names: list[str] = []
        self._rows: list[tuple[int, Mapping[str, Any]]] = []

    def start(self, started: Started) -> None:
        """Begin in the folder."""
        self._path = started.place / ("metrics.csv" if started.kind == "run" else "results.csv")
        self._names, self._rows = [], []

    def evaluation(self, line: Line) -> None:
        """A row of the metrics."""
        self._add(line["round"], line)

    def cell(self, cell: TrackedCell) -> None:
        """A row of the table."""
        self._add(cell.number, cell.summary)

    def end(self, summary: Mapping[str, Any] | None) -> None:
        """The rows of a sweep in its order."""
        if self._rows:
            self._rows.sort(key=lambda row: row[0])
            self._write()

    def _add(self, number: int, values: Mapping[str, Any]) -> None:
        self._rows.append((number, values))
        new = [name for name in values if name not in self._names]
        if new:  # the first row, in place of what an interrupted run left; or further columns
            self._names += new
            self._write()
        else:
            append(self._path, self._content([values]).partition(b"\n")[2])

    def _write(self) -> None:
        write_atomically(self._path, self._content([values for _, values in self._rows]))

    def _content(self, rows: Sequence[Mapping[str, Any]]) -> bytes:
        return to_csv(self._names, ([row.get(name) for name in self._names] for row in rows))
