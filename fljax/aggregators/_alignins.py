"""AlignIns: rows whose direction and principal signs align with the model and the majority."""

import jax
import jax.numpy as jnp
from jax import Array

from fljax.aggregators.registry import register_rule
from fljax.base import Info
from fljax.numerics.checks import Float, fixed_real, real, shaped
from fljax.numerics.clipping import clipped_sum
from fljax.numerics.cosines import cosines_to
from fljax.numerics.masked import masked_median, mz_scores
from fljax.numerics.order_statistics import fold_rows, top_of_rows
from fljax.numerics.safe import contained, safe_norms
from fljax.numerics.weights import relative_weights


def _vote(row: Array, counts: Array) -> tuple[Array, ...]:
    return (jnp.where(counts, jnp.sign(row), 0.0),)


def _sign_alignment(stack: Array, valid: Array, share: float) -> Array:
    """The share of every row's largest entries whose sign is that of the majority, (n,)."""
    d = stack.shape[1]
    (votes,) = fold_rows(_vote, [stack, valid])
    size = max(1, int(share * d))
    counted = top_of_rows(stack, size).holds(stack)
    aligned = counted & (jnp.sign(stack) == jnp.sign(votes))
    return jnp.sum(aligned, axis=1, dtype=jnp.int32).astype(stack.dtype) / size


@register_rule(
    title="AlignIns",
    assumes="n > 2f; bounds the length",
    source="Xu et al. 2025",
    surrogate="angle",
    clipped=True,
)
def alignins(
    updates: Array,
    params: Array,
    weights: Array | None = None,
    *,
    sparsity: float = 0.3,
    sign_limit: Float = 1.0,
    direction_limit: Float = 1.0,
) -> tuple[Array, Info]:
    """AlignIns: the rows aligned with the model and with the majority's signs, clipped to their median norm.

    TDA_i = cos(g_i, w). With P = sign Σ_i sign g_i and K_i the ⌊s·d⌋ coordinates of largest |g_ik|, MPSA_i is
    the share of k ∈ K_i with sign g_ik = P_k. A row is kept if MZ(TDA) < λ_c and MZ(MPSA) < λ_s, where
    MZ(v) = |v_i − med v| / σ(v), 0 where all are alike. With C the median norm of the kept rows,
    g = Σ_i p_i g_i · min(1, C/‖g_i‖) over them, p_i their shares of the examples.

    A heuristic with fewer than n/2 malicious rows in mind, and without a bound on the error: rows of usual
    alignment are averaged in, whoever sent them, and among honest rows it drops those at the edge. A row with
    a non-finite entry (or norm) is left out of every statistic. Nothing kept: 0, the model stays.

    Args:
        updates: (n, d).
        params: (d,) w, the global model; with w = 0 every TDA is 0.
        weights: (n,) numbers of examples; None for equal ones.
        sparsity: s, the share of coordinates whose signs count, above 0, at most 1; one at least.
        sign_limit: λ_s > 0; may be traced.
        direction_limit: λ_c > 0; may be traced.

    Returns:
        (d,), in the type of `updates`.

    Raises:
        ValueError: if shapes do not fit or a static argument is out of range.

    Example:
        >>> rows = jnp.array([[1.0, 0.4], [0.9, 0.6], [1.1, 0.5], [1.0, 0.5], [-3.0, 2.0]])
        >>> alignins.explained(rows, jnp.array([1.0, 2.0]))[1]["selected"].tolist()
        [True, True, True, True, False]

    Source: Xu, Zhang, Hu, "Detecting backdoor attacks in federated learning via direction alignment
    inspection", CVPR 2025, and the authors' code: s = 0.3, λ_s = λ_c = 1. It takes the lower of the middle
    two values for a median, and drops all rows where all are alike on a statistic, as 0/0 is below no limit.
    """
    share = fixed_real("sparsity", sparsity, above=0, at_most=1)
    sign_limit = real("sign_limit", sign_limit, above=0)
    direction_limit = real("direction_limit", direction_limit, above=0)
    point = shaped("params", params, updates.shape[1:]).astype(updates.dtype)
    counts = relative_weights(weights, updates.shape[0], updates.dtype)
    stack = contained(updates)
    norms = safe_norms(stack)
    lengths = norms.values / norms.shifts
    valid = norms.finite & jnp.isfinite(lengths)
    fixed = jax.lax.stop_gradient(stack)
    selected = valid & (mz_scores(cosines_to(fixed, point), valid) < direction_limit)
    selected = selected & (mz_scores(_sign_alignment(fixed, valid, share), valid) < sign_limit)
    radius = jnp.where(jnp.any(selected), masked_median(lengths, selected), 0.0)
    counts = jnp.where(selected, counts, 0.0)
    total = jnp.sum(counts)
    update = clipped_sum(counts / jnp.where(total > 0, total, 1.0), stack, norms, radius)
    return update, {"selected": selected}
