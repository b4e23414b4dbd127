"""Stacks that are never whole: rows that come a chunk at a time, as often as they are asked for.

A rule, pre-aggregator or attack that reads its stack by the functions of this module alone takes `Rows` as
well as an array: it streams. Of an array each of them is one call on all rows.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from fljax.numerics.checks import ArgumentError, as_stack


@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
    """The rows of a stack (n, d), a chunk at a time.

    Attributes:
        shape: (n, d).
        dtype: of the rows.
        passes: `passes(part, *of_rows) -> (sums, values)`, one pass over all rows. `part(rows, *own) ->
            (sums, values)` is called with a chunk's rows (k, d) and its share of the arrays `of_rows`,
            pytrees with a leading axis (n,). The sums of all chunks are added up; the values, with a leading
            axis (k,), are put together to (n,). A loop over passes comes after a first one outside of it.
    """

    shape: tuple[int, int]
    dtype: Any
    passes: Callable[..., tuple[Any, Any]]
    ndim = 2

    def __len__(self) -> int:
        return self.shape[0]

    def astype(self, dtype: Any) -> "Rows":
        """The rows in another type."""
        if dtype == self.dtype:
            return self
        changed = map_rows(lambda rows: rows.astype(dtype), self)
        return dataclasses.replace(changed, dtype=dtype)


def stack_or_rows(updates: Any, streams: bool) -> Any:
    """The updates as a JAX array (n, d), or as they are if they are `Rows`.

    Args:
        updates: what was given.
        streams: whether they may be `Rows`.

    Raises:
        ArgumentError: if they are neither, or may not be.
    """
    if not isinstance(updates, Rows):
        return as_stack(updates)
    if not streams:
        raise ArgumentError("reads all rows of a stack at once, of which a round that streams holds a chunk")
    return updates


def fold(part: Callable[..., tuple[Any, Any]], updates: Array | Rows, *of_rows: Any) -> tuple[Any, Any]:
    """One pass over the rows, as `Rows.passes` describes it.

    Example:
        >>> stack = jnp.array([[1.0, 2.0], [3.0, 4.0]])
        >>> total, lengths = fold(lambda rows: (rows.sum(0), rows.max(1)), stack)
        >>> total.tolist(), lengths.tolist()
        ([4.0, 6.0], [2.0, 4.0])
    """
    return updates.passes(part, *of_rows) if isinstance(updates, Rows) else part(updates, *of_rows)


def sum_rows(part: Callable[..., Any], updates: Array | Rows, *of_rows: Any) -> Any:
    """The sum over all chunks of `part(rows, *own)`, in one pass."""
    return fold(lambda *chunk: (part(*chunk), ()), updates, *of_rows)[0]


def by_row(part: Callable[..., Any], updates: Array | Rows, *of_rows: Any) -> Any:
    """The values (n, ...) of `part(rows, *own)`, in one pass; those of a row depend on no other."""
    return fold(lambda *chunk: ((), part(*chunk)), updates, *of_rows)[1]


def map_rows(change: Callable[..., Array], updates: Array | Rows, *of_rows: Any) -> Any:
    """The rows `change(rows, *own)`, without a pass; a row of the result depends on no other."""
    if not isinstance(updates, Rows):
        return change(updates, *of_rows)
    before = updates.passes

    def passes(part: Callable[..., tuple[Any, Any]], *others: Any) -> tuple[Any, Any]:
        def changed(rows: Array, own: Any, others: Any) -> tuple[Any, Any]:
            return part(change(rows, *own), *others)

        return before(changed, of_rows, others)

    return dataclasses.replace(updates, passes=passes)


def row_at(index: Any, updates: Array | Rows) -> Array:
    """One row (d,)."""
    if not isinstance(updates, Rows):
        return updates[index]
    chosen = jnp.arange(len(updates)) == index
    return sum_rows(
        lambda rows, is_it: jnp.sum(jnp.where(is_it[:, None], rows, 0.0), axis=0), updates, chosen
    )


def in_chunks(
    chunk: Callable[[Any, Any], tuple[Any, Any, Any]], of_rows: Any, n: int, size: int, carry: Any = ()
) -> tuple[Any, Any, Any]:
    """A pass of a loop over chunks of rows.

    Args:
        chunk: `chunk(own, carry) -> (sums, values, carry)` of a chunk's share `own` of `of_rows`.
        of_rows: pytree of arrays with a leading axis (n,).
        n: how many rows there are, at least 1.
        size: rows in a chunk; the last one has what is left.
        carry: what the chunks hand on, one after the other.

    Returns:
        The sums of all chunks, the values (n, ...), and the last carry.
    """

    def of_chunk(start: Any, count: int) -> Any:
        return jax.tree.map(lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, start, count), of_rows)

    def step(number: Any, so_far: Any, count: int = size) -> Any:
        sums, values, carry = so_far
        start = number * size
        more, own, carry = chunk(of_chunk(start, count), carry)
        sums = jax.tree.map(jnp.add, sums, more)
        values = jax.tree.map(
            lambda whole, part: jax.lax.dynamic_update_slice_in_dim(whole, part, start, 0), values, own
        )
        return sums, values, carry

    whole, rest = divmod(n, size)
    more, own, _ = jax.eval_shape(lambda: chunk(of_chunk(0, min(size, n)), carry))
    sums = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), more)
    values = jax.tree.map(lambda leaf: jnp.zeros((n, *leaf.shape[1:]), leaf.dtype), own)
    so_far = sums, values, carry
    if whole:
        so_far = jax.lax.fori_loop(0, whole, step, so_far)
    return step(whole, so_far, rest) if rest else so_far


def chunk_size(n: int, most: int) -> int:
    """The rows of a chunk: at most `most`, preferably a divisor of n, so that no chunk is left over.

    Example:
        >>> chunk_size(1000, 64), chunk_size(97, 64), chunk_size(5, 64)
        (50, 49, 5)
    """
    most = max(1, min(n, most))
    divisor = max(size for size in range(1, most + 1) if n % size == 0)
    return divisor if 2 * divisor >= most else -(-n // -(-n // most))


def stacked(updates: Array, size: int) -> Rows:
    """The rows of a stack that there is, `size` at a time.

    Example:
        >>> rows = stacked(jnp.arange(6.0).reshape(3, 2), 2)
        >>> sum_rows(lambda chunk: chunk.sum(0), rows).tolist()
        [6.0, 9.0]
    """
    n, d = updates.shape

    def passes(part: Callable[..., tuple[Any, Any]], *of_rows: Any) -> tuple[Any, Any]:
        def chunk(own: Any, carry: Any) -> tuple[Any, Any, Any]:
            rows, own = own
            return *part(rows, *own), carry

        sums, values, _ = in_chunks(chunk, (updates, of_rows), n, size)
        return sums, values

    return Rows((n, d), updates.dtype, passes)
