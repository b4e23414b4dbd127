"""Phocas: the mean around the trimmed mean."""

from jax import Array

from fljax.aggregators.registry import register_rule
from fljax.numerics.checks import Int, is_static, tolerated
from fljax.numerics.order_statistics import sorted_rows, sum_nearest, trimmed_sum


@register_rule(title="Phocas", assumes="n > 2f, f = trim", source="Xie et al. 2018")
def phocas(updates: Array, *, trim: Int) -> Array:
    """Coordinate-wise mean of the n − trim values nearest the trimmed mean.

    g_j = (1 / (n − trim)) Σ of the n − trim values of coordinate j with the smallest |g_ij − t_j|, t the
    trimmed mean with the same `trim`. Tolerates `trim` malicious rows. A non-finite entry counts as an
    extreme one in its own coordinate. Of two values at the same distance, the smaller one counts.

    Args:
        updates: (n, d).
        trim: values the trimmed mean drops at each end, and values dropped around it, 0 ≤ trim < n/2; a
            traced value is clamped to that range (largest ⌈n/2⌉ − 1).

    Returns:
        (d,), in the type of `updates`.

    Raises:
        ValueError: if `updates` is not (n, d), or a static `trim` is not a whole number in range.

    Example:
        >>> import jax.numpy as jnp
        >>> phocas(jnp.array([[0.0], [4.0], [5.0], [9.0], [90.0]]), trim=1).tolist()
        [4.5]

    Source: Xie, Koyejo, Gupta, "Phocas: dimensional Byzantine-resilient stochastic gradient descent", 2018.
    """
    n = updates.shape[0]
    trim = tolerated(trim, n, (2, 0), name="trim")
    rows = sorted_rows(updates) if is_static(trim) else None
    center = trimmed_sum(updates, trim, rows) / (n - 2 * trim)
    nearest = sum_nearest(updates, center, n - trim, rows)
    return nearest / (n - trim)
