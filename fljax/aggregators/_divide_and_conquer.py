"""Divide-and-conquer (DnC): rows far along the leading direction of random coordinates are left out."""

import jax
import jax.numpy as jnp
from jax import Array

from fljax.aggregators.registry import register_rule
from fljax.base import Info
from fljax.numerics.averages import weighted_rows
from fljax.numerics.checks import Float, Int, below_half, real, whole
from fljax.numerics.eigen import as_shares, crowd, leading_variance
from fljax.numerics.neighbors import squared_distances
from fljax.numerics.safe import finite_rows
from fljax.numerics.subsets import random_coordinates


@register_rule(title="DnC", assumes="n > 2f", source="Shejwalkar and Houmansadr 2021", surrogate="distance")
def divide_and_conquer(
    updates: Array,
    key: Array,
    *,
    num_malicious: Int,
    num_iterations: int = 1,
    subspace_size: int = 10_000,
    filter_fraction: Float = 1.0,
    strict: bool = True,
) -> tuple[Array, Info]:
    """Mean of the rows that are no outliers along the first singular vector of random coordinates (DnC).

    Each iteration draws r = min(d, `subspace_size`) coordinates without replacement, centres the rows' parts
    h_i by their mean, takes the top right singular vector v of the centred parts, and keeps the n − ⌊c·f⌋
    rows with the smallest scores ⟨v, h_i − h̄⟩², with f = `num_malicious` and c = `filter_fraction`. The
    result is the mean of the rows that all iterations keep; should there be none, of those kept most often.
    The singular vector is exact to rounding up to 512 rows (see `covariance_filter`). Its guarantee needs
    n > 2f. A row that has a non-finite entry, or is so far from most others that its squared distance
    overflows, is removed beforehand and counts among the removed. Ties go to the lowest row.

    Args:
        updates: (n, d).
        key: typed PRNG key for the coordinates; not used where `subspace_size` ≥ d.
        num_malicious: f, 0 ≤ f < n/2; a traced value is clamped to that range.
        num_iterations: how many subsets of coordinates.
        subspace_size: how many coordinates each has.
        filter_fraction: c > 0, how many rows each iteration removes, as a multiple of f; may be traced. At
            least one row is always kept.
        strict: whether to insist on n > 2f; False takes any f < n, without a guarantee.

    Returns:
        (d,), in the type of `updates`.

    Raises:
        ValueError: for a static hyper-parameter out of range.

    Example:
        >>> rows = jnp.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [9.0, 9.0]])
        >>> divide_and_conquer(rows, jax.random.key(0), num_malicious=1).tolist()
        [0.5, 0.5]

    Source: Shejwalkar and Houmansadr, "Manipulating the Byzantine", NDSS 2021. Blades has the same defaults
    (and ⌊c·f⌋), but averages the union of the iterations' rows instead of their intersection.
    """
    n, d = updates.shape
    f = below_half(num_malicious, n, strict)
    num_iterations = whole("num_iterations", num_iterations, smallest=1)
    subspace_size = whole("subspace_size", subspace_size, smallest=1)
    filter_fraction = real("filter_fraction", filter_fraction, above=0, finite=True)
    # 0.29 · 100 is a little below 29 in floating point, and no part of a row is meant.
    removed = jnp.floor(jnp.asarray(filter_fraction * f, jnp.float32) + 1e-4)
    num_kept = jnp.maximum(n - removed.astype(jnp.int32), 1)
    # Which rows are kept is a step function of the updates: no gradient passes through it.
    fixed = jax.lax.stop_gradient(updates)
    finite = finite_rows(fixed)

    def kept(part: Array) -> Array:
        apart = squared_distances(part)
        among, present = crowd(jnp.where(finite[:, None] & finite[None, :], apart, jnp.inf))
        scores = leading_variance(among, as_shares(present.astype(apart.dtype)))[1]
        # A row removed beforehand counts among the removed.
        order = jnp.argsort(jnp.where(present, scores, jnp.inf))
        return (jnp.argsort(order) < num_kept) & present

    # All coordinates are the same in every iteration.
    parts = [fixed]
    if subspace_size < d:
        drawn = random_coordinates(key, d, subspace_size, num_iterations)
        parts = [jnp.take(fixed, those, axis=1, unique_indices=True, mode="clip") for those in drawn]
    votes = jnp.sum(jnp.stack([kept(part) for part in parts]), axis=0)
    # The rows kept every time; should there be none, those kept most often.
    selected = (votes == jnp.max(votes)) & (votes > 0)
    weights = as_shares(selected.astype(updates.dtype))
    return weighted_rows(weights, updates), {"selected": selected}
