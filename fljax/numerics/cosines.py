"""Cosines of all pairs of rows."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from fljax.numerics.safe import contained, for_all, gram, ordinary, scale_rows

# The cosine of two parallel rows is off by up to 4 machine epsilons (0 for copies).
ROUNDING = 16.0


class Cosines(NamedTuple):
    """Pairwise cosines of rows.

    Attributes:
        cosines: (n, n) in [−1, 1], 0 where one of the two rows is zero or non-finite.
        finite: (n,) bool, which rows are finite.
    """

    cosines: Array
    finite: Array


def _divided(products: Array) -> Array:
    squares = jnp.diagonal(products)
    inverse = jnp.where(squares > 0, jax.lax.rsqrt(jnp.where(squares > 0, squares, 1.0)), 0.0)
    return jnp.clip(products * inverse[:, None] * inverse[None, :], -1.0, 1.0)


def _plain_cosines(rows: Array, products: Array) -> Cosines:
    return Cosines(_divided(products), jnp.ones(rows.shape[:1], bool))


def _careful_cosines(rows: Array, products: Array) -> Cosines:
    finite = jnp.all(jnp.isfinite(rows), axis=1)
    scaled = scale_rows(rows).rows
    return Cosines(_divided(gram(scaled)), finite)


def pairwise_cosines(rows: Array) -> Cosines:
    """Cosines between all rows, of any size, from one Gram matrix.

    Args:
        rows: (n, d) float32 or float64.

    Returns:
        `Cosines`.
    """
    rows = contained(rows)
    products = gram(rows)
    fine = for_all(ordinary(jnp.diagonal(products)))
    return jax.lax.cond(fine, _plain_cosines, _careful_cosines, rows, products)
