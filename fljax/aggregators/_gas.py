"""GAS: rows near what a rule makes of random groups of coordinates."""

from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array

from fljax.aggregators._bulyan import bulyan
from fljax.aggregators._median import median
from fljax.aggregators._multi_krum import multi_krum
from fljax.aggregators._trimmed_mean import trimmed_mean
from fljax.aggregators.registry import register_rule
from fljax.base import Info
from fljax.numerics.averages import mean_of_rows
from fljax.numerics.checks import Int, option, tolerated, whole
from fljax.numerics.neighbors import first_in_order
from fljax.numerics.safe import distances_to, finite_rows

Base = Literal["bulyan", "multi_krum", "trimmed_mean", "median"]


@register_rule(title="GAS", assumes="n > 2f, and as its rule", source="Liu et al. 2023", surrogate="distance")
def gas(
    updates: Array,
    key: Array,
    *,
    num_malicious: Int,
    num_groups: int = 1000,
    rule: Base = "bulyan",
) -> tuple[Array, Info]:
    """Mean of the n − f rows nearest to what a rule makes of random groups of coordinates (GAS).

    A permutation drawn with `key` divides the d coordinates into groups G of ⌈d / `num_groups`⌉, the last one
    of what is left. With ḡ_G the rule's result on the columns of G alone, row i has the score
    Σ_G ‖g_iG − ḡ_G‖; g is the mean of the n − f rows of smallest score, ties by the lowest row. In a few
    coordinates honest rows differ less beside what a hostile row must change.

    The rule's own condition decides what it tolerates; where it takes fewer malicious rows than f, it is told
    as many as it takes, as in the authors' code. A row with a non-finite entry is not averaged, and counts
    among the f.

    Args:
        updates: (n, d).
        key: typed PRNG key of the permutation.
        num_malicious: f, 0 ≤ f < n/2; a traced value is clamped to that range.
        num_groups: how many groups there are at most.
        rule: the rule for every group.

    Returns:
        (d,), in the type of `updates`; NaN if no row is finite.

    Raises:
        ValueError: if `updates` is not (n, d), a static argument is out of range, or there are too few rows
            for the rule.

    Example:
        >>> rows = jnp.array([[1.0, 2.0], [1.5, 2.0], [1.0, 1.0], [1.2, 1.5], [9.0, -9.0]])
        >>> info = gas.explained(rows, jax.random.key(0), num_malicious=1, rule="median")[1]
        >>> info["selected"].tolist()
        [True, True, True, True, False]

    Source: Liu, Chen, Lyu, Wu, Wu, Chen, "Byzantine-robust learning on heterogeneous data via gradient
    splitting", ICML 2023, and the authors' code: Bulyan, 1000 groups. Their Bulyan and Multi-Krum choose all
    rows at once and count n − f − 1 neighbours.
    """
    n, d = updates.shape
    f = tolerated(num_malicious, n, (2, 0))
    num_groups = whole("num_groups", num_groups, smallest=1)
    option("rule", rule, ("bulyan", "multi_krum", "trimmed_mean", "median"))
    fixed = jax.lax.stop_gradient(updates)
    order = jax.random.permutation(key, d)
    scores = group_scores(fixed, order, num_groups, rule, f)
    finite = finite_rows(fixed)
    ranked = first_in_order(n - f, jnp.where(finite & jnp.isfinite(scores), scores, jnp.inf))
    update, selected = mean_of_rows(ranked, updates)
    return update, {"selected": selected}


def group_scores(updates: Array, order: Array, num_groups: int, rule: Base, f: Int) -> Array:
    """Every row's score, (n,); see `gas`.

    Args:
        updates: (n, d).
        order: (d,) the coordinates in the order in which they are divided.
        num_groups: how many groups there are at most.
        rule: the rule for every group.
        f: how many malicious rows it expects, if it takes so many.
    """
    n, d = updates.shape
    size = -(-d // num_groups)
    if size == 0:
        return jnp.zeros((n,), updates.dtype)
    # Zeros in the last group change no distance.
    filled = jnp.pad(updates[:, order], ((0, 0), (0, -d % size)))
    groups = jnp.swapaxes(filled.reshape(n, -1, size), 0, 1)

    def at_most(largest: int) -> Int:
        largest = max(0, largest)
        return min(f, largest) if isinstance(f, int) else jnp.minimum(f, largest)

    def base(rows: Array) -> Array:
        if rule == "bulyan":
            return bulyan(rows, num_malicious=at_most((n - 3) // 4))
        if rule == "multi_krum":
            return multi_krum(rows, num_malicious=at_most((n - 3) // 2))
        return median(rows) if rule == "median" else trimmed_mean(rows, trim=f)

    def add(total: Array, rows: Array) -> tuple[Array, None]:
        return total + distances_to(rows, base(rows)), None

    return jax.lax.scan(add, jnp.zeros((n,), updates.dtype), groups)[0]
