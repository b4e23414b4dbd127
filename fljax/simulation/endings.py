"""The best value of every metric of a run, and the early end that its configuration asks for."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from fljax.config.schema import StopConfig
from fljax.simulation.lines import Line, evaluated_columns, metric_of


class Best(NamedTuple):
    """The best value of a metric and the round that it was first measured in; None where it never was."""

    value: float | None
    round: int | None


def best_values(lines: Sequence[Line]) -> dict[str, Best]:
    """The best value of every metric of an evaluation, by column.

    Example:
        >>> lines = [{"round": 10, "test_error": 0.3}, {"round": 20, "test_error": 0.1}]
        >>> best_values(lines)
        {'test_error': Best(value=0.1, round=20)}
    """
    found = {}
    for name in evaluated_columns(lines[-1]):
        known = [line for line in lines if line.get(name) is not None]
        if not known:
            found[name] = Best(None, None)
            continue
        sign = _sign(name)
        first = min(known, key=lambda line: sign * line[name])  # type: ignore[operator]
        found[name] = Best(first[name], int(first["round"] or 0))
    return found


def _sign(name: str) -> int:
    """1 where a low value is the better one, else -1."""
    return 1 if metric_of(name).better == "low" else -1


def stopped(lines: Sequence[Line], stop: StopConfig | None) -> str | None:
    """The reason why a run ends after these lines, in words, or None if it goes on.

    Args:
        lines: of metrics.jsonl so far.
        stop: the configuration.

    Example:
        >>> lines = [{"round": 10, "test_error": 0.3}, {"round": 20, "test_error": 0.1}]
        >>> stopped(lines, StopConfig(target=0.2))
        'test_error 0.1 reached the target 0.2 in round 20'
    """
    if stop is None or not lines:
        return None
    sign, name = _sign(stop.metric), stop.metric
    values = [math.inf if (value := line.get(name)) is None else sign * value for line in lines]
    last, done = values[-1], lines[-1]["round"]
    if stop.target is not None and last <= sign * stop.target:
        return f"{name} {sign * last:.4g} reached the target {stop.target:g} in round {done}"
    best = min(range(len(values)), key=values.__getitem__)
    if stop.patience is not None and len(values) - 1 - best >= stop.patience:
        since = f"since round {lines[best]['round']}" if math.isfinite(values[best]) else "so far"
        return f"{name} has no better value {since}, for {stop.patience} evaluations"
    return None


def is_over(lines: Sequence[Line], stop: StopConfig | None) -> bool:
    """True if nothing is left to train: the model has diverged, or the run is to stop."""
    return bool(lines) and (bool(lines[-1]["diverged"]) or stopped(lines, stop) is not None)
