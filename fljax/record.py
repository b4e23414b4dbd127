"""A run's folder: config.json, metrics.jsonl, summary.json, checkpoints/, curves.png."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fljax.checkpoint import write_atomically
from fljax.errors import ConfigError, DataError
from fljax.train import Record

_PARTIAL = {"trust_benign", "trust_malicious", "benign_accepted", "malicious_accepted"}

Line = dict[str, float | int | None]


def metrics_line(record: Record) -> Line:
    """One line of metrics.jsonl: the evaluation, and the means of the chunk's per-round metrics.

    Args:
        record: of one chunk.

    Returns:
        Plain numbers; None where there is no such quantity.
    """
    values: dict[str, Any] = {"round": record.round, **record.evaluation._asdict()}
    for name, curve in record.metrics._asdict().items():
        if name != "finite":
            # Rounds without the quantity (no attacker in the cohort) do not hide the others.
            known = curve[~np.isnan(curve)] if name in _PARTIAL else curve
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


def check_folder(path: Path) -> None:
    """Raise a ConfigError unless `path` is a new or empty folder, or can become one."""
    try:
        if path.is_dir():
            if any(path.iterdir()):
                raise ConfigError(f"{path} holds files already; use --resume or another folder")
            nearest = path
        else:
            nearest = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    except OSError as error:
        raise ConfigError(f"cannot use {path} as a folder: {error.strerror}") from None
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        what = "cannot be written to" if nearest.is_dir() else "is a file"
        raise ConfigError(f"cannot use {path} as a folder: {nearest} {what}")


def check_run_folder(path: Path, config: Mapping[str, Any], resume: bool) -> None:
    """Raise unless a run with this configuration can start, or continue, in `path`; writes nothing."""
    existing = path / "config.json"
    if not resume:
        check_folder(path)
    elif existing.is_file():
        try:
            before = json.loads(existing.read_text(encoding="utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError):
            raise DataError(f"{existing} is damaged: it is not JSON") from None
        _same_config(path, before, config)
    elif path.is_dir() and any(path.iterdir()):
        raise ConfigError(f"{path} holds no run to resume")
    else:
        check_folder(path)


class RunFolder:
    """Writes one run's folder; nothing in it is ever half-written under its final name.

    Args:
        path: the folder.
        config: the resolved configuration.
        resume: continue the run that is there, which must have the same configuration.

    Raises:
        ConfigError: if the folder holds something and `resume` is False, or another configuration.
    """

    def __init__(self, path: Path, config: Mapping[str, Any], resume: bool) -> None:
        self.path = path
        self.metrics = path / "metrics.jsonl"
        self.checkpoints = path / "checkpoints"
        check_run_folder(path, config, resume)
        path.mkdir(parents=True, exist_ok=True)
        if not (path / "config.json").exists():
            self.write_json("config.json", config)

    def keep_until(self, last_round: int) -> list[Line]:
        """Drop metrics after a round (a line whose checkpoint was not finished), and return the rest.

        Raises:
            DataError: if lines up to that round are missing.
        """
        lines: list[Line] = []
        texts = self.metrics.read_text(encoding="utf-8").splitlines() if self.metrics.exists() else []
        for text in texts:
            try:
                line = json.loads(text)
            except json.JSONDecodeError:
                break
            if line["round"] <= last_round:
                lines.append(line)
        end = int(lines[-1]["round"] or 0) if lines else 0
        if end != last_round:
            raise DataError(
                f"{self.metrics} ends at round {end}, but the checkpoint is of round {last_round}; "
                "restore the file, or start the run again in another folder"
            )
        write_atomically(self.metrics, "".join(to_json(line) + "\n" for line in lines).encode())
        return lines

    def append(self, line: Line) -> None:
        """Add one line to metrics.jsonl."""
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(to_json(line) + "\n")
            file.flush()
            # On the disk before the checkpoint that counts on it.
            os.fsync(file.fileno())

    def write_json(self, name: str, values: Any) -> None:
        """Write a JSON file in one step."""
        write_atomically(self.path / name, (to_json(values, indent=2) + "\n").encode())


def _same_config(path: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    before, after = _flat(old), _flat(new)
    changed = sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
    if changed:
        shown = ", ".join(f"{key}: {before.get(key)} → {after.get(key)}" for key in changed[:5])
        raise ConfigError(f"{path} holds a run with another configuration ({shown})")


def _flat(values: Any, prefix: str = "") -> dict[str, Any]:
    """Nested tables as dotted keys."""
    if not isinstance(values, Mapping):
        return {prefix: values}
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}.{key}" if prefix else key)
    return flat
