"""The axes of a mesh of devices, and arrays that lie on it by columns.

A program is traced and compiled under `jax.set_mesh(mesh)`; without a mesh nothing here changes it. Axes are
of the type `Auto`: the compiler divides the work, and a constraint tells it how arrays lie.
"""

import jax
from jax import Array
from jax.sharding import PartitionSpec

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
