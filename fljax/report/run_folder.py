"""A run's folder as the one cell of a sweep."""

import json
import math
from pathlib import Path
from typing import Any

from fljax.config.plugins import load_recorded
from fljax.config.titles import component_titles
from fljax.errors import DataError
from fljax.files import read_json
from fljax.simulation.lines import EVALUATED, MEASURED, evaluated_columns, read_lines

# What makes a folder a run's: its configuration, and what was measured so far.
RUN_FILES = ("config.json", "metrics.jsonl")


def read_run(folder: Path) -> tuple[str, dict[str, Any], dict[str, Any], str]:
    """Read a run, finished or under way.

    Args:
        folder: with config.json and metrics.jsonl; summary.json is there once the run is finished.

    Returns:
        Its name, a row as a sweep's results have it, its configuration, and how far it is.

    Raises:
        DataError: if a file is damaged, or there is no evaluation yet.
    """
    config = _read_table(folder / RUN_FILES[0])
    load_recorded(config)
    summary = _read_table(folder / "summary.json") if (folder / "summary.json").is_file() else {}
    lines = read_lines_of(folder / RUN_FILES[1])
    last = lines[-1]
    rounds, planned = int(last["round"]), config.get("rounds")
    seconds = sum(number for line in lines if (number := _number(line.get("seconds"))) is not None)
    rule, attack = component_titles(config)
    evaluated = dict.fromkeys([*EVALUATED, *evaluated_columns(last)])
    measured = dict.fromkeys([*evaluated, *MEASURED])
    clients, data = _table(summary, "clients"), _table(config, "data")
    row = {
        "cell": "run",
        "aggregator": rule,
        "attack": attack,
        "data": str(data.get("name", "data")),
        "seed": int(_number(config.get("seed")) or 0),
        **{name: _number(last.get(name)) for name in evaluated},
        "diverged": bool(last.get("diverged")),
        "rounds": rounds,
        "seconds_compile": _number(summary.get("seconds_compile")),
        "seconds_run": seconds,
        "rounds_per_second": rounds / max(seconds, 1e-9) if seconds else None,
        "device": summary.get("device"),
        "num_clients": clients.get("num_clients", config.get("num_clients")),
        "num_malicious": clients.get("num_malicious"),
        "num_params": summary.get("num_params"),
        "config": json.dumps(config),
        "curve_round": [int(line["round"]) for line in lines],
        **{f"curve_{name}": [_number(line.get(name)) for line in lines] for name in measured},
    }
    of = f" of {planned:,}" if isinstance(planned, int) else ""
    missing = "; the others are missing so far" if of and not summary else ""
    end = " (diverged)" if row["diverged"] else " (stopped)" if summary.get("stopped") else missing
    return folder.resolve().name, row, config, f"{rounds:,}{of} rounds{end}"


def _table(values: dict[str, Any], name: str) -> dict[str, Any]:
    found = values.get(name)
    return found if isinstance(found, dict) else {}


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number else None


def _read_table(path: Path) -> dict[str, Any]:
    values = read_json(path)
    if not isinstance(values, dict):
        raise DataError(f"{path} is damaged: it is not a table of values")
    return values


def read_lines_of(path: Path) -> list[dict[str, Any]]:
    """The evaluations of a metrics.jsonl without their digests; an unfinished last line is left out.

    Raises:
        DataError: if a line is no evaluation, or there is none.
    """
    texts = read_lines(path).decode("utf-8", errors="replace").split("\n")[:-1]
    lines = []
    for number, text in enumerate(texts, 1):
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            line = None
        if not isinstance(line, dict) or _number(line.get("round")) is None:
            raise DataError(f"{path} is damaged: line {number} is no evaluation")
        line.pop("check", None)
        lines.append(line)
    if not lines:
        raise DataError(f"{path.parent} has no results yet: {path.name} is empty")
    return lines
