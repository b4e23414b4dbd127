"""ALIE: the mean of the rows, shifted by standard deviations.

Rows are updates, −β times a gradient. The mean of a gradient changes its sign with that, a standard deviation
does not: a published μ − zσ of gradients is μ + zσ here.
"""

import jax.numpy as jnp
from jax import Array
from jax.scipy.special import ndtri

from fljax.attacks.registry import register_attack
from fljax.numerics.checks import Float, Int, option, real
from fljax.numerics.subset_statistics import Sight, deviation_of, known_rows, mean_of, replaced


def alie_factor(num_rows: int, num_malicious: Int) -> Array:
    """The factor z of Baruch et al.: beyond it, just enough honest rows make the attackers a majority.

    z = Φ⁻¹((n − ⌊n/2 + 1⌋) / (n − m)), Φ the normal distribution. With s = ⌊n/2 + 1⌋ − m honest supporters
    the attackers are a majority. The share is clamped to [1/n, 1 − 1/n], which leaves every m ≤ n/2 as
    published (for n > 2) and keeps z finite for a majority of attackers. It is 0 for m = 1 of an odd n and
    m = 2 of an even n, negative for m = 1 of an even n.

    Args:
        num_rows: n.
        num_malicious: m; may be traced.

    Returns:
        float32 scalar.

    Example:
        >>> round(float(alie_factor(50, 24)), 3)  # the paper's worked example: 24 / 26 = 0.923
        1.426
    """
    n = num_rows
    share = (n - (n // 2 + 1)) / jnp.maximum(n - jnp.asarray(num_malicious, jnp.float32), 1.0)
    return ndtri(jnp.clip(share, min(1 / n, 0.5), max(1 - 1 / n, 0.5)))


@register_attack(
    title="ALIE",
    source="Baruch et al. 2019",
    assumes="attackers' updates",
    optimises="error within the spread",
    streams=True,
)
def alie(
    updates: Array,
    malicious: Array,
    *,
    z: float | Array | None = None,
    knowledge: Sight = "partial",
    ddof: int = 0,
) -> Array:
    """A little is enough: the mean of the known rows, shifted by z standard deviations in every coordinate.

    g'_i = μ + z σ for malicious i, μ and σ the mean and the standard deviation per coordinate.

    Args:
        updates: (n, d), the rows all clients would send honestly.
        malicious: (n,) boolean.
        z: the factor, of either sign; None for `alie_factor` of n and the number m of malicious rows. z > 0
            makes every coordinate of the updates larger, of the gradients smaller.
        knowledge: "partial", μ and σ of the attackers' own rows, or "full", of the honest ones; of all rows
            if there are none. A single attacker with its own row only has σ = 0 and sends what it trained.
        ddof: σ is divided by the number of rows less this, 0 or 1.

    Returns:
        (n, d); honest rows are bit-identical.

    Raises:
        ValueError: if the shapes do not fit, `knowledge` is neither, a static `z` is not finite or `ddof` is
            neither 0 nor 1.

    Example:
        >>> rows = jnp.array([[1.0], [4.0], [7.0], [0.0]])
        >>> mask = jnp.array([False, False, False, True])
        >>> alie(rows, mask, z=1.5, knowledge="full", ddof=1)[3].tolist()
        [8.5]

    Source: Baruch et al., "A little is enough: circumventing defenses for distributed learning", NeurIPS
    2019. In training, with rows that are updates:

        Baruch et al.        alie(...)                                         μ − zσ of gradients
        Karimireddy et al.   alie(..., knowledge="full", ddof=1)               μ − zσ of gradients
        FLPoison             alie(..., knowledge="full")                       μ + zσ of updates
        ByzFL, τ = 1.5       alie(..., z=-1.5, knowledge="full", ddof=1)       μ + τσ of gradients

    On one and the same stack ByzFL's formula is z = τ, as in the example.
    """
    ddof = option("ddof", ddof, (0, 1))
    if z is None:
        factor: Float = alie_factor(updates.shape[0], jnp.sum(malicious))
    else:
        factor = real("z", z, finite=True)
    mean, deviation = mean_and_deviation(known_rows(malicious, knowledge), updates, ddof)
    crafted = mean + jnp.asarray(factor, updates.dtype) * deviation
    return replaced(updates, malicious, lambda rows: crafted)


def mean_and_deviation(rows: Array, updates: Array, ddof: int = 0) -> tuple[Array, Array]:
    """Mean and standard deviation per coordinate of the rows in the mask, (d,) each."""
    mean = mean_of(rows, updates)
    return mean, deviation_of(rows, updates, mean, ddof)
