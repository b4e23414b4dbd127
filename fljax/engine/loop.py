"""The host loop around the compiled chunk of rounds."""

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from fljax.engine.evaluate import Evaluation
from fljax.engine.round import RoundMetrics, Step
from fljax.engine.state import RoundData, RunState

# Seconds that one call of a compiled chunk should take at most, as nothing can be stopped or saved meanwhile;
# half of the ten that a person may be asked to wait, because machines get slower.
LONGEST_CALL = 5.0


class Record(NamedTuple):
    """What is known after one chunk of rounds and its evaluation.

    Attributes:
        state: the state after the chunk; the next chunk consumes it, so copy what should outlive it.
        round: rounds done so far.
        evaluation: test error and attack success rate, floats.
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
        """Whether any round of the chunk left the finite numbers."""
        return not bool(np.all(self.metrics.finite > 0))


class Pause(NamedTuple):
    """Between two calls of a chunk that takes long.

    Attributes:
        state: the state so far; the next call consumes it.
        round: rounds done so far.
        metrics: of the chunk's rounds, arrays (eval_every,) of which those that are done are filled.
        seconds: wall time of the chunk so far.
    """

    state: RunState
    round: int
    metrics: RoundMetrics
    seconds: float

    @property
    def diverged(self) -> bool:
        """Whether a round of the chunk has left the finite numbers."""
        done = self.round % len(self.metrics.finite)
        return not bool(np.all(np.asarray(self.metrics.finite)[:done] > 0))


class Program(NamedTuple):
    """The two compiled programs of a run and what compiling them took.

    Attributes:
        chunk: `(state, metrics, data, first, end) -> (state, metrics)`: rounds `first` to `end` of a chunk,
            whose metrics are filled in; consumes the state it is given.
        evaluate: `(params, test_x, test_y, model_state) -> Evaluation`.
        seconds_compile: wall time of tracing and compiling both.
    """

    chunk: Callable[..., tuple[RunState, RoundMetrics]]
    evaluate: Callable[[Array, Array, Array, Any], Evaluation]
    seconds_compile: float


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
        # Not `column.at[i].set`, which is a scatter.
        return state, jax.tree.map(
            lambda column, value: lax.dynamic_update_index_in_dim(column, value, i, 0), metrics, of_round
        )

    return lax.fori_loop(first, end, one, (state, metrics))


def no_metrics(*shape: int) -> RoundMetrics:
    """Metrics of rounds to come: arrays of this shape, the last axis being the rounds of a chunk."""
    return RoundMetrics(*(jnp.zeros(shape, jnp.float32) for _ in RoundMetrics._fields))


class Pace:
    """How many rounds a call of a compiled chunk does: first one, then as many as `LONGEST_CALL` allows."""

    def __init__(self) -> None:
        self.rounds = 1

    def measured(self, rounds: int, seconds: float) -> None:
        """So many rounds took so long."""
        self.rounds = max(1, int(LONGEST_CALL * rounds / max(seconds, 1e-9)))


def calls(
    chunk: Callable[[RunState, RoundMetrics, Any, Any], tuple[RunState, RoundMetrics]],
    state: RunState,
    metrics: RoundMetrics,
    done: int,
    length: int,
    pace: Pace,
) -> Iterator[tuple[RunState, RoundMetrics, int]]:
    """The rest of a chunk, in as many calls as the pace asks for.

    Args:
        chunk: `(state, metrics, first, end) -> (state, metrics)`.
        state: consumed.
        metrics: of the chunk.
        done: rounds of the chunk that are done.
        length: rounds of the chunk.
        pace: told how long parts of a chunk take.

    Yields:
        State, metrics and rounds done after every call; only calls that leave some to do are waited for.
    """
    while done < length:
        count = min(pace.rounds, length - done)
        start = time.perf_counter()
        state, metrics = chunk(state, metrics, np.int32(done), np.int32(done + count))
        done += count
        if done < length:
            jax.block_until_ready(metrics)
            pace.measured(count, time.perf_counter() - start)
        yield state, metrics, done


def compile_program(
    step: Step,
    evaluate: Callable[..., Evaluation],
    state: RunState,
    data: RoundData,
    test: tuple[Array, Array],
    eval_every: int,
) -> Program:
    """Compile up to `eval_every` rounds into one program, and the evaluation into another.

    Args:
        step: one round.
        evaluate: the pure evaluation.
        state: the initial state, for its shapes.
        data: the round's data, for their shapes; they are arguments of the program, not part of it.
        test: test inputs and labels, for their shapes.
        eval_every: rounds per chunk.

    Returns:
        The `Program`.
    """

    def chunk(
        state: RunState, metrics: RoundMetrics, data: RoundData, first: Array, end: Array
    ) -> tuple[RunState, RoundMetrics]:
        return some_rounds(lambda state: step(state, data), state, metrics, first, end)

    start = time.perf_counter()
    given = state, no_metrics(eval_every), data, np.int32(0), np.int32(eval_every)
    compiled_chunk = jax.jit(chunk, donate_argnums=0).lower(*given).compile()
    compiled_evaluate = jax.jit(evaluate).lower(state.params, *test, state.model_state).compile()
    return Program(compiled_chunk, compiled_evaluate, time.perf_counter() - start)


def train(
    program: Program,
    state: RunState,
    data: RoundData,
    test: tuple[Array, Array],
    *,
    rounds: int,
    eval_every: int,
    metrics: RoundMetrics | None = None,
    seconds: float = 0.0,
) -> Iterator[Record | Pause]:
    """Run chunks until `rounds` rounds are done or the model diverges.

    Args:
        program: from `compile_program`.
        state: where to start; it is consumed.
        data: the round's data.
        test: test inputs and labels.
        rounds: the total, counted from round 0 of the run.
        eval_every: rounds per chunk.
        metrics: of the chunk that `state` is in the middle of; None at its start.
        seconds: that this chunk has taken so far.

    Yields:
        One `Record` per chunk, and a `Pause` between the calls of a chunk that is done in several.
    """
    done = int(state.round)
    metrics = no_metrics(eval_every) if metrics is None else metrics
    pace = Pace()

    def chunk(state: RunState, metrics: RoundMetrics, first: Any, end: Any) -> tuple[RunState, RoundMetrics]:
        return program.chunk(state, metrics, data, first, end)

    while done < rounds:
        start, inside = time.perf_counter(), done % eval_every
        begun, before = done - inside, inside
        for call in calls(chunk, state, metrics, inside, eval_every, pace):
            state, metrics, inside = call
            if inside < eval_every:
                seconds += time.perf_counter() - start
                yield Pause(state, begun + inside, metrics, seconds)
                start = time.perf_counter()
                before = inside
        evaluation = program.evaluate(state.params, *test, state.model_state)
        fetched: Any = jax.device_get((evaluation, metrics))
        last = time.perf_counter() - start
        pace.measured(eval_every - before, last)
        done = begun + eval_every
        record = Record(state, done, Evaluation(*map(float, fetched[0])), fetched[1], seconds + last)
        seconds = 0.0
        yield record
        if record.diverged:
            return
