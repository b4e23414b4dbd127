"""Names for tables and figures: what the literature calls a configured component, and words for keys."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from fljax.aggregators import POST_AGGREGATORS, PRE_AGGREGATORS, RULES
from fljax.clients import CLIENT_ALGORITHMS
from fljax.config.components import find_attack
from fljax.config.schema import AggregatorConfig, AttackConfig, Component, jsonable
from fljax.data import DATASETS, PARTITIONS
from fljax.errors import ConfigError
from fljax.models import MODELS
from fljax.registry import Registry

NO_ATTACK = "no attack"
# What a rule and an attack are tried on, by the table of a configuration.
SETTING: Mapping[str, Registry] = {
    "data": DATASETS,
    "model": MODELS,
    "partition": PARTITIONS,
    "client": CLIENT_ALGORITHMS,
}
# Keys whose last part alone says too little, or something else; others are their words without underscores.
_AXES = {
    "aggregator": "rule",
    "attack.fraction": "malicious clients",
    "num_clients": "clients",
    "cohort_size": "clients per round",
    "attack.in_cohort": "malicious clients per round",
    "root.size": "root examples",
    "root.bias": "share of the bias class in the root data",
    "partition.bias": "label bias",
    "partition.alpha": "Dirichlet α",
    "model.hidden": "hidden units",
    "rounds": "rounds",
    "eval_every": "rounds between evaluations",
    "local.steps": "local steps",
    "local.epochs": "local epochs",
    "server.learning_rate": "server's learning rate",
    "num_malicious": "assumed malicious",
    "trim": "trimmed at each end",
}
# Shares that are shown in percent.
_PERCENT = {"attack.fraction"}


def words(key: str) -> str:
    """A key as words.

    Example:
        >>> [words(key) for key in ("num_malicious", "local.learning_rate", "bucket_size")]
        ['assumed malicious', 'local learning rate', 'bucket size']
    """
    own = _AXES.get(key) or _AXES.get(key.rpartition(".")[2] if key.startswith("aggregator.") else key)
    return own or key.removeprefix("aggregator.").replace("_", " ").replace(".", " ")


def axis_title(key: str) -> str:
    """An axis of a sweep as words.

    Example:
        >>> axis_title("attack.fraction"), axis_title("aggregator.num_malicious")
        ('malicious clients (%)', 'assumed malicious')
    """
    return f"{words(key)} (%)" if key in _PERCENT else words(key)


def axis_number(key: str, value: float) -> float:
    """A number on an axis in the unit of its title."""
    return round(100 * value, 10) if key in _PERCENT else value


def axis_value(key: str, label: str) -> str:
    """A value on an axis in the unit of its title, as text.

    Example:
        >>> axis_value("attack.fraction", "0.15"), axis_value("root.size", "100"), axis_value("data", "mnist")
        ('15', '100', 'MNIST')
    """
    if key == "data":
        return DATASETS[label].title if label in DATASETS else label
    try:
        return f"{axis_number(key, float(label)):.12g}" if key in _PERCENT else label
    except ValueError:
        return label


def axis_text(key: str, label: str) -> str:
    """An axis and a value on it.

    Example:
        >>> axis_text("attack.fraction", "0.15"), axis_text("root.size", "100")
        ('malicious clients 15 %', 'root examples 100')
    """
    return f"{words(key)} {axis_value(key, label)}" + " %" * (key in _PERCENT)


def rule_title(config: AggregatorConfig) -> str:
    """A rule's name in the literature, with what runs before and after it."""
    before = [PRE_AGGREGATORS.find(piece.name).title for piece in config.pre]
    behind = [POST_AGGREGATORS.find(piece.name).title for piece in config.post]
    return " + ".join([*before, RULES.find(config.name).title, *behind])


def attack_title(config: AttackConfig) -> str:
    """An attack's name in the literature, with its factor if one was given."""
    if config.name == "none":
        return NO_ATTACK
    title = find_attack(config.name).title
    factor = config.parameters.get("factor")
    return f"{title} ×{factor:g}" if isinstance(factor, (int, float)) else title


def component_title(config: Component) -> str:
    """The title of a component of any kind."""
    if isinstance(config, AggregatorConfig):
        return rule_title(config)
    return attack_title(config) if isinstance(config, AttackConfig) else config.name


def titles(configs: Sequence[Component]) -> list[str]:
    """A name for each; those that would be alike come with the values in which they differ.

    Example:
        >>> titles([AggregatorConfig(name="krum", num_malicious=f) for f in (1, 2)])
        ['Krum (assumed malicious 1)', 'Krum (assumed malicious 2)']
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
        return _given(shown) or "default"

    own = {name: iter(tables) for name, tables in alike.items()}
    return [f"{name} ({detail(name, next(own[name]))})" if len(alike[name]) > 1 else name for name in names]


def setting_titles(config: Mapping[str, Any]) -> dict[str, str]:
    """Data, model, partition and clients of a resolved configuration in words, those of them that it has.

    Example:
        >>> setting_titles({"model": {"name": "cnn"}, "partition": {"name": "label_bias", "bias": 0.5}})
        {'model': 'CNN', 'partition': 'label bias 0.5'}
    """
    found = {}
    for kind, known in SETTING.items():
        part = config.get(kind)
        if part == {"name": "sgd"}:  # what clients do where nothing is said
            continue
        if not isinstance(part, Mapping) or not isinstance(part.get("name"), str):
            continue
        name = part["name"]
        given = {
            key: value for key, value in part.items() if key not in ("name", "dir") and value is not None
        }
        if kind == "data" and given.get("normalize") is False:  # as it is where nothing is said
            del given["normalize"]
        if kind == "partition" and name == "label_bias" and set(given) == {"bias"}:
            found[kind] = f"label bias {given['bias']}"
            continue
        title = known[name].title if name in known else name.replace("_", " ")
        found[kind] = f"{title} ({_given(given)})" if given else title
    return found


def component_titles(config: Mapping[str, Any]) -> tuple[str, str]:
    """Titles of a resolved configuration's rule and attack; their names if they are not known here."""
    try:
        rule = rule_title(AggregatorConfig.model_validate(config.get("aggregator")))
        return rule, attack_title(AttackConfig.model_validate(config.get("attack")))
    except (ValidationError, ConfigError):
        parts = [config.get(key) for key in ("aggregator", "attack")]
        rule, attack = (str(part.get("name", "?")) if isinstance(part, dict) else "?" for part in parts)
        return rule, attack


def run_titles(config: Mapping[str, Any], clients: Mapping[str, Any]) -> tuple[str, str]:
    """A run's heading, its rule under its attack, and what it is of.

    Args:
        config: resolved.
        clients: `num_clients` and `num_malicious`, those there are.

    Returns:
        Heading and facts.
    """
    rule, attack = component_titles(config)
    facts = [*setting_titles(config).values()]
    if clients.get("num_clients"):
        malicious = clients.get("num_malicious")
        facts.append(
            f"{clients['num_clients']:,} clients" + (f", {malicious:,} malicious" if malicious else "")
        )
    facts += [f"{config[key]:,} rounds" for key in ("rounds",) if isinstance(config.get(key), int)]
    return under([rule], [attack]), " · ".join([*facts, f"seed {config.get('seed', 0)}"])


def under(rules: Sequence[str], attacks: Sequence[str]) -> str:
    """Rules under attacks: the names where there is one, else how many.

    Example:
        >>> under(["Krum"], ["Trim attack"]), under(["Krum", "Median"], ["ALIE", "no attack"])
        ('Krum under the Trim attack', '2 rules under ALIE')
    """
    who = rules[0] if len(rules) == 1 else f"{len(rules)} rules"
    real = [attack for attack in attacks if attack != NO_ATTACK]
    if not real:
        return f"{who} without attack"
    if len(real) > 1:
        return f"{who} under {len(real)} attacks"
    return f"{who} under {'the ' * real[0].endswith('attack')}{real[0]}"


def _given(values: Mapping[str, Any]) -> str:
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}
    return ", ".join(f"{words(key)} {text.replace('_', ' ')}" for key, text in texts.items())
