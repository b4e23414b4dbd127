"""A group as one compiled program: what it reads, and how it is made."""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fljax.aggregators.linalg import RUNS
from fljax.assembly import Parts, compose, initial_model
from fljax.data import Dataset
from fljax.evaluate import Evaluation
from fljax.memory import program_bytes
from fljax.round import RoundMetrics
from fljax.sweeps.plan import Group
from fljax.train import no_metrics, some_rounds
from fljax.types import RoundData, RunState

# Test examples all cells of a batch evaluate at once.
EVALUATED_AT_ONCE = 500


class Inputs(NamedTuple):
    """What a group's program reads, on the device; leaves with a leading axis for the cells, or shared.

    Attributes:
        data: what a round reads.
        axes: 0 or None for every leaf of `data`.
        test_x, test_y: the test set, or all examples if `test_rows` tells which of them are tested.
        test_rows: (cells, T) positions in `test_x`, or None.
        test_axis: 0 where every cell has a test set of its own, else None.
        params: (cells, d) initial models.
        model_state: their state, leaves with a leading axis for the cells.
        keys: (cells,) typed keys.
        traced: numbers by dotted key, (cells,) each.
    """

    data: RoundData
    axes: RoundData
    test_x: Array
    test_y: Array
    test_rows: Array | None
    test_axis: int | None
    params: Array
    model_state: Any
    keys: Array
    traced: dict[str, Array]


class GroupProgram(NamedTuple):
    """The compiled programs of a group.

    Attributes:
        size: how many cells they hold.
        start: `(params, keys, model_state, traced) -> RunState`.
        chunk: `(state, metrics, data, traced, first, end) -> (state, metrics)`, as in `fljax.train.Program`;
            consumes the state.
        evaluate: `(params, test_x, test_y, test_rows, model_state) -> Evaluation`.
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


# --- what the program reads ---------------------------------------------------------------------------


def gather_inputs(group: Group) -> Inputs:
    """The group's arrays: one copy of what is the same for all cells, one row a cell of what is not."""
    parts = group.parts
    datasets = list({id(p.dataset): p.dataset for p in parts}.values())
    which = {id(dataset): i for i, dataset in enumerate(datasets)}
    pool = _pool(datasets)
    tables = [p.data for p in parts]
    if pool is not None:
        tables = [_moved(p.data, pool.train_rows[which[id(p.dataset)]]) for p in parts]
    width = max(data.table.shape[1] for data in tables)
    root = max(data.root.shape[0] for data in tables)

    def pad(values: Any, size: int) -> np.ndarray:
        array = np.asarray(values)
        widths = [(0, 0)] * (array.ndim - 1) + [(0, size - array.shape[-1])]
        return np.pad(array, widths, constant_values=-1)

    def per_cell(values: Sequence[Any]) -> tuple[Any, int | None]:
        arrays = [np.asarray(value) for value in values]
        if all(array is arrays[0] or np.array_equal(array, arrays[0]) for array in arrays):
            return arrays[0], None
        return np.stack(arrays), 0

    leaves: dict[str, tuple[Any, int | None]] = {
        "table": per_cell([pad(data.table, width) for data in tables]),
        "counts": per_cell([data.counts for data in tables]),
        "root": per_cell([np.maximum(pad(data.root, root), 0) for data in tables]),
        "malicious": per_cell([data.malicious for data in tables]),
        "root_count": per_cell([np.int32(data.root.shape[0]) for data in tables]),
    }
    test_rows = None
    test: tuple[Any, ...]
    if pool is not None:
        leaves |= {"x": (pool.x, None), "y": (pool.y, None)}
        test, test_axis = (pool.x, pool.y), None
        if len(datasets) > 1:
            test_rows = np.stack([pool.test_rows[which[id(p.dataset)]] for p in parts])
        else:
            test = datasets[0].test_x, datasets[0].test_y
    else:
        leaves |= {
            "x": per_cell([p.dataset.train_x for p in parts]),
            "y": per_cell([p.dataset.train_y for p in parts]),
        }
        test = tuple(np.stack([getattr(p.dataset, f"test_{v}") for p in parts]) for v in "xy")
        test_axis = 0
    return Inputs(
        jax.device_put(RoundData(**{name: value for name, (value, _) in leaves.items()})),
        RoundData(**{name: axis for name, (_, axis) in leaves.items()}),  # type: ignore[arg-type]
        jnp.asarray(test[0]),
        jnp.asarray(test[1]),
        None if test_rows is None else jnp.asarray(test_rows),
        test_axis,
        *_initial_models(parts),
        jnp.stack([jax.random.key(p.config.seed_for("train")) for p in parts]),
        {key: jnp.asarray(values) for key, values in group.traced.items()},
    )


def _initial_models(parts: Sequence[Parts]) -> tuple[Array, Any]:
    models: dict[int, Any] = {}
    for p in parts:
        if p.config.seed_for("init") not in models:
            models[p.config.seed_for("init")] = jax.device_get(initial_model(p))
    rows = [models[p.config.seed_for("init")] for p in parts]
    return jax.tree.map(lambda *leaves: jnp.asarray(np.stack(leaves)), *rows)


class _Pool(NamedTuple):
    """Several splits of the same examples as rows of one array."""

    x: np.ndarray
    y: np.ndarray
    train_rows: list[np.ndarray]
    test_rows: list[np.ndarray]


def _pool(datasets: Sequence[Dataset]) -> _Pool | None:
    """One copy of the examples that all data sets are splits of; None if they are different examples."""
    first = datasets[0]
    if len(datasets) == 1:
        rows = np.arange(len(first.train_y))
        return _Pool(first.train_x, first.train_y, [rows], [np.empty(0, np.int64)])
    x = np.concatenate([first.train_x, first.test_x])
    y = np.concatenate([first.train_y, first.test_y])
    # Examples that are alike are interchangeable, so any of their rows will do.
    place = {key: row for row, key in enumerate(_fingerprints(x, y))}
    found: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for dataset in datasets:
        for positions, part in zip(found, ("train", "test"), strict=True):
            keys = _fingerprints(getattr(dataset, f"{part}_x"), getattr(dataset, f"{part}_y"))
            positions.append(np.array([place.get(key, -1) for key in keys]))
            if positions[-1].min() < 0:
                return None
    return _Pool(x, y, *found)


def _fingerprints(x: np.ndarray, y: np.ndarray) -> list[bytes]:
    flat = np.ascontiguousarray(x).reshape(len(x), -1)
    return [row.tobytes() + label.tobytes() for row, label in zip(flat, y, strict=True)]


def _moved(data: RoundData, rows: np.ndarray) -> RoundData:
    """The same clients with positions in the pool."""
    table, root = np.asarray(data.table), np.asarray(data.root)
    moved = np.where(table >= 0, rows[table], -1).astype(np.int32)
    return data._replace(table=moved, root=rows[root].astype(np.int32))  # type: ignore[arg-type]


# --- the program --------------------------------------------------------------------------------------


def compile_group(group: Group) -> GroupProgram:
    """Compile a group's programs for batches of `group.size` cells."""
    inputs = gather_inputs(group)
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

    def evaluate(params: Array, x: Array, y: Array, rows: Array | None, model_state: Any) -> Evaluation:
        tested = (x, y) if rows is None else (x[rows], y[rows])
        return plain.evaluate(params, *tested, model_state)

    if group.size > 1:
        start = jax.vmap(start, axis_name=RUNS)
        chunk = jax.vmap(chunk, in_axes=(0, 0, inputs.axes, 0, None, None), axis_name=RUNS)
        rows_axis = None if inputs.test_rows is None else 0
        in_axes = (0, inputs.test_axis, inputs.test_axis, rows_axis, 0)
        evaluate = jax.vmap(evaluate, in_axes=in_axes, axis_name=RUNS)
    begin = time.perf_counter()
    given = of_batch(inputs, list(range(group.size)) if group.size > 1 else 0)
    begun = given.params, given.keys, given.model_state, given.traced
    compiled_start = jax.jit(start).lower(*begun).compile()
    state = jax.eval_shape(start, *begun)
    rounds = np.int32(0), np.int32(group.config.eval_every)
    read = blank_metrics(group), given.data, given.traced, *rounds
    compiled_chunk = jax.jit(chunk, donate_argnums=0).lower(state, *read).compile()
    test = given.test_x, given.test_y, given.test_rows, given.model_state
    compiled_evaluate = jax.jit(evaluate).lower(given.params, *test).compile()
    seconds = time.perf_counter() - begin
    return GroupProgram(
        group.size,
        compiled_start,
        compiled_chunk,
        compiled_evaluate,
        seconds,
        program_bytes(compiled_chunk),
        inputs,
    )


def of_batch(inputs: Inputs, which: list[int] | int) -> Inputs:
    """The rows of some cells, or of one cell without the axis."""
    index = jnp.asarray(which)

    def take(leaf: Any, axis: int | None = 0) -> Any:
        return leaf if axis is None or leaf is None else leaf[index]

    axes: Any = inputs.axes
    data = RoundData(*(take(leaf, axis) for leaf, axis in zip(inputs.data, axes, strict=True)))
    return inputs._replace(
        data=data,
        test_x=take(inputs.test_x, inputs.test_axis),
        test_y=take(inputs.test_y, inputs.test_axis),
        test_rows=take(inputs.test_rows),
        params=take(inputs.params),
        model_state=jax.tree.map(take, inputs.model_state),
        keys=take(inputs.keys),
        traced={key: take(values) for key, values in inputs.traced.items()},
    )


def blank_metrics(group: Group) -> RoundMetrics:
    """Of a chunk of rounds to come, of as many cells as the group's program holds."""
    every = group.config.eval_every
    return no_metrics(*((group.size, every) if group.size > 1 else (every,)))
