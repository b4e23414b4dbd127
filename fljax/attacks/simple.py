"""Attacks that need no optimisation: scaled, negated, random and constant updates."""

from typing import Literal

import jax.numpy as jnp
from jax import Array

from fljax.attacks.base import check_stack
from fljax.attacks.statistics import honest_rows, mean_of


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
    updates, malicious = check_stack("scale", updates, malicious)
    n = updates.shape[0]
    factor = jnp.asarray(n if factor is None else factor, updates.dtype)
    return jnp.where(malicious[:, None], factor * updates, updates)


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
    updates, malicious = check_stack("sign_flip", updates, malicious)
    if of not in ("own", "mean"):
        raise ValueError(f'sign_flip: of={of!r} must be "own" or "mean"')
    source = updates
    if of == "mean":
        source = mean_of(honest_rows(malicious), updates)[None, :]
    return jnp.where(malicious[:, None], -jnp.asarray(factor, updates.dtype) * source, updates)
