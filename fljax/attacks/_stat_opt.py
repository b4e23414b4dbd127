"""STAT-OPT: a step against the update's sign whose length is searched for through the round's own rule."""

from collections.abc import Callable
from typing import Literal, get_args

import jax.numpy as jnp
from jax import Array, lax

from fljax.attacks.registry import register_attack
from fljax.attacks.signs import signs_of_run
from fljax.numerics.checks import option, real, whole
from fljax.numerics.safe import finite_rows, row_norms
from fljax.numerics.subset_statistics import along, honest_rows

Direction = Literal["rule", "persistent"]


@register_attack(
    title="STAT-OPT",
    source="Fang et al. 2020",
    assumes="all updates, the rule",
    optimises="error of any rule",
)
def stat_opt(
    updates: Array,
    malicious: Array,
    rule: Callable[[Array], Array],
    run_key: Array | None = None,
    *,
    direction: Direction = "rule",
    start: float | Array = 10.0,
    evaluations: int = 20,
) -> Array:
    """STAT-OPT: Fang's directed deviation for any rule, rows −λs with the λ that does most damage.

    Let g = rule(updates) be the update before the attack, the attackers' honest rows included, and s its
    sign. All malicious rows are g'_i = −λ s, where λ is halved `evaluations` − 1 times from

        λ_0 = `start` · max_i ‖g_i‖ / √d over honest i

    and the one is sent with the largest objective sᵀ(g − rule(attacked)); of equal ones the largest λ. Where
    none is positive, malicious rows stay as they are. A result that is not finite counts as no damage.

    Args:
        updates: (n, d), the rows all clients would send honestly.
        malicious: (n,) boolean.
        rule: what the server will make of a stack, (n, d) to (d,).
        run_key: typed PRNG key, the same in every round, for `direction="persistent"`.
        direction: s, the sign of the rule's update ("rule"), or signs drawn once for the whole run
            ("persistent"): what one round does is not undone by the next.
        start: λ_0 in lengths of the longest honest row, spread over all coordinates.
        evaluations: how many λ are tried, one after the other in the memory of one stack; at least 1. The
            rule runs once more for g.

    Returns:
        (n, d); honest rows are bit-identical.

    Raises:
        ValueError: if the shapes do not fit, `direction` is neither, a number is out of range or a key is
            missing.

    Example:
        >>> from fljax.aggregators import median
        >>> rows = jnp.array([[1.0], [2.0], [3.0], [9.0]])
        >>> sent = stat_opt(rows, jnp.array([False, False, False, True]), median)
        >>> float(median(sent)[0])
        1.5

    Source: Fang et al., "Local model poisoning attacks to Byzantine-robust federated learning", USENIX
    Security 2020, equation 1 with the rows of its section 3.2, which solves it for Krum (`krum_attack`) and
    for the trimmed mean (`trim_attack`); Shejwalkar et al., S&P 2022, name the framework. FLPoison starts at
    λ = 1; FL-Byzantine-Library bisects from ten times the mean norm.
    """
    option("direction", direction, get_args(Direction))
    start = real("start", start, above=0, finite=True)
    evaluations = whole("evaluations", evaluations, smallest=1)
    d, dtype = updates.shape[1], updates.dtype
    before = rule(updates)
    persistent = direction == "persistent"
    sign = signs_of_run(run_key, d, dtype) if persistent else jnp.sign(before).astype(dtype)
    known = honest_rows(malicious) & finite_rows(updates)
    longest = jnp.max(jnp.where(known, row_norms(updates), 0.0))
    first = (jnp.asarray(start, dtype) * longest / jnp.sqrt(jnp.asarray(d, dtype))).astype(dtype)

    def attacked(size: Array) -> Array:
        return jnp.where(malicious[:, None], -size * sign, updates)

    def attempt(best: tuple[Array, Array], size: Array) -> tuple[tuple[Array, Array], None]:
        damage = along(sign, before - rule(attacked(size)))
        better = jnp.isfinite(damage) & (damage > best[1])
        return (jnp.where(better, size, best[0]), jnp.where(better, damage, best[1]).astype(dtype)), None

    sizes = first * jnp.asarray(0.5, dtype) ** jnp.arange(evaluations)
    (size, damage), _ = lax.scan(attempt, (first, jnp.zeros((), dtype)), sizes)
    return jnp.where(damage > 0, attacked(size), updates)
