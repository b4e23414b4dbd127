"""The examples that only pad a batch, for layers that compute statistics of it."""

from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array


def at_least_one(real: Array) -> Array:
    """The mask of real examples (b,), or all of them where none is.

    A client without any example must not divide by zero; its statistics are not counted.
    """
    return real | ~jnp.any(real)


def example_mask(x: Array, real: Array) -> Array:
    """The mask of real examples in the form that a `BatchNorm` of flax takes.

    Args:
        x: (b, ...) the layer's input.
        real: (b,) boolean.

    Returns:
        (b, 1, ...) boolean.

    Raises:
        ValueError: if the layer's first axis is not the batch.
    """
    if x.shape[:1] != real.shape:
        raise ValueError(
            f"BatchNorm: the first axis must be the batch of {real.shape[0]}, so that padded examples can be "
            f"left out, got shape {x.shape}"
        )
    return real.reshape(-1, *[1] * (x.ndim - 1))


def deviation(variance: Array) -> Array:
    """The square root of a variance, with gradient 0 where it is 0."""
    positive = variance > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, variance, 1.0)), 0.0)


def with_real_statistics(x: Array, real: Array, axes: Sequence[int]) -> Array:
    """A batch whose mean and variance are those of its real examples, for a layer that takes no mask.

    Padding becomes the mean, and two more examples lie as far from the mean as the variance asks for.

    Args:
        x: (b, ...) the layer's input.
        real: (b,) boolean, at least one True.
        axes: over which the layer computes its statistics, the first among them.

    Returns:
        (b + 2, ...), the real ones of the first b as they were.

    Raises:
        ValueError: if the layer's first axis is not the batch.

    Example:
        >>> x = jnp.array([[1.0], [3.0], [99.0]])
        >>> found = with_real_statistics(x, jnp.array([True, True, False]), [0])
        >>> round(float(found.mean()), 6), round(float(found.var()), 6)
        (2.0, 1.0)
    """
    mask = example_mask(x, real)
    count = jnp.sum(real)
    weights = mask / count

    def mean_over_real(values: Array) -> Array:
        total = jnp.sum(jnp.where(mask, weights * values, 0.0), axis=0, keepdims=True)
        return jnp.mean(total, axis=tuple(axes), keepdims=True)

    mean = mean_over_real(x)
    away = deviation(mean_over_real(jnp.square(x - mean))) * jnp.sqrt((len(x) + 2 - count) / 2)
    low, high = (jnp.broadcast_to(mean + sign * away, (1, *x.shape[1:])) for sign in (-1, 1))
    return jnp.concatenate([jnp.where(mask, x, mean), low, high])
