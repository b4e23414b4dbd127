"""Components of a configuration: found by their names, their parameters checked once, and made.

Tracing replaces numbers of a `Bound` component; nothing is looked up or checked again.
"""

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import jax
import pydantic
from jax import Array

from fljax.aggregators import (
    POST_AGGREGATORS,
    PRE_AGGREGATORS,
    RULES,
    Aggregator,
    chain,
    from_registry,
    post_from_registry,
    pre_from_registry,
    stateless,
)
from fljax.aggregators.combining import array_arguments
from fljax.attacks import (
    ATTACKS,
    NO_ATTACK,
    SCHEDULES,
    Attack,
    Task,
    attack_from_registry,
    on_updates,
    schedule_from_registry,
)
from fljax.attacks.wrappers import TASK_ARGUMENTS
from fljax.base import ClientAlgorithm, Context
from fljax.clients import CLIENT_ALGORITHMS, client_algorithm_from_registry
from fljax.config import keys
from fljax.config.schema import AggregatorConfig, Component
from fljax.config.signatures import keyword_parameters, one_sentence, traceable_parameters
from fljax.data import AUGMENTATIONS, DATASETS, PARTITIONS, Format
from fljax.data.augmentations.registry import of_batch
from fljax.engine.metrics import Measure
from fljax.engine.objectives import Losses
from fljax.errors import ConfigError, first_line
from fljax.losses import LOSSES
from fljax.metrics import METRICS, asked
from fljax.models import MODELS
from fljax.numerics.checks import shown
from fljax.registry import Entry

Parameters = Mapping[str, tuple[Any, Any]]
# Values that a sweep traces, by dotted key within a component's table; they replace those of the table.
Traced = Mapping[str, Any]
NOTHING: Traced = MappingProxyType({})
# Arguments of a model that come from the data set's form.
FORM = frozenset({"num_classes", "num_tokens", "every_token"})
# How many attackers a rule is told to expect; "actual" stands for how many there are, or without
# attack would be.
COUNTS = ("num_malicious", "trim")
ACTUAL = "actual"
# What runs before and after a rule, by the key of its table.
PIECES = {"pre": PRE_AGGREGATORS, "post": POST_AGGREGATORS}


def parse_tables(where: str, tables: Any) -> list[Component]:
    """A list of tables with a name each.

    Raises:
        ConfigError: if it is none.
    """
    if not isinstance(tables, (list, tuple)) or not tables:
        raise ConfigError(f"{where}: must be a list of at least one table with a name, got {tables!r}")
    return [parse_table(where, table) for table in tables]


def parse_table(where: str, table: Any) -> Component:
    """A table with a name.

    Raises:
        ConfigError: if it is none.
    """
    try:
        return Component.model_validate(table)
    except pydantic.ValidationError as error:
        raise ConfigError(one_sentence(error, where)) from None


def rule_parameters(function: Callable[..., Any]) -> dict[str, tuple[Any, Any]]:
    """The parameters of an aggregator table: the rule's, and for a rule with weights whose they are."""
    parameters = keyword_parameters(function)
    if "weights" in array_arguments(function):
        parameters["weights"] = (Literal["size", "uniform"], "size")
    return parameters


def attack_parameters(function: Callable[..., Any]) -> dict[str, tuple[Any, Any]]:
    """The parameters of an attack table; others come from the task."""
    return keyword_parameters(function, hidden=TASK_ARGUMENTS)


class Bound(NamedTuple):
    """A component of a configuration: what its name stands for, and its parameters, checked once.

    Attributes:
        name: as the configuration gives it.
        entry: of the registry; None for the attack "none".
        given: the parameters that its table gives; where one is traced, the array.
        numbers: those of its parameters that a program can take as arrays, given or default.
        parts: the components in its table, by their keys in it: `pre.0`, `attacks.1`.
    """

    name: str
    entry: Any
    given: Mapping[str, Any]
    numbers: Mapping[str, Any] = NOTHING
    parts: Mapping[str, "Bound"] = NOTHING

    def all_numbers(self) -> dict[str, Any]:
        """The numbers of this component and of its parts, by dotted key within its table."""
        inner = {
            f"{key}.{name}": value
            for key, part in self.parts.items()
            for name, value in part.all_numbers().items()
        }
        return {**self.numbers, **inner}

    def replaced(self, traced: Traced) -> "Bound":
        """The component with some numbers replaced, by dotted key within its table."""
        if not traced:
            return self
        own = {key: value for key, value in traced.items() if "." not in key}
        parts = {key: part.replaced(keys.within(traced, key)) for key, part in self.parts.items()}
        return self._replace(given={**self.given, **own}, parts=parts)


def _bind(
    kind: str,
    entry: Any,
    config: Component,
    parameters: Parameters,
    hidden: frozenset[str] = frozenset(),
    parts: Mapping[str, Bound] = NOTHING,
) -> Bound:
    """A component with the parameters in its table, less those that became parts.

    Raises:
        ConfigError: for an unknown, missing or mistyped parameter.
    """
    tables = {key.partition(".")[0] for key in parts}
    own = {name: value for name, value in parameters.items() if name not in tables}
    given = config.checked(f"{kind} {config.name}", own, without=tables)
    numbers = {
        name: number(value)
        for name, (number, default) in traceable_parameters(entry.function, hidden).items()
        if isinstance(value := given.get(name, default), (int, float)) and not isinstance(value, bool)
    }
    return Bound(config.name, entry, given, numbers, parts)


def bind_rule(config: AggregatorConfig) -> Bound:
    """The configured rule; what runs before and after it is among its parts.

    Raises:
        ConfigError: for a name or a parameter that there is not.
    """
    entry = RULES.find(config.name)
    parts = {
        f"{key}.{number}": _bind(
            registry.kind, found := registry.find(piece.name), piece, keyword_parameters(found.function)
        )
        for key, registry in PIECES.items()
        for number, piece in enumerate(getattr(config, key))
    }
    return _bind("aggregator", entry, config, rule_parameters(entry.function), parts=parts)


def make_aggregator(rule: Bound) -> Aggregator:
    """A rule with what runs before and after it."""
    try:
        given = {name: value for name, value in rule.given.items() if name != "weights"}
        aggregator = from_registry(RULES, rule.name, **given)
    except ValueError as error:
        raise ConfigError(first_line(error)) from None
    if rule.given.get("weights") == "uniform":
        aggregator = _unweighted(aggregator)
    return _among_pieces(rule, aggregator)


def make_surrogate(rule: Bound) -> Aggregator | None:
    """A smooth version of a rule for attacks that follow its gradient, or None."""
    function = rule.entry.facts["surrogate"]
    if function is None:
        return None
    taken = keyword_parameters(function)
    given = {name: value for name, value in rule.given.items() if name in taken}
    return _among_pieces(rule, stateless(function, **given))


def _among_pieces(rule: Bound, aggregator: Aggregator) -> Aggregator:
    """An aggregator in place of a rule, with what runs before and after that."""
    made: dict[str, list[Any]] = {"pre": [], "post": []}
    try:
        for key, part in rule.parts.items():
            kind = key.partition(".")[0]
            make = pre_from_registry if kind == "pre" else post_from_registry
            made[kind].append(make(PIECES[kind], part.name, **part.given))
    except ValueError as error:
        raise ConfigError(first_line(error)) from None
    return chain(*made["pre"], aggregator, *made["post"]) if rule.parts else aggregator


def _unweighted(aggregator: Aggregator) -> Aggregator:
    def aggregate(updates: Array, state: Any, context: Context) -> Any:
        return aggregator.aggregate(updates, state, context._replace(weights=None))

    return aggregator._replace(aggregate=aggregate)


def find_attack(name: str) -> Entry:
    """The entry of an attack; "none" has none, but is among the names that the sentence offers.

    Raises:
        ConfigError: if there is no such attack.
    """
    return ATTACKS.find(name, besides=["none"])


def bind_attack(config: Component) -> Bound:
    """The configured attack; the attacks that it is made of are its parts.

    Raises:
        ConfigError: for a name or a parameter that there is not.
    """
    if config.name == "none":
        return Bound("none", None, config.checked("attack none", {}))
    entry = find_attack(config.name)
    parameters = attack_parameters(entry.function)
    parts = {}
    if "attacks" in parameters and "attacks" in config.parameters:
        others = parse_tables(f"attack {config.name}.attacks", config.parameters["attacks"])
        parts = {f"attacks.{number}": bind_attack(other) for number, other in enumerate(others)}
    if "backdoor" in parameters and "backdoor" in config.parameters:
        parts["backdoor"] = bind_attack(
            parse_table(f"attack {config.name}.backdoor", config.parameters["backdoor"])
        )
    return _bind("attack", entry, config, parameters, TASK_ARGUMENTS, parts)


def make_attack(attack: Bound, task: Task) -> Attack:
    """An attack on a task.

    Raises:
        ConfigError: for a value that the attack does not take.
    """
    if attack.entry is None:
        return NO_ATTACK
    try:
        made: dict[str, Any] = {}
        for key, part in attack.parts.items():
            parameter, _, number = key.partition(".")
            other = make_attack(part, task)
            made[parameter] = (*made.get(parameter, ()), other) if number else other
        return attack_from_registry(attack.name, task, **attack.given, **made)
    except (ValueError, OverflowError) as error:
        raise ConfigError(first_line(error)) from None


def bind_client(config: Component) -> Bound:
    """What the clients do.

    Raises:
        ConfigError: for a name or a parameter that there is not.
    """
    entry = CLIENT_ALGORITHMS.find(config.name)
    return _bind("client", entry, config, keyword_parameters(entry.function))


def make_client(client: Bound) -> ClientAlgorithm:
    """What the clients do, as functions.

    Raises:
        ConfigError: for a value that it does not take.
    """
    try:
        return client_algorithm_from_registry(client.name, **client.given)
    except (ValueError, OverflowError) as error:
        raise ConfigError(first_line(error)) from None


def make_attack_schedule(config: Component) -> Callable[[Context], Array]:
    """The configured schedule: which clients would attack in a round."""
    function = SCHEDULES.find(config.name).function
    given = config.checked(f"schedule {config.name}", keyword_parameters(function))
    try:
        return schedule_from_registry(config.name, **given)
    except (ValueError, OverflowError) as error:
        raise ConfigError(first_line(error)) from None


def as_aggregator(rule: Any) -> Aggregator:
    """An `Aggregator`, also from a pure rule; a rule of this library keeps its state and explains itself."""
    if isinstance(rule, Aggregator):
        return rule
    if not callable(rule):
        raise ConfigError(
            "aggregator: must be an Aggregator or a function of the updates (n, d), got a "
            f"{type(rule).__name__}"
        )
    function, arguments, hyper = _parts_of(rule)
    for name, entry in RULES.items():
        if entry.function is function and not arguments and not set(hyper) & set(array_arguments(function)):
            return from_registry(RULES, name, **hyper)
    try:
        return stateless(rule)
    except ValueError as error:
        raise ConfigError(first_line(error)) from None


def as_attack(attack: Any, task: Task) -> Attack:
    """An `Attack`, also from a pure function of updates and mask, or one of this library that makes one."""
    if isinstance(attack, Attack):
        return attack
    if not callable(attack):
        raise ConfigError(
            "attack: must be an Attack or a function of the updates (n, d) and the mask malicious (n,), got "
            f"a {type(attack).__name__}"
        )
    function, _, _ = _parts_of(attack)
    made = (entry.facts["make"] for entry in ATTACKS.values() if entry.function is function)
    make = next(made, on_updates)
    try:
        return make(attack, task)
    except ValueError as error:
        raise ConfigError(first_line(error)) from None


def _parts_of(function: Any) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """The function of a partial, and the arguments it is called with."""
    if isinstance(function, functools.partial):
        return function.func, function.args, function.keywords
    return function, (), {}


def model_parameters(model: Callable[..., Any]) -> dict[str, tuple[Any, Any]]:
    """`{name: (type, default)}` of a flax module's fields, or of a function's keyword parameters.

    What the data set decides comes from it (`FORM`).
    """
    if not isinstance(model, type):
        return keyword_parameters(model, hidden=FORM)
    hints = typing.get_type_hints(model)
    return {
        field.name: (hints[field.name], field.default)
        for field in dataclasses.fields(model)
        if field.name not in {"parent", "name", *FORM}
    }


def make_model(config: Component, form: Format) -> Any:
    """The configured model for data of a form, as `fljax.models.as_model` takes it.

    Raises:
        ConfigError: for an unknown, missing or mistyped parameter, or a model on tokens for other inputs.
    """
    model = MODELS.find(config.name).function
    given = config.checked(f"model {config.name}", model_parameters(model))
    facts = {
        "num_classes": form.num_outputs,
        "num_tokens": form.num_tokens,
        "every_token": len(form.outputs) > 1,
    }
    taken = inspect.signature(model).parameters
    if "num_tokens" in taken and form.num_tokens is None:
        raise ConfigError(f"model {config.name}: is for tokens, the data set's inputs are real numbers")
    return model(**{name: facts[name] for name in FORM if name in taken}, **given)


def check_augmentations(tables: Sequence[Component]) -> None:
    """Check the names and the parameters of augmentations.

    Raises:
        ConfigError: for a name or a parameter that there is not.
    """
    for table in tables:
        _augmentation(table)


def _augmentation(table: Component) -> Callable[[Array, Array], Array]:
    function = AUGMENTATIONS.find(table.name).function
    given = table.checked(f"augmentation {table.name}", keyword_parameters(function))
    return functools.partial(function, **given)


def make_augmentation(tables: Sequence[Component], form: Format) -> Callable[[Array, Array], Array] | None:
    """The configured augmentations as one function of a batch and a key; None where there are none.

    Raises:
        ConfigError: for a name, a parameter or a value that there is not, or inputs that one does not take.
    """
    changes = [_augmentation(table) for table in tables]
    one = jax.ShapeDtypeStruct(form.input_shape, form.input_dtype)
    for table, change in zip(tables, changes, strict=True):
        try:
            made = jax.eval_shape(change, one, jax.random.key(0))
        except (TypeError, ValueError) as error:
            raise ConfigError(f"local.augment: {first_line(error)}") from None
        if (getattr(made, "shape", None), getattr(made, "dtype", None)) != (one.shape, one.dtype):
            raise ConfigError(
                f"local.augment: {table.name} turns an input of {one.dtype} {one.shape} into {shown(made)}"
            )
    return of_batch(changes) if changes else None


def make_loss(config: Component) -> Losses:
    """The configured loss of a batch's examples.

    Raises:
        ConfigError: for a name or a parameter that there is not.
    """
    function = LOSSES.find(config.name).function
    given = config.checked(f"loss {config.name}", keyword_parameters(function))
    return functools.partial(function, **given) if given else function


def make_measures(configs: Sequence[Component], others: Mapping[str, Any] | None = None) -> list[Measure]:
    """The configured metrics.

    Args:
        configs: tables with a name each.
        others: further functions by name.

    Raises:
        ConfigError: for a name or a parameter that there is not, a name given twice, or a function that asks
            for something that there is not.
    """
    measures = []
    for config in configs:
        function = METRICS.find(config.name).function
        given = config.checked(f"metric {config.name}", keyword_parameters(function))
        measures.append(Measure(config.name, functools.partial(function, **given), asked(function)))
    for name, function in (others or {}).items():
        if not isinstance(name, str) or not name.isidentifier() or not callable(function):
            raise ConfigError(f"metrics: must be functions by name, got {name!r}: {shown(function)}")
        try:
            measures.append(Measure(name, function, asked(function)))
        except ValueError as error:
            raise ConfigError(first_line(error)) from None
    names = [measure.name for measure in measures]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"metrics: {name} is listed twice")
    return measures


def dataset_options(config: Component) -> dict[str, Any]:
    """The configured data set's options, checked."""
    entry = DATASETS.find(config.name)
    return config.checked(f"data {config.name}", keyword_parameters(entry.function))


def partition_parameters(function: Callable[..., Any]) -> dict[str, tuple[Any, Any]]:
    """The parameters of a partition table; clients, classes and ids come from the data set."""
    return keyword_parameters(function, hidden={"num_clients", "num_classes", "client_ids"})


def partition_options(config: Component) -> dict[str, Any]:
    """The configured partition's parameters, checked."""
    parameters = partition_parameters(PARTITIONS.find(config.name).function)
    return config.checked(f"partition {config.name}", parameters)
