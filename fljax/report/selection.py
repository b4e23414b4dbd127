"""Hyper-parameters chosen by the validation error, as benchmarks of rules do it."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from fljax.config.titles import axis_title, axis_value, component_titles
from fljax.engine.evaluate import VALIDATION_ERROR
from fljax.errors import ConfigError, DataError, unknown_name
from fljax.report.results import Results
from fljax.report.summary import Entry, Table

RULE = "aggregator"


class Choice(NamedTuple):
    """The hyper-parameters chosen for one rule in one place of the tables.

    Attributes:
        rule: its label, without the values that were chosen among.
        labels: of the axes that were not chosen along.
        chosen: axis to the chosen value, as text; the chosen variant of the rule under "aggregator".
        validation_error: the largest over the attacks at the chosen values.
        attack: the attack that it is of.
        there: the largest test error over the attacks, each in the round of its validation error.
        last: the largest test error over the attacks after the last round.
        best: the largest over the attacks of the lowest test error over the rounds.
    """

    rule: str
    labels: dict[str, str]
    chosen: dict[str, str]
    validation_error: float
    attack: str
    there: float
    last: float
    best: float


def declared(results: Results) -> list[str]:
    """The axes that the sweep's own configuration names as `sweep.select`."""
    table = results.config.get("sweep")
    names = table.get("select", []) if isinstance(table, dict) else []
    if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise DataError(f"{results.name}: sweep.select in sweep.json is no list of axes: {names!r}")
    return names


def choose(results: Results, axes: Sequence[str]) -> tuple[Results, list[Choice]]:
    """For every rule the hyper-parameters with the smallest worst validation error over the attacks.

    For every combination of values and every attack the validation error is averaged over the seeds, round by
    round; what counts is the lowest of these means, or with `results.value` "last" the mean after the last
    round. The worst is the largest over all attacks of the sweep, "no attack" among them. Of equals the first
    is taken; a combination of which cells are missing is not.

    Args:
        results: the sweep.
        axes: those to choose along; "aggregator" for variants of the same rule.

    Returns:
        The cells that were chosen, as a sweep without these axes, and the choices; all cells and no choice
        where no combination is done under all attacks yet.

    Raises:
        ConfigError: if there is no such axis, or no validation error.

    Source: the benchmark of ByzFL (González et al. 2025), whose accuracies on validation examples become
    errors here. Like there the mean over the seeds comes first, then the best round, then the worst attack.
    As its test accuracy ByzFL reports the best over the rounds on the test data themselves: `Choice.best`.
    """
    for axis in axes:
        if axis not in results.axes or axis in ("attack", "seed"):
            others = [name for name in results.axes if name not in ("attack", "seed")]
            raise ConfigError(f"select: {unknown_name('axis', axis, others)}")
    if VALIDATION_ERROR not in results.evaluated:
        raise ConfigError(
            "select: needs a validation_error; run the sweep with validation = { size = ... }, the number of "
            "training examples to hold back"
        )
    rules = [_rule(row) for row in results.frame.to_dict("records")]
    frame = results.frame.assign(**{_BASE: rules if RULE in axes else results.frame[RULE].astype(str)})
    kept = [axis for axis in results.further if axis not in axes]
    along = [axis for axis in axes if axis != RULE]
    choices, cells = [], []
    for key, group in frame.groupby([*kept, _BASE], observed=True, sort=False):
        attacks = list(dict.fromkeys(group["attack"]))
        found: tuple[float, Any, dict[str, _Course]] | None = None
        for values, candidate in group.groupby([*along, RULE], observed=True):
            courses = {
                attack: course
                for attack, mine in candidate.groupby("attack", observed=True)
                if (course := _course(mine, results)) is not None
            }
            if set(courses) != set(attacks):
                continue
            worst = max(course.validation for course in courses.values())
            if found is None or worst < found[0]:
                found = worst, values, courses
        if found is None:
            continue
        worst, values, courses = found
        chosen = dict(zip([*along, RULE], map(str, values), strict=True))
        mine = group
        for axis, label in chosen.items():
            mine = mine[mine[axis].astype(str) == label]
        cells.append(mine)
        choices.append(
            Choice(
                rule=str(key[-1]),
                labels=dict(zip(kept, map(str, key), strict=False)),
                chosen={axis: chosen[axis] for axis in axes},
                validation_error=worst,
                attack=max(courses, key=lambda attack: courses[attack].validation),
                there=max(course.there for course in courses.values()),
                last=max(course.last for course in courses.values()),
                best=max(course.best for course in courses.values()),
            )
        )
    if not cells:
        return results, []
    left = pd.concat(cells).sort_index()
    labels = list(dict.fromkeys(left[_BASE]))
    left = left.assign(**{RULE: pd.Categorical(left[_BASE], categories=labels, ordered=True)})
    remaining = {axis: values for axis, values in results.axes.items() if axis not in along}
    remaining |= {RULE: labels} if RULE in remaining else {}
    total = results.total - (len(results.frame) - len(left))
    return replace(results, frame=left.drop(columns=_BASE), axes=remaining, total=total), choices


_BASE = "rule without variant"


def _rule(row: Mapping[str, Any]) -> str:
    """The name of a cell's rule without the values in which variants differ."""
    try:
        config = json.loads(row["config"])
    except (KeyError, TypeError, ValueError):
        return str(row[RULE])
    return component_titles(config)[0] if isinstance(config, dict) else str(row[RULE])


class _Course(NamedTuple):
    """Means over the seeds of one attack: the validation error, and the test error there, last and best."""

    validation: float
    there: float
    last: float
    best: float


def _course(cells: pd.DataFrame, results: Results) -> _Course | None:
    """The means of one combination under one attack; None where seeds are missing."""
    if len(cells) < results.seeds:
        return None
    validation, test = (_mean(cells, column) for column in (VALIDATION_ERROR, "test_error"))
    place = len(validation) - 1 if results.value == "last" else int(np.argmin(validation))
    return _Course(float(validation[place]), float(test[place]), float(test[-1]), float(np.min(test)))


def _mean(cells: pd.DataFrame, column: str) -> np.ndarray:
    """Mean curve of the seeds: one that was stopped keeps its last value, a diverged one is infinite."""
    curves = []
    longest = max(map(len, cells["curve_round"]))
    for row in cells.to_dict("records"):
        curve = row[f"curve_{column}"]
        values = np.asarray([math.nan] if curve is None else curve, float)
        end = math.inf if row["diverged"] else values[-1]
        whole = np.concatenate([values, np.full(longest - len(values), end)])
        if row["diverged"]:
            whole[len(values) - 1] = math.inf
        curves.append(np.where(np.isnan(whole), math.inf, whole))
    return np.mean(curves, axis=0)


def choice_table(choices: Iterable[Choice], value: str) -> Table:
    """The choices, a row per rule and place."""
    choices = list(choices)
    axes, kept = list(choices[0].chosen), list(choices[0].labels)
    heads = ["variant" if axis == RULE else axis_title(axis) for axis in axes]
    heads += [
        f"validation error ({value})",
        "under",
        "test error then",
        "test error (last)",
        "test error (best)",
    ]
    rows = []
    for choice in choices:
        name = ", ".join([choice.rule, *(axis_value(axis, label) for axis, label in choice.labels.items())])
        numbers = (choice.there, choice.last, choice.best)
        texts = [axis_value(axis, choice.chosen[axis]) for axis in axes]
        texts += [_text(choice.validation_error), choice.attack, *map(_text, numbers)]
        rows.append((name, [Entry(text) for text in texts]))
    return Table("Chosen by validation", ", ".join(["rule", *map(axis_title, kept)]), heads, rows)


def _text(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "—"


def choice_frame(choices: Iterable[Choice]) -> pd.DataFrame:
    """The choices as a table of numbers, a row each."""
    rows = []
    for choice in choices:
        numbers = {f"test_error_{name}": getattr(choice, name) for name in ("there", "last", "best")}
        rows.append(
            {
                "rule": choice.rule,
                **choice.labels,
                **{f"chosen {axis}": label for axis, label in choice.chosen.items()},
                VALIDATION_ERROR: choice.validation_error,
                "worst_attack": choice.attack,
                **numbers,
            }
        )
    return pd.DataFrame(rows)


def choice_caption(results: Results) -> str:
    """The meaning of the numbers in the table of choices."""
    which = "the last round" if results.value == "last" else "the round in which it is lowest"
    return (
        "For each rule the values with the smallest worst validation error over all attacks, the mean over "
        f"{results.seeds} seeds in {which}; and the largest mean test errors over the attacks with these "
        "values: in the same rounds, after the last round, and in their own best rounds. The other tables "
        "and figures are of the chosen cells alone."
    )
