"""From a configuration to a finished run."""

import dataclasses
import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from fljax.base import Aggregator, Attack, ClientAlgorithm, Model
from fljax.config.components import as_aggregator, as_attack
from fljax.config.loading import check_loaded
from fljax.config.plugins import load_plugins
from fljax.config.schema import PURPOSES, ExperimentConfig, StopConfig
from fljax.data import Dataset
from fljax.engine.evaluate import Beside, Evaluation
from fljax.engine.host_examples import without_clients
from fljax.engine.loop import Pause, Program, Record, Start, StoppedError, compile_program, train
from fljax.engine.mesh import data_specs, lay_out, like, put, state_specs
from fljax.engine.objectives import Losses
from fljax.engine.processes import is_first, of_another, whole
from fljax.engine.round import RoundMetrics, Step
from fljax.engine.state import RunState, SimulationState
from fljax.errors import JobError
from fljax.host.limits import Limit, room
from fljax.host.signals import Stop
from fljax.simulation.assembly import (
    Composed,
    Parts,
    beside_of,
    check_names,
    compose,
    initial_model,
    load_dataset,
    make_parts,
    may_stream,
    normalized,
    read_by_rounds,
    streaming,
)
from fljax.simulation.clients import describe
from fljax.simulation.devices import mesh_of, shared_among
from fljax.simulation.endings import best_values, is_over, stopped
from fljax.simulation.environment import environment
from fljax.simulation.lines import Line, columns, evaluated_columns, metrics_line
from fljax.simulation.memory import (
    Need,
    check_before,
    check_compiled,
    estimate,
    explained,
    explained_by,
    what_fits,
)
from fljax.simulation.outcomes import outcomes
from fljax.simulation.progress import say_how_to_go_on, shown, teller
from fljax.simulation.run_folder import Begun, RunFolder, check_run_folder, told_begun
from fljax.tracking import Started, Trackers, make_trackers


@dataclasses.dataclass(frozen=True, eq=False)
class Experiment:
    """Everything a run needs, built and checked, nothing started.

    Attributes:
        config: the configuration.
        dataset: the loaded data.
        model: the model.
        step: one round, `(RunState, RoundData) -> (RunState, RoundMetrics)`.
        evaluate: `(params, test_x, test_y, model_state=(), beside=NOTHING_BESIDE) -> Evaluation`.
        beside: what an evaluation reads beside the test set.
        state: the initial state and the round's data, on the device.
        unravel: (d,) to the model's parameters.
        facts: what summary.json records about data and clients.
        need: estimate of the memory.
        memory: gigabytes it may use; None for what there is.
        mesh: the devices that share the work; None for one.
    """

    config: ExperimentConfig
    dataset: Dataset
    model: Model
    step: Step
    evaluate: Callable[..., Evaluation]
    beside: Beside
    state: SimulationState
    unravel: Callable[[jax.Array], Any]
    facts: dict[str, Any]
    need: Need
    memory: float | None = None
    mesh: Mesh | None = None


class RunResult(NamedTuple):
    """The result of `fljax.run`.

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


class _Settled(NamedTuple):
    """A run before anything of it is on a device.

    Attributes:
        parts: its pieces.
        composed: its functions.
        need: estimate of its memory.
        fits: what would fit, for the end of a sentence.
        devices: among how many its clients are divided.
        apart: whether nobody but a client's own device ever needs its examples.
    """

    parts: Parts
    composed: Composed
    need: Need
    fits: Callable[[Limit], str]
    devices: int
    apart: bool


def _settle(
    config: ExperimentConfig,
    dataset: Dataset | None = None,
    model: Any = None,
    *,
    aggregator: Aggregator | Callable[..., Any] | None = None,
    attack: Attack | Callable[..., Any] | None = None,
    client: ClientAlgorithm | None = None,
    loss: Losses | None = None,
    metrics: Mapping[str, Callable[..., Any]] | None = None,
    memory: float | None = None,
) -> _Settled:
    """The pieces of a run and their memory; arguments as for `assemble`."""
    check_names(config)
    rule = None if aggregator is None else as_aggregator(aggregator)
    attacked = True if attack is not None else None
    data = load_dataset(config) if dataset is None else normalized(config, dataset)
    parts = make_parts(config, data, model, attacked, loss=loss, metrics=metrics)
    chosen = None if attack is None else as_attack(attack, parts.task)
    apart = parts.keeps_examples_apart(chosen or parts.resolved.make_attack(parts.task))
    _, devices = shared_among(parts.config, parts.cohort_size, mapped=data.mapped, apart=apart)
    parts = parts._replace(from_file=data.mapped and devices == 1)
    pieces: dict[str, Any] = {"rule": rule, "attack": chosen, "client": client}
    composed = compose(parts, **pieces, devices=devices, own_data=True)

    def estimated(parts: Parts) -> Need:
        return estimate(parts, decided=composed.decided, **pieces).of_memory(devices)

    need = estimated(parts)
    if need.total > room(memory).most and may_stream(parts, rule, chosen):
        # What clients keep is there twice in a round that streams.
        streamed = streaming(parts)
        if (instead := estimated(streamed)).total < need.total:
            parts, need = streamed, instead
            composed = compose(parts, **pieces, devices=devices, own_data=True)
    return _Settled(
        parts, composed, need, lambda there: what_fits(parts, need, there, estimated), devices, apart
    )


def foresee(
    config: ExperimentConfig, memory: float | None = None, told: Callable[[Need], object] = lambda need: None
) -> Need:
    """The memory that a run will need, on devices that need not be here; nothing is compiled.

    Args:
        config: the configuration.
        memory: gigabytes the run may use; None for what the device has left.
        told: the estimate, before it is compared with what there is.

    Returns:
        The `Need`.

    Raises:
        ConfigError: if a component is unknown, the pieces do not fit, or the run cannot fit the memory.
        DataError: if the data cannot be read.
    """
    settled = _settle(config, memory=memory)
    told(settled.need)
    check_before(settled.need, memory, settled.fits)
    return settled.need


def assemble(
    config: ExperimentConfig,
    *,
    dataset: Dataset | None = None,
    model: Any = None,
    aggregator: Aggregator | Callable[..., Any] | None = None,
    attack: Attack | Callable[..., Any] | None = None,
    client: ClientAlgorithm | None = None,
    loss: Losses | None = None,
    metrics: Mapping[str, Callable[..., Any]] | None = None,
    memory: float | None = None,
) -> Experiment:
    """Load the data and build every piece of the run.

    Args:
        config: the configuration.
        dataset: data to use instead of `config.data`.
        model: what `fljax.models.as_model` takes instead of `config.model`.
        aggregator: an `Aggregator`, or a pure rule, instead of `config.aggregator`: `partial(krum,
            num_malicious=4)`, or a function of your own in jax.numpy.
        attack: an `Attack`, or a pure attack on updates, instead of `config.attack`; its fraction still comes
            from the configuration.
        client: a `ClientAlgorithm` instead of `config.client`.
        loss: a function `loss(outputs, labels)` of a batch, as `fljax.register_loss` takes it, instead of
            `config.loss`.
        metrics: functions by name, as `fljax.register_metric` takes them, beside `config.metrics`.
        memory: gigabytes the run may use; None for what the device has left.

    Returns:
        The `Experiment`.

    Raises:
        ConfigError: if a component is unknown, the pieces do not fit, or the run cannot fit the memory.
        DataError: if the data cannot be read.
    """
    check_loaded(config)
    pieces: dict[str, Any] = {"aggregator": aggregator, "attack": attack, "client": client}
    settled = _settle(config, dataset, model, loss=loss, metrics=metrics, memory=memory, **pieces)
    parts, composed, devices = settled.parts, settled.composed, settled.devices
    check_before(settled.need, memory, settled.fits)
    mesh = mesh_of(parts.config, parts.cohort_size, mapped=parts.dataset.mapped, apart=settled.apart)
    params, model_state = initial_model(parts)
    key = jax.random.key(config.seed_for("train"))
    seeds = {purpose: config.seed_for(purpose) for purpose in PURPOSES}
    read = read_by_rounds(parts)
    laid = lay_out(read, devices) if composed.by_device else read
    state = jax.jit(composed.init_state)(params, key, model_state)
    if mesh is not None:
        state = put(state, mesh, state_specs(state, mesh, parts.num_clients))
    return Experiment(
        config=config,
        dataset=parts.dataset,
        model=parts.model,
        step=composed.step,
        evaluate=composed.evaluate,
        beside=put(beside_of(parts, without_clients(read) if composed.by_device else read), mesh),
        state=SimulationState(state, put(laid, mesh, data_specs(laid, composed.by_device))),
        unravel=composed.unravel,
        facts={
            "seeds": seeds,
            **describe(parts.dataset, parts.data, parts.cohort_size, parts.notes),
            "num_params": params.size,
            **environment(1 if mesh is None else mesh.size),
        },
        need=settled.need,
        memory=memory,
        mesh=mesh,
    )


def build(
    config: ExperimentConfig, **components: Any
) -> tuple[Callable[[SimulationState, Any], tuple[SimulationState, RoundMetrics]], SimulationState]:
    """One round as a pure function, and the state it starts from, for users who write their own loop.

    Args:
        config: the configuration.
        **components: `dataset`, `model`, `aggregator`, `attack`, `client`, `loss`, `metrics` as for
            `assemble`.

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
    progress: Progress | bool | None = True,
    memory: float | None = None,
    track: Any = None,
    **components: Any,
) -> RunResult:
    """Run an experiment to its end.

    Args:
        config: the configuration.
        out: the run's folder, new or empty; None writes nothing.
        resume: continue the run in `out` from its last checkpoint.
        progress: called with every `Record`; one that has a method `paused` is told of every `Pause` between
            two of them, too. True shows how far the run is on the standard error, False and None nothing.
        memory: gigabytes the run may use; None for what the device has left.
        track: who is told of it: a name of `fljax.tracking.TRACKERS`, which writes below `out`, a `Tracker`
            of your own, or a list of these.
        **components: `dataset`, `model`, `aggregator`, `attack`, `client`, `loss`, `metrics` as for
            `assemble`.

    Returns:
        The `RunResult`. A model that diverges ends the run early, with `diverged` set, and so does what
        `config.stop` waits for, with the reason as `stopped`. Whatever else ends it early, an exception of
        `progress` or Ctrl-C, leaves a checkpoint.

    Raises:
        ConfigError: if the configuration cannot be run, `out` holds something else or another process uses
            it; nothing is written. Also if a tracker cannot start.
        DataError: if the data cannot be read, or what is in `out` is not what the run has written.
        WriteError: if a file cannot be written.
        OutOfMemoryError: if memory runs out all the same.
    """
    check_loaded(config)
    load_plugins(config.plugins)
    trackers = make_trackers(track, None if out is None else Path(out))
    experiment = assemble(config, memory=memory, **components)
    try:
        with shown(progress, config.rounds) as tell:
            return run_experiment(experiment, out, resume=resume, progress=tell, track=trackers)
    except KeyboardInterrupt as error:
        if out is not None and (Path(out) / "config.json").exists():
            say_how_to_go_on(error, f"fljax.run(..., out={str(out)!r}, resume=True)")
        raise


def compile_experiment(experiment: Experiment) -> Program:
    """The experiment's two programs; experiments of the same shapes can share them."""
    with explained(experiment.need.largest.lower):
        program = compile_program(
            experiment.step,
            experiment.evaluate,
            *experiment.state,
            _test_set(experiment),
            experiment.config.eval_every,
            experiment.beside,
            experiment.mesh,
        )
    devices = 1 if experiment.mesh is None else experiment.mesh.size
    check_compiled(experiment.need, program.chunk, experiment.memory, devices)
    return program


def _test_set(experiment: Experiment) -> tuple[jax.Array, jax.Array]:
    return put((experiment.dataset.test_x, experiment.dataset.test_y), experiment.mesh)


def pad_tables(experiments: Sequence[Experiment]) -> list[Experiment]:
    """Widen the index tables to a common width, so that runs of different seeds fit one program."""
    width = max(experiment.state.data.table.shape[1] for experiment in experiments)

    def padded(experiment: Experiment) -> Experiment:
        table = experiment.state.data.table
        table = jnp.pad(table, ((0, 0), (0, width - table.shape[1])), constant_values=-1)
        data = experiment.state.data._replace(table=table)
        return dataclasses.replace(experiment, state=experiment.state._replace(data=data))

    return list(map(padded, experiments))


@explained_by(lambda experiment: experiment.need.largest.lower)
def run_experiment(
    experiment: Experiment,
    out: str | Path | None = None,
    *,
    resume: bool = False,
    progress: Progress | None = None,
    program: Program | None = None,
    stop: Stop | None = None,
    note: Callable[[str], None] = warnings.warn,
    track: Any = None,
) -> RunResult:
    """`run`, for an experiment that is assembled already; its initial state may be used again.

    Args:
        experiment: what to run.
        out, resume, progress, track: as for `run`.
        program: the compiled program of an experiment of the same shapes; None compiles one.
        stop: asked between two calls of the program; when a signal has arrived the state is saved.
        note: told what a person should know about the run, a sentence each; summary.json keeps them.

    Returns:
        The `RunResult`.

    Raises:
        ConfigError: if `out` holds something else or another process uses it; nothing is written.
        DataError: if what is in `out` is not what the run has written.
        WriteError: if a file cannot be written.
        InterruptError: if `stop` says so.
    """
    # Only the first process of a job writes and reports.
    resuming, first = resume and out is not None, is_first()
    out, progress, track = (out, progress, track) if first else (None, None, None)
    config, place = experiment.config, None if out is None else Path(out)
    trackers = make_trackers(track, place)
    if out is not None:
        check_run_folder(Path(out), config.resolved(), resume)
    # Compiled before the folder is made: what cannot be traced leaves nothing behind.
    program = program or compile_experiment(experiment)
    with ExitStack() as stack:
        initial = whole(experiment.state.run)
        folder, begun = None, Begun(Start(initial))
        if out is not None:
            folder = RunFolder(Path(out), config.resolved(), resume, experiment.facts, note)
            stack.enter_context(closing(folder))
        if folder is not None and resume:
            begun = folder.begin(initial)
        if resuming:
            begun = told_begun(begun, config.eval_every)
        name = "run" if place is None else place.absolute().name
        started = Started("run", name, config.resolved(), place, resumed=resume)
        stack.enter_context(trackers.following(started, note if folder is None else folder.note))
        for line in begun.lines:
            trackers.evaluation(line)
        state, lines, seconds_wall = _rounds(experiment, program, folder, begun, progress, stop, trackers)
        summary = {
            **_summary(lines, config.stop, seconds_wall, program),
            "outcomes": _outcomes(lines, config),
            "seed": config.seed,
            **experiment.facts,
            "notes": [] if folder is None else folder.notes,
        }
        if folder is not None:
            folder.finish(summary)
        trackers.end(summary)
    params, model_state = whole((state.params, state.model_state))
    return RunResult(summary, columns(lines), experiment.unravel(params), model_state)


def _rounds(
    experiment: Experiment,
    program: Program,
    folder: RunFolder | None,
    begun: Begun,
    progress: Progress | None,
    stop: Stop | None,
    trackers: Trackers,
) -> tuple[RunState, list[Line], float]:
    """Do the rounds that are missing; return the last state, all lines, and the seconds of wall time."""
    config, lines = experiment.config, list(begun.lines)
    # The compiled chunk consumes its state; the experiment keeps its own.
    start = begun.start._replace(state=jax.tree.map(jnp.copy, like(experiment.state.run, begun.start.state)))
    if is_over(lines, config.stop):
        return start.state, lines, begun.seconds_wall
    begin = time.perf_counter()

    def wall() -> float:
        return begun.seconds_wall + time.perf_counter() - begin

    def measured(record: Record) -> bool:
        lines.append(metrics_line(record))
        if folder is not None:
            folder.append(lines[-1])
        trackers.evaluation(lines[-1])
        return is_over(lines, config.stop)

    def due(at: Record | Pause, over: bool) -> bool:
        return folder is not None and (over or folder.due(at.round))

    def save(at: Record | Pause) -> None:
        of_all = whole(at.state)
        if folder is not None:
            folder.save(at._replace(state=of_all), wall())

    stop = stop or Stop()
    try:
        state = train(
            program.bind(experiment.state.data, _test_set(experiment), config.eval_every, experiment.beside),
            start,
            rounds=config.rounds,
            eval_every=config.eval_every,
            measured=measured,
            tell=teller(progress),
            due=due,
            save=save,
            stop=stop,
        )
    except StoppedError:
        stop.check()
        raise JobError("another process of the job was told to stop; the state is saved") from None
    except Exception as error:
        if not of_another(error):
            raise
        raise JobError(
            "another process of the job is gone; the run can go on from its last checkpoint, on as many "
            "processes and devices as there are"
        ) from error
    return state, lines, wall()


def _outcomes(lines: Sequence[Line], config: ExperimentConfig) -> dict[str, float]:
    """The numbers of the whole run that it has."""
    found = outcomes(columns(lines), config.resolved(), bool(lines[-1]["diverged"]))
    return {name: value for name, value in found.items() if not math.isnan(value)}


def _summary(
    lines: Sequence[Line], stop: StopConfig | None, seconds_wall: float, program: Program
) -> dict[str, Any]:
    """The numbers of summary.json; times are over all legs of a run that was interrupted."""
    last = lines[-1]
    rounds, seconds = int(last["round"] or 0), sum(line["seconds"] or 0.0 for line in lines)
    diverged = bool(last["diverged"])
    return {
        **{name: last[name] for name in evaluated_columns(last)},
        "best": {name: best._asdict() for name, best in best_values(lines).items()},
        "rounds": rounds,
        "diverged": diverged,
        "stopped": None if diverged else stopped(lines, stop),
        "seconds_compile": round(program.seconds_compile, 3),
        "seconds_run": round(seconds, 3),
        "rounds_per_second": round(rounds / max(seconds, 1e-9), 3),
        "seconds_wall": round(seconds_wall, 3),
        "rounds_per_second_wall": round(rounds / max(seconds_wall, 1e-9), 3),
    }
