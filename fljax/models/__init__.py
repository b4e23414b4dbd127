"""Models as pure functions of their parameters; any flax module can be one."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen, nnx
from jax import Array

from fljax.models.layers import max_pool_2x2, patch_conv
from fljax.models.networks import CNN, MLP, LogisticRegression

Params = Any


class Model(NamedTuple):
    """A model as the simulator sees it.

    Attributes:
        init: `init(key) -> params`.
        apply: `apply(params, x) -> logits`, x (b, *input_shape) to (b, M).
    """

    init: Callable[[Array], Params]
    apply: Callable[[Params, Array], Array]


def as_model(module: Any, input_shape: Sequence[int]) -> Model:
    """A `Model` from a flax module.

    Args:
        module: a `flax.linen` module, or an initialised `flax.nnx` module (its current parameters are the
            initial model whatever the key), or a `Model`, returned as it is.
        input_shape: shape of one example.

    Returns:
        The `Model`.

    Raises:
        ValueError: if the module has state besides its parameters (batch statistics, dropout), which the
            round does not carry.
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
        collections = jax.eval_shape(module.init, jax.random.key(0), example)
        extra = sorted(set(collections) - {"params"})
        if extra or "params" not in collections:
            found = ", ".join(extra) or "no parameters"
            raise ValueError(f"model {type(module).__name__}: only parameters are supported, it has {found}")

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
}

__all__ = [
    "CNN",
    "MLP",
    "MODELS",
    "LogisticRegression",
    "Model",
    "as_model",
    "max_pool_2x2",
    "patch_conv",
]
