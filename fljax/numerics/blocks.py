"""Loops over blocks of rows: all of them at once need more memory than there is, or more passes."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import Array, lax

from fljax.numerics.checks import Int

T = TypeVar("T")


def as_tree(combine: Callable[[T, T], T], parts: Sequence[T]) -> T:
    """The parts combined as a balanced tree.

    Example:
        >>> as_tree(lambda a, b: f"({a}{b})", "abcde")
        '(((ab)(cd))e)'
    """
    parts = list(parts)
    while len(parts) > 1:
        pairs = [combine(a, b) for a, b in zip(parts[::2], parts[1::2], strict=False)]
        parts = pairs + parts[len(pairs) * 2 :]
    return parts[0]


def fold_blocks(part: Callable[[Int, int], T], combine: Callable[[T, T], T], n: int, size: int) -> T:
    """Combine the parts of n rows, block after block; the first block may be smaller than the others.

    Args:
        part: `part(start, count)` of the rows from `start` on, `count` of them.
        combine: `combine(so_far, part)`.
        n: how many rows there are, at least 1.
        size: rows in a block.

    Example:
        >>> int(fold_blocks(lambda start, count: jnp.sum(start + jnp.arange(count)), jnp.add, 10, 4))
        45
    """
    first = min(n, n % size or size)
    total = part(0, first)
    if n == first:
        return total
    return lax.fori_loop(
        0, (n - first) // size, lambda i, so_far: combine(so_far, part(i * size + first, size)), total
    )


def fold_columns(part: Callable[..., Array], size: int, *arrays: Array) -> Array:
    """The sum of a function of columns over blocks of them, each read while it is in a CPU's cache.

    Args:
        part: `part(*blocks)`, of the same columns of all arrays.
        size: columns in a block.
        *arrays: (..., d).

    Example:
        >>> fold_columns(lambda rows: jnp.sum(rows, axis=1), 2, jnp.arange(10.0).reshape(2, 5)).tolist()
        [10.0, 35.0]
    """

    def of_block(start: Int, count: int) -> Array:
        return part(*(lax.dynamic_slice_in_dim(array, start, count, axis=-1) for array in arrays))

    return fold_blocks(of_block, jnp.add, arrays[0].shape[-1], size)


def map_blocks(part: Callable[[Array], Any], n: int, size: int, needed: Int | None = None) -> Any:
    """Arrays with leading axis n, put together from those of a block of rows at a time.

    Args:
        part: `part(rows)` of consecutive row numbers, arrays with leading axis `len(rows)`.
        n: how many rows there are, at least 1.
        size: rows in a block; the last block overlaps the one before it where they do not fill it.
        needed: how many of the rows, the first ones, are computed at least; the others may be zero. None for
            all.

    Example:
        >>> map_blocks(lambda rows: 10 * rows, 5, 2).tolist()
        [0, 10, 20, 30, 40]
    """
    size = min(size, n)
    shapes = jax.eval_shape(part, jax.ShapeDtypeStruct((size,), jnp.int32))
    whole = jax.tree.map(lambda leaf: jnp.zeros((n, *leaf.shape[1:]), leaf.dtype), shapes)

    def step(i: Array, whole: Any) -> Any:
        start = jnp.minimum(i * size, n - size)
        return jax.tree.map(
            lambda all_rows, rows: lax.dynamic_update_slice_in_dim(all_rows, rows, start, 0),
            whole,
            part(start + jnp.arange(size)),
        )

    needed = n if needed is None else needed
    return lax.fori_loop(0, (needed + size - 1) // size, step, whole)


def rows_of(array: Array, start: Int, count: int) -> Array:
    """`count` consecutive rows of an array."""
    if isinstance(start, int):
        return array if count == len(array) else array[start : start + count]
    return lax.dynamic_slice_in_dim(array, start, count)
