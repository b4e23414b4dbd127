"""ALIE with the factor that does the round's own rule most damage."""

from collections.abc import Callable
from typing import Literal, get_args

import jax.numpy as jnp
from jax import Array

from fljax.attacks._alie import alie_factor, mean_and_deviation
from fljax.attacks.registry import register_attack
from fljax.attacks.searches.factor import plan, send_best
from fljax.numerics.checks import option, whole
from fljax.numerics.subset_statistics import Sight, known_rows

Signs = Literal["positive", "both"]


@register_attack(
    title="Optimised ALIE",
    source="Allouah et al. 2023",
    assumes="all updates, the rule",
    optimises="deviation from the honest mean",
)
def optimized_alie(
    updates: Array,
    malicious: Array,
    rule: Callable[[Array], Array],
    *,
    evaluations: int = 20,
    smallest: float = 0.125,
    largest: float = 64.0,
    signs: Signs = "positive",
    knowledge: Sight = "full",
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
        signs: of the factors on the grid: "positive", or "both", a grid half as fine and its negative. On
            honest rows that are not symmetric about their mean the sign matters.
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
    option("signs", signs, get_args(Signs))
    evaluations = whole("evaluations", evaluations, smallest=1)
    grid, shrinking = plan(evaluations - 1, smallest, largest, both_signs=signs == "both")
    published = alie_factor(updates.shape[0], jnp.sum(malicious)).astype(updates.dtype)
    factors = jnp.concatenate([published[None], jnp.asarray(grid, updates.dtype)])
    mean, deviation = mean_and_deviation(known_rows(malicious, knowledge), updates)
    return send_best(
        updates,
        malicious,
        rule,
        base=mean,
        direction=deviation,
        factors=factors,
        shrinking=shrinking,
        largest=largest,
    )
