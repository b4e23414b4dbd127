"""Adaptive robust clipping (ARC): the longest rows are shortened to the length of another."""

import jax.numpy as jnp
from jax import Array

from fljax.aggregators.registry import register_pre_aggregator
from fljax.numerics.checks import Int, tolerated
from fljax.numerics.clipping import shortened
from fljax.numerics.rows import by_row, map_rows
from fljax.numerics.safe import contained, safe_norms


@register_pre_aggregator(title="ARC", assumes="n > 2f", source="Allouah et al. 2024", streams=True)
def adaptive_clip(updates: Array, *, num_malicious: Int) -> Array:
    """Clip the longest rows to the length of the longest one that is left alone (ARC).

    With k = ⌊2 (f / n) (n − f)⌋ and f = `num_malicious`, the k rows of largest norm are shortened to the norm
    of the (k + 1)-th largest. Keeps the tolerance of the rule that follows, f < n/2, and bounds how long a
    malicious row can be by the honest ones. A row with a non-finite entry is among the longest and becomes
    zero.

    Args:
        updates: (n, d).
        num_malicious: f, 0 ≤ f < n/2; a traced value is clamped to that range (largest ⌈n/2⌉ − 1).

    Returns:
        (n, d), in the type of `updates`.

    Raises:
        ValueError: if `updates` is not (n, d), or a static `num_malicious` is not a whole number in range.

    Example:
        >>> adaptive_clip(jnp.array([[1.0], [-2.0], [4.0], [64.0]]), num_malicious=1).tolist()
        [[1.0], [-2.0], [4.0], [4.0]]

    Source: Allouah et al., "Adaptive gradient clipping for robust federated learning", 2024.
    """
    n = updates.shape[0]
    f = tolerated(num_malicious, n, (2, 0))
    stack = map_rows(contained, updates)
    norms = by_row(safe_norms, stack)
    num_clipped = 2 * f * (n - f) // n
    lengths = jnp.where(norms.finite, norms.values / norms.shifts, jnp.inf)
    radius = jnp.sort(lengths)[n - 1 - num_clipped]
    return map_rows(lambda rows, own: shortened(rows, own, radius), stack, norms)
