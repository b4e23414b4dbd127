"""The covariance filter (CAF): rows lose weight that deviate along the direction of largest variance."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from fljax.aggregators.registry import as_rule, register_rule
from fljax.base import Info
from fljax.numerics.averages import weighted_rows
from fljax.numerics.checks import Int, tolerated
from fljax.numerics.eigen import as_shares, crowd, leading_variance
from fljax.numerics.neighbors import squared_distances


class _Filter(NamedTuple):
    """The state between passes: the weights c, and the normalised weights of the smallest λ so far."""

    squares: Array
    enough: Array
    weights: Array
    best: Array
    smallest: Array


def _slack(n: int, dtype: jnp.dtype) -> float:
    """A margin for rounding, which must neither leave the farthest row a trace of weight nor add a pass."""
    return 4 * n * float(jnp.finfo(dtype).eps)


def _too_heavy(state: _Filter) -> Array:
    return jnp.sum(state.weights) > state.enough


def _reweigh(state: _Filter) -> _Filter:
    shares = as_shares(state.weights)
    value, deviations = leading_variance(state.squares, shares)
    better = value < state.smallest
    largest = jnp.max(deviations)
    # At least one row goes with each pass; where all coincide, all do, which ends the loop.
    stays = deviations < largest * (1 - _slack(shares.shape[0], shares.dtype))
    lighter = state.weights * (1 - deviations / jnp.where(largest > 0, largest, 1.0))
    return state._replace(
        weights=jnp.where(stays, lighter, 0.0),
        best=jnp.where(better, shares, state.best),
        smallest=jnp.where(better, value, state.smallest),
    )


def _filter(updates: Array, num_malicious: Int) -> Array:
    """The weights c_i / Σ c_j that the filter leaves the rows, (n,)."""
    n = updates.shape[0]
    f = tolerated(num_malicious, n, (2, 0))
    squares, present = crowd(squared_distances(updates))
    weights = present.astype(updates.dtype)
    enough = jnp.asarray((n - 2 * f) * (1 + _slack(n, updates.dtype)), updates.dtype)
    start = _Filter(squares, enough, weights, as_shares(weights), jnp.asarray(jnp.inf, updates.dtype))
    return lax.while_loop(_too_heavy, _reweigh, start).best


@as_rule
def frozen_covariance_filter(updates: Array, *, num_malicious: Int) -> Array:
    """The covariance filter with its weights taken as constants, because its loop has no gradient.

    Args:
        updates: (n, d).
        num_malicious: as for `covariance_filter`.

    Returns:
        (d,), in the type of `updates`: what the rule returns.

    Raises:
        ValueError: as `covariance_filter` does.

    Example:
        >>> import jax
        >>> rows = jnp.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [9.0, 9.0]])
        >>> gradient = jax.grad(lambda u: frozen_covariance_filter(u, num_malicious=1)[0])(rows)
        >>> [round(float(share), 1) for share in gradient[:, 0]]
        [0.2, 0.3, 0.3, 0.3, 0.0]

    Source: this library; it stands in for the covariance filter (Allouah et al., ICML 2025).
    """
    weights = _filter(lax.stop_gradient(updates), num_malicious)
    return weighted_rows(weights, updates)


@register_rule(
    title="CAF", assumes="n > 2f", source="Allouah et al. 2025", surrogate=frozen_covariance_filter
)
def covariance_filter(updates: Array, *, num_malicious: Int) -> tuple[Array, Info]:
    """Mean after taking weight from rows that deviate along the direction of largest variance (CAF).

    From c_i = 1, while Σ c_i > n − 2f: μ = Σ c_i g_i / Σ c_i; (λ, v) the leading eigenpair of
    Σ c_i (g_i − μ)(g_i − μ)ᵀ / Σ c_i; τ_i = ⟨v, g_i − μ⟩²; c_i ← c_i (1 − τ_i / max_{j: c_j > 0} τ_j), with
    f = `num_malicious`. The result is the μ with the smallest λ; with f = 0 the plain mean. Each pass takes
    all of some row's weight, so there are at most 2f. Its guarantee needs n > 2f, and the error it bounds
    grows with the honest rows' largest variance in one direction, not their total one. A row that has a
    non-finite entry, or is so far from most others that its squared distance overflows, has no weight from
    the start and counts as removed. The loop has no reverse-mode derivative.

    Up to 512 rows the eigenpair is exact to rounding; beyond, it is a Lanczos iteration's, from a fixed
    start, with a residual below 10⁻⁵ λ (or n·eps λ, where that is more).

    Args:
        updates: (n, d).
        num_malicious: f, how many malicious rows to tolerate, 0 ≤ f < n/2; a traced value is clamped to that
            range.

    Returns:
        (d,), in the type of `updates`.

    Raises:
        ValueError: for a static `num_malicious` out of range.

    Example:
        >>> rows = jnp.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [9.0, 9.0]])
        >>> covariance_filter(rows, num_malicious=1).round(1).tolist()
        [0.5, 0.5]

    Source: Allouah, Guerraoui and Stephan, "Towards trustworthy federated learning with untrusted
    participants", ICML 2025, Algorithm 2. ByzFL and ByzPy take the maximum over removed rows as well, with
    which a pass may change next to nothing; and the eigenpair from one or three power iterations, ByzFL's
    from unseeded noise.
    """
    weights = _filter(updates, num_malicious)
    return weighted_rows(weights, updates), {"weights": weights}
