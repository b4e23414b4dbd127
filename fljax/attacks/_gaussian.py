"""Gaussian noise, alone or around a row."""

from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array

from fljax.attacks.registry import register_attack
from fljax.attacks.wrappers import malicious_rows
from fljax.numerics.checks import option, real
from fljax.numerics.rows import map_rows
from fljax.numerics.subset_statistics import honest_rows, mean_of


@register_attack(
    title="Gaussian", source="Blanchard et al. 2017", assumes="nothing", optimises="disturbance", streams=True
)
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
    option("around", around, ("zero", "own", "mean"))
    std = real("std", std, at_least=0)
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

    def crafted(stack: Array, bad: Array, numbers: Array) -> Array:
        def craft(row: Array) -> Array:
            noise = std * jax.random.normal(jax.random.fold_in(key, numbers[0] + row), (d,), stack.dtype)
            return noise + (stack[row] if around == "own" else mean)

        rows = malicious_rows(bad, max_malicious)
        return stack.at[rows].set(jax.vmap(craft)(rows), mode="drop")

    return map_rows(crafted, updates, malicious, jnp.arange(len(updates)))
