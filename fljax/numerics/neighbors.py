"""Neighbours among the rows of a stack, for any number of rows.

Squared distances are handed out in blocks of columns, (n, b): all of them at once for up to `LARGEST_GRAM`
rows, beyond that block by block, so that nothing of size n × n is held.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from fljax.numerics.averages import weighted_rows
from fljax.numerics.blocks import fold_blocks, map_blocks, rows_of
from fljax.numerics.checks import Int
from fljax.numerics.order_statistics import fold_rows, followed, select_ranks
from fljax.numerics.safe import (
    CANCELLATION,
    crowded_center,
    divide,
    dot,
    first_center,
    for_all,
    ordinary,
    pairwise_distances,
    reach,
    saturated,
    square_norms,
    typical,
)

# Up to this many rows the (n, n) distances are held at once: 16 MB in float32.
LARGEST_GRAM = 2048
BLOCK = 1024


class Block(NamedTuple):
    """Distances of all rows from b of them.

    Attributes:
        squares: (n, b) squared distances in units of unit², 0 on `own`, +inf from or to a non-finite row; see
            `Distances`.
        own: (n, b) bool, where the row is the column's own.
    """

    squares: Array
    own: Array


class Nearest(NamedTuple):
    """The `count` smallest values of every column, as far as an order of the columns needs them.

    Attributes:
        total: (b,) sum of those that are finite.
        missing: (b,) how many of them are infinite, as floats.
        following: (b,) the next value in order, +inf for none.
    """

    total: Array
    missing: Array
    following: Array

    def score(self) -> Array:
        """The sum of the values, (b,)."""
        return jnp.where(self.missing > 0, jnp.inf, self.total)

    def keys(self, finite: Array) -> tuple[Array, ...]:
        """The keys of an order by score, as `krum` has it; `finite` (b,) marks finite rows."""
        ordered = ~finite, self.missing, self.total, self.following
        return tuple(lax.stop_gradient(key.astype(self.total.dtype)) for key in ordered)


def nearest_values(values: Array, count: Int) -> Nearest:
    """The `count` smallest values of every column; see `Nearest`.

    Args:
        values: (n, b) without NaN, +inf where nothing counts.
        count: 1 to n; may be traced.
    """
    (limit,) = select_ranks(values, [count - 1])

    def parts(row: Array) -> tuple[Array, ...]:
        masks = (row < limit, row == limit)
        sums = (jnp.where(m, row, 0.0) for m in masks)
        return (*sums, *(m.astype(jnp.int32) for m in masks), jnp.where(row > limit, row, jnp.inf))

    total, at_limit, below, num_tied, above = fold_rows(parts, values, (*[jnp.add] * 4, jnp.minimum))
    rest, known = count - below, jnp.isfinite(limit)
    total = total + jnp.where(known, followed(limit, at_limit, num_tied) * rest, 0.0)
    missing = jnp.where(known, 0, rest).astype(values.dtype)
    return Nearest(total, missing, jnp.where(num_tied > rest, limit, above))


def smallest(values: Array, count: Int) -> Array:
    """Mask (n, b) of the `count` smallest values of every column; ties go to the lowest row.

    Args:
        values: (n, b) without NaN.
        count: 1 to n; may be traced.
    """
    n = values.shape[0]
    (limit,) = select_ranks(values, [count - 1])
    (below,) = fold_rows(lambda row: ((row < limit).astype(jnp.int32),), values)
    # Of the rows at the limit, the first ones: a float32 holds row numbers up to 2^24.
    index = jnp.arange(n, dtype=values.dtype)[:, None]
    tied = jnp.where(values == limit, index, jnp.inf)
    (last,) = select_ranks(tied, [count - 1 - below])
    return (values < limit) | (tied <= last)


def first_in_order(count: Int, *keys: Array) -> Array:
    """Mask (n,) of the first `count` rows by the first key, ties by the next ones, then by row number."""
    order = jnp.lexsort(keys[::-1])
    return jnp.zeros(order.shape, bool).at[order].set(jnp.arange(order.shape[0]) < count)


# Outside jit, too, JAX meets the same function again and compiles it once.
@jax.jit
def first_row(*keys: Array) -> Array:
    """The first row by the first key, ties by the next ones, then by row number; all in one pass.

    Args:
        *keys: (n,) floats of one type, without NaN.
    """

    def lower(left: tuple[Array, ...], right: tuple[Array, ...]) -> tuple[Array, ...]:
        less = jnp.bool_(False)
        for a, b in zip(left[::-1], right[::-1], strict=True):
            less = (a < b) | ((a == b) & less)
        return tuple(jnp.where(less, a, b) for a, b in zip(left, right, strict=True))

    n = keys[0].shape[0]
    last = (*(jnp.asarray(jnp.inf, key.dtype) for key in keys), jnp.int32(n))
    return lax.reduce((*keys, jnp.arange(n, dtype=jnp.int32)), last, lower, (0,))[-1]


class _View(NamedTuple):
    """A shift and a unit: rows become (half · row − half · center) / unit, a non-finite row zero."""

    finite: Array
    half: Array
    center: Array
    unit: Array

    def of(self, rows: Array, ids: Array) -> Array:
        moved = self.half * rows - self.half * self.center
        return divide(jnp.where(self.finite[ids][:, None], moved, 0.0), self.unit)


def _distances_in_blocks(updates: Array, view: _View, reduce: Callable[[Block], Any]) -> tuple[Any, Array]:
    """The results of `reduce` on every block of columns, and whether no distance cancelled."""
    n = updates.shape[0]

    def rows(ids: Array) -> Array:
        return view.of(rows_of(updates, ids[0], ids.shape[0]), ids)

    squares = map_blocks(lambda ids: square_norms(rows(ids)), n, BLOCK)

    def block(ids: Array) -> tuple[Any, Array]:
        columns = rows(ids)
        products = map_blocks(lambda others: dot(rows(others), columns.T), n, BLOCK)
        distances = saturated(squares, products, squares[ids], n)
        defined = view.finite[:, None] & view.finite[ids]
        own = jnp.arange(n)[:, None] == ids
        distances = jnp.where(own, 0.0, jnp.where(defined, distances, jnp.inf))
        (closest,) = fold_rows(lambda row: (row,), jnp.where(own, jnp.inf, distances), jnp.minimum)
        return reduce(Block(distances, own)), closest >= CANCELLATION * squares[ids]

    results, apart = map_blocks(block, n, BLOCK)
    return results, ordinary(squares) & jnp.all(apart)


def reduce_distances(updates: Array, reduce: Callable[[Block], Any]) -> tuple[Any, Array]:
    """Apply a function to the distances from every row, without an (n, n) matrix where n is large.

    Args:
        updates: (n, d) float32 or float64.
        reduce: `Block` of b columns to arrays with leading axis b. Beyond `LARGEST_GRAM` rows no gradient
            passes through it.

    Returns:
        The arrays with leading axis n, and the unit of the distances.
    """
    n, d = updates.shape
    if n <= LARGEST_GRAM:
        squares, unit = pairwise_distances(updates)
        return reduce(Block(squares, jnp.eye(n, dtype=bool))), unit
    updates = lax.stop_gradient(updates)
    one = jnp.ones((), updates.dtype)

    def as_they_are() -> _View:
        return _View(jnp.ones((n,), bool), one, jnp.zeros((d,), updates.dtype), one)

    def centred(finite: Array, center: Array) -> _View:
        # In blocks, or half of the whole stack would be written to memory.
        reaches = map_blocks(lambda ids: reach(rows_of(updates, ids[0], ids.shape[0]), center), n, BLOCK)
        return _View(finite, 0.5 * one, center, typical(reaches, finite))

    def around_the_crowd() -> _View:
        finite, center = first_center(updates)
        half, _ = _distances_in_blocks(
            updates, centred(finite, center), lambda block: select_ranks(block.squares, [n // 2])[0]
        )
        return centred(finite, crowded_center(updates, finite, half))

    def attempt(carry: tuple[Any, ...]) -> tuple[Any, ...]:
        number = carry[0]
        view = lax.cond(number == 0, as_they_are, around_the_crowd)
        results, fine = _distances_in_blocks(updates, view, reduce)
        # Runs that are vmapped go on together: the number of the attempt is then one number.
        return number + 1, for_all(fine), view.unit / view.half, results

    # Once as the rows are, and if that is not good enough once more, into the same memory.
    shapes = jax.eval_shape(attempt, (jax.ShapeDtypeStruct((), jnp.int32),))
    empty = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    _, _, unit, results = lax.while_loop(lambda c: (c[0] == 0) | ((c[0] == 1) & ~c[1]), attempt, empty)
    return results, unit


def squared_distances(updates: Array) -> Array:
    """All squared distances (n, n) in some unit, as `Distances.squares`; in less memory where n is large."""
    return reduce_distances(updates, lambda block: block.squares.T)[0]


def mix(near: Array, updates: Array, finite: Array) -> Array:
    """The mean of the marked rows that are finite, for every row of a mask (n, n): (n, d); 0 for none.

    Args:
        near: (n, n) bool, row i marks what is averaged for i.
        updates: (n, d).
        finite: (n,) bool, which rows are.
    """
    n = updates.shape[0]
    near = near & finite
    counts = jnp.maximum(jnp.sum(near, axis=1, keepdims=True), 1)
    if n <= LARGEST_GRAM:
        return weighted_rows(near.astype(updates.dtype) / counts, updates, finite)

    def of_block(ids: Array) -> Array:
        def part(start: Int, count: int) -> Array:
            columns = lax.dynamic_slice(near, (ids[0], start), (ids.shape[0], count))
            rows = jnp.where(rows_of(finite, start, count)[:, None], rows_of(updates, start, count), 0.0)
            return dot(columns.astype(rows.dtype), rows)

        return fold_blocks(part, jnp.add, n, BLOCK) / counts[ids]

    return map_blocks(of_block, n, BLOCK)
