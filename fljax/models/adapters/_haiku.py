"""A function transformed by haiku as a `Model`; imported only where one is given."""

import inspect
from collections.abc import Callable
from typing import Any

import haiku as hk
from jax import Array

from fljax.base import Model, Params
from fljax.models.adapters.finish import Passes, finish
from fljax.models.adapters.padding import at_least_one, with_real_statistics
from fljax.models.modes import mode_argument


def from_haiku(transformed: Any, example: Array) -> Model:
    """A `Model` from what `hk.transform` or `hk.transform_with_state` returns.

    In training every `hk.BatchNorm` normalises with the statistics of the real examples of its batch.

    Args:
        transformed: of a function of the batch. What differs in training is told by an argument of the
            function, one of `fljax.models.modes.MODES`; it is initialised as in training.
        example: (1, *input_shape).

    Returns:
        The `Model`; its state is haiku's.
    """
    init, apply = transformed.init, transformed.apply
    has_state = isinstance(transformed, hk.TransformedWithState)
    mode = mode_argument(apply)
    # Not after `hk.without_apply_rng`.
    takes_key = "rng" in inspect.signature(apply).parameters

    def call(trains: bool, params: Params, x: Array, state: Any, key: Array | None) -> tuple[Array, Any]:
        given: Any = {} if mode is None else {mode[0]: mode[1] == trains}
        own = (key,) if takes_key else ()
        if has_state:
            out: tuple[Array, Any] = apply(params, state, *own, x, **given)
            return out
        return apply(params, *own, x, **given), state

    def start(key: Array) -> Any:
        made = init(key, example, **({} if mode is None else {mode[0]: mode[1]}))
        return made if has_state else (made, ())

    def train(params: Params, x: Array, state: Any, real: Array, key: Array | None) -> tuple[Array, Any]:
        with hk.intercept_methods(_leave_out_padding(at_least_one(real))):
            return call(True, params, x, state, key)

    return finish(
        Passes(
            lambda key: start(key)[0],
            lambda params, x, state: call(False, params, x, state, None)[0],
            train if has_state or mode is not None else None,
            (lambda key: start(key)[1]) if has_state else None,
        ),
        example,
    )


def _leave_out_padding(real: Array) -> Callable[..., Any]:
    """An interceptor that hides from every `hk.BatchNorm` the examples that only pad the batch."""

    def intercept(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        norm = context.module
        if not isinstance(norm, hk.BatchNorm) or context.method_name != "__call__":
            return call(*args, **kwargs)
        x, rest = (args[0], args[1:]) if args else (kwargs["inputs"], ())
        kwargs = {name: value for name, value in kwargs.items() if name != "inputs"}
        channel = norm.channel_index % x.ndim
        axes = [i for i in range(x.ndim) if i != channel] if norm.axis is None else norm.axis
        if 0 not in axes:
            return call(x, *rest, **kwargs)
        return call(with_real_statistics(x, real, axes), *rest, **kwargs)[: len(x)]

    return intercept
