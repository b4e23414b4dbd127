"""Cosines of all pairs of rows."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from fljax.numerics.safe import (
    CANCELLATION,
    contained,
    divide,
    dot,
    for_all,
    gram,
    largest_entries,
    ordinary,
    pairwise_distances,
    saturation,
    scale_rows,
    square_norms,
    unit,
)

# The cosine of two parallel rows is off by up to 4 machine epsilons (0 for copies).
ROUNDING = 16.0


class Cosines(NamedTuple):
    """Pairwise cosines of rows.

    Attributes:
        cosines: (n, n) in [−1, 1], 0 where one of the two rows is zero or non-finite.
        finite: (n,) bool, which rows are finite.
    """

    cosines: Array
    finite: Array


def _divided(products: Array) -> Array:
    squares = jnp.diagonal(products)
    inverse = jnp.where(squares > 0, jax.lax.rsqrt(jnp.where(squares > 0, squares, 1.0)), 0.0)
    return jnp.clip(products * inverse[:, None] * inverse[None, :], -1.0, 1.0)


def _plain_cosines(rows: Array, products: Array) -> Cosines:
    return Cosines(_divided(products), jnp.ones(rows.shape[:1], bool))


def _careful_cosines(rows: Array, products: Array) -> Cosines:
    finite = jnp.all(jnp.isfinite(rows), axis=1)
    scaled = scale_rows(rows).rows
    return Cosines(_divided(gram(scaled)), finite)


def pairwise_cosines(rows: Array) -> Cosines:
    """Cosines between all rows, of any size, from one Gram matrix.

    Args:
        rows: (n, d) float32 or float64.

    Returns:
        `Cosines`.
    """
    rows = contained(rows)
    products = gram(rows)
    fine = for_all(ordinary(jnp.diagonal(products)))
    return jax.lax.cond(fine, _plain_cosines, _careful_cosines, rows, products)


def _from_products(products: Array, along: Array, square: Array, has_origin: bool) -> tuple[Array, Array]:
    """1 − cos from the products ⟨g_i, g_j⟩, ⟨w, g_i⟩ and ‖w‖², and whether that has digits enough."""
    squares = jnp.diagonal(products)
    # ‖w + g_i‖, and by how much its square is larger than ‖w‖².
    excess = 2.0 * along + squares
    of_sums = square + excess
    usable = of_sums > 0
    lengths = jnp.sqrt(jnp.where(usable, of_sums, 1.0))
    # Half the squared distance of (w + g_i) / ‖w + g_i‖ − w / ‖w‖ = a_i g_i − b_i w.
    a = 1.0 / lengths
    if has_origin:
        length = jnp.sqrt(jnp.where(square > 0, square, 1.0))
        # Not one quotient: three lengths multiplied overflow where their squares do not.
        b = excess / (lengths + length) * (a / length)
    else:
        b = jnp.zeros_like(a)
    crossed = jnp.outer(a * along, b)
    products = jnp.outer(a, a) * products - crossed - crossed.T + jnp.outer(b, b) * square
    mine = jnp.diagonal(products)
    distances = jnp.maximum(0.5 * (mine[:, None] + mine[None, :]) - products, 0.0)
    distances = jnp.where(jnp.eye(len(a), dtype=bool), 0.0, distances)
    far = jnp.where(jnp.eye(len(a), dtype=bool), jnp.inf, distances)
    # What was rounded, beside what is left of it.
    rounded = jnp.square(a) * squares
    fine = ordinary(squares) & jnp.all(usable & (of_sums > CANCELLATION * square))
    fine = fine & jnp.all(jnp.min(far, axis=1, initial=jnp.inf) > CANCELLATION * rounded)
    if has_origin:
        fine = fine & ordinary(square)
    return distances, fine


def _as_computed(rows: Array, origin: Array, distances: Array) -> Array:
    return distances


def _careful_distances(rows: Array, origin: Array, distances: Array) -> Array:
    """The same from the differences of the directions themselves, every row in its own unit."""
    largest = largest_entries(rows)
    finite = jnp.isfinite(largest)
    of_origin = jnp.max(jnp.abs(origin), initial=0.0)
    tiny = jnp.finfo(rows.dtype).tiny
    unit_of_origin = jnp.where(of_origin >= tiny, of_origin, 1.0)
    direction = divide(origin, unit_of_origin)
    length = jnp.sqrt(dot(direction, direction))
    direction = unit(direction, length)
    units = jnp.where(finite, jnp.maximum(largest, of_origin), 1.0)
    units = jnp.where(units >= tiny, units, 1.0)
    scaled = divide(jnp.where(finite[:, None], rows, 0.0), units[:, None])
    length = length * divide(unit_of_origin, units)
    along, squares = dot(scaled, direction), square_norms(scaled)
    sums = scaled + length[:, None] * direction
    lengths = jnp.sqrt(square_norms(sums))
    # A sum that only rounding keeps from 0 has no direction.
    zero = lengths <= ROUNDING * jnp.finfo(rows.dtype).eps * length
    lengths = jnp.where(zero, 1.0, lengths)
    back = (2.0 * length * along + squares) / (lengths * (lengths + length))
    turned = scaled / lengths[:, None] - back[:, None] * direction
    usable = finite & ~zero
    # A copy of another row, so that what has no direction is no centre for the others.
    turned = jnp.where(usable[:, None], turned, turned[jnp.argmax(usable)])
    found = pairwise_distances(turned)
    # The square of the unit alone could vanish.
    distances = jnp.minimum(0.5 * jnp.square(found.unit * jnp.sqrt(found.squares)), 2.0)
    # Where most rows all but coincide, others are too far away to be told apart in their unit.
    products = dot(turned, turned.T)
    halves = 0.5 * jnp.diagonal(products)
    plain = jnp.clip(halves[:, None] + halves[None, :] - products, 0.0, 2.0)
    distances = jnp.where(found.squares < saturation(rows.dtype, len(rows)), distances, plain)
    distances = jnp.where(zero[:, None] | zero[None, :], 1.0, distances)
    distances = jnp.where(finite[:, None] & finite[None, :], distances, jnp.inf)
    return jnp.where(jnp.eye(len(rows), dtype=bool), 0.0, distances)


def cosine_distances(rows: Array, origin: Array | None = None) -> Array:
    """1 − cos(w + g_i, w + g_j) of all pairs, to the digits that small differences have.

    Models after one round differ by little: 1 − cos would lose most digits in float32. It is
    ½ ‖z_i − z_j‖² with z_i = (w + g_i)/‖w + g_i‖ − w/‖w‖, computed without the subtraction as
    z_i = g_i/‖w + g_i‖ − w (2⟨w, g_i⟩ + ‖g_i‖²) / (‖w + g_i‖ ‖w‖ (‖w + g_i‖ + ‖w‖)).
    The products of one pass over the stack give it where they have digits enough; else the z_i are made.

    Args:
        rows: (n, d) float32 or float64.
        origin: w (d,), finite; None for the rows' own directions.

    Returns:
        (n, n) from 0 to 2, 0 on the diagonal; 1 from a zero row (w + g_i = 0), +inf from one with a
        non-finite entry. It has no gradient.

    Example:
        >>> rows = jnp.array([[1e-3, 0.0], [0.0, 1e-3], [-2.0, 0.0]])
        >>> print(cosine_distances(rows, jnp.array([1.0, 0.0])).round(9)[0])
        [0.e+00 5.e-07 2.e+00]
    """
    rows = jax.lax.stop_gradient(rows)
    products = dot(rows, rows.T)
    if origin is None:
        point = jnp.zeros(rows.shape[1:], rows.dtype)
        along, square = jnp.zeros(rows.shape[:1], rows.dtype), jnp.zeros((), rows.dtype)
    else:
        point = jax.lax.stop_gradient(origin).astype(rows.dtype)
        along, square = dot(rows, point), dot(point, point)
    distances, fine = _from_products(products, along, square, origin is not None)
    return jax.lax.cond(for_all(fine), _as_computed, _careful_distances, rows, point, distances)


def _plain_cosines_to(rows: Array, squares: Array, direction: Array) -> Array:
    return dot(rows, direction) / jnp.sqrt(squares)


def _careful_cosines_to(rows: Array, squares: Array, direction: Array) -> Array:
    scaled = scale_rows(rows).rows
    squares = square_norms(scaled)
    return dot(scaled, direction) / jnp.sqrt(jnp.where(squares > 0, squares, 1.0))


def cosines_to(rows: Array, point: Array) -> Array:
    """The cosine of every row with a vector, (n,) in [−1, 1]; 0 with a zero vector or a non-finite row.

    Args:
        rows: (n, d) float32 or float64.
        point: (d,), finite.
    """
    largest = largest_entries(point)
    vanishes = largest < jnp.finfo(point.dtype).tiny
    scaled = divide(point, jnp.where(vanishes, 1.0, largest))
    direction = jnp.where(vanishes, 0.0, unit(scaled, jnp.sqrt(dot(scaled, scaled))))
    squares = square_norms(rows)
    fine = for_all(ordinary(squares))
    cosines = jax.lax.cond(fine, _plain_cosines_to, _careful_cosines_to, rows, squares, direction)
    return jnp.clip(cosines, -1.0, 1.0)
