"""Aksel: the mean of the rows nearest the coordinate-wise median."""

from typing import Literal, get_args

import jax
from jax import Array

from fljax.aggregators._norm_filter import mean_of_nearest
from fljax.aggregators.registry import register_rule
from fljax.base import Info
from fljax.numerics.checks import Int, below_half, option
from fljax.numerics.order_statistics import median_of_some
from fljax.numerics.safe import distances_to, finite_rows

Count = Literal["half", "n-f"]


@register_rule(title="Aksel", assumes="n > 2f", source="Boussetta et al. 2021", surrogate="distance")
def aksel(
    updates: Array, *, num_malicious: Int = 0, count: Count = "half", strict: bool = True
) -> tuple[Array, Info]:
    """Mean of the rows nearest the coordinate-wise median (Aksel).

    With m the coordinate-wise median of the finite rows, g is the mean of the c rows of smallest ‖g_i − m‖,
    ties to the lowest row; c = ⌊(n + 1)/2⌋, or n − f. With fewer than n/2 hostile rows every row that counts
    is at most as far from m as the farthest honest one. A row with a non-finite entry is infinitely far, and
    left out even if fewer than c others are there.

    Args:
        updates: (n, d).
        num_malicious: f, 0 ≤ f < n/2, of `count="n-f"` only; a traced value is clamped to that range.
        count: "half" averages ⌊(n + 1)/2⌋ rows, "n-f" n − f.
        strict: whether to insist on n > 2f; False takes any f < n, without a guarantee.

    Returns:
        (d,), in the type of `updates`; NaN if no row is finite.

    Raises:
        ValueError: if `updates` is not (n, d), `count` is neither of the two or a static `num_malicious` is
            out of range.

    Example:
        >>> import jax.numpy as jnp
        >>> rows = jnp.array([[0.0], [1.0], [2.0], [5.0], [50.0]])
        >>> aksel(rows).tolist(), aksel(rows, num_malicious=1, count="n-f").tolist()
        ([1.0], [2.0])

    Source: Boussetta, El-Mhamdi, Guerraoui, Maurer, Rouault, "AKSEL: Fast Byzantine SGD", 2021. Garfield,
    whose `mode` "mid" is "half" here, takes the lower median where n is even.
    """
    n = updates.shape[0]
    f = below_half(num_malicious, n, strict)
    half = option("count", count, get_args(Count)) == "half"
    # Which rows are nearest has no gradient.
    fixed = jax.lax.stop_gradient(updates)
    finite = finite_rows(fixed)
    middle = jax.lax.optimization_barrier(median_of_some(fixed, finite))
    distances = distances_to(fixed, middle)
    update, selected = mean_of_nearest(updates, distances, finite, n - (n + 1) // 2 if half else f)
    return update, {"selected": selected}
