"""Mean-shift clustering of a few features per row, compiled: static shapes, no randomness.

The flat kernel, the binned seeds, the removal of duplicate centres and the labels are those of scikit-learn's
`MeanShift(bin_seeding=True, cluster_all=False)`, which the SignGuard authors use.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from fljax.numerics.blocks import map_blocks, rows_of
from fljax.numerics.checks import Float
from fljax.numerics.safe import dot

# Seeds that climb at the same time: all of them for small n, little memory for large n.
SEEDS_PER_STEP = 128
MAX_ITERATIONS = 300
# A centre that moves less than this share of the bandwidth has arrived.
ARRIVED = 1e-3
# Sign statistics are ratios of small counts, so distances equal to the bandwidth are common, and so are equal
# points with a bandwidth of 0: rounding must not decide what is inside.
SLACK = 1e-5


class Clusters(NamedTuple):
    """Clusters in decreasing order of the number of points around their centre.

    Attributes:
        labels: (n,) int32, the cluster of every point; −1 for an orphan and for an excluded point.
        sizes: (n,) int32, how many points carry each label; 0 beyond the last cluster.
    """

    labels: Array
    sizes: Array


def _squares(points: Array, center: Array) -> Array:
    return jnp.sum(jnp.square(points - center), axis=-1)


def bandwidth_of(points: Array, valid: Array, quantile: Float) -> Array:
    """Mean distance of the m valid points from their ⌊quantile · m⌋-th nearest, themselves included.

    Args:
        points: (n, k) finite.
        valid: (n,) bool, which points count.
        quantile: 0.5 for the distance that has half of the points inside; may be traced.

    Returns:
        Scalar, more by a share of `SLACK`, and not below that share of the largest coordinate. At least the
        nearest other point counts: for few points scikit-learn's `estimate_bandwidth` returns 0, which its
        `MeanShift` refuses.
    """
    n = points.shape[0]
    squares = jax.vmap(lambda point: _squares(points, point))(points)
    nearest = jnp.sort(jnp.where(valid, squares, jnp.inf), axis=1)
    count = jnp.sum(valid)
    neighbors = jnp.clip(jnp.floor(count * quantile).astype(jnp.int32), 2, count)
    reach = jnp.take(nearest, jnp.clip(neighbors - 1, 0, n - 1), axis=1)
    total = jnp.sum(jnp.where(valid & jnp.isfinite(reach), jnp.sqrt(reach), 0.0))
    floor = SLACK * jnp.max(jnp.where(valid[:, None], jnp.abs(points), 0.0))
    return jnp.maximum((1 + SLACK) * total / jnp.maximum(count, 1), floor)


def _seeds(points: Array, valid: Array, bandwidth: Array) -> tuple[Array, Array]:
    """The occupied grid points, first in the result, and their number; the points if no two share one."""
    width = jnp.where(bandwidth > 0, bandwidth, 1.0)
    bins = jnp.where(bandwidth > 0, jnp.round(points / width), points)
    order = jnp.lexsort((*bins.T, ~valid))
    bins, points, valid = bins[order], points[order], valid[order]
    repeated = jnp.all(bins == jnp.roll(bins, 1, axis=0), axis=1) & (jnp.arange(len(bins)) > 0)
    first = valid & ~repeated
    num_seeds = jnp.sum(first)
    as_points = (num_seeds == jnp.sum(valid)) | (bandwidth == 0)
    seeds = jnp.where(as_points, points, bins * width)
    return seeds[jnp.argsort(~first)], num_seeds


def _climb(seeds: Array, points: Array, valid: Array, bandwidth: Array) -> tuple[Array, Array]:
    """The places where seeds rest that move to the mean of the points around them, and the points there."""

    def step(state: tuple[Array, ...]) -> tuple[Array, ...]:
        iteration, centers, counts, resting = state
        inside = jnp.zeros((seeds.shape[0], points.shape[0]), points.dtype)
        for j in range(points.shape[1]):
            inside = inside + jnp.square(centers[:, j, None] - points[None, :, j])
        inside = (inside <= jnp.square(bandwidth)) & valid
        new_counts = jnp.sum(inside, axis=1, dtype=jnp.int32)
        totals = dot(inside.astype(points.dtype), points)
        means = totals / jnp.maximum(new_counts, 1)[:, None]
        rests = (jnp.sqrt(_squares(means, centers)) <= ARRIVED * bandwidth) | (new_counts == 0)
        centers = jnp.where((resting | (new_counts == 0))[:, None], centers, means)
        counts = jnp.where(resting, counts, new_counts)
        return iteration + 1, centers, counts, resting | rests

    def moving(state: tuple[Array, ...]) -> Array:
        iteration, _, _, resting = state
        return (iteration <= MAX_ITERATIONS) & ~jnp.all(resting)

    counts = jnp.zeros(seeds.shape[:1], jnp.int32)
    start: tuple[Array, ...] = (jnp.zeros((), jnp.int32), seeds, counts, counts > 0)
    _, centers, counts, _ = jax.lax.while_loop(moving, step, start)
    return centers, counts


def mean_shift(points: Array, valid: Array, bandwidth: Array) -> Clusters:
    """Cluster points by climbing to the centres of their density, with a flat kernel.

    Seeds are the grid points, spaced `bandwidth` apart, that have a point next to them. Each moves to the
    mean of the points within `bandwidth` until it rests. Of centres closer than `bandwidth` the one with
    more points around it stays (at a tie the lexicographically larger one). A point belongs to the nearest
    centre (at a tie the one with more points around it) if that is within `bandwidth`, else to none.

    Args:
        points: (n, k) finite, k small.
        valid: (n,) bool, which points count.
        bandwidth: scalar ≥ 0; with 0 only identical points share a cluster.

    Returns:
        `Clusters`.

    Example:
        >>> points = jnp.array([[1.0], [1.1], [5.0], [1.2], [5.1], [9.0]])
        >>> mean_shift(points, jnp.arange(6) < 5, jnp.float32(1.0)).labels.tolist()
        [0, 0, 1, 0, 1, -1]

    Source: Comaniciu, Meer, "Mean shift: a robust approach toward feature space analysis", TPAMI 2002.
    """
    n = points.shape[0]
    points = jnp.where(valid[:, None], points, 0.0)
    seeds, num_seeds = _seeds(points, valid, bandwidth)

    def climb(ids: Array) -> tuple[Array, Array]:
        return _climb(rows_of(seeds, ids[0], ids.shape[0]), points, valid, bandwidth)

    centers, counts = map_blocks(climb, n, SEEDS_PER_STEP, num_seeds)
    counts = jnp.where(jnp.arange(len(counts)) < num_seeds, counts, 0)
    order = jnp.lexsort((*centers.T[::-1], counts))[::-1]
    centers, counts = centers[order], counts[order]

    def label(i: Array, state: tuple[Array, ...]) -> tuple[Array, ...]:
        kept, number, labels, nearest = state
        keep = kept[i]
        duplicate = (_squares(centers, centers[i]) <= jnp.square(bandwidth)) & (jnp.arange(len(kept)) > i)
        squares = _squares(points, centers[i])
        # Halfway between two centres is common, too: the denser one, which comes first, keeps the point.
        closer = keep & (squares < (1 - SLACK) * nearest)
        return (
            kept & ~(keep & duplicate),
            number + keep,
            jnp.where(closer, number, labels),
            jnp.where(closer, squares, nearest),
        )

    start = (
        counts > 0,
        jnp.zeros((), jnp.int32),
        jnp.zeros((n,), jnp.int32),
        jnp.full((n,), jnp.inf, points.dtype),
    )
    _, _, labels, nearest = jax.lax.fori_loop(0, num_seeds, label, start)
    inside = valid & (nearest <= jnp.square(bandwidth))
    sizes = jnp.zeros((n,), jnp.int32).at[labels].add(inside.astype(jnp.int32))
    return Clusters(jnp.where(inside, labels, -1), sizes)


def largest_cluster(points: Array, valid: Array, bandwidth: Array) -> Array:
    """The points of the largest mean-shift cluster, (n,) bool; at a tie the one with the denser centre."""
    clusters = mean_shift(points, valid, bandwidth)
    return clusters.labels == jnp.where(jnp.any(valid), jnp.argmax(clusters.sizes), -2)
