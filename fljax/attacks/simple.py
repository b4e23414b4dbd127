"""Attacks that need no optimisation: scaled, negated, random and constant updates."""

from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array

from fljax.attacks.checks import option, real
from fljax.attacks.wrappers import check_stack, malicious_rows
from fljax.numerics.subset_statistics import honest_rows, mean_of


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
    factor = jnp.asarray(n if factor is None else real("scale", "factor", factor), updates.dtype)
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
    option("sign_flip", "of", of, ("own", "mean"))
    factor = real("sign_flip", "factor", factor)
    source = updates
    if of == "mean":
        source = mean_of(honest_rows(malicious), updates)[None, :]
    return jnp.where(malicious[:, None], -jnp.asarray(factor, updates.dtype) * source, updates)


def gaussian(
    updates: Array,
    malicious: Array,
    key: Array,
    *,
    std: float | Array,
    around: Literal["zero", "own", "mean"] = "zero",
    max_malicious: int | None = None,
) -> Array:
    """Gaussian noise: every malicious row is drawn at random, or has noise added to it.

    g'_i = c + std · N(0, I) for malicious i, drawn independently, with c = 0 ("zero"), g_i ("own") or the
    mean of the honest rows ("mean").

    Args:
        updates: (n, d), the rows all clients would send honestly.
        malicious: (n,) boolean.
        key: typed PRNG key; row i draws from `fold_in(key, i)`.
        std: standard deviation of every coordinate, in the units of the updates.
        around: what the noise is centred on; "mean" is the mean of all rows if none is honest.
        max_malicious: an upper bound on the number of malicious rows, to draw fewer random numbers; the
            result does not depend on it. Rows beyond it stay honest.

    Returns:
        (n, d); honest rows are bit-identical.

    Raises:
        ValueError: if the shapes do not fit, `around` is none of the three or a static `std` is negative.

    Example:
        >>> noise = gaussian(jnp.ones((2, 1000)), jnp.array([True, False]), jax.random.key(0), std=200.0)
        >>> bool(190 < noise[0].std() < 210), noise[1, 0].tolist()
        (True, 1.0)

    Source: Blanchard et al., NeurIPS 2017 (centred on zero, standard deviation 200). ByzFL draws around a
    constant, 0 by default.
    """
    updates, malicious = check_stack("gaussian", updates, malicious)
    option("gaussian", "around", around, ("zero", "own", "mean"))
    std = real("gaussian", "std", std, at_least=0)
    return draw_around(updates, malicious, key, std, around, max_malicious)


def draw_around(
    updates: Array,
    malicious: Array,
    key: Array,
    std: float | Array,
    around: Literal["zero", "own", "mean"],
    max_malicious: int | None,
) -> Array:
    """`gaussian` with checked arguments; `std` may have been computed from what clients sent."""
    d = updates.shape[1]
    std = jnp.asarray(std, updates.dtype)
    mean = mean_of(honest_rows(malicious), updates) if around == "mean" else jnp.zeros((), updates.dtype)

    def craft(row: Array) -> Array:
        noise = std * jax.random.normal(jax.random.fold_in(key, row), (d,), updates.dtype)
        return noise + (updates[row] if around == "own" else mean)

    rows = malicious_rows(malicious, max_malicious)
    return updates.at[rows].set(jax.vmap(craft)(rows), mode="drop")


def constant(updates: Array, malicious: Array, *, value: float | Array) -> Array:
    """A constant: every entry of every malicious row is the same number.

    g'_i = (value, …, value) for malicious i. With 0 the client sends nothing; NaN, infinity and 1e38, whose
    square overflows, test what a rule does with them.

    Args:
        updates: (n, d), the rows all clients would send honestly.
        malicious: (n,) boolean.
        value: any float, `nan` and `inf` included; one beyond the range of the updates' type is infinite.

    Returns:
        (n, d); honest rows are bit-identical.

    Raises:
        ValueError: if the shapes do not fit.

    Example:
        >>> constant(jnp.ones((2, 1)), jnp.array([True, False]), value=float("-inf")).tolist()
        [[-inf], [1.0]]

    Source: simulators at large; ByzFL sends infinity.
    """
    updates, malicious = check_stack("constant", updates, malicious)
    value = jnp.asarray(real("constant", "value", value), updates.dtype)
    return jnp.where(malicious[:, None], value, updates)
