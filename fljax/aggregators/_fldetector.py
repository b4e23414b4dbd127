"""FLDetector: clients whose updates are not those that their last ones foretell are left out for good."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from fljax.aggregators.registry import register_rule
from fljax.base import Aggregator, Context, Info, State
from fljax.numerics.averages import mean_of_rows
from fljax.numerics.checks import as_stack, compute_dtype, named, output_dtype, shaped, whole
from fljax.numerics.k_means import number_of_clusters, upper_of_two
from fljax.numerics.quasi_newton import hessian_product
from fljax.numerics.safe import contained, finite_rows, row_norms
from fljax.numerics.sharding import by_columns


class _Seen(NamedTuple):
    """What is kept of earlier rounds; rings of length N are written in turn.

    Attributes:
        rows: (num_clients, d), every client's last update.
        last: (num_clients,) int32, the round it came in; −1 before the first.
        params: (d,) w of the last round.
        update: (d,) the aggregate of the last round.
        steps: (N, d), ring of w_t − w_{t−1}.
        changes: (N, d), ring of g_t − g_{t−1}, g the aggregate.
        scores: (N, num_clients), ring of shares of the distances; NaN where a client has none.
        scored: int32 scalar, in how many rounds there were scores.
        excluded: (num_clients,) bool.
        round: int32 scalar, how many rounds there were.
    """

    rows: Array
    last: Array
    params: Array
    update: Array
    steps: Array
    changes: Array
    scores: Array
    scored: Array
    excluded: Array
    round: Array


def _suspects(scores: Array, known: Array) -> Array:
    """The upper of two clusters of scores if the gap statistic sees more than one, (n,) bool."""
    several = number_of_clusters(scores, known) > 1
    return several & upper_of_two(jnp.where(known, scores, 0.0), known)


def _mean(selected: Array, stack: Array) -> tuple[Array, Info]:
    mean, used = mean_of_rows(selected, stack)
    return jnp.where(jnp.any(used), mean, 0.0), {"selected": used}


def _shares(distances: Array, known: Array) -> Array:
    """The distances divided by their sum; where some are infinite, they share all of it."""
    endless = known & ~jnp.isfinite(distances)
    parts = jnp.where(jnp.any(endless), endless.astype(distances.dtype), jnp.where(known, distances, 0.0))
    largest = jnp.max(parts, initial=0.0)
    parts = parts / jnp.where(largest > 0, largest, 1.0)
    total = jnp.sum(parts)
    return parts / jnp.where(total > 0, total, 1.0)


def fldetector_aggregator(*, num_rounds: int = 10, start: int = 50) -> Aggregator:
    """FLDetector for a round: `fldetector` with the scores that the clients' histories give.

    The state holds every client's last update (num_clients, d), and w_t − w_{t−1} and g_t − g_{t−1} of the
    last N rounds, g the aggregate. With v = w_t − w_{t−1} and Hv by `hessian_product`, client i's distance is
    ‖g_i^{t−1} + Hv − g_i^t‖, divided by the sum of all; its score is the mean of its last N ones. From
    `start` on there are distances, and once there are N of them the clients that `fldetector` suspects are
    left out for good.

    A client that was not in the cohort of the round before has no distance. A non-finite update counts
    nowhere.

    Args:
        num_rounds: N, at least 1.
        start: the first round with distances, at least 1; there must be a change of the model before it.

    Returns:
        The `Aggregator`.

    Raises:
        ValueError: for a number out of range, and in a round without params, or with fewer rows than clients
            and no client ids.

    Example:
        >>> rule = fldetector_aggregator(num_rounds=2, start=1)
        >>> context = Context(params=jnp.zeros(2))
        >>> rule.aggregate(jnp.ones((3, 2)), rule.init(3, 2), context)[0].tolist()
        [1.0, 1.0]

    Source: Zhang, Cao, Jia, Gong, KDD 2022.
    """
    with named("fldetector"):
        length = whole("num_rounds", num_rounds, smallest=1)
        first = whole("start", start, smallest=1)

    def init(num_clients: int, num_params: int) -> State:
        zero = jnp.zeros((), jnp.int32)
        return _Seen(
            rows=jnp.zeros((num_clients, num_params)),
            last=jnp.full((num_clients,), -1, jnp.int32),
            params=jnp.zeros((num_params,)),
            update=jnp.zeros((num_params,)),
            steps=jnp.zeros((length, num_params)),
            changes=jnp.zeros((length, num_params)),
            scores=jnp.full((length, num_clients), jnp.nan),
            scored=zero,
            excluded=jnp.zeros((num_clients,), bool),
            round=zero,
        )

    def aggregate(updates: Array, state: State, context: Context) -> tuple[Array, State, Info]:
        with named("fldetector"):
            updates = as_stack(updates)
        if context.params is None:
            raise ValueError("fldetector: needs params, which this round does not provide")
        num_clients = state.rows.shape[0]
        if context.client_ids is None and len(updates) != num_clients:
            raise ValueError(
                f"fldetector: got {len(updates)} rows for {num_clients} clients and no client_ids "
                "to say whose"
            )
        ids = jnp.arange(num_clients) if context.client_ids is None else context.client_ids
        dtype = state.rows.dtype
        stack = updates.astype(compute_dtype(updates))
        valid = finite_rows(stack)
        fixed = jnp.where(valid[:, None], jax.lax.stop_gradient(stack), 0.0).astype(dtype)
        rows, params = by_columns(state.rows), jax.lax.stop_gradient(context.params).astype(dtype)
        now, newest = state.round, (state.round - 2) % length

        # The pairs before this round: the k-th oldest was written at the place (k − 1) mod N.
        pairs = jnp.clip(now - 1, 0, length)
        age = (newest - jnp.arange(length)) % length
        age = jnp.where(age < pairs, age, -1)
        step = jnp.where(now > 0, params - state.params, 0.0)
        foretold, fine = hessian_product(by_columns(state.steps), by_columns(state.changes), age, step)
        fine = fine & (now >= first)
        known = valid & (state.last[ids] == now - 1) & (now > 0) & ~state.excluded[ids]
        distances = row_norms(rows[ids] + foretold - fixed)
        fresh = jnp.full((num_clients,), jnp.nan, dtype)
        fresh = fresh.at[ids].set(jnp.where(known, _shares(distances, known), jnp.nan))
        scores = jnp.where(fine, state.scores.at[state.scored % length].set(fresh), state.scores)
        scored = state.scored + fine

        counted = jnp.isfinite(scores)
        counts = jnp.sum(counted, axis=0)
        means = jnp.sum(jnp.where(counted, scores, 0.0), axis=0) / jnp.maximum(counts, 1)
        judged = (counts > 0) & ~state.excluded
        ready = fine & (scored >= length) & jnp.any(judged)
        nobody = jnp.zeros((num_clients,), bool)
        suspects = jax.lax.cond(ready, _suspects, lambda scores, known: nobody, means, judged)
        excluded = state.excluded | suspects

        update, info = _mean(valid & ~excluded[ids], stack)
        kept = jax.lax.stop_gradient(update).astype(dtype)
        place = jnp.maximum(now - 1, 0) % length
        pair = params - state.params, kept - state.update
        steps, changes = (
            jnp.where(now > 0, ring.at[place].set(new), ring)
            for ring, new in zip((state.steps, state.changes), pair, strict=True)
        )
        seen = _Seen(
            rows=rows.at[ids].set(jnp.where(valid[:, None], fixed, rows[ids])),
            last=state.last.at[ids].set(jnp.where(valid, now, state.last[ids])),
            params=params,
            update=kept,
            steps=steps,
            changes=changes,
            scores=scores,
            scored=scored,
            excluded=excluded,
            round=now + 1,
        )
        return update.astype(output_dtype(updates)), seen, info

    return Aggregator(init, aggregate)


@register_rule(
    title="FLDetector",
    assumes="any f, one step per round",
    source="Zhang et al. 2022",
    make=fldetector_aggregator,
)
def fldetector(updates: Array, scores: Array, *, num_rounds: int = 10, start: int = 50) -> tuple[Array, Info]:
    """FLDetector: the mean of the clients whose updates are as their last ones foretell.

    A client's score says how far its updates are from what its last ones and the model's change foretell.
    If the gap statistic sees more than one cluster of scores, those of the upper one of two (2-means, exact)
    are left out. In a round, `fldetector_aggregator` makes the scores, and who is left out stays so.

    It is made for clients that send the gradient of one step on all of their data, and for any number of
    attackers whose updates change from round to round in another way than honest ones; after several local
    steps or on small batches honest updates are not foretold well, and honest clients may be left out. Until
    attackers are found they are averaged in, of any length. A row with a non-finite entry is left out.

    Args:
        updates: (n, d).
        scores: (n,), each client's score; NaN for none, with which it is kept.
        num_rounds: N, over how many rounds a score is the mean, as for `fldetector_aggregator`, which makes
            the scores; here they are given.
        start: the first round with distances, as for `fldetector_aggregator`.

    Returns:
        (d,), in the type of `updates`; 0 if nobody is left.

    Raises:
        ValueError: if the shapes do not fit, or a number is out of range.

    Example:
        >>> scores = jnp.array([0.10, 0.11, 0.09, 0.12, 0.10, 0.24, 0.24])
        >>> fldetector(jnp.arange(7.0)[:, None], scores).tolist()
        [2.0]

    Source: Zhang, Cao, Jia, Gong, "FLDetector: defending federated learning against model poisoning attacks
    via detecting malicious clients", KDD 2022, and the authors' code: N = 10, from round 50 on, at most 7
    clusters by the gap statistic. There training starts again from the initial model once attackers are
    found, and what is left is also aggregated by the median, the trimmed mean or Krum. FLPoison pairs a step
    with the change of the round before, and its gap statistic always sees a cluster more.
    """
    whole("num_rounds", num_rounds, smallest=1)
    whole("start", start, smallest=1)
    given = shaped("scores", scores, updates.shape[:1], ", one per row").astype(updates.dtype)
    stack = contained(updates)
    given = jax.lax.stop_gradient(given)
    suspects = _suspects(given, jnp.isfinite(given))
    return _mean(finite_rows(stack) & ~suspects, stack)
