"""A run's folder as the one cell of a sweep."""

import json
import math
from pathlib import Path
from typing import Any

from fljax.config.plugins import load_recorded
from fljax.config.titles import component_titles
from fljax.errors import DataError
from fljax.files import read_table, shown_name
from fljax.simulation.lines import EVALUATED, MEASURED, Line, evaluated_columns, parse_line, read_lines

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
    config = read_table(folder / RUN_FILES[0])
    load_recorded(config)
    summary = read_summary(folder)
    lines = read_lines_of(folder)
    last = lines[-1]
    rounds, planned = int(last["round"] or 0), config.get("rounds")
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
        "curve_round": [line["round"] for line in lines],
        **{f"curve_{name}": [_number(line.get(name)) for line in lines] for name in measured},
    }
    of = f" of {planned:,}" if isinstance(planned, int) else ""
    missing = "; the others are missing so far" if of and not summary else ""
    end = " (diverged)" if row["diverged"] else " (stopped)" if summary.get("stopped") else missing
    return shown_name(folder.resolve().name), row, config, f"{rounds:,}{of} rounds{end}"


def _table(values: dict[str, Any], name: str) -> dict[str, Any]:
    found = values.get(name)
    return found if isinstance(found, dict) else {}


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number else None


def read_summary(folder: Path) -> dict[str, Any]:
    """The summary.json of a run; empty before the run is finished.

    Raises:
        DataError: if it is damaged.
    """
    path = folder / "summary.json"
    return read_table(path) if path.exists() else {}


def read_lines_of(folder: Path) -> list[Line]:
    """The evaluations of a run without their digests; an unfinished last line is left out.

    Raises:
        DataError: if a line is not what a run has written, or there is none, or a finished run's last ones
            are gone.
    """
    path = folder / RUN_FILES[1]
    # Before the lines: a run that ends meanwhile has written them first.
    rounds = _number(read_summary(folder).get("rounds"))
    lines: list[Line] = []
    digest = ""
    for number, text in enumerate(read_lines(path).split(b"\n")[:-1], 1):
        try:
            line, digest = parse_line(text, digest)
        except ValueError as error:
            raise DataError(f"{path} is damaged: line {number} {error}") from None
        lines.append(line)
    if not lines:
        raise DataError(f"{folder} has no results yet: {path.name} is empty")
    last = int(lines[-1]["round"] or 0)
    if rounds is not None and last < rounds:
        raise DataError(f"{path} is damaged: it ends at round {last} of {rounds:.0f}")
    return lines
