"""Inner product manipulation with the factor that does the round's own rule most damage."""

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array

from fljax.attacks.registry import register_attack
from fljax.attacks.searches.factor import plan, send_best
from fljax.numerics.checks import whole
from fljax.numerics.subset_statistics import honest_rows, mean_of


@register_attack(
    title="Optimised IPM",
    source="Allouah et al. 2023",
    assumes="all updates, the rule",
    optimises="deviation from the honest mean",
)
def optimized_ipm(
    updates: Array,
    malicious: Array,
    rule: Callable[[Array], Array],
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
    evaluations = whole("evaluations", evaluations, smallest=1)
    grid, shrinking = plan(evaluations, smallest, largest)
    mean = mean_of(honest_rows(malicious), updates)
    return send_best(
        updates,
        malicious,
        rule,
        base=jnp.zeros_like(mean),
        direction=-mean,
        factors=jnp.asarray(grid, updates.dtype),
        shrinking=shrinking,
        largest=largest,
    )
