"""One axis of a sweep: from what the table says to its values."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pydantic

from fljax.config import keys
from fljax.config.loading import RANGES
from fljax.config.schema import AggregatorConfig, AttackConfig, Component, DataConfig, ExperimentConfig
from fljax.errors import ConfigError, unknown_name
from fljax.sweeps.presets import PRESETS

# Tables that are an axis as a whole: `aggregator = ["median", {name = "krum", num_malicious = 4}]`.
COMPONENTS: Mapping[str, type[Component]] = {
    "aggregator": AggregatorConfig,
    "attack": AttackConfig,
    "data": DataConfig,
    "partition": Component,
    "model": Component,
    "client": Component,
}
# More cells, or values of one axis, are a slip of the pen: their plan and their table are held in memory.
MOST_CELLS = 200_000
Column = list[Any]


def dotted(table: Mapping[str, Any], base: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The entries of a table with dotted keys, whether they were quoted or stand for nested tables.

    A table with a name is a component, one with the name of a range is a range: both are values.
    """
    for key, value in table.items():
        here = keys.get(base, key)
        nested = isinstance(value, dict) and not value.keys() & {"name", *RANGES}
        if nested and isinstance(here, pydantic.BaseModel):
            yield from dotted(value, here, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def columns_of(group: Mapping[str, Any], base: ExperimentConfig) -> dict[str, Column]:
    """The values of axes that go together, equally many of each.

    Example:
        >>> from fljax.config import parse_config
        >>> columns_of({"root.size": {"range": [50, 200, 50]}}, parse_config({"num_clients": 10}))
        {'root.size': [50, 100, 150]}
    """
    columns = {key: _column(key, spec, base) for key, spec in group.items()}
    lengths = {key: len(column) for key, column in columns.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{key} has {length}" for key, length in lengths.items())
        raise ConfigError(f"sweep.zip: columns that go together need the same length, but {shown}")
    return columns


def _column(key: str, spec: Any, base: ExperimentConfig) -> Column:
    """The values of one axis."""
    where = f"sweep.axes.{key}"
    if isinstance(spec, str):
        known = PRESETS.get(key, {})
        if spec not in known:
            presets = unknown_name("preset", spec, known) if known else f"{key} has no presets"
            raise ConfigError(f"{where}: {presets}; or give a list")
        spec = known[spec](base)
    if isinstance(spec, dict):
        spec = _range(where, spec)
    if isinstance(spec, list):  # a preset among the values stands for its own
        named = PRESETS.get(key, {})
        spec = [
            value
            for each in spec
            for value in (named[each](base) if isinstance(each, str) and each in named else [each])
        ]
    if not isinstance(spec, list) or not spec:
        raise ConfigError(f"{where}: must be a list of values, a range or a preset, got {spec!r}")
    return [component_value(key, value, where) for value in spec]


def component_value(key: str, value: Any, where: str) -> Any:
    """A value of an axis; where the axis is a component, its table, also for a mere name."""
    if key not in COMPONENTS:
        return value
    table = {"name": value} if isinstance(value, str) else value
    if not isinstance(table, dict) or "name" not in table:
        raise ConfigError(f"{where}: must be names or tables with a name, got {value!r}")
    return table


def _range(where: str, spec: Mapping[str, Any]) -> Column:
    kinds = [kind for kind in spec if kind in RANGES]
    numbers = spec[kinds[0]] if len(spec) == 1 and kinds else None
    # Whole numbers of any size are finite, but beyond those of a float they are no use.
    plain = isinstance(numbers, list) and all(
        isinstance(x, (int, float)) and not isinstance(x, bool) and abs(x) <= 1e300 for x in numbers
    )
    if numbers is None or not plain:
        raise ConfigError(f"{where}: a range is a table with one of {', '.join(RANGES)}, got {dict(spec)!r}")
    if kinds[0] == "range":
        if len(numbers) not in (2, 3) or (len(numbers) == 3 and not numbers[2] > 0):
            raise ConfigError(
                f"{where}: range must be [start, stop] or [start, stop, step > 0], got {numbers}"
            )
        start, stop, step = (*numbers, 1)[:3]
        exact = (stop - start) / step
        if not 0 < exact <= MOST_CELLS:
            what = "has no values" if exact <= 0 else f"has more than {MOST_CELLS:,} values"
            raise ConfigError(f"{where}: range {what}, got {numbers}")
        count = math.ceil(exact - 1e-9)
        return [
            start + i * step if all(isinstance(x, int) for x in numbers) else round(start + i * step, 12)
            for i in range(count)
        ]
    if len(numbers) != 3 or not isinstance(numbers[2], int) or not 1 <= numbers[2] <= MOST_CELLS:
        raise ConfigError(f"{where}: {kinds[0]} must be [first, last, number of values], got {numbers}")
    first, last, count = numbers
    if kinds[0] == "logspace" and not (first > 0 and last > 0):
        raise ConfigError(f"{where}: logspace needs positive ends, got {numbers}")
    spaced = np.linspace(first, last, count) if kinds[0] == "linspace" else np.geomspace(first, last, count)
    rounded = [float(f"{x:.12g}") for x in spaced]
    # Between whole numbers, whole steps stay whole numbers: `root.size = {linspace = [20, 100, 5]}`.
    whole = isinstance(first, int) and isinstance(last, int) and all(x.is_integer() for x in rounded)
    return [int(x) for x in rounded] if whole else rounded
