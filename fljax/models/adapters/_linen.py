"""A flax.linen module as a `Model`."""

from collections.abc import Callable
from typing import Any

import jax
from flax import linen
from jax import Array

from fljax.base import Model, Params
from fljax.models.adapters.finish import Passes, finish
from fljax.models.adapters.padding import at_least_one, example_mask
from fljax.models.modes import MODES, mode_argument


def from_linen(module: linen.Module, example: Array) -> Model:
    """A `Model` from a flax.linen module.

    In training every `BatchNorm` normalises with the statistics of the real examples of its batch, in
    evaluation with the running ones. All random streams draw from the step's key.

    Args:
        module: with parameters and perhaps the collection `batch_stats`, which is the model's state. What
            differs in training is told by an argument of its `__call__`, one of `fljax.models.modes.MODES`.
        example: (1, *input_shape).

    Returns:
        The `Model`.

    Raises:
        ValueError: if it has other state, or draws random numbers or has batch statistics and cannot be told
            whether it trains.
    """
    mode = mode_argument(type(module).__call__)
    evaluating: Any = {} if mode is None else {mode[0]: not mode[1]}
    training: Any = {} if mode is None else {mode[0]: mode[1]}

    def start(key: Array) -> Any:
        return module.init(key, example, **evaluating)

    collections = jax.eval_shape(start, jax.random.key(0))
    extra = sorted(set(collections) - {"params", "batch_stats"})
    if extra or "params" not in collections:
        found = ", ".join(extra) or "no parameters"
        raise ValueError(
            f"model {type(module).__name__}: only parameters and batch_stats are supported, it has {found}"
        )
    has_statistics = "batch_stats" in collections
    if has_statistics and mode is None:
        raise ValueError(
            f"model {type(module).__name__}: with batch statistics its __call__ must take an argument "
            f"{', '.join(list(MODES)[:-1])} or {list(MODES)[-1]}"
        )

    def variables(params: Params, state: Any) -> dict[str, Any]:
        return {"params": params, "batch_stats": state} if has_statistics else {"params": params}

    def evaluate(params: Params, x: Array, state: Any) -> Array:
        logits: Any = module.apply(variables(params, state), x, **evaluating)
        return logits

    def train(params: Params, x: Array, state: Any, real: Array, key: Array | None) -> tuple[Array, Any]:
        # Whatever stream a layer asks for, flax draws from "params" where there is no other.
        training["rngs"] = {} if key is None else {"params": key}
        if not has_statistics:
            logits: Any = module.apply(variables(params, state), x, **training)
            return logits, state
        with linen.intercept_methods(_leave_out_padding(real)):
            logits, changed = module.apply(variables(params, state), x, mutable=["batch_stats"], **training)
        return logits, changed["batch_stats"]

    return finish(
        Passes(
            lambda key: start(key)["params"],
            evaluate,
            None if mode is None else train,
            (lambda key: start(key)["batch_stats"]) if has_statistics else None,
        ),
        example,
    )


def _leave_out_padding(real: Array) -> Callable[..., Any]:
    """An interceptor that gives every `BatchNorm` the mask of real examples."""
    real = at_least_one(real)

    def intercept(call: Any, args: Any, kwargs: Any, context: linen.module.InterceptorContext) -> Any:
        if not isinstance(context.module, linen.BatchNorm) or context.method_name != "__call__":
            return call(*args, **kwargs)
        if kwargs.get("mask") is None:
            kwargs = {**kwargs, "mask": example_mask(args[0] if args else kwargs["x"], real)}
        return call(*args, **kwargs)

    return intercept
