"""The longest step along a direction that the honest rows' own distances allow."""

from collections.abc import Callable
from typing import Literal, get_args

import jax.numpy as jnp
import numpy as np
from jax import Array

from fljax.attacks.units import known_rate
from fljax.numerics.checks import ArgumentError, fixed_real, option
from fljax.numerics.safe import dot
from fljax.numerics.subset_statistics import Sight, deviation_of, known_rows, mean_of

Direction = Literal["unit", "std", "minus_std", "sign"]


Search = Literal["exact", "published"]


# A reciprocal of a smaller norm may be infinite.
TINY = 1e-30


def push(
    updates: Array,
    malicious: Array,
    farthest: Callable[[Array, Array, Array, Array], Array],
    *,
    local_rate: Array | None,
    direction: Direction,
    knowledge: Sight,
    search: Search,
    start: float,
    tolerance: float,
) -> Array:
    """The stack with μ + γ p in the malicious rows; arguments as for `min_max`.

    Args:
        updates: (n, d).
        malicious: (n,) boolean.
        farthest: `farthest(rows, updates, μ, p/‖p‖) -> γ ‖p‖`, the longest step that is allowed; `rows` (n,)
            is True for the known rows.
        local_rate: scalar, or None for 1.
        direction: p.
        knowledge: which rows are known.
        search: "exact" or "published".
        start: γ the published search tries first.
        tolerance: the step at which it stops.
    """
    option("search", search, ("exact", "published"))
    start = fixed_real("start", start, above=0, finite=True)
    tolerance = fixed_real("tolerance", tolerance, above=0)
    if not tolerance < start:
        raise ArgumentError(f"tolerance={tolerance} must be below start={start}")
    rate = known_rate(local_rate)
    rows = known_rows(malicious, knowledge)
    mean = mean_of(rows, updates)
    towards, length = perturbation(direction, rows, updates, mean)
    distance = farthest(rows, updates, mean, towards)
    if search == "published":
        step = jnp.ones((), updates.dtype) if direction == "unit" else length
        if direction in ("unit", "sign"):
            step = step * rate
        distance = _as_published(distance, step, start, tolerance)
    return jnp.where(malicious[:, None], mean + distance * towards, updates)


def perturbation(direction: Direction, rows: Array, updates: Array, mean: Array) -> tuple[Array, Array]:
    """p/‖p‖, 0 where p is, and ‖p‖.

    Args:
        direction: p: −μ ("unit"), σ ("std"), −σ ("minus_std") or −sign(μ) ("sign").
        rows: (n,) bool, the known rows, which σ is taken over.
        updates: (n, d).
        mean: (d,), μ.
    """
    option("direction", direction, get_args(Direction))
    along = -mean
    if direction in ("std", "minus_std"):
        along = deviation_of(rows, updates, mean, ddof=1)
        along = along if direction == "std" else -along
    elif direction == "sign":
        along = -jnp.sign(mean)
    length = jnp.sqrt(dot(along, along))
    return jnp.where(length > TINY, along / jnp.maximum(length, TINY), 0.0), length


def _as_published(distance: Array, step: Array, start: float, tolerance: float) -> Array:
    """The distance that the halving search finds, given the largest allowed one; a γ of 1 is `step` long.

    The search tries γ = start, then goes up or down by half as much as before, until that is at most the
    tolerance: a bisection of [0, 2 start] that returns the largest point of its grid that is allowed.
    """
    tries = int(np.ceil(np.log2(start / tolerance)))
    grid = start / 2 ** (tries - 1) * step
    allowed = jnp.floor(distance / jnp.maximum(grid, TINY))
    return grid * jnp.minimum(allowed, 2.0**tries - 1)
