"""A run's folder: config.json, metrics.jsonl, summary.json, checkpoints/, curves.png."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fljax.checkpoint import write_atomically
from fljax.errors import ConfigError
from fljax.train import Record

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
            values[name] = float(curve.mean())
    values["diverged"] = int(record.diverged)
    values["seconds"] = round(record.seconds, 4)
    return {name: plain_number(value) for name, value in values.items()}


def plain_number(value: Any) -> Any:
    """A value JSON can hold: None for NaN and infinities."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def to_json(values: Any, indent: int | None = None) -> str:
    """JSON without NaN."""
    return json.dumps(values, indent=indent, allow_nan=False, ensure_ascii=False)


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
        existing = path / "config.json"
        if path.exists() and not path.is_dir():
            raise ConfigError(f"{path} is a file; give a folder for the run")
        if resume and existing.exists():
            _same_config(path, json.loads(existing.read_text(encoding="utf-8")), config)
        elif path.exists() and any(path.iterdir()):
            what = "no run to resume" if resume else "files already; use --resume or another folder"
            raise ConfigError(f"{path} holds {what}")
        path.mkdir(parents=True, exist_ok=True)
        if not existing.exists():
            self.write_json("config.json", config)

    def keep_until(self, last_round: int) -> list[Line]:
        """Drop metrics after a round (a line whose checkpoint was not finished), and return the rest."""
        if not self.metrics.exists():
            return []
        lines = []
        for text in self.metrics.read_text(encoding="utf-8").splitlines():
            try:
                line = json.loads(text)
            except json.JSONDecodeError:
                break
            if line["round"] <= last_round:
                lines.append(line)
        write_atomically(self.metrics, "".join(to_json(line) + "\n" for line in lines).encode())
        return lines

    def append(self, line: Line) -> None:
        """Add one line to metrics.jsonl."""
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(to_json(line) + "\n")

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
