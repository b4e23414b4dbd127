"""Keys by name: one per purpose, so that adding a use of randomness changes no other."""

import zlib

import jax
from jax import Array


def named_key(key: Array, purpose: str) -> Array:
    """The key of one named purpose.

    Example:
        >>> key = jax.random.key(0)
        >>> bool((named_key(key, "cohort") == named_key(key, "batches")).all())
        False
    """
    return jax.random.fold_in(key, zlib.crc32(purpose.encode()))
