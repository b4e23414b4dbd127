"""LASA: every tensor is averaged over the rows whose sparse part has a usual length and usual signs there."""

import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import Array

from fljax.aggregators.layers import checked_layers, columns_of
from fljax.aggregators.registry import register_rule
from fljax.base import Info, Layers
from fljax.numerics.checks import Float, fixed_real, option, real
from fljax.numerics.masked import masked_median, mz_scores
from fljax.numerics.order_statistics import top_of_rows
from fljax.numerics.safe import contained, divide, dot, row_norms


@register_rule(title="LASA", assumes="n > 2f; bounds the length", source="Xu et al. 2025")
def lasa(
    updates: Array,
    layers: Layers | Any,
    *,
    sparsity: float = 0.3,
    norm_limit: Float = 1.0,
    sign_limit: Float = 1.0,
    average: Literal["sparse", "dense"] = "sparse",
) -> tuple[Array, Info]:
    """Every tensor's mean over the rows whose sparse part has a usual length and usual signs there (LASA).

    Rows are clipped to the median norm C. Of the D entries of a row that lie in matrices and convolutions
    (tensors with two axes or more), those stay that are larger in magnitude than the m-th largest,
    m = ⌊D · (1 − `sparsity`)⌋; vectors stay as they are. In tensor l a sparse row has a norm x and a balance
    of signs y = (N₊ − N₋) / (N₊ + N₋). With z(v)_i = |v_i − med v| / σ(v), tensor l of the result is the
    mean over the rows with z(x)_i < `norm_limit` and z(y)_i < `sign_limit`, or over all if there is none.

    A heuristic with fewer than n/2 malicious rows in mind: ‖g‖ ≤ √L · C for L tensors, and C is at most the
    longest honest norm; hostile rows with usual norms and signs are averaged in. A row with a non-finite
    entry (or norm) is left out of every statistic; with no other row the result is 0.

    Args:
        updates: (n, d).
        layers: the tensors that a row is made of, `Layers` or a list of their shapes.
        sparsity: share of the entries of matrices that are zeroed, 0 ≤ s < 1.
        norm_limit: λ_n > 0, in standard deviations; may be traced.
        sign_limit: λ_s > 0, in standard deviations; may be traced.
        average: the rows that are averaged: "sparse" or "dense", clipped in either case.

    Returns:
        (d,), in the type of `updates`. `info.selected` is the share of its tensors by which a row counts.

    Raises:
        ValueError: if the layers do not make up a row, or a static argument is out of range.

    Example:
        >>> rows = jnp.array([[1.0, 2.0, 0.5], [2.0, 1.0, 0.4], [1.5, 1.5, 0.6], [-9.0, -9.0, 9.0]])
        >>> print(lasa(rows, Layers([(2, 1), (1,)]), average="dense").round(3))
        [0.795 0.794 0.499]

    Source: Xu, Zhang, Hu, "Achieving Byzantine-resilient federated learning via layer-adaptive sparsified
    model aggregation", WACV 2025, and the authors' code, which takes the lower of the middle two values as
    median and goes on counting rows with NaN. FLPoison averages dense rows, sparsifies before it clips and
    has λ_n = 2; CRYPTO-KU's library averages dense rows and takes s for the share that stays.
    """
    d = updates.shape[1]
    layers = checked_layers(layers, d)
    share = fixed_real("sparsity", sparsity, at_least=0, at_most=1)
    norm_limit, sign_limit = real("norm_limit", norm_limit, above=0), real("sign_limit", sign_limit, above=0)
    option("average", average, ("sparse", "dense"))
    stack = contained(updates)
    norms = row_norms(stack)
    valid = jnp.isfinite(norms)
    middle = jnp.where(jnp.any(valid), masked_median(norms, valid), 0.0)
    # In units of the median norm no row is longer than 1.
    longest = jnp.maximum(jnp.where(valid, norms, 0.0), middle)
    rows = divide(jnp.where(valid[:, None], stack, 0.0), jnp.where(longest > 0, longest, 1.0)[:, None])

    members = columns_of(layers)
    in_matrix = jnp.any(members & jnp.array([len(shape) > 1 for shape in layers.shapes], bool), axis=1)
    kept = sparse_part(stack, valid, in_matrix, layers, share)
    sparse = jnp.where(kept, rows, 0.0)

    of_tensor = members.astype(rows.dtype)
    fixed = jax.lax.stop_gradient(sparse)
    signs = jnp.sign(fixed)
    lengths = jnp.sqrt(dot(jnp.square(fixed), of_tensor))
    balance = dot(signs, of_tensor) / jnp.maximum(dot(jnp.abs(signs), of_tensor), 1.0)

    def usual(lengths: Array, balance: Array) -> Array:
        some = (mz_scores(lengths, valid) < norm_limit) & (mz_scores(balance, valid) < sign_limit) & valid
        return jnp.where(jnp.any(some), some, valid)

    selected = jax.vmap(usual, in_axes=1, out_axes=1)(lengths, balance).astype(rows.dtype)
    weights = selected / jnp.maximum(jnp.sum(selected, axis=0), 1.0)
    means = dot(weights.T, sparse if average == "sparse" else rows)
    update = middle * jnp.sum(jnp.where(members.T, means, 0.0), axis=0)
    return update, {"selected": jnp.mean(selected, axis=1)}


def sparse_part(stack: Array, valid: Array, in_matrix: Array, layers: Layers, share: float) -> Array:
    """The entries that stay when every row loses the smallest in its matrices, (n, d) bool; see `lasa`."""
    fixed = jax.lax.stop_gradient(stack)
    sizes = jnp.where(valid[:, None] & in_matrix, jnp.abs(fixed), 0.0)
    total = sum(math.prod(shape) for shape in layers.shapes if len(shape) > 1)
    # 0.71 · 100 may be a little below 71 in floating point, and no part of an entry is meant.
    count = int(total * (1 - share) + 1e-9)
    if count == 0:
        return jnp.broadcast_to(~in_matrix, stack.shape)
    limit = jax.lax.bitcast_convert_type(top_of_rows(sizes, count).limit, stack.dtype)
    return ~in_matrix | (sizes > limit[:, None])
