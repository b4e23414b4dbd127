"""Training mode of a flax module: the argument that sets it, and effects of it that no round supports."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
from flax import errors, linen, nnx
from jax import Array

# Arguments by which modules are told that they train, and what says so.
MODES = {
    "train": True,
    "training": True,
    "is_train": True,
    "is_training": True,
    "use_running_average": False,
    "deterministic": False,
    "inference": False,
    "eval": False,
    "evaluate": False,
    "is_eval": False,
}
_RANDOM = "layers that draw random numbers, such as dropout, are not supported"


def mode_argument(module: linen.Module | nnx.Module) -> tuple[str, bool] | None:
    """The argument that tells a module to train, and the value that says so; None if it has none."""
    names = inspect.signature(type(module).__call__).parameters
    return next(((name, value) for name, value in MODES.items() if name in names), None)


def trace(function: Callable[..., Any], *args: Any) -> Any:
    """The shapes that a linen module's function returns.

    Raises:
        ValueError: if a layer draws random numbers, or is a dropout layer that is off. One of rate 0 is none.
    """
    try:
        with linen.intercept_methods(_refuse_dropout):
            return jax.eval_shape(function, *args)
    except errors.InvalidRngError:
        raise ValueError(_RANDOM) from None


def _refuse_dropout(call: Any, args: Any, kwargs: Any, context: linen.module.InterceptorContext) -> Any:
    module = context.module
    rate: Any = 0.0
    if isinstance(module, linen.Dropout):
        rate = module.rate
    elif isinstance(module, linen.MultiHeadDotProductAttention):
        rate = module.dropout_rate
    _check_rate(module.name or type(module).__name__, rate)
    return call(*args, **kwargs)


def check_nnx_dropout(module: nnx.Module) -> None:
    """Raise a ValueError if the module holds a dropout layer, on or off; one of rate 0 is none."""
    for path, node in nnx.iter_graph(module):
        if isinstance(node, (nnx.Dropout, nnx.MultiHeadAttention)):
            rate = node.rate if isinstance(node, nnx.Dropout) else node.dropout_rate
            _check_rate(".".join(map(str, path)) or type(node).__name__, rate)


def _check_rate(name: str, rate: Any) -> None:
    if rate != 0:
        raise ValueError(f"{_RANDOM}: layer {name} has dropout rate {rate}")


def check_mode(name: str, apply: Callable[..., Array], params: Any, x: Array) -> None:
    """Raise a ValueError if a module without state computes something else in training.

    Args:
        name: of its mode argument.
        apply: `apply(params, x, **{name: value})`.
        params: the parameters, or their shapes.
        x: inputs, or their shape.
    """
    programs = []
    for value in (True, False):

        def forward(params: Any, x: Array, value: bool = value) -> Array:
            return apply(params, x, **{name: value})

        trace(forward, params, x)
        programs.append(jax.jit(forward).lower(params, x).as_text())
    if programs[0] != programs[1]:
        raise ValueError(
            f"its argument {name} changes what it computes, which is supported with batch_stats only: "
            "without them, dropout for example, it would train as it is evaluated"
        )
