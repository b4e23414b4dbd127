"""Robust learning rate: coordinates without a clear vote of signs go the other way."""

import jax.numpy as jnp
from jax import Array

from fljax.aggregators.registry import register_rule
from fljax.numerics.averages import weighted_rows
from fljax.numerics.checks import Float, real
from fljax.numerics.order_statistics import fold_rows
from fljax.numerics.rows import sum_rows
from fljax.numerics.safe import finite_rows
from fljax.numerics.weights import relative_weights


def votes_of(rows: Array, counts: Array) -> Array:
    """Σ_i sign g_i over the rows that count, (d,)."""

    def vote(row: Array, counts: Array) -> tuple[Array]:
        return (((row > 0) & counts).astype(jnp.int32) - ((row < 0) & counts).astype(jnp.int32),)

    return fold_rows(vote, [rows, counts[:, None]])[0]


def flipped(update: Array, votes: Array, threshold: Float) -> Array:
    """The update with the sign changed where the votes do not reach the threshold."""
    return jnp.where(jnp.abs(votes) >= threshold, update, -update)


@register_rule(
    "robust_learning_rate",
    title="RLR",
    assumes="bounds nothing; aims at backdoors of f < θ",
    source="Ozdayi et al. 2021",
    streams=True,
)
def robust_learning_rate(updates: Array, weights: Array | None = None, *, threshold: Float) -> Array:
    """The weighted mean, with its sign flipped in coordinates where too few signs agree (RLR).

    g_j = η_j Σ_i w_i g_ij / Σ_i w_i with η_j = 1 where |Σ_i sign g_ij| ≥ θ, else −1. A backdoor that a few
    clients push into coordinates on which the others do not agree is unlearnt there, at the price of slower
    learning. It bounds no row: one huge row still moves the mean anywhere, so put `clip` in front of it. A
    zero entry has no vote; a row with a non-finite entry has neither votes nor weight.

    Args:
        updates: (n, d).
        weights: (n,) finite and not negative, of any size, normalised inside; None for equal weights. They
            count in the mean, not in the vote.
        threshold: θ, a number of votes; may be traced. With θ ≤ 0 nothing is flipped, with θ > n everything.

    Returns:
        (d,), in the type of `updates`; 0 if no finite row has a weight.

    Raises:
        ValueError: if `updates` is not (n, d), `weights` is not (n,), negative or not finite, or a static
            `threshold` is not finite.

    Example:
        >>> rows = jnp.array([[1.0, 3.0], [1.0, -1.0], [4.0, 1.0]])
        >>> robust_learning_rate(rows, threshold=3).tolist()
        [2.0, -1.0]

    Source: Ozdayi, Kantarcioglu, Gel, "Defending against backdoors in federated learning with robust learning
    rate", AAAI 2021. θ grows with the number of attackers: the authors' example has 4 of n = 10, BackFed and
    AlignIns 8, Snowball 10 of 50. The authors' code also flips a median or a sign vote: `flip_disputed` does
    that behind any rule.
    """
    threshold = real("threshold", threshold, finite=True)
    share = relative_weights(weights, updates.shape[0], updates.dtype)
    n = updates.shape[0]

    def part(rows: Array, own: Array) -> tuple[Array, Array, Array]:
        finite = finite_rows(rows)
        # The share first: a sum could overflow.
        used = jnp.where(finite, own, 0.0) / n
        return votes_of(rows, finite), weighted_rows(used, rows, finite), jnp.sum(used)

    votes, total, weight = sum_rows(part, updates, share)
    update = jnp.where(weight > 0, total / jnp.where(weight > 0, weight, 1.0), 0.0)
    return flipped(update, votes, threshold)
