"""Gaussian noise on the update that a rule made."""

import jax
import jax.numpy as jnp
from jax import Array

from fljax.aggregators.registry import register_post_aggregator
from fljax.numerics.checks import Float, real


@register_post_aggregator(
    title="Noise", assumes="a bound on the rows, such as `clip`", source="Sun et al. 2019", streams=True
)
def add_noise(update: Array, key: Array, *, std: Float) -> Array:
    """Gaussian noise on the aggregated update, once a round (weak differential privacy).

    g + N(0, σ² I) with σ = `std`. Behind `clip` with radius C and the mean it is norm clipping with weak
    differential privacy, which washes out what a few rows of bounded length plant over the rounds. The
    server's learning rate multiplies the noise as it does the update.

    Args:
        update: (d,).
        key: typed PRNG key.
        std: σ ≥ 0, in the unit of the updates; may be traced.

    Returns:
        (d,), in the type of `update`.

    Raises:
        ValueError: if `update` is not (d,), or a static `std` is negative or not finite.

    Example:
        >>> noisy = add_noise(jnp.zeros(10_000), jax.random.key(0), std=0.1)
        >>> round(float(noisy.std()), 2)
        0.1

    Source: Sun, Kairouz, Suresh, McMahan, "Can you really backdoor federated learning?", 2019. BackFed has
    C = 3 or 5 and σ = 0.025. FLPoison adds noise of σ = 0.002 to every row, which leaves σ/√n on the mean;
    Flower's σ is the noise multiplier times C/n; FedML adds noise per client, without clipping.
    """
    std = real("std", std, at_least=0, finite=True)
    # Of a fixed type: the same numbers in single and double precision.
    noise = jax.random.normal(key, update.shape, jnp.float32).astype(update.dtype)
    return update + jnp.asarray(std, update.dtype) * noise
