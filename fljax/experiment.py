"""From a configuration to a finished run."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fljax.aggregators.base import Aggregator
from fljax.assembly import check_names, compose, gather, initial_model, load_dataset
from fljax.attacks.base import Attack
from fljax.checkpoint import load_checkpoint, save_checkpoint
from fljax.config import PURPOSES, ExperimentConfig
from fljax.data import Dataset
from fljax.data.clients import describe
from fljax.environment import environment
from fljax.evaluate import Evaluation
from fljax.record import Line, RunFolder, check_run_folder, metrics_line
from fljax.round import RoundMetrics, Step
from fljax.train import Program, Record, compile_program, train
from fljax.types import SimulationState


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
    check_names(config)
    attacked = True if attack is not None else None
    parts = gather(config, load_dataset(config) if dataset is None else dataset, model, attacked)
    composed = compose(parts, rule=aggregator, attack=attack)
    params, model_state = initial_model(parts)
    key = jax.random.key(config.seed_for("train"))
    seeds = {purpose: config.seed_for(purpose) for purpose in PURPOSES}
    return Experiment(
        config=config,
        dataset=parts.dataset,
        step=composed.step,
        evaluate=composed.evaluate,
        state=SimulationState(composed.init_state(params, key, model_state), jax.device_put(parts.data)),
        unravel=composed.unravel,
        facts={
            "seeds": seeds,
            **describe(parts.dataset, parts.data, parts.cohort_size, parts.notes),
            "num_params": params.size,
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
