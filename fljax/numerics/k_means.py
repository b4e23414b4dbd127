"""k-means without randomness: exact for numbers, by Lloyd's steps for points; and the number of clusters."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from fljax.numerics.checks import Int
from fljax.numerics.safe import dot

MAX_STEPS = 50
# Sums of squares below that share of the largest count as that: the logarithm of 0 would not.
SMALLEST_SHARE = 1e-12


# A number of steps, centres as shares of the points, labels, squared distances, whether labels changed.
_Steps = tuple[Array, Array, Array, Array, Array]


# The sum of the smaller values, the largest worth of a division, and how far its centres are apart.
_Divided = tuple[Array, Array, Array]


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


def cluster_gaps(updates: Array, valid: Array) -> Array:
    """How far the centres of the best two clusters of every coordinate are from each other, (d,).

    The best division of sorted numbers into n_1 and n_2 has the largest n_1 n_2 (μ_2 − μ_1)², of equal ones
    the lowest.

    Args:
        updates: (n, d).
        valid: (n,) bool, the rows that count.
    """
    count = jnp.sum(valid).astype(updates.dtype)
    ordered = jnp.sort(jnp.where(valid[:, None], updates, jnp.inf), axis=0)
    sizes = jnp.arange(1, len(updates) + 1, dtype=updates.dtype)
    # As shares of the whole mean, above the smallest: sums neither overflow nor cancel.
    above = jnp.where((sizes <= count)[:, None], ordered - ordered[0], 0.0) / jnp.maximum(count, 1.0)
    total = jnp.sum(above, axis=0)

    def add(state: _Divided, given: tuple[Array, Array]) -> tuple[_Divided, None]:
        left, best, gap = state
        row, size = given
        left = left + row
        rest = count - size
        apart = count * ((total - left) / jnp.maximum(rest, 1.0) - left / size)
        worth = jnp.where(rest > 0, jnp.sqrt(size * jnp.maximum(rest, 0.0)) * apart, 0.0)
        better = worth > best
        return (left, jnp.where(better, worth, best), jnp.where(better, apart, gap)), None

    zeros = jnp.zeros(updates.shape[1:], updates.dtype)
    return jax.lax.scan(add, (zeros, zeros, zeros), (above, sizes))[0][2]


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
    return _smallest_enough(jnp.log(jnp.mean(jnp.exp(drawn), axis=0)) - own, drawn)


def _smallest_enough(gaps: Array, drawn: Array) -> Array:
    """The smallest k with Gap(k) ≥ Gap(k + 1) − s_{k + 1}, from the draws' log W^b (B, K); else the last."""
    slack = jnp.sqrt(1 + 1 / len(drawn)) * jnp.std(drawn, axis=0)
    enough = gaps[:-1] >= gaps[1:] - slack[1:]
    return jnp.where(jnp.any(enough), jnp.argmax(enough) + 1, len(enough)).astype(jnp.int32)


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
    squares = jnp.where(valid[:, None] & valid[None, :], squares, 0.0)

    def away(shares: Array) -> Array:
        apart = dot(shares, squares)
        return apart - 0.5 * jnp.sum(apart * shares, axis=1, keepdims=True)

    return jnp.where(valid, _lloyd(away, valid, squares.dtype, num_clusters, num_clusters)[0], -1)


# Outside jit, too, JAX meets the same function again and compiles it once.
@partial(jax.jit, static_argnames="most")
def k_means_of_points(points: Array, valid: Array, num_clusters: Int, most: int) -> tuple[Array, Array]:
    """`k_means` of points in few dimensions, for a number of clusters that may be traced.

    Args:
        points: (n, p), finite where valid.
        valid: (n,) bool.
        num_clusters: k, from 1 to `most`.
        most: the largest k.

    Returns:
        (n,) int32 labels, −1 for invalid points, and the within-cluster sum of squares.
    """
    points = jnp.where(valid[:, None], points, 0.0)

    def away(shares: Array) -> Array:
        return jnp.sum(jnp.square(points - dot(shares, points)[:, None]), axis=2)

    labels, squares = _lloyd(away, valid, points.dtype, num_clusters, most)
    return jnp.where(valid, labels, -1), jnp.sum(jnp.where(valid, squares, 0.0))


@partial(jax.jit, static_argnames=("most", "num_draws"))
def number_of_point_clusters(points: Array, valid: Array, *, most: int = 9, num_draws: int = 5) -> Array:
    """The number of clusters of points by the gap statistic, an int32 scalar from 1 to `most`.

    As `number_of_clusters`, with every coordinate scaled to [0, 1], uniform draws in the unit cube, W_k by
    `k_means_of_points`, and Gap(k) = mean_b log W_k^b − log W_k, as the source has it.

    Args:
        points: (n, p), finite where valid.
        valid: (n,) bool, at least one.
        most: the largest answer.
        num_draws: B.
    """
    low = jnp.min(jnp.where(valid[:, None], points, jnp.inf), axis=0)
    width = jnp.max(jnp.where(valid[:, None], points, -jnp.inf), axis=0) - low
    scaled = (points - low) / jnp.where(width > 0, width, 1.0)
    drawn = jax.random.uniform(jax.random.key(0), (num_draws, *points.shape), jnp.float32)
    enough = jnp.arange(points.shape[0]) < jnp.sum(valid)
    stacks = jnp.concatenate([jnp.where(valid[:, None], scaled, 0.0)[None], drawn.astype(points.dtype)])
    masks = jnp.concatenate([valid[None], jnp.broadcast_to(enough, (num_draws, *valid.shape))])

    def log_sums(points: Array, valid: Array) -> Array:
        numbers = jnp.arange(1, most + 1)
        sums = jax.vmap(lambda k: k_means_of_points(points, valid, k, most)[1])(numbers)
        return jnp.log(jnp.maximum(sums, SMALLEST_SHARE))

    sums = jax.vmap(log_sums)(stacks, masks)
    gaps = jnp.mean(sums[1:], axis=0) - sums[0]
    # Not enough below the last: the last.
    return _smallest_enough(jnp.append(gaps, -jnp.inf), jnp.pad(sums[1:], ((0, 0), (0, 1))))


def _lloyd(
    away: Callable[[Array], Array], valid: Array, dtype: jnp.dtype, num_clusters: Int, most: int
) -> tuple[Array, Array]:
    """Labels (n,) of Lloyd's steps, and every point's squared distance from its centre.

    Args:
        away: from shares (c, n), each row of sum 1, to the squared distances (c, n) of all points from the
            means that these are.
        valid: (n,) bool.
        dtype: of the shares.
        num_clusters: k, from 1 to `most`; may be traced.
        most: the largest k.
    """
    n, numbers = valid.shape[0], jnp.arange(most)

    def one(row: Array) -> Array:
        return (jnp.arange(n) == row)[None].astype(dtype)

    def from_all() -> Array:
        return away(valid[None].astype(dtype) / jnp.maximum(jnp.sum(valid), 1).astype(dtype))[0]

    def farthest(distances: Array) -> Array:
        return jnp.argmax(jnp.where(valid, distances, -jnp.inf))

    def seed(i: int, state: tuple[Array, Array]) -> tuple[Array, Array]:
        centers, nearest = state
        new = one(farthest(nearest))
        return centers.at[i].set(new[0]), jnp.minimum(nearest, away(new)[0])

    first = one(farthest(from_all()))
    centers = jnp.zeros((most, n), dtype).at[0].set(first[0])
    centers, _ = jax.lax.fori_loop(1, most, seed, (centers, away(first)[0]))

    def label(centers: Array) -> tuple[Array, Array]:
        distances = jnp.where((numbers < num_clusters)[:, None], away(centers), jnp.inf)
        return jnp.argmin(distances, axis=0).astype(jnp.int32), jnp.min(distances, axis=0)

    def step(state: _Steps) -> _Steps:
        number, centers, labels, _, _ = state
        members = (labels == numbers[:, None]) & valid
        sizes = jnp.sum(members, axis=1, keepdims=True)
        centers = jnp.where(sizes > 0, members / jnp.maximum(sizes, 1).astype(dtype), centers)
        changed, squares = label(centers)
        return number + 1, centers, changed, squares, jnp.any((changed != labels) & valid)

    def moves(state: _Steps) -> Array:
        return (state[0] < MAX_STEPS) & state[-1]

    labels, squares = label(centers)
    start = jnp.zeros((), jnp.int32), centers, labels, squares, jnp.ones((), bool)
    _, _, labels, squares, _ = jax.lax.while_loop(moves, step, start)
    return labels, squares
