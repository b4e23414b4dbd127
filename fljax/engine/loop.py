"""The host loop around the compiled chunk of rounds."""

import os
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import Mesh, NamedSharding

from fljax.engine.evaluate import NOTHING_BESIDE, Beside, Evaluation
from fljax.engine.mesh import WHOLE, put
from fljax.engine.processes import agreed, any_of
from fljax.engine.round import RoundMetrics, Step
from fljax.engine.state import RoundData, RunState
from fljax.numerics.sharding import using

# Seconds that one call of a compiled chunk should take at most, as nothing can be stopped or saved meanwhile;
# half of the ten that a person may be asked to wait, because machines get slower.
LONGEST_CALL = 5.0


class StoppedError(Exception):
    """Somebody asked to stop, and the state is saved."""


class Record(NamedTuple):
    """The numbers of one chunk of rounds and of the evaluation after it.

    A batch of several cells has one record; its evaluation and metrics then have a leading axis (cells,).

    Attributes:
        state: the state after the chunk; the next chunk consumes it, so copy what should outlive it.
        round: rounds done so far.
        evaluation: test error, attack success rate and further metrics, floats.
        metrics: the chunk's per-round metrics, arrays (eval_every,).
        seconds: wall time of the chunk and its evaluation.
    """

    state: RunState
    round: int
    evaluation: Evaluation
    metrics: RoundMetrics
    seconds: float

    @property
    def diverged(self) -> bool:
        """True if a round of the chunk left the finite numbers."""
        return not bool(np.all(self.metrics.finite > 0))

    def cell(self, index: int) -> "Record":
        """The evaluation and the metrics of one cell of a batch; a run alone is its own only cell."""
        if np.ndim(self.metrics.finite) == 1:
            return self
        return self._replace(
            evaluation=jax.tree.map(lambda values: float(values[index]), self.evaluation),
            metrics=RoundMetrics(*(values[index] for values in self.metrics)),
        )


class Pause(NamedTuple):
    """The moment between two calls of a chunk that takes long.

    Attributes:
        state: the state so far; the next call consumes it.
        round: rounds done so far.
        metrics: of the chunk's rounds, arrays (eval_every,), or (cells, eval_every) of a batch, filled for
            those that are done.
        seconds: wall time of the chunk so far.
    """

    state: RunState
    round: int
    metrics: RoundMetrics
    seconds: float

    @property
    def diverged(self) -> bool:
        """True if a round of the chunk has left the finite numbers, in any cell of a batch."""
        finite = np.asarray(self.metrics.finite)
        return not bool(np.all(finite[..., : self.round % finite.shape[-1]] > 0))


class Start(NamedTuple):
    """The point at which a run or a batch goes on.

    Attributes:
        state: consumed by the first call.
        metrics: of the chunk that `state` is in the middle of; None at the start of a chunk.
        seconds: what this chunk has taken so far.
    """

    state: RunState
    metrics: RoundMetrics | None = None
    seconds: float = 0.0


class Bound(NamedTuple):
    """The compiled programs of a run or a batch with the data they read.

    Attributes:
        chunk: `(state, metrics, first, end) -> (state, metrics)`: rounds `first` to `end` of a chunk, whose
            metrics are filled in; consumes the state it is given.
        evaluate: `state -> Evaluation`.
        blank: metrics of a chunk of which no round is done.
    """

    chunk: Callable[[RunState, RoundMetrics, Any, Any], tuple[RunState, RoundMetrics]]
    evaluate: Callable[[RunState], Evaluation]
    blank: RoundMetrics


class Program(NamedTuple):
    """The two compiled programs of a run and what compiling them took.

    Attributes:
        chunk: `(state, metrics, data, first, end) -> (state, metrics)`: as in `Bound`.
        evaluate: `(params, test_x, test_y, model_state, beside) -> Evaluation`.
        seconds_compile: wall time of tracing and compiling both.
    """

    chunk: Callable[..., tuple[RunState, RoundMetrics]]
    evaluate: Callable[..., Evaluation]
    seconds_compile: float

    def bind(
        self, data: RoundData, test: tuple[Array, Array], eval_every: int, beside: Beside = NOTHING_BESIDE
    ) -> Bound:
        """The programs with the round's data, the test inputs and labels, and what is read beside them."""
        return Bound(
            lambda state, metrics, first, end: self.chunk(state, metrics, data, first, end),
            lambda state: self.evaluate(state.params, *test, state.model_state, beside_of(state, beside)),
            no_metrics(eval_every),
        )


def beside_of(state: RunState, beside: Beside) -> Beside:
    """What an evaluation of a state reads beside the test set."""
    return beside._replace(attack_state=state.attack_state)


def some_rounds(
    step: Callable[[RunState], tuple[RunState, RoundMetrics]],
    state: RunState,
    metrics: RoundMetrics,
    first: Array,
    end: Array,
) -> tuple[RunState, RoundMetrics]:
    """Rounds `first` to `end` of a chunk, by one program for any number: their bits do not depend on it.

    Args:
        step: one round.
        state: where to start.
        metrics: of the chunk's rounds, arrays (eval_every,).
        first, end: int32 scalars, 0 ≤ first ≤ end ≤ eval_every.

    Returns:
        The state, and the metrics with those of these rounds filled in.
    """

    def one(i: Array, carry: tuple[RunState, RoundMetrics]) -> tuple[RunState, RoundMetrics]:
        state, metrics = carry
        state, of_round = step(state)
        return state, written(metrics, of_round, i)

    return lax.fori_loop(first, end, one, (state, metrics))


def written(metrics: RoundMetrics, of_round: RoundMetrics, number: Array) -> RoundMetrics:
    """The metrics of a chunk with those of one of its rounds filled in."""

    def filled(column: Array, value: Array) -> Array:
        # Not `column.at[number].set`, which is a scatter. A model of another precision has metrics of it.
        return lax.dynamic_update_index_in_dim(column, value.astype(column.dtype), number, 0)

    return jax.tree.map(filled, metrics, of_round)


def no_metrics(*shape: int) -> RoundMetrics:
    """Metrics of rounds that are not done: arrays of this shape, whose last axis is the rounds of a chunk."""
    return RoundMetrics(*(jnp.zeros(shape, jnp.float32) for _ in RoundMetrics._fields))


class Pace:
    """The number of rounds in a call of a compiled chunk: one at first, then what `LONGEST_CALL` allows."""

    def __init__(self) -> None:
        self.rounds = 1

    def measured(self, rounds: int, seconds: float) -> None:
        """Adapt to a call of so many rounds that took so long."""
        self.rounds = max(1, int(LONGEST_CALL * rounds / max(seconds, 1e-9)))


def compile_program(
    step: Step,
    evaluate: Callable[..., Evaluation],
    state: RunState,
    data: RoundData,
    test: tuple[Array, Array],
    eval_every: int,
    beside: Beside = NOTHING_BESIDE,
    mesh: Mesh | None = None,
) -> Program:
    """Compile up to `eval_every` rounds into one program, and the evaluation into another.

    Args:
        step: one round.
        evaluate: the pure evaluation.
        state: the initial state, for its shapes.
        data: the round's data, for their shapes; they are arguments of the program, not part of it.
        test: test inputs and labels, for their shapes.
        eval_every: rounds per chunk.
        beside: what an evaluation reads beside the test set, for its shapes.
        mesh: the devices that share the work, on which state and data lie as they shall; None for one.

    Returns:
        The `Program`.
    """

    def chunk(
        state: RunState, metrics: RoundMetrics, data: RoundData, first: Array, end: Array
    ) -> tuple[RunState, RoundMetrics]:
        return some_rounds(lambda state: step(state, data), state, metrics, first, end)

    start = time.perf_counter()
    given = state, put(no_metrics(eval_every), mesh), data, np.int32(0), np.int32(eval_every)
    tested = state.params, *test, state.model_state, beside_of(state, beside)
    small = are_small(state.params, data)
    compiled_chunk = compiled(chunk, given, mesh, donate_argnums=0, results=given[:2], small=small)
    compiled_evaluate = compiled(evaluate, tested, mesh, small=small)
    return Program(compiled_chunk, compiled_evaluate, time.perf_counter() - start)


def are_small(params: Any, data: RoundData) -> bool:
    """Whether the updates of all clients are so few numbers that a program had better be compiled quickly.

    Args:
        params: of the model, or of those of all runs.
        data: the round's data.
    """
    return data.counts.shape[-1] * sum(leaf.size for leaf in jax.tree.leaves(params)) <= SMALL


def compiled(
    function: Callable[..., Any],
    given: tuple[Any, ...],
    mesh: Mesh | None,
    results: Any = None,
    small: bool = False,
    **how: Any,
) -> Any:
    """A function compiled for some arguments, for the devices that they lie on.

    Args:
        function: the function.
        given: its arguments.
        mesh: the devices; None for one.
        results: arrays, or their shapes, that lie as the results shall; None for a whole on every device.
        small: whether the work is, see `are_small`.
        **how: to `jax.jit`.
    """
    if mesh is None:
        return _compile(jax.jit(function, **how).lower(*given), small)

    def places(tree: Any) -> Any:
        whole = NamedSharding(mesh, WHOLE)
        return jax.tree.map(lambda leaf: getattr(leaf, "sharding", whole), tree)

    laid = NamedSharding(mesh, WHOLE) if results is None else places(results)
    how |= {"in_shardings": places(given), "out_shardings": laid}
    # Shapes alone: arrays would bring their mesh with them, which a function of one device cannot capture.
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), given)
    with using(mesh):
        return _compile(jax.jit(function, **how).lower(*shapes), small)


# XLA's own choice on a CPU but for convolutions: Eigen takes a half to a quarter of YNNPACK's time for them.
CPU_OPTIONS = {
    "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_REDUCE"
}
# Where stacks are small: half of the time to compile, the same of a round (benchmarks/README.md).
QUICK_OPTIONS = {"xla_backend_optimization_level": 1, "xla_cpu_use_fusion_emitters": False}
# Entries of the updates of all clients, in all runs of a program, up to which they are small.
SMALL = 2**20
# Options that this version of XLA does not have.
_missing: set[str] = set()


def _compile(lowered: Any, small: bool) -> Any:
    """The compiled program; options that XLA does not know are left out, and those of XLA_FLAGS win."""
    options: dict[str, Any] = {}
    if jax.default_backend() == "cpu":
        options |= CPU_OPTIONS
        if small and not jax.config.read("jax_disable_most_optimizations"):
            options |= QUICK_OPTIONS
    told = os.environ.get("XLA_FLAGS", "")
    while True:
        options = {
            name: value for name, value in options.items() if name not in _missing and name not in told
        }
        try:
            return lowered.compile(compiler_options=options or None)
        except jax.errors.JaxRuntimeError as error:
            unknown = {name for name in options if name in str(error)}
            if not unknown:
                raise
            _missing.update(unknown)


def train(
    program: Bound,
    start: Start,
    *,
    rounds: int,
    eval_every: int,
    measured: Callable[[Record], bool],
    tell: Callable[[Record | Pause], object] = lambda at: None,
    due: Callable[[Record | Pause, bool], bool] = lambda at, over: False,
    save: Callable[[Record | Pause], object] = lambda at: None,
    stop: Callable[[], bool] = lambda: False,
) -> RunState:
    """Run chunks until `rounds` rounds are done or every model has diverged.

    After every call of the program: `measured` if a chunk is done, then `tell`, then `stop`, then `save` if
    it is `due` or the loop ends early.

    Args:
        program: from `bind`.
        start: where to start.
        rounds: the total, counted from round 0.
        eval_every: rounds per chunk.
        measured: takes the numbers of a chunk; returns True if there is nothing left to train.
        tell: shows how far the rounds are.
        due: tells from the moment, and from whether it is the last, if the state should be saved.
        save: saves the state, which the next call consumes.
        stop: asked whether to give up.

    Returns:
        The state after the last round.

    Raises:
        StoppedError: if `stop` says so; the state is saved.
    """
    state = start.state
    unsaved: Record | Pause | None = None
    try:
        for at in _moments(program, start, rounds, eval_every):
            unsaved = None  # the call has consumed it
            over = isinstance(at, Record) and (measured(at) or at.round >= rounds)
            state, unsaved = at.state, at
            tell(at)
            stopping = any_of(stop()) and not over
            if stopping or agreed(due(at, over)):
                unsaved = None
                save(at)
            if stopping:
                raise StoppedError
            if over:
                break
    except BaseException:
        # What is done is not lost, unless it is being computed with, or other processes have parts of it.
        alone = jax.process_count() == 1
        if unsaved is not None and alone and not unsaved.state.params.is_deleted():
            save(unsaved)
        raise
    return state


def _moments(program: Bound, start: Start, rounds: int, eval_every: int) -> Iterator[Record | Pause]:
    """A `Record` after every chunk, and a `Pause` between the calls of a chunk that is done in several."""
    state, metrics, seconds = start
    metrics = program.blank if metrics is None else metrics
    done, pace = int(np.max(np.asarray(state.round))), Pace()
    while done < rounds:
        inside = done % eval_every
        begin, begun = time.perf_counter(), done - inside
        while True:
            count = agreed(min(pace.rounds, eval_every - inside))
            state, metrics = program.chunk(state, metrics, np.int32(inside), np.int32(inside + count))
            inside += count
            if inside == eval_every:
                break
            # Only calls that leave some rounds to do are waited for on their own.
            jax.block_until_ready(metrics)
            seconds += (took := time.perf_counter() - begin)
            pace.measured(count, took)
            yield Pause(state, begun + inside, metrics, seconds)
            begin = time.perf_counter()
        fetched: Any = jax.device_get((program.evaluate(state), metrics))
        took = time.perf_counter() - begin
        pace.measured(count, took)
        done = begun + eval_every
        evaluation = jax.tree.map(lambda value: value if np.ndim(value) else float(value), fetched[0])
        yield Record(state, done, evaluation, fetched[1], seconds + took)
        seconds = 0.0
