"""HDBSCAN on a matrix of distances, compiled: static shapes, no randomness, O(n²) in all."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

# Densities are 1/distance in units of 1/(largest distance); above that they do not tell points apart.
DENSEST = 1e12


class _Tree(NamedTuple):
    """Single linkage of n points: nodes 0 to n − 1 are points, the others joined two, in order of height.

    Attributes:
        children: (n − 1, 2) int32, the nodes that node n + i joined.
        heights: (n − 1,).
        sizes: (2n − 1,) int32, how many valid points there are under every node.
    """

    children: Array
    heights: Array
    sizes: Array


class _Condensed(NamedTuple):
    """The tree without the splits that leave a small part; a cluster has the name of the node it begins at.

    Attributes:
        cluster: (2n − 1,) int32, the cluster that a node is in, or was in before it left.
        left: (2n − 1,) the density at which a node has left its cluster; −1 while it is in it.
        parent: (2n − 1,) int32, the cluster that a cluster was split from, itself for the root; −1 for a
            node that no cluster begins at.
        birth: (2n − 1,) the density at which a cluster begins.
        stability: (2n − 1,).
        densest: (2n − 1,) the largest density at which something happened in a cluster.
    """

    cluster: Array
    left: Array
    parent: Array
    birth: Array
    stability: Array
    densest: Array


def _spanning_tree(distances: Array) -> tuple[Array, Array, Array]:
    """The edges (n − 1,) of a minimum spanning tree, shortest first: both ends and the lengths."""
    n = distances.shape[0]

    def join(i: Array, state: tuple[Array, ...]) -> tuple[Array, ...]:
        joined, step, current, ends, others, lengths = state
        new = jnp.argmin(jnp.where(joined, jnp.inf, step))
        # Where all others are infinitely far, the argmin may be one that has joined.
        new = jnp.where(joined[new], jnp.argmin(joined), new).astype(jnp.int32)
        # The one before it stands for the nearest: at no height does that change what hangs together. So do
        # the packages, which decides among clusters where distances tie.
        ends, others = ends.at[i].set(current), others.at[i].set(new)
        lengths = lengths.at[i].set(step[new])
        return joined.at[new].set(True), jnp.minimum(step, distances[new]), new, ends, others, lengths

    none = jnp.zeros((n - 1,), jnp.int32)
    start = (
        jnp.arange(n) == 0,
        distances[0],
        jnp.zeros((), jnp.int32),
        none,
        none,
        jnp.zeros((n - 1,), distances.dtype),
    )
    _, _, _, ends, others, lengths = jax.lax.fori_loop(0, n - 1, join, start)
    order = jnp.argsort(lengths)
    return ends[order], others[order], lengths[order]


def _single_linkage(distances: Array, valid: Array) -> _Tree:
    n = distances.shape[0]
    ends, others, lengths = _spanning_tree(distances)

    def join(i: Array, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        node_of, children, sizes = state
        one, other = node_of[ends[i]], node_of[others[i]]
        node_of = jnp.where((node_of == one) | (node_of == other), n + i, node_of).astype(jnp.int32)
        return (
            node_of,
            children.at[i].set(jnp.stack([one, other])),
            sizes.at[n + i].set(sizes[one] + sizes[other]),
        )

    sizes = jnp.zeros((2 * n - 1,), jnp.int32).at[:n].set(valid)
    start = jnp.arange(n, dtype=jnp.int32), jnp.zeros((n - 1, 2), jnp.int32), sizes
    _, children, sizes = jax.lax.fori_loop(0, n - 1, join, start)
    return _Tree(children, lengths, sizes)


def _densities(heights: Array) -> Array:
    finite = jnp.isfinite(heights)
    largest = jnp.max(jnp.where(finite, heights, 0.0), initial=0.0)
    relative = heights / jnp.where(largest > 0, largest, 1.0)
    return jnp.where(finite, 1.0 / jnp.maximum(relative, 1.0 / DENSEST), 0.0)


def _condense(tree: _Tree, smallest: int) -> _Condensed:
    num_nodes = tree.sizes.shape[0]
    n, root = (num_nodes + 1) // 2, num_nodes - 1
    densities = _densities(tree.heights)

    def split(i: Array, state: _Condensed) -> _Condensed:
        node = root - i
        density = densities[node - n]
        cluster, left = state.cluster[node], state.left[node]
        inside = left < 0
        pair = tree.children[node - n]
        sizes = tree.sizes[pair]
        large = sizes >= smallest
        founds = inside & jnp.all(large)
        leaves = inside & ~large
        lost = jnp.where(founds | leaves, sizes, 0)
        age = density - state.birth[cluster]
        happened = inside & jnp.any(lost > 0)
        seen = jnp.where(happened, density, -1.0)
        return _Condensed(
            state.cluster.at[pair].set(jnp.where(founds, pair, cluster)),
            state.left.at[pair].set(jnp.where(inside, jnp.where(leaves, density, -1.0), left)),
            state.parent.at[pair].set(jnp.where(founds, cluster, -1)),
            state.birth.at[pair].set(jnp.where(founds, density, 0.0)),
            state.stability.at[cluster].add(age * jnp.sum(lost)),
            state.densest.at[cluster].max(seen),
        )

    zeros = jnp.zeros((num_nodes,), densities.dtype)
    none = jnp.full((num_nodes,), -1, jnp.int32)
    start = _Condensed(
        jnp.full((num_nodes,), root, jnp.int32),
        zeros - 1.0,
        none.at[root].set(root),
        zeros,
        zeros,
        zeros - 1.0,
    )
    return jax.lax.fori_loop(0, n - 1, split, start)


def _owners(condensed: _Condensed, allow_single_cluster: bool) -> Array:
    """The chosen cluster that every cluster belongs to, −1 for none; chosen by excess of mass."""
    num_nodes = condensed.cluster.shape[0]
    n, root = (num_nodes + 1) // 2, num_nodes - 1
    dtype = condensed.stability.dtype

    def rate(node: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        below, worth = state
        parent, own = condensed.parent[node], condensed.stability[node]
        there = (parent >= 0) & (allow_single_cluster | (node != root))
        worth = worth.at[node].set(there & (own >= below[node]))
        # The root gives nothing to another.
        given = jnp.where((parent >= 0) & (node != root), jnp.maximum(own, below[node]), 0.0)
        return below.at[jnp.maximum(parent, 0)].add(given), worth

    start = jnp.zeros((num_nodes,), dtype), jnp.zeros((num_nodes,), bool)
    _, worth = jax.lax.fori_loop(n, num_nodes, rate, start)

    def own(i: Array, owner: Array) -> Array:
        node = root - i
        parent = condensed.parent[node]
        above = jnp.where((parent >= 0) & (node != root), owner[jnp.maximum(parent, 0)], -1)
        mine = jnp.where(above >= 0, above, jnp.where(worth[node], node, -1))
        return owner.at[node].set(mine.astype(jnp.int32))

    return jax.lax.fori_loop(0, n - 1, own, jnp.full((num_nodes,), -1, jnp.int32))


def hdbscan(
    distances: Array,
    valid: Array,
    *,
    min_cluster_size: int,
    min_samples: int,
    allow_single_cluster: bool = False,
) -> Array:
    """HDBSCAN's clusters of points, from their distances.

    A point's core distance is that to its k-th nearest other point, k = `min_samples`; two points are as far
    from each other as the largest of both core distances and their distance. Single linkage is cut where both
    parts keep `min_cluster_size` points; of the clusters, those are chosen whose excess of mass
    Σ (λ_leave − λ_birth), λ = 1/distance, is at least that of the chosen ones inside them.

    Args:
        distances: (n, n) symmetric, 0 on the diagonal; +inf is farther than anything else.
        valid: (n,) bool; another point is in no cluster and nobody's neighbour.
        min_cluster_size: at least 2.
        min_samples: k, at least 1, the point itself not counted; at most as many as there are others.
        allow_single_cluster: whether all points may be one cluster, which has those that leave it last.

    Returns:
        (n,) int32: the lowest point of every point's cluster, −1 for noise.

    Example:
        >>> points = jnp.array([0.0, 0.1, 0.25, 3.0, 3.2, 3.3, 9.0])
        >>> apart, every = jnp.abs(points[:, None] - points), jnp.ones(7, bool)
        >>> hdbscan(apart, every, min_cluster_size=3, min_samples=1).tolist()
        [0, 0, 0, 3, 3, 3, -1]

    Source: Campello, Moulavi, Sander, "Density-based clustering based on hierarchical density estimates",
    PAKDD 2013. The package `hdbscan` counts k like this, scikit-learn's class counts the point itself too.
    """
    n = distances.shape[0]
    if n == 1:
        return jnp.full((1,), -1, jnp.int32)
    pairs = valid[:, None] & valid[None, :]
    distances = jnp.where(pairs, distances, jnp.inf)
    farthest = jnp.clip(jnp.minimum(min_samples, jnp.sum(valid) - 1), 0, n - 1)
    core = jnp.take(jnp.sort(distances, axis=1), farthest, axis=1)
    reach = jnp.maximum(distances, jnp.maximum(core[:, None], core[None, :]))
    reach = jnp.where(jnp.eye(n, dtype=bool), 0.0, reach)
    condensed = _condense(_single_linkage(reach, valid), min_cluster_size)
    owner = _owners(condensed, allow_single_cluster)
    root = 2 * n - 2
    mine = owner[condensed.cluster[:n]]
    leaves_last = condensed.left[:n] >= condensed.densest[root]
    inside = valid & (mine >= 0) & ((mine != root) | leaves_last)
    lowest = jnp.full((2 * n - 1,), n, jnp.int32)
    lowest = lowest.at[jnp.where(inside, mine, 0)].min(jnp.where(inside, jnp.arange(n, dtype=jnp.int32), n))
    return jnp.where(inside, lowest[jnp.where(inside, mine, 0)], -1)
