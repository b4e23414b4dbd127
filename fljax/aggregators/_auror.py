"""Auror: the larger cluster of rows in the coordinates whose values fall into two clusters far apart."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from fljax.aggregators.registry import register_rule
from fljax.base import Aggregator, Context, Info, State
from fljax.numerics.averages import mean_of_rows
from fljax.numerics.checks import Float, as_stack, compute_dtype, named, output_dtype, real, shaped, whole
from fljax.numerics.k_means import cluster_gaps, k_means
from fljax.numerics.neighbors import squared_distances
from fljax.numerics.safe import finite_rows
from fljax.numerics.sharding import by_columns


class _Looked(NamedTuple):
    """What is kept of earlier rounds.

    Attributes:
        indicative: (d,) bool, the coordinates that count.
        round: int32 scalar, how many rounds there were.
    """

    indicative: Array
    round: Array


def _found(updates: Array, threshold: Float) -> Array:
    fixed = jax.lax.stop_gradient(updates)
    return cluster_gaps(fixed, finite_rows(fixed)) >= threshold


def _of_larger_cluster(updates: Array, indicative: Array) -> tuple[Array, Info]:
    fixed = jax.lax.stop_gradient(updates)
    valid = finite_rows(fixed)
    labels = k_means(squared_distances(jnp.where(indicative, fixed, 0.0)), valid, 2)
    mine = labels == labels[jnp.argmax(valid)]
    larger = jnp.where(2 * jnp.sum(mine & valid) >= jnp.sum(valid), mine, ~mine)
    update, selected = mean_of_rows(larger & valid, updates)
    return jnp.where(jnp.any(valid), update, 0.0), {"selected": selected}


def auror_aggregator(*, threshold: Float, num_rounds: int = 10) -> Aggregator:
    """`auror` for the round: its state are the indicative coordinates.

    They are looked for anew in each of the first `num_rounds` rounds; those of the last of these count in
    all rounds after it.

    Args:
        threshold: as for `auror`.
        num_rounds: T₀, at least 1.

    Returns:
        The `Aggregator`; its info holds the rows kept.

    Raises:
        ValueError: for a static number out of range.

    Example:
        >>> rule = auror_aggregator(threshold=1.0, num_rounds=1)
        >>> first = jnp.array([[1.0, 0.0], [1.1, 0.1], [9.0, 0.1]])
        >>> state = rule.aggregate(first, rule.init(3, 2), Context())[1]
        >>> later = jnp.array([[0.0, 9.0], [0.1, 0.0], [0.1, 9.0]])  # the first coordinate counts
        >>> rule.aggregate(later, state, Context())[2]["selected"].tolist()
        [False, True, True]
    """
    with named("auror"):
        threshold = real("threshold", threshold, at_least=0)
        num_rounds = whole("num_rounds", num_rounds, smallest=1)

    def init(num_clients: int, num_params: int) -> State:
        return _Looked(by_columns(jnp.zeros((num_params,), bool)), jnp.zeros((), jnp.int32))

    def aggregate(updates: Array, state: State, context: Context) -> tuple[Array, State, Info]:
        with named("auror"):
            updates = as_stack(updates)
            stack = updates.astype(compute_dtype(updates))
            indicative = jax.lax.cond(
                state.round < num_rounds,
                lambda: _found(stack, threshold),
                lambda: state.indicative,
            )
            update, info = _of_larger_cluster(stack, indicative)
        return update.astype(output_dtype(updates)), _Looked(indicative, state.round + 1), info

    return Aggregator(init, aggregate)


@register_rule(
    title="Auror", assumes="n > 2f; bounds no row", source="Shen et al. 2016", make=auror_aggregator
)
def auror(
    updates: Array, indicative: Array | None = None, *, threshold: Float, num_rounds: int = 10
) -> tuple[Array, Info]:
    """Mean of the larger of two clusters of rows, in the coordinates that tell clusters apart (Auror).

    A coordinate is indicative if the centres of the best two clusters of its n values differ by α =
    `threshold` or more. 2-means divides the rows by their indicative coordinates; g is the mean of the larger
    cluster, of equal ones that of the lowest row, in all coordinates. In a round, `auror_aggregator` looks
    for indicative coordinates in the first `num_rounds` rounds and keeps them.

    A heuristic with fewer than n/2 malicious rows in mind, that differ from honest ones in the same way from
    the first rounds on. The length of a row is not bounded: put `clip` in front of it. A row with a
    non-finite entry is left out; without another row the result is 0. Without an indicative coordinate all
    rows are averaged.

    Args:
        updates: (n, d).
        indicative: (d,) numbers, 0 for coordinates that do not count; None to look for them in `updates`.
        threshold: α ≥ 0, in units of the updates; may be traced. It depends on the task.
        num_rounds: as for `auror_aggregator`.

    Returns:
        (d,), in the type of `updates`.

    Raises:
        ValueError: if shapes do not fit, or a static argument is out of range.

    Example:
        >>> rows = jnp.array([[1.0, 0.0], [1.2, 0.5], [1.1, 0.4], [-9.0, 0.1]])
        >>> auror.explained(rows, threshold=2.0)[1]["selected"].tolist()
        [True, True, True, False]

    Source: Shen, Tople, Saxena, "Auror: defending against poisoning attacks in collaborative deep learning
    systems", ACSAC 2016; T₀, and that the last of these rounds decides, are FLPoison's, which looks at the
    last layer alone with α = 0.002. Its 2-means begins at random points, here the one of a coordinate is
    exact.
    """
    threshold = real("threshold", threshold, at_least=0)
    whole("num_rounds", num_rounds, smallest=1)
    if indicative is None:
        return _of_larger_cluster(updates, _found(updates, threshold))
    return _of_larger_cluster(updates, shaped("indicative", indicative, updates.shape[1:]) != 0)
