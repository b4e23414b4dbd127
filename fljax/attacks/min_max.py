"""Min-Max and Min-Sum: as far along a direction as the honest rows' own distances allow."""

from collections.abc import Callable
from typing import Literal, get_args

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.lax import Precision

from fljax.attacks.checks import fixed_real, option
from fljax.attacks.units import known_rate
from fljax.attacks.wrappers import check_stack
from fljax.numerics.neighbors import BLOCK
from fljax.numerics.safe import distances_to
from fljax.numerics.subset_statistics import Knowledge, deviation_of, known_rows, mean_of, only

Direction = Literal["unit", "std", "minus_std", "sign"]


Search = Literal["exact", "published"]


# A reciprocal of a smaller norm may be infinite.
TINY = 1e-30


def min_max(
    updates: Array,
    malicious: Array,
    local_rate: Array | None = None,
    *,
    direction: Direction = "unit",
    knowledge: Knowledge = "full",
    search: Search = "exact",
    start: float = 10.0,
    tolerance: float = 1e-5,
) -> Array:
    """Min-Max: as far along a direction as no honest row is farther than the two farthest from each other.

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
    return _pushed(
        "min_max",
        _far_from_none,
        updates,
        malicious,
        local_rate,
        direction,
        knowledge,
        search,
        start,
        tolerance,
    )


def min_sum(
    updates: Array,
    malicious: Array,
    local_rate: Array | None = None,
    *,
    direction: Direction = "unit",
    bound: Literal["largest", "smallest"] = "largest",
    knowledge: Knowledge = "full",
    search: Search = "exact",
    start: float = 10.0,
    tolerance: float = 1e-5,
) -> Array:
    """Min-Sum: as far along a direction as the sum of squared distances allows.

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
    option("min_sum", "bound", bound, ("largest", "smallest"))
    farthest = _sum_of_the_farthest if bound == "largest" else _sum_of_the_nearest
    return _pushed(
        "min_sum", farthest, updates, malicious, local_rate, direction, knowledge, search, start, tolerance
    )


def _pushed(
    attack: str,
    farthest: Callable[[Array, Array, Array, Array], Array],
    updates: Array,
    malicious: Array,
    local_rate: Array | None,
    direction: Direction,
    knowledge: Knowledge,
    search: Search,
    start: float,
    tolerance: float,
) -> Array:
    """μ + γ p in the malicious rows; `farthest(rows, updates, mean, p/‖p‖)` is how far, γ ‖p‖."""
    updates, malicious = check_stack(attack, updates, malicious)
    option(attack, "direction", direction, get_args(Direction))
    option(attack, "search", search, ("exact", "published"))
    start = fixed_real(attack, "start", start, above=0, finite=True)
    tolerance = fixed_real(attack, "tolerance", tolerance, above=0)
    if not tolerance < start:
        raise ValueError(f"{attack}: tolerance={tolerance} must be below start={start}")
    rate = known_rate(attack, local_rate)
    rows = known_rows(attack, malicious, knowledge)
    mean = mean_of(rows, updates)
    along = -mean
    if direction in ("std", "minus_std"):
        along = deviation_of(rows, updates, mean, ddof=1)
        along = along if direction == "std" else -along
    elif direction == "sign":
        along = -jnp.sign(mean)
    length = jnp.sqrt(jnp.vdot(along, along, precision=Precision.HIGHEST))
    towards = jnp.where(length > TINY, along / jnp.maximum(length, TINY), 0.0)
    distance = farthest(rows, updates, mean, towards)
    if search == "published":
        step = jnp.ones((), updates.dtype) if direction == "unit" else length
        if direction in ("unit", "sign"):
            step = step * rate
        distance = _as_published(distance, step, start, tolerance)
    return jnp.where(malicious[:, None], mean + distance * towards, updates)


def _as_published(distance: Array, step: Array, start: float, tolerance: float) -> Array:
    """What the halving search finds of the largest allowed distance; a γ of 1 is `step` long.

    The search tries γ = start, then goes up or down by half as much as before, until that is at most the
    tolerance: a bisection of [0, 2 start] that returns the largest point of its grid that is allowed.
    """
    tries = int(np.ceil(np.log2(start / tolerance)))
    grid = start / 2 ** (tries - 1) * step
    allowed = jnp.floor(distance / jnp.maximum(grid, TINY))
    return grid * jnp.minimum(allowed, 2.0**tries - 1)


def _far_from_none(rows: Array, updates: Array, mean: Array, towards: Array) -> Array:
    centred = only(rows, updates - mean)
    squares, diameter = _square_diameter(centred)
    slope = -jnp.matmul(centred, towards, precision=Precision.HIGHEST)
    distances = jnp.sqrt(slope**2 + jnp.maximum(diameter - squares, 0.0)) - slope
    return jnp.min(jnp.where(rows, distances, jnp.inf))


def _square_diameter(centred: Array) -> tuple[Array, Array]:
    """Squared norms of the rows, and the largest squared distance between two of them.

    About their mean, which is between them, the rows are no longer than the diameter: nothing cancels.
    """
    n = centred.shape[0]
    squares = jnp.einsum("nd,nd->n", centred, centred, precision=Precision.HIGHEST)

    def largest_from(block: Array, own: Array) -> Array:
        products = jnp.matmul(centred, block.T, precision=Precision.HIGHEST)
        return jnp.max(squares[:, None] + own - 2.0 * products)

    def step(i: Array, largest: Array) -> Array:
        # The last block may overlap the one before it.
        first = jnp.minimum(i * BLOCK, n - BLOCK)
        block, own = (lax.dynamic_slice_in_dim(a, first, BLOCK) for a in (centred, squares))
        return jnp.maximum(largest, largest_from(block, own))

    if n <= BLOCK:
        return squares, largest_from(centred, squares)
    return squares, lax.fori_loop(0, -(-n // BLOCK), step, jnp.zeros((), centred.dtype))


def _sum_of_the_farthest(rows: Array, updates: Array, mean: Array, towards: Array) -> Array:
    return jnp.max(jnp.where(rows, distances_to(updates, mean), 0.0))


def _sum_of_the_nearest(rows: Array, updates: Array, mean: Array, towards: Array) -> Array:
    return jnp.min(jnp.where(rows, distances_to(updates, mean), jnp.inf))
