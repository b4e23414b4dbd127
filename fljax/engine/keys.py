"""Keys by name: one per purpose, so that adding a use of randomness changes no other."""

import zlib
from collections.abc import Callable
from typing import Any

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


def on_data(function: Callable[[Any], Any], leaf: Any) -> Any:
    """The function of an array; of typed keys that of their data, as keys again.

    Example:
        >>> on_data(lambda data: 2 * data, jax.random.key(3)) == jax.random.key(6)
        Array(True, dtype=bool)
    """
    if not (isinstance(leaf, Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)):
        return function(leaf)
    return jax.random.wrap_key_data(function(jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf))
