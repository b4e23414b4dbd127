"""The coordinate-wise winsorised mean."""

from jax import Array

from fljax.aggregators.registry import register_rule
from fljax.numerics.checks import Int, tolerated
from fljax.numerics.order_statistics import ranked, sorted_rows


@register_rule(title="Winsorised mean", assumes="n > 2f, f = trim", source="Tukey 1962")
def winsorized_mean(updates: Array, *, trim: Int) -> Array:
    """Coordinate-wise mean with the `trim` smallest and largest values replaced by the nearest one kept.

    g_j = (1/n) Σ_i min(u_j, max(l_j, g_ij)), l_j the value ranked trim + 1 and u_j the one ranked n − trim
    of coordinate j. Tolerates `trim` malicious rows: like the trimmed mean it stays between honest values,
    with more weight at the two ends. A non-finite entry counts as an extreme one (NaN as +inf) in its own
    coordinate.

    Args:
        updates: (n, d).
        trim: values replaced at each end, 0 ≤ trim < n/2. A traced value is clamped to that range
            (largest ⌈n/2⌉ − 1).

    Returns:
        (d,), in the type of `updates`.

    Raises:
        ValueError: if `updates` is not (n, d), or a static `trim` is not a whole number in range.

    Example:
        >>> import jax.numpy as jnp
        >>> winsorized_mean(jnp.array([[1.0], [2.0], [4.0], [6.0], [90.0]]), trim=1).tolist()
        [4.0]

    Source: Tukey, "The future of data analysis", Annals of Mathematical Statistics 1962, who names it after
    Winsor. CRYPTO-KU's library has it as a capped trimmed mean.
    """
    n = updates.shape[0]
    trim = tolerated(trim, n, (2, 0), name="trim")
    kept = ranked(updates, trim, n - trim, sorted_rows(updates))
    return (kept.total + trim * (kept.first + kept.last)) / n
