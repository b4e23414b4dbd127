"""The arithmetic of a model's forward and backward pass."""

from collections.abc import Callable
from functools import wraps
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import Array

from fljax.base import Model, Params

Precision = Literal["default", "highest", "bfloat16"]


def in_precision(model: Model, precision: Precision) -> Model:
    """A model whose training and evaluation compute so; parameters, gradients and logits keep their types.

    Args:
        model: the model.
        precision: "default", what the device takes for products of float32: on a CPU float32, on recent GPUs
            TF32 with 10 bits after the point, on a TPU bfloat16. "highest": float32. "bfloat16": parameters
            and inputs are rounded to bfloat16, and all between them and the logits is computed in it; running
            statistics keep their type.

    Returns:
        The model.

    Example:
        >>> from flax import linen as nn
        >>> from fljax.models import as_model
        >>> model = in_precision(as_model(nn.Dense(2), (3,)), "bfloat16")
        >>> model.apply(model.init(jax.random.key(0)), jnp.ones((1, 3))).dtype
        dtype('float32')
    """
    if precision == "default":
        return model
    passes = _highest if precision == "highest" else _rounded
    return model._replace(apply=passes(model.apply), train=model.train and passes(model.train))


def _highest(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def call(*args: Any, **named: Any) -> Any:
        with jax.default_matmul_precision("highest"):
            return function(*args, **named)

    return call


def _rounded(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def call(params: Params, x: Array, *args: Any, **named: Any) -> Any:
        made = function(_narrow(params), _narrow(x), *args, **named)
        return jax.tree.map(_wide, made)

    return call


def _narrow(tree: Any) -> Any:
    return jax.tree.map(
        lambda leaf: leaf.astype(jnp.bfloat16) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, tree
    )


def _wide(leaf: Any) -> Any:
    return leaf.astype(jnp.float32) if leaf.dtype == jnp.bfloat16 else leaf
