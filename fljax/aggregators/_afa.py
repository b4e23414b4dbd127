"""Adaptive federated averaging (AFA): rows off the mean's direction leave, and clients are remembered."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import betainc

from fljax.aggregators.registry import register_rule
from fljax.base import Aggregator, Context, Info, State
from fljax.numerics.averages import weighted_rows
from fljax.numerics.checks import (
    Float,
    as_stack,
    compute_dtype,
    named,
    output_dtype,
    real,
    shaped,
)
from fljax.numerics.cosines import pairwise_cosines
from fljax.numerics.eigen import as_shares
from fljax.numerics.masked import masked_median
from fljax.numerics.safe import dot, row_norms
from fljax.numerics.weights import relative_weights

# The authors' prior of a client's good and bad rounds, and when it is blocked.
PRIOR = 3.0
BLOCKED = 0.95


class _Search(NamedTuple):
    """The state between steps: rows that are good so far, and ξ."""

    good: Array
    width: Array
    done: Array


def _good_rows(rows: Array, shares: Array, width: Array, growth: Array) -> Array:
    """AFA's mask (n,) of the good rows, among those with a share."""
    rows = jax.lax.stop_gradient(rows)
    cosines, finite = pairwise_cosines(rows)
    norms = jnp.where(finite, row_norms(rows), 0.0)
    largest = jnp.max(norms)
    # In the unit of the longest row nothing overflows.
    lengths = norms / jnp.where(largest > 0, largest, 1.0)

    def narrowed(search: _Search) -> _Search:
        good = search.good
        weights = jnp.where(good, shares * lengths, 0.0)
        along = dot(cosines, weights)
        square = dot(weights, along)
        scores = along / jnp.sqrt(jnp.where(square > 0, square, 1.0))
        count = jnp.maximum(jnp.sum(good), 1)
        mean = jnp.sum(jnp.where(good, scores, 0.0)) / count
        spread = jnp.sqrt(jnp.sum(jnp.where(good, jnp.square(scores - mean), 0.0)) / count)
        middle = masked_median(scores, good)
        low, high = middle - search.width * spread, middle + search.width * spread
        bad = jnp.where(mean < middle, scores < low, scores > high)
        kept = good & ~bad
        return _Search(kept, search.width + growth, jnp.all(kept == good))

    start = _Search(finite & (shares > 0), width, ~jnp.any(finite & (shares > 0)))
    return jax.lax.while_loop(lambda search: ~search.done, narrowed, start).good


def _combined(rows: Array, shares: Array, width: Float, growth: Float) -> tuple[Array, Info]:
    """The update and what explains it, of the shares p_i of all rows, 0 for those that are blocked."""
    as_array = (jnp.asarray(value, rows.dtype) for value in (width, growth))
    good = _good_rows(rows, shares, *as_array)
    weights = as_shares(jnp.where(good, shares, 0.0))
    return weighted_rows(weights, rows), {"weights": weights, "selected": good}


def _checked(width: Float, growth: Float) -> tuple[Float, Float]:
    return real("width", width, above=0, finite=True), real("growth", growth, at_least=0, finite=True)


class _Clients(NamedTuple):
    """How often every client's row was good and bad, (num_clients,) each, with what they start at."""

    good: Array
    bad: Array

    @property
    def trust(self) -> Array:
        """α/(α + β), 0 for a client that is blocked."""
        blocked = betainc(self.good, self.bad, 0.5) > BLOCKED
        return jnp.where(blocked, 0.0, self.good / (self.good + self.bad))


def remembering_clients(*, width: Float = 2.0, growth: Float = 0.5) -> Aggregator:
    """`afa` for the round: its state is how often every client's row was good and bad.

    Both numbers start at 3. A row that is kept adds 1 to its client's good rounds, another to the bad ones;
    with α good and β bad ones a client's trust is α/(α + β), and it is blocked, for ever, once
    P(Beta(α, β) < ½) > 0.95. The rows of blocked clients count nowhere.

    Args:
        width: as for `afa`.
        growth: as for `afa`.

    Returns:
        The `Aggregator`; its info holds weights and the rows kept.

    Raises:
        ValueError: for a static number out of range, or in a round with fewer rows than clients and no
            client ids.
    """
    with named("afa"):
        width, growth = _checked(width, growth)

    def init(num_clients: int, num_params: int) -> State:
        return _Clients(*(jnp.full((num_clients,), PRIOR, jnp.float32) for _ in range(2)))

    def aggregate(updates: Array, state: State, context: Context) -> tuple[Array, State, Info]:
        with named("afa"):
            updates = as_stack(updates)
        n, ids = len(updates), context.client_ids
        if ids is None:
            if n != len(state.good):
                raise ValueError(
                    f"afa: got {n} rows for {len(state.good)} clients and no client_ids to say whose"
                )
            ids = jnp.arange(n)
        own = _Clients(state.good[ids], state.bad[ids])
        rows = updates.astype(compute_dtype(updates))
        trust = own.trust.astype(rows.dtype)
        update, info = _combined(
            rows, relative_weights(context.weights, n, rows.dtype) * trust, width, growth
        )
        takes_part = trust > 0
        state = _Clients(
            state.good.at[ids].add(takes_part & info["selected"]),
            state.bad.at[ids].add(takes_part & ~info["selected"]),
        )
        return update.astype(output_dtype(updates)), state, info

    return Aggregator(init, aggregate)


@register_rule(
    title="AFA",
    assumes="n > 2f, rows of usual length",
    source="Muñoz-González et al. 2019",
    make=remembering_clients,
)
def afa(
    updates: Array,
    weights: Array | None = None,
    trust: Array | None = None,
    *,
    width: Float = 2.0,
    growth: Float = 0.5,
) -> tuple[Array, Info]:
    """Weighted mean of the rows whose cosine with it is no outlier, found again until none is (AFA).

    With weights c_i = p_i r_i, p_i a client's share of the examples and r_i its trust, v = Σ_i c_i g_i over
    the good rows, all at first, and s_i = cos(g_i, v) with mean μ, median m and standard deviation σ over
    them. Where μ < m the rows with s_i < m − ξ σ leave, else those with s_i > m + ξ σ; ξ grows by Δξ, until
    none leaves. g = Σ_i c_i g_i / Σ_i c_i over the good rows. No length is bounded: one huge row turns v its
    way, and others are the outliers, so put `clip` in front of it. A row with a non-finite entry leaves
    beforehand. In a round, `remembering_clients` keeps the trust, and blocks clients.

    Args:
        updates: (n, d).
        weights: (n,) finite and not negative, of any size; None for equal ones.
        trust: (n,) r in [0, 1], 0 for clients that are blocked; None for equal ones.
        width: ξ > 0; may be traced.
        growth: Δξ ≥ 0; may be traced.

    Returns:
        (d,), in the type of `updates`; 0 if no finite row has a weight.

    Raises:
        ValueError: if shapes do not fit, known weights are negative or not finite, or a static number is out
            of range.

    Example:
        >>> rows = jnp.array(6 * [[1.0, 0.25]] + [[-1.0, 1.0]])
        >>> print(afa(rows).round(2))
        [1.   0.25]

    Source: Muñoz-González, Co, Lupu, "Byzantine-robust federated machine learning through adaptive model
    averaging", 2019. The ports in which the formula was read compare models instead of updates, take the
    sample's standard deviation, and α/β for the trust; one has Δξ = 0.25.
    """
    width, growth = _checked(width, growth)
    n = updates.shape[0]
    shares = relative_weights(weights, n, updates.dtype)
    if trust is not None:
        shares = shares * shaped("trust", trust, (n,), ", one per row").astype(updates.dtype)
    return _combined(updates, shares, width, growth)
