"""One process at a time writes a folder."""

import os
import socket
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, SoftFileLock, Timeout

from fljax.errors import ConfigError

LOCK = ".lock"
# Seconds to wait: as long as another process takes to look whether the lock is free.
PATIENCE = 0.3


class FolderLock:
    """The operating system's lock on a file in the folder, which ends with its process however that ends.

    Where a file system has no such locks, filelock uses the file's being there instead, and removes what a
    dead process of this machine has left.

    Args:
        folder: an existing folder.

    Raises:
        ConfigError: if another process holds it: which one, and where.
    """

    def __init__(self, folder: Path) -> None:
        self._lock = _acquire(folder)
        if not isinstance(self._lock, SoftFileLock):  # that one has written the same
            with suppress(OSError):  # a full disk: the lock holds all the same
                Path(self._lock.lock_file).write_text(f"{os.getpid()}\n{socket.gethostname()}\n")

    def release(self) -> None:
        """Give the folder back; a second time does nothing."""
        if not self._lock.is_locked:
            return
        if not isinstance(self._lock, SoftFileLock):
            # While it is held: whoever has opened it sees that it has no name any more, and tries again.
            Path(self._lock.lock_file).unlink(missing_ok=True)
        self._lock.release()


def check_free(folder: Path) -> None:
    """Raise a ConfigError if another process writes the folder; writes nothing."""
    if (folder / LOCK).is_file():
        _acquire(folder).release()


def _acquire(folder: Path) -> FileLock:
    file = folder / LOCK
    lock = FileLock(file, timeout=PATIENCE, poll_interval=0.02, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        raise ConfigError(f"{folder} is in use by {_holder(file)}") from None
    except OSError as error:
        raise ConfigError(f"cannot use {folder}: no lock on {file} ({error.strerror or error})") from None
    return lock


def _holder(file: Path) -> str:
    try:
        process, host, *_ = file.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return "another process"
    return f"process {process} on {host}"
