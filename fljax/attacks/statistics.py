"""What an attacker computes from the rows it sees: sums, means and spreads over a subset of them."""

from functools import reduce
from typing import Literal

import jax.numpy as jnp
from jax import Array
from jax.lax import Precision

Knowledge = Literal["full", "partial"]


def row_sum(weights: Array, updates: Array) -> Array:
    """Σ_i weights_i g_i, (d,) or (k, d), written as a product, which a CPU does at memory speed."""
    return jnp.matmul(weights.astype(updates.dtype), updates, precision=Precision.HIGHEST)


def only(rows: Array, updates: Array) -> Array:
    """The stack with every row outside the mask `rows` (n,) set to zero, whatever it holds."""
    return jnp.where(rows[:, None], updates, 0.0)


def honest_rows(malicious: Array) -> Array:
    """The rows statistics are taken over: the honest ones, or all if there is none."""
    return ~malicious | jnp.all(malicious)


def known_rows(attack: str, malicious: Array, knowledge: Knowledge) -> Array:
    """What the attackers see: "full" the honest rows, "partial" their own; all rows if that is none."""
    if knowledge not in ("full", "partial"):
        raise ValueError(f'{attack}: knowledge={knowledge!r} must be "full" or "partial"')
    return honest_rows(malicious if knowledge == "full" else ~malicious)


def mean_of(rows: Array, updates: Array) -> Array:
    """Mean of the rows in the mask, (d,); the others may hold anything."""
    return row_sum(rows, only(rows, updates)) / jnp.maximum(jnp.sum(rows), 1)


def deviation_of(rows: Array, updates: Array, mean: Array, ddof: int = 0) -> Array:
    """Standard deviation per coordinate of the rows in the mask, (d,), over their number less `ddof`."""
    # Two passes: a difference of squares would cancel.
    squares = only(rows, jnp.square(updates - mean))
    return jnp.sqrt(row_sum(jnp.ones(rows.shape), squares) / jnp.maximum(jnp.sum(rows) - ddof, 1))


def extreme_of(rows: Array, updates: Array, largest: bool) -> Array:
    """Largest or smallest value per coordinate over the mask, written so that XLA fuses it into one pass."""
    worst = -jnp.inf if largest else jnp.inf
    values = [jnp.where(rows[i], updates[i], worst) for i in range(updates.shape[0])]
    return reduce(jnp.maximum if largest else jnp.minimum, values)
