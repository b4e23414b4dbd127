"""FoolsGold: clients whose summed updates point the same way share one client's say."""

from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jax import Array

from fljax.aggregators.registry import register_rule, takes_updates
from fljax.base import Aggregator, Context, Info, State
from fljax.numerics.averages import weighted_rows
from fljax.numerics.checks import Float, as_stack, compute_dtype, named, option, output_dtype, real, shaped
from fljax.numerics.cosines import ROUNDING, Cosines, pairwise_cosines
from fljax.numerics.safe import contained, finite_rows
from fljax.numerics.sharding import by_columns

Divisor = Literal["clients", "weights", "none"]


def _checked(confidence: Float, normalize: str = "clients") -> Float:
    """Check both; the confidence comes back as a number."""
    option("normalize", normalize, get_args(Divisor))
    return real("confidence", confidence, above=0)


def _weights(similarity: Cosines, takes_part: Array, confidence: Float) -> Array:
    """FoolsGold's weights; a row that takes no part has weight 0 and does not set the scale."""
    cosines = similarity.cosines
    n = cosines.shape[0]
    # A zero on the diagonal, as in the authors' code: a row unlike all others is not better than unrelated.
    cosines = jnp.where(jnp.eye(n, dtype=bool), 0.0, cosines)
    highest = jnp.max(cosines, axis=1)
    other_is_higher = highest[:, None] < highest[None, :]
    pardon = jnp.where(other_is_higher, highest[:, None] / jnp.where(highest > 0, highest, 1.0), 1.0)
    rates = 1.0 - jnp.max(cosines * pardon, axis=1)
    # The rest of a rounded 1 − 1 must not be rescaled to 1.
    rates = jnp.where(rates > ROUNDING * jnp.finfo(rates.dtype).eps, rates, 0.0)
    rates = jnp.where(takes_part & similarity.finite, jnp.minimum(rates, 1.0), 0.0)
    largest = jnp.max(rates)
    shares = rates / jnp.where(largest > 0, largest, 1.0)
    # A share of 0 has the logit −inf, 1 has +inf; neither has a gradient.
    between = (shares > 0) & (shares < 1)
    safe = jnp.where(between, shares, 0.5)
    logits = jnp.log(safe) - jnp.log1p(-safe) + 0.5
    return jnp.where(between, jnp.clip(confidence * logits, 0.0, 1.0), shares)


@takes_updates
def foolsgold(history: Array, *, confidence: Float = 1.0) -> Array:
    """FoolsGold's weight of every client, from the sums of its updates so far.

    With c_ij = cos(H_i, H_j) for i ≠ j, c_ii = 0 and v_i = max_j c_ij: pardoning multiplies c_ij by v_i / v_j
    where v_i < v_j; α_i = 1 − max_j c_ij, divided by max_j α_j; then the weight is
    κ · (ln(α_i / (1 − α_i)) + 1/2), clipped to [0, 1].

    It is meant against sybils, clients of one attacker that push in one direction: any number of them get
    small weights, copies of each other weight 0. It does not tolerate a lone attacker, or hostile rows made
    to differ, whose weight is 1; honest clients with similar data lose weight like sybils; and as the row
    least like any other sets the scale, one hostile row can lower everybody else's weight.

    Args:
        history: (n, d), each client's sum of updates up to and including this round's. A zero row is
            similar to none. A row with a non-finite entry has weight 0.
        confidence: κ > 0, how steeply the weights go from 0 to 1; may be traced.

    Returns:
        (n,) weights in [0, 1], float32 (float64 for float64 input); 1 for the row least like any other, and
        all 0 if all rows are parallel.

    Raises:
        ValueError: if `history` is not (n, d) or a static `confidence` is not positive.

    Example:
        >>> sums = jnp.array([[3.0, 4.0, 0.0], [3.0, 4.0, 0.0], [0.0, 2.0, 1.0], [0.0, 0.0, -2.0]])
        >>> print("{:.2f} {:.2f} {:.2f} {:.2f}".format(*foolsgold(sums)))
        0.00 0.00 0.45 1.00

    Source: Fung, Yoon, Beschastnikh, "The limitations of federated learning in sybil settings", RAID 2020
    (arXiv 1808.04866), Algorithm 1 with all features weighted alike. The authors' code has κ = 1, replaces
    the largest α by 0.99 (the same weight for κ ≥ 0.2), and returns NaN where all rows are copies. It
    excludes i = j by a zero on the diagonal, so v_i ≥ 0; in the paper's text v_i may be negative. The
    paper's optional weights of features by their size in the model's output layer are left out; the deep
    variant of the authors' code looks at the last layer's weights only: pass those columns to do so.
    """
    confidence = _checked(confidence)
    similarity = pairwise_cosines(history)
    return _weights(similarity, jnp.ones(history.shape[:1], bool), confidence)


def _combine(stack: Array, weights: Array, normalize: Divisor) -> Array:
    if normalize == "clients":
        shares = weights / weights.shape[0]
    elif normalize == "weights":
        total = jnp.sum(weights)
        shares = weights / jnp.where(total > 0, total, 1.0)
    else:
        shares = weights
    return weighted_rows(shares, contained(stack))


def _add_in_order(history: Array, rows: Array, client_ids: Array) -> Array:
    return history + rows


def _add_at(history: Array, rows: Array, client_ids: Array) -> Array:
    return history.at[client_ids].add(rows)


def foolsgold_aggregator(*, confidence: Float = 1.0, normalize: Divisor = "clients") -> Aggregator:
    """FoolsGold for a round: `foolsgold_mean` with the history of all clients as its state.

    The state is the (num_clients, d) sum of every client's updates. Each round adds the cohort's updates to
    the rows that `context.client_ids` (distinct) names, all clients in order without it, then weighs the
    cohort by its own rows. A non-finite update is not added and has weight 0. A client whose sum overflows
    has weight 0 from then on.

    Args:
        confidence: κ > 0.
        normalize: what Σ_i w_i g_i is divided by: "clients" (n), "weights" (Σ_i w_i) or "none".

    Returns:
        The `Aggregator`; its info holds the weights.

    Raises:
        ValueError: for a `confidence` that is not positive, an unknown `normalize`, or in a round with fewer
            rows than clients and no client ids.

    Example:
        >>> rule = foolsgold_aggregator()
        >>> state = rule.init(3, 2)
        >>> rows, cohort = jnp.array([[1.0, 0.0], [0.0, 1.0]]), Context(client_ids=jnp.array([2, 0]))
        >>> update, state, info = rule.aggregate(rows, state, cohort)
        >>> (update.tolist(), info["weights"].tolist(), state.tolist())
        ([0.5, 0.5], [1.0, 1.0], [[0.0, 1.0], [0.0, 0.0], [1.0, 0.0]])

    Source: Fung, Yoon, Beschastnikh, RAID 2020.
    """
    with named("foolsgold"):
        confidence = _checked(confidence, normalize)

    def init(num_clients: int, num_params: int) -> State:
        return jnp.zeros((num_clients, num_params))

    def aggregate(updates: Array, state: State, context: Context) -> tuple[Array, State, Info]:
        with named("foolsgold"):
            updates = as_stack(updates)
        state = by_columns(state)
        num_clients, ids = state.shape[0], context.client_ids
        if ids is None and len(updates) != num_clients:
            raise ValueError(
                f"foolsgold: got {len(updates)} rows for {num_clients} clients and no client_ids to say whose"
            )
        stack = updates.astype(compute_dtype(updates))
        finite = finite_rows(stack)
        clean = jnp.where(finite[:, None], stack, 0.0).astype(state.dtype)
        if ids is None:
            state = state + clean
            similarity, takes_part = pairwise_cosines(state), finite
        elif len(updates) == num_clients:
            # Everybody, nearly always in order: scored in the order of the history, without a copy of it.
            in_order = jnp.all(ids == jnp.arange(num_clients))
            state = jax.lax.cond(in_order, _add_in_order, _add_at, state, clean, ids)
            similarity = pairwise_cosines(state)
            takes_part = jnp.zeros((num_clients,), bool).at[ids].set(finite)
        else:
            # Rows far apart in a long history are fetched from memory once.
            sums = state[ids] + clean
            state = state.at[ids].set(sums)
            similarity, takes_part = pairwise_cosines(sums), finite
        weights = _weights(similarity, takes_part, confidence).astype(stack.dtype)
        if ids is not None and len(updates) == num_clients:
            weights = weights[ids]
        update = _combine(stack, weights, normalize)
        return update.astype(output_dtype(updates)), state, {"weights": weights}

    return Aggregator(init, aggregate)


@register_rule(
    "foolsgold",
    title="FoolsGold",
    assumes="any number of sybils, no lone attacker",
    source="Fung et al. 2020",
    make=foolsgold_aggregator,
)
def foolsgold_mean(
    updates: Array, history: Array, *, confidence: Float = 1.0, normalize: Divisor = "clients"
) -> tuple[Array, Info]:
    """FoolsGold: the updates weighted down by how much their clients' past updates agree with another's.

    g = (1/n) Σ_i w_i g_i with the weights w of `foolsgold(history)`, which says what they tolerate. Only
    directions count: the length of a row is not bounded, so put `clip` in front of it. A row of `updates`
    with a non-finite entry has weight 0. In a round, `foolsgold_aggregator` keeps the history.

    Args:
        updates: (n, d), this round's.
        history: (n, d), row i the sum of client i's updates up to and including this round's.
        confidence: κ > 0; may be traced.
        normalize: what Σ_i w_i g_i is divided by: "clients" (n), "weights" (Σ_i w_i) or "none".

    Returns:
        (d,), in the type of `updates`; 0 if all weights are.

    Raises:
        ValueError: if the shapes differ, a static `confidence` is not positive or `normalize` is not one of
            the three.

    Example:
        >>> sums = jnp.array([[3.0, 4.0, 0.0], [3.0, 4.0, 0.0], [0.0, 2.0, 1.0], [0.0, 0.0, -2.0]])
        >>> print("{:.2f} {:.2f} {:.2f}".format(*foolsgold_mean(sums, sums, normalize="weights")))
        0.00 0.62 -1.07

    Source: Fung, Yoon, Beschastnikh, RAID 2020. Its Algorithm 1 adds Σ_i w_i g_i to the model ("none"; rows
    longer than 1 shortened to 1 before in the authors' code), which for updates the size of a local training
    is n times a usual step; their code for deep models divides by n, the default here. Ports differ: some
    divide by Σ_i w_i.
    """
    confidence = _checked(confidence, normalize)
    history = shaped("history", history, updates.shape, ", one row per update")
    similarity = pairwise_cosines(history.astype(compute_dtype(history)))
    weights = _weights(similarity, finite_rows(updates), confidence).astype(updates.dtype)
    return _combine(updates, weights, normalize), {"weights": weights}
