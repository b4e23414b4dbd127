"""The inputs of a group's program: one copy of shared arrays, one row a cell of the others."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh

from fljax.data import Dataset
from fljax.engine.evaluate import Beside
from fljax.engine.mesh import WHOLE, of_runs, put
from fljax.engine.state import RoundData
from fljax.simulation.assembly import Parts, asks_for_clients, initial_model
from fljax.sweeps.plan import Group


class Rows:
    """An array (cells, ...) with few distinct rows, which are kept on the host.

    Args:
        values: one array a cell, of the same shape; cells may share theirs.
    """

    def __init__(self, values: Sequence[np.ndarray]) -> None:
        places: dict[int, int] = {}
        self._which = np.array([places.setdefault(id(value), len(places)) for value in values])
        own = {id(value): value for value in values}
        self._rows = np.stack([own[identity] for identity in places])

    def __getitem__(self, cells: Any) -> np.ndarray:
        return np.asarray(self._rows[self._which[np.asarray(cells)]])


class Inputs(NamedTuple):
    """The arrays of a group's program: shared by the cells on the device, or with a leading axis for them.

    Attributes:
        data: what a round reads; `Rows` where every cell has its own.
        axes: 0 or None for every leaf of `data`.
        test_x, test_y: the test set, or all examples if `test_rows` tells which of them are tested.
        test_rows: (cells, T) positions in `test_x`, or None.
        test_axis: 0 where every cell has a test set of its own, else None.
        clients, clients_axis: whose test examples they are, and its axis; None where no metric asks.
        initial: cells to their initial models (cells, d) and the state of these, leaves (cells, ...); of all
            cells of a group at once they might not fit.
        params, model_state: of a batch.
        keys: (cells,) typed keys.
        traced: numbers by dotted key, (cells,) each.
    """

    data: RoundData
    axes: RoundData
    test_x: Array
    test_y: Array
    test_rows: Array | None
    test_axis: int | None
    clients: Any
    clients_axis: int | None
    initial: Callable[[list[int]], tuple[Array, Any]]
    keys: Array
    traced: dict[str, Array]
    params: Any = None
    model_state: Any = None


def group_inputs(group: Group) -> Inputs:
    """The inputs of all cells of a group."""
    parts = group.parts
    datasets = list({id(p.dataset): p.dataset for p in parts}.values())
    which = {id(dataset): i for i, dataset in enumerate(datasets)}
    pool = _pool(datasets)
    tables = [p.data for p in parts]
    if pool is not None:
        moved: dict[tuple[int, int], RoundData] = {}
        for number, p in enumerate(parts):
            # Cells of one seed share their table, and go on sharing it.
            key = id(p.data.table), which[id(p.dataset)]
            if key not in moved:
                moved[key] = _moved(p.data, pool.train_rows[key[1]])
            own = {name: getattr(p.data, name) for name in ("counts", "malicious", "attackers")}
            tables[number] = moved[key]._replace(**own)
    width = max(data.table.shape[1] for data in tables)
    root = max(data.root.shape[0] for data in tables)
    attackers = max(np.asarray(data.attackers).shape[0] for data in tables)

    padded: dict[tuple[int, int], np.ndarray] = {}

    def pad(values: Any, size: int, filler: int = -1) -> np.ndarray:
        if (id(values), size) not in padded:
            array = np.asarray(values)
            widths = [(0, 0)] * (array.ndim - 1) + [(0, size - array.shape[-1])]
            padded[id(values), size] = np.pad(array, widths, constant_values=filler)
        return padded[id(values), size]

    def per_cell(values: Sequence[Any]) -> tuple[Any, int | None]:
        arrays = [np.asarray(value) for value in values]
        if all(array is arrays[0] or np.array_equal(array, arrays[0]) for array in arrays):
            return jax.device_put(arrays[0]), None
        return Rows(arrays), 0

    leaves: dict[str, tuple[Any, int | None]] = {
        "table": per_cell([pad(data.table, width) for data in tables]),
        "counts": per_cell([data.counts for data in tables]),
        "root": per_cell([np.maximum(pad(data.root, root), 0) for data in tables]),
        # Every cell has its own, also where nobody is malicious: programs do not differ by it.
        "malicious": (Rows([np.asarray(data.malicious) for data in tables]), 0),
        "attackers": per_cell([pad(data.attackers, attackers, len(data.counts)) for data in tables]),
        "root_count": per_cell([np.int32(data.root.shape[0]) for data in tables]),
    }
    if parts[0].data.validation is not None:
        leaves["validation"] = per_cell([data.validation for data in tables])
    clients, clients_axis = None, None
    if asks_for_clients(parts[0]):
        clients, clients_axis = per_cell([p.dataset.test_client_ids for p in parts])
    test_rows = None
    test: tuple[Any, ...]
    if pool is not None:
        leaves |= {"x": (jax.device_put(pool.x), None), "y": (jax.device_put(pool.y), None)}
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
        data=RoundData(**{name: value for name, (value, _) in leaves.items()}),
        axes=RoundData(**{name: axis for name, (_, axis) in leaves.items()}),  # type: ignore[arg-type]
        test_x=jnp.asarray(test[0]),
        test_y=jnp.asarray(test[1]),
        test_rows=None if test_rows is None else jnp.asarray(test_rows),
        test_axis=test_axis,
        clients=clients,
        clients_axis=clients_axis,
        initial=lambda cells: _initial_models([parts[cell] for cell in cells]),
        keys=jnp.stack([jax.random.key(p.config.seed_for("train")) for p in parts]),
        traced={key: jnp.asarray(values) for key, values in group.traced.items()},
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
    held = None if data.validation is None else rows[np.asarray(data.validation)].astype(np.int32)
    return data._replace(table=moved, root=rows[root].astype(np.int32), validation=held)  # type: ignore[arg-type]


def tested_rows(x: Array, y: Array, rows: Array | None) -> tuple[Array, Array]:
    """A cell's test set: those rows of the examples, or all of them."""
    return (x, y) if rows is None else (x[rows], y[rows])


def beside_test(inputs: Inputs, axes: bool = False) -> Beside:
    """The arrays that an evaluation of a batch reads beside the test set, or their axes."""
    data: Any = inputs.axes if axes else inputs.data
    beside = Beside(clients=inputs.clients_axis if axes else inputs.clients)  # type: ignore[arg-type]
    if inputs.data.validation is None:
        return beside
    return beside._replace(x=data.x, y=data.y, validation=data.validation)


def on_mesh(inputs: Inputs, mesh: Mesh | None, batched: bool = False, *, every: bool = True) -> Inputs:
    """Inputs on a mesh: what the cells of a batch share as a whole on every device.

    Args:
        inputs: of all cells, or of a batch from `of_batch`.
        mesh: None leaves them where they are.
        batched: whether what cells have of their own has a leading axis, which is divided among the runs.
        every: whether that is put there, too, or stays on the host until its batch runs.
    """
    if mesh is None:
        return inputs

    def moved(tree: Any, axis: int | None = 0) -> Any:
        if axis is None:
            return put(tree, mesh)
        return put(tree, mesh, of_runs(WHOLE) if batched else WHOLE) if every else tree

    axes: Any = inputs.axes
    pairs = zip(inputs.data, axes, strict=True)
    data: list[Any] = [None if leaf is None else moved(leaf, axis) for leaf, axis in pairs]
    return inputs._replace(
        data=RoundData(*data),
        test_x=moved(inputs.test_x, inputs.test_axis),
        test_y=moved(inputs.test_y, inputs.test_axis),
        test_rows=moved(inputs.test_rows),
        clients=moved(inputs.clients, inputs.clients_axis),
        params=moved(inputs.params),
        model_state=moved(inputs.model_state),
        keys=moved(inputs.keys),
        traced=moved(inputs.traced),
    )


def of_batch(inputs: Inputs, which: list[int] | int) -> Inputs:
    """The rows of some cells, or of one cell without the axis."""
    index = jnp.asarray(which)
    params, model_state = inputs.initial(which if isinstance(which, list) else [which])
    if not isinstance(which, list):
        params, model_state = jax.tree.map(lambda leaf: leaf[0], (params, model_state))

    def take(leaf: Any, axis: int | None = 0) -> Any:
        return leaf if axis is None or leaf is None else jnp.asarray(leaf[index])

    axes: Any = inputs.axes
    data = RoundData(*(take(leaf, axis) for leaf, axis in zip(inputs.data, axes, strict=True)))
    clients = take(inputs.clients, inputs.clients_axis)
    return inputs._replace(
        data=data,
        test_x=take(inputs.test_x, inputs.test_axis),
        test_y=take(inputs.test_y, inputs.test_axis),
        test_rows=take(inputs.test_rows),
        clients=clients,
        params=params,
        model_state=model_state,
        keys=take(inputs.keys),
        traced={key: take(values) for key, values in inputs.traced.items()},
    )
