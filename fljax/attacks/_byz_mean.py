"""ByzMean: rows that put the plain mean of all exactly where the attackers want it."""

import jax.numpy as jnp
from jax import Array

from fljax.attacks._alie import mean_and_deviation
from fljax.attacks.registry import register_attack
from fljax.numerics.checks import real
from fljax.numerics.subset_statistics import honest_rows, replaced


@register_attack(
    title="ByzMean", source="Xu et al. 2022", assumes="all updates", optimises="the plain mean", streams=True
)
def byz_mean(updates: Array, malicious: Array, *, z: float | Array = 0.5) -> Array:
    """ByzMean: some rows shifted as in ALIE, the others such that the mean of all rows is that as well.

    With the mean μ and the standard deviation σ (divided by one less than their number) of the honest rows,
    the first ⌊m/2⌋ of the m malicious rows are u = μ + z σ and the others

        ((n − ⌊m/2⌋) u − Σ_honest g) / (m − ⌊m/2⌋),

    so that the plain mean of the n rows is u.

    Args:
        updates: (n, d), the rows all clients would send honestly.
        malicious: (n,) boolean; if no row is honest, μ and σ are those of all.
        z: how far u is from μ, of either sign.

    Returns:
        (n, d); honest rows are bit-identical.

    Raises:
        ValueError: if the shapes do not fit or a static `z` is not finite.

    Example:
        >>> rows = jnp.array([[1.0], [3.0], [0.0], [0.0]])
        >>> sent = byz_mean(rows, jnp.arange(4) >= 2, z=2.0)
        >>> float(jnp.abs(sent.mean(0) - sent[2])[0]) < 1e-5
        True

    Source: Xu et al., "Byzantine-robust federated learning through collaborative malicious gradient
    filtering" (SignGuard), ICDCS 2022, of gradients, where u is μ − zσ (see `alie`). The authors' code takes
    the number of honest rows for n and the sum of all rows for that of the honest ones, so that the mean is
    not u; its μ and σ are of all rows as well.
    """
    z = real("z", z, finite=True)
    honest = honest_rows(malicious)
    mean, deviation = mean_and_deviation(honest, updates, ddof=1)
    shifted = mean + jnp.asarray(z, updates.dtype) * deviation
    n, count = updates.shape[0], jnp.sum(malicious)
    half = count // 2
    # Without an honest row there is no sum to make up for.
    total = jnp.sum(~malicious) * mean
    others = ((n - half) * shifted - total) / jnp.maximum(count - half, 1)
    first = jnp.cumsum(malicious) <= half
    return replaced(updates, malicious, lambda rows, early: jnp.where(early[:, None], shifted, others), first)
