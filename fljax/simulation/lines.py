"""metrics.jsonl: a line per evaluation, each with a digest of itself and all before it."""

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fljax.engine.evaluate import NATURAL, VALIDATION, VALIDATION_ERROR, Evaluation
from fljax.engine.loop import Record
from fljax.engine.metrics import Metric, described
from fljax.engine.round import RoundMetrics
from fljax.errors import DataError
from fljax.files import append, flush_to_disk, parse_json, read_regular, reason, write_atomically
from fljax.metrics import described_column

# Bytes that metrics.jsonl may have: millions of evaluations.
MOST_BYTES = 2_000_000_000
# The metrics of a line by name, in order: those of the evaluation, and the means of those of its rounds.
EVALUATED, PER_ROUND = described(Evaluation), described(RoundMetrics)
MEASURED = EVALUATED | PER_ROUND

Line = dict[str, float | int | None]
# The columns of a line that are no metric's.
_BESIDE = {"round", "diverged", "seconds", "check"}


def evaluated_columns(line: Iterable[str]) -> list[str]:
    """The columns of a line that an evaluation measures, configured metrics among them.

    Example:
        >>> evaluated_columns(["round", "test_error", "test_loss", "update_norm", "seconds"])
        ['test_error', 'test_loss']
    """
    return [name for name in line if name not in PER_ROUND and name not in _BESIDE]


def metric_of(column: str) -> Metric:
    """The description of a column of a line."""
    if column in MEASURED:
        return MEASURED[column]
    if column.startswith(NATURAL):
        title = f"natural success: {column.removeprefix(NATURAL).replace('_', ' ')}"
        return Metric(title, kind="share", panel="natural success")
    return VALIDATION if column == VALIDATION_ERROR else described_column(column)


def metrics_line(record: Record) -> Line:
    """Make a line of metrics.jsonl: the evaluation, and the means of the chunk's per-round metrics.

    Args:
        record: of one chunk.

    Returns:
        Plain numbers; None where there is no such quantity.
    """
    values: dict[str, Any] = {"round": record.round}
    values |= {name: getattr(record.evaluation, name) for name in EVALUATED} | dict(record.evaluation.further)
    for name, metric in PER_ROUND.items():
        curve = getattr(record.metrics, name)
        known = curve[~np.isnan(curve)] if metric.partial else curve
        values[name] = float(np.mean(known)) if known.size else math.nan
    values["diverged"] = int(record.diverged)
    values["seconds"] = round(record.seconds, 4)
    return {name: plain_number(value) for name, value in values.items()}


def plain_number(value: Any) -> Any:
    """A value JSON can hold: None for NaN and infinities."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def to_json(values: Any, indent: int | None = None) -> str:
    """JSON without NaN."""
    return json.dumps(values, indent=indent, allow_nan=False, ensure_ascii=False)


def chained(digest: str, line: Line) -> str:
    """The digest of a line and all before it, of which `digest` is that of the last; "" before the first."""
    return hashlib.sha256((digest + to_json(line)).encode()).hexdigest()[:16]


def parse_line(text: bytes, before: str, wanted: int | None = None) -> tuple[Line, str]:
    """A line as a run has written it.

    Args:
        text: the line.
        before: the digest of the lines before it.
        wanted: the round that it must be of; None if that is not known.

    Returns:
        The line without its digest, and the digest.

    Raises:
        ValueError: in words that follow "line 3", if a run has not written it there.
    """
    try:
        line = parse_json(text)
        check = line.pop("check", None) if isinstance(line, dict) else None
        digest = chained(before, line)
    except ValueError:
        raise ValueError("is not JSON") from None
    if not _is_line(line):
        raise ValueError("is not a line of a run")
    if wanted is not None and line["round"] != wanted:
        raise ValueError(
            f"is of round {line['round']} instead of {wanted}: lines are missing, repeated or of another run"
        )
    if check not in (None, digest):
        raise ValueError("is not what the run wrote, or one before it is not")
    return line, digest


def read_lines(path: Path) -> bytes:
    """The content of a metrics.jsonl.

    Raises:
        DataError: if it cannot be read.
    """
    try:
        return read_regular(path, MOST_BYTES)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({reason(error)})") from None


class LineFile:
    """The file as one run writes it; what another program does to it meanwhile is noticed and undone.

    Args:
        path: the file.
        note: told about that.

    Attributes:
        digest: of the lines so far.
        shortened: whether lines that were there have been dropped.
    """

    def __init__(self, path: Path, note: Callable[[str], None]) -> None:
        self.path, self._note = path, note
        self.digest = ""
        self.shortened = False
        self._content = bytearray()
        self._seen: tuple[int, ...] | None = None
        self._unsynced = False

    def restore(self, last: int, eval_every: int, digest: str | None) -> list[Line]:
        """Read the lines up to a round, check them, and drop those after it.

        Args:
            last: the round; lines after it have no checkpoint, and those rounds will be done again.
            eval_every: rounds between two lines.
            digest: what it must be after them; None if that is not known.

        Returns:
            The lines, without their digests.

        Raises:
            DataError: if they are not those the run has written; the file is left alone.
        """
        content = read_lines(self.path) if self.path.exists() else b""
        lines: list[Line] = []
        for text in content.split(b"\n")[:-1]:
            if len(lines) * eval_every >= last:
                break
            lines.append(self._parse(text, len(lines) + 1, eval_every))
            self._content += text + b"\n"
        if len(lines) * eval_every < last:
            raise self._damaged(
                f"it ends at round {len(lines) * eval_every}, but the checkpoint is of round {last}"
            )
        if digest is not None and digest != self.digest:
            raise self._damaged("its lines are not those the checkpoint goes with")
        self.shortened = len(content) != len(self._content)
        if self.shortened:
            write_atomically(self.path, bytes(self._content))
        self._seen = _identity(self.path)
        return lines

    def _parse(self, text: bytes, number: int, eval_every: int) -> Line:
        try:
            line, self.digest = parse_line(text, self.digest, number * eval_every)
        except ValueError as error:
            raise self._damaged(f"line {number} {error}") from None
        return line

    def _damaged(self, what: str) -> DataError:
        return DataError(f"{self.path}: {what}; restore the file, or start the run again in another folder")

    def append(self, line: Line) -> None:
        """Add a line."""
        self.digest = chained(self.digest, line)
        text = (to_json({**line, "check": self.digest}) + "\n").encode()
        known = self.is_known()
        self._content += text
        if known:
            append(self.path, text)
        else:
            self._rewrite()
        self._seen = _identity(self.path)
        self._unsynced = True

    def ends_diverged(self) -> bool:
        """True if the last line is of a model that diverged."""
        try:
            return bool(json.loads(read_lines(self.path).splitlines()[-1])["diverged"])
        except (ValueError, LookupError, TypeError, RecursionError):
            return False

    def is_known(self) -> bool:
        """True if the file holds what was written, no less and no more."""
        now = _identity(self.path)
        if now == self._seen:
            return True
        # Times also change without the content: on network file systems, by touch.
        try:
            return now is not None and read_regular(self.path, len(self._content)) == self._content
        except OSError:  # larger, or no file at all
            return False

    def sync(self) -> None:
        """Wait until the lines are on the disk; write them again if they are no longer in the file."""
        if not self.is_known():
            self._rewrite()
            self._seen = _identity(self.path)
        elif self._unsynced:
            flush_to_disk(self.path)
        self._unsynced = False

    def _rewrite(self) -> None:
        what = "was removed" if not self.path.exists() else "was changed by another program"
        self._note(f"{self.path} {what} while the run went on; all its lines are written again")
        write_atomically(self.path, bytes(self._content))


def _identity(path: Path) -> tuple[int, ...] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _is_line(line: Any) -> bool:
    """True if every value is a number or missing, and those are there that a run needs."""
    return (
        isinstance(line, dict)
        and EVALUATED.keys() <= line.keys()
        and type(line.get("round")) is int
        and all(isinstance(line.get(name), (int, float)) for name in ("diverged", "seconds"))
        and all(
            value is None or (type(value) in (int, float) and abs(value) < 1e300) for value in line.values()
        )
    )


def columns(lines: Sequence[Line]) -> dict[str, np.ndarray]:
    """The lines as arrays over evaluations, NaN where there is no such quantity."""
    return {
        name: np.array([np.nan if line.get(name) is None else line[name] for line in lines], float)
        for name in (lines[-1] if lines else {})
    }
