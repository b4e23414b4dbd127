"""The names that a configuration can use, of all registries, and the tables of `fljax list`."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from rich.text import Text

from fljax.aggregators import POST_AGGREGATORS, PRE_AGGREGATORS, RULES
from fljax.attacks import ATTACKS, SCHEDULES
from fljax.clients import CLIENT_ALGORITHMS
from fljax.config.components import (
    Parameters,
    attack_parameters,
    model_parameters,
    partition_parameters,
    rule_parameters,
)
from fljax.config.signatures import keyword_parameters
from fljax.data import AUGMENTATIONS, DATASETS, PARTITIONS
from fljax.errors import ConfigError, unknown_name
from fljax.host.terminal import Table
from fljax.losses import LOSSES
from fljax.metrics import METRICS
from fljax.models import MODELS
from fljax.registry import Entry, Registry


class Listed(NamedTuple):
    """One name.

    Attributes:
        name: as a configuration gives it.
        summary: what it is or does, one sentence.
        function: the function or class whose docstring describes it; None for "none".
        parameters: `{name: (type, default)}` of what its table may hold besides what all of its kind hold.
        facts: what else is known, label to text.
        table: how a configuration names it, `{}` for its table.
        title: what the literature calls it, or "".
    """

    name: str
    summary: str
    function: Callable[..., Any] | None
    parameters: Parameters
    facts: Mapping[str, str]
    table: str
    title: str = ""


class Kind(NamedTuple):
    """One list.

    Attributes:
        one: what one of its names is.
        summary: the heading of the entries' summaries.
        entries: makes them, in order.
    """

    one: str
    summary: str
    entries: Callable[[], list[Listed]]


def _rules() -> list[Listed]:
    def entry(name: str, rule: Entry, table: str) -> Listed:
        facts = {"tolerates f when": rule.assumes, "source": rule.source}
        parameters = rule_parameters(rule.function)
        return Listed(name, rule.summary, rule.function, parameters, facts, table, rule.title)

    before = 'aggregator = { name = "median", pre = [{}] }'
    behind = 'aggregator = { name = "median", post = [{}] }'
    return [
        *(entry(name, rule, "aggregator = {}") for name, rule in RULES.items()),
        *(entry(name, rule, before) for name, rule in PRE_AGGREGATORS.items()),
        *(entry(name, rule, behind) for name, rule in POST_AGGREGATORS.items()),
    ]


def _attacks() -> list[Listed]:
    nothing = {"knows": "", "optimises": "", "source": ""}
    return [
        Listed("none", "Nobody is malicious.", None, {}, nothing, "attack = {}"),
        *(
            Listed(
                name,
                attack.summary,
                attack.function,
                attack_parameters(attack.function),
                {
                    "knows": attack.assumes,
                    "optimises": attack.facts["optimises"],
                    "source": attack.source,
                },
                "attack = {}",
                attack.title,
            )
            for name, attack in ATTACKS.items()
        ),
    ]


def _schedules() -> list[Listed]:
    table = 'attack = { name = "sign_flip", schedule = {} }'
    return [
        Listed(name, entry.summary, entry.function, keyword_parameters(entry.function), {}, table)
        for name, entry in SCHEDULES.items()
    ]


def _of(registry: Registry, parameters: Callable[[Any], Parameters], table: str) -> list[Listed]:
    return [
        Listed(
            name,
            entry.summary,
            entry.function,
            parameters(entry.function),
            {"source": entry.source},
            table,
            "" if entry.title == name else entry.title,
        )
        for name, entry in registry.items()
    ]


KINDS: Mapping[str, Kind] = {
    "rules": Kind("rule", "what it does", _rules),
    "attacks": Kind("attack", "what it does", _attacks),
    "schedules": Kind("schedule", "when malicious clients attack", _schedules),
    "datasets": Kind("data set", "what it is", partial(_of, DATASETS, keyword_parameters, "data = {}")),
    "models": Kind("model", "what it is", partial(_of, MODELS, model_parameters, "model = {}")),
    "partitions": Kind(
        "partition", "what it does", partial(_of, PARTITIONS, partition_parameters, "partition = {}")
    ),
    "augmentations": Kind(
        "augmentation",
        "what it does",
        partial(_of, AUGMENTATIONS, keyword_parameters, "local = { augment = [{}] }"),
    ),
    "clients": Kind(
        "client algorithm",
        "what clients do",
        partial(_of, CLIENT_ALGORITHMS, keyword_parameters, "client = {}"),
    ),
    "losses": Kind("loss", "what it is", partial(_of, LOSSES, keyword_parameters, "loss = {}")),
    "metrics": Kind("metric", "what it is", partial(_of, METRICS, keyword_parameters, "metrics = [{}]")),
}


def list_table(kind: str) -> Table:
    """The table of `fljax list KIND`."""
    entries = KINDS[kind].entries()
    table = Table(title=kind, title_justify="left")
    table.add_column("name", no_wrap=True)
    for header in (KINDS[kind].summary, "parameters", *entries[0].facts):
        table.add_column(header)
    for entry in entries:
        place = "pre: " * (entry.name in PRE_AGGREGATORS) + "post: " * (entry.name in POST_AGGREGATORS)
        cells = (place + entry.name, entry.summary, _shown(entry.parameters), *entry.facts.values())
        table.add_row(*map(Text, cells))
    return table


def _shown(parameters: Parameters) -> str:
    return ", ".join(
        name if default is ... else f"{name}={default!r}" for name, (_, default) in parameters.items()
    )


def find_entry(kind: str, name: str) -> Listed:
    """The entry of one name.

    Raises:
        ConfigError: if there is none, with the nearest.
    """
    entries = {entry.name: entry for entry in KINDS[kind].entries()}
    if name not in entries:
        titles = {entry.title: entry.name for entry in entries.values() if entry.title}
        raise ConfigError(unknown_name(KINDS[kind].one, name, entries, titles))
    return entries[name]


def kind_of(name: str) -> str | None:
    """The list that has this name, if only one has."""
    kinds = [kind for kind in KINDS if any(entry.name == name for entry in KINDS[kind].entries())]
    return kinds[0] if len(kinds) == 1 else None
