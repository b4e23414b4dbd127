"""Everything as JSON lines."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fljax.files import append, write_atomically
from fljax.tracking.registry import register_tracker
from fljax.tracking.tracker import Line, Started, TrackedCell, Tracker


@register_tracker("jsonl", title="JSON lines")
class JSONLines(Tracker):
    """`events.jsonl`: a line an event, `start`, `evaluation`, `cell` or `end`, with all that is told."""

    def __init__(self) -> None:
        self._path = Path()

    def start(self, started: Started) -> None:
        """The configuration."""
        self._path = started.place / "events.jsonl"
        # In place of what an interrupted run left: its lines are told again.
        write_atomically(self._path, _line("start", {"name": started.name, "config": started.config}))

    def evaluation(self, line: Line) -> None:
        """The metrics."""
        append(self._path, _line("evaluation", line))

    def cell(self, cell: TrackedCell) -> None:
        """The cell with its curves."""
        append(self._path, _line("cell", cell._asdict()))

    def end(self, summary: Mapping[str, Any] | None) -> None:
        """The summary; null where it was interrupted or has failed."""
        append(self._path, _line("end", {"summary": summary}))


def _line(event: str, values: Mapping[str, Any]) -> bytes:
    text = json.dumps({"event": event, **values}, allow_nan=False, ensure_ascii=False)
    return f"{text}\n".encode()
