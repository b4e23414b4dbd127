"""Products with the Hessian that a few steps and changes of a gradient tell of."""

import jax
import jax.numpy as jnp
from jax import Array

from fljax.numerics.safe import dot


def _solved(matrix: Array, right: Array) -> Array:
    """The solution of a small system by elimination with pivots; not finite where it is singular."""
    n = right.shape[0]
    system = jnp.concatenate([matrix, right[:, None]], axis=1)

    def eliminate(k: Array, system: Array) -> Array:
        below = jnp.where(jnp.arange(n) >= k, jnp.abs(system[:, k]), -1.0)
        pivot = jnp.argmax(below)
        first, row = system[k], system[pivot]
        system = system.at[pivot].set(first)
        row = row / row[k]
        return (system - jnp.outer(system[:, k], row)).at[k].set(row)

    return jax.lax.fori_loop(0, n, eliminate, system)[:, n]


def hessian_product(steps: Array, changes: Array, age: Array, vector: Array) -> tuple[Array, Array]:
    """The product Hv of a vector with the Hessian that L-BFGS makes of steps s and changes y.

    With the columns of S and Y from old to new, σ = y·s/‖s‖² of the newest, L the strict lower triangle of
    SᵀY and D its diagonal, Hv = σv − [σS Y] [[σSᵀS, L], [Lᵀ, −D]]⁻¹ [σSᵀv; Yᵀv]. With −Y for Y it is −Hv.

    Args:
        steps: (N, d).
        changes: (N, d).
        age: (N,) int32, 0 for the newest pair; −1 for a place without one.
        vector: (d,).

    Returns:
        (d,), 0 where the system is singular or not finite; and a bool scalar, whether it is not.

    Source: Byrd, Nocedal, Schnabel, "Representations of quasi-Newton matrices and their use in limited memory
    methods", Mathematical Programming 1994.
    """
    n = age.shape[0]
    used = age >= 0
    both = used[:, None] & used[None, :]
    newest = used & (age == 0)
    inner, crossed = dot(steps, steps.T), dot(steps, changes.T)
    square = jnp.sum(jnp.where(newest, jnp.diagonal(inner), 0.0))
    sigma = jnp.sum(jnp.where(newest, jnp.diagonal(crossed), 0.0)) / jnp.where(square > 0, square, 1.0)
    lower = jnp.where(both & (age[:, None] < age[None, :]), crossed, 0.0)
    diagonal = jnp.where(used, jnp.diagonal(crossed), 1.0)
    upper_left = jnp.where(both, sigma * inner, jnp.eye(n, dtype=inner.dtype))
    matrix = jnp.block([[upper_left, lower], [lower.T, -jnp.diag(diagonal)]])
    along = jnp.where(used, dot(steps, vector), 0.0), jnp.where(used, dot(changes, vector), 0.0)
    right = jnp.concatenate([sigma * along[0], along[1]])
    # Steps and changes have different units.
    unit = jnp.abs(jnp.diagonal(matrix))
    unit = jax.lax.rsqrt(jnp.where(unit > 0, unit, 1.0))
    found = unit * _solved(unit[:, None] * matrix * unit, unit * right)
    product = sigma * vector - sigma * dot(found[:n], steps) - dot(found[n:], changes)
    fine = (square > 0) & jnp.any(used) & jnp.all(jnp.isfinite(found)) & jnp.all(jnp.isfinite(product))
    return jnp.where(fine, product, 0.0), fine
