"""The contract of a tracker."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

Line = Mapping[str, Any]


class Started(NamedTuple):
    """The beginning of a run or a sweep.

    Attributes:
        kind: "run" or "sweep".
        name: of its folder, or of the sweep.
        config: of a run the resolved configuration; of a sweep its name, axes, number of cells and file.
        folder: where it writes; None where it writes nothing.
        resumed: True where it goes on with what was interrupted. Then everything from its beginning is told
            again, so that a tracker which keeps what it was told must skip that.
    """

    kind: Literal["run", "sweep"]
    name: str
    config: Mapping[str, Any]
    folder: Path | None = None
    resumed: bool = False

    @property
    def place(self) -> Path:
        """The folder.

        Raises:
            ValueError: there is none.
        """
        if self.folder is None:
            raise ValueError("it writes below the run's folder, which out gives")
        return self.folder


class TrackedCell(NamedTuple):
    """A cell of a sweep that is done.

    Attributes:
        id: the same for the same configuration.
        number: its place in the sweep.
        name: fit for a file: rule, attack, what else tells it from others, seed, the start of the id.
        config: its resolved configuration.
        lines: one per evaluation, from the first to the last.
        summary: its axes, final metrics, times and versions.
    """

    id: str
    number: int
    name: str
    config: Mapping[str, Any]
    lines: Sequence[Line]
    summary: Mapping[str, Any]


class Tracker:
    """A listener to a run or a sweep; this one ignores what it hears.

    One of your own is any object that has some of these methods. They are called from one thread, in order.
    One that raises is told nothing more, a note says so, and the run goes on; only what `start` raises ends
    it, before the first round.

    Example:
        >>> class Worst(Tracker):
        ...     error = 0.0
        ...     def evaluation(self, line):
        ...         self.error = max(self.error, line["test_error"])
        >>> worst = Worst()  # fljax.run(config, track=worst)
        >>> worst.evaluation({"round": 10, "test_error": 0.4})
        >>> worst.error
        0.4
    """

    def start(self, started: Started) -> None:
        """It begins, or goes on."""

    def evaluation(self, line: Line) -> None:
        """A run has been evaluated: `round` and all metrics by name, None where there is no such quantity."""

    def cell(self, cell: TrackedCell) -> None:
        """A cell of a sweep is done, and its row is in the table."""

    def end(self, summary: Mapping[str, Any] | None) -> None:
        """It is over; None where it was interrupted or has failed."""


def scalars(line: Line) -> dict[str, float]:
    """The finite metrics of a line, without what only describes it.

    Example:
        >>> scalars({"round": 10, "test_error": 0.25, "attack_success_rate": None, "diverged": 0})
        {'test_error': 0.25}
    """
    return {
        name: float(value)
        for name, value in line.items()
        if name not in ("round", "diverged", "seconds")
        and isinstance(value, (int, float))
        and math.isfinite(value)
    }
