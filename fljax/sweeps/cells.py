"""From the points of a sweep's axes to its cells: configurations, identities and what tables show."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import pydantic

from fljax.config import keys
from fljax.config.loading import apply_overrides
from fljax.config.schema import LATER, WITHOUT_EFFECT, Component, ExperimentConfig, jsonable, parse_config
from fljax.config.titles import component_title, titles
from fljax.errors import ConfigError
from fljax.sweeps.columns import COMPONENTS, Column

Point = Mapping[str, Any]
# Told how many cells are done, and of how many.
Told = Callable[[int, int], None]
# Cells between two calls of it.
TOLD_EVERY = 1000


class Cell(NamedTuple):
    """One run of a sweep.

    Attributes:
        number: from 0.
        id: 16 hex digits, the hash of its configuration.
        axes: axis name to what tables show: a number, a string, or a component's title.
        config: its configuration.
    """

    number: int
    id: str
    axes: dict[str, Any]
    config: ExperimentConfig


def make_cells(
    values: Mapping[str, Any], points: Sequence[Point], told: Told | None = None
) -> tuple[dict[str, Column], list[Cell]]:
    """The distinct cells of a sweep, in order, and the values of its axes as tables show them.

    Args:
        values: what all cells share, as TOML gives it.
        points: the values of every cell by dotted key; equal values of an axis are best one object.
        told: told of the progress.

    Raises:
        ConfigError: naming the cell that is wrong.
    """
    tables = _Tables(values)
    configs: list[ExperimentConfig] = []
    identities: dict[str, int] = {}
    for index, point in enumerate(points):
        configs.append(tables.configure(point))
        identities.setdefault(tables.identity(configs[-1]), index)
        if told is not None and (index + 1) % TOLD_EVERY == 0:
            told(index + 1, len(points))
    shown = _shown(tables, points, configs)
    cells = [
        Cell(number, identity, {key: column[index] for key, column in shown.items()}, configs[index])
        for number, (identity, index) in enumerate(identities.items())
    ]
    return {key: list(dict.fromkeys(cell.axes[key] for cell in cells)) for key in shown}, cells


class _Tables:
    """The tables of configurations, each parsed and written as text once for all cells that have it.

    A cell's configuration is then put together from them, which takes a tenth of the time. Values are told
    apart by identity: 1 and true are equal.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values
        base = parse_config(values)
        self._base = {name: getattr(base, name) for name in base.model_fields_set}
        self._parsed: dict[tuple[Any, ...], Any] = {}
        self._keys: dict[tuple[str, ...], list[tuple[str, tuple[str, ...]]]] = {}
        self._plain: dict[int, tuple[Any, Any]] = {}
        self._texts: dict[int, tuple[Any, str]] = {}

    def configure(self, point: Point) -> ExperimentConfig:
        """The configuration of one cell."""
        # What decides about a table are the values of all keys that lead into it.
        known = {
            top: (top, *leading, *(id(point[key]) for key in leading))
            for top, leading in self._tables(tuple(point))
        }
        if all(key in self._parsed for key in known.values()):
            fields = self._base | {top: self._parsed[key] for top, key in known.items()}
            try:
                return ExperimentConfig.model_validate(fields)
            except pydantic.ValidationError:
                pass  # it is said below, with the cell
        config = _configure(self._values, point)
        self._parsed |= {key: getattr(config, top) for top, key in known.items()}
        return config

    def _tables(self, names: tuple[str, ...]) -> list[tuple[str, tuple[str, ...]]]:
        """The tables that dotted keys lead into, with their keys."""
        if names not in self._keys:
            found: dict[str, tuple[str, ...]] = {}
            for name in names:
                top = name.partition(".")[0]
                found[top] = (*found.get(top, ()), name)
            self._keys[names] = list(found.items())
        return self._keys[names]

    def plain(self, value: Any) -> Any:
        """A field of a configuration as JSON holds it."""
        if isinstance(value, tuple):
            return [self.plain(each) for each in value]
        if not isinstance(value, pydantic.BaseModel):
            return jsonable(value)
        if id(value) not in self._plain:
            self._plain[id(value)] = value, jsonable(value.model_dump())
        return self._plain[id(value)][1]

    def identity(self, config: ExperimentConfig) -> str:
        """The hash of a configuration's text."""
        fields = [
            f'"{name}": {self._text(name, value)}'
            for name in _FIELDS
            if (value := getattr(config, name)) != _LATER.get(name, _NEVER)
        ]
        if config.plugins:
            fields.append(f'"plugins": {text_of(config.plugin_names)}')
        return hashlib.sha256(f"{{{', '.join(fields)}}}".encode()).hexdigest()[:16]

    def _text(self, name: str, value: Any) -> str:
        if not isinstance(value, pydantic.BaseModel):
            return str(value) if type(value) is int else text_of(self.plain(value))
        if id(value) not in self._texts:
            plain = self.plain(value)
            if later := keys.within(_LATER, name):
                plain = {key: item for key, item in plain.items() if item != later.get(key, _NEVER)}
            self._texts[id(value)] = value, text_of(plain)
        return self._texts[id(value)][1]


# The defaults of keys that cells of earlier versions did not have; nothing is equal to `_NEVER`.
_NEVER = object()
_DEFAULTS = ExperimentConfig()
_LATER = {
    # Those within a table are compared in plain form.
    key: jsonable(value) if "." in key and value is not _NEVER else value
    for key in LATER
    for value in [keys.get(_DEFAULTS, key, _NEVER)]
}
_FIELDS = sorted(ExperimentConfig.model_fields.keys() - {*WITHOUT_EFFECT, "plugins"})


def text_of(values: Any) -> str:
    """Plain values as one text, infinities and NaN told apart."""
    return json.dumps(jsonable(values), sort_keys=True, default=str)


def _configure(values: Mapping[str, Any], point: Point) -> ExperimentConfig:
    """The configuration of one cell: components first, then single values."""
    whole = {f"{key}.{name}": item for key in point if key in COMPONENTS for name, item in point[key].items()}
    single = {key: value for key, value in point.items() if key not in COMPONENTS}
    try:
        config = parse_config(apply_overrides(apply_overrides(values, whole), single))
        for key in COMPONENTS:
            component_title(getattr(config, key))  # a misspelt name is this cell's
        return config
    except ConfigError as error:
        shown = {key: value["name"] if key in COMPONENTS else value for key, value in point.items()}
        raise ConfigError(f"{error} {in_the_cell(shown)}") from None


def in_the_cell(values: Mapping[str, Any]) -> str:
    """Where an error is: a cell's axes with their values, on one line.

    Example:
        >>> in_the_cell({"aggregator": "Krum", "local.learning_rate": 0.1})
        '(in the cell aggregator=Krum, local.learning_rate=0.1)'
    """
    shown = ", ".join(f"{key}={value}" for key, value in values.items())
    return f"(in the cell {' '.join(shown.split())})"


def _shown(
    tables: _Tables, points: Sequence[Point], configs: Sequence[ExperimentConfig]
) -> dict[str, list[Any]]:
    """The columns that tell cells apart; aggregator, attack, data and seed also where they do not vary."""
    names = dict.fromkeys(key for point in points for key in point)
    shown: dict[str, list[Any]] = {}
    for key in dict.fromkeys(["aggregator", "attack", "data", *names]):
        if key in COMPONENTS:
            shown[key] = _titles([getattr(config, key) for config in configs], key, names)
        else:
            top, _, rest = key.partition(".")
            # The tables live as long as their configurations, so that their identities are theirs.
            found: dict[int, Any] = {}
            for config in configs:
                table = getattr(config, top, None)
                if id(table) not in found:
                    found[id(table)] = _shown_value(keys.get(tables.plain(table), rest))
            shown[key] = [found[id(getattr(config, top, None))] for config in configs]
    shown["seed"] = shown.pop("seed", [config.seed for config in configs])
    return shown


def _titles(parts: Sequence[Component], key: str, names: Mapping[str, Any]) -> list[str]:
    """Titles of the components under a key, without the values that are axes of their own."""
    own = keys.within(names, key)
    texts: dict[int, str] = {}
    distinct: dict[str, Component] = {}
    for part in parts:
        if id(part) not in texts:
            left = {k: v for k, v in part.model_dump().items() if k not in own or k == "name"}
            component = type(part).model_validate(left)
            texts[id(part)] = text_of(component.model_dump())
            distinct.setdefault(texts[id(part)], component)
    of_text = dict(zip(distinct, titles(list(distinct.values())), strict=True))
    return [of_text[texts[id(part)]] for part in parts]


def _shown_value(value: Any) -> Any:
    """A value of an axis as a table can hold it."""
    plain = isinstance(value, (int, float, str, bool)) or value is None
    return value if plain else json.dumps(value, default=str)
