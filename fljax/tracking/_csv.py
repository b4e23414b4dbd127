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
        self._cells: dict[int, Sequence[Any]] = {}

    def start(self, started: Started) -> None:
        """Where it writes."""
        assert started.folder is not None  # `make_trackers` asks for one
        self._path = started.folder / ("metrics.csv" if started.kind == "run" else "results.csv")
        self._names, self._cells = [], {}

    def evaluation(self, line: Line) -> None:
        """A row of the metrics."""
        self._add(line)

    def cell(self, cell: TrackedCell) -> None:
        """A row of the table."""
        self._cells[cell.number] = self._add(cell.summary)

    def end(self, summary: Mapping[str, Any] | None) -> None:
        """The rows of a sweep in its order."""
        if self._cells:
            write_atomically(self._path, to_csv(self._names, [self._cells[i] for i in sorted(self._cells)]))

    def _add(self, values: Mapping[str, Any]) -> Sequence[Any]:
        first = not self._names
        self._names = self._names or list(values)
        row = [values.get(name) for name in self._names]
        content = to_csv(self._names, [row])
        if first:  # in place of what an interrupted run left: its rows are told again
            write_atomically(self._path, content)
        else:
            append(self._path, content.partition(b"\n")[2])
        return row
