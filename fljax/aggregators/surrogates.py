"""Smooth versions of rules that select, for attacks that follow a gradient.

A rule that picks rows or values has a zero gradient with respect to all others. Here every row or value has a
weight, which falls off smoothly at the edge of the selection. As the temperature goes to 0, a smooth version
becomes its rule, except where scores or values at the edge tie.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from fljax.aggregators._krum_scores import Scored, num_averaged, score_rows
from fljax.aggregators.registry import as_rule
from fljax.numerics.averages import weighted_rows
from fljax.numerics.checks import Float, Int, real, tolerated
from fljax.numerics.order_statistics import fold_rows, midpoint, select_ranks, sorted_rows
from fljax.numerics.safe import finite_rows


class _Soft(NamedTuple):
    """Krum scores as distances from the smallest, in units of the median's.

    Where half of the scores are the smallest, the unit is the largest's distance from it.

    Attributes:
        scores: (n,), 0 where a row has none.
        usable: (n,) bool, which rows have a score.
        rows: (n, d) the updates, zero where they are not finite.
        scored: what the scores are made of.
    """

    scores: Array
    usable: Array
    rows: Array
    scored: Scored


def _soft_scores(
    updates: Array, num_malicious: Int, power: int, num_neighbors: Int | None, strict: bool
) -> _Soft:
    """Score the rows of a stack; arguments as for `krum_scores`."""
    finite = finite_rows(updates)
    # Gradients pass through infinite distances as NaN. Far is enough.
    rows = jnp.where(finite[:, None], updates, 0.0)
    far = 100.0 * jnp.max(jnp.abs(lax.stop_gradient(rows)))
    # In the unit of the distances: the scores of very small rows would vanish.
    scored = score_rows(jnp.where(finite[:, None], rows, far), num_malicious, power, num_neighbors, strict)
    scores = scored.nearest.score()
    known = lax.stop_gradient(jnp.where(finite & jnp.isfinite(scores), scores, jnp.inf))
    ordered = jnp.sort(known)
    last = jnp.maximum(jnp.sum(jnp.isfinite(known)) - 1, 0)
    lowest, median, highest = ordered[0], ordered[last // 2], ordered[last]
    spread = jnp.where(median > lowest, median, highest) - lowest
    spread = jnp.where((spread > 0) & jnp.isfinite(spread), spread, 1.0)
    usable = jnp.isfinite(known)
    scores = jnp.where(usable, (scores - jnp.where(usable, lowest, 0.0)) / spread, 0.0)
    return _Soft(scores, usable, rows, scored)


@as_rule
def soft_krum(
    updates: Array,
    *,
    num_malicious: Int,
    power: int = 2,
    num_neighbors: Int | None = None,
    strict: bool = True,
    temperature: Float = 3.0,
) -> Array:
    """Krum with a soft minimum: all rows, weighted by how close their scores are to the smallest.

    g = Σ_i p_i g_i with p = softmax(−s_i / (temperature · (median s − min s))), s_i the Krum scores; no
    gradient passes through the median and the minimum.

    Args:
        updates: (n, d).
        num_malicious: as for `krum`.
        power: as for `krum`.
        num_neighbors: as for `krum`.
        strict: as for `krum`.
        temperature: in distances of the median score from the smallest.

    Returns:
        (d,), in the type of `updates`; the rule itself for temperature → 0.

    Raises:
        ValueError: as `krum_scores` does, or if a static `temperature` is not positive.

    Example:
        >>> rows = jnp.array([[0.0], [1.0], [3.0], [9.0]])
        >>> [round(float(soft_krum(rows, num_malicious=0, temperature=t)[0]), 2) for t in (1e-3, 1.0)]
        [1.0, 1.02]

    Source: this library; it stands in for Krum (Blanchard et al., NeurIPS 2017).
    """
    temperature = real("temperature", temperature, above=0, finite=True)
    soft = _soft_scores(updates, num_malicious, power, num_neighbors, strict)
    shares = jax.nn.softmax(jnp.where(soft.usable, -soft.scores / temperature, -jnp.inf))
    return weighted_rows(shares, soft.rows)


@as_rule
def soft_multi_krum(
    updates: Array,
    *,
    num_malicious: Int,
    num_selected: Int | None = None,
    power: int = 2,
    num_neighbors: Int | None = None,
    strict: bool = True,
    temperature: Float = 0.3,
) -> Array:
    """Multi-Krum with a soft edge: rows weighted by how far their scores are below the selection's limit.

    g = Σ_i p_i g_i / Σ_i p_i with p_i = sigmoid((θ − s_i) / (temperature · (median s − min s))), θ half-way
    between the largest Krum score that Multi-Krum takes and the next one; no gradient passes through θ, the
    median and the minimum.

    Args:
        updates: (n, d).
        num_malicious: as for `multi_krum`.
        num_selected: as for `multi_krum`.
        power: as for `multi_krum`.
        num_neighbors: as for `multi_krum`.
        strict: as for `multi_krum`.
        temperature: in distances of the median score from the smallest.

    Returns:
        (d,), in the type of `updates`; the rule itself for temperature → 0.

    Raises:
        ValueError: as `multi_krum` does, or if a static `temperature` is not positive.

    Example:
        >>> rows = jnp.array([[0.0], [1.0], [2.0], [3.0], [50.0]])
        >>> round(float(soft_multi_krum(rows, num_malicious=1, temperature=1e-3)[0]), 3)
        1.5

    Source: this library; it stands in for Multi-Krum (Blanchard et al., NeurIPS 2017).
    """
    temperature = real("temperature", temperature, above=0, finite=True)
    n = updates.shape[0]
    soft = _soft_scores(updates, num_malicious, power, num_neighbors, strict)
    count = num_averaged(num_selected, n, soft.scored)
    ordered = jnp.sort(lax.stop_gradient(jnp.where(soft.usable, soft.scores, jnp.inf)))
    last, following = ordered[count - 1], ordered[jnp.minimum(count, n - 1)]
    # All rows taken, or all finite ones: none is near the limit.
    limit = jnp.where((count < n) & jnp.isfinite(following), 0.5 * (last + following), jnp.inf)
    shares = jnp.where(soft.usable, jax.nn.sigmoid((limit - soft.scores) / temperature), 0.0)
    # The selected rows have at least 1/2 each: the sum is not 0.
    return weighted_rows(shares / jnp.sum(shares), soft.rows)


class _Edges(NamedTuple):
    """The limits between which values count, per coordinate, and the width over which weights fall off."""

    left: Array
    right: Array
    width: Array

    def weights(self, row: Array) -> Array:
        inside = jax.nn.sigmoid((row - self.left) / self.width)
        inside = inside * jax.nn.sigmoid((self.right - row) / self.width)
        return jnp.where(jnp.isfinite(row), inside, 0.0)


# Both passes are loops over rows: as one (n, d) expression, XLA sorts again for each of the n rows that are
# compared with the sorted ones (1.7 s against 0.1 at (100, 139,960)).
@jax.custom_vjp
def _inside(updates: Array, edges: _Edges) -> Array:
    """The average of the values inside the edges, where a value's gradient is its weight.

    A gradient through the weights would draw values beyond an edge back inside, where they do less harm: it
    does not see the honest values that take their place.
    """
    return _inside_forward(updates, edges)[0]


def _inside_forward(updates: Array, edges: _Edges) -> tuple[Array, tuple[Array, _Edges, Array]]:
    def parts(row: Array) -> tuple[Array, Array]:
        weights = edges.weights(row)
        return weights * jnp.where(jnp.isfinite(row), row, 0.0), weights

    total, weight = fold_rows(parts, updates)
    weight = jnp.where(weight > 0, weight, 1.0)
    return total / weight, (updates, edges, weight)


def _inside_backward(saved: tuple[Array, _Edges, Array], slope: Array) -> tuple[Array, _Edges]:
    updates, edges, weight = saved
    shared = slope / weight
    gradient = lax.map(lambda row: edges.weights(row) * shared, updates)
    return gradient, _Edges(*map(jnp.zeros_like, edges))


_inside.defvjp(_inside_forward, _inside_backward)


def _soft_middle(updates: Array, drop: Int, temperature: Float) -> Array:
    """Mean of the n − 2·drop middle values of every coordinate, with a soft edge."""
    n = updates.shape[0]
    fixed = lax.stop_gradient(updates)
    # Only where something is dropped do the values next to the edges matter.
    ranks = [drop - 1, drop, n - 1 - drop, n - drop, n // 4, n - 1 - n // 4]
    rows = sorted_rows(fixed) if isinstance(drop, int) else None
    if rows is None:
        values = select_ranks(fixed, [jnp.clip(rank, 0, n - 1) for rank in ranks])
    else:
        values = tuple(rows[min(max(rank, 0), n - 1)] for rank in ranks)
    below, low, high, above, first, third = values
    left = jnp.where(drop > 0, midpoint(below, low), -jnp.inf)
    right = jnp.where(drop > 0, midpoint(high, above), jnp.inf)
    width = third - first
    # Where half of the values coincide, what is left to measure by is the distance of the edges.
    width = jnp.where((width > 0) & jnp.isfinite(width), width, above - below)
    usable = (width > 0) & jnp.isfinite(width)
    # Where even the edges coincide, nothing is soft: there is no scale to be soft on.
    tiny = jnp.finfo(updates.dtype).tiny
    width = jnp.maximum(temperature * jnp.where(usable, width, 0.0), tiny)
    return _inside(updates, _Edges(left, right, width))


@as_rule
def soft_trimmed_mean(updates: Array, *, trim: Int, temperature: Float = 0.1) -> Array:
    """Trimmed mean with soft edges: values weighted by how far they are inside the two limits.

    g_j = Σ_i w_ij g_ij / Σ_i w_ij with w_ij = sigmoid((g_ij − l_j) / (temperature · q_j)) ·
    sigmoid((u_j − g_ij) / (temperature · q_j)), the limits l_j and u_j half-way between the last value
    trimmed and the first one kept, q_j the distance of the quartiles. The weights have no gradient: that of a
    value is its weight.

    Args:
        updates: (n, d).
        trim: as for `trimmed_mean`.
        temperature: in distances of the quartiles.

    Returns:
        (d,), in the type of `updates`; the rule itself for temperature → 0.

    Raises:
        ValueError: as `trimmed_mean` does, or if a static `temperature` is not positive.

    Example:
        >>> rows = jnp.array([[1.0], [2.0], [4.0], [100.0]])
        >>> [round(float(soft_trimmed_mean(rows, trim=1, temperature=t)[0]), 2) for t in (1e-4, 0.2)]
        [3.0, 2.89]

    Source: this library; it stands in for the trimmed mean (Yin et al., ICML 2018).
    """
    temperature = real("temperature", temperature, above=0, finite=True)
    n = updates.shape[0]
    trim = tolerated(trim, n, (2, 0), name="trim")
    return _soft_middle(updates, trim, temperature)


@as_rule
def soft_median(updates: Array, *, temperature: Float = 0.1) -> Array:
    """Median with soft edges: `soft_trimmed_mean` that trims all but the middle value, or two.

    Args:
        updates: (n, d).
        temperature: in distances of the quartiles.

    Returns:
        (d,), in the type of `updates`; the rule itself for temperature → 0.

    Raises:
        ValueError: if `updates` is not (n, d) or a static `temperature` is not positive.

    Example:
        >>> rows = jnp.array([[1.0], [2.0], [50.0]])
        >>> round(float(soft_median(rows, temperature=1e-4)[0]), 2)
        2.0

    Source: this library; it stands in for the median (Yin et al., ICML 2018).
    """
    temperature = real("temperature", temperature, above=0, finite=True)
    return _soft_middle(updates, (updates.shape[0] - 1) // 2, temperature)
