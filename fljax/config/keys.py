"""Dotted keys: `aggregator.pre.0.radius` names a value in nested tables; a number counts a list from 0."""

from collections.abc import Mapping
from typing import Any

import pydantic

from fljax.errors import ConfigError
from fljax.host.toml import MOST_DEPTH


def get(values: Any, key: str, default: Any = None) -> Any:
    """The value under a key.

    Args:
        values: nested tables, lists and parsed tables of a configuration.
        key: dotted; "" for the values themselves.
        default: what there is where there is no such key.

    Example:
        >>> values = {"aggregator": {"name": "mean", "pre": [{"name": "clip", "radius": 2.0}]}}
        >>> get(values, "aggregator.pre.0.radius"), get(values, "aggregator.pre.1.radius", "none")
        (2.0, 'none')
    """
    for part in key.split(".") if key else ():
        if isinstance(values, pydantic.BaseModel):
            values = getattr(values, part, default)
        elif isinstance(values, Mapping):
            values = values.get(part, default)
        elif isinstance(values, (list, tuple)) and part.isdecimal() and int(part) < len(values):
            values = values[int(part)]
        else:
            return default
    return values


def place(values: dict[str, Any], key: str) -> tuple[dict[str, Any], str]:
    """The table that holds a key, and the key's last part; tables that are missing on the way are made.

    Raises:
        ConfigError: if it is no dotted key, or leads through what is no table.

    Example:
        >>> values = {}
        >>> place(values, "local.steps"), values
        (({}, 'steps'), {'local': {}})
    """
    *parents, last = key.split(".")
    if not all([*parents, last]):
        raise ConfigError(f"{key!r} is not a dotted key, for example local.steps")
    if len(parents) >= MOST_DEPTH:
        raise ConfigError(f"{key[:40]}…: a key has at most {MOST_DEPTH} parts, got {len(parents) + 1:,}")
    table: Any = values
    for parent in parents:
        if isinstance(table, list):
            if not (parent.isdecimal() and int(parent) < len(table)):
                raise ConfigError(f"{key}: {parent} must be below {len(table)}, the list's length")
            table = table[int(parent)]
        else:
            table = table.setdefault(parent, {})
        if not isinstance(table, (dict, list)):
            raise ConfigError(f"{key}: {parent} is not a table")
    if not isinstance(table, dict):
        raise ConfigError(f"{key}: {parents[-1]} is not a table")
    return table, last


def put(values: dict[str, Any], key: str, value: Any) -> None:
    """Set the value under a key, in place.

    Raises:
        ConfigError: as `place`.

    Example:
        >>> values = {"pre": [{"name": "clip"}]}
        >>> put(values, "pre.0.radius", 2.0)
        >>> values
        {'pre': [{'name': 'clip', 'radius': 2.0}]}
    """
    table, last = place(values, key)
    table[last] = value


def delete(values: dict[str, Any], key: str) -> None:
    """Remove the value under a key, in place, if there is one.

    Example:
        >>> values = {"local": {"steps": 2, "batch_size": 8}}
        >>> delete(values, "local.steps")
        >>> values
        {'local': {'batch_size': 8}}
    """
    parents, _, last = key.rpartition(".")
    table = get(values, parents)
    if isinstance(table, dict):
        table.pop(last, None)


def flatten(values: Any, prefix: str = "") -> dict[str, Any]:
    """Nested tables as one with dotted keys; a list is a value.

    Example:
        >>> flatten({"rounds": 10, "local": {"steps": 2, "optimizer": {"name": "sgd"}}})
        {'rounds': 10, 'local.steps': 2, 'local.optimizer.name': 'sgd'}
    """
    if not isinstance(values, Mapping):
        return {prefix: values}
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flatten(value, f"{prefix}.{key}" if prefix else key)
    return flat


def within(values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The entries whose dotted keys lead into one table, by the rest of their keys.

    Example:
        >>> within({"attack.z": 1.5, "aggregator.trim": 2, "aggregator.pre.0.radius": 3.0}, "aggregator")
        {'trim': 2, 'pre.0.radius': 3.0}
    """
    start = f"{prefix}."
    return {key.removeprefix(start): value for key, value in values.items() if key.startswith(start)}
