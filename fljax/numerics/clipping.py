"""Rows shortened to a length, and their average."""

import jax
import jax.numpy as jnp
from jax import Array

from fljax.numerics.averages import weighted_rows
from fljax.numerics.checks import Float
from fljax.numerics.safe import Norms, for_all

# Down to this factor a row may be shortened by its weight, which could otherwise vanish.
SMALLEST_FACTOR = 1e-20


def shortened(updates: Array, norms: Norms, radius: Array | Float) -> Array:
    """Rows longer than `radius` shortened to it, non-finite ones zero, the others bit for bit as they are."""
    long = norms.values > radius * norms.shifts
    # A row that keeps its length is multiplied by 1 · 1. One pass, so that a donated stack is overwritten.
    shifts = jnp.where(long, norms.shifts, 1.0)
    factors = jnp.where(long, radius / jnp.where(long, norms.values, 1.0), 1.0)
    shorter = (updates * shifts[:, None]) * factors[:, None]
    return jnp.where(norms.finite[:, None], shorter, 0.0)


def _by_weights(shares: Array, updates: Array, norms: Norms, radius: Array, factors: Array) -> Array:
    return weighted_rows(shares * factors, updates, norms.finite)


def _row_by_row(shares: Array, updates: Array, norms: Norms, radius: Array, factors: Array) -> Array:
    return weighted_rows(shares, shortened(updates, norms, radius), jnp.ones_like(norms.finite))


def clipped_sum(shares: Array, updates: Array, norms: Norms, radius: Array) -> Array:
    """Σ_i p_i g_i · min(1, radius / ‖g_i‖), in one pass over rows of ordinary size.

    Args:
        shares: p (n,), 0 for a row with a non-finite entry.
        updates: (n, d).
        norms: those of the updates.
        radius: scalar ≥ 0.

    Returns:
        (d,).
    """
    long = norms.values > radius * norms.shifts
    factors = jnp.where(long, radius * norms.shifts / jnp.where(long, norms.values, 1.0), 1.0)
    used = jnp.where(shares > 0, factors, 1.0)
    fine = for_all(jnp.all(used >= SMALLEST_FACTOR) & jnp.all(jnp.where(shares > 0, norms.shifts, 1.0) == 1))
    return jax.lax.cond(fine, _by_weights, _row_by_row, shares, updates, norms, radius, factors)
