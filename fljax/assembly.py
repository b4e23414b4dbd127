"""From a checked configuration to the pieces of a run: its clients, its model, its round.

`gather` does what needs data and happens once; `compose` builds the pure functions, also while a sweep traces
them with some of the configuration's numbers replaced by traced ones.
"""

import json
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.flatten_util import ravel_pytree

from fljax.aggregators.base import Aggregator
from fljax.attacks.base import NO_ATTACK, Attack, Task
from fljax.components import (
    ACTUAL,
    COUNTS,
    NOTHING,
    Traced,
    check_local_optimizer,
    dataset_options,
    first_line,
    make_aggregator,
    make_attack,
    make_model,
    make_optimizer,
    make_schedule,
    make_surrogate,
    partition_options,
)
from fljax.config import AggregatorConfig, Component, ExperimentConfig
from fljax.data import PARTITIONS, Dataset, load
from fljax.data.clients import make_clients, num_attackers
from fljax.errors import ConfigError
from fljax.evaluate import Evaluation, make_evaluation
from fljax.fit import check_cohort, check_model, check_pieces
from fljax.local import LocalTraining, cross_entropy
from fljax.models import Model, as_model
from fljax.round import Step, make_round
from fljax.types import RoundData, RunState


class Parts(NamedTuple):
    """What a run is made of besides its program.

    Attributes:
        config: the configuration; "actual" numbers of attackers are numbers in it.
        dataset: the data.
        data: what a round reads, on the host.
        task: what attacks are told.
        model: the model.
        cohort_size: τ.
        in_cohort: how many malicious clients every cohort holds, or None.
        notes: what a report has to say about data and model.
    """

    config: ExperimentConfig
    dataset: Dataset
    data: RoundData
    task: Task
    model: Model
    cohort_size: int
    in_cohort: int | None
    notes: tuple[str, ...] = ()

    @property
    def num_clients(self) -> int:
        """How many clients there are, n."""
        return int(self.data.table.shape[0])

    @property
    def num_malicious(self) -> int:
        """How many of them are malicious, m."""
        return int(self.data.malicious.sum())


class Composed(NamedTuple):
    """The pure functions of a run.

    Attributes:
        step: one round.
        evaluate: `(params, test_x, test_y, model_state=()) -> Evaluation`.
        init_state: `(flat parameters, key, model state) -> RunState`.
        unravel: (d,) to the model's parameters.
        entries: of the largest intermediate result of rule and attack on few columns, where it was checked.
    """

    step: Step
    evaluate: Callable[..., Evaluation]
    init_state: Callable[[Array, Array, Any], RunState]
    unravel: Callable[[Array], Any]
    entries: int = 0


def check_names(config: ExperimentConfig) -> None:
    """Names and parameters alone, so that a misspelt one does not wait for the data."""
    dataset_options(config.data)
    partition_options(config.partition)
    make_aggregator(_without_actual(config.aggregator))
    for table, part in (("local", config.local), ("server", config.server)):
        make_optimizer(f"{table}.optimizer", part.optimizer)
        make_schedule(f"{table}.learning_rate", part.learning_rate)
    check_local_optimizer(config.local.optimizer, config.local.steps)


def load_dataset(config: ExperimentConfig) -> Dataset:
    """The configured data set."""
    options = dataset_options(config.data)
    return load(config.data.name, config.data.dir, seed=config.seed_for("data"), **options)


def gather(
    config: ExperimentConfig,
    dataset: Dataset,
    model: Any = None,
    attacked: bool | None = None,
    data: RoundData | None = None,
) -> Parts:
    """Deal the data out to clients and settle the sizes of a run.

    Args:
        config: the configuration.
        dataset: its data.
        model: a flax module or `Model` instead of `config.model`.
        attacked: whether clients are malicious; None for whether `config.attack` is an attack.
        data: what an earlier call made of the same clients; None deals the data out.

    Returns:
        The `Parts`.

    Raises:
        ConfigError: if the pieces do not fit.
    """
    attacked = config.attack.name != "none" if attacked is None else attacked
    data = data or make_clients(
        dataset,
        config.seed_for("data"),
        PARTITIONS[config.partition.name].function,
        partition_options(config.partition),
        num_clients=config.num_clients,
        root=config.root.sample(),
        malicious_fraction=config.attack.fraction if attacked else 0.0,
    )
    num_clients = data.table.shape[0]
    cohort_size = config.cohort_size or num_clients
    if cohort_size > num_clients:
        raise ConfigError(f"cohort_size={cohort_size} must not exceed the {num_clients} clients")
    num_malicious = int(data.malicious.sum())
    in_cohort = config.attack.in_cohort if attacked else None
    check_cohort(in_cohort, cohort_size, num_malicious, num_clients)
    shape = dataset.input_shape
    task = Task(
        dataset.num_classes,
        min(num_malicious, cohort_size) if in_cohort is None else in_cohort,
        (shape[0], shape[1], shape[2]) if len(shape) == 3 else None,
    )
    # A rule is the same with and without attack: it is told of those who would attack.
    potential = num_malicious if attacked else num_attackers(config.attack.fraction, num_clients)
    expected = config.attack.in_cohort
    if expected is None:
        expected = -(-potential * cohort_size // num_clients)
    rule = with_actual(config.aggregator, expected, cohort_size)
    config = config.model_copy(update={"aggregator": rule})
    made, notes = _model(config, model, dataset)
    return Parts(config, dataset, data, task, made, cohort_size, in_cohort, (*dataset.notes, *notes))


def _model(config: ExperimentConfig, model: Any, dataset: Dataset) -> tuple[Model, tuple[str, ...]]:
    """The model, and what a report has to say about it."""
    shape = dataset.input_shape
    try:
        if model is None:
            return _configured_model(config.model.model_dump_json(), dataset.num_classes, shape)
        return _checked(as_model(model, shape), shape, dataset.num_classes)
    except ConfigError:
        raise
    except (TypeError, ValueError, ZeroDivisionError) as error:
        name = config.model.name if model is None else type(model).__name__
        raise ConfigError(f"model {name} does not fit inputs of shape {shape}: {first_line(error)}") from None


@lru_cache(maxsize=16)
def _configured_model(table: str, num_classes: int, shape: tuple[int, ...]) -> tuple[Model, tuple[str, ...]]:
    """Cached, so that runs of the same model share its compiled initialisation."""
    module = make_model(Component.model_validate_json(table), num_classes)
    model, notes = _checked(as_model(module, shape), shape, num_classes)
    return model._replace(init=jax.jit(model.init)), notes


def _checked(model: Model, shape: tuple[int, ...], num_classes: int) -> tuple[Model, tuple[str, ...]]:
    key = jax.random.key(0)
    return model, check_model(model, jax.eval_shape(model.init, key), shape, num_classes, key)


def initial_model(parts: Parts) -> tuple[Array, Any]:
    """A run's flat parameters (d,) and its model's state before the first round."""
    key = jax.random.key(parts.config.seed_for("init"))
    state = () if parts.model.init_state is None else parts.model.init_state(key)
    return ravel_pytree(parts.model.init(key))[0], state


def compose(
    parts: Parts,
    traced: Traced = NOTHING,
    *,
    rule: Aggregator | None = None,
    attack: Attack | None = None,
    check: bool = True,
    evaluation_batch: int = 500,
) -> Composed:
    """The pure functions of a run.

    Args:
        parts: from `gather`.
        traced: numbers that replace the configuration's, by dotted key (`aggregator.trim`,
            `local.learning_rate`).
        rule: an `Aggregator` instead of the configured one.
        attack: an `Attack` instead of the configured one.
        check: whether to let the pieces check their bounds.
        evaluation_batch: test examples evaluated at once.

    Returns:
        The `Composed` functions; they capture no data.

    Raises:
        ConfigError: if a component is unknown or the pieces do not fit.
    """
    config = parts.config
    of = partial(_of, traced)
    chosen_rule = rule or make_aggregator(config.aggregator, of("aggregator."))
    chosen_attack = attack or make_attack(config.attack, parts.task, of("attack."))
    entries = 0
    if check:
        sizes = parts.num_clients, parts.cohort_size, parts.dataset.input_shape
        entries = check_pieces(chosen_rule, chosen_attack, *sizes)
    local, root = config.local, config.root
    rates = {
        key: make_schedule(f"{key}.learning_rate", part.learning_rate)
        if f"{key}.learning_rate" not in traced
        else optax.constant_schedule(traced[f"{key}.learning_rate"])
        for key, part in (("local", local), ("server", config.server))
    }
    server_optimizer = make_optimizer("server.optimizer", config.server.optimizer)(rates["server"])
    template = jax.eval_shape(parts.model.init, jax.random.key(0))
    unravel = ravel_pytree(jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), template))[1]
    clients = LocalTraining(
        cross_entropy(parts.model.apply, parts.model.train),
        unravel,
        make_optimizer("local.optimizer", local.optimizer),
        local.steps,
        local.batch_size,
    )
    if root.loss_reduction == "sum" and local.batch_size == "full":
        raise ConfigError(
            'root.loss_reduction = "sum" divides by local.batch_size, which must be a number then, got "full"'
        )
    step = make_round(
        clients=clients,
        root=clients._replace(
            batch_size=local.batch_size if root.batch_size is None else root.batch_size,
            divisor=float(local.batch_size) if root.loss_reduction == "sum" else None,
        ),
        attack=chosen_attack,
        aggregator=chosen_rule,
        server_optimizer=server_optimizer,
        learning_rate=rates["local"],
        num_clients=parts.num_clients,
        cohort_size=parts.cohort_size,
        chunk=clients_at_once(config, template, parts.cohort_size),
        surrogate=make_surrogate(config.aggregator, of("aggregator.")) if rule is None else None,
        num_in_cohort=parts.in_cohort,
    )

    def init_state(params: Array, key: Array, model_state: Any) -> RunState:
        return RunState(
            params=params,
            round=jnp.int32(0),
            key=key,
            server_state=server_optimizer.init(params),
            aggregator_state=chosen_rule.init(parts.num_clients, params.size),
            attack_state=chosen_attack.init(parts.num_clients, params.size),
            model_state=model_state,
        )

    evaluate = make_evaluation(parts.model.apply, unravel, chosen_attack.trigger, evaluation_batch)
    return Composed(step, evaluate, init_state, unravel, entries)


def _of(traced: Traced, prefix: str) -> Traced:
    return {key.removeprefix(prefix): value for key, value in traced.items() if key.startswith(prefix)}


def clients_at_once(config: ExperimentConfig, params: Any, cohort_size: int) -> int:
    """How many clients to train at once; measured, see benchmarks/README.md."""
    if config.client_chunk != "auto":
        return min(config.client_chunk, cohort_size)
    convolutions = num_convolutions(params)
    target = cohort_size
    if jax.default_backend() == "cpu" and convolutions > 0:
        # A deep network's activations fill the cache with one client.
        target = 2 if convolutions < 10 else 1
    # A divisor of the cohort, so that no second program is compiled for a remainder.
    return max(size for size in range(1, target + 1) if cohort_size % size == 0)


def num_convolutions(params: Any) -> int:
    """How many convolutions a model has, by the shapes of its parameters."""
    return sum(len(leaf.shape) == 4 for leaf in jax.tree.leaves(params))


# --- how many attackers a rule is told to expect ------------------------------------------------------


def _without_actual(config: AggregatorConfig, count: int = 0) -> AggregatorConfig:
    """The table with a number for every "actual"."""

    def settled(table: dict[str, Any]) -> dict[str, Any]:
        numbers = {name: count for name in COUNTS if table.get(name) == ACTUAL}
        return {**table, **numbers}

    table = settled(config.model_dump())
    return AggregatorConfig.model_validate({**table, "pre": [settled(piece) for piece in table["pre"]]})


def with_actual(config: AggregatorConfig, num_malicious: int, num_rows: int) -> AggregatorConfig:
    """The table with the number of attackers for every "actual", or the largest below it that the rule takes.

    Args:
        config: an aggregator table.
        num_malicious: how many attackers a round has, or without attack would have.
        num_rows: rows the rule gets.

    Returns:
        The table with numbers only.

    Example:
        >>> rule = AggregatorConfig(name="trimmed_mean", trim="actual")
        >>> with_actual(rule, 4, 20).parameters, with_actual(rule, 12, 20).parameters
        ({'trim': 4}, {'trim': 9})
    """
    if not any(ACTUAL in table.parameters.values() for table in (config, *config.pre)):
        return config
    return _without_actual(config, _largest_taken(_as_text(config), num_malicious, num_rows))


def _as_text(config: AggregatorConfig) -> str:
    """A table as JSON that keeps infinities, unlike pydantic's."""
    return json.dumps(config.model_dump(), default=str)


@lru_cache(maxsize=1024)
def _largest_taken(table: str, num_malicious: int, num_rows: int) -> int:
    config = AggregatorConfig.model_validate(json.loads(table))

    def taken(count: int) -> bool:
        rule = make_aggregator(_without_actual(config, count))
        try:
            check_pieces(rule, NO_ATTACK, num_rows, num_rows, (1,))
        except ConfigError:
            return False
        return True

    if taken(num_malicious):
        return num_malicious
    low, high = 0, num_malicious
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if taken(middle) else (low, middle)
    return low
