"""Rows for distances from a point that is near most of them, whatever the size of the rows is."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from fljax.numerics.rows import by_row, map_rows
from fljax.numerics.safe import divide, largest_entries, scaled_squares

# A row with a larger entry, in the unit of the others, is scaled down before it is squared.
LARGEST_ENTRY = 1e15
# A row farther away than that counts as that far: its direction is all that matters.
FARTHEST = 1e30


class Stack(NamedTuple):
    """Row i of the updates is scales[i] * rows[i] units; a non-finite row is zero and has weight 0."""

    rows: Any
    scales: Array
    weights: Array


def plain(updates: Array, weights: Array) -> Stack:
    """The rows as they are."""
    return Stack(updates, jnp.ones(updates.shape[:1], updates.dtype), weights)


def scaled(updates: Array, weights: Array, unit: Array) -> Stack:
    """The rows in a unit > 0."""
    largest = by_row(largest_entries, updates)
    finite = jnp.isfinite(largest)
    far = finite & (largest > LARGEST_ENTRY * unit)
    rows = map_rows(
        lambda chunk, finite, divisor: divide(jnp.where(finite[:, None], chunk, 0.0), divisor[:, None]),
        updates,
        finite,
        jnp.where(far, largest, unit),
    )
    scales = jnp.where(far, jnp.minimum(divide(largest, unit), FARTHEST), 1.0)
    return Stack(rows, scales, jnp.where(finite, weights, 0.0))


def usual_size(updates: Array) -> Array:
    """The median of the finite rows' largest entries; where most are zero, the smallest of the others."""
    largest = by_row(largest_entries, updates)
    middle = jnp.sort(largest)[jnp.maximum(jnp.sum(jnp.isfinite(largest)) - 1, 0) // 2]
    tiny = jnp.finfo(updates.dtype).tiny
    least = jnp.min(jnp.where(largest >= tiny, largest, jnp.inf), initial=jnp.inf)
    size = jnp.where(middle >= tiny, middle, least)
    return jnp.where(jnp.isfinite(size), size, 1.0)


def distances(stack: Stack, point: Array) -> Array:
    """‖g_i − point‖ / scales[i], (n,)."""
    # In the unit of whichever is larger, the row or the point: between two rows far apart, the point is far
    # from both.
    size = jnp.max(jnp.abs(lax.stop_gradient(point)), initial=0.0)
    units = jnp.maximum(stack.scales, jnp.where(size > LARGEST_ENTRY, size, 1.0))
    share = stack.scales / units

    def squares_of(rows: Array, share: Array, units: Array) -> Array:
        # The reciprocal of a unit may be flushed to zero: beside such a row, the point is zero.
        return scaled_squares(rows, point, share, 1.0 / units)

    squares = by_row(squares_of, stack.rows, share, units)
    return jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1.0)), 0.0) / share
