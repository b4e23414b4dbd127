"""A group as one compiled program: what it reads, and how it is made."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array
from jax.sharding import Mesh

from fljax.engine.evaluate import Beside, Evaluation
from fljax.engine.loop import Bound, are_small, beside_of, compiled, no_metrics, some_rounds
from fljax.engine.mesh import WHOLE, of_runs, placed, put, state_specs
from fljax.engine.round import RoundMetrics
from fljax.engine.state import RoundData, RunState
from fljax.numerics.safe import RUNS
from fljax.numerics.sharding import CLIENTS_AXIS, RUNS_AXIS
from fljax.simulation.assembly import compose
from fljax.simulation.devices import mesh_of
from fljax.simulation.memory import program_bytes, sharing
from fljax.sweeps.inputs import Inputs, beside_test, group_inputs, of_batch, on_mesh, tested_rows
from fljax.sweeps.plan import Group
from fljax.sweeps.stages import Compiler, SharedPrograms, compile_evaluation, compile_rounds

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
        bytes: what the compiler says the chunk needs of a memory, data included.
        inputs: what they read.
        mesh: the devices that share the work; None for one.
    """

    size: int
    start: Callable[..., RunState]
    chunk: Callable[..., tuple[RunState, RoundMetrics]]
    evaluate: Callable[..., Evaluation]
    seconds_compile: float
    bytes: int
    inputs: Inputs
    mesh: Mesh | None = None

    @property
    def devices(self) -> int:
        """The number of devices that share the work."""
        return 1 if self.mesh is None else self.mesh.size

    def rows(self, which: list[int]) -> Inputs:
        """What the programs read for some cells, of which the last is repeated where they hold more."""
        return _rows(self.inputs, which, self.size, self.mesh)

    def bind(self, inputs: Inputs, eval_every: int) -> Bound:
        """The programs with the rows of a batch, from `of_batch`."""
        test, beside = (inputs.test_x, inputs.test_y, inputs.test_rows), beside_test(inputs)
        return Bound(
            lambda state, metrics, first, end: self.chunk(
                state, metrics, inputs.data, inputs.traced, first, end
            ),
            lambda state: self.evaluate(state.params, *test, state.model_state, beside_of(state, beside)),
            blank_metrics(self.size, eval_every, self.mesh),
        )


def compile_group(group: Group, shared: SharedPrograms | None = None) -> GroupProgram:
    """Compile a group's programs for batches of `group.size` cells.

    Args:
        group: the group.
        shared: what groups in stages share; None for no other group.
    """
    mesh = mesh_of(group.config, group.parts[0].cohort_size, group.size)
    runs, devices = (1, 1) if mesh is None else (mesh.shape[RUNS_AXIS], mesh.shape[CLIENTS_AXIS])
    size = -(-group.size // runs) * runs
    inputs = on_mesh(group_inputs(group), mesh, every=False)
    # A bound for all cells; what attacks draw for their rows does not depend on it.
    most = max(p.task.max_malicious or 0 for p in group.parts)
    first = group.parts[0]
    parts = first._replace(task=first.task._replace(max_malicious=most))
    batch = max(1, EVALUATED_AT_ONCE // (size // runs))
    along: Any = {"axis_name": RUNS, "spmd_axis_name": None if mesh is None else RUNS_AXIS}

    def start(params: Array, key: Array, model_state: Any, traced: dict[str, Array]) -> RunState:
        return compose(parts, traced, check=False, devices=devices).init_state(params, key, model_state)

    def chunk(
        state: RunState,
        metrics: RoundMetrics,
        data: RoundData,
        traced: dict[str, Array],
        first: Array,
        end: Array,
    ) -> tuple[RunState, RoundMetrics]:
        step = compose(parts, traced, check=False, devices=devices).step
        return some_rounds(lambda state: step(state, data), state, metrics, first, end)

    def evaluate(
        params: Array, x: Array, y: Array, rows: Array | None, model_state: Any, beside: Beside
    ) -> Evaluation:
        plain = compose(parts, check=False, evaluation_batch=batch, devices=devices)
        return plain.evaluate(params, *tested_rows(x, y, rows), model_state, beside)

    rows_axis = None if inputs.test_rows is None else 0
    beside_axes = beside_test(inputs, axes=True)._replace(attack_state=0)
    test_axes = 0, inputs.test_axis, inputs.test_axis, rows_axis, 0, beside_axes
    begun_of: Any = start
    if size > 1:
        begun_of = jax.vmap(start, **along)
        chunk = jax.vmap(chunk, in_axes=(0, 0, inputs.axes, 0, None, None), **along)
        evaluate = jax.vmap(evaluate, in_axes=test_axes, **along)
    begin = time.perf_counter()
    given = _rows(inputs, list(range(group.size)), size, mesh)
    begun = given.params, given.keys, given.model_state, given.traced
    state = jax.eval_shape(begun_of, *begun)
    if mesh is not None:
        one = jax.eval_shape(start, *jax.tree.map(lambda leaf: leaf[0], begun)) if size > 1 else state
        specs = state_specs(one, mesh, first.num_clients)
        state = placed(state, mesh, of_runs(specs) if size > 1 else specs)
    blank = blank_metrics(size, group.config.eval_every, mesh)
    small = are_small(given.params, given.data)
    compiled_start = compiled(begun_of, begun, mesh, results=state, small=small)
    test = given.test_x, given.test_y, given.test_rows, given.model_state
    tested = given.params, *test, beside_of(state, beside_test(given))
    compiled_chunk: Any
    if group.staged and mesh is None:
        shared = SharedPrograms() if shared is None else shared
        over = along if size > 1 else None
        device = given.params.device
        compiler = Compiler(given.traced, inputs.axes, over, small, shared, batch, device)
        compiled_chunk, needed = compile_rounds(compiler, parts, state, blank, given.data)
        compiled_evaluate = compile_evaluation(compiler, parts, tested, test_axes)
    else:
        read = state, blank, given.data, given.traced, np.int32(0), np.int32(group.config.eval_every)
        compiled_chunk = compiled(chunk, read, mesh, donate_argnums=0, results=(state, blank), small=small)
        compiled_evaluate = compiled(evaluate, tested, mesh, small=small)
        needed = sharing(runs * devices) * program_bytes(compiled_chunk)
    return GroupProgram(
        size=size,
        start=compiled_start,
        chunk=compiled_chunk,
        evaluate=compiled_evaluate,
        seconds_compile=time.perf_counter() - begin,
        bytes=needed,
        inputs=inputs,
        mesh=mesh,
    )


def _rows(inputs: Inputs, which: list[int], size: int, mesh: Mesh | None) -> Inputs:
    """The inputs of a program of `size` cells for some, of which the last is repeated if they are fewer."""
    which = which + which[-1:] * (size - len(which))
    return on_mesh(of_batch(inputs, which if size > 1 else which[0]), mesh, size > 1)


def blank_metrics(size: int, eval_every: int, mesh: Mesh | None = None) -> RoundMetrics:
    """Metrics of a chunk of which no round is done, for a program that holds `size` cells."""
    if size == 1:
        return put(no_metrics(eval_every), mesh)
    return put(no_metrics(size, eval_every), mesh, of_runs(WHOLE))
