"""Clusters of rows from their distances, by joining the nearest."""

from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array

Linkage = Literal["average", "complete", "single"]

# Distances that differ by that share are equal: rounding must not decide which rows are joined.
SLACK = 1e-5


def bottlenecks(distances: Array) -> Array:
    """The largest step of the path between two points whose largest step is smallest, (n, n).

    M_ij ≤ t says that single linkage at height t has i and j in one cluster. Points join one by one, the
    nearest first (Prim's algorithm): a new one is as far from the others as its nearest, or as the step to
    it. O(n²) in all.

    Args:
        distances: (n, n) symmetric, 0 on the diagonal, +inf from a point that does not count.

    Example:
        >>> points = jnp.array([0.0, 1.0, 5.0, 7.0])
        >>> bottlenecks(jnp.abs(points[:, None] - points)).tolist()[0]
        [0.0, 1.0, 4.0, 4.0]
    """
    n = distances.shape[0]

    def join(_: int, state: tuple[Array, ...]) -> tuple[Array, ...]:
        joined, step, nearest, found = state
        new = jnp.argmin(jnp.where(joined, jnp.inf, step))
        # Where all others are infinitely far, the argmin may be one that has joined.
        new = jnp.where(joined[new], jnp.argmin(joined), new).astype(jnp.int32)
        row = jnp.where(joined, jnp.maximum(found[nearest[new]], step[new]), found[new])
        found = found.at[new].set(row).at[:, new].set(row)
        closer = distances[new] < step
        step = jnp.where(closer, distances[new], step)
        return joined.at[new].set(True), step, jnp.where(closer, new, nearest), found

    first = jnp.arange(n) == 0
    alone = jnp.where(jnp.eye(n, dtype=bool), 0.0, jnp.inf).astype(distances.dtype)
    start = first, distances[0], jnp.zeros((n,), jnp.int32), alone
    return jax.lax.fori_loop(1, n, join, start)[-1]


def majority_component(distances: Array, valid: Array) -> Array:
    """The first cluster of single linkage that has more than half of the valid points, (n,) bool.

    The points are joined in the order of their distances until that many hang together; what joins at the
    same distance belongs to it. It is what HDBSCAN finds with `min_cluster_size` ⌊n/2⌋ + 1, `min_samples` 1
    and a single cluster allowed: no split can leave two children of that size.

    Args:
        distances: (n, n) symmetric, 0 on the diagonal.
        valid: (n,) bool.

    Returns:
        (n,) bool; all valid points where n ≤ 2, and where the two halves of an even number are joined last.

    Example:
        >>> points = jnp.array([0.0, 0.5, 1.0, 9.0, 9.2])
        >>> majority_component(jnp.abs(points[:, None] - points), jnp.ones(5, bool)).tolist()
        [True, True, True, False, False]
    """
    pairs = valid[:, None] & valid[None, :]
    apart = bottlenecks(jnp.where(pairs, distances, jnp.inf))
    apart = jnp.where(pairs, apart, jnp.inf)
    most = jnp.sum(valid) // 2
    heights = jnp.take(jnp.sort(apart, axis=1), most, axis=1, mode="clip")
    center = jnp.argmin(heights)
    return valid & (apart[center] <= (1 + SLACK) * heights[center])


def two_clusters(distances: Array, valid: Array, linkage: Linkage = "average") -> Array:
    """The two clusters that agglomeration ends with, (n,) int32.

    The nearest two clusters become one until two are left. The distance of clusters is the mean of those of
    their points ("average"), the largest ("complete") or the smallest ("single"). Of equally near pairs that
    of the lowest rows is joined.

    Args:
        distances: (n, n) symmetric.
        valid: (n,) bool.
        linkage: how far clusters are from each other.

    Returns:
        The lowest row of every valid point's cluster; −1 for another point.

    Example:
        >>> points = jnp.array([0.0, 9.0, 1.0, 8.0, 1.5])
        >>> two_clusters(jnp.abs(points[:, None] - points), jnp.ones(5, bool)).tolist()
        [0, 1, 0, 1, 0]
    """
    n = distances.shape[0]
    rows = jnp.arange(n, dtype=jnp.int32)
    pairs = valid[:, None] & valid[None, :] & ~jnp.eye(n, dtype=bool)
    above = rows[:, None] < rows[None, :]

    def join(_: int, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        apart, labels, sizes = state
        nearest = jnp.min(apart)
        pair = jnp.argmax(above & (apart <= (1 + SLACK) * nearest)).astype(jnp.int32)
        kept, gone = pair // n, pair % n
        one, other = apart[kept], apart[gone]
        if linkage == "average":
            share = sizes[kept] / (sizes[kept] + sizes[gone])
            merged = share * one + (1 - share) * other
        else:
            merged = jnp.maximum(one, other) if linkage == "complete" else jnp.minimum(one, other)
        left = jnp.isfinite(one) & jnp.isfinite(other)
        merged = jnp.where(left, merged, jnp.inf)
        apart = apart.at[kept].set(merged).at[:, kept].set(merged)
        apart = apart.at[gone].set(jnp.inf).at[:, gone].set(jnp.inf)
        sizes = sizes.at[kept].add(sizes[gone]).at[gone].set(0)
        return apart, jnp.where(labels == gone, kept, labels), sizes

    start = (
        jnp.where(pairs, distances, jnp.inf),
        jnp.where(valid, rows, -1),
        valid.astype(distances.dtype),
    )
    return jax.lax.fori_loop(0, jnp.sum(valid) - 2, join, start)[1]


def largest_label(labels: Array) -> Array:
    """The points of the most frequent label, (n,) bool; of equally frequent ones the lowest, never −1.

    Args:
        labels: (n,) int32 from −1 to n − 1.
    """
    n = labels.shape[0]
    sizes = jnp.zeros((n,), jnp.int32).at[labels].add(jnp.where(labels >= 0, 1, 0), mode="drop")
    return (labels == jnp.argmax(sizes)) & (labels >= 0)
