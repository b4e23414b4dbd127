"""The coordinate-wise median."""

from jax import Array

from fljax.aggregators.registry import register_rule
from fljax.aggregators.surrogates import soft_median
from fljax.numerics.order_statistics import median_of_rows, sorted_rows


@register_rule(title="Median", assumes="n > 2f", source="Yin et al. 2018", surrogate=soft_median)
def median(updates: Array) -> Array:
    """Coordinate-wise median; the mean of the middle two when n is even.

    Tolerates fewer than n/2 malicious rows. A non-finite entry counts as an extreme one (NaN as +inf) in
    its own coordinate.

    Args:
        updates: (n, d).

    Returns:
        (d,), in the type of `updates`.

    Raises:
        ValueError: if `updates` is not (n, d).

    Example:
        >>> import jax.numpy as jnp
        >>> median(jnp.array([[1.0, 9.0], [2.0, 8.0], [50.0, jnp.nan]])).tolist()
        [2.0, 9.0]

    Source: Yin et al., "Byzantine-robust distributed learning: towards optimal statistical rates", ICML
    2018. ByzPy takes the lower of the middle two, the Fang et al. attack code the upper one.
    """
    return median_of_rows(updates, sorted_rows(updates))
