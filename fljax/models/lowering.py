"""Convolutions and pooling of any model in the form that is fast for many clients on a CPU."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, jaxpr_as_fun

from fljax.base import Model
from fljax.models.conv import client_conv

# Primitives whose inner programs are rewritten as well. Functions with their own gradients stay as they are.
_OUTER = {"jit", "pjit", "closed_call", "remat", "remat2", "checkpoint", "scan", "cond"}


def for_clients(model: Model) -> Model:
    """The same model with its convolutions and pooling in the form that is fast for many clients on a CPU.

    The forward passes are traced, and in the trace

    * a convolution of images becomes a `client_conv`, whatever library and layout it comes from, unless it is
      dilated or has groups: with weights of their own clients would make a grouped convolution of it;
    * maximum and sum over windows become maxima and sums of strided slices, one axis after the other: the
      gradient of `reduce_window` is slow. Where values of a window tie, the maximum's gradient is shared.

    The simulator does this to every model on a CPU. Reverse-mode gradients only, as for `client_conv`.

    Args:
        model: any `Model`.

    Returns:
        The `Model`, with the same parameters and outputs up to rounding.

    Example:
        >>> from flax import linen as nn
        >>> from fljax.models import as_model
        >>> model = for_clients(as_model(nn.Conv(3, (3, 3), padding="VALID"), (8, 8, 1)))
        >>> params = model.init(jax.random.key(0))
        >>> model.apply(params, jnp.ones((2, 8, 8, 1))).shape
        (2, 6, 6, 3)
    """
    train = None if model.train is None else _rewritten(model.train)
    return model._replace(apply=_rewritten(model.apply), train=train)


def _rewritten(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        closed, shapes = jax.make_jaxpr(function, return_shape=True)(*args, **kwargs)
        outputs = _run(closed.jaxpr, closed.consts, jax.tree.leaves((args, kwargs)))
        return jax.tree.unflatten(jax.tree.structure(shapes), outputs)

    return call


def _run(jaxpr: Any, consts: Sequence[Any], args: Sequence[Any]) -> list[Any]:
    """The results of a traced function, equation by equation."""
    known = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *args), strict=True))

    def read(operand: Any) -> Any:
        return operand.val if isinstance(operand, Literal) else known[operand]

    for equation in jaxpr.eqns:
        name, operands = equation.primitive.name, [read(operand) for operand in equation.invars]
        if name == "conv_general_dilated" and _is_plain(equation):
            outputs = [_convolution(equation.params, *operands)]
        elif name in _WINDOWS and _is_window(equation):
            outputs = [_over_windows(name, equation.params, *operands)]
        else:
            if name in _OUTER:
                inner = {key: _inner(value) for key, value in equation.params.items()}
                equation = equation.replace(params=inner)
            needed = list(dict.fromkeys(v for v in equation.invars if not isinstance(v, Literal)))
            alone = jaxpr.replace(
                constvars=[],
                invars=needed,
                outvars=equation.outvars,
                eqns=[equation],
                effects=equation.effects,
            )
            outputs = jaxpr_as_fun(ClosedJaxpr(alone, ()))(*map(read, needed))
        known.update(zip(equation.outvars, outputs, strict=True))
    return [read(output) for output in jaxpr.outvars]


def _inner(param: Any) -> Any:
    """A parameter of an equation, with inner programs rewritten."""
    if isinstance(param, tuple):
        return tuple(_inner(each) for each in param)
    if isinstance(param, ClosedJaxpr):
        shapes = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in param.jaxpr.invars]
        return jax.make_jaxpr(lambda *args: _run(param.jaxpr, param.consts, args))(*shapes)
    if isinstance(param, Jaxpr):
        return _inner(ClosedJaxpr(param, ())).jaxpr
    return param


def _is_plain(equation: Any) -> bool:
    """True for what `client_conv` does: real images, no dilation, no groups."""
    params, (lhs, rhs) = equation.params, (operand.aval for operand in equation.invars)
    return (
        lhs.ndim == 4
        and lhs.dtype == rhs.dtype == equation.outvars[0].aval.dtype
        and jnp.issubdtype(lhs.dtype, jnp.floating)
        and {*params["lhs_dilation"], *params["rhs_dilation"]} == {1}
        and params["feature_group_count"] == params["batch_group_count"] == 1
        and all(low >= 0 and high >= 0 for low, high in params["padding"])
    )


def _convolution(params: dict[str, Any], lhs: Array, rhs: Array) -> Array:
    numbers = params["dimension_numbers"]
    batch, channels, *space = numbers.lhs_spec
    features, inputs, *window = numbers.rhs_spec
    out = client_conv(
        lhs.transpose(batch, *space, channels),
        rhs.transpose(*window, inputs, features),
        params["window_strides"],
        params["padding"],
        precision=params["precision"],
    )
    # Where batch, features, height and width of the result are in `out`.
    places = dict(zip(numbers.out_spec, (0, 3, 1, 2), strict=True))
    return out.transpose([places[axis] for axis in range(4)])


# The operation that reduces a window, and the value that changes nothing.
_WINDOWS: dict[str, tuple[Callable[[Array, Array], Array], float]] = {
    "reduce_window_max": (jnp.maximum, -jnp.inf),
    "reduce_window_sum": (jnp.add, 0.0),
}


def _is_window(equation: Any) -> bool:
    params = equation.params
    return jnp.issubdtype(equation.invars[0].aval.dtype, jnp.floating) and {
        *params["base_dilation"],
        *params["window_dilation"],
    } == {1}


def _over_windows(name: str, params: dict[str, Any], x: Array) -> Array:
    combine, neutral = _WINDOWS[name]
    if any(low or high for low, high in params["padding"]):
        widths = [(low, high, 0) for low, high in params["padding"]]
        x = lax.pad(x, jnp.asarray(neutral, x.dtype), widths)
    for axis, (size, stride) in enumerate(
        zip(params["window_dimensions"], params["window_strides"], strict=True)
    ):
        if size == stride == 1:
            continue
        last = (x.shape[axis] - size) // stride * stride
        parts = [lax.slice_in_dim(x, i, i + last + 1, stride, axis) for i in range(size)]
        x = functools.reduce(combine, parts)
    return x
