"""Weights of the rows: checked where their values are known, and scaled so that no sum of them overflows."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fljax.numerics.checks import ArgumentError, is_known, shaped
from fljax.numerics.safe import divide


def relative_weights(weights: Array | None, n: int, dtype: jnp.dtype) -> Array:
    """The weights divided by the largest, (n,); 0 if all are 0, 1 if there are none.

    Raises:
        ArgumentError: if the shape is not (n,), or a weight that is not traced is negative or not finite.
    """
    if weights is None:
        return jnp.ones((n,), dtype)
    with np.errstate(over="ignore"):
        traced = shaped("weights", weights, (n,), ", one per row").astype(dtype)
    if is_known(weights):
        # In double precision: numbers of NumPy may be beyond the range of `dtype`.
        known = np.asarray(weights, np.float64)
        wrong = np.flatnonzero(~(np.isfinite(known) & (known >= 0)))
        if wrong.size:
            raise ArgumentError(
                f"weights must be finite and not negative, got {known[wrong[0]]:g} for row {wrong[0]}"
            )
        return jnp.asarray(known / (known.max() or 1.0), dtype)
    largest = jax.lax.stop_gradient(jnp.max(traced))
    return divide(traced, jnp.where(largest < jnp.finfo(dtype).tiny, 1.0, largest))
