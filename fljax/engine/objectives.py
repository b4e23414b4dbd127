"""The loss that clients minimise."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import optax
from jax import Array

from fljax.base import Model, Params

Loss = Callable[..., tuple[Array, Any]]


def cross_entropy(
    apply: Callable[[Params, Array], Array], train: Callable[..., tuple[Array, Any]] | None = None
) -> Loss:
    """Weighted mean softmax cross-entropy of a batch; `divisor` replaces the number of real examples.

    Args:
        apply: `apply(params, x) -> logits`, for a model without state.
        train: as in `Model`, for a model that does something else in training.

    Returns:
        `loss(params, state, x, y, weights, divisor=None, key=None) -> (loss, state)`; `key` is for a `train`
        that draws random numbers.
    """
    draws = Model(lambda key: None, apply, train=train).random

    def loss(
        params: Params,
        state: Any,
        x: Array,
        y: Array,
        weights: Array,
        divisor: float | None = None,
        key: Array | None = None,
    ) -> tuple[Array, Any]:
        if train is None:
            logits = apply(params, x)
        else:
            logits, state = train(params, x, state, weights > 0, **({"key": key} if draws else {}))
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, y)
        total = jnp.sum(weights * losses)
        return total / (jnp.maximum(jnp.sum(weights), 1.0) if divisor is None else divisor), state

    return loss
