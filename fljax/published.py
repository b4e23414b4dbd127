"""Published results, for reports that show them beside one's own."""

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

from fljax.attacks import ATTACKS
from fljax.errors import ConfigError, unknown_name

# Keys that do not tell which rule or attack it is: every table of the kind has them, or they count attackers.
_APART = {
    "aggregator": {"num_malicious", "trim", "pre"},
    "attack": {"fraction", "in_cohort", "schedule"},
}


class Value(NamedTuple):
    """A published cell.

    Attributes:
        test_error: final test error.
        attack_success_rate: or None.
        confidence: H, M or L; see `published.toml`.
    """

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

    def row(self, config: Mapping[str, Any]) -> str | None:
        """The row of a cell with this configuration: its attack, None where that is an attack of no row."""
        return next((name for name in self.rows if _says(config, "attack", {"name": name})), None)

    def column(self, config: Mapping[str, Any]) -> str | None:
        """The column of a cell with this configuration, or None."""
        return next(
            (
                title
                for title, wanted in self.columns.items()
                if all(_says(config, key, value) for key, value in wanted.items())
            ),
            None,
        )


def attack_title(name: str) -> str:
    """A row's title."""
    return "no attack" if name == "none" else ATTACKS[name].title


def published(name: str) -> Published:
    """A published table by name.

    Raises:
        ConfigError: if there is none of this name.

    Example:
        >>> table = published("table3_uci_har")
        >>> table.rows["scaling_attack"][1]
        Value(test_error=0.1, attack_success_rate=0.03, confidence='L')
    """
    tables = _read()
    if name not in tables:
        raise ConfigError(unknown_name("published table", name, tables))
    return tables[name]


@cache
def _read() -> dict[str, Published]:
    values = tomllib.loads(resources.files("fljax").joinpath("published.toml").read_text(encoding="utf-8"))
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
    return Value(float(error), float(success) if success else None, confidence)


def _says(config: Mapping[str, Any], key: str, wanted: Any) -> bool:
    """Whether a resolved configuration has this value; a component must have these keys and no others."""
    value: Any = config
    for part in key.split("."):
        value = value[part]
    if not isinstance(wanted, dict):
        return bool(value == wanted)
    apart = _APART.get(key, set())
    return not value.get("pre") and {k: v for k, v in value.items() if k not in apart} == wanted
