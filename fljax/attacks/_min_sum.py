"""Min-Sum."""

from typing import Literal

import jax.numpy as jnp
from jax import Array

from fljax.attacks.registry import register_attack
from fljax.attacks.searches.direction import Direction, Search, push
from fljax.numerics.checks import option
from fljax.numerics.safe import distances_to
from fljax.numerics.subset_statistics import Sight


@register_attack(
    title="Min-Sum",
    source="Shejwalkar & Houmansadr 2021",
    assumes="all updates",
    optimises="deviation within the sum of distances",
)
def min_sum(
    updates: Array,
    malicious: Array,
    local_rate: Array | None = None,
    *,
    direction: Direction = "unit",
    bound: Literal["largest", "smallest"] = "largest",
    knowledge: Sight = "full",
    search: Search = "exact",
    start: float = 10.0,
    tolerance: float = 1e-5,
) -> Array:
    """Min-Sum: the longest step along a direction that keeps within the honest rows' summed distances.

    g'_i = μ + γ p for malicious i, with the largest γ for which Σ_i ‖g' − g_i‖² ≤ max_i Σ_j ‖g_i − g_j‖² over
    the known rows; μ and p as for `min_max`. Since the rows' differences from their mean add up to zero, both
    sides share the term Σ_i ‖g_i − μ‖² and γ = max_i ‖g_i − μ‖ / ‖p‖.

    Args:
        updates: (n, d), the rows all clients would send honestly.
        malicious: (n,) boolean.
        local_rate: scalar, the local learning rate; None for 1. `start` and `tolerance` along "unit" and
            "sign" are in units of a gradient (of the mean loss, as in the authors' code), which this turns
            into updates.
        direction: p.
        bound: the "largest" sum of a row, or the "smallest", which puts min_i in place of both max_i.
        knowledge: "full", the honest rows, or "partial", the attackers' own; all rows if there are none.
        search: "exact", or "published", what the authors' halving search finds.
        start: γ the published search tries first; it never exceeds twice as much.
        tolerance: the step at which the published search stops.

    Returns:
        (n, d); honest rows are bit-identical.

    Raises:
        ValueError: if the shapes do not fit, a choice is none of the allowed or not 0 < tolerance < start.

    Example:
        >>> rows, mask = jnp.array([[1.0], [3.0], [0.0]]), jnp.array([False, False, True])
        >>> min_sum(rows, mask)[2].tolist()
        [1.0]

    Source: Shejwalkar & Houmansadr, NDSS 2021. The paper bounds by the largest sum, as FLPoison does, the
    authors' code (and most copies of it) by the smallest: min_sum(..., bound="smallest", search="published").
    See `min_max` for the rest, the sign of "std" included.
    """
    option("bound", bound, ("largest", "smallest"))
    return push(
        updates,
        malicious,
        _within_largest_sum if bound == "largest" else _within_smallest_sum,
        local_rate=local_rate,
        direction=direction,
        knowledge=knowledge,
        search=search,
        start=start,
        tolerance=tolerance,
    )


def _within_largest_sum(rows: Array, updates: Array, mean: Array, towards: Array) -> Array:
    return jnp.max(jnp.where(rows, distances_to(updates, mean), 0.0))


def _within_smallest_sum(rows: Array, updates: Array, mean: Array, towards: Array) -> Array:
    return jnp.min(jnp.where(rows, distances_to(updates, mean), jnp.inf))
