"""ALIE and inner product manipulation with the factor that hurts the round's own rule most."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from fljax.attacks._alie import alie_factor, mean_and_deviation
from fljax.attacks.checks import fixed_real, whole
from fljax.attacks.wrappers import check_stack
from fljax.numerics.safe import row_norms
from fljax.numerics.subset_statistics import Knowledge, honest_rows, known_rows, mean_of

Rule = Callable[[Array], Array]


class _Best(NamedTuple):
    """The factor that moved the rule farthest so far, and how far."""

    factor: Array
    deviation: Array


def optimized_alie(
    updates: Array,
    malicious: Array,
    rule: Rule,
    *,
    evaluations: int = 20,
    smallest: float = 0.125,
    largest: float = 64.0,
    knowledge: Knowledge = "full",
) -> Array:
    """ALIE with the factor searched for through the round's rule and its pre-aggregators.

    g'_i = μ + z σ for malicious i (see `alie`), with the z that maximises ‖rule(attacked) − mean of the
    honest rows‖ among `evaluations` factors: first `alie_factor`, then a geometric grid from `smallest` to
    `largest` (half of the evaluations), then ever smaller steps up and down from the best so far. The best
    factor evaluated is sent, so the deviation is never below that of plain `alie` with the same statistics. A
    result that is not finite counts as no deviation: an overflow is no attack.

    Args:
        updates: (n, d), the rows all clients would send honestly.
        malicious: (n,) boolean.
        rule: what the server will make of a stack, (n, d) to (d,).
        evaluations: how often the rule is run, one after the other in the memory of one stack; at least 1.
        smallest: the first factor of the grid.
        largest: the last factor of the grid; a linear rule gets more and more damaged by larger ones.
        knowledge: what μ and σ are taken over: "full", the honest rows, or "partial", the attackers' own.

    Returns:
        (n, d); honest rows are bit-identical.

    Raises:
        ValueError: if the shapes do not fit or a number is out of range.

    Example:
        >>> rows, mask = jnp.array([[1.0], [4.0], [7.0], [0.0]]), jnp.array([False, False, False, True])
        >>> optimized_alie(rows, mask, lambda stack: stack.mean(0), largest=2.0)[3].round(2).tolist()
        [8.899999618530273]

    Source: Allouah et al., "Fixing by mixing: a recipe for optimal Byzantine ML under heterogeneity",
    AISTATS 2023, maximise the same deviation. ByzFL evaluates 20 factors too: 0, 10, then twice the step
    while that improves, then only larger factors in shrinking steps. Its factors are positive on gradients;
    these are on updates, the sign of the authors' ALIE (see `alie`).
    """
    updates, malicious = check_stack("optimized_alie", updates, malicious)
    evaluations = whole("optimized_alie", "evaluations", evaluations, smallest=1)
    grid, shrinking = _plan("optimized_alie", evaluations - 1, smallest, largest)
    published = alie_factor(updates.shape[0], jnp.sum(malicious)).astype(updates.dtype)
    factors = jnp.concatenate([published[None], jnp.asarray(grid, updates.dtype)])
    mean, deviation = mean_and_deviation(known_rows("optimized_alie", malicious, knowledge), updates)
    return _sent(updates, malicious, rule, mean, deviation, factors, shrinking, largest)


def optimized_ipm(
    updates: Array,
    malicious: Array,
    rule: Rule,
    *,
    evaluations: int = 20,
    smallest: float = 0.125,
    largest: float = 64.0,
) -> Array:
    """Inner product manipulation with the factor searched for through the round's rule.

    g'_i = −ε μ for malicious i (see `ipm`), with the ε that maximises ‖rule(attacked) − μ‖ among
    `evaluations` factors: a geometric grid from `smallest` to `largest` (half of the evaluations), then ever
    smaller steps up and down from the best so far. The best factor evaluated is sent. A result that is not
    finite counts as no deviation: an overflow is no attack.

    Args:
        updates: (n, d), the rows all clients would send honestly.
        malicious: (n,) boolean.
        rule: what the server will make of a stack, (n, d) to (d,).
        evaluations: how often the rule is run, one after the other in the memory of one stack; at least 1.
        smallest: the first factor of the grid.
        largest: the last factor of the grid; a linear rule gets more and more damaged by larger ones.

    Returns:
        (n, d); honest rows are bit-identical.

    Raises:
        ValueError: if the shapes do not fit or a number is out of range.

    Example:
        >>> rows, mask = jnp.array([[1.0], [3.0], [0.0]]), jnp.array([False, False, True])
        >>> optimized_ipm(rows, mask, lambda stack: stack.mean(0), largest=4.0, evaluations=3)[2].tolist()
        [-8.0]

    Source: Allouah et al., AISTATS 2023; ByzFL evaluates 20 factors as for `optimized_alie`.
    """
    updates, malicious = check_stack("optimized_ipm", updates, malicious)
    evaluations = whole("optimized_ipm", "evaluations", evaluations, smallest=1)
    grid, shrinking = _plan("optimized_ipm", evaluations, smallest, largest)
    mean = mean_of(honest_rows(malicious), updates)
    return _sent(
        updates,
        malicious,
        rule,
        jnp.zeros_like(mean),
        -mean,
        jnp.asarray(grid, updates.dtype),
        shrinking,
        largest,
    )


def _plan(attack: str, evaluations: int, smallest: float, largest: float) -> tuple[np.ndarray, np.ndarray]:
    """The factors of the grid, and by what the best factor is multiplied afterwards."""
    largest = fixed_real(attack, "largest", largest, above=0, finite=True)
    smallest = fixed_real(attack, "smallest", smallest, above=0)
    if not smallest < largest:
        raise ValueError(f"{attack}: smallest={smallest} must be below largest={largest}")
    num_grid = -(-evaluations // 2)
    grid = np.geomspace(smallest, largest, num_grid)
    ratio = (largest / smallest) ** (1 / max(num_grid - 1, 1))
    # One step up and one down, then half as far on the logarithmic scale.
    step = np.arange(evaluations - num_grid)
    return grid, ratio ** (np.where(step % 2 == 0, 0.5, -0.5) * 0.5 ** (step // 2))


def _sent(
    updates: Array,
    malicious: Array,
    rule: Rule,
    base: Array,
    direction: Array,
    factors: Array,
    shrinking: np.ndarray,
    largest: float,
) -> Array:
    """The malicious rows at base + factor · direction, with the best factor found."""
    target = mean_of(honest_rows(malicious), updates)

    def attacked(factor: Array) -> Array:
        return jnp.where(malicious[:, None], base + factor * direction, updates)

    def attempt(best: _Best, step: tuple[Array, Array]) -> tuple[_Best, None]:
        absolute, relative = step
        factor = jnp.where(jnp.isnan(absolute), jnp.minimum(best.factor * relative, largest), absolute)
        deviation = row_norms((rule(attacked(factor)) - target)[None])[0]
        better = jnp.isfinite(deviation) & (deviation > best.deviation)
        chosen = _Best(jnp.where(better, factor, best.factor), jnp.where(better, deviation, best.deviation))
        return chosen, None

    # The first factor is the one to send where no other does better, or none gives a finite result.
    start = _Best(factors[0], jnp.asarray(-1.0, updates.dtype))
    absolute = jnp.concatenate([factors, jnp.full(len(shrinking), jnp.nan, updates.dtype)])
    relative = jnp.concatenate([jnp.ones_like(factors), jnp.asarray(shrinking, updates.dtype)])
    best, _ = lax.scan(attempt, start, (absolute, relative))
    return attacked(best.factor)
