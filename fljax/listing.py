"""Tables of what a configuration can name, made from the registries."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from rich.table import Table

from fljax.aggregators import PRE_AGGREGATORS, RULES
from fljax.attacks import ATTACKS, SCHEDULES
from fljax.attacks.base import TASK_ARGUMENTS
from fljax.components import model_parameters, rule_parameters
from fljax.data import DATASETS, PARTITIONS
from fljax.models import MODELS
from fljax.signatures import keyword_parameters


def _table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    table = Table(title=title, title_justify="left")
    for name in header:
        table.add_column(name, no_wrap=name == "name")
    for row in rows:
        table.add_row(*row)
    return table


def _shown(parameters: Mapping[str, tuple[Any, Any]]) -> str:
    return ", ".join(
        name if default is ... else f"{name}={default!r}" for name, (_, default) in parameters.items()
    )


def _parameters(function: Callable[..., Any], hidden: Iterable[str] = ()) -> str:
    return _shown(keyword_parameters(function, hidden))


def _rules() -> Table:
    entries = {**RULES, **{f"pre: {name}": rule for name, rule in PRE_AGGREGATORS.items()}}
    rows = [
        (name, rule.summary, _shown(rule_parameters(rule.function)), rule.tolerates, rule.source)
        for name, rule in entries.items()
    ]
    return _table("rules", ("name", "what it does", "parameters", "tolerates f when", "source"), rows)


def _attacks() -> Table:
    rows = [
        (
            name,
            entry.summary,
            _parameters(entry.function, TASK_ARGUMENTS),
            entry.knowledge,
            entry.optimises,
            entry.source,
        )
        for name, entry in ATTACKS.items()
    ]
    rows.insert(0, ("none", "Nobody is malicious.", "", "", "", ""))
    return _table("attacks", ("name", "what it does", "parameters", "knows", "optimises", "source"), rows)


def _datasets() -> Table:
    rows = [
        (name, entry.summary, _parameters(entry.load), entry.citation) for name, entry in DATASETS.items()
    ]
    return _table("datasets", ("name", "what it is", "parameters", "source"), rows)


def _models() -> Table:
    rows = [
        (
            name,
            (inspect.getdoc(module) or "").splitlines()[0],
            _shown(model_parameters(module)),
        )
        for name, module in MODELS.items()
    ]
    return _table("models", ("name", "what it is", "parameters"), rows)


def _partitions() -> Table:
    hidden = {"num_clients", "num_classes", "client_ids"}
    rows = [
        (name, entry.summary, _parameters(entry.function, hidden), entry.source)
        for name, entry in PARTITIONS.items()
    ]
    return _table("partitions", ("name", "what it does", "parameters", "source"), rows)


def _schedules() -> Table:
    rows = [(name, entry.summary, _parameters(entry.function)) for name, entry in SCHEDULES.items()]
    return _table("schedules", ("name", "when malicious clients attack", "parameters"), rows)


TABLES: dict[str, Callable[[], Table]] = {
    "rules": _rules,
    "attacks": _attacks,
    "schedules": _schedules,
    "datasets": _datasets,
    "models": _models,
    "partitions": _partitions,
}
