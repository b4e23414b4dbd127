"""Crafted rows written into the stack one at a time."""

from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from fljax.numerics.safe import for_any


@cache
def _step(craft: Callable[..., Array]) -> Callable[[Any, tuple[Array, Array, Array]], tuple[Any, Array]]:
    """One function per `craft`: outside jit, JAX then compiles the loop once."""

    def skip(position: Array, row: Array, *known: Array) -> Array:
        shape = jax.eval_shape(craft, position, row, *known)
        return jnp.zeros(shape.shape, shape.dtype)

    def step(known: Any, item: tuple[Array, Array, Array]) -> tuple[Any, Array]:
        position, row, used = item
        # Padding costs nothing, unless the mask is vmapped.
        return known, lax.cond(for_any(used), craft, skip, position, row, *known)

    return step


def craft_rows(updates: Array, rows: Array, craft: Callable[..., Array], *known: Array) -> Array:
    """The stack with `craft(position, row, *known)` (d,) in the rows listed.

    One row after the other: as one (m, d) expression, XLA computes what all crafted rows have in common
    again for each of them, and its random numbers take three times as long on a CPU.

    Args:
        updates: (n, d).
        rows: (m,) row numbers, padded with n, which is skipped; see `malicious_rows`.
        craft: position among the rows, row number and `known` to the new row; a module-level function.
        *known: arrays that all rows depend on.
    """
    items = jnp.arange(rows.shape[0]), rows, rows < updates.shape[0]
    _, crafted = lax.scan(_step(craft), known, items)
    return updates.at[rows].set(crafted.astype(updates.dtype), mode="drop")
