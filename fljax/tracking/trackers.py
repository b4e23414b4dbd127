"""All trackers of a run or a sweep as one, of which none can end it."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from fljax.errors import ConfigError, first_line
from fljax.tracking.registry import TRACKERS
from fljax.tracking.tracker import Line, Started, TrackedCell

METHODS = ("start", "evaluation", "cell", "end")


class Trackers:
    """Tells several trackers the same; one that fails is told nothing more.

    Args:
        named: the trackers by name.
    """

    def __init__(self, named: Mapping[str, Any]) -> None:
        self._left = dict(named)
        self._note: Callable[[str], None] = warnings.warn
        self._kind, self._over = "run", False

    @contextmanager
    def following(self, started: Started, note: Callable[[str], None] = warnings.warn) -> Iterator[Self]:
        """Start them; on leaving, those are ended that were not.

        Args:
            started: what begins.
            note: told in a sentence of one that fails.

        Raises:
            ConfigError: one cannot start.
        """
        self._note, self._kind = note, started.kind
        for name, tracker in self._left.items():
            try:
                _call(tracker, "start", started)
            except Exception as error:
                for other in self._left.values():
                    with suppress(Exception):
                        _call(other, "end", None)
                raise ConfigError(f"track {name}: cannot start ({_words(error)})") from error
        try:
            yield self
        finally:
            if not self._over:
                self.end(None)

    def evaluation(self, line: Line) -> None:
        """A run has been evaluated."""
        self._tell("evaluation", line)

    def cell(self, cell: TrackedCell) -> None:
        """A cell of a sweep is done."""
        self._tell("cell", cell)

    def end(self, summary: Mapping[str, Any] | None) -> None:
        """It is over; None where it was interrupted or has failed."""
        self._over = True
        self._tell("end", summary)

    def __bool__(self) -> bool:
        return bool(self._left)

    def _tell(self, method: str, what: Any) -> None:
        for name, tracker in list(self._left.items()):
            try:
                _call(tracker, method, what)
            except Exception as error:
                del self._left[name]
                self._note(f"track {name} has failed ({_words(error)}); the {self._kind} goes on without it")
                if method != "end":
                    with suppress(Exception):  # to let go of what it holds
                        _call(tracker, "end", None)


def _call(tracker: Any, method: str, what: Any) -> None:
    function = getattr(tracker, method, None)
    if function is not None:
        function(what)


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {first_line(error)[:200]}"


def make_trackers(track: Any, folder: Path | None) -> Trackers:
    """The trackers that somebody asks for; nothing is written.

    Args:
        track: a name (`TRACKERS`), an object with some of the methods of `Tracker`, a list of these, or None.
        folder: of the run or the sweep.

    Returns:
        All of them as one; those that `make_trackers` returned are returned as they are.

    Raises:
        ConfigError: there is no such name, its package is not installed, it needs a folder, or the object has
            none of the methods.
    """
    if isinstance(track, Trackers):
        return track
    given = [] if track is None else list(track) if isinstance(track, (list, tuple)) else [track]
    named: dict[str, Any] = {}
    for each in given:
        if isinstance(each, str):
            entry = TRACKERS.find(each)
            if folder is None:
                raise ConfigError(f"track {each}: writes below the run's folder, which out gives")
            if each not in named:
                named[each] = entry.function()
            continue
        if isinstance(each, type) or not any(callable(getattr(each, method, None)) for method in METHODS):
            raise ConfigError(
                f"track: must be a name ({', '.join(TRACKERS)}) or an object with the methods "
                f"{', '.join(METHODS)}, got {each!r:.80}"
            )
        name = type(each).__name__
        named[name if name not in named else f"{name} {len(named) + 1}"] = each
    return Trackers(named)
