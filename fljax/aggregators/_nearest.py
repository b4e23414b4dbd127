"""Rules that keep the n − f rows nearest to a point: to the origin, or to a row the caller trusts."""

import jax.numpy as jnp
from jax import Array, lax

from fljax.base import Info
from fljax.numerics.averages import mean_of_rows
from fljax.numerics.checks import Int, as_stack, below_half, bounded, compute_dtype, output_dtype
from fljax.numerics.neighbors import first_in_order
from fljax.numerics.safe import distances_to, finite_rows, row_norms


def _mean_of_nearest(stack: Array, distances: Array, num_malicious: Int) -> tuple[Array, Array]:
    """Mean of the n − f rows of smallest distance, ties to the lowest row, and which rows those are.

    A row that is not finite comes last, and counts only if none is.
    """
    finite = finite_rows(stack, distances)
    kept = stack.shape[0] - num_malicious
    selected = first_in_order(kept, ~finite, lax.stop_gradient(distances))
    return mean_of_rows(selected, stack)


def norm_filter_explained(updates: Array, *, num_malicious: Int, strict: bool = True) -> tuple[Array, Info]:
    """`norm_filter`, and which rows it kept."""
    updates = as_stack("norm_filter", updates)
    n = updates.shape[0]
    f = below_half("norm_filter", num_malicious, n, strict)
    stack = updates.astype(compute_dtype(updates))
    update, selected = _mean_of_nearest(stack, row_norms(stack), f)
    return update.astype(output_dtype(updates)), {"selected": selected}


def norm_filter(updates: Array, *, num_malicious: Int, strict: bool = True) -> Array:
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
        >>> norm_filter(jnp.array([[1.0, 0.0], [0.0, 3.0], [-50.0, 0.0]]), num_malicious=1).tolist()
        [0.5, 1.5]

    Source: Gupta, Liu, Vaidya, "Byzantine fault-tolerant distributed machine learning using stochastic
    gradient descent and norm-based comparative gradient elimination", 2020; Liu, Gupta, Vaidya,
    "Approximate Byzantine fault-tolerance in distributed optimization", PODC 2021. The papers sum the kept
    rows; the mean, as in EPFL's code and ByzPy, leaves the step size independent of n and f. ByzPy allows
    any f < n, as `strict=False` does.
    """
    return norm_filter_explained(updates, num_malicious=num_malicious, strict=strict)[0]


def nearest_to_pivot_explained(
    updates: Array, *, num_malicious: Int, pivot: Int = 0, strict: bool = True
) -> tuple[Array, Info]:
    """`nearest_to_pivot`, and which rows it averaged."""
    updates = as_stack("nearest_to_pivot", updates)
    n = updates.shape[0]
    f = below_half("nearest_to_pivot", num_malicious, n, strict)
    pivot = bounded("nearest_to_pivot", "pivot", pivot, largest=n - 1, needs="to be a row, 0 to n - 1", n=n)
    stack = updates.astype(compute_dtype(updates))
    is_pivot = jnp.arange(n) == pivot
    distances = distances_to(stack, stack[pivot], is_pivot)
    # Before its own copies, so that the pivot always counts.
    distances = jnp.where(is_pivot, -1.0, distances)
    update, selected = _mean_of_nearest(stack, distances, f)
    # Without its own row a node has nothing to go by.
    update = jnp.where(selected[pivot], update, jnp.nan)
    return update.astype(output_dtype(updates)), {"selected": selected}


def nearest_to_pivot(updates: Array, *, num_malicious: Int, pivot: Int = 0, strict: bool = True) -> Array:
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
    return nearest_to_pivot_explained(updates, num_malicious=num_malicious, pivot=pivot, strict=strict)[0]
