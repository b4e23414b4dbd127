"""Scaling: own updates multiplied by a factor."""

import jax.numpy as jnp
from jax import Array

from fljax.attacks.registry import register_attack
from fljax.numerics.checks import real
from fljax.numerics.subset_statistics import replaced


@register_attack(
    title="Scaling",
    source="Bagdasaryan et al. 2020",
    assumes="own update",
    optimises="weight in the mean",
    streams=True,
)
def scale(updates: Array, malicious: Array, *, factor: float | Array | None = None) -> Array:
    """Scaling: every malicious row is multiplied by a factor.

    g'_i = factor · g_i for malicious i. With the factor n, one attacker's update survives averaging over n
    clients (model replacement).

    Args:
        updates: (n, d), the rows all clients would send honestly.
        malicious: (n,) boolean.
        factor: the factor; None for n, the number of rows.

    Returns:
        (n, d); honest rows are bit-identical.

    Raises:
        ValueError: if the shapes do not fit.

    Example:
        >>> scale(jnp.ones((2, 1)), jnp.array([True, False]), factor=5.0).tolist()
        [[5.0], [1.0]]

    Source: Bagdasaryan et al., AISTATS 2020; Cao et al., NDSS 2021 (λ = n).
    """
    n = updates.shape[0]
    factor = jnp.asarray(n if factor is None else real("factor", factor), updates.dtype)
    return replaced(updates, malicious, lambda rows: factor * rows)
