"""The coordinate-wise trimmed mean."""

from jax import Array

from fljax.aggregators.registry import register_rule
from fljax.aggregators.surrogates import soft_trimmed_mean
from fljax.numerics.checks import Int, tolerated
from fljax.numerics.order_statistics import sorted_rows, trimmed_sum


@register_rule(
    title="Trim-mean", assumes="n > 2f, f = trim", source="Yin et al. 2018", surrogate=soft_trimmed_mean
)
def trimmed_mean(updates: Array, *, trim: Int) -> Array:
    """Coordinate-wise mean after dropping the `trim` largest and the `trim` smallest values.

    g_j = (1 / (n − 2·trim)) Σ of the values of coordinate j ranked trim+1 … n−trim. Tolerates `trim`
    malicious rows. A non-finite entry counts as an extreme one (NaN as +inf) in its own coordinate.

    Args:
        updates: (n, d).
        trim: values dropped at each end, 0 ≤ trim < n/2. A traced value is clamped to that range
            (largest ⌈n/2⌉ − 1).

    Returns:
        (d,), in the type of `updates`.

    Raises:
        ValueError: if `updates` is not (n, d), or a static `trim` is not a whole number in range.

    Example:
        >>> import jax.numpy as jnp
        >>> trimmed_mean(jnp.array([[1.0], [2.0], [4.0], [100.0]]), trim=1).tolist()
        [3.0]

    Source: Yin et al., ICML 2018. Flower takes a fraction per side instead of a count.
    """
    n = updates.shape[0]
    trim = tolerated(trim, n, (2, 0), name="trim")
    kept = trimmed_sum(updates, trim, sorted_rows(updates))
    return kept / (n - 2 * trim)
