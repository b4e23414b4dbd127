"""The majority vote over the signs of every coordinate."""

import jax.numpy as jnp
from jax import Array

from fljax.aggregators.registry import register_rule
from fljax.numerics.order_statistics import fold_rows
from fljax.numerics.rows import sum_rows


def _vote(row: Array) -> tuple[Array]:
    # NaN compares false both ways.
    return ((row > 0).astype(jnp.int32) - (row < 0).astype(jnp.int32),)


@register_rule(
    title="Majority vote", assumes="n > 2f per coordinate", source="Bernstein et al. 2019", streams=True
)
def sign_majority(updates: Array) -> Array:
    """SignSGD with majority vote: the sign of the sum of the rows' signs, coordinate by coordinate.

    g = sign(Σ_i sign(g_i)), 0 at a tie; every entry of g is −1, 0 or 1. Each row has one vote per
    coordinate, whatever its size: f malicious rows decide a coordinate only where the honest votes differ
    by f or less. An infinite entry votes its sign, NaN abstains. The length of g says nothing: the server's
    learning rate sets the size of a step.

    Args:
        updates: (n, d).

    Returns:
        (d,), in the type of `updates`.

    Raises:
        ValueError: if `updates` is not (n, d).

    Example:
        >>> rows = jnp.array([[0.1, -2.0, 5.0], [0.2, 3.0, -0.1], [-90.0, jnp.nan, -0.2]])
        >>> sign_majority(rows).tolist()
        [1.0, 0.0, -1.0]

    Source: Bernstein et al., "signSGD with majority vote is communication efficient and fault tolerant",
    ICLR 2019, whose theory covers adversaries that do not know the others' gradients, up to half of the
    workers. There clients send signs only; the votes here are the signs of the rows given.
    """
    (votes,) = sum_rows(lambda rows: fold_rows(_vote, rows), updates)
    return jnp.sign(votes)
