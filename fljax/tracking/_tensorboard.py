"""Curves for TensorBoard."""

import importlib
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fljax.errors import ConfigError
from fljax.tracking.registry import register_tracker
from fljax.tracking.tracker import Line, Started, TrackedCell, Tracker, scalars


@register_tracker("tensorboard", title="TensorBoard")
class TensorBoard(Tracker):
    """Event files in `tensorboard/`, of a sweep in a folder a cell: every metric over rounds.

    Raises:
        ConfigError: tensorboardX is not installed.
    """

    def __init__(self) -> None:
        try:
            self._writer_class: Any = importlib.import_module("tensorboardX").SummaryWriter
        except ImportError:
            raise ConfigError(
                'track tensorboard: needs tensorboardX: pip install "fljax[tensorboard]"'
            ) from None
        self._folder, self._writer = Path(), None

    def start(self, started: Started) -> None:
        """Begin in the folder."""
        self._folder = started.place / "tensorboard"
        if started.kind == "run":
            self._writer = self._open(self._folder)

    def evaluation(self, line: Line) -> None:
        """A point of every curve."""
        self._add(self._writer, [line])

    def cell(self, cell: TrackedCell) -> None:
        """The curves of a cell."""
        with self._open(self._folder / cell.name) as writer:
            self._add(writer, cell.lines)

    def end(self, summary: Mapping[str, Any] | None) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()

    def _open(self, folder: Path) -> Any:
        shutil.rmtree(folder, ignore_errors=True)  # of an earlier try, whose points are told again
        return self._writer_class(str(folder))

    def _add(self, writer: Any, lines: Iterable[Line]) -> None:
        for line in lines:
            for name, value in scalars(line).items():
                writer.add_scalar(name, value, line["round"])
        writer.flush()
