"""Bulyan: repeated Krum selection, then a mean around the median of what was selected."""

import jax.numpy as jnp
from jax import Array, lax

from fljax.aggregators.registry import register_rule
from fljax.base import Info
from fljax.numerics.checks import Int, tolerated
from fljax.numerics.neighbors import Nearest, first_row, squared_distances
from fljax.numerics.order_statistics import (
    fold_rows,
    median_of_rows,
    midpoint,
    network_sorts,
    select_ranks,
    sorted_rows,
    sum_nearest,
)
from fljax.numerics.safe import finite_rows


def _picks(squares: Array, finite: Array, num_malicious: Int) -> tuple[Array, Array]:
    """The n − 2f rows that Krum picks one after the other, as a mask (n,), and the number of the first one.

    A row's score needs its nearest k = max(m − f − 2, 1) of the m remaining rows. The distance `limits` of
    the farthest of them moves by at most one place per pick, so two passes over the distances per pick give
    the score, what breaks its ties, and the next limit.
    """
    n = squares.shape[0]
    squares = jnp.where(jnp.eye(n, dtype=bool), jnp.inf, squares)

    def neighbors(t: Int) -> Int:
        return jnp.maximum(n - t - num_malicious - 2, 1)

    (limits,) = select_ranks(squares, [neighbors(0) - 1])

    def pick(t: Array, carry: tuple[Array, ...]) -> tuple[Array, ...]:
        squares, limits, alive, first = carry

        def around(row: Array) -> tuple[Array, ...]:
            below = row < limits
            counts = (below.astype(jnp.int32), (row <= limits).astype(jnp.int32))
            return jnp.where(below, row, 0.0), *counts, jnp.where(row > limits, row, jnp.inf)

        total, below, up_to, above = fold_rows(around, squares, (*[jnp.add] * 3, jnp.minimum))
        rest, known = neighbors(t) - below, jnp.isfinite(limits)
        following = jnp.where(up_to > neighbors(t), limits, above)
        missing = jnp.where(known, 0, rest).astype(squares.dtype)
        nearest = Nearest(total + jnp.where(known, limits * rest, 0.0), missing, following)
        chosen = first_row((~alive).astype(squares.dtype), *nearest.keys(finite))
        squares = squares.at[chosen].set(jnp.inf)

        def inside(row: Array) -> tuple[Array, ...]:
            below = row < limits
            counts = (below.astype(jnp.int32), (row <= limits).astype(jnp.int32))
            return *counts, jnp.where(below, row, -jnp.inf)

        below, up_to, largest_below = fold_rows(inside, squares, (jnp.add, jnp.add, jnp.maximum))
        # Mostly one neighbour less is needed: the limit falls where enough rows lie below it. Where one is
        # needed as before and a row inside was picked, it rises.
        count = neighbors(t + 1)
        rising = jnp.where(up_to >= count, limits, following)
        limits = jnp.where(below >= count, largest_below, rising)
        return squares, limits, alive.at[chosen].set(False), jnp.where(t == 0, chosen, first)

    start = (squares, limits, jnp.ones((n,), bool), jnp.int32(0))
    _, _, alive, first = lax.fori_loop(0, n - 2 * num_malicious, pick, start)
    return ~alive, first


@register_rule(title="Bulyan", assumes="n ≥ 4f + 3", source="El Mhamdi et al. 2018")
def bulyan(updates: Array, *, num_malicious: Int, strict: bool = True) -> tuple[Array, Info]:
    """Bulyan: n − 2f rows picked by Krum, then per coordinate the mean of those nearest their median.

    θ = n − 2f times, the row with the smallest Krum score among the m remaining ones (over its m − f − 2
    nearest remaining rows, at least 1) is picked. Then g_j is the mean of the θ − 2f values of coordinate j
    of the picked rows that are nearest their median; of two values at the same distance, the smaller one
    counts. Tolerates f malicious rows if n ≥ 4f + 3.

    The paper leaves the last pick open for f = 1, where m − f − 2 = 0. With one neighbour the two rows of a
    nearest pair tie: equal scores are ordered as in `krum`, by the next distance, then by row. With more than
    2f rows that are not finite, the first pick takes the place of those that are picked.

    The picks take O(n²) operations each and hold the (n, n) distances.

    Args:
        updates: (n, d).
        num_malicious: f, 0 ≤ f ≤ (n − 3) / 4; a traced value is clamped to that range.
        strict: whether to insist on n ≥ 4f + 3; False asks for n > 4f only, without a guarantee.

    Returns:
        (d,), in the type of `updates`.

    Raises:
        ValueError: if `updates` is not (n, d), or a static `num_malicious` is not a whole number in range.

    Example:
        >>> rows = jnp.array([[0.0], [1.0], [2.0], [3.0], [4.0], [5.0], [90.0]])
        >>> bulyan(rows, num_malicious=1).tolist()
        [3.0]

    Source: El Mhamdi, Guerraoui, Rouault, "The hidden vulnerability of distributed learning in Byzantium",
    ICML 2018. Flower's older rule (flwr.server) counts at least one neighbour as well, and its ties go to the
    lowest row; its newer one (flwr.serverapp) and others score once and take the n − 2f best, other rows.
    """
    n = updates.shape[0]
    # One of the n − 2f picked rows must remain in the mean: n − 4f > 0.
    f = tolerated(num_malicious, n, (4, 2), least=(4, 0), strict=strict)
    squares = lax.stop_gradient(squared_distances(updates))
    finite = finite_rows(updates, jnp.max(squares))
    selected, first = _picks(squares, finite, f)
    theta = n - 2 * f
    # With too few finite rows, the first pick stands for those that are missing.
    if isinstance(theta, int) and network_sorts(theta, updates.dtype):
        # Picked rows in their order; they are read where they lie.
        ids = jnp.nonzero(selected, size=theta)[0]
        ids = jnp.where(finite[ids], ids, first)
        rows = sorted_rows([updates[ids[i]] for i in range(theta)])
        total = sum_nearest(updates, median_of_rows(updates, rows), theta - 2 * f, rows)
    else:
        usable = jnp.where(finite[:, None], updates, updates[first])
        picked = jnp.where(selected[:, None], usable, jnp.inf)
        low, high = select_ranks(picked, [(theta - 1) // 2, theta // 2])
        total = sum_nearest(picked, midpoint(low, high), theta - 2 * f, None)
    return total / (theta - 2 * f), {"selected": selected & finite}
