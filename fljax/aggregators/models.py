"""Models after one client's update, called one after the other."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from fljax.numerics.checks import ArgumentError, shown
from fljax.numerics.sharding import replicated

# Models that are called together on an accelerator; on a CPU one client's convolutions are ordinary ones.
MODELS_AT_ONCE = 8


def called(name: str, function: Any) -> Callable[..., Array]:
    """What a round provides as a function.

    Raises:
        ArgumentError: if it is none.
    """
    if not callable(function):
        raise ArgumentError(f"{name} must be a function of parameters (d,), got {shown(function)}")
    return function


def of_models(function: Callable[[Array], Any], params: Array, updates: Array, usable: Array) -> Any:
    """`function(w + g_i)` of every row, stacked; of a row that is not usable `function(w)`.

    Args:
        function: of parameters (d,).
        params: w, (d,).
        updates: (n, d).
        usable: (n,) bool, finite rows.
    """

    def one(given: tuple[Array, Array]) -> Any:
        row, fine = given
        # A model is called whole, on devices that hold columns as well.
        return function(replicated(params + jnp.where(fine, row, 0.0)))

    size = None if jax.default_backend() == "cpu" else MODELS_AT_ONCE
    return jax.lax.map(one, (updates, usable), batch_size=size)
