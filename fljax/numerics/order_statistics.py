"""Order statistics of every coordinate over the rows of a stack.

Up to `LARGEST_NETWORK` rows: a sorting network of element-wise minimum and maximum over whole rows, which
XLA fuses into one kernel that reads the matrix once; comparators whose outputs nobody reads are dropped by
the compiler. Beyond that, and where a rank is not known while compiling: bisection of the float's bits, two
bits per pass over the matrix, counting the entries below; it needs no memory besides the matrix. `jnp.sort`
over the client axis takes over a second at (100, 139,960) on two CPU cores (benchmarks/README.md). On a GPU
one kernel bisects in registers (`rank_kernel`), and networks are for few rows: XLA cuts longer ones.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from fljax.numerics.blocks import as_tree, fold_blocks, map_blocks, rows_of
from fljax.numerics.checks import Int, as_number, is_static
from fljax.numerics.rank_kernel import kernel_selects, select_ranks_in_registers
from fljax.numerics.safe import for_all
from fljax.numerics.sharding import by_itself, whole_on_cpu

# Above this many rows the network's compile time (it grows with n log² n) outweighs its speed.
LARGEST_NETWORK = 128
# The same where there is a kernel that selects.
LARGEST_BESIDE_KERNEL = 32
# Rows that one step of a pass over the matrix reads; measured on a CPU, see benchmarks/README.md.
ROWS_PER_STEP = 32
BITS_PER_PASS = 2

Combine = Callable[[Array, Array], Array]


def sorting_network(n: int) -> list[tuple[int, int]]:
    """Comparators (i, j), i < j, of Batcher's odd-even merge sort for n rows.

    Returns:
        Pairs in order of execution; each puts the smaller value in row i.

    Example:
        >>> sorting_network(3)
        [(0, 1), (0, 2), (1, 2)]

    Source: Batcher, "Sorting networks and their applications", AFIPS 1968; in the iterative form of
    Knuth, The Art of Computer Programming vol. 3, 5.2.2, algorithm M.
    """
    pairs = []
    p = 1
    while p < n:
        k = p
        while k >= 1:
            for j in range(k % p, n - k, 2 * k):
                for i in range(min(k, n - j - k)):
                    if (i + j) // (2 * p) == (i + j + k) // (2 * p):
                        pairs.append((i + j, i + j + k))
            k //= 2
        p *= 2
    return pairs


def network_sorts(n: int, dtype: jnp.dtype) -> bool:
    """True if a sorting network is the way for n rows, where `sorted_rows` is not None."""
    return n <= (LARGEST_BESIDE_KERNEL if kernel_selects(n, dtype) else LARGEST_NETWORK)


def sorted_rows(updates: Array | Sequence[Array]) -> list[Array] | None:
    """The rows sorted in every coordinate, smallest first, NaN counted as +inf; None for too many rows.

    Args:
        updates: (n, d), or n rows (d,).

    Returns:
        n arrays (d,), the k-th with each coordinate's k-th smallest value, or None where `network_sorts` is
        False. Use them in sums or use few of them: returning all 128 takes minutes to compile.
    """
    n = len(updates)
    if not network_sorts(n, updates[0].dtype):
        return None
    # Row by row: one operation on the stack would be written to memory before the network reads it.
    rows = [updates[i] for i in range(n)]
    rows = [jnp.where(jnp.isnan(row), jnp.inf, row) for row in rows]
    for i, j in sorting_network(n):
        rows[i], rows[j] = jnp.minimum(rows[i], rows[j]), jnp.maximum(rows[i], rows[j])
    return rows


def sum_rows(rows: Sequence[Array]) -> Array:
    """Sum of equally shaped arrays as a balanced tree.

    A chain of additions after the network makes XLA split the fusion: 510 ms against 27 ms, and 29 s of
    compilation against 3 s, at (100, 139,960) on two CPU cores.
    """
    return as_tree(jnp.add, rows)


def fold_rows(
    function: Callable[..., tuple[Array, ...]],
    updates: Array | Sequence[Array],
    combine: Combine | Sequence[Combine] = jnp.add,
) -> tuple[Array, ...]:
    """Reduce over the rows: combine(function(row 0), combine(function(row 1), …)), as (d,) arrays.

    On a CPU a reduction over the leading axis writes the (n, d) operand first and reads it slowly; this loop
    over groups of rows is one fused kernel per step (2.6 ms a pass at 14 million entries, against 15).

    Args:
        function: a row (d,) to a tuple of (d,) arrays; with several arrays, a row of each.
        updates: (n, d), or several arrays with n rows each.
        combine: associative; one for all, or one for each array of the result.

    Returns:
        The tuple of reductions.

    Example:
        >>> stack = jnp.arange(6.0).reshape(3, 2)
        >>> [total.tolist() for total in fold_rows(lambda row: (row, row**2), stack)]
        [[6.0, 9.0], [20.0, 35.0]]
    """
    arrays = list(updates) if isinstance(updates, Sequence) else [updates]

    def combiner(number: int) -> Combine:
        return combine if callable(combine) else combine[number]

    def of_rows(start: Int, count: int) -> tuple[Array, ...]:
        blocks = [rows_of(array, start, count) for array in arrays]
        parts = zip(*(function(*(rows[i] for rows in blocks)) for i in range(count)), strict=True)
        return tuple(as_tree(combiner(k), part) for k, part in enumerate(parts))

    def both(total: tuple[Array, ...], more: tuple[Array, ...]) -> tuple[Array, ...]:
        return tuple(combiner(k)(a, b) for k, (a, b) in enumerate(zip(total, more, strict=True)))

    return fold_blocks(of_rows, both, len(arrays[0]), ROWS_PER_STEP)


def _from_order(position: Array, dtype: jnp.dtype) -> Array:
    """The float at a place in the order of all floats, -NaN < -inf < … < -0 < 0 < … < inf < NaN."""
    sign = jnp.asarray(1 << (jnp.finfo(dtype).bits - 1), position.dtype)
    return lax.bitcast_convert_type(jnp.where(position & sign != 0, position ^ sign, ~position), dtype)


def select_ranks(
    updates: Array, ranks: Sequence[Int], transform: Callable[[Array], Array] | None = None
) -> tuple[Array, ...]:
    """The exact rank-th smallest entry of every coordinate, by bisection of the float's bits.

    Args:
        updates: (n, d) float32 or float64.
        ranks: counted from 0; may be traced.
        transform: what to rank instead of the entries: a row (d,) to a row (d,).

    Returns:
        One (d,) array per rank; NaN counts as +inf, an entry below the smallest normal number as 0.

    Example:
        >>> [value.tolist() for value in select_ranks(jnp.array([[5.0], [1.0], [3.0]]), [0, 1])]
        [[1.0], [3.0]]
    """
    if kernel_selects(len(updates), updates.dtype):
        values = lax.stop_gradient(updates if transform is None else jax.vmap(transform)(updates))
        wanted = jnp.stack([jnp.asarray(rank, jnp.int32) for rank in ranks])
        found: Iterable[Array] = by_itself(select_ranks_in_registers, values, wanted)
    else:
        found = _select_by_passes(updates, ranks, transform)
    # Processors that flush small numbers to zero cannot tell them from zero: neither does the result.
    tiny = jnp.finfo(updates.dtype).tiny
    return tuple(jnp.where(jnp.abs(value) < tiny, 0.0, value) for value in found)


def _select_by_passes(
    updates: Array, ranks: Sequence[Int], transform: Callable[[Array], Array] | None
) -> Iterable[Array]:
    d = updates.shape[1]
    dtype = updates.dtype
    bits = jnp.finfo(dtype).bits
    unsigned = jnp.dtype(f"uint{bits}")
    infinity = lax.bitcast_convert_type(jnp.asarray(jnp.inf, dtype), unsigned) | jnp.asarray(
        1 << (bits - 1), unsigned
    )
    steps = range(1, 2**BITS_PER_PASS)
    wanted = [jnp.asarray(rank, jnp.int32) for rank in ranks]

    def narrow(i: Array, lows: tuple[Array, ...]) -> tuple[Array, ...]:
        shift = (bits - BITS_PER_PASS * (i + 1)).astype(unsigned)
        places = [low + (jnp.asarray(step, unsigned) << shift) for low in lows for step in steps]
        thresholds = [_from_order(place, dtype) for place in places]

        def below(row: Array) -> tuple[Array, ...]:
            value = row if transform is None else transform(row)
            return tuple((value < threshold).astype(jnp.int32) for threshold in thresholds)

        counts = fold_rows(below, updates)
        moved = []
        for j, (low, rank) in enumerate(zip(lows, wanted, strict=True)):
            mine = slice(j * len(steps), (j + 1) * len(steps))
            # The value is at or above every threshold that at most `rank` entries are below.
            passed = [
                (count <= rank) & (place <= infinity)
                for count, place in zip(counts[mine], places[mine], strict=True)
            ]
            moved.append(low + (sum(p.astype(unsigned) for p in passed) << shift))
        return tuple(moved)

    start = tuple(jnp.zeros((d,), unsigned) for _ in wanted)
    found = lax.fori_loop(0, bits // BITS_PER_PASS, narrow, start)
    return (_from_order(place, dtype) for place in found)


def followed(value: Array, total: Array, count: Array) -> Array:
    """A value found by bisection, with the gradient of the mean of the entries that equal it."""
    mean = total / jnp.maximum(count, 1)
    return value + jnp.where(jnp.isfinite(mean), mean - lax.stop_gradient(mean), 0.0)


def midpoint(low: Array, high: Array) -> Array:
    """(low + high) / 2, which does not overflow where the two do not.

    XLA makes half the sum of two halves, so halving first is no help.
    """
    middle = 0.5 * (low + high)
    overflows = jnp.isinf(middle) & jnp.isfinite(low) & jnp.isfinite(high)
    return jnp.where(overflows, low + 0.5 * (high - low), middle)


def median_of_rows(updates: Array, rows: list[Array] | None) -> Array:
    """The median of every coordinate, (d,); the mean of the middle two for an even number of rows.

    Args:
        updates: (n, d).
        rows: `sorted_rows(updates)`; None to bisect.
    """
    n = len(updates if rows is None else rows)
    if rows is not None:
        low, high = rows[(n - 1) // 2], rows[n // 2]
    else:
        low, high = _middle_values(updates)
    return low if n % 2 else midpoint(low, high)


def _middle_values(updates: Array) -> tuple[Array, Array]:
    """The two middle values of every coordinate; the same one twice for an odd number of rows."""
    n = updates.shape[0]
    (low,) = select_ranks(updates, [(n - 1) // 2])

    def at_low(row: Array) -> tuple[Array, ...]:
        return jnp.where(row == low, row, 0.0), (row == low).astype(jnp.int32), (row <= low).astype(jnp.int32)

    total, count, up_to_low = fold_rows(at_low, updates)
    low = followed(low, total, count)
    if n % 2:
        return low, low
    (above,) = fold_rows(lambda row: (jnp.where(row > low, row, jnp.inf),), updates, jnp.minimum)
    return low, jnp.where(up_to_low > n // 2, low, above)


def trimmed_sum(updates: Array, trim: Int, rows: list[Array] | None) -> Array:
    """Sum of the n − 2·trim middle values of every coordinate, (d,).

    Args:
        updates: (n, d).
        trim: 0 ≤ trim < n/2; may be traced.
        rows: `sorted_rows(updates)`; None to bisect.
    """
    return ranked_sum(updates, trim, updates.shape[0] - trim, rows)


def ranked_sum(updates: Array, first: Int, end: Int, rows: list[Array] | None) -> Array:
    """Sum of the values of every coordinate from the rank `first` to the one before `end`, (d,).

    Args:
        updates: (n, d).
        first: counted from 0; may be traced.
        end: first < end ≤ n; may be traced.
        rows: `sorted_rows(updates)`; None to bisect.
    """
    return ranked(updates, first, end, rows).total


class Ranked(NamedTuple):
    """The values of every coordinate from one rank to another, (d,) each.

    Attributes:
        first: the smallest of them.
        last: the largest of them.
        total: their sum.
    """

    first: Array
    last: Array
    total: Array


def ranked(updates: Array, first: Int, end: Int, rows: list[Array] | None) -> Ranked:
    """The values of every coordinate between two ranks; arguments as for `ranked_sum`."""
    # What is known stays known while something else is traced.
    first, end = as_number(first), as_number(end)
    if rows is not None:
        if is_static(first) and is_static(end):
            return Ranked(rows[first], rows[end - 1], sum_rows(rows[first:end]))

        def total(inside: Callable[[int], Array | bool]) -> Array:
            # `where`, not a product: a dropped infinity times zero would be NaN.
            return sum_rows([jnp.where(inside(rank), row, 0.0) for rank, row in enumerate(rows)])

        return Ranked(
            total(lambda rank: rank == first),
            total(lambda rank: rank == end - 1),
            total(lambda rank: (rank >= first) & (rank < end)),
        )
    low, high = select_ranks(updates, [first, end - 1])

    def parts(row: Array) -> tuple[Array, ...]:
        masks = (row == low, row == high, row <= low, row < high)
        sums = [jnp.where(mask, row, 0.0) for mask in (~masks[2] & masks[3], *masks[:2])]
        return (*sums, *(mask.astype(jnp.int32) for mask in masks))

    between, at_low, at_high, num_low, num_high, up_to_low, below_high = fold_rows(parts, updates)
    low, high = followed(low, at_low, num_low), followed(high, at_high, num_high)
    of_low, of_high = up_to_low - first, end - below_high
    ties = times(low, of_low) + times(high, of_high)
    return Ranked(low, high, jnp.where(low == high, times(low, end - first), between + ties))


def median_of_some(updates: Array, some: Array) -> Array:
    """The median of every coordinate over the marked rows, (d,); 0 if none is.

    Args:
        updates: (n, d); rows that are not marked may hold anything.
        some: (n,) bool, rows that are finite.
    """
    marked = jnp.where(some[:, None], updates, jnp.inf)
    count = jnp.sum(some)
    first, end = jnp.maximum(count - 1, 0) // 2, count // 2 + 1
    total = ranked_sum(marked, first, end, sorted_rows(marked))
    return jnp.where(count > 0, total / (end - first), 0.0)


def times(value: Array, count: Array | int) -> Array:
    """The product; 0 · ∞ is 0."""
    return jnp.where(count == 0, 0.0, value * count)


def sum_nearest(updates: Array, center: Array, count: Int, rows: list[Array] | None) -> Array:
    """Sum of the `count` values nearest to the centre in every coordinate, (d,).

    Of two values at the same distance, the smaller one counts.

    Args:
        updates: (n, d).
        center: (d,).
        count: 1 to n; may be traced if `rows` is None.
        rows: `sorted_rows(updates)`; None to bisect.
    """
    if rows is not None:
        # The nearest values are consecutive: from some rank s ≤ n − count on. Row s makes place for row
        # s + count where that one is nearer.
        window = rows[:count]
        for s in range(len(rows) - count):
            farther = center - rows[s] > rows[s + count] - center
            window[s % count] = jnp.where(farther, rows[s + count], window[s % count])
        return sum_rows(window)
    (limit,) = select_ranks(updates, [count - 1], lambda row: jnp.abs(row - center))
    # XLA may compute the centre again, rounded in another way, in the kernel that sums: distances within
    # rounding of the limit are ties.
    rounding = 4 * jnp.finfo(updates.dtype).eps * (jnp.abs(center) + limit)
    nearer = jnp.where(jnp.isfinite(limit), limit - rounding, limit)
    farther = jnp.where(jnp.isfinite(limit), limit + rounding, limit)

    def parts(row: Array) -> tuple[Array, ...]:
        distance = jnp.abs(row - center)
        inside, tied = distance < nearer, (distance >= nearer) & (distance <= farther)
        left, right = tied & (row <= center), tied & (row > center)
        sums = [jnp.where(some, row, 0.0) for some in (inside, left, right)]
        return (*sums, *(some.astype(jnp.int32) for some in (inside, left, right)))

    inside, left, right, num_inside, num_left, num_right = fold_rows(parts, updates)
    from_left = jnp.minimum(count - num_inside, num_left)
    from_right = count - num_inside - from_left
    # Rounding can put different values at the same distance: each stands for their mean.
    share_left = from_left.astype(left.dtype) / jnp.maximum(num_left, 1)
    share_right = from_right.astype(left.dtype) / jnp.maximum(num_right, 1)
    return inside + left * share_left + right * share_right


class TopOfRows(NamedTuple):
    """The largest entries of every row by magnitude, up to a count; see `top_of_rows`.

    Attributes:
        limit: (n,) the bits of the smallest magnitude that counts, as a signed integer.
        last: (n,) int32, of the entries of that magnitude those up to this column count.
    """

    limit: Array
    last: Array

    def holds(self, rows: Array) -> Array:
        """The entries that count, (n, d) bool."""
        bits, columns = _magnitudes(rows), jnp.arange(rows.shape[1])
        limit = self.limit[:, None]
        return (bits > limit) | ((bits == limit) & (columns <= self.last[:, None]))


def _magnitudes(rows: Array) -> Array:
    """The bits of |x|, in whose order magnitudes are."""
    signed = jnp.dtype(f"int{jnp.finfo(rows.dtype).bits}")
    return lax.bitcast_convert_type(rows, signed) & jnp.iinfo(signed).max


def _last_columns(rows: Array, limit: Array, missing: Array) -> Array:
    """The column up to which `missing` entries of a row are at its limit."""
    columns = jnp.arange(rows.shape[1])

    def narrow(i: Array, last: Array) -> Array:
        tried = last | (1 << (rows.shape[1].bit_length() - 1 - i)).astype(jnp.int32)
        at_limit = (_magnitudes(rows) == limit[:, None]) & (columns < tried[:, None])
        return jnp.where(jnp.sum(at_limit, axis=1, dtype=jnp.int32) < missing, tried, last)

    # The largest number of columns that hold fewer than are missing.
    return lax.fori_loop(0, rows.shape[1].bit_length(), narrow, jnp.zeros_like(missing))


def _no_ties(rows: Array, limit: Array, missing: Array) -> Array:
    return jnp.full_like(missing, rows.shape[1])


def top_of_rows(rows: Array, count: Int) -> TopOfRows:
    """The `count` entries of largest magnitude in every row, ties to the lowest column, by bisection.

    It reads a row once for every bit of a float, on a CPU while it is in the cache, and needs no memory
    besides it: `jax.lax.top_k` of thousands of entries sorts the rows.

    Args:
        rows: (n, d) float32 or float64; NaN counts as larger than infinity.
        count: 1 to d; may be traced.

    Example:
        >>> rows = jnp.array([[1.0, -3.0, 2.0, -2.0]])
        >>> top_of_rows(rows, 2).holds(rows).tolist()
        [[False, True, True, False]]
    """
    rows = lax.stop_gradient(rows)
    n = rows.shape[0]
    bits = jnp.finfo(rows.dtype).bits
    kind = _magnitudes(rows[:, :0]).dtype

    def limits(ids: Array) -> tuple[Array, ...]:
        block = rows_of(rows, ids[0], len(ids))

        def narrow(i: Array, limit: Array) -> Array:
            tried = limit | (jnp.ones((), kind) << (bits - 2 - i).astype(kind))
            reached = jnp.sum(_magnitudes(block) >= tried[:, None], axis=1, dtype=jnp.int32)
            return jnp.where(reached >= count, tried, limit)

        limit = lax.fori_loop(0, bits - 1, narrow, jnp.zeros(ids.shape, kind))
        magnitudes = _magnitudes(block)
        above = jnp.sum(magnitudes > limit[:, None], axis=1, dtype=jnp.int32)
        return limit, above, jnp.sum(magnitudes >= limit[:, None], axis=1, dtype=jnp.int32)

    # Devices that hold columns count all rows at a time: every count is a word between them.
    limit, above, up_to = map_blocks(limits, n, 1 if whole_on_cpu() else n)
    fine = for_all(jnp.all(up_to == count))
    last = lax.cond(fine, _no_ties, _last_columns, rows, limit, count - above)
    return TopOfRows(limit, last)
