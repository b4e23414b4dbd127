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
    return constrained(array, PartitionSpec())


def over_rows(function: Callable[..., Any], *arrays: Any, alike: bool = False) -> Any:
    """A function of rows, computed by every device on its share of them.

    Args:
        function: pytrees with a leading axis to a pytree with one, row by row; what it captures every device
            has as a whole. A device gets as many rows as any other, which repeat the last one where there are
            not enough.
        arrays: pytrees whose leaves have the same leading axis, or one that the number of devices divides.
        alike: whether all devices return the same, which is no rows of a whole.

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
        traced, shapes = jax.make_jaxpr(function, return_shape=True)(*shares)
    structure = jax.tree.structure(shapes)

    def of_device(captured: Any, *shares: Any) -> Any:
        values = jax.core.eval_jaxpr(traced.jaxpr, captured, *jax.tree.leaves(shares))
        return jax.tree.unflatten(structure, values)

    whole, rows = PartitionSpec(), PartitionSpec(CLIENTS_AXIS)
    computed = jax.shard_map(
        of_device,
        mesh=mesh,
        in_specs=(whole, *[rows] * len(arrays)),
        out_specs=whole if alike else rows,
        check_vma=False,
    )(traced.consts, *filled)
    return computed if alike else jax.tree.map(lambda leaf: leaf[:count], computed)


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

    whole = PartitionSpec()
    return jax.shard_map(alone, mesh=mesh, in_specs=whole, out_specs=whole, check_vma=False)(*arrays)
