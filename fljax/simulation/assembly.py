"""From a checked configuration to the pieces of a run: its clients, its model, its round.

`make_parts` does what needs data and happens once. `compose` builds the pure functions, also while a sweep
traces them with some of the configuration's numbers replaced by traced ones.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree

from fljax.base import Aggregator, Attack, ClientAlgorithm, Context, Task
from fljax.config.components import (
    NOTHING,
    Traced,
    check_augmentations,
    dataset_options,
    make_aggregator,
    make_augmentation,
    make_client,
    make_loss,
    make_measures,
    make_surrogate,
    partition_options,
)
from fljax.config.optimizers import check_local_optimizer, is_plain_sgd
from fljax.config.plugins import load_plugins
from fljax.config.resolve import Resolved, resolve
from fljax.config.schema import ExperimentConfig
from fljax.data import PARTITIONS, Dataset, load
from fljax.engine.evaluate import VALIDATION_ERROR, Beside, Evaluation, make_evaluation
from fljax.engine.host_examples import HostExamples, without_clients
from fljax.engine.local_training import LocalTraining
from fljax.engine.metrics import Measure
from fljax.engine.objectives import Losses, objective
from fljax.engine.round import Stages, Step, make_stages
from fljax.engine.state import Kept, RoundData, RunState
from fljax.engine.streaming import rows_at_once
from fljax.errors import ConfigError, DataError
from fljax.models import Model
from fljax.numerics.rows import chunk_size
from fljax.simulation.attackers import with_actual, without_actual
from fljax.simulation.checks import cannot_stream, check_cohort, check_messages, check_pieces
from fljax.simulation.clients import make_clients, num_attackers, num_test_clients
from fljax.simulation.known import Told, asked, tell
from fljax.simulation.model import build_model, clients_at_once, drawn_once, num_params
from fljax.simulation.objectives import check_stop, make_objective


class Parts(NamedTuple):
    """The pieces of a run besides its program.

    Attributes:
        config: the configuration; "actual" numbers of attackers are numbers in it.
        resolved: the components of a round that it names.
        dataset: the data.
        data: what a round reads, on the host.
        task: what attacks are told.
        model: the model.
        loss: of a batch's examples.
        measures: the configured metrics.
        cohort_size: τ.
        in_cohort: how many malicious clients every cohort holds, or None.
        notes: what a report has to say about data and model.
        augment: the augmentation of a batch, `(x, key) -> x`, or None.
        streams: whether a round trains a chunk of clients after the other.
        from_file: whether clients' examples are read from a mapped file as they train, for one device.
    """

    config: ExperimentConfig
    resolved: Resolved
    dataset: Dataset
    data: RoundData
    task: Task
    model: Model
    loss: Losses
    measures: tuple[Measure, ...]
    cohort_size: int
    in_cohort: int | None
    notes: tuple[str, ...] = ()
    augment: Callable[[Array, Array], Array] | None = None
    streams: bool = False
    from_file: bool = False

    @property
    def num_clients(self) -> int:
        """The number of clients, n."""
        return int(self.data.table.shape[0])

    @property
    def mean_steps(self) -> float:
        """The mean number of local steps of a client's round."""
        local = self.config.local
        if local.steps is not None:
            return local.steps
        counts = np.asarray(self.data.counts)
        batch = counts if local.batch_size == "full" else np.minimum(local.batch_size, counts)
        return float(np.mean(np.ceil((local.epochs or 0) * counts / np.maximum(batch, 1))))

    @property
    def num_malicious(self) -> int:
        """The number of malicious clients, m."""
        return int(self.data.malicious.sum())

    def rows_at_once(self, num_params: int) -> int:
        """How many updates there are at once: those of the cohort, or of a chunk of it."""
        return chunk_size(self.cohort_size, rows_at_once(num_params)) if self.streams else self.cohort_size

    def keeps_examples_apart(self, attack: Attack) -> bool:
        """True if nobody but a client's own device ever needs its examples.

        Where all train in every round; attackers who train or prepare do so on any device.
        """
        alike = attack.train is None and attack.prepare is None
        everybody = self.cohort_size == self.num_clients and alike
        return everybody and not (self.streams or self.from_file)


class Composed(NamedTuple):
    """The pure functions of a run.

    Attributes:
        stages: of a round.
        evaluate: `(params, test_x, test_y, model_state=(), beside=NOTHING_BESIDE) -> Evaluation`.
        init_state: `(flat parameters, key, model state) -> RunState`.
        unravel: (d,) to the model's parameters.
        decided: bytes that rule and attack hold beside the updates, where they were checked.
        by_device: whether every device has the examples of its own clients only.
    """

    stages: Stages
    evaluate: Callable[..., Evaluation]
    init_state: Callable[[Array, Array, Any], RunState]
    unravel: Callable[[Array], Any]
    decided: int = 0
    by_device: bool = False

    @property
    def step(self) -> Step:
        """One round."""
        return self.stages.step


def check_names(config: ExperimentConfig) -> None:
    """Import the plugins and check names and parameters: a misspelt one does not wait for the data."""
    load_plugins(config.plugins)
    dataset_options(config.data)
    partition_options(config.partition)
    rule = without_actual(config.aggregator)
    resolved = resolve(config.model_copy(update={"aggregator": rule}))
    make_aggregator(resolved.rule)
    make_client(resolved.client)
    facts = resolved.client.entry.facts
    if not facts["keeps_optimizer"]:
        check_local_optimizer(config.local.optimizer, config.local.steps)
    if facts["needs_sgd"] and not is_plain_sgd(config.local.optimizer):
        raise ConfigError(
            f"client {config.client.name} takes a client's update for the sum of its gradients, so that "
            f"local.optimizer must be sgd without momentum, got {config.local.optimizer.name}"
            + " with momentum"
            * (config.local.optimizer.name == "sgd")
        )
    check_augmentations(config.local.augment)
    make_loss(config.loss)
    make_measures(config.metrics)


def load_dataset(config: ExperimentConfig) -> Dataset:
    """The configured data set."""
    options = dataset_options(config.data)
    dataset = load(config.data.name, config.data.dir, seed=config.seed_for("data"), **options)
    return normalized(config, dataset)


def normalized(config: ExperimentConfig, dataset: Dataset) -> Dataset:
    """A data set whose inputs models get normalised, if the configuration says so.

    Raises:
        ConfigError: if they are tokens.
    """
    if not config.data.normalize or dataset.normalize:
        return dataset
    try:
        return dataclasses.replace(dataset, normalize=True)
    except DataError as error:
        raise ConfigError(f"data.normalize: {error}") from None


def deal(config: ExperimentConfig, dataset: Dataset, attacked: bool) -> RoundData:
    """The data set dealt out to the configured clients, of which a share is malicious if any is."""
    partition = PARTITIONS.find(config.partition.name)
    if partition.facts["by_label"] and not dataset.format.one_class:
        others = ", ".join(name for name, entry in PARTITIONS.items() if not entry.facts["by_label"])
        raise ConfigError(
            f"partition {partition.name}: goes by the class of an example, and those of {dataset.name} do "
            f"not have one each (choose from {others})"
        )
    return make_clients(
        dataset,
        config.seed_for("data"),
        partition.function,
        partition_options(config.partition),
        num_clients=config.num_clients,
        root=config.root.sample(),
        validation=config.validation.size if config.validation else 0,
        malicious_fraction=config.attack.fraction if attacked else 0.0,
    )


def make_parts(
    config: ExperimentConfig,
    dataset: Dataset,
    model: Any = None,
    attacked: bool | None = None,
    data: RoundData | None = None,
    loss: Losses | None = None,
    metrics: Mapping[str, Callable[..., Any]] | None = None,
) -> Parts:
    """Deal the data out to clients and settle the sizes of a run.

    Args:
        config: the configuration.
        dataset: its data.
        model: what `as_model` takes instead of `config.model`.
        attacked: whether clients are malicious; None for whether `config.attack` is an attack.
        data: what an earlier call made of the same clients; None deals the data out.
        loss: `loss(outputs, labels)` of a batch's examples instead of `config.loss`.
        metrics: functions by name, beside `config.metrics`.

    Returns:
        The `Parts`.

    Raises:
        ConfigError: if the pieces do not fit.
    """
    attacked = config.attack.name != "none" if attacked is None else attacked
    data = data or deal(config, dataset, attacked)
    num_clients = data.table.shape[0]
    cohort_size = config.cohort_size or num_clients
    if cohort_size > num_clients:
        raise ConfigError(f"cohort_size={cohort_size} must not exceed the {num_clients} clients")
    num_malicious = int(data.malicious.sum())
    in_cohort = config.attack.in_cohort if attacked else None
    check_cohort(in_cohort, cohort_size, num_malicious, num_clients)
    # A rule is the same with and without attack: it is told of those who would attack.
    potential = num_malicious if attacked else num_attackers(config.attack.fraction, num_clients)
    expected = config.attack.in_cohort
    if expected is None:
        expected = -(-potential * cohort_size // num_clients)
    rule = with_actual(config.aggregator, expected, cohort_size)
    config = config.model_copy(update={"aggregator": rule})
    made, notes = build_model(config, model, dataset)
    notes = (*dataset.notes, *notes)
    shape = dataset.input_shape
    task = Task(
        dataset.num_classes,
        min(num_malicious, cohort_size) if in_cohort is None else in_cohort,
        (shape[0], shape[1], shape[2]) if len(shape) == 3 else None,
        lambda key: ravel_pytree(made.init(key))[0],
    )
    chosen = make_objective(config, dataset, loss, metrics)
    check_stop(config.stop, [*chosen.columns, *([VALIDATION_ERROR] if config.validation else [])])
    return Parts(
        config=config,
        resolved=resolve(config),
        dataset=dataset,
        data=data,
        task=task,
        model=made,
        loss=chosen.loss,
        measures=chosen.measures,
        cohort_size=cohort_size,
        in_cohort=in_cohort,
        notes=notes,
        augment=make_augmentation(config.local.augment, dataset.format),
        streams=config.streaming is True,
    )


def may_stream(parts: Parts, rule: Aggregator | None = None, attack: Attack | None = None) -> bool:
    """True if the rounds hold the stack of all updates, and "auto" lets them stream in place of that.

    Args:
        parts: of the run.
        rule: the rule instead of the configured one.
        attack: the attack instead of the configured one.
    """
    if parts.config.streaming != "auto" or cannot_stream(parts.resolved, rule, attack):
        return False
    try:  # some do with other parameters only
        compose(parts._replace(streams=True), rule=rule, attack=attack)
    except ConfigError:
        return False
    return True


def streaming(parts: Parts) -> Parts:
    """The same run with rounds that stream."""
    note = (
        f"the updates of {parts.cohort_size:,} clients do not fit the memory: a round trains some clients "
        "after the others (streaming)"
    )
    return parts._replace(streams=True, notes=(*parts.notes, note))


def read_by_rounds(parts: Parts) -> RoundData:
    """The data that the device holds from round to round, on the host."""
    return without_clients(parts.data) if parts.from_file else parts.data


def _prediction(model: Model) -> Callable[..., Array]:
    """The model in evaluation, `(params, x, state) -> outputs`, whether it has a state or not."""
    if model.init_state is None:
        return lambda params, x, state: model.apply(params, x)
    return model.apply


def asks_for_clients(parts: Parts) -> bool:
    """True if a metric asks whose test example it is."""
    return any("clients" in measure.asked for measure in parts.measures)


def beside_of(parts: Parts, data: RoundData) -> Beside:
    """The arrays that an evaluation reads beside the test set.

    Args:
        parts: of the run.
        data: of the round, where it is.
    """
    clients = parts.dataset.test_client_ids if asks_for_clients(parts) else None
    beside = Beside(clients=None if clients is None else jnp.asarray(clients))
    if data.validation is None:
        return beside
    return beside._replace(x=data.x, y=data.y, validation=data.validation)


def initial_model(parts: Parts) -> tuple[Array, Any]:
    """A run's flat parameters (d,) and its model's state before the first round."""
    key = jax.random.key(parts.config.seed_for("init"))
    state = () if parts.model.init_state is None else parts.model.init_state(key)
    # Put together on the host: `ravel_pytree` is a program for every shape that an array has.
    leaves = jax.device_get(jax.tree.leaves(drawn_once(parts.model.init)(key)))
    dtype = jnp.result_type(*leaves)
    return jnp.asarray(np.concatenate([np.ravel(leaf) for leaf in leaves], dtype=dtype)), state


def unraveling(template: Any) -> Callable[[Array], Any]:
    """The function from (d,) to a model's parameters, by their shapes."""
    found: list[Callable[[Array], Any]] = []
    jax.eval_shape(lambda params: found.append(ravel_pytree(params)[1]), template)
    return found[0]


def state_shapes(model: Model) -> Any:
    """Shapes of a model's state; () where it has none."""
    return () if model.init_state is None else jax.eval_shape(model.init_state, jax.random.key(0))


def root_shapes(parts: Parts) -> RoundData:
    """Shapes of the root dataset; nothing else."""
    x, y = parts.dataset.format.batch(1)
    root: Any = jax.ShapeDtypeStruct(parts.data.root.shape, jnp.int32)
    nothing: Any = ()
    return RoundData(x, y, nothing, nothing, root, nothing)  # type: ignore[arg-type]


def states_of_clients(algorithm: ClientAlgorithm, resolved: Resolved, params: Any, num_clients: int) -> Any:
    """What all clients have before the first round, with a leading axis (n,)."""
    optimizer = resolved.local.optimizer(resolved.local.schedule(jnp.int32(0)))
    one = algorithm.init(params, optimizer)
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (num_clients, *jnp.shape(leaf))), one)


def asked_of(resolved: Resolved, attack: Attack) -> set[str]:
    """The fields of `Context` that a run's rule and attack name; the attack also as it was made."""
    return asked(resolved.rule, resolved.attack) | set(() if attack.train is None else attack.train.needs)


def _sizes(parts: Parts, told: Told, num_params: int) -> dict[str, Any]:
    """What `check_pieces` takes besides a rule and an attack."""
    return {
        "num_clients": parts.num_clients,
        "cohort_size": parts.cohort_size,
        "form": parts.dataset.format,
        "num_params": num_params,
        "told": told,
        "data": root_shapes(parts),
        "model_state": state_shapes(parts.model),
    }


def check_alone(parts: Parts, rule: Aggregator, attack: Attack) -> int:
    """Let a rule and an attack of a run check their bounds, each perhaps beside another one than its own.

    Args:
        parts: of the run.
        rule: the rule.
        attack: the attack.

    Returns:
        Bytes of the results that they hold at the same time, as `check_pieces` counts them.

    Raises:
        ConfigError: if they do not fit the run.
    """
    template = jax.eval_shape(parts.model.init, jax.random.key(0))
    names = asked_of(parts.resolved, parts.resolved.make_attack(parts.task))
    told = tell(parts.model, parts.dataset.format, parts.loss, unraveling(template), names)
    how = _sizes(parts, told, num_params(template))
    return check_pieces(rule, attack, **how, streams=parts.streams)


def compose(
    parts: Parts,
    traced: Traced = NOTHING,
    *,
    rule: Aggregator | None = None,
    attack: Attack | None = None,
    client: ClientAlgorithm | None = None,
    check: bool = True,
    evaluation_batch: int = 500,
    devices: int = 1,
    own_data: bool = False,
    blind: bool = False,
) -> Composed:
    """The pure functions of a run.

    Args:
        parts: from `make_parts`.
        traced: numbers that replace the configuration's, by dotted key (`aggregator.trim`,
            `local.learning_rate`).
        rule: an `Aggregator` instead of the configured one.
        attack: an `Attack` instead of the configured one.
        client: a `ClientAlgorithm` instead of the configured one.
        check: whether to let the pieces check their bounds.
        evaluation_batch: test examples evaluated at once.
        devices: among which the clients of a run are divided.
        own_data: whether a device may have the examples of its own clients only, where all of them train.
        blind: whether an attack that asks the rule raises an `AsksRuleError`.

    Returns:
        The `Composed` functions; they capture no data.

    Raises:
        ConfigError: if a component is unknown or the pieces do not fit.
    """
    config, resolved = parts.config, parts.resolved.replaced(traced)
    chosen_rule = rule or make_aggregator(resolved.rule)
    chosen_attack = attack or resolved.make_attack(parts.task)
    algorithm = client or make_client(resolved.client)
    if parts.streams and (obstacle := cannot_stream(resolved, rule, attack)):
        raise ConfigError(obstacle)
    template = jax.eval_shape(parts.model.init, jax.random.key(0))
    d = num_params(template)
    unravel = unraveling(template)
    # A rule or an attack that is given may ask for anything.
    names = set(Context._fields) if rule or attack else asked_of(resolved, chosen_attack)
    told = tell(parts.model, parts.dataset.format, parts.loss, unravel, names)
    surrogate = make_surrogate(resolved.rule) if rule is None else None
    decided = 0
    if check:
        how = _sizes(parts, told, d) | {"surrogate": surrogate}
        decided = check_pieces(chosen_rule, chosen_attack, **how, streams=parts.streams)
        if algorithm.num_messages:
            check_messages(config.client.name, chosen_rule, chosen_attack, **how, streams=parts.streams)
    by_device = own_data and devices > 1 and parts.keeps_examples_apart(chosen_attack)
    by_device &= not names & {"root_x", "root_loss"}
    local, root = config.local, config.root
    server_optimizer = resolved.server.optimizer(resolved.server.schedule)
    rows = parts.rows_at_once(d)
    client_training = LocalTraining(
        loss=objective(parts.loss, parts.model.apply, parts.model.train),
        unravel=unravel,
        optimizer=resolved.local.optimizer,
        steps=local.steps,
        batch_size=local.batch_size,
        epochs=local.epochs,
        augment=parts.augment,
        random=parts.model.random or parts.augment is not None,
        examples=HostExamples(parts.data) if parts.from_file else None,
        predict=_prediction(parts.model),
    )
    if root.loss_reduction == "sum" and local.batch_size == "full":
        raise ConfigError(
            'root.loss_reduction = "sum" divides by local.batch_size, which must be a number then, got "full"'
        )
    stages = make_stages(
        client_training=client_training,
        server_training=client_training._replace(
            batch_size=local.batch_size if root.batch_size is None else root.batch_size,
            divisor=float(local.batch_size) if root.loss_reduction == "sum" else None,
        ),
        attack=chosen_attack,
        aggregator=chosen_rule,
        server_optimizer=server_optimizer,
        learning_rate=resolved.local.schedule,
        num_clients=parts.num_clients,
        cohort_size=parts.cohort_size,
        clients_at_once=clients_at_once(config, template, rows, parts.data.counts, devices),
        surrogate=surrogate,
        num_in_cohort=parts.in_cohort,
        algorithm=algorithm,
        max_malicious=parts.task.max_malicious,
        by_device=by_device,
        rows_at_once=rows if parts.streams else None,
        told=told,
        blind=blind,
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
            client_state=init_kept(params),
        )

    def init_kept(params: Array) -> Kept | tuple[()]:
        states = states_of_clients(algorithm, resolved, unravel(params), parts.num_clients)
        sizes, kinds = (parts.num_clients, params.size), range(algorithm.num_messages)
        kept = Kept(
            states,
            algorithm.init_shared(params.size),
            tuple(chosen_attack.init(*sizes) for _ in kinds),
            tuple(chosen_rule.init(*sizes) for _ in kinds),
        )
        return kept if kinds or jax.tree.leaves(kept) else ()

    alone = {} if chosen_attack.trigger is None else {"trigger": chosen_attack.trigger}
    evaluate = make_evaluation(
        parts.model.apply,
        unravel,
        chosen_attack.trigger,
        evaluation_batch,
        measures=parts.measures,
        losses=parts.loss,
        triggers=alone | dict(chosen_attack.triggers),
        natural=resolved.natural_triggers(parts.task),
        num_classes=parts.dataset.num_classes,
        num_clients=num_test_clients(parts.dataset),
    )
    return Composed(stages, evaluate, init_state, unravel, decided, by_device)
