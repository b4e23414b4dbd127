"""Clipping of every coordinate to an interval."""

from typing import Literal, get_args

import jax.numpy as jnp
from jax import Array

from fljax.aggregators.registry import register_pre_aggregator
from fljax.numerics.checks import Float, option, real
from fljax.numerics.order_statistics import median_of_some
from fljax.numerics.safe import contained, finite_rows

Center = Literal["zero", "median"]


@register_pre_aggregator(
    title="Coordinate clipping", assumes="bounds each entry's influence", source="coordinate-wise clipping"
)
def clip_coordinates(updates: Array, *, bound: Float | Literal["median"], center: Center = "zero") -> Array:
    """Move every entry that is farther than a bound from a centre to that distance.

    c_j + min(b_j, max(−b_j, g_ij − c_j)) with the centre c = 0 or the coordinate-wise median, and b one bound
    for all coordinates or, per coordinate, the median of the |g_ij − c_j|. No entry counts more than b_j, in
    whatever rule follows. A row with a non-finite entry becomes c; medians are those of the finite rows.

    Args:
        updates: (n, d).
        bound: b > 0, in the unit of the updates, may be traced; or "median".
        center: "zero" or "median".

    Returns:
        (n, d), in the type of `updates`.

    Raises:
        ValueError: if `updates` is not (n, d), a static `bound` is not positive, or `center` is neither of
            the two.

    Example:
        >>> clip_coordinates(jnp.array([[3.0, -4.0], [0.5, 0.25]]), bound=1.0).tolist()
        [[1.0, -1.0], [0.5, 0.25]]

    Source: value clipping of gradients, as libraries for training have it. FedSECA (Benjamin et al., CVPR
    2025) clamps at the medians of the magnitudes.
    """
    option("center", center, get_args(Center))
    finite = finite_rows(updates)
    rows = contained(updates)
    middle = median_of_some(rows, finite) if center == "median" else jnp.zeros((), updates.dtype)
    moved = jnp.where(finite[:, None], rows - middle, 0.0)
    if isinstance(bound, str):
        option("bound", bound, ("median",))
        limit = median_of_some(jnp.abs(moved), finite)
    else:
        limit = jnp.asarray(real("bound", bound, above=0), updates.dtype)
    # An entry inside stays bit for bit as it is.
    inside = finite[:, None] & (jnp.abs(moved) <= limit)
    return jnp.where(inside, rows, middle + jnp.clip(moved, -limit, limit))
