"""Files: what is written is whole or not there; what is read is a regular file of a bounded size.

A pipe or a device can block for ever or never end, so whatever reads a file that nobody has vouched for opens
it here.
"""

import errno
import json
import math
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import Any

from fljax.errors import DataError

# Configurations that fljax wrote, and descriptions of sweeps; far more than either needs.
MOST_JSON = 64_000_000
# No whole number that fljax writes reaches it.
LARGEST_WHOLE = 2**63


def open_regular(path: Path, most: int) -> BufferedReader:
    """Open a regular file for reading; never waits, whatever the path is.

    Args:
        path: the file.
        most: bytes it may have.

    Returns:
        The open file.

    Raises:
        OSError: it cannot be opened, is no regular file, or is larger; `reason` says it.

    Example:
        >>> open_regular(Path("/dev/null"), 10)
        Traceback (most recent call last):
        OSError: [Errno 22] a device, not a regular file: '/dev/null'
    """
    _check(path, path.stat(), most)  # before opening: that alone can change a device
    flags = (
        os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    )
    file = os.fdopen(os.open(path, flags), "rb")
    try:
        _check(path, os.fstat(file.fileno()), most)
    except OSError:
        file.close()
        raise
    return file


def _check(path: Path, status: os.stat_result, most: int) -> None:
    kind = status.st_mode
    if stat.S_ISDIR(kind):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(kind):
        what = "a pipe" if stat.S_ISFIFO(kind) else "a socket" if stat.S_ISSOCK(kind) else "a device"
        raise OSError(errno.EINVAL, f"{what}, not a regular file", str(path))
    if status.st_size > most:
        what = f"it has {status.st_size:,} bytes, more than the {most:,} such a file may have"
        raise OSError(errno.EFBIG, what, str(path))


def read_regular(path: Path, most: int) -> bytes:
    """The content that a regular file of at most `most` bytes has when it is opened.

    Raises:
        OSError: as `open_regular`.
    """
    with open_regular(path, most) as file:
        return file.read(os.fstat(file.fileno()).st_size)


def read_json(path: Path, most: int = MOST_JSON) -> Any:
    """The value in a JSON file.

    Raises:
        DataError: it cannot be read, or is not JSON.
    """
    try:
        return parse_json(read_regular(path, most))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({reason(error)})") from None
    except ValueError:
        raise DataError(f"{path} is damaged: it is not JSON") from None


def read_table(path: Path) -> dict[str, Any]:
    """The table in a JSON file.

    Raises:
        DataError: it cannot be read, or holds no table.
    """
    values = read_json(path)
    if not isinstance(values, dict):
        raise DataError(f"{path} is damaged: it is not a table of values")
    return values


def parse_json(content: bytes) -> Any:
    """JSON as fljax writes it: UTF-8, all numbers finite, whole ones of 64 bits.

    Raises:
        ValueError: it is anything else.

    Example:
        >>> parse_json(b'{"rounds": 1e999}')
        Traceback (most recent call last):
        ValueError: 1e999 is no number that is written
    """

    def number(text: str, kind: type = float) -> Any:
        value = kind(text)
        if not (abs(value) < LARGEST_WHOLE if kind is int else math.isfinite(value)):
            raise ValueError(f"{text[:40]} is no number that is written")
        return value

    whole = partial(number, kind=int)
    try:
        values = json.loads(content.decode(), parse_float=number, parse_int=whole, parse_constant=number)
    except RecursionError:
        raise ValueError("tables or lists are too deep") from None
    if b"\\ud" in content.lower():  # half of a letter, which no file could hold
        json.dumps(values, ensure_ascii=False).encode()
    return values


def reason(error: BaseException) -> str:
    """What an error says, in one short line.

    Example:
        >>> reason(FileNotFoundError(2, "No such file or directory", "x")), reason(MemoryError())
        ('No such file or directory', 'MemoryError')
    """
    text = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return (text.strip().splitlines() or [type(error).__name__])[0][:200]


@contextmanager
def reading(path: object, what: str = "cannot be read, truncated or corrupt") -> Iterator[None]:
    """Whatever goes wrong inside, other than a DataError, is a DataError that names the file.

    Damaged bytes make the libraries that decode them raise nearly anything.
    """
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{path}: {what} ({reason(error)})") from None


def shown_name(name: str) -> str:
    """The name of a file as a text that every file can hold: what is no UTF-8 in it is replaced."""
    return os.fsencode(name).decode(errors="replace")


# --- writing ------------------------------------------------------------------------------------------


class WriteError(OSError):
    """A file that could not be written; the message says which and why."""

    def __str__(self) -> str:
        return f"cannot write {self.filename}: {self.strerror}"


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the system says about a write into a `WriteError` that names the file."""
    try:
        yield
    except WriteError:
        raise
    except OSError as error:
        raise WriteError(error.errno, error.strerror or str(error), str(path)) from error


def write_atomically(path: Path, content: bytes, lasting: bool = True) -> None:
    """Write a file so that its name never holds less than all of it: write beside it, flush, rename.

    Args:
        path: the file.
        content: its bytes.
        lasting: whether to wait until they are on the disk.

    Raises:
        WriteError: if that fails; the file is what it was.
    """
    partial = path.with_name(f".{path.name}.partial")
    with writing(path):
        try:
            with partial.open("wb") as file:
                file.write(content)
                if lasting:
                    file.flush()
                    os.fsync(file.fileno())
            partial.replace(path)
        except BaseException:
            with suppress(OSError):
                partial.unlink()
            raise


def append(path: Path, content: bytes) -> None:
    """Add to the end of a file: all of it, or after an error nothing; not yet flushed to the disk.

    Raises:
        WriteError: if that fails.
    """
    with writing(path), path.open("ab", buffering=0) as file:
        before = file.tell()
        try:
            written = file.write(content)
            if written != len(content):
                # A disk that fills up takes what fits; the next write says why.
                file.write(content[written:])
        except BaseException:
            with suppress(OSError):
                file.truncate(before)
            raise


def flush_to_disk(path: Path) -> None:
    """Wait until a file is on the disk."""
    with writing(path), path.open("rb+") as file:
        os.fsync(file.fileno())
