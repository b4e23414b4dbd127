"""The factor of a direction that moves a rule farthest from a point, or closest to it."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from fljax.numerics.checks import ArgumentError, fixed_real
from fljax.numerics.safe import row_norms
from fljax.numerics.subset_statistics import honest_rows, mean_of


class _Best(NamedTuple):
    """The factor that did best so far, and how well."""

    factor: Array
    value: Array


def plan(
    evaluations: int, smallest: float, largest: float, both_signs: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """A geometric grid of factors, and the ratios that the best one so far is multiplied by afterwards.

    With `both_signs` the grid is half as fine, and its negative follows.
    """
    largest = fixed_real("largest", largest, above=0, finite=True)
    smallest = fixed_real("smallest", smallest, above=0)
    if not smallest < largest:
        raise ArgumentError(f"smallest={smallest} must be below largest={largest}")
    num_grid = -(-evaluations // (4 if both_signs else 2))
    grid = np.geomspace(smallest, largest, num_grid)
    ratio = (largest / smallest) ** (1 / max(num_grid - 1, 1))
    # One step up and one down, then half as far on the logarithmic scale.
    if both_signs:
        grid = np.concatenate([grid, -grid])[:evaluations]
    step = np.arange(evaluations - len(grid))
    return grid, ratio ** (np.where(step % 2 == 0, 0.5, -0.5) * 0.5 ** (step // 2))


def send_best(
    updates: Array,
    malicious: Array,
    rule: Callable[[Array], Array],
    *,
    base: Array,
    direction: Array,
    factors: Array,
    shrinking: np.ndarray,
    largest: float,
    target: Array | None = None,
    closest: bool = False,
    prefer_smaller: bool = False,
) -> Array:
    """The stack with malicious rows at base + factor · direction, the factor being the best found.

    Args:
        updates: (n, d).
        malicious: (n,) boolean.
        rule: (n, d) to (d,); a factor is as good as the result is far from the mean of the honest rows.
        base: (d,).
        direction: (d,), or (n, d) with one for each row.
        factors: those to try first; the first is sent where no other does better, or none gives a finite
            result.
        shrinking: what the best factor so far is multiplied by afterwards, one after the other.
        largest: no factor beyond it is tried, of either sign.
        target: (d,), what the result is far from; None for the mean of the honest rows.
        closest: whether a factor is as good as the result is close to the target instead.
        prefer_smaller: whether of two factors that are as good the smaller one is sent.
    """
    if target is None:
        target = mean_of(honest_rows(malicious), updates)

    def attacked(factor: Array) -> Array:
        return jnp.where(malicious[:, None], base + factor * direction, updates)

    def attempt(best: _Best, step: tuple[Array, Array]) -> tuple[_Best, None]:
        absolute, relative = step
        factor = jnp.where(jnp.isnan(absolute), jnp.clip(best.factor * relative, -largest, largest), absolute)
        deviation = row_norms((rule(attacked(factor)) - target)[None])[0]
        value = -deviation if closest else deviation
        better = value > best.value
        if prefer_smaller:
            better |= (value == best.value) & (jnp.abs(factor) < jnp.abs(best.factor))
        better &= jnp.isfinite(deviation)
        chosen = _Best(jnp.where(better, factor, best.factor), jnp.where(better, value, best.value))
        return chosen, None

    start = _Best(factors[0], jnp.asarray(-jnp.inf, updates.dtype))
    absolute = jnp.concatenate([factors, jnp.full(len(shrinking), jnp.nan, updates.dtype)])
    relative = jnp.concatenate([jnp.ones_like(factors), jnp.asarray(shrinking, updates.dtype)])
    best, _ = lax.scan(attempt, start, (absolute, relative))
    return attacked(best.factor)
