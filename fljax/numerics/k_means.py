"""k-means without randomness: exact for numbers, from distances for points; and the number of clusters."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from fljax.numerics.safe import dot

MAX_STEPS = 50
# Sums of squares below that share of the largest count as that: the logarithm of 0 would not.
SMALLEST_SHARE = 1e-12


class Lines(NamedTuple):
    """Exact k-means of numbers for k = 1, 2, …; see `clusters_of_numbers`.

    Attributes:
        sums: (K,) the within-cluster sums of squares W_k.
        cuts: (K, n) int32, for k clusters of the first j + 1 sorted numbers the place where the last begins.
    """

    sums: Array
    cuts: Array


def _costs(ordered: Array, count: Array) -> Array:
    """The sum of squares of the sorted numbers i to j around their mean, (n, n); 0 beyond the valid ones."""
    n = ordered.shape[0]
    begin = jnp.arange(n)

    def add(state: tuple[Array, Array], j: Array) -> tuple[tuple[Array, Array], Array]:
        # One number more: no difference of large sums, so that a narrow cluster keeps its digits.
        mean, cost = state
        size = (j - begin).astype(ordered.dtype)
        inside = (begin <= j) & (j < count)
        away = ordered[j] - mean
        cost = jnp.where(inside & (begin < j), cost + jnp.square(away) * size / (size + 1), cost)
        mean = jnp.where(inside, jnp.where(begin < j, mean + away / (size + 1), ordered[j]), mean)
        return (mean, cost), jnp.where(begin <= j, cost, 0.0)

    start = jnp.zeros_like(ordered), jnp.zeros_like(ordered)
    return jax.lax.scan(add, start, begin)[1].T


def clusters_of_numbers(ordered: Array, count: Array, most: int) -> Lines:
    """The best clusters of numbers, for 1 to `most` of them, by dynamic programming over the sorted numbers.

    Args:
        ordered: (n,) sorted; those from `count` on do not count.
        count: scalar, at least 1.
        most: K ≤ 10 or so: the work is K n².
    """
    n = ordered.shape[0]
    costs = _costs(jnp.where(jnp.arange(n) < count, ordered, 0.0), count)
    begin = jnp.arange(n)
    best = costs[0]
    sums, cuts = [best], [jnp.zeros((n,), jnp.int32)]
    for _ in range(1, most):
        # The last cluster begins at i: what the others cost is that of the numbers before it.
        before = jnp.where(begin > 0, jnp.roll(best, 1), 0.0)
        total = jnp.where(begin[:, None] <= begin, before[:, None] + costs, jnp.inf)
        cut = jnp.argmin(total, axis=0)
        best = jnp.take_along_axis(total, cut[None], axis=0)[0]
        sums.append(best)
        cuts.append(cut.astype(jnp.int32))
    last = jnp.maximum(count - 1, 0)
    return Lines(jnp.stack(sums)[:, last], jnp.stack(cuts))


def upper_of_two(values: Array, valid: Array) -> Array:
    """The valid numbers of the upper one of two clusters, (n,) bool; all of them where they are alike.

    The sorted numbers are cut where the sum of squares is smallest, of equal places at the lowest.
    """
    n = values.shape[0]
    ordered = jnp.sort(jnp.where(valid, values, jnp.inf))
    count = jnp.sum(valid)
    cut = clusters_of_numbers(ordered, count, 2).cuts[1, jnp.maximum(count - 1, 0)]
    return valid & (values >= ordered[jnp.minimum(cut, n - 1)])


def _log_sums(values: Array, valid: Array, most: int) -> Array:
    """The logarithms of W_1, …, W_most of the valid numbers scaled to [0, 1]."""
    count = jnp.sum(valid)
    low = jnp.min(jnp.where(valid, values, jnp.inf))
    high = jnp.max(jnp.where(valid, values, -jnp.inf))
    apart = high > low
    scaled = (values - low) / jnp.where(apart, high - low, 1.0)
    ordered = jnp.sort(jnp.where(valid, jnp.where(apart, scaled, 0.0), jnp.inf))
    sums = clusters_of_numbers(ordered, count, most).sums
    return jnp.log(jnp.maximum(sums, SMALLEST_SHARE))


def number_of_clusters(values: Array, valid: Array, *, most: int = 7, num_draws: int = 10) -> Array:
    """The number of clusters of numbers by the gap statistic, an int32 scalar from 1 to `most`.

    With W_k the within-cluster sum of squares of the values scaled to [0, 1], and W_k^b that of uniform
    draws of as many numbers, Gap(k) = log mean_b W_k^b − log W_k. The answer is the smallest k with
    Gap(k) ≥ Gap(k + 1) − √(1 + 1/B) · σ_b(log W_{k+1}^b). The draws are the same in every call.

    Args:
        values: (n,).
        valid: (n,) bool.
        most: the largest answer.
        num_draws: B.

    Source: Tibshirani, Walther, Hastie, "Estimating the number of clusters in a data set via the gap
    statistic", JRSS B 2001, which has the mean of the logarithms; in the form of FLDetector.
    """
    n = values.shape[0]
    draws = jax.random.uniform(jax.random.key(0), (num_draws, n), jnp.float32).astype(values.dtype)
    enough = jnp.arange(n) < jnp.sum(valid)
    drawn = jax.vmap(lambda draw: _log_sums(draw, enough, most + 1))(draws)
    own = _log_sums(values, valid, most + 1)
    gaps = jnp.log(jnp.mean(jnp.exp(drawn), axis=0)) - own
    slack = jnp.sqrt(1 + 1 / num_draws) * jnp.std(drawn, axis=0)
    enough_clusters = gaps[:-1] >= gaps[1:] - slack[1:]
    return jnp.where(jnp.any(enough_clusters), jnp.argmax(enough_clusters) + 1, most).astype(jnp.int32)


def k_means(squares: Array, valid: Array, num_clusters: int) -> Array:
    """Lloyd's k-means of points from their squared distances alone, (n,) int32 labels, −1 for invalid ones.

    The distance of a point from the mean of a set S is mean_S D_ij − ½ mean_SS D, so that points of any
    width cost n² numbers. The first seed is the valid point farthest from the mean of all, every other one
    the point farthest from its nearest seed, ties to the lowest row; then at most 50 steps. An empty cluster
    keeps its centre.

    Args:
        squares: (n, n) squared distances, finite among valid points.
        valid: (n,) bool.
        num_clusters: k.

    Example:
        >>> points = jnp.array([0.0, 1.0, 8.0, 9.0, 10.0])
        >>> k_means(jnp.square(points[:, None] - points), jnp.ones(5, bool), 2).tolist()
        [0, 0, 1, 1, 1]
    """
    n = squares.shape[0]
    squares = jnp.where(valid[:, None] & valid[None, :], squares, 0.0)
    mean_distance = jnp.where(valid, jnp.sum(squares, axis=1), -jnp.inf)
    first = jnp.argmax(mean_distance)

    def seed(i: int, state: tuple[Array, Array]) -> tuple[Array, Array]:
        seeds, nearest = state
        new = jnp.argmax(jnp.where(valid, nearest, -jnp.inf))
        return seeds.at[i].set(new.astype(jnp.int32)), jnp.minimum(nearest, squares[new])

    seeds = jnp.zeros((num_clusters,), jnp.int32).at[0].set(first.astype(jnp.int32))
    seeds, _ = jax.lax.fori_loop(1, num_clusters, seed, (seeds, squares[first]))
    centers = jnp.zeros((num_clusters, n), squares.dtype).at[jnp.arange(num_clusters), seeds].set(1.0)

    def label(centers: Array) -> Array:
        away = dot(centers, squares)
        away = away - 0.5 * jnp.sum(away * centers, axis=1, keepdims=True)
        return jnp.argmin(away, axis=0).astype(jnp.int32)

    def step(state: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        number, centers, labels, _ = state
        members = (labels == jnp.arange(num_clusters)[:, None]) & valid
        sizes = jnp.sum(members, axis=1, keepdims=True)
        centers = jnp.where(sizes > 0, members / jnp.maximum(sizes, 1).astype(centers.dtype), centers)
        changed = label(centers)
        return number + 1, centers, changed, jnp.any((changed != labels) & valid)

    def moves(state: tuple[Array, Array, Array, Array]) -> Array:
        return (state[0] < MAX_STEPS) & state[3]

    start = jnp.zeros((), jnp.int32), centers, label(centers), jnp.ones((), bool)
    labels = jax.lax.while_loop(moves, step, start)[2]
    return jnp.where(valid, labels, -1)
