"""The supervised contrastive loss."""

import jax
import jax.numpy as jnp
from jax import Array

from fljax.numerics.safe import dot


def contrastive_loss(
    features: Array, labels: Array, real: Array, factors: Array, temperature: float | Array
) -> Array:
    """The supervised contrastive loss of a batch, scalar.

    Args:
        features: (b, h), of any length.
        labels: (b,).
        real: (b,) boolean, False for what only fills the batch.
        factors: (b,), what a row counts in the sum; the mean is over the number of real rows.
        temperature: κ.
    """
    squares = jnp.sum(jnp.square(features), axis=1, keepdims=True)
    lengths = jnp.sqrt(jnp.where(squares > 0, squares, 1.0))
    unit = jnp.where(squares > 0, features / lengths, 0.0)
    others = real[:, None] & real[None] & ~jnp.eye(len(labels), dtype=bool)
    scores = jnp.where(others, dot(unit, unit.T) / temperature, -jnp.inf)
    alone = ~jnp.any(others, axis=1)
    # Nobody else: the log of an empty sum has no gradient.
    totals = jax.nn.logsumexp(jnp.where(alone[:, None], 0.0, scores), axis=1)
    alike = others & (labels[:, None] == labels[None])
    logs = jnp.where(alike, jnp.where(alike, scores, 0.0) - totals[:, None], 0.0)
    rows = -factors * jnp.sum(logs, axis=1) / jnp.maximum(jnp.sum(alike, axis=1), 1)
    return jnp.sum(jnp.where(real, rows, 0.0)) / jnp.maximum(jnp.sum(real), 1)
