"""RFLBAT: of the clusters of rows in two dimensions, the one whose rows are least alike."""

import jax
import jax.numpy as jnp
from jax import Array

from fljax.aggregators.registry import register_rule
from fljax.base import Info
from fljax.numerics.averages import mean_of_rows
from fljax.numerics.checks import Float, real, whole
from fljax.numerics.cosines import pairwise_cosines
from fljax.numerics.eigen import principal_scores
from fljax.numerics.k_means import k_means_of_points, number_of_point_clusters
from fljax.numerics.masked import masked_median
from fljax.numerics.neighbors import squared_distances
from fljax.numerics.safe import finite_rows

# Sums of distances below that share of the widest extent are rounding.
ROUNDING = 64.0


@register_rule(
    title="RFLBAT", assumes="backdoors alike; bounds no row", source="Wang et al. 2022", surrogate="distance"
)
def rflbat(
    updates: Array,
    *,
    first_limit: Float = 10.0,
    last_limit: Float = 4.0,
    num_clusters: int | None = None,
    most_clusters: int = 9,
) -> tuple[Array, Info]:
    """Mean of the cluster of least similar rows, in two principal components, without its outliers (RFLBAT).

    z_i (2,) are the first two principal components of the rows, and e_i = Σ_{j ∈ S} ‖z_i − z_j‖ in a set S.
    Among all rows those with e_i < ε₁ · med e stay, ε₁ = `first_limit`; k-means divides them by z. Of the
    clusters with at least two rows the one of smallest similarity is kept: the median over its rows i of
    mean_{j ∈ S} cos(g_i, g_j), j = i included. Of its rows those with e_i < ε₂ · med e, e within the cluster
    and ε₂ = `last_limit`, are averaged. The number of clusters is that of the gap statistic in z.

    A heuristic that takes backdoors for rows more alike than honest ones, any number of them. It keeps
    hostile rows that differ among themselves, and bounds the influence of none: put `clip` in front of it.
    A row with a non-finite entry is left out of every statistic. If fewer than two rows pass ε₁, or no
    cluster has two, those that passed are averaged; without a finite row the result is 0.

    Args:
        updates: (n, d).
        first_limit: ε₁ > 1; may be traced.
        last_limit: ε₂ > 1; may be traced.
        num_clusters: a fixed number of clusters in place of the gap statistic's.
        most_clusters: the largest number that the gap statistic tries; its five uniform draws are the same
            in every call.

    Returns:
        (d,), in the type of `updates`.

    Raises:
        ValueError: if `updates` is not (n, d), or a static argument is out of range.

    Example:
        >>> rows = jnp.array([[1.0, 0.0], [0.6, 0.7], [0.9, -0.5], [-4.0, 0.0], [-4.1, 0.1]])
        >>> rflbat.explained(rows, num_clusters=2)[1]["selected"].tolist()
        [True, True, True, False, False]

    Source: Wang, Zhai, Zhan, Wang, "RFLBAT: a robust federated learning algorithm against backdoor attack",
    arXiv 2201.03772, 2022; limits, the largest number of clusters and draws are those of BackFed and
    Indicator. BackFed's W_k of the gap statistic sums distances, not their squares. SafeFL's port (2026) has
    limits 4 and 2, two clusters, and leaves j = i out of the similarity. k-means begins at random points
    there, here at those that are farthest.
    """
    first_limit = real("first_limit", first_limit, above=1)
    last_limit = real("last_limit", last_limit, above=1)
    most = whole("most_clusters", most_clusters, smallest=1)
    fixed = jax.lax.stop_gradient(updates)
    valid = finite_rows(fixed)
    pairs = valid[:, None] & valid[None, :]
    squares = jnp.where(pairs, squared_distances(fixed), 0.0)
    points = principal_scores(squares, valid, min(2, len(fixed)))
    # In units of their extent nothing overflows.
    extent = jnp.max(jnp.abs(points))
    points = points / jnp.where(extent > 0, extent, 1.0)
    distances = jnp.sqrt(jnp.sum(jnp.square(points[:, None] - points[None, :]), axis=2))

    def inside(members: Array, limit: Float) -> Array:
        sums = distances @ members.astype(distances.dtype)
        middle = masked_median(sums, members)
        alike = middle <= ROUNDING * jnp.finfo(sums.dtype).eps * jnp.sum(members)
        return members & (alike | (sums < limit * middle))

    passed = jnp.where(jnp.any(valid), inside(valid, first_limit), valid)
    if num_clusters is None:
        labels, _ = k_means_of_points(
            points, passed, number_of_point_clusters(points, passed, most=most), most
        )
    else:
        most = whole("num_clusters", num_clusters, smallest=1)
        labels, _ = k_means_of_points(points, passed, most, most)
    cosines = pairwise_cosines(fixed).cosines

    def similarity(label: Array) -> Array:
        members = labels == label
        count = jnp.sum(members)
        means = cosines @ members.astype(cosines.dtype) / jnp.maximum(count, 1)
        return jnp.where(count > 1, masked_median(means, members), jnp.inf)

    similarities = jax.vmap(similarity)(jnp.arange(most))
    several = jnp.any(jnp.isfinite(similarities))
    cluster = jnp.where(several, inside(labels == jnp.argmin(similarities), last_limit), passed)
    update, selected = mean_of_rows(cluster, updates)
    return jnp.where(jnp.any(cluster), update, 0.0), {"selected": selected}
