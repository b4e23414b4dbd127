"""States that are vectors of the model's length."""

from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.flatten_util import ravel_pytree

from fljax.base import Params


def zero_vector(params: Params, optimizer: Any = None) -> Array:
    """Zeros (d,) of a model's length and type.

    Example:
        >>> zero_vector({"kernel": jnp.ones((2, 2)), "bias": jnp.ones(1)}).shape
        (5,)
    """
    return jnp.zeros_like(ravel_pytree(params)[0])
