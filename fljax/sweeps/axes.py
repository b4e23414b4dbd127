"""The `[sweep]` table of a configuration file: from axes to cells."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import pydantic
from pydantic import Field

from fljax.config import keys
from fljax.config.loading import apply_overrides, of_type, read_toml
from fljax.config.plain import finite_or_not
from fljax.config.plugins import beside, load_plugins
from fljax.config.schema import ExperimentConfig, Whole, explain, jsonable, parse_config
from fljax.errors import ConfigError, unknown_name
from fljax.files import shown_name
from fljax.sweeps.cells import Cell, Told, make_cells
from fljax.sweeps.columns import COMPONENTS, MOST_CELLS, Column, columns_of, component_value, dotted
from fljax.sweeps.published import published_tables


class SweepConfig(pydantic.BaseModel):
    """The `[sweep]` table.

    Attributes:
        seeds: how many seeds, counted up from the run's, or a list of seeds; short for an axis `seed`.
        axes: dotted key to values: a list, the name of a preset, or a table with one of
            `range = [start, stop, step]`, `linspace` and `logspace = [first, last, number]`. A key may be
            quoted, `"local.steps"`, or stand for nested tables, `local.steps`.
        together: key `zip`, tables like `axes` whose columns are equally long and go together, row by row.
        exclude: cells to leave out, each a table of axes to values; a component is a name, or a table with
            some of its keys.
        include: further cells, each a table of dotted keys to values; they have the seeds of the sweep.
        published: tables whose published numbers the report shows beside these, a name or several.
        select: axes along which the report chooses, for every rule the value with the smallest worst
            validation error over the attacks; "aggregator" for variants of the same rule.
        natural: whether cells without attack measure how often the triggers of the other cells' attacks
            succeed by themselves.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", strict=True)
    seeds: Annotated[int, Field(gt=0, le=MOST_CELLS)] | Annotated[list[Whole], Field(min_length=1)] | None = (
        None
    )
    axes: dict[str, Any] = {}
    together: Annotated[list[dict[str, Any]], Field(alias="zip")] = []
    exclude: list[dict[str, Any]] = []
    include: list[dict[str, Any]] = []
    published: str | list[str] = []
    select: list[str] = []
    natural: bool = False


class Sweep(NamedTuple):
    """All cells of a sweep, checked one by one as far as that needs no data.

    Attributes:
        name: of the configuration file.
        axes: axis name to its values, in order, as tables show them.
        cells: the cells.
        given: the configuration as it was given, for `sweep.json`.
    """

    name: str
    axes: dict[str, Column]
    cells: list[Cell]
    given: dict[str, Any]


def load_sweep(
    config: str | Path | Mapping[str, Any],
    overrides: Mapping[str, Any] | None = None,
    told: Told | None = None,
) -> Sweep:
    """Read a configuration with a `[sweep]` table.

    Args:
        config: a TOML file, or such values themselves, the table under the key "sweep".
        overrides: dotted keys to values, for what the cells share (`rounds`) or the table (`sweep.seeds`).
        told: called now and then with the number of cells that are checked, and of all.

    Returns:
        The `Sweep`.

    Raises:
        ConfigError: one sentence; it names the cell where only one is wrong.
    """
    overrides = overrides or {}
    mine = keys.within(overrides, "sweep")
    shared = {key: value for key, value in overrides.items() if not key.startswith("sweep.")}
    if isinstance(config, Mapping):
        values, name, run = dict(finite_or_not(config)), "sweep", "fljax.run"
    elif isinstance(config, (str, Path)):
        values, name, run = read_toml(config), shown_name(Path(config).stem), "fljax run"
        shared = beside(shared, Path(config).parent)
    else:
        raise ConfigError(
            f"a sweep is a path, a dictionary of values or what fljax.sweeps.make_sweep returns, got "
            f"{of_type(config)}"
        )
    table = values.pop("sweep", None)
    values = apply_overrides(values, shared)
    if table is None and not mine:
        what = "this dictionary" if isinstance(config, Mapping) else config
        raise ConfigError(f"{what} has no [sweep] table with axes; run it with: {run}")
    table = _table({} if table is None else table)
    for key, value in mine.items():
        first, _, rest = key.partition(".")
        if rest and not isinstance(table.get(first, {}), dict):
            raise ConfigError(f"sweep.{key}: sweep.{first} is not a table")
        table[first] = {**table.get(first, {}), rest: value} if rest else value
    return make_sweep(values, table, name=name, told=told)


def _table(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"sweep: must be a table, got {value!r}")
    return dict(value)


def make_sweep(
    values: Mapping[str, Any], table: Mapping[str, Any], name: str = "sweep", told: Told | None = None
) -> Sweep:
    """The cells of a sweep from plain values.

    Args:
        values: what all cells share, as TOML gives it.
        table: the `[sweep]` table.
        name: for files and titles.
        told: as for `load_sweep`.

    Returns:
        The `Sweep`.

    Raises:
        ConfigError: as `load_sweep`.

    Example:
        >>> sweep = make_sweep({"num_clients": 10}, {"seeds": 2, "axes": {"aggregator": ["median", "mean"]}})
        >>> [(cell.axes["aggregator"], cell.axes["seed"]) for cell in sweep.cells]
        [('Median', 0), ('Median', 1), ('FedAvg', 0), ('FedAvg', 1)]
    """
    try:
        parsed = SweepConfig.model_validate(_table(table))
    except pydantic.ValidationError as error:
        raise ConfigError(explain(error, SweepConfig, "sweep")) from None
    published_tables(parsed.published)  # an unknown name is an error before anything runs
    base = parse_config(values)  # what is wrong in every cell is said without naming one
    load_plugins(base.plugins)
    seeds = _seeds(parsed, base)
    groups = [columns_of({key: spec}, base) for key, spec in dotted(parsed.axes, base)]
    for key, column in _merge(groups).items():
        seen = set()
        for value in column:
            if (hashed := _hashable(value)) in seen:
                raise ConfigError(f"sweep.axes.{key}: {value!r} is listed twice")
            seen.add(hashed)
    for number, group in enumerate(parsed.together):
        if not group:
            raise ConfigError(f"sweep.zip[{number}]: must name at least one axis, got {{}}")
        groups.append(columns_of(dict(dotted(group, base)), base))
    names = [key for group in groups for key in group]
    if "plugins" in [*names, *(key for extra in parsed.include for key in extra)]:
        raise ConfigError("sweep: plugins are the same in all cells, and no axis")
    for key in names:
        if names.count(key) > 1 or (key == "seed" and seeds is not None):
            raise ConfigError(f"sweep: {key} is an axis twice")
    if seeds is not None:
        groups.append({"seed": list(seeds)})
    count = math.prod(len(next(iter(group.values()))) for group in groups)
    if count > MOST_CELLS:
        raise ConfigError(
            f"sweep: these axes make {count:,} cells, more than the {MOST_CELLS:,} whose plan and table are "
            "held in memory; cut it into several sweeps"
        )
    points = [_merge(rows) for rows in product(*(_rows(group) for group in groups))]
    points = _without(points, [_rule(rule, points, base) for rule in parsed.exclude])
    for number, extra in enumerate(parsed.include):
        where = f"sweep.include[{number}]"
        given = {key: component_value(key, value, where) for key, value in dotted(extra, base)}
        own = seeds is None or "seed" in given
        points += [given] if own else [{**given, "seed": seed} for seed in seeds or ()]
    if not points:
        raise ConfigError("sweep: no cells are left; is everything excluded?")
    if parsed.natural:
        points = _with_natural(points)
    axes, cells = make_cells(values, points, told)
    for axis in parsed.select:
        if axis not in axes or axis in ("attack", "seed"):
            others = [name for name in axes if name not in ("attack", "seed")]
            raise ConfigError(f"sweep.select: {unknown_name('axis', axis, others)}")
    if parsed.select and any(cell.config.validation is None for cell in cells):
        raise ConfigError(
            "sweep.select: chooses by the validation error, so that validation = { size = ... } is needed"
        )
    return Sweep(name, axes, cells, jsonable({**values, "sweep": dict(table)}))


def _hashable(value: Any) -> Any:
    """A value of an axis as a member of a set, equal where the values are."""
    if isinstance(value, dict):
        return frozenset((key, _hashable(item)) for key, item in value.items())
    return tuple(map(_hashable, value)) if isinstance(value, list) else value


def _seeds(parsed: SweepConfig, base: ExperimentConfig) -> list[int] | None:
    if parsed.seeds is None:
        return None
    if None not in base.seeds.model_dump().values():
        raise ConfigError("sweep.seeds counts seed up, but seeds.data, init and train are all set")
    return list(range(base.seed, base.seed + parsed.seeds)) if isinstance(parsed.seeds, int) else parsed.seeds


def _rows(group: Mapping[str, Column]) -> Iterator[dict[str, Any]]:
    for values in zip(*group.values(), strict=True):
        yield dict(zip(group, values, strict=True))


def _merge(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {key: value for row in rows for key, value in row.items()}


def _rule(table: Mapping[str, Any], points: Sequence[Mapping[str, Any]], base: Any) -> dict[str, Any]:
    """An `exclude` table by axis: nested tables are keys, unless the component itself is an axis."""
    axes = points[0] if points else {}
    kept = {key: value for key, value in table.items() if key in axes}
    return kept | dict(dotted({key: value for key, value in table.items() if key not in axes}, base))


def _with_natural(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The points, of which those without attack have the attacks of the others as `natural`."""
    of_all = {"fraction", "in_cohort", "schedule", "natural"}
    for key in dict.fromkeys(key for point in points for key in point):
        if key.startswith("attack.") and key.split(".")[1] not in of_all:
            raise ConfigError(
                f"sweep.natural: does not go with the axis {key}; list the attacks with their values"
            )
    tables = {id(table): table for point in points if (table := point.get("attack"))}
    others: list[dict[str, Any]] = []
    for table in tables.values():
        trigger = {key: value for key, value in table.items() if key not in of_all}
        if table["name"] != "none" and trigger not in others:
            others.append(trigger)
    # One table for all cells that shared one.
    filled = {key: {**table, "natural": others} for key, table in tables.items() if table["name"] == "none"}
    if not filled or not others:
        raise ConfigError('sweep.natural: needs "none" and another attack among the attacks of the sweep')
    return [
        {**point, "attack": filled[id(point["attack"])]} if id(point.get("attack")) in filled else point
        for point in points
    ]


def _without(points: list[dict[str, Any]], rules: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The points that no `exclude` table matches; each table must match some."""
    left = points
    for number, rule in enumerate(rules):
        where = f"sweep.exclude[{number}]"
        for key, wanted in rule.items():
            if points and key not in points[0]:
                raise ConfigError(f"{where}: {unknown_name('axis', key, points[0])}")
            if key in COMPONENTS and not isinstance(wanted, (str, dict)):
                raise ConfigError(f"{where}.{key}: must be a name or a table, got {wanted!r}")
        if not any(_matches(point, rule) for point in points):
            raise ConfigError(f"{where}: no cell has {', '.join(f'{k}={v}' for k, v in rule.items())}")
        left = [point for point in left if not _matches(point, rule)]
    return left


def _matches(point: Mapping[str, Any], rule: Mapping[str, Any]) -> bool:
    """True if a cell has all the values of an `exclude` table; a string names a component."""
    for key, wanted in rule.items():
        value = point[key]
        if key in COMPONENTS:
            wanted = {"name": wanted} if isinstance(wanted, str) else wanted
            if any(value.get(name) != item for name, item in wanted.items()):
                return False
        elif value != wanted:
            return False
    return True
