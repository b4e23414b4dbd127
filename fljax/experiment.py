"""From a configuration to a finished run."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from fljax.aggregators.base import Aggregator
from fljax.attacks.base import Attack, Task
from fljax.checkpoint import load_checkpoint, save_checkpoint
from fljax.components import (
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
from fljax.config import ExperimentConfig
from fljax.data import PARTITIONS, Dataset, load
from fljax.data.clients import describe, make_clients
from fljax.environment import environment
from fljax.errors import ConfigError
from fljax.evaluate import Evaluation, make_evaluation
from fljax.fit import check_cohort, check_model, check_pieces
from fljax.local import LocalTraining, cross_entropy
from fljax.models import as_model
from fljax.record import Line, RunFolder, check_run_folder, metrics_line
from fljax.round import RoundMetrics, Step, make_round
from fljax.train import Program, Record, compile_program, train
from fljax.types import RunState, SimulationState


@dataclasses.dataclass(frozen=True, eq=False)
class Experiment:
    """Everything a run needs, built and checked, nothing started.

    Attributes:
        config: the configuration.
        dataset: the loaded data.
        step: one round, `(RunState, RoundData) -> (RunState, RoundMetrics)`.
        evaluate: `(params, test_x, test_y, model_state=()) -> Evaluation`.
        state: the initial state and the round's data, on the device.
        unravel: (d,) to the model's parameters.
        facts: what summary.json records about data and clients.
    """

    config: ExperimentConfig
    dataset: Dataset
    step: Step
    evaluate: Callable[..., Evaluation]
    state: SimulationState
    unravel: Callable[[jax.Array], Any]
    facts: dict[str, Any]


class RunResult(NamedTuple):
    """What `fljax.run` returns.

    Attributes:
        summary: the values of summary.json.
        metrics: the columns of metrics.jsonl, arrays over evaluations (NaN for null).
        params: the final model's parameters.
        model_state: its running batch statistics; () for a model that has none.
    """

    summary: dict[str, Any]
    metrics: dict[str, np.ndarray]
    params: Any
    model_state: Any = ()


Progress = Callable[[Record], None]


def assemble(
    config: ExperimentConfig,
    *,
    dataset: Dataset | None = None,
    model: Any = None,
    aggregator: Aggregator | None = None,
    attack: Attack | None = None,
) -> Experiment:
    """Load the data and build every piece of the run.

    Args:
        config: the configuration.
        dataset: data to use instead of `config.data`.
        model: a flax module or `fljax.models.Model` instead of `config.model`.
        aggregator: an `Aggregator` instead of `config.aggregator`.
        attack: an `Attack` instead of `config.attack`; its fraction still comes from the configuration.

    Returns:
        The `Experiment`.

    Raises:
        ConfigError: if a component is unknown or the pieces do not fit.
        DataError: if the data cannot be read.
    """
    # Names and parameters first: a misspelt one should not wait for the data.
    options = dataset_options(config.data)
    partition = partition_options(config.partition)
    chosen_rule = aggregator or make_aggregator(config.aggregator)
    local_optimizer = make_optimizer("local.optimizer", config.local.optimizer)
    server_optimizer = make_optimizer("server.optimizer", config.server.optimizer)(
        make_schedule("server.learning_rate", config.server.learning_rate)
    )
    learning_rate = make_schedule("local.learning_rate", config.local.learning_rate)

    seed = config.seed_for("data")
    if dataset is None:
        dataset = load(config.data.name, config.data.dir, seed=seed, **options)
    data = make_clients(
        dataset,
        seed,
        PARTITIONS[config.partition.name].function,
        partition,
        num_clients=config.num_clients,
        root=config.root.model_dump(include={"size", "bias", "bias_class"}),
        malicious_fraction=0.0 if attack is None and config.attack.name == "none" else config.attack.fraction,
    )
    num_clients = data.table.shape[0]
    cohort_size = config.cohort_size or num_clients
    if cohort_size > num_clients:
        raise ConfigError(f"cohort_size={cohort_size} must not exceed the {num_clients} clients")
    num_malicious = int(data.malicious.sum())
    in_cohort = None if attack is None and config.attack.name == "none" else config.attack.in_cohort
    check_cohort(in_cohort, cohort_size, num_malicious, num_clients)

    shape = dataset.input_shape
    task = Task(
        dataset.num_classes,
        min(num_malicious, cohort_size) if in_cohort is None else in_cohort,
        (shape[0], shape[1], shape[2]) if len(shape) == 3 else None,
    )
    chosen_attack = attack or make_attack(config.attack, task)

    try:
        chosen_model = as_model(
            model if model is not None else make_model(config.model, dataset.num_classes), shape
        )
        params = chosen_model.init(jax.random.key(config.seed_for("init")))
        flat, unravel = ravel_pytree(params)
        model_state = check_model(chosen_model, params, shape, jax.random.key(config.seed_for("init")))
    except ConfigError:
        raise
    except (TypeError, ValueError, ZeroDivisionError) as error:
        name = config.model.name if model is None else type(model).__name__
        raise ConfigError(f"model {name} does not fit inputs of shape {shape}: {first_line(error)}") from None
    check_pieces(chosen_rule, chosen_attack, num_clients, cohort_size, shape)

    loss = cross_entropy(chosen_model.apply, chosen_model.train)
    local, root = config.local, config.root
    clients = LocalTraining(loss, unravel, local_optimizer, local.steps, local.batch_size)
    if root.loss_reduction == "sum" and local.batch_size == "full":
        raise ConfigError(
            'root.loss_reduction = "sum" divides by local.batch_size, which must be a number then, got "full"'
        )
    server = clients._replace(
        batch_size=local.batch_size if root.batch_size is None else root.batch_size,
        divisor=float(local.batch_size) if root.loss_reduction == "sum" else None,
    )

    step = make_round(
        clients=clients,
        root=server,
        attack=chosen_attack,
        aggregator=chosen_rule,
        server_optimizer=server_optimizer,
        learning_rate=learning_rate,
        num_clients=num_clients,
        cohort_size=cohort_size,
        chunk=_chunk(config, params, cohort_size),
        surrogate=make_surrogate(config.aggregator) if aggregator is None else None,
        num_in_cohort=in_cohort,
    )
    state = RunState(
        params=flat,
        round=jnp.int32(0),
        key=jax.random.key(config.seed_for("train")),
        server_state=server_optimizer.init(flat),
        aggregator_state=chosen_rule.init(num_clients, flat.size),
        attack_state=chosen_attack.init(num_clients, flat.size),
        model_state=model_state,
    )
    return Experiment(
        config=config,
        dataset=dataset,
        step=step,
        evaluate=make_evaluation(chosen_model.apply, unravel, chosen_attack.trigger),
        state=SimulationState(state, jax.device_put(data)),
        unravel=unravel,
        facts={
            "seeds": {"data": seed, "init": config.seed_for("init"), "train": config.seed_for("train")},
            **describe(dataset, data, cohort_size),
            "num_params": flat.size,
            **environment(),
        },
    )


def build(
    config: ExperimentConfig, **components: Any
) -> tuple[Callable[[SimulationState, Any], tuple[SimulationState, RoundMetrics]], SimulationState]:
    """One round as a pure function, and the state it starts from, for users who write their own loop.

    Args:
        config: the configuration.
        **components: `dataset`, `model`, `aggregator`, `attack` as for `fljax.experiment.assemble`.

    Returns:
        `round_fn(state) -> (state, metrics)`, which `jax.lax.scan` takes as it is, and `init_state`. The data
        travel inside the state (`state.data`), so that they are an argument of whatever is compiled.

    Raises:
        ConfigError: if a component is unknown or the pieces do not fit.
        DataError: if the data cannot be read.

    Example:
        >>> from fljax.config import parse_config
        >>> round_fn, state = build(parse_config({"num_clients": 10}))
        >>> state, metrics = jax.lax.scan(round_fn, state, length=3)
        >>> int(state.run.round), metrics.loss.shape
        (3, (3,))
    """
    experiment = assemble(config, **components)

    def round_fn(state: SimulationState, _: Any = None) -> tuple[SimulationState, RoundMetrics]:
        run, metrics = experiment.step(state.run, state.data)
        return SimulationState(run, state.data), metrics

    return round_fn, experiment.state


def run(
    config: ExperimentConfig,
    out: str | Path | None = None,
    *,
    resume: bool = False,
    progress: Progress | None = None,
    **components: Any,
) -> RunResult:
    """Run an experiment to its end.

    Args:
        config: the configuration.
        out: the run's folder, new or empty; None writes nothing.
        resume: continue the run in `out` from its last checkpoint.
        progress: called with every `Record`.
        **components: `dataset`, `model`, `aggregator`, `attack` as for `fljax.experiment.assemble`.

    Returns:
        The `RunResult`. A model that diverges ends the run early, with `diverged` set.

    Raises:
        ConfigError: if the configuration cannot be run or `out` holds something else; nothing is written.
        DataError: if the data cannot be read; nothing is written.
    """
    return run_experiment(assemble(config, **components), out, resume=resume, progress=progress)


def compile_experiment(experiment: Experiment) -> Program:
    """The experiment's two programs; experiments of the same shapes can share them."""
    return compile_program(
        experiment.step,
        experiment.evaluate,
        *experiment.state,
        _test_set(experiment),
        experiment.config.eval_every,
    )


def _test_set(experiment: Experiment) -> tuple[jax.Array, jax.Array]:
    return jnp.asarray(experiment.dataset.test_x), jnp.asarray(experiment.dataset.test_y)


def pad_tables(experiments: Sequence[Experiment]) -> list[Experiment]:
    """Widen the index tables to a common width, so that runs of different seeds fit one program."""
    width = max(experiment.state.data.table.shape[1] for experiment in experiments)

    def padded(experiment: Experiment) -> Experiment:
        table = experiment.state.data.table
        table = jnp.pad(table, ((0, 0), (0, width - table.shape[1])), constant_values=-1)
        data = experiment.state.data._replace(table=table)
        return dataclasses.replace(experiment, state=experiment.state._replace(data=data))

    return list(map(padded, experiments))


def run_experiment(
    experiment: Experiment,
    out: str | Path | None = None,
    *,
    resume: bool = False,
    progress: Progress | None = None,
    program: Program | None = None,
) -> RunResult:
    """`run`, for an experiment that is assembled already; its initial state may be used again.

    Args:
        experiment: what to run.
        out, resume, progress: as for `run`.
        program: the compiled program of an experiment of the same shapes; None compiles one.

    Returns:
        The `RunResult`.
    """
    config = experiment.config
    if out is not None:
        check_run_folder(Path(out), config.resolved(), resume)
    # Compiled before the folder is made: what cannot be traced leaves nothing behind.
    program = program or compile_experiment(experiment)
    folder = RunFolder(Path(out), config.resolved(), resume) if out is not None else None
    state, data = experiment.state
    lines: list[Line] = []
    if folder is not None and resume:
        state = load_checkpoint(folder.checkpoints, state) or state
        lines = folder.keep_until(int(state.round))
    # The compiled chunk consumes its state; the experiment keeps its own.
    state = jax.tree.map(jnp.copy, state)

    test = _test_set(experiment)
    finished = bool(lines) and bool(lines[-1]["diverged"])
    if not finished:
        records = train(program, state, data, test, rounds=config.rounds, eval_every=config.eval_every)
        for record in records:
            state = record.state
            lines.append(metrics_line(record))
            if folder is not None:
                folder.append(lines[-1])
                save_checkpoint(folder.checkpoints, state)
            if progress is not None:
                progress(record)

    last = lines[-1]
    rounds = int(last["round"] or 0)
    # Over all legs of a run that was interrupted.
    seconds = sum(line["seconds"] or 0.0 for line in lines)
    summary = {
        "test_error": last["test_error"],
        "attack_success_rate": last["attack_success_rate"],
        "rounds": rounds,
        "diverged": bool(last["diverged"]),
        "seconds_compile": round(program.seconds_compile, 3),
        "seconds_run": round(seconds, 3),
        "rounds_per_second": round(rounds / max(seconds, 1e-9), 3),
        "seed": config.seed,
        **experiment.facts,
    }
    if folder is not None:
        folder.write_json("summary.json", summary)
    columns = {
        name: np.array([np.nan if line[name] is None else line[name] for line in lines], float)
        for name in last
    }
    return RunResult(summary, columns, experiment.unravel(state.params), state.model_state)


def _chunk(config: ExperimentConfig, params: Any, cohort_size: int) -> int:
    """How many clients to train at once; measured, see benchmarks/README.md."""
    if config.client_chunk != "auto":
        return min(config.client_chunk, cohort_size)
    convolutions = sum(leaf.ndim == 4 for leaf in jax.tree.leaves(params))
    target = cohort_size
    if jax.default_backend() == "cpu" and convolutions > 0:
        # A deep network's activations fill the cache with one client.
        target = 2 if convolutions < 10 else 1
    # A divisor of the cohort, so that no second program is compiled for a remainder.
    return max(size for size in range(1, target + 1) if cohort_size % size == 0)
