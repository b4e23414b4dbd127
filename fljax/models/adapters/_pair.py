"""A pair of plain functions as a `Model`."""

import inspect
from collections.abc import Callable
from typing import Any

from jax import Array

from fljax.base import Model, Params
from fljax.models.adapters.finish import Passes, finish
from fljax.models.modes import mode_argument


def from_pair(init: Callable[..., Params], apply: Callable[..., Array], example: Array) -> Model:
    """A `Model` from two pure functions.

    Args:
        init: `init(key) -> params`.
        apply: `apply(params, x) -> logits`. An argument that is one of `fljax.models.modes.MODES` tells it
            whether it trains, an argument `key` is a typed PRNG key in training and None in evaluation.
        example: (1, *input_shape).

    Returns:
        The `Model`.
    """
    mode = mode_argument(apply)
    takes_key = "key" in inspect.signature(apply).parameters

    def call(trains: bool, params: Params, x: Array, key: Array | None) -> Array:
        given: dict[str, Any] = {} if mode is None else {mode[0]: mode[1] == trains}
        return apply(params, x, **given, **({"key": key} if takes_key else {}))

    def train(params: Params, x: Array, state: Any, real: Array, key: Array | None) -> tuple[Array, Any]:
        return call(True, params, x, key), state

    return finish(
        Passes(
            init,
            lambda params, x, state: call(False, params, x, None),
            train if takes_key or mode is not None else None,
        ),
        example,
    )
