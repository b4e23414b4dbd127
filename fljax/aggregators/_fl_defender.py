"""FL-Defender: clients weigh by how long their last layers have agreed with the median client's."""

import jax
import jax.numpy as jnp
from jax import Array

from fljax.aggregators.combining import context_arguments
from fljax.aggregators.layers import checked_head, of_head
from fljax.aggregators.registry import register_rule
from fljax.base import Aggregator, Context, Head, Info, State
from fljax.numerics.averages import weighted_rows
from fljax.numerics.checks import as_stack, compute_dtype, named, output_dtype, shaped
from fljax.numerics.cosines import pairwise_cosines
from fljax.numerics.eigen import principal_scores
from fljax.numerics.masked import masked_median
from fljax.numerics.safe import contained, finite_rows

# Standard deviations of cosines below so many rounding errors are none.
ROUNDING = 64.0


def _agreement(updates: Array, head: Head, valid: Array) -> Array:
    """Every row's cosine with the median row, in two components of how its last layer lies to the others."""
    n = len(updates)
    kernel, bias = of_head(updates, head)
    part = kernel.reshape(n, -1) if bias is None else jnp.concatenate([kernel.reshape(n, -1), bias], axis=1)
    cosines = pairwise_cosines(jnp.where(valid[:, None], part, 0.0)).cosines
    pairs = valid[:, None] & valid[None, :] & ~jnp.eye(n, dtype=bool)
    cosines = jnp.where(pairs, cosines, 0.0)
    count = jnp.maximum(jnp.sum(valid), 1)
    centred = jnp.where(valid[:, None], cosines - jnp.sum(cosines, axis=0) / count, 0.0)
    spread = jnp.sqrt(jnp.sum(jnp.square(centred), axis=0) / count)
    apart = spread > ROUNDING * jnp.finfo(updates.dtype).eps
    scaled = jnp.where(apart, centred / jnp.where(apart, spread, 1.0), 0.0)
    squares = jnp.sum(jnp.square(scaled), axis=1)
    products = jnp.matmul(scaled, scaled.T, precision="highest")
    distances = jnp.maximum(squares[:, None] + squares[None, :] - 2 * products, 0.0)
    points = principal_scores(jnp.where(jnp.eye(n, dtype=bool), 0.0, distances), valid, min(2, n))
    center = masked_median(points.T, valid)
    lengths = jnp.sqrt(jnp.sum(jnp.square(points), axis=1) * jnp.sum(jnp.square(center)))
    along = jnp.sum(points * center, axis=1)
    return jnp.where(valid & (lengths > 0), along / jnp.where(lengths > 0, lengths, 1.0), 0.0)


def _weights(scores: Array, valid: Array) -> Array:
    """What is above the first quartile of the scores, in units of the largest; all alike where nothing is."""
    ordered = jnp.sort(jnp.where(valid, scores, jnp.inf))
    place = 0.25 * (jnp.maximum(jnp.sum(valid), 1) - 1)
    below = jnp.floor(place).astype(jnp.int32)
    low, high = (jnp.take(ordered, below + step, mode="clip") for step in (0, 1))
    quartile = jnp.where(place > below, low + (place - below) * (high - low), low)
    trust = jnp.where(valid, jnp.maximum(scores - quartile, 0.0), 0.0)
    largest = jnp.max(trust)
    return jnp.where(largest > 0, trust / jnp.where(largest > 0, largest, 1.0), valid.astype(scores.dtype))


def _combine(updates: Array, weights: Array, valid: Array) -> Array:
    shares = weights / jnp.maximum(jnp.sum(weights), jnp.finfo(weights.dtype).tiny)
    return weighted_rows(shares, contained(updates), valid)


def fl_defender_aggregator() -> Aggregator:
    """FL-Defender for a round: `fl_defender` with the scores of all clients as its state.

    The state is the (num_clients,) sum of every client's scores. Each round adds those of the cohort to the
    entries that `context.client_ids` (distinct) names, all clients in order without it. A client with a
    non-finite update gets no score.

    Returns:
        The `Aggregator`; its info holds the weights.

    Raises:
        ValueError: in a round without a last layer, or with fewer rows than clients and no client ids.

    Example:
        >>> rule = fl_defender_aggregator()
        >>> rows, context = jnp.array([[1.0, 0.1], [1.0, 0.2], [-1.0, 0.3]]), Context(head=Head(0, 1, 2))
        >>> update, state, info = rule.aggregate(rows, rule.init(3, 2), context)
        >>> state.shape, info["weights"].shape
        ((3,), (3,))

    Source: Jebreel, Domingo-Ferrer, 2023.
    """

    def init(num_clients: int, num_params: int) -> State:
        return jnp.zeros((num_clients,))

    def aggregate(updates: Array, state: State, context: Context) -> tuple[Array, State, Info]:
        with named("fl_defender"):
            updates = as_stack(updates)
            known = {**context._asdict(), "scores": state}
            head = context_arguments(fl_defender, known)["head"]
            ids = context.client_ids
            if ids is None and len(updates) != len(state):
                rows = f"{len(updates)} rows for {len(state)} clients"
                raise ValueError(f"fl_defender: got {rows} and no client_ids to say whose")
            ids = jnp.arange(len(state)) if ids is None else ids
            stack = updates.astype(compute_dtype(updates))
            fixed = jax.lax.stop_gradient(stack)
            valid = finite_rows(fixed)
            score = _agreement(fixed, checked_head(head, stack.shape[1]), valid)
            state = state.at[ids].add(score.astype(state.dtype))
            weights = _weights(state[ids].astype(stack.dtype), valid)
            update = _combine(stack, weights, valid)
        return update.astype(output_dtype(updates)), state, {"weights": weights}

    return Aggregator(init, aggregate)


@register_rule(
    title="FL-Defender",
    assumes="n > 2f; bounds no row",
    source="Jebreel and Domingo-Ferrer 2023",
    make=fl_defender_aggregator,
)
def fl_defender(updates: Array, head: Head, scores: Array) -> tuple[Array, Info]:
    """Rows weighted by how much their last layers have agreed with the median row so far (FL-Defender).

    Row i of the cosines between the rows' last layers, less the unit matrix, is its profile. With the columns
    standardised and z_i (2,) the first two principal components of the profiles, a row's score is the cosine
    of z_i with the median of z per component. Scores are added up over the rounds: with S_i this sum and Q
    the first quartile of all S, g = Σ_i t_i g_i / Σ_i t_i with t_i = max(0, S_i − Q) / max_j (S_j − Q); the
    mean of all rows where every t is 0.

    A heuristic with fewer than n/2 malicious rows in mind. The length of a row is not bounded: put `clip` in
    front of it. A row with a non-finite entry has weight 0 and is left out of every statistic. No gradient
    passes through the weights. In a round, `fl_defender_aggregator` keeps the scores.

    Args:
        updates: (n, d).
        head: the model's last layer.
        scores: (n,) the sums of the scores of earlier rounds, 0 before the first.

    Returns:
        (d,), in the type of `updates`; 0 if no row is finite.

    Raises:
        ValueError: if shapes do not fit.

    Example:
        >>> rows = jnp.array([[1.0, 0.1], [1.0, 0.2], [1.0, 0.0], [-1.0, 0.3]])
        >>> fl_defender.explained(rows, Head(0, 1, 2), jnp.zeros(4))[1]["weights"].shape
        (4,)

    Source: Jebreel, Domingo-Ferrer, "FL-Defender: combating targeted attacks in federated learning",
    Knowledge-Based Systems 2023, and the authors' code.
    """
    head = checked_head(head, updates.shape[1])
    scores = shaped("scores", scores, updates.shape[:1], ", one per row")
    fixed = jax.lax.stop_gradient(updates)
    valid = finite_rows(fixed)
    total = jax.lax.stop_gradient(scores).astype(updates.dtype) + _agreement(fixed, head, valid)
    weights = _weights(total, valid)
    return _combine(updates, weights, valid), {"weights": weights}
