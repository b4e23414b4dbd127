"""Attacks from the statistics of the honest rows: ALIE, inner product manipulation, Min-Max, Min-Sum.

Rows are updates, −β times a gradient. What follows the mean (−μ, sign(μ)) turns around with it; a standard
deviation does not, so that a published μ − zσ of gradients is μ + zσ here. By default the sign is the one
that the authors' code means in training.
"""

from collections.abc import Callable
from typing import Literal, get_args

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.lax import Precision
from jax.scipy.special import ndtri

from fljax.aggregators.arguments import Float, Int, fixed_real, option, real
from fljax.aggregators.linalg import distances_to
from fljax.aggregators.neighbors import BLOCK
from fljax.attacks.base import check_options, check_stack
from fljax.attacks.statistics import Knowledge, deviation_of, known_rows, mean_of, only
from fljax.attacks.units import known_rate

Direction = Literal["unit", "std", "minus_std", "sign"]
Search = Literal["exact", "published"]
# A reciprocal of a smaller norm may be infinite.
TINY = 1e-30


def alie_factor(num_rows: int, num_malicious: Int) -> Array:
    """The factor z of Baruch et al.: as far out as the attackers' supporters among the honest still are.

    z = Φ⁻¹((n − ⌊n/2 + 1⌋) / (n − m)), Φ the normal distribution. With s = ⌊n/2 + 1⌋ − m honest supporters
    the attackers are a majority. The share is clamped to [1/n, 1 − 1/n], which leaves every m ≤ n/2 as
    published (for n > 2) and keeps z finite for a majority of attackers. It is 0 for m = 1 of an odd n and
    m = 2 of an even n, negative for m = 1 of an even n.

    Args:
        num_rows: n.
        num_malicious: m; may be traced.

    Returns:
        float32 scalar.

    Example:
        >>> round(float(alie_factor(50, 24)), 3)  # the paper's worked example: 24 / 26 = 0.923
        1.426
    """
    n = num_rows
    share = (n - (n // 2 + 1)) / jnp.maximum(n - jnp.asarray(num_malicious, jnp.float32), 1.0)
    return ndtri(jnp.clip(share, min(1 / n, 0.5), max(1 - 1 / n, 0.5)))


def alie(
    updates: Array,
    malicious: Array,
    *,
    z: float | Array | None = None,
    knowledge: Knowledge = "partial",
    ddof: int = 0,
) -> Array:
    """A little is enough: the mean of the known rows, shifted by z standard deviations in every coordinate.

    g'_i = μ + z σ for malicious i, μ and σ the mean and the standard deviation per coordinate.

    Args:
        updates: (n, d), the rows all clients would send honestly.
        malicious: (n,) boolean.
        z: the factor, of either sign; None for `alie_factor` of n and the number m of malicious rows. z > 0
            makes every coordinate of the updates larger, of the gradients smaller.
        knowledge: "partial", μ and σ of the attackers' own rows, or "full", of the honest ones; of all rows
            if there are none. A single attacker with its own row only has σ = 0 and sends what it trained.
        ddof: σ is divided by the number of rows less this, 0 or 1.

    Returns:
        (n, d); honest rows are bit-identical.

    Raises:
        ValueError: if the shapes do not fit, `knowledge` is neither, a static `z` is not finite or `ddof` is
            neither 0 nor 1.

    Example:
        >>> rows = jnp.array([[1.0], [4.0], [7.0], [0.0]])
        >>> mask = jnp.array([False, False, False, True])
        >>> alie(rows, mask, z=1.5, knowledge="full", ddof=1)[3].tolist()
        [8.5]

    Source: Baruch et al., "A little is enough: circumventing defenses for distributed learning", NeurIPS
    2019. In training, with rows that are updates:

        Baruch et al.        alie(...)                                         μ − zσ of gradients
        Karimireddy et al.   alie(..., knowledge="full", ddof=1)               μ − zσ of gradients
        FLPoison             alie(..., knowledge="full")                       μ + zσ of updates
        ByzFL, τ = 1.5       alie(..., z=-1.5, knowledge="full", ddof=1)       μ + τσ of gradients

    On one and the same stack ByzFL's formula is z = τ, as in the example.
    """
    updates, malicious = check_stack("alie", updates, malicious)
    ddof = option("alie", "ddof", ddof, (0, 1))
    if z is None:
        factor: Float = alie_factor(updates.shape[0], jnp.sum(malicious))
    else:
        factor = real("alie", "z", z, finite=True)
    mean, deviation = mean_and_deviation(known_rows("alie", malicious, knowledge), updates, ddof)
    crafted = mean + jnp.asarray(factor, updates.dtype) * deviation
    return jnp.where(malicious[:, None], crafted, updates)


def mean_and_deviation(rows: Array, updates: Array, ddof: int = 0) -> tuple[Array, Array]:
    """Mean and standard deviation per coordinate of the rows in the mask, (d,) each."""
    mean = mean_of(rows, updates)
    return mean, deviation_of(rows, updates, mean, ddof)


def ipm(updates: Array, malicious: Array, *, epsilon: float | Array) -> Array:
    """Inner product manipulation (Fall of Empires): a negative multiple of the honest mean.

    g'_i = −ε μ for malicious i, μ the mean of the honest rows. A small ε passes distance-based rules and
    still makes ⟨aggregate, μ⟩ negative where the crafted rows are chosen.

    Args:
        updates: (n, d), the rows all clients would send honestly.
        malicious: (n,) boolean; if no row is honest, μ is the mean of all.
        epsilon: ε ≥ 0.

    Returns:
        (n, d); honest rows are bit-identical.

    Raises:
        ValueError: if the shapes do not fit or a static `epsilon` is negative.

    Example:
        >>> ipm(jnp.array([[1.0], [3.0], [0.0]]), jnp.array([False, False, True]), epsilon=0.5)[2].tolist()
        [-1.0]

    Source: Xie et al., "Fall of empires: breaking Byzantine-tolerant SGD by inner product manipulation", UAI
    2019 (PMLR 2020). The factor has no default: ByzFL takes 2, FLPoison 0.1, Blades 1. ByzFL's earlier Fall
    of Empires multiplies the mean by 1 − τ instead of −τ.
    """
    updates, malicious = check_stack("ipm", updates, malicious)
    epsilon = real("ipm", "epsilon", epsilon, at_least=0)
    mean = mean_of(known_rows("ipm", malicious, "full"), updates)
    return jnp.where(malicious[:, None], -jnp.asarray(epsilon, updates.dtype) * mean, updates)


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
    check_options("min_sum", bound=(bound, ("largest", "smallest")))
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
    check_options(attack, direction=(direction, get_args(Direction)), search=(search, ("exact", "published")))
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
