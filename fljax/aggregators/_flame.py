"""FLAME: the majority that hangs together, clipped to the median norm, with noise."""

from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array

from fljax.aggregators.registry import register_rule
from fljax.base import Info
from fljax.numerics.checks import ArgumentError, Float, is_static, option, real, shaped
from fljax.numerics.clipping import clipped_sum
from fljax.numerics.cosines import cosine_distances
from fljax.numerics.linkage import majority_component
from fljax.numerics.masked import masked_median
from fljax.numerics.safe import contained, safe_norms
from fljax.numerics.sharding import by_columns


@register_rule(
    title="FLAME",
    assumes="n > 2f; bounds the length",
    source="Nguyen et al. 2022",
    surrogate="distance",
    clipped=True,
)
def flame(
    updates: Array,
    params: Array | None = None,
    key: Array | None = None,
    *,
    noise_multiplier: Float = 1e-3,
    on: Literal["models", "updates"] = "models",
) -> tuple[Array, Info]:
    """FLAME: the largest crowd of models by angle, clipped to the median norm, averaged, with noise.

    With u_i = w + g_i, D_ij = 1 − cos(u_i, u_j) and S the median of all norms ‖g_i‖,
    g = (1/|B|) Σ_{i ∈ B} min(1, S/‖g_i‖) · g_i + N(0, (λS)² I). B is the cluster that HDBSCAN finds in D with
    `min_cluster_size` ⌊n/2⌋ + 1, `min_samples` 1 and a single cluster allowed. As no split can leave two
    clusters of that size, it is the first single-linkage cluster that holds a majority.

    A heuristic with fewer than n/2 malicious rows in mind. It leaves out rows that point elsewhere, not ones
    that an attacker fits into the crowd. ‖g‖ ≤ S holds up to the noise, and with fewer than n/2 malicious
    rows S is at most the longest honest norm. Where honest rows are as spread as hostile ones, or the rows
    fall into two halves, everybody is kept. A row with a non-finite entry (or norm) is left out of every
    statistic; without another row the result is 0.

    Args:
        updates: (n, d).
        params: (d,) w, the global model; not needed for `on="updates"`.
        key: typed PRNG key of the noise; not needed where `noise_multiplier` is a plain 0.
        noise_multiplier: λ ≥ 0; may be traced. For (ε, δ)-differential privacy λ = √(2 ln(1.25/δ))/ε.
        on: whose angles count: "models" w + g_i, as in the paper, or "updates" g_i.

    Returns:
        (d,), in the type of `updates`.

    Raises:
        ValueError: if shapes do not fit, a static argument is out of range, or params or key is missing.

    Example:
        >>> rows = jnp.array([[1.0, 0.1], [1.0, -0.1], [0.9, 0.0], [-1.0, 0.2]])
        >>> flame.explained(rows, jnp.array([2.0, 1.0]), noise_multiplier=0.0)[1]["selected"].tolist()
        [True, True, True, False]

    Source: Nguyen et al., "FLAME: taming backdoors in federated learning", USENIX Security 2022; λ = 0.001
    there for images and words, 0.01 for intrusion detection. Ports differ: SAFEFL and CRYPTO-KU take the
    angles of updates; LFighter and Indicator hand the distances to HDBSCAN as features; SAFEFL, LFighter and
    Indicator add noise of deviation (λS)², FLPoison and BackFed noise in proportion to each tensor's spread.
    """
    scale = real("noise_multiplier", noise_multiplier, at_least=0, finite=True)
    option("on", on, ("models", "updates"))
    quiet = is_static(scale) and scale == 0
    if key is None and not quiet:
        raise ArgumentError(f"noise_multiplier={noise_multiplier} needs a key")
    origin = None
    if on == "models":
        if params is None:
            raise ArgumentError('on="models" needs params, the global model')
        origin = shaped("params", params, updates.shape[1:]).astype(updates.dtype)
    stack = contained(updates)
    norms = safe_norms(stack)
    lengths = norms.values / norms.shifts
    valid = norms.finite & jnp.isfinite(lengths)
    middle = jnp.where(jnp.any(valid), masked_median(lengths, valid), 0.0)
    selected = majority_component(cosine_distances(stack, origin), valid)
    shares = selected / jnp.maximum(jnp.sum(selected), 1).astype(stack.dtype)
    update = clipped_sum(shares, stack, norms, middle)
    if key is not None and not quiet:
        noise = by_columns(jax.random.normal(key, update.shape, update.dtype))
        update = update + scale * middle * noise
    return update, {"selected": selected}
