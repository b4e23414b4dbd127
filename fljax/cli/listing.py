"""What a configuration can name: an entry for each name of each registry, and the tables of `fljax list`."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from rich.text import Text

from fljax import registry
from fljax.aggregators import PRE_AGGREGATORS, RULES
from fljax.attacks import ATTACKS, SCHEDULES
from fljax.attacks.wrappers import TASK_ARGUMENTS
from fljax.config.components import (
    Parameters,
    find,
    model_parameters,
    partition_parameters,
    rule_parameters,
)
from fljax.config.signatures import keyword_parameters
from fljax.data import DATASETS, PARTITIONS
from fljax.host.terminal import Table
from fljax.models import MODELS


class Entry(NamedTuple):
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
    entries: Callable[[], list[Entry]]


def _rules() -> list[Entry]:
    def entry(name: str, rule: registry.Entry, table: str) -> Entry:
        facts = {"tolerates f when": rule.assumes, "source": rule.source}
        parameters = rule_parameters(rule.function)
        return Entry(name, rule.summary, rule.function, parameters, facts, table, rule.title)

    before = 'aggregator = { name = "median", pre = [{}] }'
    return [
        *(entry(name, rule, "aggregator = {}") for name, rule in RULES.items()),
        *(entry(name, rule, before) for name, rule in PRE_AGGREGATORS.items()),
    ]


def _attacks() -> list[Entry]:
    nothing = {"knows": "", "optimises": "", "source": ""}
    return [
        Entry("none", "Nobody is malicious.", None, {}, nothing, "attack = {}"),
        *(
            Entry(
                name,
                attack.summary,
                attack.function,
                keyword_parameters(attack.function, TASK_ARGUMENTS),
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


def _schedules() -> list[Entry]:
    table = 'attack = { name = "sign_flip", schedule = {} }'
    return [
        Entry(name, entry.summary, entry.function, keyword_parameters(entry.function), {}, table)
        for name, entry in SCHEDULES.items()
    ]


def _datasets() -> list[Entry]:
    def function(load: Callable[..., Any]) -> Callable[..., Any]:
        return load.func if isinstance(load, functools.partial) else load

    return [
        Entry(
            name,
            entry.summary,
            function(entry.load),
            keyword_parameters(entry.load),
            {"source": entry.citation},
            "data = {}",
        )
        for name, entry in DATASETS.items()
    ]


def _models() -> list[Entry]:
    return [
        Entry(
            name,
            (inspect.getdoc(module) or "").splitlines()[0],
            module,
            model_parameters(module),
            {},
            "model = {}",
        )
        for name, module in MODELS.items()
    ]


def _partitions() -> list[Entry]:
    return [
        Entry(
            name,
            entry.summary,
            entry.function,
            partition_parameters(entry.function),
            {"source": entry.source},
            "partition = {}",
        )
        for name, entry in PARTITIONS.items()
    ]


KINDS: Mapping[str, Kind] = {
    "rules": Kind("rule", "what it does", _rules),
    "attacks": Kind("attack", "what it does", _attacks),
    "schedules": Kind("schedule", "when malicious clients attack", _schedules),
    "datasets": Kind("data set", "what it is", _datasets),
    "models": Kind("model", "what it is", _models),
    "partitions": Kind("partition", "what it does", _partitions),
}


def list_table(kind: str) -> Table:
    """The table of `fljax list KIND`."""
    entries = KINDS[kind].entries()
    table = Table(title=kind, title_justify="left")
    table.add_column("name", no_wrap=True)
    for header in (KINDS[kind].summary, "parameters", *entries[0].facts):
        table.add_column(header)
    for entry in entries:
        name = f"pre: {entry.name}" if entry.name in PRE_AGGREGATORS else entry.name
        cells = (name, entry.summary, _shown(entry.parameters), *entry.facts.values())
        table.add_row(*map(Text, cells))
    return table


def _shown(parameters: Parameters) -> str:
    return ", ".join(
        name if default is ... else f"{name}={default!r}" for name, (_, default) in parameters.items()
    )


def find_entry(kind: str, name: str) -> Entry:
    """The entry of one name.

    Raises:
        ConfigError: if there is none, with the nearest.
    """
    entries = {entry.name: entry for entry in KINDS[kind].entries()}
    return find(KINDS[kind].one, entries, name)


def kind_of(name: str) -> str | None:
    """The list that has this name, if only one has."""
    kinds = [kind for kind in KINDS if any(entry.name == name for entry in KINDS[kind].entries())]
    return kinds[0] if len(kinds) == 1 else None
