"""A run, or a sweep's batch of runs, on a mesh of devices: the mesh, and how state and data lie on it."""

from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from fljax.engine.keys import on_data
from fljax.engine.state import RoundData, RunState, of_server
from fljax.numerics.sharding import CLIENTS_AXIS, ROWS, RUNS_AXIS, WHOLE


def make_mesh(runs: int, clients: int) -> Mesh | None:
    """A mesh of the first runs × clients devices; None for one device.

    Args:
        runs: devices that independent runs are divided among.
        clients: devices that the clients of a run are divided among.
    """
    if runs * clients == 1:
        return None
    chosen = np.asarray(jax.devices()[: runs * clients])
    axes = (AxisType.Auto, AxisType.Auto)
    return Mesh(chosen.reshape(runs, clients), (RUNS_AXIS, CLIENTS_AXIS), axis_types=axes)


def put(tree: Any, mesh: Mesh | None, specs: Any = WHOLE) -> Any:
    """The arrays of a tree on the devices of a mesh.

    Every process of a job has the same tree, and hands its own devices their parts of it.

    Args:
        tree: arrays of NumPy or JAX.
        mesh: None for the first device.
        specs: a `PartitionSpec` for all of them, or a tree of the same structure.
    """
    if mesh is None:
        return jax.device_put(tree)
    if isinstance(specs, PartitionSpec):
        specs = jax.tree.map(lambda _: specs, tree)
    return jax.tree.map(lambda leaf, spec: _put(leaf, NamedSharding(mesh, spec)), tree, specs)


def placed(shapes: Any, mesh: Mesh | None, specs: Any) -> Any:
    """The shapes of arrays that are to lie on a mesh, with a `PartitionSpec` for each."""
    if mesh is None:
        return shapes
    return jax.tree.map(
        lambda leaf, spec: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=NamedSharding(mesh, spec)),
        shapes,
        specs,
    )


def of_runs(specs: Any) -> Any:
    """The specs of a batch of runs, whose arrays have a leading axis."""
    return jax.tree.map(
        lambda spec: PartitionSpec(RUNS_AXIS, *spec),
        specs,
        is_leaf=lambda each: isinstance(each, PartitionSpec),
    )


def like(there: Any, tree: Any) -> Any:
    """The arrays of a tree on the devices, and as they lie there, of another of the same structure."""

    def moved(leaf: Any, other: Any) -> Any:
        return _put(leaf, other.sharding) if isinstance(other.sharding, NamedSharding) else leaf

    return jax.tree.map(moved, tree, there)


class Reordered:
    """Rows of an array on the host in another order, which are read where a device needs them.

    Of a mapped file every process of a job so reads what its own devices hold.
    """

    def __init__(self, array: Any, order: np.ndarray) -> None:
        """Keep the array and (k,) the rows of it that this one has."""
        self._array, self._order = array, order
        self.shape, self.dtype, self.ndim = (len(order), *array.shape[1:]), array.dtype, array.ndim

    def __getitem__(self, index: Any) -> np.ndarray:
        return np.asarray(self._array[(self._order[index[0]], *index[1:])])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[(slice(None),)], dtype)


def _put(leaf: Any, sharding: NamedSharding) -> Any:
    if isinstance(leaf, Reordered):
        return jax.make_array_from_callback(leaf.shape, sharding, leaf.__getitem__)

    def put_array(array: Any) -> Any:
        if isinstance(array, jax.Array) and array.sharding == sharding:
            return array
        host = np.asarray(array)
        return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

    return on_data(put_array, leaf)


def state_specs(state: RunState, mesh: Mesh, num_clients: int) -> RunState:
    """A `PartitionSpec` for every array of a run's state.

    The states of clients lie with their clients, a rule's and an attack's matrices by columns or, where the
    number of devices does not divide those, by rows; everything else is a whole on every device, and so is
    what neither divides.

    Args:
        state: of one run, shapes suffice.
        mesh: the devices.
        num_clients: n.
    """
    devices = mesh.shape[CLIENTS_AXIS]

    def of_clients(leaf: Any) -> PartitionSpec:
        return ROWS if num_clients % devices == 0 else WHOLE

    def of_matrix(leaf: Any) -> PartitionSpec:
        if leaf.ndim < 2:
            return WHOLE
        if leaf.shape[-1] % devices == 0:
            return PartitionSpec(*[None] * (leaf.ndim - 1), CLIENTS_AXIS)
        return ROWS if leaf.shape[0] % devices == 0 else WHOLE

    specs: Any = jax.tree.map(lambda _: WHOLE, state)
    specs = specs._replace(
        aggregator_state=jax.tree.map(of_matrix, state.aggregator_state),
        attack_state=jax.tree.map(of_matrix, state.attack_state),
    )
    if not state.client_state:
        return specs
    kept: Any = state.client_state
    return specs._replace(
        client_state=kept._replace(
            clients=jax.tree.map(of_clients, kept.clients),
            shared=jax.tree.map(lambda _: WHOLE, kept.shared),
            attack_states=jax.tree.map(of_matrix, kept.attack_states),
            aggregator_states=jax.tree.map(of_matrix, kept.aggregator_states),
        )
    )


def lay_out(data: RoundData, devices: int) -> RoundData:
    """The data by device: to every device the examples of its own clients, and those of the server.

    The clients are divided into consecutive blocks of equal length, of which the last may be filled with
    clients without examples. A device's examples are the root dataset and the validation examples, in this
    order, then those of its clients; positions in `table`, `root` and `validation` count from its first one.

    Args:
        data: on the host.
        devices: k.

    Returns:
        `RoundData` whose `x` and `y` (k · L, ...), `table` (k · c, s_max) and `counts` (k · c,) consist of
        k equal blocks; the devices' examples are padded to the longest with copies of their last one, and
        are read when `put` hands them to their devices.
    """
    table, counts = np.asarray(data.table), np.asarray(data.counts)
    size = -(-len(counts) // devices)
    missing = size * devices - len(counts)
    table = np.pad(table, ((0, missing), (0, 0)), constant_values=-1)
    counts = np.pad(counts, (0, missing))
    servers, positions = of_server(data)
    blocks, rows = [], []
    for device in range(devices):
        own = table[device * size : (device + 1) * size]
        unique, places = np.unique(own[own >= 0], return_inverse=True)
        blocks.append(np.concatenate([servers, unique]))
        moved = np.full_like(own, -1)
        moved[own >= 0] = len(servers) + places
        rows.append(moved)
    length = max(map(len, blocks))
    order = np.concatenate([np.pad(block, (0, length - len(block)), mode="edge") for block in blocks])
    laid: Any = {
        **positions,
        "x": Reordered(data.x, order),
        "y": Reordered(data.y, order),
        "table": np.concatenate(rows),
        "counts": counts.astype(np.int32),
    }
    return data._replace(**laid)


def data_specs(data: RoundData, by_device: bool) -> RoundData:
    """A `PartitionSpec` for every array that a round reads."""
    specs: Any = jax.tree.map(lambda _: WHOLE, data)
    if not by_device:
        return specs
    return specs._replace(x=ROWS, y=ROWS, table=ROWS, counts=ROWS)
