"""The host loop around the compiled chunk of rounds."""

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array, lax

from fljax.evaluate import Evaluation
from fljax.round import RoundMetrics, Step
from fljax.types import RoundData, RunState


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


class Program(NamedTuple):
    """The two compiled programs of a run and what compiling them took.

    Attributes:
        chunk: `(state, data) -> (state, stacked metrics)`; consumes the state it is given.
        evaluate: `(params, test_x, test_y, model_state) -> Evaluation`.
        seconds_compile: wall time of tracing and compiling both.
    """

    chunk: Callable[[RunState, RoundData], tuple[RunState, RoundMetrics]]
    evaluate: Callable[[Array, Array, Array, Any], Evaluation]
    seconds_compile: float


def compile_program(
    step: Step,
    evaluate: Callable[..., Evaluation],
    state: RunState,
    data: RoundData,
    test: tuple[Array, Array],
    eval_every: int,
) -> Program:
    """Compile `eval_every` rounds into one program, and the evaluation into another.

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

    def chunk(state: RunState, data: RoundData) -> tuple[RunState, RoundMetrics]:
        return lax.scan(lambda carry, _: step(carry, data), state, length=eval_every)

    start = time.perf_counter()
    compiled_chunk = jax.jit(chunk, donate_argnums=0).lower(state, data).compile()
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
) -> Iterator[Record]:
    """Run chunks until `rounds` rounds are done or the model diverges.

    Args:
        program: from `compile_program`.
        state: where to start; it is consumed.
        data: the round's data.
        test: test inputs and labels.
        rounds: the total, counted from round 0 of the run.
        eval_every: rounds per chunk.

    Yields:
        One `Record` per chunk.
    """
    done = int(state.round)
    while done < rounds:
        start = time.perf_counter()
        state, metrics = program.chunk(state, data)
        evaluation = program.evaluate(state.params, *test, state.model_state)
        fetched: Any = jax.device_get((evaluation, metrics))
        done += eval_every
        record = Record(
            state, done, Evaluation(*map(float, fetched[0])), fetched[1], time.perf_counter() - start
        )
        yield record
        if record.diverged:
            return
