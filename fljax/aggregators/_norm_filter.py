"""Comparative gradient elimination (CGE): the mean of the shortest rows."""

from jax import Array, lax

from fljax.aggregators.registry import register_rule
from fljax.base import Info
from fljax.numerics.averages import mean_of_rows
from fljax.numerics.checks import Int, below_half
from fljax.numerics.neighbors import first_in_order
from fljax.numerics.rows import by_row
from fljax.numerics.safe import finite_rows, row_norms


def mean_of_nearest(stack: Array, distances: Array, finite: Array, num_malicious: Int) -> tuple[Array, Array]:
    """Mean of the n − f rows of smallest distance, ties to the lowest row, and which rows those are.

    A row that is not finite comes last, and counts only if none is.
    """
    kept = stack.shape[0] - num_malicious
    selected = first_in_order(kept, ~finite, lax.stop_gradient(distances))
    return mean_of_rows(selected, stack)


@register_rule(
    title="CGE",
    assumes="n > 2f; bounds the length",
    source="Gupta et al. 2020",
    streams=True,
    surrogate="length",
)
def norm_filter(updates: Array, *, num_malicious: Int, strict: bool = True) -> tuple[Array, Info]:
    """Comparative gradient elimination (CGE): the mean of the n − f rows of smallest Euclidean norm.

    g = (1 / (n − f)) Σ g_i over the n − f rows with the smallest ‖g_i‖, ties to the lowest row. Whatever
    f < n/2 rows hold, every row that counts is at most as long as the longest honest one, and with it g. It
    does not look at directions: a short hostile row counts in full. The convergence theorem for μ-smooth,
    γ-strongly convex costs therefore needs f/n < 1 / (1 + 2μ/γ), at best n > 3f. A row with a non-finite
    entry is infinitely long, and left out of the mean even if there are more than f; if there is no other
    row, the result is NaN.

    Args:
        updates: (n, d).
        num_malicious: f, how many rows to drop, 0 ≤ f < n/2; a traced value is clamped to that range
            (largest ⌈n/2⌉ − 1).
        strict: whether to insist on n > 2f; False takes any f < n, without a guarantee.

    Returns:
        (d,), in the type of `updates`.

    Raises:
        ValueError: if `updates` is not (n, d), or a static `num_malicious` is out of range.

    Example:
        >>> import jax.numpy as jnp
        >>> norm_filter(jnp.array([[1.0, 0.0], [0.0, 3.0], [-50.0, 0.0]]), num_malicious=1).tolist()
        [0.5, 1.5]

    Source: Gupta, Liu, Vaidya, "Byzantine fault-tolerant distributed machine learning using stochastic
    gradient descent and norm-based comparative gradient elimination", 2020; Liu, Gupta, Vaidya,
    "Approximate Byzantine fault-tolerance in distributed optimization", PODC 2021. The papers sum the kept
    rows; the mean, as in EPFL's code and ByzPy, leaves the step size independent of n and f. ByzPy allows
    any f < n, as `strict=False` does.
    """
    n = updates.shape[0]
    f = below_half(num_malicious, n, strict)

    def norms(rows: Array) -> tuple[Array, Array]:
        lengths = row_norms(rows)
        return lengths, finite_rows(rows, lengths)

    lengths, finite = by_row(norms, updates)
    update, selected = mean_of_nearest(updates, lengths, finite, f)
    return update, {"selected": selected}
