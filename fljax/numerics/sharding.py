"""The axes of a mesh of devices, and arrays that lie on it by columns.

A program is traced and compiled under `jax.set_mesh(mesh)`; without a mesh nothing here changes it. Axes are
of the type `Auto`: the compiler divides the work, and a constraint tells it how arrays lie.
"""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import PartitionSpec

T = TypeVar("T")

# Independent runs lie along one axis; clients, then the columns of their updates, along the other.
RUNS_AXIS, CLIENTS_AXIS = "runs", "clients"


def column_devices() -> int:
    """The number of devices that columns are divided among; 1 without a mesh, or on one of its devices."""
    mesh = jax.sharding.get_abstract_mesh()
    return mesh.shape[CLIENTS_AXIS] if CLIENTS_AXIS in mesh.auto_axes else 1


def by_columns(array: Array) -> Array:
    """The array with its last axis divided among the devices, whatever its length.

    Args:
        array: (..., d).

    Example:
        >>> import jax.numpy as jnp
        >>> by_columns(jnp.ones((2, 3))).shape  # without a mesh it is what it was
        (2, 3)
    """
    if column_devices() == 1:
        return array
    return jax.lax.with_sharding_constraint(array, PartitionSpec(*[None] * (array.ndim - 1), CLIENTS_AXIS))


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
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.size <= 1 or mesh.auto_axes != mesh.axis_names:
        return function(*arrays)
    whole = PartitionSpec()
    return jax.shard_map(function, in_specs=whole, out_specs=whole, check_vma=False)(*arrays)
