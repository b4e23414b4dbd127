"""The spectral filter: rows are dropped along the direction of largest variance until it is small."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from fljax.aggregators.registry import register_rule
from fljax.base import Info
from fljax.numerics.averages import weighted_rows
from fljax.numerics.checks import Float, Int, below_half, real
from fljax.numerics.eigen import as_shares, crowd, leading_variance
from fljax.numerics.neighbors import reduce_distances
from fljax.numerics.safe import finite_rows

# The authors stop at λ² ≤ 20 σ².
EXPANSION = 20.0


class _Filtering(NamedTuple):
    """The state between steps: shares of the rows left, and whether their variance is small."""

    shares: Array
    number: Array
    done: Array


@register_rule(title="Spectral filter", assumes="n > 2f", source="Diakonikolas et al. 2017")
def spectral_filter(
    updates: Array, *, num_malicious: Int, sigma: Float, strict: bool = True
) -> tuple[Array, Info]:
    """Mean of rows that lose weight along the direction in which they vary most, until they vary little.

    Weights c_i start at 1. Each of at most 2f steps, f = `num_malicious`, takes the weighted mean μ and the
    largest eigenpair (λ, v) of the weighted covariance; with λ² ≤ 20 σ² it ends, else c_i ← c_i (1 − τ_i /
    max_j τ_j) with τ_i = ⟨g_i − μ, v⟩², so that the farthest row leaves. g = Σ_i c_i g_i / Σ_i c_i. Where the
    covariance of the honest rows has no eigenvalue above σ it errs by O(√(σ f / n)), whatever d is; with a σ
    that is too small it drops 2f rows, honest ones among them. A row that has a non-finite entry, or is so
    far from most others that its squared distance overflows, is left out beforehand.

    Args:
        updates: (n, d).
        num_malicious: f, 0 ≤ f < n/2; a traced value is clamped to that range.
        sigma: σ > 0, a bound on the honest rows' largest variance along a direction, in squared units of the
            updates; may be traced.
        strict: whether to insist on n > 2f; False takes any f < n, without a guarantee.

    Returns:
        (d,), in the type of `updates`.

    Raises:
        ValueError: if `updates` is not (n, d), or a static number is out of range.

    Example:
        >>> rows = jnp.array([[0.0], [1.0], [2.0], [1.0], [60.0]])
        >>> [f"{entry:.2f}" for entry in spectral_filter(rows, num_malicious=1, sigma=1.0)]
        ['1.01']

    Source: after Diakonikolas, Kamath, Kane, Li, Moitra, Stewart, "Being robust (in high dimensions) can be
    practical", ICML 2017; for federated learning Zhu, Wang, Pang, Wang, Jiao, Song, Jordan, "Byzantine-robust
    federated learning with optimal statistical rates", AISTATS 2023, whose code (filterL2) has σ = 1, which
    means nothing in the unit of updates, and filters blocks of 1,000 coordinates one by one. Its no-regret
    version is another rule.
    """
    n = updates.shape[0]
    f = below_half(num_malicious, n, strict)
    sigma = real("sigma", sigma, above=0, finite=True)
    # The weights are a function of squared distances with steps in it: no gradient passes through them.
    fixed = jax.lax.stop_gradient(updates)
    finite = finite_rows(fixed)
    apart, length = reduce_distances(fixed, lambda block: block.squares.T)
    squares, present = crowd(jnp.where(finite[:, None] & finite[None, :], apart, jnp.inf))
    # In the unit of the distances; squares of it may overflow.
    limit = EXPANSION**0.5 * jnp.asarray(sigma, squares.dtype) / length / length

    def filtered(state: _Filtering) -> _Filtering:
        largest, deviations = leading_variance(squares, state.shares)
        farthest = jnp.max(deviations)
        done = (largest <= limit) | (farthest <= 0)
        rest = 1.0 - deviations / jnp.where(farthest > 0, farthest, 1.0)
        rest = rest.at[jnp.argmax(deviations)].set(0.0)
        shares = as_shares(state.shares * rest)
        # At least one row is kept.
        done = done | (jnp.sum(shares) <= 0)
        return _Filtering(jnp.where(done, state.shares, shares), state.number + 1, done)

    def unfinished(state: _Filtering) -> Array:
        return ~state.done & (state.number < 2 * f)

    start = _Filtering(as_shares(present.astype(squares.dtype)), jnp.int32(0), jnp.bool_(False))
    weights = jax.lax.while_loop(unfinished, filtered, start).shares
    return weighted_rows(weights.astype(updates.dtype), updates), {"weights": weights}
