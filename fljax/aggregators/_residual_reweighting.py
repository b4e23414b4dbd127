"""Residual-based reweighting: values off a robust line are repaired, and their rows weigh less."""

import jax.numpy as jnp
from jax import Array, lax

from fljax.aggregators.registry import register_rule
from fljax.base import Info
from fljax.numerics.averages import weighted_rows
from fljax.numerics.checks import Float, Int, real
from fljax.numerics.eigen import as_shares
from fljax.numerics.order_statistics import fold_rows, median_of_some, ranked_sum, sorted_rows
from fljax.numerics.safe import finite_rows


def _ranks(rows: Array, finite: Array) -> Array:
    """The place of every entry among those of its coordinate, (n, d) from 0; ties by row."""
    numbers = jnp.arange(rows.shape[0])

    def of_row(i: Array) -> Array:
        def before(row: Array, counts: Array, number: Array) -> tuple[Array]:
            less = (row < rows[i]) | ((row == rows[i]) & (number < i))
            return ((less & counts).astype(rows.dtype),)

        return fold_rows(before, [rows, finite[:, None], numbers[:, None]])[0]

    return lax.map(of_row, numbers)


def _median_among(values: Array, first: Int, end: Int) -> Array:
    """The mean of the values ranked from `first` to before `end`, one or two, of every coordinate."""
    return ranked_sum(values, first, end, sorted_rows(values)) / (end - first)


def _slopes(rows: Array, ranks: Array, finite: Array, count: Array) -> Array:
    """For every row the median slope to the others, (n, d)."""
    numbers = jnp.arange(rows.shape[0])
    first, end = jnp.maximum(count - 2, 0) // 2, (count - 1) // 2 + 1

    def of_row(i: Array) -> Array:
        others = (finite & (numbers != i))[:, None]
        steps = jnp.where(others, ranks - ranks[i], 1.0)
        return _median_among(jnp.where(others, (rows - rows[i]) / steps, jnp.inf), first, end)

    return lax.map(of_row, numbers)


@register_rule(title="Residual reweighting", assumes="n > 2f", source="Fu et al. 2019")
def residual_reweighting(updates: Array, *, bound: Float = 2.0, threshold: Float = 0.1) -> tuple[Array, Info]:
    """Mean of rows weighted by how well their values fit a robust line through the sorted ones (IRLS).

    Per coordinate, with k_i the rank of g_i from 0: the repeated-median slope b = med_i med_{j≠i}
    (g_j − g_i)/(k_j − k_i), the line l_i = med g + b (k_i − (n − 1)/2), residuals r_i = g_i − l_i, their
    scale τ = 1.4826 (1 + 5/(n − 1)) M + 1e-7 with M the median of the |r_i| without the smallest,
    e_i = r_i/τ, h_i = √(1 − leverage of k_i), and the weight of the value min(1, K h_i / |e_i|) with
    K = λ √(2/n). A value of weight below δ becomes l_i. A row's weight is (Σ weights · their
    standard deviation in the coordinate)², and g the weighted mean of the repaired rows. Tolerates f < n/2
    rows, as the line does. The 1e-7 is in the unit of the updates: much smaller ones all fit. A row with a
    non-finite entry is left out of everything; two rows or fewer are averaged.

    Args:
        updates: (n, d).
        bound: λ > 0; may be traced.
        threshold: δ, 0 to 1; may be traced.

    Returns:
        (d,), in the type of `updates`; 0 if no row is finite.

    Raises:
        ValueError: if `updates` is not (n, d) or a static number is out of range.

    Example:
        >>> rows = jnp.array([[1.0, 0.5], [1.1, 0.4], [1.2, 0.6], [1.3, 0.7], [-9.0, 8.0]])
        >>> residual_reweighting(rows).round(2).tolist()
        [1.149999976158142, 0.550000011920929]

    Source: Fu, Xie, Li, Chen, "Attack-resistant federated learning with residual-based reweighting", 2019,
    and the authors' code. FedML also takes residuals from the median, without a line.
    """
    bound = real("bound", bound, above=0, finite=True)
    threshold = real("threshold", threshold, at_least=0, at_most=1)
    # Lines and weights are medians of medians: no gradient passes through them.
    fixed = lax.stop_gradient(updates)
    finite = finite_rows(fixed)
    rows = jnp.where(finite[:, None], fixed, 0.0)
    count = jnp.sum(finite)
    size = jnp.maximum(count, 3).astype(rows.dtype)
    ranks = _ranks(rows, finite)
    slope = median_of_some(_slopes(rows, ranks, finite, count), finite)
    line = median_of_some(rows, finite) + slope * (ranks - (size - 1) / 2)
    residuals = jnp.where(finite[:, None], jnp.abs(rows - line), jnp.inf)
    first, end = jnp.maximum(count, 2) // 2, (count + 1) // 2 + 1
    middle = _median_among(residuals, first, jnp.maximum(end, first + 1))
    scale = 1.4826 * (1 + 5 / (size - 1)) * middle + 1e-7
    leverage = 1 / size + jnp.square(ranks - (size - 1) / 2) * 12 / (size * (size**2 - 1))
    reach = bound * jnp.sqrt(2 / size) * jnp.sqrt(jnp.maximum(1 - leverage, 0.0)) * scale
    far = residuals > reach
    fit = jnp.where(far, reach / jnp.where(far, residuals, 1.0), 1.0)
    fit = jnp.where(finite[:, None], fit, 0.0)
    spread = jnp.where(finite[:, None], jnp.square(fit - jnp.sum(fit, axis=0) / size), 0.0)
    deviation = jnp.sqrt(jnp.sum(spread, axis=0) / (size - 1))
    totals = jnp.sum(fit * deviation, axis=1)
    largest = jnp.max(totals)
    # Where all values fit, or there is no line, all rows count the same.
    fits = (largest > 0) & (count > 2)
    shares = jnp.where(fits, jnp.square(totals / jnp.where(fits, largest, 1.0)), finite.astype(rows.dtype))
    weights = as_shares(shares)
    kept = (fit >= threshold) | (count <= 2)
    repaired = jnp.where(finite[:, None] & kept, updates, jnp.where(finite[:, None], line, 0.0))
    return weighted_rows(weights, repaired), {"weights": weights}
