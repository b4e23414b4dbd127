"""Models as pure functions of their parameters; a module of any JAX library can be one."""

import sys
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import linen, nnx

from fljax.base import Model
from fljax.models.adapters._linen import from_linen
from fljax.models.adapters._nnx import from_nnx
from fljax.models.adapters._pair import from_pair
from fljax.models.conv import client_conv, patch_conv
from fljax.models.image_networks import DropoutCNN, FedAvgCNN, LeNet
from fljax.models.layers import max_pool_2x2
from fljax.models.lowering import for_clients
from fljax.models.networks import CNN, MLP, LinearRegression, LogisticRegression
from fljax.models.registry import MODELS, register_model
from fljax.models.resnet import ResNet20
from fljax.models.sequences import LSTM, MeanEmbedding, Transformer


def as_model(module: Any, input_shape: Sequence[int], dtype: Any = jnp.float32) -> Model:
    """A `Model` from a module of flax, equinox or haiku, or from two plain functions.

    Layers that train otherwise than they are evaluated, such as dropout and batch normalisation, are told as
    their library has it: `flax.linen` and haiku by an argument of the call, which is `train`,
    `deterministic` or another of `fljax.models.modes.MODES`; `flax.nnx` by `train()` and `eval()`; equinox by
    `inference_mode`. Examples that only pad a batch enter no statistics of their `BatchNorm`.

    Args:
        module: a `flax.linen` module; a `flax.nnx` module, called with a batch, or an equinox module, called
            with one example, whose current parameters are the initial model whatever the key; an equinox
            module with state and its state, as `eqx.nn.make_with_state` returns them; what `hk.transform` or
            `hk.transform_with_state` returns; a pair `(init, apply)` with `init(key) -> params` and
            `apply(params, x) -> logits`, where `apply` may take `key` in training; or a `Model`, returned as
            it is.
        input_shape: shape of one example.
        dtype: of the examples: float32, or int32 for tokens.

    Returns:
        The `Model`.

    Raises:
        ValueError: if a flax module has state other than batch statistics, which the round does not carry,
            or the module draws random numbers in evaluation.
        TypeError: if it is none of these.

    Example:
        >>> import jax
        >>> model = as_model(LogisticRegression(6), (561,))
        >>> sum(leaf.size for leaf in jax.tree.leaves(model.init(jax.random.key(0))))
        3372
    """
    if isinstance(module, Model):
        return module
    example = jnp.asarray(np.zeros((1, *input_shape), dtype))  # moved, where jnp.zeros would be compiled
    if isinstance(module, linen.Module):
        return from_linen(module, example)
    if isinstance(module, nnx.Module):
        return from_nnx(module, example)
    parts = module if isinstance(module, tuple) and len(module) == 2 else (module, None)
    if "equinox" in sys.modules:
        import equinox as eqx

        if isinstance(parts[0], eqx.Module) and isinstance(parts[1], eqx.nn.State | None):
            from fljax.models.adapters._equinox import from_equinox

            return from_equinox(parts[0], parts[1], example)
    if "haiku" in sys.modules:
        import haiku as hk

        if isinstance(module, hk.Transformed | hk.TransformedWithState):
            from fljax.models.adapters._haiku import from_haiku

            return from_haiku(module, example)
    init, apply = parts
    if callable(init) and callable(apply):
        return from_pair(init, apply, example)
    raise TypeError(
        "model must be a module of flax.linen, flax.nnx or equinox (with state: the pair of both), a "
        "function transformed by haiku, a pair of functions (init, apply) or a fljax.models.Model, got "
        f"{type(module).__name__}"
    )


__all__ = [
    "CNN",
    "LSTM",
    "MLP",
    "MODELS",
    "DropoutCNN",
    "FedAvgCNN",
    "LeNet",
    "LinearRegression",
    "LogisticRegression",
    "MeanEmbedding",
    "Model",
    "ResNet20",
    "Transformer",
    "as_model",
    "client_conv",
    "for_clients",
    "max_pool_2x2",
    "patch_conv",
    "register_model",
]
