"""FLOD: signs of the updates, weighted by how many of them agree with the server's own."""

import jax.numpy as jnp
from jax import Array

from fljax.aggregators.registry import register_rule
from fljax.base import Info
from fljax.numerics.checks import Float, real, shaped
from fljax.numerics.order_statistics import fold_rows
from fljax.numerics.rows import fold
from fljax.numerics.safe import finite_rows


@register_rule(title="FLOD", assumes="any f, with a clean root", source="Dong et al. 2021", streams=True)
def flod(updates: Array, root_update: Array, *, step: Float, threshold: Float = 0.5) -> tuple[Array, Info]:
    """Signs of the updates, weighted by how near they are to the signs of the server's own update (FLOD).

    h_i = #{j : (g_ij > 0) ≠ (g_0j > 0)} is a row's Hamming distance from the root update, its weight is
    w_i = max(0, τ − h_i) with τ = threshold · d, and g = step · Σ_i w_i sign g_i / Σ_i w_i. It needs no
    bound on the number of malicious rows: a row counts only if it agrees with the server in more than half
    of the coordinates, and no entry of g is larger than the step. A row with a non-finite entry has weight 0;
    with all weights 0 the result is 0 and the model stays.

    Args:
        updates: (n, d).
        root_update: (d,), the server's own update g_0 on the root dataset.
        step: > 0, the size of the result's largest possible entry, in the unit of the updates; may be traced.
            A constant one does not shrink as training converges: decay the server's learning rate.
        threshold: τ/d, above 0, at most 1; may be traced.

    Returns:
        (d,), in the type of `updates`.

    Raises:
        ValueError: if the shapes do not fit or a static number is out of range.

    Example:
        >>> rows = jnp.array([[0.3, 0.1, -2.0], [0.2, -5.0, -1.0], [-9.0, -9.0, 9.0]])
        >>> flod(rows, jnp.array([1.0, 1.0, -1.0]), step=0.1).round(3).tolist()
        [0.10000000149011612, 0.05000000074505806, -0.10000000149011612]

    Source: Dong, Chen, Li, Wang, Yu, "FLOD: Oblivious defender for private Byzantine-robust federated
    learning with dishonest-majority", ESORICS 2021. SAFEFL, in which the formula was read, rounds τ down.
    """
    step = real("step", step, above=0, finite=True)
    threshold = real("threshold", threshold, above=0, at_most=1)
    d = updates.shape[1]
    agreed = shaped("root_update", root_update, (d,)) > 0

    def part(rows: Array) -> tuple[tuple[Array, Array], Array]:
        finite = finite_rows(rows)
        apart = jnp.sum((rows > 0) != agreed, axis=1, dtype=jnp.int32)
        near = jnp.maximum(threshold - apart.astype(rows.dtype) / max(d, 1), 0.0)
        weights = jnp.where(finite, near, 0.0)

        def signs(row: Array, weight: Array) -> tuple[Array]:
            # NaN compares false both ways.
            return (jnp.where(row > 0, weight, 0.0) - jnp.where(row < 0, weight, 0.0),)

        (total,) = fold_rows(signs, [rows, weights[:, None]])
        return (total, jnp.sum(weights)), weights

    (total, weight), weights = fold(part, updates)
    update = jnp.where(weight > 0, total / jnp.where(weight > 0, weight, 1.0), 0.0)
    return step * update, {"weights": weights}
