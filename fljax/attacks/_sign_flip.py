"""Sign flipping."""

from typing import Literal

import jax.numpy as jnp
from jax import Array

from fljax.attacks.registry import register_attack
from fljax.numerics.checks import option, real
from fljax.numerics.subset_statistics import honest_rows, mean_of, replaced


@register_attack(
    title="Sign flipping",
    source="Li et al. 2019",
    assumes="own update",
    optimises="untargeted error",
    streams=True,
)
def sign_flip(
    updates: Array,
    malicious: Array,
    *,
    of: Literal["own", "mean"] = "own",
    factor: float | Array = 1.0,
) -> Array:
    """Sign flipping: every malicious row becomes a negative multiple of an honest update.

    g'_i = −factor · g_i ("own"), or −factor · the mean of the honest rows ("mean").

    Args:
        updates: (n, d), the rows all clients would send honestly.
        malicious: (n,) boolean.
        of: "own" negates the attacker's own update (Blades, FLPoison, ByzPy), "mean" the mean of the honest
            rows (ByzFL), or of all rows if none is honest.
        factor: the magnitude; 1 in the codes above, larger ones drown the honest majority in a mean.

    Returns:
        (n, d); honest rows are bit-identical.

    Raises:
        ValueError: if the shapes do not fit or `of` is neither.

    Example:
        >>> sign_flip(jnp.array([[1.0], [3.0]]), jnp.array([True, False])).tolist()
        [[-1.0], [3.0]]

    Source: Li et al., "RSA: Byzantine-robust stochastic aggregation methods", AAAI 2019.
    """
    option("of", of, ("own", "mean"))
    factor = real("factor", factor)
    times = -jnp.asarray(factor, updates.dtype)
    mean = mean_of(honest_rows(malicious), updates)[None, :] if of == "mean" else None
    return replaced(updates, malicious, lambda rows: times * (rows if mean is None else mean))
