"""Centred clipping: a centre that is moved by the rows, none of them farther than a radius."""

from functools import lru_cache
from typing import Any

import jax.numpy as jnp
from jax import Array, lax

from fljax.aggregators.registry import register_rule
from fljax.base import Aggregator, Context, Info, State
from fljax.numerics.checks import Float, compute_dtype, output_dtype, real, shaped, whole
from fljax.numerics.rows import Rows, sum_rows
from fljax.numerics.safe import LARGEST_SQUARE, SMALLEST_SQUARE, divide, dot, for_all, squares_to
from fljax.numerics.scaled_stack import FARTHEST, Stack, distances, plain, scaled


def _pull(stack: Stack, center: Array, radius: Array) -> Array:
    """The sum of the rows' differences from the centre, each clipped."""
    reach = distances(stack, center)
    near = reach * stack.scales <= radius
    # min(1, radius / distance) of the row as it is, and of the row as it is scaled.
    far = radius / jnp.where(near, 1.0, reach)
    of_rows = stack.weights * jnp.where(near, stack.scales, far)
    pull = dot(of_rows, stack.rows)
    return pull - jnp.sum(of_rows / stack.scales) * center


def _steps(stack: Stack, center: Array, radius: Array, num_iterations: int) -> Array:
    def step(center: Array) -> Array:
        return center + _pull(stack, center, radius) / stack.rows.shape[0]

    if num_iterations <= 4:
        for _ in range(num_iterations):
            center = step(center)
        return center
    return lax.fori_loop(0, num_iterations, lambda _, center: step(center), center)


@lru_cache
def _clipping(ordinary: bool, num_iterations: int, num_rows: int | None = None) -> Any:
    """The moved centre; or of a chunk of a stack of `num_rows` by how much it moves the centre in a step."""

    # Cached so that outside jit, too, JAX meets the same functions again and compiles them once.
    def follow(stack: Stack, center: Array, radius: Array) -> Array:
        if num_rows is not None:
            return _pull(stack, center, radius) / num_rows
        return _steps(stack, center, radius, num_iterations)

    def clipped(updates: Array, center: Array, radius: Array) -> Array:
        ones = jnp.ones(updates.shape[:1], updates.dtype)
        if ordinary:
            return follow(plain(updates, ones), center, radius)
        # In units of the radius, beyond which only directions count.
        largest = jnp.max(jnp.abs(center), initial=0.0)
        unit = jnp.maximum(radius, jnp.maximum(largest / FARTHEST, jnp.finfo(radius.dtype).tiny))
        unit = lax.stop_gradient(unit)
        return unit * follow(scaled(updates, ones, unit), divide(center, unit), divide(radius, unit))

    return clipped


def _in_range(updates: Array, center: Array, radius: Array) -> Array:
    """The squared distances from the centre neither overflow nor vanish beside the radius."""
    fine = jnp.all(squares_to(updates, center) < LARGEST_SQUARE)
    return fine & (radius > SMALLEST_SQUARE**0.5)


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


@register_rule(
    title="Centred clipping",
    assumes="n > 2f, with a good centre",
    source="Karimireddy et al. 2021",
    make=carried_clipping,
    streams=True,
)
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
    d = updates.shape[1]
    radius = real("radius", radius, above=0)
    num_iterations = whole("num_iterations", num_iterations, smallest=1)
    point = shaped("center", center, (d,)).astype(updates.dtype)
    length = jnp.asarray(radius, updates.dtype)
    n = len(updates) if isinstance(updates, Rows) else None

    def moved(rows: Array, point: Array) -> Array:
        branches = (_clipping(ordinary, num_iterations, n) for ordinary in (True, False))
        return lax.cond(for_all(_in_range(rows, point, length)), *branches, rows, point, length)

    if n is None:
        return moved(updates, point)

    def step(point: Array) -> Array:
        return point + sum_rows(lambda rows: moved(rows, point), updates)

    point = step(point)
    return (
        point
        if num_iterations == 1
        else lax.fori_loop(1, num_iterations, lambda _, point: step(point), point)
    )
