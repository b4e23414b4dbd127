"""A direction that stays the same over the rounds of a run."""

import jax
from jax import Array

from fljax.numerics.checks import ArgumentError


def signs_of_run(run_key: Array | None, size: int, dtype: jax.typing.DTypeLike) -> Array:
    """A sign for every coordinate, (d,) of ±1, drawn from the run's key: the same in every round.

    Raises:
        ArgumentError: if there is no key.
    """
    if run_key is None:
        raise ArgumentError("a direction that persists needs run_key, which this round does not provide")
    return jax.random.rademacher(run_key, (size,), dtype)
