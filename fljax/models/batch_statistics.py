"""Flax modules with running batch statistics as a `Model`."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import linen
from jax import Array

from fljax.base import Model, Params
from fljax.models.modes import MODES, mode_argument


def _leave_out_padding(real: Array) -> Callable[..., Any]:
    """An interceptor that gives every `BatchNorm` the mask of real examples."""
    # A client without any example must not divide by zero; its statistics are not counted.
    real = real | ~jnp.any(real)

    def intercept(call: Any, args: Any, kwargs: Any, context: linen.module.InterceptorContext) -> Any:
        if not isinstance(context.module, linen.BatchNorm) or context.method_name != "__call__":
            return call(*args, **kwargs)
        if kwargs.get("mask") is None:
            x = args[0] if args else kwargs["x"]
            if x.shape[:1] != real.shape:
                raise ValueError(
                    f"BatchNorm: the first axis must be the batch of {real.shape[0]}, so that padded "
                    f"examples can be left out, got shape {x.shape}"
                )
            kwargs = {**kwargs, "mask": real.reshape(-1, *[1] * (x.ndim - 1))}
        return call(*args, **kwargs)

    return intercept


def model_with_statistics(module: linen.Module, example: Array) -> Model:
    """A `Model` from a flax module with the collections `params` and `batch_stats`.

    In training every `BatchNorm` normalises with the statistics of the real examples of its batch, in
    evaluation with the running ones.

    Args:
        module: the module; its `__call__` takes `train`, or another of `fljax.models.modes.MODES`.
        example: (1, *input_shape).

    Returns:
        The `Model`, its state the collection `batch_stats`.

    Raises:
        ValueError: if the module cannot be told to use its running statistics.
    """
    mode = mode_argument(module)
    if mode is None:
        raise ValueError(
            f"model {type(module).__name__}: with batch statistics its __call__ must take an argument "
            f"{', '.join(list(MODES)[:-1])} or {list(MODES)[-1]}"
        )
    name, value = mode
    # Typed loosely: flax's own keywords come before the module's.
    training: dict[str, Any] = {name: value}
    evaluating: dict[str, Any] = {name: not value}

    def apply(params: Params, x: Array, state: Any) -> Array:
        logits: Any = module.apply({"params": params, "batch_stats": state}, x, **evaluating)
        return logits

    def train(params: Params, x: Array, state: Any, real: Array) -> tuple[Array, Any]:
        with linen.intercept_methods(_leave_out_padding(real)):
            logits, changed = module.apply(
                {"params": params, "batch_stats": state}, x, mutable=["batch_stats"], **training
            )
        return logits, changed["batch_stats"]

    def init(key: Array) -> Any:
        return module.init(key, example, **evaluating)

    return Model(lambda key: init(key)["params"], apply, lambda key: init(key)["batch_stats"], train)
