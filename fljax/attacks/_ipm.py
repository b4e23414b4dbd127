"""Inner product manipulation."""

import jax.numpy as jnp
from jax import Array

from fljax.attacks.registry import register_attack
from fljax.numerics.checks import real
from fljax.numerics.subset_statistics import known_rows, mean_of, replaced


@register_attack(
    title="IPM",
    source="Xie et al. 2020",
    assumes="all updates",
    optimises="negative inner product",
    streams=True,
)
def ipm(updates: Array, malicious: Array, *, epsilon: float | Array) -> Array:
    """Inner product manipulation (Fall of Empires): a negative multiple of the honest mean.

    g'_i = −ε μ for malicious i, μ the mean of the honest rows. A small ε passes distance-based rules and
    still makes ⟨aggregate, μ⟩ negative where the crafted rows are chosen.

    Args:
        updates: (n, d), the rows all clients would send honestly.
        malicious: (n,) boolean; if no row is honest, μ is the mean of all.
        epsilon: ε ≥ 0.

    Returns:
        (n, d); honest rows are bit-identical.

    Raises:
        ValueError: if the shapes do not fit or a static `epsilon` is negative.

    Example:
        >>> ipm(jnp.array([[1.0], [3.0], [0.0]]), jnp.array([False, False, True]), epsilon=0.5)[2].tolist()
        [-1.0]

    Source: Xie et al., "Fall of empires: breaking Byzantine-tolerant SGD by inner product manipulation", UAI
    2019 (PMLR 2020). The factor has no default: ByzFL takes 2, FLPoison 0.1, Blades 1. ByzFL's earlier Fall
    of Empires multiplies the mean by 1 − τ instead of −τ.
    """
    epsilon = real("epsilon", epsilon, at_least=0)
    mean = mean_of(known_rows(malicious, "full"), updates)
    return replaced(updates, malicious, lambda rows: -jnp.asarray(epsilon, updates.dtype) * mean)
