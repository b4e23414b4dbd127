"""From names and parameters in a configuration to the pieces of a round."""

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
import pydantic
from flax import linen
from jax import Array

from fljax.aggregators import (
    PRE_AGGREGATORS,
    RULES,
    Aggregator,
    chain,
    from_registry,
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
    scheduled,
)
from fljax.attacks.wrappers import TASK_ARGUMENTS
from fljax.base import Context
from fljax.config.schema import AggregatorConfig, AttackConfig, Component
from fljax.config.signatures import check_parameters, keyword_parameters, one_sentence
from fljax.data import DATASETS, PARTITIONS
from fljax.errors import ConfigError, first_line, unknown_name
from fljax.models import MODELS

Optimizer = Callable[[Any], optax.GradientTransformation]
Parameters = Mapping[str, tuple[Any, Any]]
# Values that a sweep traces, by dotted key within a component's table; they replace those of the table.
Traced = Mapping[str, Any]
NOTHING: Traced = MappingProxyType({})
# How many attackers a rule is told to expect; "actual" stands for how many there are, or without
# attack would be.
COUNTS = ("num_malicious", "trim")
ACTUAL = "actual"


def find(kind: str, registry: Mapping[str, Any], name: str) -> Any:
    """A registry entry, or a ConfigError with the nearest name."""
    if name not in registry:
        raise ConfigError(unknown_name(kind, name, registry))
    return registry[name]


def parse_tables(where: str, tables: Any) -> list[Component]:
    """A list of tables with a name each.

    Raises:
        ConfigError: if it is none.
    """
    if not isinstance(tables, (list, tuple)) or not tables:
        raise ConfigError(f"{where}: must be a list of at least one table with a name, got {tables!r}")
    try:
        return [Component.model_validate(table) for table in tables]
    except pydantic.ValidationError as error:
        raise ConfigError(one_sentence(error, where)) from None


def checked(where: str, parameters: Parameters, config: Component) -> dict[str, Any]:
    """The parameters of a component's table, checked."""
    return check_parameters(where, parameters, config.parameters, type(config).model_fields)


def rule_parameters(function: Callable[..., Any]) -> dict[str, tuple[Any, Any]]:
    """What an aggregator table may hold: the rule's parameters, and whose weights it uses if it takes any."""
    parameters = keyword_parameters(function)
    if "weights" in array_arguments(function):
        parameters["weights"] = (Literal["size", "uniform"], "size")
    return parameters


def replaced(hyper: Mapping[str, Any], traced: Traced, prefix: str = "") -> dict[str, Any]:
    """Checked parameters, and those of them that are traced."""
    found = {key.removeprefix(prefix): value for key, value in traced.items() if key.startswith(prefix)}
    return {**hyper, **{name: value for name, value in found.items() if "." not in name}}


def make_aggregator(config: AggregatorConfig, traced: Traced = NOTHING) -> Aggregator:
    """The configured rule behind its pre-aggregators."""
    rule = find("rule", RULES, config.name)
    parameters = rule_parameters(rule.function)
    weighted = "weights" in parameters
    where = f"aggregator {config.name}"
    hyper = replaced(checked(where, parameters, config), traced)
    try:
        aggregator = from_registry(RULES, config.name, **{k: v for k, v in hyper.items() if k != "weights"})
    except ValueError as error:
        raise ConfigError(first_line(error)) from None
    if weighted and hyper.get("weights") == "uniform":
        aggregator = _unweighted(aggregator)
    return _behind(config, aggregator, traced)


def _behind(config: AggregatorConfig, aggregator: Aggregator, traced: Traced) -> Aggregator:
    """A rule behind the configured pre-aggregators."""
    pieces = []
    for number, piece in enumerate(config.pre):
        function = find("pre-aggregator", PRE_AGGREGATORS, piece.name).function
        where = f"pre-aggregator {piece.name}"
        given = checked(where, keyword_parameters(function), piece)
        given = replaced(given, traced, f"pre.{number}.")
        pieces.append(pre_from_registry(PRE_AGGREGATORS, piece.name, **given))
    return chain(*pieces, aggregator) if pieces else aggregator


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
    """What a partial is made of: the function, and what it is called with."""
    if isinstance(function, functools.partial):
        return function.func, function.args, function.keywords
    return function, (), {}


def make_surrogate(config: AggregatorConfig, traced: Traced = NOTHING) -> Aggregator | None:
    """A smooth version of the configured rule for attacks that follow its gradient, or None."""
    function = RULES[config.name].facts["surrogate"]
    if function is None:
        return None
    taken = keyword_parameters(function)
    values = replaced(config.parameters, traced)
    hyper = {name: value for name, value in values.items() if name in taken}
    return _behind(config, stateless(function, **hyper), traced)


def _unweighted(aggregator: Aggregator) -> Aggregator:
    def aggregate(updates: Array, state: Any, context: Context) -> Any:
        return aggregator.aggregate(updates, state, context._replace(weights=None))

    return Aggregator(aggregator.init, aggregate)


def make_attack(config: AttackConfig, task: Task, traced: Traced = NOTHING) -> Attack:
    """The configured attack."""
    attack = _make_attack(config, task, traced)
    if config.schedule is None:
        return attack
    schedule = make_attack_schedule(config.schedule)
    return attack if config.name == "none" else scheduled(attack, schedule)


def _make_attack(config: Component, task: Task, traced: Traced, prefix: str = "") -> Attack:
    if config.name == "none":
        checked("attack none", {}, config)
        return NO_ATTACK
    entry = find("attack", {"none": None, **ATTACKS}, config.name)
    parameters = keyword_parameters(entry.function, hidden=TASK_ARGUMENTS)
    try:
        if "attacks" in parameters and "attacks" in config.parameters:
            # An attack made of others, each a table of its own.
            others = parse_tables(f"attack {config.name}.attacks", config.parameters["attacks"])
            made = {
                "attacks": tuple(
                    _make_attack(other, task, traced, f"{prefix}attacks.{number}.")
                    for number, other in enumerate(others)
                )
            }
        else:
            made = {}
        rest = {name: value for name, value in config.parameters.items() if name not in made}
        parameters = {name: value for name, value in parameters.items() if name not in made}
        shared = type(config).model_fields
        given = check_parameters(f"attack {config.name}", parameters, rest, shared)
        given = replaced(given, traced, prefix)
        return attack_from_registry(config.name, task, **given, **made)
    except (ValueError, OverflowError) as error:
        raise ConfigError(first_line(error)) from None


def make_attack_schedule(config: Component) -> Callable[[Context], Array]:
    """The configured schedule: which clients would attack in a round."""
    entry = find("schedule", SCHEDULES, config.name)
    given = checked(f"schedule {config.name}", keyword_parameters(entry.function), config)
    try:
        return schedule_from_registry(config.name, **given)
    except (ValueError, OverflowError) as error:
        raise ConfigError(first_line(error)) from None


def model_parameters(module: type[linen.Module]) -> dict[str, tuple[Any, Any]]:
    """`{name: (type, default)}` of a flax module's fields; the number of classes comes from the data."""
    hints = typing.get_type_hints(module)
    return {
        field.name: (hints[field.name], field.default)
        for field in dataclasses.fields(module)
        if field.name not in {"parent", "name", "num_classes"}
    }


def make_model(config: Component, num_classes: int) -> linen.Module:
    """The configured flax module."""
    module = find("model", MODELS, config.name)
    given = checked(f"model {config.name}", model_parameters(module), config)
    return module(num_classes=num_classes, **given)


def dataset_options(config: Component) -> dict[str, Any]:
    """The configured data set's options, checked."""
    entry = find("data set", DATASETS, config.name)
    return checked(f"data {config.name}", keyword_parameters(entry.load), config)


def partition_parameters(function: Callable[..., Any]) -> dict[str, tuple[Any, Any]]:
    """What a partition table may hold; clients, classes and ids come from the data set."""
    return keyword_parameters(function, hidden={"num_clients", "num_classes", "client_ids"})


def partition_options(config: Component) -> dict[str, Any]:
    """The configured partition's parameters, checked."""
    parameters = partition_parameters(find("partition", PARTITIONS, config.name).function)
    return checked(f"partition {config.name}", parameters, config)


def make_optimizer(where: str, config: Component) -> Optimizer:
    """Learning rate (number or schedule) to the configured optax optimizer."""
    function: Any = getattr(optax, config.name, None)
    names = _parameter_names(function)
    if not names or names[0] != "learning_rate":
        raise ConfigError(
            f"{where}: optax has no optimizer {config.name!r} that takes a learning rate "
            "(for example sgd, adam, adamw, rmsprop, yogi)"
        )
    given = checked(where, dict.fromkeys(names[1:], (Any, None)), config)

    def make(learning_rate: Any) -> optax.GradientTransformation:
        return function(learning_rate, **given)

    def one_step(params: Array) -> Any:
        optimizer = make(0.1)
        return optimizer.update(params, optimizer.init(params), params)

    _try(f"{where} {config.name}", one_step, jnp.zeros(2))
    return make


def check_local_optimizer(config: Component, steps: int) -> None:
    """Whether the clients' optimizer does in that many steps a round what its name says.

    Raises:
        ConfigError: if it takes one step and lives from a state, since that starts afresh every round.
    """
    state = jax.eval_shape(make_optimizer("local.optimizer", config)(0.1).init, jnp.zeros(2))
    # Schedules and corrections of a bias keep a mere count of steps.
    counts = [leaf.ndim == 0 and jnp.issubdtype(leaf.dtype, jnp.integer) for leaf in jax.tree.leaves(state)]
    if steps == 1 and not all(counts):
        given = ", ".join(f"{name} = {value}" for name, value in config.parameters.items())
        named = f"{config.name} ({given})" if given else config.name
        raise ConfigError(
            f"local.optimizer {named} needs local.steps of at least 2: what it "
            "remembers (momentum, moments of gradients) starts afresh in every round, so that one step is "
            "plain or sign descent; or give it to server.optimizer, which remembers over the rounds"
        )


def make_schedule(where: str, config: float | Component) -> Callable[[Any], Any]:
    """Round number to learning rate."""
    if not isinstance(config, Component):
        return optax.constant_schedule(config)
    known = config.name == "exponential_decay" or config.name.endswith("_schedule")
    function: Any = getattr(optax, config.name, None)
    if not known or function is None:
        raise ConfigError(
            f"{where}: optax has no schedule {config.name!r} "
            "(for example cosine_decay_schedule, piecewise_constant_schedule)"
        )
    names = dict.fromkeys(_parameter_names(function), (Any, None))
    given = checked(where, names, config)

    def make(step: Any) -> Any:
        # Keys of a TOML table are strings; optax counts boundaries in whole steps.
        steps = {
            name: {int(key): factor for key, factor in value.items()} if isinstance(value, dict) else value
            for name, value in given.items()
        }
        return function(**steps)(step)

    _try(f"{where} {config.name}", make, jnp.int32(0))
    return make


def _try(where: str, function: Callable[[Array], Any], argument: Array) -> None:
    """Trace a function of optax, and turn what it thinks of its parameters into one sentence."""
    try:
        jax.eval_shape(function, argument)
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ConfigError(f"{where}: {first_line(error)}") from None


def _parameter_names(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters) if inspect.isfunction(function) else []
