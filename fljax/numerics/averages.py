"""Averages of rows, where a row that does not count may hold anything."""

import jax
import jax.numpy as jnp
from jax import Array

from fljax.numerics.rows import Rows, fold, sum_rows
from fljax.numerics.safe import finite_by_entries, for_all, product


def _as_it_is(coefficients: Array, updates: Array, result: Array) -> Array:
    return result


def _product_of_used(coefficients: Array, updates: Array, result: Array | None = None) -> Array:
    used = jnp.any(jnp.atleast_2d(coefficients) != 0, axis=0)
    return product(coefficients, jnp.where(used[:, None], updates, 0.0))


def weighted_rows(coefficients: Array, updates: Array, usable: Array | None = None) -> Array:
    """`coefficients @ updates`, where a row that no coefficient uses may hold anything, NaN included.

    Args:
        coefficients: (n,) or (k, n).
        updates: (n, d) float32 or float64.
        usable: (n,) bool, which rows are finite, where it is known; else the result tells.

    Returns:
        (d,) or (k, d).
    """
    if isinstance(updates, Rows):
        return sum_rows(lambda rows, own: weighted_rows(own, rows), updates, coefficients)
    if usable is not None:
        return jax.lax.cond(for_all(jnp.all(usable)), product, _product_of_used, coefficients, updates)
    # 0 · NaN shows in the result, so that looking for it costs no pass over the stack.
    result = product(coefficients, updates)
    fine = jnp.all(jnp.isfinite(result))
    return jax.lax.cond(for_all(fine), _as_it_is, _product_of_used, coefficients, updates, result)


def _mean_as_it_is(selected: Array, updates: Array, result: Array) -> tuple[Array, Array]:
    return result, selected


def _mean_of_finite(selected: Array, updates: Array, result: Array) -> tuple[Array, Array]:
    used = selected & finite_by_entries(updates)
    # Without any the mean is 0 / 0.
    weights = used.astype(updates.dtype) / jnp.sum(used, dtype=updates.dtype)
    return product(weights, jnp.where(used[:, None], updates, 0.0)), used


def _mean_of_chunks(selected: Array, updates: Rows) -> tuple[Array, Array]:
    n = len(updates)

    def part(rows: Array, own: Array) -> tuple[tuple[Array, Array], Array]:
        mean, used = mean_of_rows(own, rows)
        count = jnp.sum(used, dtype=rows.dtype)
        # The share first: a sum could overflow.
        return (jnp.where(count > 0, count / n * mean, 0.0), count), used

    (total, count), used = fold(part, updates, selected)
    # Without any it is 0 / 0.
    return n / count * total, used


def mean_of_rows(selected: Array, updates: Array) -> tuple[Array, Array]:
    """The mean of the selected rows that are finite, (d,), NaN if none is; and the mask (n,) of those rows.

    Args:
        selected: (n,) bool, at least one.
        updates: (n, d) float32 or float64; rows that are not selected may hold anything.
    """
    if isinstance(updates, Rows):
        return _mean_of_chunks(selected, updates)
    # As in `weighted_rows`, a non-finite row shows in the result.
    result = product(selected.astype(updates.dtype) / jnp.sum(selected, dtype=updates.dtype), updates)
    fine = jnp.all(jnp.isfinite(result))
    return jax.lax.cond(for_all(fine), _mean_as_it_is, _mean_of_finite, selected, updates, result)
