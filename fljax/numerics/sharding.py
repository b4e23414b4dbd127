"""The axes of a mesh of devices, and arrays that lie on it by columns.

A program is traced under `using(mesh)`; without a mesh nothing here changes it. Axes are of the type `Auto`:
the compiler divides the work, and a constraint tells it how arrays lie.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec

T = TypeVar("T")

# Independent runs lie along one axis; clients, then the columns of their updates, along the other.
RUNS_AXIS, CLIENTS_AXIS = "runs", "clients"
WHOLE, ROWS, COLUMNS = PartitionSpec(), PartitionSpec(CLIENTS_AXIS), PartitionSpec(None, CLIENTS_AXIS)
# So many pieces of a device's rows go to the others one after the other.
PIECES = 8


# Not `jax.set_mesh`: under it a function of one device could not capture arrays that lie on all.
_mesh: ContextVar[Mesh | None] = ContextVar("mesh", default=None)


@contextmanager
def using(mesh: Mesh | None) -> Iterator[None]:
    """Trace for the devices of a mesh, or for one device of it or none."""
    token = _mesh.set(mesh)
    try:
        yield
    finally:
        _mesh.reset(token)


def column_devices() -> int:
    """The number of devices that columns are divided among; 1 without a mesh, or on one of its devices."""
    mesh = _mesh.get()
    return 1 if mesh is None else mesh.shape[CLIENTS_AXIS]


def whole_on_cpu() -> bool:
    """True where a device of a CPU has all columns: what fits its cache is then worth a loop."""
    return jax.default_backend() == "cpu" and column_devices() == 1


def constrained(array: Array, spec: PartitionSpec) -> Array:
    """The array, laid out on the mesh as it says; without a mesh it is what it was."""
    mesh = _mesh.get()
    return array if mesh is None else jax.lax.with_sharding_constraint(array, NamedSharding(mesh, spec))


def by_columns(array: Array) -> Array:
    """The array with its last axis divided among the devices, whatever its length.

    Args:
        array: (..., d).

    Example:
        >>> by_columns(jnp.ones((2, 3))).shape  # without a mesh it is what it was
        (2, 3)
    """
    return constrained(array, PartitionSpec(*[None] * (array.ndim - 1), CLIENTS_AXIS))


def replicated(array: Array) -> Array:
    """The array as a whole on every device; without a mesh it is what it was."""
    return constrained(array, WHOLE)


def over_rows(function: Callable[..., Any], *arrays: Any, laid: Any = ROWS) -> Any:
    """A function of rows, computed by every device on its share of them.

    Args:
        function: pytrees with a leading axis to a pytree with one, row by row; what it captures every device
            has as a whole. A device gets as many rows as any other, which repeat the last one where there are
            not enough.
        arrays: pytrees whose leaves have the same leading axis, or one that the number of devices divides.
        laid: how the devices' results make up a whole, a `PartitionSpec` or a tree of them above that of the
            results: `ROWS`, `COLUMNS` of all rows (`to_columns`), or `WHOLE` for what all return alike.

    Returns:
        The rows in the order of those given, or what all return alike. Without a mesh `function(*arrays)`.

    Example:
        >>> over_rows(lambda x: 2 * x, jnp.arange(3)).tolist()
        [0, 2, 4]
    """
    mesh = _mesh.get()
    if mesh is None:
        return function(*arrays)
    devices = mesh.shape[CLIENTS_AXIS]
    count = jax.tree.leaves(arrays)[0].shape[0]
    filled = jax.tree.map(lambda leaf: _filled(leaf, devices), arrays)
    shares = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((leaf.shape[0] // devices, *leaf.shape[1:]), leaf.dtype), filled
    )
    # What the function captures is made an argument: under vmap a captured array would have the wrong length.
    with using(None):
        traced, shapes = jax.make_jaxpr(function, axis_env=[(CLIENTS_AXIS, devices)], return_shape=True)(
            *shares
        )
    structure = jax.tree.structure(shapes)

    def of_device(captured: Any, *shares: Any) -> Any:
        values = jax.core.eval_jaxpr(traced.jaxpr, captured, *jax.tree.leaves(shares))
        return jax.tree.unflatten(structure, values)

    computed = jax.shard_map(
        of_device, mesh=mesh, in_specs=(WHOLE, *[ROWS] * len(arrays)), out_specs=laid, check_vma=False
    )(traced.consts, *filled)
    return computed if laid == WHOLE else jax.tree.map(lambda leaf: leaf[:count], computed)


def to_columns(rows: Array, places: Array, columns: Array) -> Array:
    """Some rows of every device told to all of them, each of which keeps its columns; within `over_rows`.

    They go in pieces, so that little is on the way at a time.

    Args:
        rows: (q, d), those of this device.
        places: (k, q) int32, the places of every device's rows among all; a row beyond the last is dropped.
        columns: (n, ⌈d / k⌉), the columns of this device, in which the rows are put.

    Returns:
        The columns with these rows.
    """
    devices, (count, d), width = places.shape[0], rows.shape, columns.shape[1]
    filling = ((0, 0), (0, devices * width - d))

    def told(columns: Array, start: Any, size: int) -> Array:
        piece = jnp.pad(jax.lax.dynamic_slice_in_dim(rows, start, size), filling)
        there = jax.lax.dynamic_slice_in_dim(places, start, size, axis=1)
        # By device and then by row, as the places are.
        piece = jax.lax.all_to_all(
            piece.reshape(size, devices, width), CLIENTS_AXIS, split_axis=1, concat_axis=0
        )
        return columns.at[there.reshape(-1)].set(piece.reshape(-1, width), mode="drop", unique_indices=True)

    size = max(1, min(count, columns.shape[0] // devices // PIECES))
    pieces = count // size
    columns = jax.lax.fori_loop(0, pieces, lambda i, columns: told(columns, i * size, size), columns)
    rest = count - pieces * size
    return told(columns, count - rest, rest) if rest else columns


def _filled(leaf: Array, devices: int) -> Array:
    """The leaf with its last row repeated, so that the devices get equally many."""
    missing = -leaf.shape[0] % devices
    if not missing:
        return leaf
    return jnp.concatenate([leaf, jnp.broadcast_to(leaf[-1:], (missing, *leaf.shape[1:]))])


def window(array: Array, start: Array, size: int) -> Array:
    """Neighbouring columns: `size` of them from `start` on, (n, size).

    On several devices all columns, zero outside: a slice from a place that is not known while compiling would
    put the array together on every device.

    Args:
        array: (n, d).
        start: int32 scalar.
        size: at most d − start.
    """
    if column_devices() == 1:
        return jax.lax.dynamic_slice_in_dim(array, start, size, axis=1)
    columns = jnp.arange(array.shape[1])
    return jnp.where((columns >= start) & (columns < start + size), array, 0)


def by_itself(function: Callable[..., T], *arrays: Array) -> T:
    """The function of arrays that every device has, computed by each device for its own runs.

    For operations that the compiler does not divide: it would put the runs of all devices together first.
    """
    mesh = _mesh.get()
    if mesh is None:
        return function(*arrays)

    def alone(*arrays: Array) -> T:
        with using(None):
            return function(*arrays)

    return jax.shard_map(alone, mesh=mesh, in_specs=WHOLE, out_specs=WHOLE, check_vma=False)(*arrays)
