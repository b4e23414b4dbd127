"""From a TOML file and overrides to a checked configuration."""

import copy
import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fljax.config import keys
from fljax.config.plain import finite_or_not, parse_table
from fljax.config.plugins import beside
from fljax.config.schema import Component, ExperimentConfig, parse_config
from fljax.errors import ConfigError
from fljax.files import read_regular, reason
from fljax.host.toml import MOST_BYTES, read_toml_file

# A table with one of these keys is the values of an axis of a sweep.
RANGES = ("range", "linspace", "logspace")


# Keys of one meaning, of which a table has one: setting one drops the other.
EXCLUSIVE = {"local": {"steps": "epochs", "epochs": "steps"}}

# Files in a chain of `extends`.
MOST_FILES = 20


def apply_overrides(values: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Set dotted keys in nested tables; the input is left alone.

    Naming another component drops the parameters of the one it replaces, except those every table of its
    kind has (`attack.fraction`, `data.dir`); `local.epochs` drops `local.steps`, and the other way round. A
    number in a key counts the tables of a list from 0 (`aggregator.pre.0.radius`).

    Example:
        >>> old = {"attack": {"name": "trim_attack", "stretch": 3.0, "fraction": 0.2}}
        >>> apply_overrides(old, {"attack.name": "sign_flip"})
        {'attack': {'name': 'sign_flip', 'fraction': 0.2}}
    """
    result: dict[str, Any] = copy.deepcopy(dict(values))
    # Names first, so that parameters given beside a new name are that component's.
    for dotted, value in sorted(overrides.items(), key=lambda item: not item[0].endswith(".name")):
        table, key = keys.place(result, dotted)
        if key == "name":
            _make_room(table, dotted.split(".")[:-1], value)
        above, _, _ = dotted.rpartition(".")
        other = EXCLUSIVE.get(above, {}).get(key)
        if other is not None and f"{above}.{other}" not in overrides:
            table.pop(other, None)
        table[key] = copy.deepcopy(value)
    return result


def _make_room(table: dict[str, Any], path: Sequence[str], name: Any) -> None:
    """Drop a component's parameters where another takes its place, but not those its kind shares."""
    if table.get("name") in (None, name):
        return
    field = ExperimentConfig.model_fields.get(path[0]) if len(path) == 1 else None
    kept = getattr(field.annotation if field else Component, "model_fields", {})
    for key in [key for key in table if key not in kept]:
        del table[key]


def read_toml(path: str | Path) -> dict[str, Any]:
    """The values of a TOML or JSON file, on top of those of the file it `extends`, if it names one.

    `extends = "base.toml"` is a path from this file's folder. Tables are merged key by key; another
    component's name drops the parameters of the one it replaces, as in `apply_overrides`.

    Raises:
        ConfigError: if there is no such file, it is not TOML, or it extends itself.
    """
    return _read_toml(Path(path), ())


def read_with(path: str | Path, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a file with dotted keys set in them, its plugins and theirs looked for beside it.

    Raises:
        ConfigError: as `read_toml` and `apply_overrides`.
    """
    return apply_overrides(read_toml(path), beside(overrides, Path(path).parent))


def _read_toml(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    extending = f", which {seen[-1].name} extends" if seen else ""
    try:
        real = path.resolve()
        if real in seen:
            raise ConfigError(f"{path} extends itself")
        if len(seen) >= MOST_FILES:
            raise ConfigError(f"{path}: more than {MOST_FILES} files extend each other")
        if path.suffix == ".json":
            values = parse_table(read_regular(path, MOST_BYTES).decode("utf-8-sig"))
        else:
            values = read_toml_file(path)
    except ConfigError:
        raise
    except OSError as error:
        inside = path / "config.json"
        known = isinstance(error, IsADirectoryError) and inside.is_file()
        hint = f"; it is a run's folder, its configuration is {inside}" if known else ""
        raise ConfigError(
            f"cannot read configuration file {path}{extending}: {reason(error)}{hint}"
        ) from None
    except (tomllib.TOMLDecodeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        language = "JSON" if path.suffix == ".json" else "TOML"
        raise ConfigError(f"{path} is not valid {language}: {error}") from None
    except (ValueError, RuntimeError) as error:  # a name with a zero byte, links in a circle
        raise ConfigError(f"cannot read configuration file {str(path)!r}{extending}: {error}") from None
    base = values.pop("extends", None)
    values = beside(values, path.parent)
    if base is None:
        return values
    if not isinstance(base, str):
        raise ConfigError(f"{path}: extends must be the name of a file, got {base!r}")
    return merge(_read_toml(path.parent / base, (*seen, real)), values)


def merge(below: Mapping[str, Any], above: Mapping[str, Any], path: Sequence[str] = ()) -> dict[str, Any]:
    """Nested tables on top of others, which are left alone; `path` are the keys that lead to them.

    Example:
        >>> merge({"root": {"size": 100, "bias": 0.1}, "model": {"name": "cnn"}}, {"root": {"size": 50}})
        {'root': {'size': 50, 'bias': 0.1}, 'model': {'name': 'cnn'}}
        >>> old = {"attack": {"name": "trim_attack", "stretch": 3.0, "fraction": 0.2}}
        >>> merge(old, {"attack": {"name": "sign_flip"}})
        {'attack': {'name': 'sign_flip', 'fraction': 0.2}}
    """
    result = dict(below)
    if "name" in above:
        _make_room(result, path, above["name"])
    for key, value in above.items():
        other = EXCLUSIVE.get(".".join(path), {}).get(key)
        if other is not None and other not in above:
            result.pop(other, None)
        old = result.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping) and not value.keys() & {*RANGES}:
            value = merge(old, value, (*path, key))
        result[key] = value
    return result


def load_config(
    config: str | Path | Mapping[str, Any], overrides: Mapping[str, Any] | None = None
) -> ExperimentConfig:
    """Read, override and validate a configuration.

    Args:
        config: a TOML file; or a run's `config.json`; or such values themselves, as
            `json.loads(results.config[0])` gives them for a cell of a sweep.
        overrides: dotted keys to values, `{"aggregator.name": "median"}`.

    Returns:
        The frozen configuration.

    Raises:
        ConfigError: one sentence with the key, what was given and what is allowed.

    Example:
        >>> old = parse_config({"rounds": 20, "attack": {"name": "constant", "value": float("inf")}})
        >>> load_config(old.resolved(), {"rounds": 40}) == old.model_copy(update={"rounds": 40})
        True
    """
    if isinstance(config, (str, Path)):
        return parse_config(read_with(config, overrides or {}))
    if isinstance(config, Mapping):
        return parse_config(apply_overrides(finite_or_not(config), overrides or {}))
    if isinstance(config, ExperimentConfig):
        raise ConfigError("load_config reads a file or plain values; a configuration is `resolved()` first")
    raise ConfigError(f"load_config takes a path or a dictionary of values, got {of_type(config)}")


def check_loaded(config: Any) -> None:
    """Raise a ConfigError for anything but a configuration, which says where one comes from."""
    if not isinstance(config, ExperimentConfig):
        raise ConfigError(
            f"a configuration is what fljax.load_config makes of a file or values, got {of_type(config)}"
        )


def of_type(value: Any) -> str:
    """What somebody gave, for messages about something of another kind."""
    return "None" if value is None else f"a value of type {type(value).__name__}"
