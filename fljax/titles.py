"""Names for tables and figures: what the literature calls a configured component."""

from collections.abc import Sequence
from typing import Any

from fljax.aggregators import PRE_AGGREGATORS, RULES
from fljax.attacks import ATTACKS
from fljax.components import find
from fljax.config import AggregatorConfig, AttackConfig, Component, jsonable


def rule_title(config: AggregatorConfig) -> str:
    """A rule's name in the literature, with what runs before it."""
    before = [find("pre-aggregator", PRE_AGGREGATORS, piece.name).title for piece in config.pre]
    return " + ".join([*before, find("rule", RULES, config.name).title])


def attack_title(config: AttackConfig) -> str:
    """An attack's name in the literature, with its factor if one was given."""
    if config.name == "none":
        return "no attack"
    title = find("attack", {"none": None, **ATTACKS}, config.name).title
    factor = config.parameters.get("factor")
    return f"{title} ×{factor:g}" if isinstance(factor, (int, float)) else title


def component_title(config: Component) -> str:
    """What a component of any kind is called."""
    if isinstance(config, AggregatorConfig):
        return rule_title(config)
    return attack_title(config) if isinstance(config, AttackConfig) else config.name


def titles(configs: Sequence[Component]) -> list[str]:
    """A name for each; those that would be alike come with the keys in which they differ.

    Example:
        >>> titles([AggregatorConfig(name="krum", num_malicious=f) for f in (1, 2)])
        ['Krum (num_malicious=1)', 'Krum (num_malicious=2)']
    """
    names = [component_title(config) for config in configs]
    alike: dict[str, list[dict[str, Any]]] = {}
    for name, config in zip(names, configs, strict=True):
        alike.setdefault(name, []).append(jsonable(config.model_dump()))

    def differing(tables: list[dict[str, Any]]) -> set[str]:
        keys = {key for table in tables for key in table}
        return {key for key in keys if any(table.get(key) != tables[0].get(key) for table in tables)}

    keys = {name: differing(tables) for name, tables in alike.items()}

    def detail(name: str, own: dict[str, Any]) -> str:
        shown = {key: value for key, value in own.items() if key in keys[name] and value not in (None, [])}
        return ", ".join(f"{key}={value}" for key, value in shown.items()) or "default"

    own = {name: iter(tables) for name, tables in alike.items()}
    return [f"{name} ({detail(name, next(own[name]))})" if len(alike[name]) > 1 else name for name in names]
