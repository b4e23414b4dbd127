"""Which rows of a stack are near which, for any number of rows.

Squared distances are handed out in blocks of columns, (n, b): all of them at once for up to `LARGEST_GRAM`
rows, beyond that block by block, so that nothing of size n × n is held.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.lax import Precision

from fljax.aggregators.arguments import Int
from fljax.aggregators.linalg import (
    CANCELLATION,
    crowded_center,
    divide,
    first_center,
    for_all,
    ordinary,
    pairwise_distances,
    reach,
    saturated,
    square_norms,
    typical,
    weighted_rows,
)
from fljax.aggregators.order_statistics import fold_rows, followed, select_ranks, times

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


def sum_smallest(values: Array, count: Int) -> Array:
    """Sum of the `count` smallest values of every column, (b,); 0 for none.

    Args:
        values: (n, b), +inf where nothing counts.
        count: 0 to n; may be traced.
    """
    (limit,) = select_ranks(values, [jnp.maximum(count, 1) - 1])

    def parts(row: Array) -> tuple[Array, ...]:
        masks = (row < limit, row == limit)
        return (*(jnp.where(m, row, 0.0) for m in masks), *(m.astype(jnp.int32) for m in masks))

    total, at_limit, below, num_tied = fold_rows(parts, values)
    limit = followed(limit, at_limit, num_tied)
    return jnp.where(count > 0, total + times(limit, count - below), 0.0)


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


def first_in_order(keys: Array, count: Int) -> Array:
    """Mask (n,) of the `count` smallest keys; ties go to the lowest row, NaN comes last."""
    order = jnp.argsort(keys)
    return jnp.zeros(keys.shape, bool).at[order].set(jnp.arange(keys.shape[0]) < count)


class _View(NamedTuple):
    """How the rows are looked at: (half · row − half · center) / unit; a non-finite row is zero."""

    finite: Array
    half: Array
    center: Array
    unit: Array

    def of(self, rows: Array, ids: Array) -> Array:
        moved = self.half * rows - self.half * self.center
        return divide(jnp.where(self.finite[ids][:, None], moved, 0.0), self.unit)


def _rows(updates: Array, ids: Array) -> Array:
    """Consecutive rows."""
    return lax.dynamic_slice_in_dim(updates, ids[0], ids.shape[0])


def _in_blocks(part: Callable[[Array], Any], n: int) -> Any:
    """Arrays with leading axis n, put together from `part` of the row numbers of `BLOCK` rows at a time."""
    size = min(BLOCK, n)
    shapes = jax.eval_shape(part, jax.ShapeDtypeStruct((size,), jnp.int32))
    whole = jax.tree.map(lambda leaf: jnp.zeros((n, *leaf.shape[1:]), leaf.dtype), shapes)

    def step(i: Array, whole: Any) -> Any:
        # The last block may overlap the one before it.
        start = jnp.minimum(i * size, n - size)
        return jax.tree.map(
            lambda all_rows, rows: lax.dynamic_update_slice_in_dim(all_rows, rows, start, 0),
            whole,
            part(start + jnp.arange(size)),
        )

    return lax.fori_loop(0, -(-n // size), step, whole)


def _distances_in_blocks(updates: Array, view: _View, reduce: Callable[[Block], Any]) -> tuple[Any, Array]:
    """`reduce` of every block of columns, and whether rounding spoilt none of the distances."""
    n = updates.shape[0]

    def rows(ids: Array) -> Array:
        return view.of(_rows(updates, ids), ids)

    squares = _in_blocks(lambda ids: square_norms(rows(ids)), n)

    def block(ids: Array) -> tuple[Any, Array]:
        columns = rows(ids)
        products = _in_blocks(
            lambda others: jnp.matmul(rows(others), columns.T, precision=Precision.HIGHEST), n
        )
        distances = saturated(squares, products, squares[ids], n)
        defined = view.finite[:, None] & view.finite[ids]
        own = jnp.arange(n)[:, None] == ids
        distances = jnp.where(own, 0.0, jnp.where(defined, distances, jnp.inf))
        (closest,) = fold_rows(lambda row: (row,), jnp.where(own, jnp.inf, distances), jnp.minimum)
        return reduce(Block(distances, own)), closest >= CANCELLATION * squares[ids]

    results, apart = _in_blocks(block, n)
    return results, ordinary(squares) & jnp.all(apart)


def reduce_distances(updates: Array, reduce: Callable[[Block], Any]) -> tuple[Any, Array]:
    """A function of the distances from every row, without an (n, n) matrix where n is large.

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
        reaches = _in_blocks(lambda ids: reach(_rows(updates, ids), center), n)
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
    """All squared distances (n, n), in some unit; as `Distances.squares`, in less memory where n is large."""
    return reduce_distances(updates, lambda block: block.squares.T)[0]


def mix(near: Array, count: Int, updates: Array, finite: Array) -> Array:
    """The mean of the marked rows, for every row of a mask (n, n): (n, d).

    Args:
        near: (n, n) bool, row i marks what is averaged for i.
        count: how many rows each marks.
        updates: (n, d).
        finite: (n,) bool; other rows are zero.
    """
    n = updates.shape[0]
    if n <= LARGEST_GRAM:
        return weighted_rows(near.astype(updates.dtype) / count, updates, finite)

    def of_block(ids: Array) -> Array:
        def add(start: Array, size: int, total: Array) -> Array:
            columns = lax.dynamic_slice(near, (ids[0], start), (ids.shape[0], size))
            rows = lax.dynamic_slice_in_dim(updates, start, size)
            rows = jnp.where(lax.dynamic_slice_in_dim(finite, start, size)[:, None], rows, 0.0)
            return total + jnp.matmul(columns.astype(rows.dtype), rows, precision=Precision.HIGHEST)

        rest = n % BLOCK
        total = add(jnp.int32(0), rest, jnp.zeros((ids.shape[0], updates.shape[1]), updates.dtype))
        total = lax.fori_loop(0, n // BLOCK, lambda i, sum_: add(rest + i * BLOCK, BLOCK, sum_), total)
        return total / count

    return _in_blocks(of_block, n)
