"""Files that are whole or not there, and errors that name the file."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


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


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that its name never holds less than all of it: write beside it, flush, rename.

    Raises:
        WriteError: if that fails; the file is what it was.
    """
    partial = path.with_name(f".{path.name}.partial")
    with writing(path):
        try:
            with partial.open("wb") as file:
                file.write(content)
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
