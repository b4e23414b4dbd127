"""Statistics of a few numbers per row, over the rows that count."""

import jax.numpy as jnp
from jax import Array

from fljax.numerics.order_statistics import midpoint

# A spread below that many rounding errors of the largest value is none.
ROUNDING = 16.0


def masked_median(values: Array, valid: Array) -> Array:
    """Median over the last axis of the valid values (at least one); the mean of the middle two.

    Args:
        values: (..., n).
        valid: (n,) bool.
    """
    ordered = jnp.sort(jnp.where(valid, values, jnp.inf), axis=-1)
    count = jnp.sum(valid)
    low = jnp.take(ordered, jnp.maximum(count - 1, 0) // 2, axis=-1)
    high = jnp.take(ordered, count // 2, axis=-1, mode="clip")
    return midpoint(low, high)


def mz_scores(values: Array, valid: Array) -> Array:
    """Distances from the median in standard deviations, |v_i − med v| / σ(v), over the valid values.

    Args:
        values: (n,), finite where valid.
        valid: (n,) bool.

    Returns:
        (n,); all 0 where the values differ by rounding only. σ has the divisor n.

    Example:
        >>> mz_scores(jnp.array([1.0, 1.0, 5.0, 9.0]), jnp.arange(4) < 3).round(3).tolist()[:3]
        [0.0, 0.0, 2.121000051498413]
    """
    largest = jnp.max(jnp.where(valid, jnp.abs(values), 0.0), initial=0.0)
    # In units of the largest: squares neither overflow nor vanish.
    scaled = jnp.where(valid, values, 0.0) / jnp.where(largest > 0, largest, 1.0)
    count = jnp.maximum(jnp.sum(valid), 1)
    mean = jnp.sum(scaled) / count
    spread = jnp.sqrt(jnp.sum(jnp.where(valid, jnp.square(scaled - mean), 0.0)) / count)
    apart = spread > ROUNDING * jnp.finfo(values.dtype).eps
    distances = jnp.abs(scaled - masked_median(scaled, valid))
    return jnp.where(valid & apart, distances / jnp.where(apart, spread, 1.0), 0.0)
