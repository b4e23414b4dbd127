"""Models as pure functions of their parameters; any flax module can be one."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen, nnx
from jax import Array

from fljax.base import Model, Params
from fljax.models.batch_statistics import model_with_statistics
from fljax.models.conv import client_conv
from fljax.models.layers import max_pool_2x2, patch_conv
from fljax.models.modes import check_mode, check_nnx_dropout, mode_argument, trace
from fljax.models.networks import CNN, MLP, LogisticRegression
from fljax.models.registry import MODELS, register_model
from fljax.models.resnet import ResNet20


def as_model(module: Any, input_shape: Sequence[int], dtype: Any = jnp.float32) -> Model:
    """A `Model` from a flax module.

    Args:
        module: a `flax.linen` module, with running statistics in the collection `batch_stats` or without (see
            `model_with_statistics`), or an initialised `flax.nnx` module (its current parameters are the
            initial model whatever the key), or a `Model`, returned as it is.
        input_shape: shape of one example.
        dtype: of the examples: float32, or int32 for tokens.

    Returns:
        The `Model`.

    Raises:
        ValueError: if the module has other state, which the round does not carry, or cannot be told
            whether it trains, or does in training what no round can do: draws random numbers (dropout, also
            where it is off), or without running statistics computes something else than in evaluation.
        TypeError: if it is none of these.

    Example:
        >>> model = as_model(LogisticRegression(6), (561,))
        >>> sum(leaf.size for leaf in jax.tree.leaves(model.init(jax.random.key(0))))
        3372
    """
    if isinstance(module, Model):
        return module
    example = jnp.zeros((1, *input_shape), dtype)
    if isinstance(module, linen.Module):
        return _from_linen(module, example)
    if isinstance(module, nnx.Module):
        return _from_nnx(module, example)
    raise TypeError(f"model must be a flax module or a fljax.models.Model, got {type(module).__name__}")


def _from_linen(module: linen.Module, example: Array) -> Model:
    mode = mode_argument(module)
    evaluating: Any = {} if mode is None else {mode[0]: not mode[1]}
    collections = trace(lambda key: module.init(key, example, **evaluating), jax.random.key(0))
    extra = sorted(set(collections) - {"params", "batch_stats"})
    if extra or "params" not in collections:
        found = ", ".join(extra) or "no parameters"
        raise ValueError(
            f"model {type(module).__name__}: only parameters and batch_stats are supported, it has {found}"
        )
    params = collections["params"]
    if "batch_stats" in collections:
        model = model_with_statistics(module, example)
        train: Any = model.train
        trace(train, params, example, collections["batch_stats"], jnp.ones(1, bool))
        return model

    def apply(params: Params, x: Array, **mode: bool) -> Array:
        logits: Any = module.apply({"params": params}, x, **{**evaluating, **mode})
        return logits

    if mode is not None:
        check_mode(mode[0], apply, params, example)
    return Model(lambda key: module.init(key, example, **evaluating)["params"], apply)


def _from_nnx(module: nnx.Module, example: Array) -> Model:
    check_nnx_dropout(module)
    mode = mode_argument(module)
    evaluating = {} if mode is None else {mode[0]: not mode[1]}
    parts: Any = nnx.split(module, nnx.Param, ...)
    graph, params, rest = parts
    if jax.tree.leaves(rest):
        raise ValueError(f"model {type(module).__name__}: only parameters are supported, it has other state")

    def apply(params: Params, x: Array, **mode: bool) -> Array:
        logits: Any = nnx.merge(graph, params, rest)(x, **{**evaluating, **mode})
        return logits

    if mode is not None:
        check_mode(mode[0], apply, params, example)
    return Model(lambda key: jax.tree.map(jnp.array, params), apply)


__all__ = [
    "CNN",
    "MLP",
    "MODELS",
    "LogisticRegression",
    "Model",
    "ResNet20",
    "as_model",
    "client_conv",
    "max_pool_2x2",
    "patch_conv",
    "register_model",
]
