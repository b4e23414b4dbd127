"""A memory of what a service was sent, so that a resumed run sends nothing twice."""

import json
import uuid
from pathlib import Path
from typing import Any

from fljax.files import append, read_regular

MOST = 1_000_000_000  # bytes; a line for each evaluation or cell


class Ledger:
    """A file of JSON lines, which holds what was sent under which name.

    Args:
        path: the file; its folder is made.
        resumed: False forgets what it holds.
    """

    def __init__(self, path: Path, resumed: bool) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        if not resumed:
            path.unlink(missing_ok=True)
        self._sent: dict[str, Any] = {}
        for line in read_regular(path, MOST).splitlines() if path.exists() else ():
            try:
                key, value = json.loads(line)
                self._sent[str(key)] = value
            except (ValueError, TypeError, RecursionError):
                continue  # the end of a file that a power cut left

    def get(self, key: str, default: Any = None) -> Any:
        """The value that was sent under a name."""
        return self._sent.get(key, default)

    def put(self, key: str, value: Any) -> None:
        """Remember it."""
        self._sent[key] = value
        append(self._path, f"{json.dumps([key, value])}\n".encode())

    def run_id(self) -> str:
        """A name for the run, made once."""
        if (known := self.get("run")) is None:
            known = uuid.uuid4().hex[:16]
            self.put("run", known)
        return str(known)
