"""FABA: rows are dropped one after the other, the one farthest from the mean of the rest first."""

import jax
import jax.numpy as jnp
from jax import Array

from fljax.aggregators.registry import register_rule
from fljax.base import Info
from fljax.numerics.averages import mean_of_rows
from fljax.numerics.checks import Int, below_half
from fljax.numerics.neighbors import squared_distances
from fljax.numerics.safe import dot, finite_rows


@register_rule(title="FABA", assumes="n > 2f", source="Xia et al. 2019", surrogate="distance")
def faba(updates: Array, *, num_malicious: Int, strict: bool = True) -> tuple[Array, Info]:
    """Mean of the rows that are left after the one farthest from their mean was dropped f times (FABA).

    Starting from all rows K, f = `num_malicious` times the row argmax_{i ∈ K} ‖g_i − ḡ_K‖ leaves K, ties by
    the lowest row; g = ḡ_K. Since ‖g_i − ḡ_K‖² = (1/|K|) Σ_{j ∈ K} ‖g_i − g_j‖² less what all rows have in
    common, the row to drop is the one of largest summed squared distance to the rows left, and all steps
    take one matrix of distances. Tolerates f < n/2 rows as far as each hostile row is farther out than the
    honest ones when its turn comes. A row with a non-finite entry is dropped beforehand and counts among
    the f; with more than f of them no other row is dropped.

    Args:
        updates: (n, d).
        num_malicious: f, how many rows to drop, 0 ≤ f < n/2; a traced value is clamped to that range
            (largest ⌈n/2⌉ − 1).
        strict: whether to insist on n > 2f; False takes any f < n, without a guarantee.

    Returns:
        (d,), in the type of `updates`; NaN if no row is finite.

    Raises:
        ValueError: if `updates` is not (n, d), or a static `num_malicious` is out of range.

    Example:
        >>> faba(jnp.array([[0.0], [1.0], [2.0], [5.0], [50.0]]), num_malicious=2).tolist()
        [1.0]

    Source: Xia, Tao, Hao, Li, "FABA: An algorithm for fast aggregation against Byzantine attacks in
    distributed neural networks", IJCAI 2019.
    """
    n = updates.shape[0]
    f = below_half(num_malicious, n, strict)
    # Which rows are kept is a step function of the updates: no gradient passes through it.
    fixed = jax.lax.stop_gradient(updates)
    finite = finite_rows(fixed)
    squares = jnp.where(finite[:, None] & finite[None, :], squared_distances(fixed), 0.0)

    def drop_one(_: Array, kept: Array) -> Array:
        # Not less than zero: a product may come out below it by rounding.
        totals = jnp.where(kept, jnp.maximum(dot(squares, kept.astype(squares.dtype)), 0.0), -1.0)
        return kept.at[jnp.argmax(totals)].set(False)

    drops = jnp.maximum(f - jnp.sum(~finite), 0)
    kept = jax.lax.fori_loop(0, drops, drop_one, finite)
    update, selected = mean_of_rows(kept, updates)
    return update, {"selected": selected}
