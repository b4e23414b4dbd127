"""ClippedClustering: the larger of two clusters by angle, clipped to the median of all norms so far."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from fljax.aggregators._clustering import LINKAGES, larger_cluster
from fljax.aggregators.registry import register_rule
from fljax.base import Aggregator, Context, Info, State
from fljax.numerics.checks import as_stack, compute_dtype, named, option, output_dtype, real_array, whole
from fljax.numerics.clipping import clipped_sum
from fljax.numerics.linkage import Linkage
from fljax.numerics.masked import masked_median
from fljax.numerics.safe import Norms, contained, safe_norms


class _Received(NamedTuple):
    """Norms of earlier rounds.

    Attributes:
        norms: (R, num_clients); +inf where there is none.
        round: int32 scalar, how many rounds there were.
    """

    norms: Array
    round: Array


def _lengths(norms: Norms) -> Array:
    return jnp.where(norms.finite, norms.values / norms.shifts, jnp.inf)


def _clustered(stack: Array, norms: Norms, received: Array, linkage: Linkage) -> tuple[Array, Info]:
    """The rule on finite norms (k,) received so far, with this round's; others are not counted."""
    valid = jnp.isfinite(_lengths(norms))
    known = jnp.isfinite(received)
    radius = jnp.where(jnp.any(known), masked_median(received, known), 0.0).astype(stack.dtype)
    # Clipping changes no angle.
    selected = larger_cluster(stack, valid, linkage)
    shares = selected / jnp.maximum(jnp.sum(selected), 1).astype(stack.dtype)
    return clipped_sum(shares, stack, norms, radius), {"selected": selected}


def clipped_clustering_aggregator(*, linkage: Linkage = "average", num_rounds: int = 1000) -> Aggregator:
    """`clipped_clustering` for the round: its state are the norms of the last `num_rounds` rounds.

    Args:
        linkage: as for `clipped_clustering`.
        num_rounds: R, over how many rounds the median of norms goes, this one among them. With more rounds in
            a run than that it follows the norms; the paper has all rounds.

    Returns:
        The `Aggregator`.

    Raises:
        ValueError: for an unknown `linkage`, or an R that is no whole number above 0.

    Example:
        >>> rule = clipped_clustering_aggregator()
        >>> long, short = jnp.array([[4.0], [4.0], [4.0]]), jnp.array([[1.0], [1.0]])
        >>> state = rule.aggregate(short, rule.init(3, 1), Context())[1]
        >>> rule.aggregate(long, state, Context())[0].tolist()  # the median of 1, 1, 4, 4, 4
        [4.0]
    """
    with named("clipped_clustering"):
        option("linkage", linkage, LINKAGES)
        length = whole("num_rounds", num_rounds, smallest=1)

    def init(num_clients: int, num_params: int) -> State:
        return _Received(jnp.full((length, num_clients), jnp.inf), jnp.zeros((), jnp.int32))

    def aggregate(updates: Array, state: State, context: Context) -> tuple[Array, State, Info]:
        with named("clipped_clustering"):
            updates = as_stack(updates)
        stack = contained(updates.astype(compute_dtype(updates)))
        norms = safe_norms(stack)
        own = jax.lax.stop_gradient(_lengths(norms)).astype(state.norms.dtype)
        missing = state.norms.shape[1] - len(updates)
        row = jnp.pad(own, (0, max(0, missing)), constant_values=jnp.inf)[: state.norms.shape[1]]
        received = state.norms.at[state.round % length].set(row)
        update, info = _clustered(stack, norms, received.reshape(-1), linkage)
        return update.astype(output_dtype(updates)), _Received(received, state.round + 1), info

    return Aggregator(init, aggregate)


@register_rule(
    title="ClippedClustering",
    assumes="n > 2f; bounds the length",
    source="Li et al. 2023",
    make=clipped_clustering_aggregator,
)
def clipped_clustering(
    updates: Array,
    past_norms: Array | None = None,
    *,
    linkage: Linkage = "average",
    num_rounds: int = 1000,
) -> tuple[Array, Info]:
    """The mean of the larger of two clusters by angle, clipped to the median of all norms received so far.

    With S the median of the norms of this round's rows and of all rows before, g = (1/|B|) Σ_{i ∈ B}
    min(1, S/‖g_i‖) · g_i over the larger cluster B of `clustering`; in a round,
    `clipped_clustering_aggregator` keeps the norms.

    A heuristic with fewer than n/2 malicious rows in mind that point away together. ‖g‖ ≤ S always holds, and
    with fewer than n/2 malicious rows in all rounds S is at most the longest honest norm so far. A row with a
    non-finite entry (or norm) is in no cluster, and its norm is not kept; without another row the result is
    0.

    Args:
        updates: (n, d).
        past_norms: (k,) norms of the rows of earlier rounds, +inf for none; None for a first round.
        linkage: the distance of two clusters: the mean ("average"), the largest ("complete") or the smallest
            ("single") of those of their rows.
        num_rounds: over how many rounds norms are kept, as for `clipped_clustering_aggregator`; here those
            count that are given.

    Returns:
        (d,), in the type of `updates`.

    Raises:
        ValueError: if `updates` is not (n, d), `linkage` is not one of the three, or `num_rounds` is no whole
            number above 0.

    Example:
        >>> rows = jnp.array([[1.0, 0.0], [3.0, 0.0], [2.0, 0.0], [-9.0, 1.0]])
        >>> [round(float(x), 2) for x in clipped_clustering(rows)]
        [1.83, 0.0]
        >>> [round(float(x), 2) for x in clipped_clustering(rows, jnp.array([1.0, 1.0, 1.0]))]
        [1.0, 0.0]

    Source: Li, Ngai, Voigt, "An experimental study of Byzantine-robust aggregation schemes in federated
    learning", IEEE Transactions on Big Data 2023. Blades caps S at 10⁵ besides; its first version has
    complete linkage and hands similarities to the clustering where distances belong.
    """
    option("linkage", linkage, LINKAGES)
    whole("num_rounds", num_rounds, smallest=1)
    stack = contained(updates)
    norms = safe_norms(stack)
    received = _lengths(norms)
    if past_norms is not None:
        past = real_array("past_norms", past_norms, "(k,)")
        received = jnp.concatenate([received, past.astype(received.dtype)])
    return _clustered(stack, norms, received, linkage)
