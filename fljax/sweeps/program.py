"""A group as one compiled program: what it reads, and how it is made."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array

from fljax.engine.evaluate import Beside, Evaluation
from fljax.engine.loop import Bound, no_metrics, some_rounds
from fljax.engine.round import RoundMetrics
from fljax.engine.state import RoundData, RunState
from fljax.numerics.safe import RUNS
from fljax.simulation.assembly import compose
from fljax.simulation.memory import program_bytes
from fljax.sweeps.inputs import Inputs, beside_test, group_inputs, of_batch
from fljax.sweeps.plan import Group

# Test examples all cells of a batch evaluate at once.
EVALUATED_AT_ONCE = 500


class GroupProgram(NamedTuple):
    """The compiled programs of a group.

    Attributes:
        size: how many cells they hold.
        start: `(params, keys, model_state, traced) -> RunState`.
        chunk: `(state, metrics, data, traced, first, end) -> (state, metrics)`, as in
            `fljax.engine.loop.Program`; consumes the state.
        evaluate: `(params, test_x, test_y, test_rows, model_state, beside) -> Evaluation`.
        seconds_compile: of all three.
        bytes: what the compiler says the chunk needs, data included.
        inputs: what they read.
    """

    size: int
    start: Callable[..., RunState]
    chunk: Callable[..., tuple[RunState, RoundMetrics]]
    evaluate: Callable[..., Evaluation]
    seconds_compile: float
    bytes: int
    inputs: Inputs

    def bind(self, inputs: Inputs, eval_every: int) -> Bound:
        """The programs with the rows of a batch, from `of_batch`."""
        test, beside = (inputs.test_x, inputs.test_y, inputs.test_rows), beside_test(inputs)
        return Bound(
            lambda state, metrics, first, end: self.chunk(
                state, metrics, inputs.data, inputs.traced, first, end
            ),
            lambda state: self.evaluate(state.params, *test, state.model_state, beside),
            blank_metrics(self.size, eval_every),
        )


def compile_group(group: Group) -> GroupProgram:
    """Compile a group's programs for batches of `group.size` cells."""
    inputs = group_inputs(group)
    # A bound for all cells; what attacks draw for their rows does not depend on it.
    most = max(p.task.max_malicious or 0 for p in group.parts)
    first = group.parts[0]
    parts = first._replace(task=first.task._replace(max_malicious=most))
    batch = max(1, EVALUATED_AT_ONCE // group.size)
    plain = compose(parts, check=False, evaluation_batch=batch)

    def start(params: Array, key: Array, model_state: Any, traced: dict[str, Array]) -> RunState:
        return compose(parts, traced, check=False).init_state(params, key, model_state)

    def chunk(
        state: RunState,
        metrics: RoundMetrics,
        data: RoundData,
        traced: dict[str, Array],
        first: Array,
        end: Array,
    ) -> tuple[RunState, RoundMetrics]:
        step = compose(parts, traced, check=False).step
        return some_rounds(lambda state: step(state, data), state, metrics, first, end)

    def evaluate(
        params: Array, x: Array, y: Array, rows: Array | None, model_state: Any, beside: Beside
    ) -> Evaluation:
        tested = (x, y) if rows is None else (x[rows], y[rows])
        return plain.evaluate(params, *tested, model_state, beside)

    if group.size > 1:
        start = jax.vmap(start, axis_name=RUNS)
        chunk = jax.vmap(chunk, in_axes=(0, 0, inputs.axes, 0, None, None), axis_name=RUNS)
        rows_axis = None if inputs.test_rows is None else 0
        in_axes = (0, inputs.test_axis, inputs.test_axis, rows_axis, 0, beside_test(inputs, axes=True))
        evaluate = jax.vmap(evaluate, in_axes=in_axes, axis_name=RUNS)
    begin = time.perf_counter()
    given = of_batch(inputs, list(range(group.size)) if group.size > 1 else 0)
    begun = given.params, given.keys, given.model_state, given.traced
    compiled_start = jax.jit(start).lower(*begun).compile()
    state = jax.eval_shape(start, *begun)
    rounds = np.int32(0), np.int32(group.config.eval_every)
    read = blank_metrics(group.size, group.config.eval_every), given.data, given.traced, *rounds
    compiled_chunk = jax.jit(chunk, donate_argnums=0).lower(state, *read).compile()
    test = given.test_x, given.test_y, given.test_rows, given.model_state, beside_test(given)
    compiled_evaluate = jax.jit(evaluate).lower(given.params, *test).compile()
    seconds = time.perf_counter() - begin
    return GroupProgram(
        size=group.size,
        start=compiled_start,
        chunk=compiled_chunk,
        evaluate=compiled_evaluate,
        seconds_compile=seconds,
        bytes=program_bytes(compiled_chunk),
        inputs=inputs,
    )


def blank_metrics(size: int, eval_every: int) -> RoundMetrics:
    """Metrics of a chunk of which no round is done, for a program that holds `size` cells."""
    return no_metrics(*((size, eval_every) if size > 1 else (eval_every,)))
