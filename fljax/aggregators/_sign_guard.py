"""SignGuard: rows of usual norm and usual sign statistics, clipped to the median norm."""

from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array

from fljax.aggregators.registry import register_rule
from fljax.base import Info
from fljax.numerics.averages import weighted_rows
from fljax.numerics.checks import ArgumentError, Float, fixed_real, option, real
from fljax.numerics.cosines import pairwise_cosines
from fljax.numerics.masked import masked_median
from fljax.numerics.mean_shift import bandwidth_of, largest_cluster
from fljax.numerics.safe import contained, pairwise_distances, row_norms
from fljax.numerics.sharding import window

Similarity = Literal["none", "cosine", "distance"]

# The SignGuard authors estimate the bandwidth on that many rows.
BANDWIDTH_ROWS = 50


def _sign_features(stack: Array, valid: Array, start: Array, size: int) -> Array:
    """Share of positive, zero and negative entries in a window of columns, each relative to the largest."""
    seen = window(stack, start, size)
    positive = jnp.sum(seen > 0, axis=1, dtype=jnp.int32)
    negative = jnp.sum(seen < 0, axis=1, dtype=jnp.int32)
    counts = jnp.stack([positive, size - positive - negative, negative], axis=1)
    shares = jnp.where(valid[:, None], counts.astype(stack.dtype) / max(size, 1), 0.0)
    return shares / (jnp.max(shares, axis=0) + 1e-8)


def _similarity_feature(stack: Array, valid: Array, similarity: Similarity) -> Array:
    """The fourth feature of SignGuard-Sim and SignGuard-Dist, (n,) in [0, 0.2]."""
    if similarity == "cosine":
        # The authors' matrix has 0 on its diagonal.
        cosines = jnp.where(jnp.eye(len(stack), dtype=bool), 0.0, pairwise_cosines(stack).cosines)
        typical = masked_median(cosines, valid)
        middle = masked_median(typical, valid)
        # A negative median tells nothing about the rows: their clipped values would all be the same.
        feature = jnp.where(middle > 0, jnp.clip(typical, 0.0, middle) / (5.0 * middle + 1e-8), 0.0)
    else:
        squares = pairwise_distances(stack).squares
        nearest = jnp.sort(jnp.sqrt(jnp.where(valid, squares, jnp.inf)), axis=1)
        closest_half = jnp.arange(stack.shape[0]) < jnp.sum(valid) // 2
        spread = jnp.sum(jnp.where(closest_half, nearest, 0.0), axis=1)
        feature = jnp.where(spread >= 1.1 * masked_median(spread, valid), 0.2, 0.0)
    return jnp.where(valid, feature, 0.0).astype(stack.dtype)


def _some_rows(features: Array, valid: Array, key: Array) -> tuple[Array, Array]:
    """All rows if they are few, else `BANDWIDTH_ROWS` random valid ones."""
    n = features.shape[0]
    if n <= BANDWIDTH_ROWS:
        return features, valid
    # Of a fixed type: the same rows in single and double precision.
    lots = jnp.where(valid, jax.random.uniform(key, (n,), jnp.float32), jnp.inf)
    drawn = jnp.argsort(lots)[:BANDWIDTH_ROWS]
    return features[drawn], valid[drawn]


def _limits(lower: Float, upper: Float) -> tuple[Float, Float]:
    lower, upper = real("lower", lower, at_least=0), real("upper", upper)
    if isinstance(lower, float) and isinstance(upper, float) and not lower < upper:
        raise ArgumentError(f"upper={upper} must be larger than lower={lower}")
    return lower, upper


@register_rule(title="SignGuard", assumes="n > 2f; bounds the length", source="Xu et al. 2022")
def sign_guard(
    updates: Array,
    key: Array,
    *,
    lower: Float = 0.1,
    upper: Float = 3.0,
    coordinate_fraction: float = 0.1,
    quantile: Float = 0.5,
    similarity: Similarity = "none",
) -> tuple[Array, Info]:
    """SignGuard: the mean of the rows of usual norm and usual sign statistics, clipped to the median norm.

    With M the median of the norms, g = (1/|S|) Σ_{i ∈ S} min(1, M / ‖g_i‖) · g_i over S = S₁ ∩ S₂. S₁: the
    rows with lower · M < ‖g_i‖ < upper · M. S₂: the largest cluster that mean shift finds among the shares
    of positive, zero and negative entries in a random window of columns, each divided by the largest row's.

    A heuristic with fewer than n/2 malicious rows in mind, and without a bound on the error: hostile rows
    with honest-looking norms and signs are averaged in. But ‖g‖ ≤ M always holds, and with fewer than n/2
    malicious rows M is at most the longest honest norm. A row with a non-finite entry (or norm) is left out
    of every statistic. With S empty the result is 0: no row is trusted, and the model stays.

    Args:
        updates: (n, d).
        key: typed PRNG key; it draws the window, and which 50 rows the bandwidth is estimated on if n > 50.
        lower: L, shortest norm in medians, 0 ≤ L < R; may be traced.
        upper: R, longest norm in medians; may be traced.
        coordinate_fraction: share of the columns whose signs are counted, above 0, at most 1.
        quantile: share of the rows within a bandwidth of the average row, 0 to 1; may be traced.
        similarity: a fourth feature. "cosine" (SignGuard-Sim): a row's median cosine with the rows;
            "distance" (SignGuard-Dist): whether its summed distance from its nearer half of the rows is 1.1
            times the median one. Both cost a Gram matrix.

    Returns:
        (d,), in the type of `updates`.

    Raises:
        ValueError: if `updates` is not (n, d) or a static argument is out of range.

    Example:
        >>> rows = jnp.array([[1.0, 2.0, 2.0], [2.0, 1.0, 2.0], [2.0, 2.0, 1.0], [-2.0, -2.0, -1.0]])
        >>> update = sign_guard(rows, jax.random.key(0), coordinate_fraction=1.0)
        >>> print(update.round(3))
        [1.667 1.667 1.667]

    Source: Xu, Huang, Song, Lan, "Byzantine-robust federated learning through collaborative malicious
    gradient filtering", ICDCS 2022, and the authors' code, which clips to the lower of the middle two norms
    when n is even, replaces NaN by 0, and from the second (distance) or fourth (cosine) epoch on compares
    with the previous aggregate instead of the other rows. FLPoison clusters with DBSCAN by default.
    """
    lower, upper = _limits(lower, upper)
    share = fixed_real("coordinate_fraction", coordinate_fraction, above=0, at_most=1)
    quantile = real("quantile", quantile, at_least=0, at_most=1)
    option("similarity", similarity, ("none", "cosine", "distance"))
    d = updates.shape[1]
    stack = contained(updates)
    norms = row_norms(stack)
    valid = jnp.isfinite(norms)
    middle = masked_median(norms, valid)
    usual = valid & (norms > lower * middle) & (norms < upper * middle)

    window_key, rows_key = jax.random.split(key)
    size = min(d, max(1, int(share * d)))
    # Neighbouring columns, as in the authors' code: a gather of scattered ones costs ten times as much.
    start = jax.random.randint(window_key, (), 0, d - size + 1, jnp.int32)
    features = _sign_features(stack, valid, start, size)
    if similarity != "none":
        feature = _similarity_feature(stack, valid, similarity)
        features = jnp.concatenate([features, feature[:, None]], axis=1)
    # Which rows are selected has no gradient.
    features = jax.lax.stop_gradient(features)
    bandwidth = bandwidth_of(*_some_rows(features, valid, rows_key), quantile)
    selected = usual & largest_cluster(features, valid, bandwidth)

    long = selected & (norms > middle)
    factors = jnp.where(long, middle / jnp.where(long, norms, 1.0), 1.0)
    weights = jnp.where(selected, factors, 0.0) / jnp.maximum(jnp.sum(selected), 1)
    update = weighted_rows(weights, stack)
    return update, {"selected": selected}
