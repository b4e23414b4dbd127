"""Mean around the median (MeaMed)."""

from jax import Array

from fljax.aggregators.registry import register_rule
from fljax.numerics.checks import Int, below_half, is_static
from fljax.numerics.order_statistics import median_of_rows, sorted_rows, sum_nearest


@register_rule(title="MeaMed", assumes="n > 2f", source="Xie et al. 2018")
def mean_around_median(updates: Array, *, num_malicious: Int, strict: bool = True) -> Array:
    """Coordinate-wise mean of the n − f values nearest the median (MeaMed), with f = `num_malicious`.

    g_j = (1 / (n − f)) Σ of the n − f values of coordinate j with the smallest |g_ij − median_j|. Tolerates
    f < n/2 malicious rows. A non-finite entry counts as an extreme one in its own coordinate. Of two values
    at the same distance, the smaller one counts.

    Args:
        updates: (n, d).
        num_malicious: f, 0 ≤ f < n/2; a traced value is clamped to that range (largest ⌈n/2⌉ − 1).
        strict: whether to insist on n > 2f; False takes any f < n, without a guarantee.

    Returns:
        (d,), in the type of `updates`.

    Raises:
        ValueError: if `updates` is not (n, d), or a static `num_malicious` is not a whole number in range.

    Example:
        >>> import jax.numpy as jnp
        >>> mean_around_median(jnp.array([[0.0], [4.0], [5.0], [6.0], [90.0]]), num_malicious=2).tolist()
        [5.0]

    Source: Xie, Koyejo, Gupta, "Generalized Byzantine-tolerant SGD", 2018. ByzFL breaks ties arbitrarily.
    """
    n = updates.shape[0]
    f = below_half(num_malicious, n, strict)
    rows = sorted_rows(updates) if is_static(f) else None
    nearest = sum_nearest(updates, median_of_rows(updates, rows), n - f, rows)
    return nearest / (n - f)
