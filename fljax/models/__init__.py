"""Models as pure functions of their parameters; any flax module can be one."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen, nnx
from jax import Array

from fljax.models.base import Model, Params
from fljax.models.conv import client_conv
from fljax.models.layers import max_pool_2x2, patch_conv
from fljax.models.networks import CNN, MLP, LogisticRegression
from fljax.models.resnet import ResNet20
from fljax.models.statistics import mode_argument, model_with_statistics


def as_model(module: Any, input_shape: Sequence[int]) -> Model:
    """A `Model` from a flax module.

    Args:
        module: a `flax.linen` module, with running statistics in the collection `batch_stats` or without (see
            `model_with_statistics`), or an initialised `flax.nnx` module (its current parameters are the
            initial model whatever the key), or a `Model`, returned as it is.
        input_shape: shape of one example.

    Returns:
        The `Model`.

    Raises:
        ValueError: if the module has other state, which the round does not carry, or cannot be told
            whether it trains.
        TypeError: if it is none of these.

    Example:
        >>> model = as_model(LogisticRegression(6), (561,))
        >>> sum(leaf.size for leaf in jax.tree.leaves(model.init(jax.random.key(0))))
        3372
    """
    if isinstance(module, Model):
        return module
    if isinstance(module, linen.Module):
        example = jnp.zeros((1, *input_shape))
        mode = mode_argument(module)
        evaluating: Any = {} if mode is None else {mode[0]: not mode[1]}
        collections = jax.eval_shape(lambda key: module.init(key, example, **evaluating), jax.random.key(0))
        extra = sorted(set(collections) - {"params", "batch_stats"})
        if extra or "params" not in collections:
            found = ", ".join(extra) or "no parameters"
            raise ValueError(
                f"model {type(module).__name__}: only parameters and batch_stats are supported, "
                f"it has {found}"
            )
        if "batch_stats" in collections:
            return model_with_statistics(module, example)

        def apply_linen(params: Params, x: Array) -> Array:
            logits: Any = module.apply({"params": params}, x)
            return logits

        return Model(lambda key: module.init(key, example)["params"], apply_linen)
    if isinstance(module, nnx.Module):
        parts: Any = nnx.split(module, nnx.Param, ...)
        graph, params, rest = parts
        if jax.tree.leaves(rest):
            raise ValueError(
                f"model {type(module).__name__}: only parameters are supported, it has other state"
            )
        return Model(
            lambda key: jax.tree.map(jnp.array, params), lambda params, x: nnx.merge(graph, params, rest)(x)
        )
    raise TypeError(f"model must be a flax module or a fljax.models.Model, got {type(module).__name__}")


MODELS: Mapping[str, type[linen.Module]] = {
    "cnn": CNN,
    "logistic_regression": LogisticRegression,
    "mlp": MLP,
    "resnet20": ResNet20,
}

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
]
