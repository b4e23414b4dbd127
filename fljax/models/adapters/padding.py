"""The examples that only pad a batch, for layers that compute statistics of it."""

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
