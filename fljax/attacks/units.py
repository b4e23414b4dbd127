"""What the absolute constants of published attacks are in the updates of a round."""

from typing import Any, Literal, get_args

import jax.numpy as jnp
from jax import Array

from fljax.attacks.base import check_options

Unit = Literal["mean", "sum"]


def gradient_in_updates(
    attack: str, unit: Unit, local_rate: Array | None, batch_size: Array | None, dtype: Any
) -> Array:
    """The factor from gradients to updates: β for the mean loss of a batch, β/b for the summed one.

    A step of SGD at rate β on the mean loss of b examples is w − β · (mean gradient) = w − β/b · (summed
    gradient). What is not known counts as 1.
    """
    check_options(attack, unit=(unit, get_args(Unit)))
    rate = jnp.asarray(1.0 if local_rate is None else local_rate, dtype)
    return rate if unit == "mean" or batch_size is None else rate / jnp.asarray(batch_size, dtype)
