"""Models as pure functions of their parameters; any flax module can be one."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from flax import linen, nnx

from fljax.base import Model
from fljax.models.adapters._linen import from_linen
from fljax.models.adapters._nnx import from_nnx
from fljax.models.conv import client_conv
from fljax.models.layers import max_pool_2x2, patch_conv
from fljax.models.networks import CNN, MLP, LogisticRegression
from fljax.models.registry import MODELS, register_model
from fljax.models.resnet import ResNet20


def as_model(module: Any, input_shape: Sequence[int], dtype: Any = jnp.float32) -> Model:
    """A `Model` from a flax module.

    Args:
        module: a `flax.linen` module; or an initialised `flax.nnx` module, whose current parameters are the
            initial model whatever the key; or a `Model`, returned as it is. Layers that train otherwise than
            they are evaluated, such as dropout and batch normalisation, are told by an argument of the
            module's `__call__`: `train`, `deterministic` or another of `fljax.models.modes.MODES`.
        input_shape: shape of one example.
        dtype: of the examples: float32, or int32 for tokens.

    Returns:
        The `Model`.

    Raises:
        ValueError: if the module has state other than batch statistics, which the round does not carry, or
            draws random numbers in evaluation.
        TypeError: if it is none of these.

    Example:
        >>> import jax
        >>> model = as_model(LogisticRegression(6), (561,))
        >>> sum(leaf.size for leaf in jax.tree.leaves(model.init(jax.random.key(0))))
        3372
    """
    if isinstance(module, Model):
        return module
    example = jnp.zeros((1, *input_shape), dtype)
    if isinstance(module, linen.Module):
        return from_linen(module, example)
    if isinstance(module, nnx.Module):
        return from_nnx(module, example)
    raise TypeError(f"model must be a flax module or a fljax.models.Model, got {type(module).__name__}")


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
