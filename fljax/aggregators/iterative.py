"""Rules that approach their result step by step: geometric median, centred clipping."""

from functools import lru_cache
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.lax import Precision
from jax.scipy.sparse.linalg import cg

from fljax.aggregators.arguments import (
    Float,
    Int,
    as_stack,
    bounded,
    compute_dtype,
    output_dtype,
    real,
    shaped,
    whole,
)
from fljax.aggregators.base import Aggregator, Context, Info, State
from fljax.aggregators.linalg import LARGEST_SQUARE, divide, for_all, for_any, largest_entries, weighted_rows
from fljax.aggregators.order_statistics import median_of_rows, sorted_rows

# A row with a larger entry is scaled down before it is squared.
LARGEST_ENTRY = 1e15


class _Stack(NamedTuple):
    """Row i of the updates is scales[i] * rows[i]; a non-finite row is zero and has weight 0."""

    rows: Array
    scales: Array
    weights: Array


def _plain(updates: Array, weights: Array) -> _Stack:
    return _Stack(updates, jnp.ones(updates.shape[:1], updates.dtype), weights)


def _scaled(updates: Array, weights: Array) -> _Stack:
    largest = largest_entries(updates)
    finite = jnp.isfinite(largest)
    scales = jnp.where(finite & (largest > LARGEST_ENTRY), largest, 1.0)
    rows = divide(jnp.where(finite[:, None], updates, 0.0), scales[:, None])
    return _Stack(rows, scales, jnp.where(finite, weights, 0.0))


def _distances(stack: _Stack, point: Array) -> Array:
    """‖g_i − point‖ / scales[i], (n,)."""
    # In the unit of whichever is larger, the row or the point: between two rows far apart, the point is far
    # from both.
    size = jnp.max(jnp.abs(lax.stop_gradient(point)), initial=0.0)
    units = jnp.maximum(stack.scales, jnp.where(size > LARGEST_ENTRY, size, 1.0))
    share = stack.scales / units
    # On a CPU this is one pass over the stack without a copy. The reciprocal of a unit may be flushed to
    # zero: beside such a row, the point is zero.
    squares = jnp.sum(jnp.square(stack.rows * share[:, None] - point * (1.0 / units)[:, None]), axis=1)
    return jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1.0)), 0.0) / share


def _within_reach(updates: Array, point: Array) -> Array:
    """Whether the squared distances from the point can be computed as they are."""
    return jnp.all(jnp.sum(jnp.square(updates - point), axis=1) < LARGEST_SQUARE)


# --- geometric median ---------------------------------------------------------------------------------


class _Search(NamedTuple):
    """What one Weiszfeld iteration carries to the next."""

    stack: _Stack
    smoothing: Array
    tolerance: Array
    max_iterations: Array
    leaves_rows: Array
    point: Array
    iteration: Array
    done: Array


def _coefficients(stack: _Stack, smoothing: Array, point: Array) -> tuple[Array, Array]:
    """What rows[i] is multiplied by in Σ β_i g_i, β_i = w_i / max(smoothing, ‖g_i − point‖); distances."""
    reach = _distances(stack, point)
    # No row may have an infinite weight, not even with smoothing = 0.
    least = jnp.maximum(smoothing / stack.scales, jnp.finfo(reach.dtype).tiny ** 0.5)
    return stack.weights / jnp.maximum(reach, least), reach * stack.scales


def _product(coefficients: Array, rows: Array) -> Array:
    return jnp.matmul(coefficients, rows, precision=Precision.HIGHEST)


def _nothing(coefficients: Array, rows: Array) -> Array:
    return jnp.zeros(rows.shape[1:], rows.dtype)


def _pull(stack: _Stack, smoothing: Array, point: Array) -> tuple[Array, Array]:
    """Σ β_i g_i and Σ β_i."""
    of_rows, _ = _coefficients(stack, smoothing, point)
    return _product(of_rows, stack.rows), jnp.sum(of_rows / stack.scales)


def _length(vector: Array) -> Array:
    """Euclidean norm of a finite vector, which does not overflow before its result does."""
    largest = jnp.max(jnp.abs(vector), initial=0.0)
    unit = jnp.where(largest > 0, largest, 1.0)
    return largest * jnp.sqrt(jnp.sum(jnp.square(divide(vector, unit))))


def _weighted_median(values: Array, weights: Array) -> Array:
    order = jnp.argsort(values)
    passed = 2 * jnp.cumsum(weights[order]) >= jnp.sum(weights)
    return values[order[jnp.argmax(passed)]]


def _weiszfeld_step(search: _Search) -> _Search:
    stack, point = search.stack, search.point
    of_rows, distances = _coefficients(stack, search.smoothing, point)
    weight = jnp.sum(of_rows / stack.scales)
    precision = 4 * jnp.finfo(point.dtype).eps * _length(point)
    at_point = distances <= jnp.maximum(search.smoothing, precision)
    elsewhere = jnp.where(at_point, 0.0, of_rows)
    pull = _product(elsewhere, stack.rows)
    weight_elsewhere = jnp.sum(elsewhere / stack.scales)
    own = lax.cond(for_any(jnp.any(at_point)), _product, _nothing, of_rows - elsewhere, stack.rows)
    following = (pull + own) / weight
    # At a row, whose weight is all but infinite, a step would be all but zero. If the others pull harder than
    # that row holds, the minimum is not here: their step, less what the row holds back.
    force = pull - weight_elsewhere * point
    strength, held = _length(force), jnp.sum(jnp.where(at_point, stack.weights, 0.0))
    negligible = search.smoothing <= 1e-3 * _weighted_median(distances, stack.weights)
    leaves = search.leaves_rows & jnp.any(at_point) & negligible & (strength > held * (1 + 1e-5))
    safe = jnp.where(leaves, strength * weight_elsewhere, 1.0)
    away = point + (strength - held) * force / safe
    following = jnp.where(leaves, away, following)
    moved = _length(following - point)
    done = (moved * weight <= search.tolerance * jnp.sum(stack.weights)) | (moved <= precision)
    return search._replace(point=following, iteration=search.iteration + 1, done=done & ~leaves)


def _goes_on(search: _Search) -> Array:
    return ~search.done & (search.iteration < search.max_iterations)


def _search(
    stack: _Stack,
    smoothing: Array,
    start: Array,
    tolerance: Array,
    max_iterations: Array,
    leaves_rows: Array,
) -> Array:
    begin = _Search(
        stack, smoothing, tolerance, max_iterations, leaves_rows, start, jnp.int32(0), jnp.bool_(False)
    )
    return lax.while_loop(_goes_on, _weiszfeld_step, begin).point


# A loop that ends when it is done has no reverse mode; its result has a derivative all the same, because the
# pull Σ β_i (g_i − z) vanishes there.
_median_of = jax.custom_jvp(_search)


@_median_of.defjvp
def _median_jvp(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Array, Array]:
    point = _search(*primals)

    def pull_at(stack: _Stack, smoothing: Array, point: Array) -> Array:
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
def _weiszfeld(prepare: Any) -> Any:
    # Cached so that outside jit, too, JAX meets the same functions again and compiles them once.
    def median(updates: Array, weights: Array, smoothing: Array, start: Array, *limits: Array) -> Array:
        if prepare is _plain:
            return _median_of(_plain(updates, weights), smoothing, start, *limits)
        # In units of the usual row, or the reciprocals of all distances could vanish.
        middle = jnp.sort(largest_entries(updates))[(updates.shape[0] - 1) // 2]
        unit = jnp.where(jnp.isfinite(middle), jnp.maximum(middle, 1.0), 1.0)
        stack = _scaled(divide(updates, unit), weights)
        return unit * _median_of(stack, smoothing / unit, divide(start, unit), *limits)

    return median


def geometric_median(
    updates: Array,
    weights: Array | None = None,
    *,
    tolerance: Float = 1e-6,
    max_iterations: Int = 100,
    smoothing: Float = 1e-6,
    start: Literal["median", "mean", "zero"] = "median",
) -> Array:
    """The point with the smallest weighted sum of distances to the updates (RFA), by smoothed Weiszfeld.

    g = argmin_z Σ_i w_i ‖g_i − z‖, iterated as z ← Σ β_i g_i / Σ β_i with β_i = w_i / max(ν, ‖g_i − z‖) and
    ν = `smoothing`, until ‖Σ β_i (g_i − z)‖ ≤ tolerance · Σ w_i (a gradient, without unit) or z moves by no
    more than rounding. Where z meets a row that is not the minimum, and ν is small beside the usual distance,
    Vardi and Zhang's step leaves it. Tolerates malicious rows with less than half of the weight; they should
    be fewer than half of the rows, too, or the start may be so far that `max_iterations` are not enough. A
    row with a non-finite entry is left out.

    Its gradient is that of the exact minimum, by implicit differentiation.

    Args:
        updates: (n, d).
        weights: (n,) non-negative; None for equal weights. RFA uses the clients' numbers of examples.
        tolerance: how large the gradient may remain, relative to the sum of weights.
        max_iterations: at most so many steps.
        smoothing: ν ≥ 0 in the unit of the updates: nearer rows count as if at this distance.
        start: "median" starts at the coordinate-wise median, which no minority can move far away; "mean" at
            the weighted mean; "zero" at 0, and with plain steps only, as ByzFL does.

    Returns:
        (d,), in the type of `updates`.

    Raises:
        ValueError: if shapes do not fit, a static number is out of range, or `start` is none of the three.

    Example:
        >>> geometric_median(jnp.array([[0.0, 0.0], [0.0, 2.0], [0.0, 90.0]])).round(3).tolist()
        [0.0, 2.0]

    Source: Pillutla, Kakade, Harchaoui, "Robust aggregation for federated learning", 2019 (RFA, with
    `start="mean"`); Vardi and Zhang, "The multivariate L1-median and associated data depth", PNAS 2000. ByzFL
    stops after 3 steps from zero with ν = 0.1.
    """
    updates = as_stack("geometric_median", updates)
    n, d = updates.shape
    stack = updates.astype(compute_dtype(updates))
    if weights is not None:
        weights = shaped("geometric_median", "weights", weights, (n,), ", one per row")
    smoothing = real("geometric_median", "smoothing", smoothing, at_least=0)
    tolerance = real("geometric_median", "tolerance", tolerance, at_least=0)
    max_iterations = bounded(
        "geometric_median",
        "max_iterations",
        max_iterations,
        smallest=1,
        largest=2**31 - 1,
        needs="to be less than 2^31",
    )
    share = jnp.ones((n,), stack.dtype) if weights is None else jnp.asarray(weights, stack.dtype)
    fixed = lax.stop_gradient(stack)
    if start == "median":
        point = median_of_rows(fixed, sorted_rows(fixed))
    elif start == "mean":
        point = weighted_rows(share / jnp.sum(share), fixed)
        point = jnp.where(jnp.all(jnp.isfinite(point)), point, 0.0)
    elif start == "zero":
        point = jnp.zeros((d,), stack.dtype)
    else:
        raise ValueError(f'geometric_median: start={start!r} must be "median", "mean" or "zero"')
    # Computed once, not again inside every kernel that reads it.
    point = lax.optimization_barrier(point)
    result = lax.cond(
        for_all(_within_reach(fixed, point)),
        _weiszfeld(_plain),
        _weiszfeld(_scaled),
        stack,
        share,
        jnp.asarray(smoothing, stack.dtype),
        point,
        jnp.asarray(tolerance, stack.dtype),
        jnp.asarray(max_iterations, jnp.int32),
        jnp.asarray(start != "zero"),
    )
    return result.astype(output_dtype(updates))


# --- centred clipping ---------------------------------------------------------------------------------


@lru_cache
def _clipping(prepare: Any, num_iterations: int) -> Any:
    def clipped(updates: Array, center: Array, radius: Array) -> Array:
        stack = prepare(updates, jnp.ones(updates.shape[:1], updates.dtype))

        def step(center: Array) -> Array:
            reach = _distances(stack, center)
            near = reach * stack.scales <= radius
            # min(1, radius / distance) of the row as it is, and of the row as it is scaled.
            far = radius / jnp.where(near, 1.0, reach)
            of_rows = stack.weights * jnp.where(near, stack.scales, far)
            pull = jnp.matmul(of_rows, stack.rows, precision=Precision.HIGHEST)
            return center + (pull - jnp.sum(of_rows / stack.scales) * center) / updates.shape[0]

        if num_iterations <= 4:
            for _ in range(num_iterations):
                center = step(center)
            return center
        return lax.fori_loop(0, num_iterations, lambda _, center: step(center), center)

    return clipped


def centered_clipping(updates: Array, center: Array, *, radius: Float, num_iterations: int = 1) -> Array:
    """The centre moved by the mean of the differences from it, each clipped to `radius`.

    v ← v + (1/n) Σ_i (g_i − v) · min(1, τ / ‖g_i − v‖), `num_iterations` times from v = `center`, with
    τ = `radius`. No row moves the centre by more than τ/n per iteration, so how much f malicious rows can do
    depends on the centre: in the round it is the previous aggregate, zero at first. A row with a non-finite
    entry does not move it.

    Args:
        updates: (n, d).
        center: (d,).
        radius: τ > 0, in the unit of the updates; may be traced.
        num_iterations: how often, at least 1.

    Returns:
        (d,), in the type of `updates`.

    Raises:
        ValueError: if shapes do not fit or a static number is out of range.

    Example:
        >>> centered_clipping(jnp.array([[1.0], [2.0], [90.0]]), jnp.zeros(1), radius=3.0).tolist()
        [2.0]

    Source: Karimireddy, He, Jaggi, "Learning from history for Byzantine robust optimization", ICML 2021.
    ByzFL defaults to a radius of 100; fedlib iterates 5 times.
    """
    updates = as_stack("centered_clipping", updates)
    d = updates.shape[1]
    radius = real("centered_clipping", "radius", radius, above=0)
    num_iterations = whole("centered_clipping", "num_iterations", num_iterations, smallest=1)
    stack = updates.astype(compute_dtype(updates))
    point = shaped("centered_clipping", "center", center, (d,)).astype(stack.dtype)
    result = lax.cond(
        for_all(_within_reach(stack, point)),
        _clipping(_plain, num_iterations),
        _clipping(_scaled, num_iterations),
        stack,
        point,
        jnp.asarray(radius, stack.dtype),
    )
    return result.astype(output_dtype(updates))


def carried_clipping(*, radius: Float, num_iterations: int = 1) -> Aggregator:
    """`centered_clipping` for the round: its state is the centre, the previous aggregate, zero at first.

    Args:
        radius: as for `centered_clipping`.
        num_iterations: as for `centered_clipping`.

    Returns:
        The `Aggregator`.
    """

    def init(num_clients: int, num_params: int) -> State:
        return jnp.zeros((num_params,))

    def aggregate(updates: Array, state: State, context: Context) -> tuple[Array, State, Info]:
        # The centre keeps the digits that half precision would take from small steps.
        stack = updates.astype(compute_dtype(updates))
        center = centered_clipping(stack, state, radius=radius, num_iterations=num_iterations)
        return center.astype(output_dtype(updates)), center.astype(state.dtype), {}

    return Aggregator(init, aggregate)
