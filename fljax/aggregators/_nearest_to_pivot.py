"""Nearest-neighbour averaging (MoNNA): the mean of the rows nearest to a trusted one."""

import jax.numpy as jnp
from jax import Array

from fljax.aggregators._norm_filter import mean_of_nearest
from fljax.aggregators.registry import register_rule
from fljax.base import Info
from fljax.numerics.checks import Int, below_half, bounded
from fljax.numerics.rows import by_row, row_at
from fljax.numerics.safe import distances_to, finite_rows


@register_rule(
    title="MoNNA",
    assumes="n > 2f, with an honest pivot",
    source="Farhadkhani et al. 2023",
    streams=True,
    surrogate="distance",
)
def nearest_to_pivot(
    updates: Array, *, num_malicious: Int, pivot: Int = 0, strict: bool = True
) -> tuple[Array, Info]:
    """Nearest-neighbour averaging (MoNNA): the mean of the n − f rows nearest to the row `pivot`.

    g = (1 / (n − f)) Σ g_i over the n − f rows with the smallest ‖g_i − g_p‖, the pivot p itself included,
    ties to the lowest row. The pivot is trusted: it is the row of whoever aggregates, in the paper every
    node of a peer-to-peer network for itself. With at most f < n/2 hostile rows among the others, every row
    that counts is at most as far from the pivot as the farthest honest one; the paper's convergence theorem
    asks for a smaller share of them. A row with a non-finite entry is infinitely far, and left out of the
    mean even if there are more than f. With a non-finite pivot there is nothing to go by: the result is NaN.

    Args:
        updates: (n, d).
        num_malicious: f, how many rows to leave out, 0 ≤ f < n/2; a traced value is clamped to that range
            (largest ⌈n/2⌉ − 1).
        pivot: index p of the trusted row, 0 ≤ p < n; a traced value is clamped to that range.
        strict: whether to insist on n > 2f; False takes any f < n, without a guarantee.

    Returns:
        (d,), in the type of `updates`.

    Raises:
        ValueError: if `updates` is not (n, d), or a static `num_malicious` or `pivot` is out of range.

    Example:
        >>> rows = jnp.array([[1.0], [2.0], [7.0]])
        >>> [nearest_to_pivot(rows, num_malicious=1, pivot=p).tolist() for p in range(3)]
        [[1.5], [1.5], [4.5]]

    Source: Farhadkhani et al., "Robust collaborative learning with linear gradient overhead", ICML 2023.
    ByzFL calls it MoNNA, the authors' code CVA; in the paper the rows are models, and momentum makes the
    other half of MoNNA.
    """
    n = updates.shape[0]
    f = below_half(num_malicious, n, strict)
    pivot = bounded("pivot", pivot, largest=n - 1, needs="to be a row, 0 to n - 1", n=n)
    is_pivot = jnp.arange(n) == pivot
    trusted = row_at(pivot, updates)

    def from_pivot(rows: Array, is_it: Array) -> tuple[Array, Array]:
        # Before its own copies, so that the pivot always counts.
        distances = jnp.where(is_it, -1.0, distances_to(rows, trusted, is_it))
        return distances, finite_rows(rows, distances)

    distances, finite = by_row(from_pivot, updates, is_pivot)
    update, selected = mean_of_nearest(updates, distances, finite, f)
    # Without its own row a node has nothing to go by.
    update = jnp.where(selected[pivot], update, jnp.nan)
    return update, {"selected": selected}
