"""The objective that clients minimise: the mean of a loss over a batch."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import Array

from fljax.base import Model, Params

Loss = Callable[..., tuple[Array, Any]]
# `losses(outputs, labels)` of a batch: one value per example, or several whose mean counts.
Losses = Callable[[Array, Array], Array]


def in_form(outputs: Array, labels: Array) -> tuple[Array, Array]:
    """Outputs and labels as losses and metrics take them: numbers to predict have the shape (b, k)."""
    if jnp.issubdtype(labels.dtype, jnp.floating):
        return outputs.reshape(len(outputs), -1), labels.reshape(len(labels), -1)
    return outputs, labels


def per_example(losses: Losses) -> Losses:
    """A loss with exactly one value per example, (b,)."""

    def of_batch(outputs: Array, labels: Array) -> Array:
        values = losses(*in_form(outputs, labels))
        return values if values.ndim == 1 else jnp.mean(values.reshape(len(values), -1), axis=1)

    return of_batch


def objective(
    losses: Losses,
    apply: Callable[[Params, Array], Array],
    train: Callable[..., tuple[Array, Any]] | None = None,
) -> Loss:
    """Weighted mean loss of a batch; `divisor` replaces the number of real examples.

    Args:
        losses: `losses(outputs, labels)`, as `register_loss` takes it.
        apply: `apply(params, x) -> outputs`, for a model without state.
        train: as in `Model`, for a model that does something else in training.

    Returns:
        `loss(params, state, x, y, weights, divisor=None, key=None) -> (loss, state)`; `key` is for a `train`
        that draws random numbers.
    """
    draws = Model(lambda key: None, apply, train=train).random
    of_batch = per_example(losses)

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
            outputs = apply(params, x)
        else:
            outputs, state = train(params, x, state, weights > 0, **({"key": key} if draws else {}))
        total = jnp.sum(weights * of_batch(outputs, y))
        return total / (jnp.maximum(jnp.sum(weights), 1.0) if divisor is None else divisor), state

    return loss
