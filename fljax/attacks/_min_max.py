"""Min-Max."""

import jax.numpy as jnp
from jax import Array

from fljax.attacks.registry import register_attack
from fljax.attacks.searches.direction import Direction, Search, push
from fljax.numerics.blocks import map_blocks, rows_of
from fljax.numerics.neighbors import BLOCK
from fljax.numerics.safe import dot, square_norms
from fljax.numerics.subset_statistics import Sight, only


@register_attack(
    title="Min-Max",
    source="Shejwalkar & Houmansadr 2021",
    assumes="all updates",
    optimises="deviation within the largest distance",
)
def min_max(
    updates: Array,
    malicious: Array,
    local_rate: Array | None = None,
    *,
    direction: Direction = "unit",
    knowledge: Sight = "full",
    search: Search = "exact",
    start: float = 10.0,
    tolerance: float = 1e-5,
) -> Array:
    """Min-Max: the longest step along a direction that stays within the honest rows' largest distance.

    g'_i = μ + γ p for malicious i, with the largest γ for which max_i ‖g' − g_i‖ ≤ max_ij ‖g_i − g_j‖ over
    the known rows, μ their mean, and p = −μ/‖μ‖ ("unit"), σ ("std"), −σ ("minus_std") or −sign(μ) ("sign").
    With the squared distances a_i = ‖μ − g_i‖², b_i = ⟨p, μ − g_i⟩ and the squared diameter D², γ is the
    smallest positive root of ‖p‖² γ² + 2 b_i γ + a_i = D² over the rows i; γ = 0 is always allowed.

    Args:
        updates: (n, d), the rows all clients would send honestly.
        malicious: (n,) boolean.
        local_rate: scalar, the local learning rate; None for 1. `start` and `tolerance` along "unit" and
            "sign" are in units of a gradient (of the mean loss, as in the authors' code), which this turns
            into updates.
        direction: p.
        knowledge: "full", the honest rows, or "partial", the attackers' own; all rows if there are none.
        search: "exact", the root; "published", what the authors' halving search finds of it.
        start: γ the published search tries first; it never exceeds twice as much.
        tolerance: the step at which the published search stops.

    Returns:
        (n, d); honest rows are bit-identical. With "exact" the crafted row lies on the bound up to rounding;
        with "published" it is on the inside by less than `2 * tolerance` in γ, or stops at twice `start`.

    Raises:
        ValueError: if the shapes do not fit, a choice is none of the allowed or not 0 < tolerance < start.

    Example:
        >>> rows, mask = jnp.array([[1.0], [3.0], [0.0]]), jnp.array([False, False, True])
        >>> min_max(rows, mask)[2].tolist()
        [1.0]

    Source: Shejwalkar & Houmansadr, "Manipulating the Byzantine: optimizing model poisoning attacks and
    defenses for federated learning", NDSS 2021. The authors' code takes the benign rows, and σ with ddof 1,
    which matters for "published" only. It subtracts γσ from gradients, which is "std" in updates; FLPoison
    subtracts it from updates, which is "minus_std". "unit" and "sign" are the same in both. The authors':
    min_max(..., direction="unit" | "std" | "sign", search="published").
    """
    return push(
        updates,
        malicious,
        _within_diameter,
        local_rate=local_rate,
        direction=direction,
        knowledge=knowledge,
        search=search,
        start=start,
        tolerance=tolerance,
    )


def _within_diameter(rows: Array, updates: Array, mean: Array, towards: Array) -> Array:
    """The longest step from the mean after which no row is farther than the rows' diameter."""
    centred = only(rows, updates - mean)
    squares, diameter = _square_diameter(centred)
    slope = -dot(centred, towards)
    distances = jnp.sqrt(slope**2 + jnp.maximum(diameter - squares, 0.0)) - slope
    return jnp.min(jnp.where(rows, distances, jnp.inf))


def _square_diameter(centred: Array) -> tuple[Array, Array]:
    """Squared norms of the rows, and the largest squared distance between two of them.

    About their mean, which is between them, the rows are no longer than the diameter: nothing cancels.
    """
    n = centred.shape[0]
    squares = square_norms(centred)

    def largest_from(rows: Array, own: Array) -> Array:
        return jnp.max(squares[:, None] + own - 2.0 * dot(centred, rows.T), axis=0)

    if n <= BLOCK:
        return squares, jnp.max(largest_from(centred, squares))

    def of_block(ids: Array) -> Array:
        return largest_from(*(rows_of(array, ids[0], len(ids)) for array in (centred, squares)))

    return squares, jnp.maximum(jnp.max(map_blocks(of_block, n, BLOCK)), 0.0)
