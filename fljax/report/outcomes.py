"""The numbers of whole runs for every cell, those that compare with the run without attack among them."""

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import pandas as pd

from fljax.config.titles import NO_ATTACK
from fljax.engine.evaluate import natural_columns
from fljax.engine.metrics import Metric
from fljax.simulation.outcomes import (
    AFTERWARDS,
    IMPACTS,
    LAST_ROUNDS,
    OUTCOMES,
    attack_end,
    impacts,
    outcomes,
)

NATURAL_SUCCESS = "natural_success_rate"
DERIVED: dict[str, Metric] = {
    **OUTCOMES,
    **IMPACTS,
    NATURAL_SUCCESS: Metric("attack success rate without attack", brief="natural success", kind="share"),
}
# Keys of an attack's table that say nothing about its trigger.
_NOT_OF_TRIGGERS = {"fraction", "in_cohort", "schedule", "natural"}


class Study(NamedTuple):
    """Numbers that are read together, in one table with slashes between them.

    Attributes:
        name: of its figure.
        title: of the table.
        columns: the numbers.
        caption: what they mean.
        bound: a column that is above 0 where the first number is a lower bound, or nothing.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    caption: str
    bound: str = ""


STUDIES = (
    Study(
        "natural",
        "Backdoors beside their natural success",
        ("attack_success_rate", NATURAL_SUCCESS),
        "Attack success rate, and after a slash that of the same trigger in the same runs without attack.",
    ),
    Study(
        "detection",
        "Detection of attackers",
        ("detection_precision", "detection_recall", "false_positive_rate"),
        "Who is left out by a rule counts as detected. Precision, recall and false-positive rate, slashes "
        "in between, means over the rounds; for a precision somebody must be left out.",
    ),
    Study(
        "durability",
        "Durability of backdoors",
        ("lifespan", "success_afterwards"),
        "Rounds from the end of the attack to the last evaluation at which the backdoor succeeds on half of "
        "the examples or more (≥: it still does at the end of a run); after a slash the mean success rate "
        f"in the {AFTERWARDS} rounds after the attack.",
        "lifespan_censored",
    ),
    Study(
        "impact",
        "Attack impact",
        tuple(IMPACTS),
        "Test error less that of the same runs without attack: of the lowest errors over the rounds, after "
        f"the last round, and of the means over the last {LAST_ROUNDS} rounds.",
    ),
)


def with_outcomes(frame: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, Metric]]:
    """The cells with a column for every number of `DERIVED` that any of them has, and these numbers."""
    rows = frame.to_dict("records")
    configs = [_config(row) for row in rows]
    curves = [_curves(row) for row in rows]
    found: list[dict[str, float]] = [
        outcomes(mine, config, bool(row["diverged"]))
        for mine, config, row in zip(curves, configs, rows, strict=True)
    ]
    plain: dict[str, int] = {}
    for place, (row, config) in enumerate(zip(rows, configs, strict=True)):
        if row["attack"] == NO_ATTACK:
            for key in _keys(config):
                plain.setdefault(key, place)
    for place, (row, config) in enumerate(zip(rows, configs, strict=True)):
        twin = next((plain[key] for key in _keys(config) if key in plain), None)
        if row["attack"] != NO_ATTACK and twin is not None:
            diverged = bool(row["diverged"]), bool(rows[twin]["diverged"])
            found[place] |= impacts(curves[place], curves[twin], diverged)
            column = _natural_column(config["attack"], configs[twin]["attack"])
            found[place][NATURAL_SUCCESS] = rows[twin].get(column, math.nan)
    numbers = pd.DataFrame(found, index=frame.index, columns=list(DERIVED)).astype(float)
    numbers = numbers.dropna(axis="columns", how="all")
    return frame.assign(**numbers), {name: DERIVED[name] for name in numbers}


def _natural_column(attack: Mapping[str, Any], plain: Mapping[str, Any]) -> str:
    """The column of an attack's trigger in a run without attack; nothing if it was not measured there."""
    mine = {key: value for key, value in attack.items() if key not in _NOT_OF_TRIGGERS}
    measured = plain.get("natural") or []
    columns = natural_columns(str(each.get("name")) for each in measured)
    return columns[measured.index(mine)] if mine in measured else ""


def attack_ends(cells: pd.DataFrame) -> dict[str, int]:
    """The first rounds without attack again, by attack, of those that end alike in all their cells."""
    found: dict[str, set[int | None]] = {}
    for row in cells[[name for name in ("attack", "config") if name in cells]].to_dict("records"):
        found.setdefault(str(row["attack"]), set()).add(attack_end(_config(row)))
    ends = {attack: next(iter(those)) for attack, those in found.items() if len(those) == 1}
    return {attack: end for attack, end in ends.items() if end is not None}


def _config(row: Mapping[str, Any]) -> dict[str, Any]:
    try:
        config = json.loads(row["config"])
    except (KeyError, TypeError, ValueError, RecursionError):
        return {}
    return config if isinstance(config, dict) else {}


def _curves(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name.removeprefix("curve_"): row[name] for name in row if name.startswith("curve_")}


def _keys(config: Mapping[str, Any]) -> Iterator[str]:
    """What a run has in common with the same run without attack, the closest first.

    A rule that is told the number of attackers is told it without attack, too, so that the share counts.
    """
    attack = config.get("attack")
    if not isinstance(attack, Mapping):
        return
    rest = {key: value for key, value in config.items() if key != "attack"}
    told = {key: attack.get(key) for key in ("fraction", "in_cohort")}
    yield json.dumps([rest, told], sort_keys=True)
    if '"actual"' not in json.dumps(rest.get("aggregator")):
        yield json.dumps(rest, sort_keys=True)
