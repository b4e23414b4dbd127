"""Crafted rows written into the stack one at a time."""

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array, lax


def craft_rows(updates: Array, rows: Array, craft: Callable[[Array, Array], Array]) -> Array:
    """The stack with `craft(position, row)` (d,) in the rows listed; row numbers of n and above are skipped.

    One row after the other: as one (m, d) expression, XLA computes what all crafted rows have in common
    again for each of them, and its random numbers take three times as long on a CPU.

    Args:
        updates: (n, d).
        rows: (m,) row numbers, padded with n; see `malicious_rows`.
        craft: position among the rows, and row number, to the new row.
    """
    n, d = updates.shape

    def one(item: tuple[Array, Array]) -> Array:
        # Padding costs nothing, unless the mask is vmapped.
        return lax.cond(item[1] < n, craft, lambda *_: jnp.zeros((d,), updates.dtype), *item)

    crafted = lax.map(one, (jnp.arange(rows.shape[0]), rows))
    return updates.at[rows].set(crafted, mode="drop")
