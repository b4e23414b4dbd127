"""Norms, cosines and pairwise distances that survive whatever a malicious client sends.

Each has a fast path of one or two matrix products, right when no square overflows, underflows or cancels,
and a careful path that scales (and for distances centres) the rows first. `lax.cond` chooses, so honest
rounds pay for the fast path only; under `vmap` it becomes a select and both paths run. Products run at the
highest precision: TF32 flips near-orthogonal cosines.

A sweep vmaps whole runs under the axis name `RUNS`. They choose together (`for_all`, `for_any`), so that
the choice stays one branch and ordinary rounds go on paying for the fast path only.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.custom_derivatives import SymbolicZero
from jax.lax import Precision

from fljax.numerics.blocks import fold_columns
from fljax.numerics.sharding import whole_on_cpu

# Squared norms in this range leave room for sums and products of two of them in float32.
SMALLEST_SQUARE, LARGEST_SQUARE = 1e-24, 1e30
# The name of the axis over which independent runs are vmapped.
RUNS = "fljax.runs"
# The numbers of a block of columns, which stays in a CPU's cache, and the least columns of one.
BLOCK, LEAST_COLUMNS = 2**20, 1024
# Below this share of the squared norms a Gram-based squared distance has lost most of its digits.
CANCELLATION = 1e-3


class ScaledRows(NamedTuple):
    """Rows divided by their largest entry: row i of the matrix is scales[i] * rows[i].

    Attributes:
        rows: (n, d), entries in [-1, 1]; a row with a non-finite entry is zero.
        scales: (n,), a non-finite or vanishing row has scale 0.
    """

    rows: Array
    scales: Array


def dot(left: Array, right: Array) -> Array:
    """Matrix product at the highest precision: TF32 flips cosines that are nearly 0."""
    return jnp.matmul(left, right, precision=Precision.HIGHEST)


def for_all(fine: Array) -> Array:
    """A condition under which the fast path is right; vmapped over `RUNS`, whether it holds in all of them.

    Example:
        >>> fine = jnp.array([True, False])
        >>> jax.vmap(for_all, axis_name=RUNS)(fine).tolist(), jax.vmap(for_all)(fine).tolist()
        ([False, False], [True, False])
    """
    try:
        return jax.lax.pmin(fine.astype(jnp.int32), RUNS) > 0
    except NameError:  # no such axis here
        return fine


def for_any(needed: Array) -> Array:
    """A condition that asks for more work; vmapped over `RUNS`, whether it holds in any of them."""
    return ~for_all(~needed)


def divide(values: Array, divisor: Array) -> Array:
    """`values / divisor` for a positive divisor of any size.

    XLA may turn a division into a product with the reciprocal, and that of 1e38 is flushed to zero; so both
    are first moved towards 1 by a power of two where the divisor is far from it. Elsewhere that would only
    make large values overflow.
    """
    half = jnp.asarray(2.0 ** (jnp.finfo(divisor.dtype).maxexp // 2), divisor.dtype)
    shift = jnp.where(divisor > half, 1 / half, jnp.where(divisor < 1 / half, half, 1.0))
    # The barrier keeps XLA from moving the shifts through a later dot product, where they would overflow.
    above, below = jax.lax.optimization_barrier((values * shift, divisor * shift))
    return above / below


def unit(vector: Array, norm: Array) -> Array:
    """The vector at length 1; 0 where its norm is 0."""
    return jnp.where(norm == 0, 0.0, divide(vector, jnp.where(norm == 0, 1.0, norm)))


def largest_entries(updates: Array) -> Array:
    """Largest absolute entry of every row, (n,); +inf for a row with NaN. No gradient passes through it.

    XLA's maximum over thousands of entries drops NaN on a CPU, so a sum looks for it; two reductions of the
    stack as it is need no copy of it, one of `where(isnan(updates), …)` does.
    """
    updates = jax.lax.stop_gradient(updates)
    finite = jnp.isfinite(jnp.sum(0.0 * updates, axis=-1))
    return jnp.where(finite, jnp.max(jnp.abs(updates), axis=-1, initial=0.0), jnp.inf)


def _all_finite(updates: Array) -> Array:
    return jnp.ones(updates.shape[:1], bool)


def finite_by_entries(updates: Array) -> Array:
    """The rows that have only finite entries, (n,) bool; see `finite_rows`."""
    return jnp.isfinite(largest_entries(updates))


def finite_rows(updates: Array, sizes: Array | None = None) -> Array:
    """The rows that have only finite entries, (n,) bool.

    Where all sizes are finite, that takes a third of the time of looking at the entries, or none.

    Args:
        updates: (n, d).
        sizes: numbers that are all finite only if all rows are, or if the answer does not matter; None for
            the squared norms.
    """
    updates = jax.lax.stop_gradient(updates)
    sizes = square_norms(updates) if sizes is None else jax.lax.stop_gradient(sizes)
    fine = jnp.all(jnp.isfinite(sizes))
    return jax.lax.cond(for_all(fine), _all_finite, finite_by_entries, updates)


@jax.custom_jvp
def contained(updates: Array) -> Array:
    """The updates; a row with a non-finite entry has no gradient, where 0 · NaN would be NaN."""
    return updates


@contained.defjvp
def _contained_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (updates,), (tangent,) = primals, tangents
    return updates, jnp.where(finite_rows(updates)[:, None], tangent, 0.0)


def _finite_part(rows: Array) -> Array:
    return jnp.where(finite_rows(rows)[:, None], rows, 0.0)


@jax.custom_jvp
def product(coefficients: Array, rows: Array) -> Array:
    """`coefficients @ rows`; a row with a non-finite entry gives its coefficient no derivative."""
    return dot(coefficients, rows)


def _product_jvp(primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> tuple[Array, Array]:
    (coefficients, rows), (of_coefficients, of_rows) = primals, tangents
    result = product(coefficients, rows)
    slope = jnp.zeros_like(result)
    if not isinstance(of_rows, SymbolicZero):
        slope += dot(coefficients, of_rows)
    if not isinstance(of_coefficients, SymbolicZero):
        slope += dot(of_coefficients, _finite_part(rows))
    return result, slope


product.defjvp(_product_jvp, symbolic_zeros=True)


@jax.custom_jvp
def gram(rows: Array) -> Array:
    """`rows @ rows.T`; a row with a non-finite entry gives no derivative to other rows."""
    return dot(rows, rows.T)


@gram.defjvp
def _gram_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (rows,), (tangent,) = primals, tangents
    half = dot(tangent, _finite_part(rows).T)
    return gram(rows), half + half.T


def scale_rows(updates: Array) -> ScaledRows:
    """Divide every row by its largest absolute entry; see `ScaledRows`."""
    # What the rows are divided by cancels in the end: it needs no gradient.
    largest = largest_entries(updates)
    usable = jnp.isfinite(largest) & (largest >= jnp.finfo(updates.dtype).tiny)
    rows = divide(jnp.where(usable[:, None], updates, 0.0), jnp.where(usable, largest, 1.0)[:, None])
    return ScaledRows(rows, jnp.where(usable, largest, 0.0))


def square_norms(updates: Array) -> Array:
    """Squared Euclidean norm of every row, (n,); may overflow."""
    return jnp.einsum("nd,nd->n", updates, updates, precision=Precision.HIGHEST)


def ordinary(squares: Array) -> Array:
    """Every squared norm is in the range where plain float32 arithmetic is right."""
    return jnp.all((squares > SMALLEST_SQUARE) & (squares < LARGEST_SQUARE))


class Norms(NamedTuple):
    """Euclidean norms that neither overflow nor vanish: ‖row i‖ = values[i] / shifts[i].

    Attributes:
        values: (n,).
        shifts: (n,) powers of two, 1 for rows of ordinary size.
        finite: (n,) bool, whether the row has only finite entries; the norm of another is 0.
    """

    values: Array
    shifts: Array
    finite: Array


def _plain_norms(updates: Array, squares: Array) -> Norms:
    return Norms(jnp.sqrt(squares), jnp.ones_like(squares), jnp.ones(squares.shape, bool))


def _careful_norms(updates: Array, squares: Array) -> Norms:
    largest = largest_entries(updates)
    finite = jnp.isfinite(largest)
    exponent = jnp.finfo(updates.dtype).maxexp * 5 // 8
    huge, tiny = largest > 2.0 ** (exponent // 2), largest < 2.0 ** -(exponent // 2)
    shifts = jnp.where(huge, 2.0**-exponent, jnp.where(tiny, 2.0**exponent, 1.0)).astype(updates.dtype)
    # Not a product: this sum is fused with the shift and copies nothing. Of non-finite rows it is not used.
    shifted = jnp.sum(jnp.square(updates * shifts[:, None]), axis=1)
    shifted = jnp.where(finite, shifted, 0.0)
    values = jnp.where(shifted > 0, jnp.sqrt(jnp.where(shifted > 0, shifted, 1.0)), 0.0)
    return Norms(values, shifts, finite)


def safe_norms(updates: Array) -> Norms:
    """Norms of all rows, whatever they hold; see `Norms`."""
    squares = square_norms(updates)
    return jax.lax.cond(for_all(ordinary(squares)), _plain_norms, _careful_norms, updates, squares)


def row_norms(updates: Array) -> Array:
    """Euclidean norm of every row, (n,); +inf for a row with a non-finite entry."""
    norms = safe_norms(updates)
    return jnp.where(norms.finite, norms.values / norms.shifts, jnp.inf)


def _squares(rows: Array, point: Array, scales: Array, inverses: Array) -> Array:
    return jnp.sum(jnp.square(rows * scales[:, None] - point * inverses[:, None]), axis=1)


@jax.custom_jvp
def scaled_squares(rows: Array, point: Array, scales: Array, inverses: Array) -> Array:
    """Σ_j (scales_i · rows_ij − inverses_i · point_j)², (n,); it may overflow or vanish.

    On a CPU a large stack is read by blocks of columns: XLA would write all differences to fresh memory.
    """
    n, d = rows.shape
    size = max(LEAST_COLUMNS, BLOCK // max(n, 1) // LEAST_COLUMNS * LEAST_COLUMNS)
    if not whole_on_cpu() or n * d <= 4 * BLOCK or d < 2 * size:
        return _squares(rows, point, scales, inverses)
    return fold_columns(lambda rows, point: _squares(rows, point, scales, inverses), size, rows, point)


@scaled_squares.defjvp
def _scaled_squares_jvp(primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Array, Array]:
    return scaled_squares(*primals), jax.jvp(_squares, primals, tangents)[1]


def squares_to(updates: Array, point: Array) -> Array:
    """Squared distances of the rows from a point, (n,); they may overflow or vanish.

    Example:
        >>> squares_to(jnp.array([[3.0, 4.0], [0.0, 1.0]]), jnp.zeros(2)).tolist()
        [25.0, 1.0]
    """
    ones = jnp.ones(updates.shape[:1], updates.dtype)
    return scaled_squares(updates, point, ones, ones)


def _plain_distances_to(updates: Array, point: Array, squares: Array) -> Array:
    # The distance of a row from itself has no gradient.
    return jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1.0)), 0.0)


def _careful_distances_to(updates: Array, point: Array, squares: Array) -> Array:
    # Halved first: the difference of two values near the float's limit must not overflow.
    halves = 0.5 * updates - 0.5 * point
    norms = _careful_norms(halves, squares)
    return jnp.where(norms.finite, 2.0 * (norms.values / norms.shifts), jnp.inf)


def distances_to(updates: Array, point: Array, known_zero: Array | bool = False) -> Array:
    """Distance of every row from one point, (n,); +inf for a row with a non-finite entry.

    Differences are taken before squaring, so a row close to the point keeps its digits.

    Args:
        updates: (n, d) float32 or float64.
        point: (d,), finite.
        known_zero: (n,) bool, rows that are the point itself; they need no careful path.
    """
    squares = squares_to(updates, point)
    fine = ordinary(jnp.where(known_zero, 1.0, squares))
    return jax.lax.cond(for_all(fine), _plain_distances_to, _careful_distances_to, updates, point, squares)


class Distances(NamedTuple):
    """Pairwise squared distances in units of `unit`²: ‖g_i − g_j‖² = unit² · squares[i, j].

    Attributes:
        squares: (n, n), zero on the diagonal, +inf between a non-finite row and any other. Between finite
            rows that are too far from each other for the float, the largest number of which n can be added.
        unit: scalar, 1 on the fast path.
    """

    squares: Array
    unit: Array


def saturation(dtype: jnp.dtype, num_rows: int) -> float:
    """The number that stands for a squared distance that overflows."""
    return float(jnp.finfo(dtype).max) / (4 * num_rows)


def saturated(squares: Array, products: Array, columns: Array, num_rows: int) -> Array:
    """|a|² + |b|² − 2ab as a squared distance; where that overflows, so large that n of them can be added."""
    distances = jnp.maximum(squares[:, None] + columns - 2.0 * products, 0.0)
    largest = saturation(squares.dtype, num_rows)
    return jnp.where(distances < largest, distances, largest)


def _gram_distances(rows: Array, finite: Array) -> Array:
    products = gram(rows)
    squares = jnp.diagonal(products)
    distances = saturated(squares, products, squares, rows.shape[0])
    distances = jnp.where(finite[:, None] & finite[None, :], distances, jnp.inf)
    return jnp.where(jnp.eye(rows.shape[0], dtype=bool), 0.0, distances)


def reach(updates: Array, center: Array) -> Array:
    """Half the distance of every row from a centre, in the maximum norm."""
    # Halved first: the difference of two values near the float's limit must not overflow.
    return jnp.max(jnp.abs(0.5 * updates - 0.5 * center), axis=1, initial=0.0)


def typical(reaches: Array, finite: Array) -> Array:
    """The median reach; where most rows are the centre, that of the others; 1/2 if all are."""
    n = reaches.shape[0]
    ordered = jnp.sort(jnp.where(finite, reaches, jnp.inf))
    tiny = jnp.finfo(reaches.dtype).tiny
    # Rather too large a unit than too small: near rows then look alike, not all others infinitely far.
    num_copies = jnp.sum(ordered < tiny)
    of_others = num_copies + (jnp.sum(finite) - num_copies) // 2
    middle = ordered[jnp.where(ordered[n // 2] < tiny, jnp.minimum(of_others, n - 1), n // 2)]
    return jnp.where(jnp.isfinite(middle) & (middle >= tiny), middle, 0.5)


def center_on(updates: Array, finite: Array, center: Array) -> tuple[Array, Array]:
    """The rows less one of them, in units of twice their typical reach: `(rows, unit)`.

    A row with a non-finite entry becomes zero.
    """
    # Neither the centre nor the unit changes a distance: no gradient needs to pass through them.
    center = jax.lax.stop_gradient(center)
    half_unit = jax.lax.stop_gradient(typical(reach(updates, center), finite))
    shifted = jnp.where(finite[:, None], 0.5 * updates - 0.5 * center, 0.0)
    return divide(shifted, half_unit), 2.0 * half_unit


def first_center(updates: Array) -> tuple[Array, Array]:
    """The mask (n,) of finite rows, and the row of median size."""
    largest = largest_entries(updates)
    finite = jnp.isfinite(largest)
    return finite, updates[jnp.argsort(largest)[(updates.shape[0] - 1) // 2]]


def crowded_center(updates: Array, finite: Array, half: Array) -> Array:
    """The row that has half of all rows nearest to it; `half` (n,) is the distance within which they are.

    The row of median size may be hostile (the negative of an honest one) and far from the others. A row
    that has half of all rows near it is among them, so this centre is no worse than an honest one.
    """
    return updates[jnp.argmin(jnp.where(finite, half, jnp.inf))]


def _centred_distances(updates: Array, fast: Array) -> Distances:
    """The careful path of `pairwise_distances`; it has no use for the fast path's result."""
    finite, center = first_center(updates)
    rows, _ = center_on(updates, finite, center)
    half = jnp.sort(_gram_distances(rows, finite), axis=1)[:, updates.shape[0] // 2]
    rows, unit = center_on(updates, finite, crowded_center(updates, finite, half))
    return Distances(_gram_distances(rows, finite), unit)


def _plain_distances(updates: Array, fast: Array) -> Distances:
    return Distances(fast, jnp.ones((), updates.dtype))


def pairwise_distances(updates: Array) -> Distances:
    """Squared distances between all rows from one Gram matrix, (n, n) memory besides the stack.

    When a squared norm leaves the safe range, or two rows are so close that |a|² + |b|² − 2ab cancels, the
    rows are first centred on the row that has half of all rows closest to it and divided by the median
    distance from it, which a minority of hostile rows cannot choose badly.

    Args:
        updates: (n, d) float32 or float64.

    Returns:
        `Distances`.
    """
    n = updates.shape[0]
    fast = _gram_distances(updates, jnp.ones((n,), bool))
    squares = square_norms(updates)
    off_diagonal = jnp.where(jnp.eye(n, dtype=bool), jnp.inf, fast)
    closest = jnp.min(off_diagonal, axis=1, initial=jnp.inf)
    cancels = jnp.any(closest < CANCELLATION * squares)
    # Branches are module-level functions of their operands: outside jit, JAX then compiles them once.
    fine = for_all(ordinary(squares) & ~cancels)
    return jax.lax.cond(fine, _plain_distances, _centred_distances, updates, fast)
