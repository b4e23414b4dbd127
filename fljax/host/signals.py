"""Ctrl-C, SIGTERM and SIGHUP: said at once, what is done is saved, and a second one ends the process.

Python runs signal handlers in the main thread, between two steps of the interpreter: not while that thread
waits for XLA. So a thread of its own is told by the system, and answers at once.
"""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
SIGNALS = {int(getattr(signal, name)): name for name in NAMES if hasattr(signal, name)}
# What runs and sweeps wait for: their calls of compiled programs are as short as this.
WAITS_FOR = "the rounds under way (10 s at most, or one round) and their checkpoint"
# Seconds within which a signal counts once: some programs send it to the process and to its group.
ONCE = 0.3


class InterruptError(KeyboardInterrupt):
    """A signal ended the work, which is saved.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(SIGNALS.get(number, str(number)))
        self.number = number


class Stop:
    """Whether a signal has asked to stop: `stop()` between two pieces of work, or `stop.check()`.

    Attributes:
        number: of the signal; 0 before.
    """

    number = 0

    def __call__(self) -> bool:
        return self.number != 0

    def check(self) -> None:
        """Raise an InterruptError if so."""
        if self.number:
            raise InterruptError(self.number)


class _Section(NamedTuple):
    """What is at stake now.

    Attributes:
        stop: to be told.
        waits_for: what has to end first.
        hint: what to say when it was not waited for.
        raises: whether the main thread is interrupted, too.
        answered: set when the first signal is.
        raised: set when the main thread is interrupted.
    """

    stop: Stop
    waits_for: str
    hint: str
    raises: bool
    answered: threading.Event
    raised: threading.Event


_section: _Section | None = None
_received: int = 0
_at = 0.0


@contextmanager
def watching() -> Iterator[None]:
    """Answer signals while a command runs; where signals are ignored (nohup), they stay so.

    Outside a section below, a signal ends the process at once, as nothing is lost. When the command has
    raised because of a signal, the process ends here with the status 128 + its number.
    """
    global _received, _section
    if threading.current_thread() is not threading.main_thread() or _watched():
        yield
        return
    _received, _section = 0, None
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    before = {n: signal.getsignal(n) for n in SIGNALS if signal.getsignal(n) not in (signal.SIG_IGN, None)}
    old = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    thread = threading.Thread(target=_watch, args=(reader,), name="fljax-signals", daemon=True)
    thread.start()
    for number in before:
        signal.signal(number, _in_main_thread)
    try:
        yield
    except BaseException as error:
        if _received and _due_to_signal(error):
            leave(_received)
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(old)
        writer.close()  # ends the thread
        thread.join()
        reader.close()


@contextmanager
def saving(waits_for: str, hint: str, *, raises: bool = False) -> Iterator[Stop]:
    """A section in which the first signal only asks to stop, and the second ends the process.

    Args:
        waits_for: what has to end before the work is saved, for the person who waits.
        hint: how to go on, said where the second signal did not let the work be saved.
        raises: whether the first signal is raised in the main thread as an InterruptError.

    Yields:
        The `Stop` to ask.
    """
    global _section
    outer = _section
    _section = _Section(Stop(), waits_for, hint, raises, threading.Event(), threading.Event())
    try:
        yield _section.stop
    finally:
        _section = outer


@contextmanager
def kept() -> Iterator[None]:
    """Answer signals as before, whatever handlers the code inside installs."""
    handlers = {number: signal.getsignal(number) for number in SIGNALS} if _watched() else {}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def leave(number: int) -> None:
    """End the process with the status of a signal: threads that still compile are not waited for."""
    flush = threading.Thread(target=_flush, daemon=True)
    flush.start()
    flush.join(1.0)  # a pipe that nobody reads would block it
    os._exit(128 + number)


def status_of(error: BaseException) -> int:
    """The exit status of an interrupted command: 128 + the signal's number."""
    return 128 + (error.number if isinstance(error, InterruptError) else signal.SIGINT)


def _watched() -> bool:
    return any(signal.getsignal(number) is _in_main_thread for number in SIGNALS)


def _due_to_signal(error: BaseException) -> bool:
    """Also errors that follow: a closed terminal can no longer be written to."""
    if isinstance(error, SystemExit):
        return error.code not in (None, 0)
    return isinstance(error, (KeyboardInterrupt, OSError))


def _watch(reader: socket.socket) -> None:
    while data := reader.recv(1):
        if data[0] in SIGNALS:
            _answer(data[0])


def _answer(number: int) -> None:
    global _received, _at
    if _received and time.monotonic() - _at < ONCE:
        return
    section = _section
    _received, _at = number, time.monotonic()
    if section is None:
        _say("interrupted")
        leave(number)
    elif not section.stop.number:
        section.stop.number = number
        _say(f"stopping: waiting for {section.waits_for}; once more to stop at once")
        section.answered.set()
    else:
        _say(f"stopped at once; {section.hint}")
        leave(section.stop.number or number)


def _in_main_thread(number: int, _: Any) -> None:
    section = _section
    if section is not None and section.raises and not section.raised.is_set():
        section.raised.set()
        section.answered.wait(1.0)  # or the section would be left before
        raise InterruptError(number)


def _say(text: str) -> None:
    with suppress(OSError, ValueError):  # a terminal that is gone
        print(f"fljax: {text}", file=sys.stderr, flush=True)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            if stream.isatty():
                stream.write("\x1b[?25h")  # a progress bar hides the cursor
            stream.flush()
