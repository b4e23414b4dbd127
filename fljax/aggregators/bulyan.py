"""Bulyan: repeated Krum selection, then a mean around the median of what was selected."""

import jax.numpy as jnp
from jax import Array, lax

from fljax.aggregators.arguments import Int, as_stack, compute_dtype, output_dtype, tolerated
from fljax.aggregators.base import Info
from fljax.aggregators.neighbors import squared_distances
from fljax.aggregators.order_statistics import (
    LARGEST_NETWORK,
    fold_rows,
    median_of_rows,
    midpoint,
    select_ranks,
    sorted_rows,
    sum_nearest,
    times,
)


def _picks(squares: Array, num_malicious: Int) -> Array:
    """Mask (n,) of the n − 2f rows that Krum picks one after the other from those that remain.

    A row's score needs its nearest k = m − f − 2 of the m remaining rows. The distance `limits` of the
    farthest of them moves by at most one place per pick, so one pass over the distances per pick gives both
    the score and the next limit.
    """
    n = squares.shape[0]
    squares = jnp.where(jnp.eye(n, dtype=bool), jnp.inf, squares)
    (limits,) = select_ranks(squares, [jnp.maximum(n - num_malicious - 2, 1) - 1])

    def pick(t: Array, carry: tuple[Array, ...]) -> tuple[Array, ...]:
        squares, limits, alive = carry
        num_neighbors = n - t - num_malicious - 2

        def parts(row: Array) -> tuple[Array, Array]:
            below = row < limits
            return jnp.where(below, row, 0.0), below.astype(jnp.int32)

        total, below = fold_rows(parts, squares)
        scores = jnp.where(num_neighbors > 0, total + times(limits, num_neighbors - below), 0.0)
        # A remaining row that is infinitely far still comes before one that was picked.
        scores = jnp.minimum(scores, jnp.finfo(scores.dtype).max)
        chosen = jnp.argmin(jnp.where(alive, scores, jnp.inf))
        squares = squares.at[chosen].set(jnp.inf)

        def rest(row: Array) -> tuple[Array, Array]:
            below = row < limits
            return below.astype(jnp.int32), jnp.where(below, row, -jnp.inf)

        (below,) = fold_rows(lambda row: rest(row)[:1], squares)
        (largest_below,) = fold_rows(lambda row: rest(row)[1:], squares, jnp.maximum)
        # One neighbour less is needed: the limit falls where enough rows lie below it.
        limits = jnp.where(below >= num_neighbors - 1, largest_below, limits)
        return squares, limits, alive.at[chosen].set(False)

    start = (squares, limits, jnp.ones((n,), bool))
    return ~lax.fori_loop(0, n - 2 * num_malicious, pick, start)[2]


def bulyan_explained(updates: Array, *, num_malicious: Int, strict: bool = True) -> tuple[Array, Info]:
    """`bulyan`, and which rows Krum picked."""
    updates = as_stack("bulyan", updates)
    n = updates.shape[0]
    # One of the n − 2f picked rows must remain in the mean: n − 4f > 0.
    f = tolerated("bulyan", num_malicious, n, (4, 2), least=(4, 0), strict=strict)
    stack = updates.astype(compute_dtype(updates))
    selected = _picks(squared_distances(stack), f)
    theta = n - 2 * f
    if isinstance(theta, int) and theta <= LARGEST_NETWORK:
        # Picked rows in their order; they are read where they lie.
        ids = jnp.nonzero(selected, size=theta)[0]
        rows = sorted_rows([stack[ids[i]] for i in range(theta)])
        total = sum_nearest(stack, median_of_rows(stack, rows), theta - 2 * f, rows)
    else:
        picked = jnp.where(selected[:, None], stack, jnp.inf)
        low, high = select_ranks(picked, [(theta - 1) // 2, theta // 2])
        total = sum_nearest(picked, midpoint(low, high), theta - 2 * f, None)
    return (total / (theta - 2 * f)).astype(output_dtype(updates)), {"selected": selected}


def bulyan(updates: Array, *, num_malicious: Int, strict: bool = True) -> Array:
    """Bulyan: n − 2f rows picked by Krum, then per coordinate the mean of those nearest their median.

    θ = n − 2f times, the row with the smallest Krum score among the m remaining ones (its m − f − 2 nearest
    remaining rows, at least 0) is picked, ties going to the lowest row. Then g_j is the mean of the θ − 2f
    values of coordinate j of the picked rows that are nearest their median; of two values at the same
    distance, the smaller one counts. Tolerates f malicious rows if n ≥ 4f + 3.

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
        [2.0]

    Source: El Mhamdi, Guerraoui, Rouault, "The hidden vulnerability of distributed learning in Byzantium",
    ICML 2018. Flower agrees; implementations that score once and take the n − 2f best pick other rows.
    """
    return bulyan_explained(updates, num_malicious=num_malicious, strict=strict)[0]
