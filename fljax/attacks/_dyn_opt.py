"""DYN-OPT: the step along a direction that does the round's own rule most damage."""

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array

from fljax.attacks.registry import register_attack
from fljax.attacks.searches.direction import Direction, perturbation
from fljax.attacks.searches.factor import plan, send_best
from fljax.numerics.checks import whole
from fljax.numerics.safe import row_norms
from fljax.numerics.subset_statistics import Sight, deviation_of, known_rows, mean_of


@register_attack(
    title="DYN-OPT",
    source="Shejwalkar & Houmansadr 2021",
    assumes="all updates, the rule",
    optimises="deviation from the honest mean",
)
def dyn_opt(
    updates: Array,
    malicious: Array,
    rule: Callable[[Array], Array],
    *,
    direction: Direction = "unit",
    knowledge: Sight = "full",
    evaluations: int = 20,
    smallest: float = 0.125,
    largest: float = 64.0,
) -> Array:
    """DYN-OPT: a step from the mean whose length is tailored to the round's rule and pre-aggregators.

    g'_i = μ + γ ‖σ‖ p/‖p‖ for malicious i, with μ and σ the mean and the standard deviation of the known
    rows and p = −μ ("unit"), σ ("std"), −σ ("minus_std") or −sign(μ) ("sign"). γ maximises ‖rule(attacked) −
    mean of the honest rows‖ among `evaluations` values: a geometric grid from `smallest` to `largest` (half
    of them), then ever smaller steps up and down from the best so far. Of equal ones the smallest is sent. A
    result that is not finite counts as no deviation. Where all rows are equal, ‖μ‖ takes the place of ‖σ‖.

    For a rule that selects rows the deviation grows with γ up to the cliff where crafted rows are dropped,
    so that this is the largest γ with which they are selected; the same with a filter before the rule.

    Args:
        updates: (n, d), the rows all clients would send honestly.
        malicious: (n,) boolean.
        rule: what the server will make of a stack, (n, d) to (d,).
        direction: p.
        knowledge: what μ and σ are taken over: "full", the honest rows, or "partial", the attackers' own.
        evaluations: how often the rule is run, one after the other in the memory of one stack; at least 1.
        smallest: the first γ of the grid.
        largest: the last γ of the grid; a linear rule gets more and more damaged by larger ones.

    Returns:
        (n, d); honest rows are bit-identical.

    Raises:
        ValueError: if the shapes do not fit, a choice is none of the allowed or a number is out of range.

    Example:
        >>> from fljax.aggregators import median
        >>> rows = jnp.array([[1.0], [2.0], [3.0], [9.0]])
        >>> sent = dyn_opt(rows, jnp.array([False, False, False, True]), median)
        >>> round(float(median(sent)[0]), 2)
        1.5

    Source: Shejwalkar & Houmansadr, "Manipulating the Byzantine", NDSS 2021, as the attack on a known rule;
    named so in Shejwalkar et al., "Back to the drawing board", S&P 2022. The authors' halving search compares
    a value with the one before it, not with the best: on a plateau it returns where it began, on a curve that
    falls again anything. SignGuard's version returns the last γ that it tried.
    """
    evaluations = whole("evaluations", evaluations, smallest=1)
    grid, shrinking = plan(evaluations, smallest, largest)
    rows = known_rows(malicious, knowledge)
    mean = mean_of(rows, updates)
    spread, size = row_norms(jnp.stack([deviation_of(rows, updates, mean, ddof=1), mean]))
    towards, _ = perturbation(direction, rows, updates, mean)
    return send_best(
        updates,
        malicious,
        rule,
        base=mean,
        direction=jnp.where(spread > 0, spread, size) * towards,
        factors=jnp.asarray(grid, updates.dtype),
        shrinking=shrinking,
        largest=largest,
        prefer_smaller=True,
    )
