"""Multi-metrics: the rows with the smallest whitened distances from all others in three metrics."""

from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array

from fljax.aggregators.registry import register_rule
from fljax.base import Info
from fljax.numerics.averages import weighted_rows
from fljax.numerics.blocks import fold_columns
from fljax.numerics.checks import ArgumentError, Float, option, real, shaped
from fljax.numerics.cosines import cosine_distances
from fljax.numerics.eigen import eigenpairs
from fljax.numerics.neighbors import first_in_order
from fljax.numerics.safe import contained, distances_to, dot, largest_entries, row_norms
from fljax.numerics.sharding import whole_on_cpu
from fljax.numerics.weights import relative_weights

# Directions in which the three metrics vary by less, beside the others, are rounding.
ROUNDING = 16.0
# The columns of a block.
COLUMNS = 1024


def _in_one_unit(stack: Array, valid: Array) -> Array:
    """The valid rows in a unit in which no sum of them overflows or vanishes; others zero."""
    largest = jnp.max(jnp.where(valid, largest_entries(stack), 0.0), initial=0.0)
    exponent = jnp.clip(jnp.floor(jnp.log2(jnp.where(largest > 0, largest, 1.0))), -100, 100)
    # Rows of ordinary size stay as they are.
    exponent = jnp.where(jnp.abs(exponent) < 40, 0.0, exponent)
    return jnp.where(valid[:, None], stack * jnp.exp2(-exponent), 0.0)


def _manhattan_sums(rows: Array, valid: Array) -> Array:
    """Σ_j ‖g_i − g_j‖₁ over the valid rows, (n,): one pass over the stack for every row.

    On a CPU it is read by blocks of columns, of which all pairs are made while they are in the cache.
    """

    def of_block(block: Array) -> Array:
        def of_row(row: Array) -> Array:
            apart = jnp.sum(jnp.abs(block - row), axis=1)
            return jnp.sum(jnp.where(valid, apart, 0.0))

        return jax.lax.map(of_row, block)

    if not whole_on_cpu() or rows.shape[1] < 2 * COLUMNS:
        return of_block(rows)
    return fold_columns(of_block, COLUMNS, rows)


def _whitened(features: Array, valid: Array) -> Array:
    """vᵀ Σ⁻¹ v of every row v, not centred, Σ the covariance of the valid rows; (n,) of (n, 3).

    A direction in which nothing varies is the same for all rows, and counts for none.
    """
    count = jnp.maximum(jnp.sum(valid), 1).astype(features.dtype)
    largest = jnp.max(jnp.where(valid[:, None], jnp.abs(features), 0.0), axis=0)
    features = jnp.where(valid[:, None], features, 0.0) / jnp.where(largest > 0, largest, 1.0)
    centred = jnp.where(valid[:, None], features - jnp.sum(features, axis=0) / count, 0.0)
    spread = jnp.sqrt(jnp.sum(jnp.square(centred), axis=0) / jnp.maximum(count - 1, 1))
    eps = ROUNDING * jnp.finfo(features.dtype).eps
    varies = spread > eps
    scale = jnp.where(varies, 1.0 / jnp.where(varies, spread, 1.0), 0.0)
    features, centred = features * scale, centred * scale
    values, vectors = eigenpairs(dot(centred.T, centred) / jnp.maximum(count - 1, 1))
    varies = values > eps * jnp.max(values)
    along = jnp.square(dot(features, vectors))
    return jnp.sum(jnp.where(varies, along / jnp.where(varies, values, 1.0), 0.0), axis=1)


@register_rule(
    title="Multi-metrics", assumes="most rows alike", source="Huang et al. 2023", surrogate="distance"
)
def multi_metrics(
    updates: Array,
    weights: Array | None = None,
    params: Array | None = None,
    *,
    share: Float = 0.3,
    on: Literal["models", "updates"] = "updates",
) -> tuple[Array, Info]:
    """The mean of the rows nearest to all others in angle, Manhattan distance and length together.

    x_i = Σ_j (1 − cos_ij)², y_i = Σ_j ‖g_i − g_j‖₁ and z_i = Σ_j |‖g_i‖ − ‖g_j‖| make v_i = (x, y, z)_i, not
    centred. The score of a row is v_iᵀ Σ⁻¹ v_i with Σ the covariance of the n triples;
    g = Σ_i p_i g_i over the ⌊share · n⌋ rows of smallest score (at least one, ties to the lowest rows), p_i
    their shares of the examples.

    A heuristic for few hostile rows that are unlike most others, and without a bound on the error or on the
    length: the three sums are large for every row where one row is far away, and Σ is of hostile rows as
    well. Where all rows are alike in a metric, it says nothing. A row with a non-finite entry (or norm) is
    left out of every statistic; without another row the result is 0.

    Args:
        updates: (n, d).
        weights: (n,) numbers of examples; None for equal ones.
        params: (d,) w, the global model; for `on="models"` only.
        share: p, the share of rows that is averaged, above 0, at most 1; may be traced.
        on: whose metrics: those of the "updates" g_i, or of the "models" w + g_i, as in the authors' code.

    Returns:
        (d,), in the type of `updates`.

    Raises:
        ValueError: if shapes do not fit, a static argument is out of range, or params is missing.

    Example:
        >>> rows = jnp.array([[1.0, 0.5], [0.9, 0.6], [1.1, 0.4], [1.0, 0.6], [-3.0, 2.0]])
        >>> multi_metrics.explained(rows, share=0.4)[1]["selected"].tolist()
        [True, False, False, True, False]

    Source: Huang, Li, Yan, Wu, Cao, "Multi-metrics adaptively identifies backdoors in federated learning",
    ICCV 2023; p = 0.3 in the authors' code.
    """
    share = real("share", share, above=0, at_most=1)
    option("on", on, ("models", "updates"))
    origin = None
    if on == "models":
        if params is None:
            raise ArgumentError('on="models" needs params, the global model')
        origin = shaped("params", params, updates.shape[1:]).astype(updates.dtype)
    counts = relative_weights(weights, updates.shape[0], updates.dtype)
    stack = contained(updates)
    fixed = jax.lax.stop_gradient(stack)
    valid = jnp.isfinite(row_norms(fixed))
    rows = _in_one_unit(fixed, valid)
    angles = jnp.where(valid, cosine_distances(fixed, origin), 0.0)
    lengths = row_norms(fixed) if origin is None else distances_to(fixed, -origin)
    longest = jnp.max(jnp.where(valid, lengths, 0.0), initial=0.0)
    lengths = jnp.where(valid, lengths, 0.0) / jnp.where(longest > 0, longest, 1.0)
    beside = jnp.where(valid, jnp.abs(lengths[:, None] - lengths), 0.0)
    features = jnp.stack(
        [jnp.sum(jnp.square(angles), axis=1), _manhattan_sums(rows, valid), jnp.sum(beside, axis=1)], axis=1
    )
    scores = _whitened(features, valid)
    # Not one row fewer because 0.3 · 10 is rounded down.
    count = jnp.floor(share * jnp.sum(valid) + 1e-4).astype(jnp.int32)
    selected = valid & first_in_order(jnp.maximum(count, 1), ~valid, scores)
    counts = jnp.where(selected, counts, 0.0)
    total = jnp.sum(counts)
    update = weighted_rows(counts / jnp.where(total > 0, total, 1.0), stack, valid)
    return update, {"selected": selected}
