"""Two runs or two sweeps side by side: what differs in their configurations, and in what was measured."""

import inspect
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fljax.aggregators import RULES
from fljax.attacks import ATTACKS
from fljax.config import keys
from fljax.config.plain import jsonable
from fljax.config.titles import SETTING
from fljax.errors import ConfigError
from fljax.losses import LOSSES
from fljax.registry import Entry
from fljax.report.outcomes import DERIVED
from fljax.report.results import Results, label, load_results
from fljax.report.uncertainty import FEWEST, holm, paired
from fljax.simulation.lines import metric_of, plain_number

# The components of a configuration, by the table that names one.
REGISTRIES: Mapping[str, Mapping[str, Entry]] = {
    **SETTING,
    "aggregator": RULES,
    "attack": ATTACKS,
    "loss": LOSSES,
}
# The speed of a run; of a sweep it depends on what ran at the same time.
SPEED = "rounds_per_second"
# The rows of a sweep by the labels of their axes, and then by seed.
Cells = dict[tuple[str, ...], dict[int, Mapping[str, Any]]]


class Difference(NamedTuple):
    """One metric of one cell, or of the cells that differ in their seed alone.

    Attributes:
        metric: its column.
        seeds: how many both have; those alone count.
        a, b: means over these seeds; NaN where there is no such quantity.
        difference: the mean of b − a over these seeds.
        spread: its standard deviation over them, NaN for one.
        same: whether every seed has the same number in both, or in neither.
        p_value: of a paired t-test, Holm's over the places of this metric; NaN with fewer than five seeds.
    """

    metric: str
    seeds: int
    a: float
    b: float
    difference: float
    spread: float
    same: bool
    p_value: float


class Contrast(NamedTuple):
    """What `contrast` finds.

    Attributes:
        a, b: the results.
        config: dotted keys of the configurations whose values differ, to those given, or a component's
            defaults, as "a" and "b".
        places: for every place that both have, axes to labels; one without axes for runs.
        differences: for each of them the metrics.
        only_a, only_b: places that one alone has.
    """

    a: Results
    b: Results
    config: dict[str, dict[str, Any]]
    places: list[dict[str, str]]
    differences: list[list[Difference]]
    only_a: list[dict[str, str]]
    only_b: list[dict[str, str]]

    @property
    def equal(self) -> bool:
        """True if both have the same places, and every number there is the same in both."""
        measured = [each for row in self.differences for each in row if each.metric != SPEED]
        whole = bool(measured) and not (self.only_a or self.only_b)
        return whole and all(each.same for each in measured)


def contrast(a: str | Path, b: str | Path, value: str = "last") -> Contrast:
    """Compare two runs' folders, or two sweeps'.

    Cells of sweeps belong together that have the same labels on all axes, and the seeds that both have are
    compared one by one. An axis that one of the sweeps does not have is read from its cells' configurations.

    Args:
        a, b: the folders; either may still be under way.
        value: "last" for the numbers after the last round, "best" for those of each run's best round.

    Returns:
        The `Contrast`.

    Raises:
        ConfigError: if one is a run and the other a sweep.
        DataError: if one is neither, or has no results, or is damaged.
    """
    first, second = load_results(a, value), load_results(b, value)
    if first.is_run != second.is_run:
        run, sweep = (a, b) if first.is_run else (b, a)
        raise ConfigError(f"{run} is a run and {sweep} a sweep: compare two runs or two sweeps")
    before, after = keys.flatten(first.config), keys.flatten(second.config)
    for mine, theirs in ((before, after), (after, before)):
        mine |= {key: value for key in theirs if key not in mine for value in _default(mine, key)}
    config = {
        key: {side: values[key] for side, values in (("a", before), ("b", after)) if key in values}
        for key in dict.fromkeys([*before, *after])
        if key not in before or key not in after or before[key] != after[key]
    }
    metrics = [name for name in (*first.evaluated, *first.derived) if name in _measured(second)]
    if first.is_run:
        pair = _only_row(first), _only_row(second)
        found = [_difference(name, *(_values([row], name) for row in pair)) for name in (*metrics, SPEED)]
        return Contrast(first, second, config, [{}], [_known(found)], [], [])
    axes = [
        name for name in dict.fromkeys(["aggregator", "attack", *first.axes, *second.axes]) if name != "seed"
    ]
    cells = _places(first, axes), _places(second, axes)
    both = [place for place in cells[0] if place in cells[1]]
    shared = [sorted(cells[0][place].keys() & cells[1][place].keys()) for place in both]
    there = [k for k, seeds in enumerate(shared) if seeds]
    rows = [
        [
            _difference(name, *(_values([of[both[k]][seed] for seed in shared[k]], name) for of in cells))
            for name in metrics
        ]
        for k in there
    ]

    def alone(mine: Cells, theirs: Cells) -> list[dict[str, str]]:
        places = (place for place, seeds in mine.items() if not seeds.keys() & theirs.get(place, {}).keys())
        return [dict(zip(axes, place, strict=True)) for place in places]

    return Contrast(
        first,
        second,
        config,
        [dict(zip(axes, both[k], strict=True)) for k in there],
        [_known(row) for row in _corrected(rows)],
        alone(*cells),
        alone(*cells[::-1]),
    )


def _default(config: Mapping[str, Any], key: str) -> list[Any]:
    """The value that a parameter has which a component's table leaves out; none if it has no default."""
    table, _, name = key.rpartition(".")
    entry = REGISTRIES.get(table, {}).get(str(config.get(f"{table}.name")))
    known = {} if entry is None else inspect.signature(entry.function).parameters
    return [
        jsonable(value.default)
        for value in known.values()
        if value.name == name and value.default is not value.empty
    ]


def _measured(results: Results) -> dict[str, Any]:
    return {**results.evaluated, **results.derived}


def _only_row(results: Results) -> Mapping[str, Any]:
    return {str(name): item for name, item in results.frame.iloc[0].to_dict().items()}


def _places(results: Results, axes: Iterable[str]) -> Cells:
    """The rows by the labels of their axes, and then by seed."""
    found: Cells = {}
    for row in results.frame.to_dict("records"):
        given: Mapping[str, Any] = {str(name): item for name, item in row.items()}
        place = tuple(label(given[axis]) if axis in given else _configured(given, axis) for axis in axes)
        found.setdefault(place, {})[int(given["seed"])] = given
    return found


def _configured(row: Mapping[str, Any], axis: str) -> str:
    """The label of a key of a cell's configuration."""
    try:
        return label(keys.get(json.loads(row["config"]), axis))
    except (KeyError, TypeError, ValueError):
        return label(None)


def _values(rows: Iterable[Mapping[str, Any]], name: str) -> np.ndarray:
    return np.array([math.nan if row.get(name) is None else row[name] for row in rows], float)


def _difference(name: str, a: np.ndarray, b: np.ndarray) -> Difference:
    """Of the seeds that have the number in both; without any, of those that have it in one."""
    known = np.isfinite(a) & np.isfinite(b)
    same = np.array_equal(a, b, equal_nan=True)
    if not known.any():
        return Difference(name, 0, _mean(a), _mean(b), math.nan, math.nan, same, math.nan)
    a, b = a[known], b[known]
    apart = b - a
    spread = float(apart.std()) if len(apart) > 1 else math.nan
    p_value = paired(apart) if len(apart) >= FEWEST else math.nan
    return Difference(name, len(apart), _mean(a), _mean(b), float(apart.mean()), spread, same, p_value)


def _corrected(rows: list[list[Difference]]) -> list[list[Difference]]:
    """The same with Holm's p-values over the places of each metric."""
    found = [list(row) for row in rows]
    for k in range(len(rows[0]) if rows else 0):
        tested = [number for number, row in enumerate(rows) if not math.isnan(row[k].p_value)]
        for number, p in zip(tested, holm([rows[each][k].p_value for each in tested]), strict=True):
            found[number][k] = rows[number][k]._replace(p_value=float(p))
    return found


def _known(row: Iterable[Difference]) -> list[Difference]:
    return [each for each in row if not (math.isnan(each.a) and math.isnan(each.b))]


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else math.nan


def title_of(name: str) -> str:
    """A metric's name where there is little room."""
    if name == SPEED:
        return "rounds/s"
    return DERIVED[name].short if name in DERIVED else metric_of(name).short


def as_json(found: Contrast) -> dict[str, Any]:
    """The same as plain values, None for NaN."""

    def plain(each: Difference) -> dict[str, Any]:
        return {name: plain_number(value) for name, value in each._asdict().items()}

    return {
        "a": found.a.name,
        "b": found.b.name,
        "config": found.config,
        "places": [
            {"axes": place, "metrics": [plain(each) for each in row]}
            for place, row in zip(found.places, found.differences, strict=True)
        ],
        "only_a": found.only_a,
        "only_b": found.only_b,
        "equal": found.equal,
    }
