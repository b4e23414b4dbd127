"""The unit of published attacks' absolute constants, in the updates of a round."""

from typing import Any, Literal, get_args

import jax.numpy as jnp
from jax import Array

from fljax.numerics.checks import Float, option, real

Unit = Literal["mean", "sum"]


def gradient_in_updates(unit: Unit, local_rate: Array | None, batch_size: Array | None, dtype: Any) -> Array:
    """The factor from gradients to updates: β for the mean loss of a batch, β/b for the summed one.

    A step of SGD at rate β on the mean loss of b examples is w − β · (mean gradient) = w − β/b · (summed
    gradient). What is not known counts as 1.
    """
    option("unit", unit, get_args(Unit))
    rate = jnp.asarray(known_rate(local_rate), dtype)
    if batch_size is None:
        return rate
    examples = real("batch_size", batch_size, above=0, finite=True)
    return rate if unit == "mean" else rate / jnp.asarray(examples, dtype)


def known_rate(local_rate: Array | None) -> Float:
    """The local learning rate, 1 where it is not known."""
    return 1.0 if local_rate is None else real("local_rate", local_rate, at_least=0, finite=True)
