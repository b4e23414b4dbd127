"""Published results, for reports that show them beside one's own."""

import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

from fljax.config import keys
from fljax.config.components import COUNTS
from fljax.errors import ConfigError, unknown_name

# All published numbers are for this share of malicious clients.
FRACTION = 0.2


class Value(NamedTuple):
    """A published cell.

    Attributes:
        text: as it was published.
        test_error: final test error.
        attack_success_rate: or None.
        confidence: H, M or L; see `published.toml`.
    """

    text: str
    test_error: float
    attack_success_rate: float | None
    confidence: str


class Published(NamedTuple):
    """A published table.

    Attributes:
        name: in `published.toml`.
        title: what it is, and where from.
        columns: title to what a cell's configuration must say, by dotted key.
        rows: attack to a value per column, None where none is known.
    """

    name: str
    title: str
    columns: dict[str, dict[str, Any]]
    rows: dict[str, list[Value | None]]

    def place(self, config: Mapping[str, Any]) -> tuple[str, str] | None:
        """Attack and column of a cell with this resolved configuration; None if there is no place for it.

        Data, rounds and numbers of clients are not looked at.
        """
        attack = config.get("attack")
        # Without attack, too, since the rules may be told of it.
        if not isinstance(attack, dict) or attack.get("fraction") != FRACTION:
            return None
        row = next((name for name in self.rows if _matches(attack, {"name": name}, {"fraction"})), None)
        column = next((title for title, wanted in self.columns.items() if _agrees(config, wanted)), None)
        return None if row is None or column is None else (row, column)


def published(name: str) -> Published:
    """A published table by name.

    Raises:
        ConfigError: if there is none of this name.

    Example:
        >>> table = published("table3_uci_har")
        >>> table.rows["scaling_attack"][1]
        Value(text='0.10/0.03', test_error=0.1, attack_success_rate=0.03, confidence='L')
    """
    tables = read_published()
    if name not in tables:
        raise ConfigError(unknown_name("published table", name, tables))
    return tables[name]


def published_tables(names: str | Sequence[str]) -> list[Published]:
    """Published tables by name, one name or several, each once.

    Raises:
        ConfigError: as `published`.
    """
    return [published(name) for name in dict.fromkeys([names] if isinstance(names, str) else names)]


@cache
def read_published() -> dict[str, Published]:
    """All published tables by name."""
    values = tomllib.loads(
        resources.files("fljax.sweeps").joinpath("published.toml").read_text(encoding="utf-8")
    )
    columns = values.pop("columns")
    return {
        name: Published(
            name,
            table.pop("title"),
            columns[table.pop("columns")],
            {attack: [_value(text) for text in texts] for attack, texts in table.items()},
        )
        for name, table in values.items()
    }


def _value(text: str) -> Value | None:
    if not text:
        return None
    numbers, confidence = text.split()
    error, _, success = numbers.partition("/")
    return Value(numbers, float(error), float(success) if success else None, confidence)


def _agrees(config: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """True if a resolved configuration has the wanted values, by dotted key."""
    for key, item in wanted.items():
        value = keys.get(config, key)
        if not (_matches(value, item, (*COUNTS, "strict")) if isinstance(item, dict) else value == item):
            return False
    return True


def _matches(component: Any, wanted: Mapping[str, Any], apart: Any) -> bool:
    """True if a component's keys and values are the wanted ones, but for some keys and those not set."""
    if not isinstance(component, dict):
        return False
    return {k: v for k, v in component.items() if k not in apart and v not in (None, [])} == wanted
