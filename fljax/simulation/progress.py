"""The display of a run under way: a bar on a terminal, plain lines elsewhere."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, Self, runtime_checkable

from rich.console import Console

from fljax.engine.evaluate import VALIDATION_ERROR
from fljax.engine.loop import Pause, Record
from fljax.host.terminal import Bar
from fljax.simulation.lines import EVALUATED, PER_ROUND, metric_of

# Seconds between two plain lines; a log should not grow with the speed of the machine.
LINE_EVERY = 10.0


class RunDisplay:
    """Shows rounds per second, the current test error and the time left.

    Args:
        console: where to draw; on anything but a terminal it prints a line now and then.
        rounds: the total.
    """

    def __init__(self, console: Console, rounds: int) -> None:
        self._console, self._rounds = console, rounds
        self._last_line, self._begin, self._evaluated = -math.inf, time.monotonic(), False
        self._bar = Bar(console, "rounds")
        self._task = self._bar.add_task("compiling", total=rounds)

    def __enter__(self) -> Self:
        self._bar.start()
        if not self._console.is_terminal:
            self._console.print("compiling ...")
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, record: Record) -> None:
        self._evaluated = True
        rate = len(record.metrics.loss) / max(record.seconds, 1e-9)
        text = describe(record, rate, self._rounds)
        last = record.round >= self._rounds or record.diverged
        self._bar.update(self._task, completed=record.round, description=text)
        self._line(record.round, text, last or time.monotonic() - self._last_line > LINE_EVERY)

    def paused(self, at: Pause) -> None:
        """Show how far the run is between two evaluations that are far apart."""
        rate = at.round % len(at.metrics.loss) / max(at.seconds, 1e-9)
        text = f"{per_second(rate)}  {duration((self._rounds - at.round) / rate)} left"
        # What the last evaluation has found says more.
        change: dict[str, Any] = {} if self._evaluated else {"description": text}
        self._bar.update(self._task, completed=at.round, **change)
        self._line(at.round, text, time.monotonic() - max(self._last_line, self._begin) > LINE_EVERY)

    def _line(self, done: int, text: str, due: bool) -> None:
        if due and not self._console.is_terminal:
            self._last_line = time.monotonic()
            self._console.print(f"round {done}/{self._rounds}  {text}", soft_wrap=True)


@runtime_checkable
class TellsPauses(Protocol):
    """A progress that shows the time between two evaluations, too."""

    def __call__(self, record: Record) -> object: ...

    def paused(self, at: Pause) -> object: ...


def teller(progress: Callable[[Record], object] | None) -> Callable[[Record | Pause], None]:
    """One function for records and pauses; the progress hears of pauses if it has a method for them."""

    def tell(at: Record | Pause) -> None:
        if isinstance(at, Record):
            if progress is not None:
                progress(at)
        elif isinstance(progress, TellsPauses):
            progress.paused(at)

    return tell


@contextmanager
def shown(
    progress: bool | Callable[[Record], None] | None, rounds: int
) -> Iterator[Callable[[Record], None] | None]:
    """The function to call with every record; True shows records on the standard error."""
    if progress is True:
        with RunDisplay(Console(stderr=True), rounds) as display:
            yield display
    else:
        yield progress or None


def say_how_to_go_on(error: BaseException, call: str) -> None:
    """Add to an interrupt how to continue what it ended; its traceback shows it."""
    error.add_note(f"what is done is kept; continue with {call}")


def describe(record: Record, rate: float, rounds: int) -> str:
    """One line on where a run stands."""
    values = {name: getattr(record.evaluation, name) for name in EVALUATED}
    if VALIDATION_ERROR in record.evaluation.further:
        values[VALIDATION_ERROR] = record.evaluation.further[VALIDATION_ERROR]
    parts = [
        f"{metric_of(name).short} {value:.3f}" for name, value in values.items() if not math.isnan(value)
    ]
    for word in dict.fromkeys(metric.spoken for metric in PER_ROUND.values() if metric.spoken):
        together = {name: metric for name, metric in PER_ROUND.items() if metric.spoken == word}
        last = {m.who: float(getattr(record.metrics, name)[-1]) for name, m in together.items()}
        if not math.isnan(next(iter(last.values()))):
            parts.append(" ".join([word, *(f"{who} {value:.2f}" for who, value in last.items())]))
    parts.append(per_second(rate))
    if record.diverged:
        parts.append("diverged")
    elif record.round < rounds:
        parts.append(f"{duration((rounds - record.round) / rate)} left")
    return "  ".join(parts)


def per_second(rate: float) -> str:
    """A speed as a person reads it.

    Example:
        >>> per_second(1234.5), per_second(0.8172)
        ('1,234 rounds/s', '0.817 rounds/s')
    """
    return f"{rate:,.0f} rounds/s" if rate >= 100 else f"{rate:.3g} rounds/s"


def duration(seconds: float) -> str:
    """Seconds as a person reads them.

    Example:
        >>> duration(8), duration(75), duration(7260)
        ('8 s', '1 min 15 s', '2 h 1 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
