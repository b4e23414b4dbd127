"""The geometric median, approached step by step."""

from functools import lru_cache
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.scipy.sparse.linalg import cg

from fljax.aggregators.registry import register_rule
from fljax.numerics.averages import weighted_rows
from fljax.numerics.checks import ArgumentError, Float, Int, bounded, option, real
from fljax.numerics.order_statistics import median_of_rows, sorted_rows
from fljax.numerics.rows import Rows, sum_rows
from fljax.numerics.safe import LARGEST_SQUARE, SMALLEST_SQUARE, divide, dot, for_all, for_any, squares_to
from fljax.numerics.scaled_stack import FARTHEST, Stack, distances, plain, scaled, usual_size
from fljax.numerics.weights import relative_weights


class _Smoothing(NamedTuple):
    """The smoothing ν: `share` times the median distance of the rows from the point, plus `least`."""

    share: Array
    least: Array


class _Search(NamedTuple):
    """The state between Weiszfeld iterations."""

    stack: Any
    smoothing: _Smoothing
    tolerance: Array
    max_iterations: Array
    leaves_rows: Array
    point: Array
    iteration: Array
    done: Array


def _coefficients(stack: Stack, smoothing: _Smoothing, point: Array) -> tuple[Array, ...]:
    """The factors of rows[i] in Σ β_i g_i, β_i = w_i / max(ν, ‖g_i − point‖); distances; ν; their median."""
    reach = distances(stack, point)
    away = reach * stack.scales
    middle = lax.stop_gradient(_weighted_median(away, stack.weights))
    nu = smoothing.share * middle + smoothing.least
    # From the farthest distance on all weights are alike, however large ν is; theirs must not vanish.
    farthest = lax.stop_gradient(jnp.max(away, initial=0.0))
    nu = jnp.minimum(nu, jnp.where(farthest > 0, 2 * farthest, FARTHEST))
    # No row may have an infinite weight, not even with ν = 0.
    least = jnp.maximum(nu / stack.scales, jnp.finfo(reach.dtype).tiny ** 0.5)
    return stack.weights / jnp.maximum(reach, least), away, nu, middle


def _product(coefficients: Array, rows: Array | Rows) -> Array:
    return sum_rows(lambda chunk, own: dot(own, chunk), rows, coefficients)


def _nothing(coefficients: Array, rows: Array | Rows) -> Array:
    return jnp.zeros(rows.shape[1:], rows.dtype)


def _product_if(needed: Array, coefficients: Array, rows: Array | Rows) -> Array:
    if isinstance(rows, Rows):
        return lax.cond(needed, lambda: _product(coefficients, rows), lambda: _nothing(coefficients, rows))
    return lax.cond(needed, _product, _nothing, coefficients, rows)


def _pull(stack: Stack, smoothing: _Smoothing, point: Array) -> tuple[Array, Array]:
    """The sums Σ β_i g_i and Σ β_i."""
    of_rows, *_ = _coefficients(stack, smoothing, point)
    return _product(of_rows, stack.rows), jnp.sum(of_rows / stack.scales)


def _length(vector: Array) -> Array:
    """The Euclidean norm of a finite vector, without overflow on the way."""
    largest = jnp.max(jnp.abs(vector), initial=0.0)
    unit = jnp.where(largest > 0, largest, 1.0)
    return largest * jnp.sqrt(jnp.sum(jnp.square(divide(vector, unit))))


def _weighted_median(values: Array, weights: Array) -> Array:
    order = jnp.argsort(values)
    passed = 2 * jnp.cumsum(weights[order]) >= jnp.sum(weights)
    return values[order[jnp.argmax(passed)]]


def _weiszfeld_step(search: _Search) -> _Search:
    stack, point = search.stack, search.point
    of_rows, away, nu, middle = _coefficients(stack, search.smoothing, point)
    weight = jnp.sum(of_rows / stack.scales)
    precision = 4 * jnp.finfo(point.dtype).eps * _length(point)
    at_point = away <= jnp.maximum(nu, precision)
    elsewhere = jnp.where(at_point, 0.0, of_rows)
    pull = _product(elsewhere, stack.rows)
    weight_elsewhere = jnp.sum(elsewhere / stack.scales)
    own = _product_if(for_any(jnp.any(at_point)), of_rows - elsewhere, stack.rows)
    following = (pull + own) / weight
    # At a row, whose weight is all but infinite, a step would be all but zero. If the others pull harder than
    # that row holds, the minimum is not here: their step, less what the row holds back.
    force = pull - weight_elsewhere * point
    strength, held = _length(force), jnp.sum(jnp.where(at_point, stack.weights, 0.0))
    negligible = nu <= 1e-3 * middle
    leaves = search.leaves_rows & jnp.any(at_point) & negligible & (strength > held * (1 + 1e-5))
    safe = jnp.where(leaves, strength * weight_elsewhere, 1.0)
    following = jnp.where(leaves, point + (strength - held) * force / safe, following)
    moved = _length(following - point)
    done = (moved * weight <= search.tolerance * jnp.sum(stack.weights)) | (moved <= precision)
    return search._replace(point=following, iteration=search.iteration + 1, done=done & ~leaves)


def _goes_on(search: _Search) -> Array:
    return ~search.done & (search.iteration < search.max_iterations)


def _search(
    stack: Stack,
    smoothing: _Smoothing,
    start: Array,
    tolerance: Array,
    max_iterations: Array,
    leaves_rows: Array,
) -> Array:
    begin = _Search(
        stack, smoothing, tolerance, max_iterations, leaves_rows, start, jnp.int32(0), jnp.bool_(False)
    )
    if not isinstance(stack.rows, Rows):
        return lax.while_loop(_goes_on, _weiszfeld_step, begin).point

    def step(search: _Search) -> _Search:
        # Rows are no arrays that a loop could hand on.
        return _weiszfeld_step(search._replace(stack=stack))._replace(stack=None)

    return lax.while_loop(_goes_on, step, begin._replace(stack=None)).point


# A loop that ends when it is done has no reverse mode; its result has a derivative all the same, because the
# pull Σ β_i (g_i − z) vanishes there.
_median_of = jax.custom_jvp(_search)


@_median_of.defjvp
def _median_jvp(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Array, Array]:
    point = _search(*primals)

    def pull_at(stack: Stack, smoothing: _Smoothing, point: Array) -> Array:
        pull, weight = _pull(stack, smoothing, point)
        return pull - weight * point

    stack, smoothing = primals[:2]
    _, change = jax.jvp(lambda s, v: pull_at(s, v, point), (stack, smoothing), tangents[:2])

    def curvature(direction: Array) -> Array:
        return -jax.jvp(lambda z: pull_at(stack, smoothing, z), (point,), (direction,))[1]

    def solve(matvec: Any, value: Array) -> Array:
        return cg(matvec, value, tol=10 * float(jnp.finfo(value.dtype).eps), maxiter=100)[0]

    # Symmetric and positive definite.
    return point, lax.custom_linear_solve(curvature, change, solve, symmetric=True)


@lru_cache
def _weiszfeld(ordinary: bool) -> Any:
    # Cached so that outside jit, too, JAX meets the same functions again and compiles them once.
    def median(updates: Array, weights: Array, smoothing: _Smoothing, start: Array, *limits: Array) -> Array:
        if ordinary:
            return _median_of(plain(updates, weights), smoothing, start, *limits)
        find = _search if isinstance(updates, Rows) else _median_of
        # In units of the usual row: squares of distances could vanish, or the reciprocals of all.
        unit = usual_size(updates)
        point = jnp.clip(divide(start, unit), -FARTHEST, FARTHEST)
        in_units = smoothing._replace(least=divide(smoothing.least, unit))
        return unit * find(scaled(updates, weights, unit), in_units, point, *limits)

    return median


def _in_range(updates: Array, point: Array) -> Array:
    """The squared distances from the point neither overflow nor vanish."""
    squares = squares_to(updates, point)
    usual = jnp.sort(squares)[(updates.shape[0] - 1) // 2]
    return jnp.all(squares < LARGEST_SQUARE) & (usual > SMALLEST_SQUARE)


@register_rule(title="Geometric median", assumes="n > 2f", source="Pillutla et al. 2019", streams=True)
def geometric_median(
    updates: Array,
    weights: Array | None = None,
    *,
    tolerance: Float = 1e-6,
    max_iterations: Int = 100,
    smoothing: Float = 1e-6,
    smoothing_unit: Float | None = None,
    start: Literal["median", "mean", "zero"] = "median",
) -> Array:
    """The point with the smallest weighted sum of distances to the updates (RFA), by smoothed Weiszfeld.

    g = argmin_z Σ_i w_i ‖g_i − z‖, iterated as z ← Σ β_i g_i / Σ β_i with β_i = w_i / max(ν, ‖g_i − z‖),
    until ‖Σ β_i (g_i − z)‖ ≤ tolerance · Σ w_i (a gradient, without unit) or z moves by no more than
    rounding. ν is `smoothing` times the weighted median of the distances ‖g_i − z‖, so that the result scales
    with the updates; or times `smoothing_unit`, where that is given. Where z meets a row that is not the
    minimum, and ν is small beside the median distance, Vardi and Zhang's step leaves it. Tolerates malicious
    rows with less than half of the weight; they should be fewer than half of the rows, too, or the start may
    be so far that `max_iterations` are not enough. A row with a non-finite entry is left out.

    Its gradient is that of the exact minimum, by implicit differentiation.

    Args:
        updates: (n, d).
        weights: (n,) finite and not negative, of any size; None for equal weights. RFA uses the clients'
            numbers of examples. Traced ones are not checked; with one that is negative or not finite the
            result means nothing.
        tolerance: how large the gradient may remain, relative to the sum of weights.
        max_iterations: at most so many steps.
        smoothing: ν / `smoothing_unit` ≥ 0: rows nearer than ν count as if at this distance.
        smoothing_unit: None for the median distance; a length ≥ 0 in the unit of the updates for an absolute
            ν. With 1.0 `smoothing` is ν itself, as in RFA's and ByzFL's code: updates much smaller than it
            give the plain mean.
        start: "median" starts at the coordinate-wise median, which no minority can move far away; "mean" at
            the weighted mean; "zero" at 0, and with plain steps only, as ByzFL does. The median takes all
            rows at once: where a round streams it needs another start, and clients train twice for a step.

    Returns:
        (d,), in the type of `updates`; 0 if all weights are.

    Raises:
        ValueError: if shapes do not fit, a static number is out of range, known weights are negative or not
            finite, or `start` is none of the three.

    Example:
        >>> geometric_median(jnp.array([[0.0, 0.0], [0.0, 2.0], [0.0, 90.0]])).round(3).tolist()
        [0.0, 2.0]

    Source: Pillutla, Kakade, Harchaoui, "Robust aggregation for federated learning", 2019 (RFA, with
    `start="mean", smoothing_unit=1.0`); Vardi and Zhang, "The multivariate L1-median and associated data
    depth", PNAS 2000. ByzFL stops after 3 steps: `start="zero", smoothing=0.1, smoothing_unit=1.0,
    max_iterations=3, tolerance=0.0`.
    """
    n, d = updates.shape
    share = relative_weights(weights, n, updates.dtype)
    smoothing = real("smoothing", smoothing, at_least=0)
    tolerance = real("tolerance", tolerance, at_least=0)
    if smoothing_unit is not None:
        smoothing_unit = real("smoothing_unit", smoothing_unit, at_least=0)
    max_iterations = bounded(
        "max_iterations",
        max_iterations,
        smallest=1,
        largest=2**31 - 1,
        needs="to be less than 2^31",
    )
    start = option("start", start, ("median", "mean", "zero"))
    weighed = jnp.any(share != 0)
    share = jnp.where(weighed, share, 1.0)
    streams = isinstance(updates, Rows)
    if start == "median" and streams:
        raise ArgumentError(
            'start="median" reads all rows of a stack at once: give "mean" or "zero" to stream'
        )
    fixed = updates if streams else lax.stop_gradient(updates)
    if start == "median":
        point = median_of_rows(fixed, sorted_rows(fixed))
    elif start == "mean":
        point = weighted_rows(share / jnp.sum(share), fixed)
    else:
        point = jnp.zeros((d,), updates.dtype)
    # Computed once, not again inside every kernel that reads it.
    point = lax.optimization_barrier(jnp.where(jnp.all(jnp.isfinite(point)), point, 0.0))
    factor, zero = jnp.asarray(smoothing, updates.dtype), jnp.zeros((), updates.dtype)
    absolute = zero if smoothing_unit is None else factor * jnp.asarray(smoothing_unit, updates.dtype)
    given = (
        updates,
        share,
        _Smoothing(factor if smoothing_unit is None else zero, absolute),
        point,
        jnp.asarray(tolerance, updates.dtype),
        jnp.asarray(max_iterations, jnp.int32),
        jnp.asarray(start != "zero"),
    )
    if streams:
        result = _weiszfeld(False)(*given)
    else:
        result = lax.cond(for_all(_in_range(fixed, point)), _weiszfeld(True), _weiszfeld(False), *given)
    return jnp.where(weighed, result, 0.0)
