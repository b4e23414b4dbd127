"""The Trim attack of Fang et al., against trimmed mean and median."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array

from fljax.attacks.registry import register_attack
from fljax.attacks.searches.rows import craft_rows
from fljax.attacks.signs import signs_of_run
from fljax.attacks.wrappers import malicious_rows
from fljax.numerics.checks import ArgumentError, flag, option, real, shaped
from fljax.numerics.subset_statistics import (
    Sight,
    deviation_of,
    extreme_of,
    honest_rows,
    mean_of,
    row_sum,
)

# Where an attacker with partial knowledge puts its values, in standard deviations from the mean.
NEAREST, FARTHEST = 3.0, 4.0


@register_attack(
    title="Trim attack", source="Fang et al. 2020", assumes="all updates", optimises="error of trimmed mean"
)
def trim_attack(
    updates: Array,
    malicious: Array,
    key: Array,
    rule: Callable[[Array], Array] | None = None,
    root_update: Array | None = None,
    run_key: Array | None = None,
    *,
    stretch: float | Array = 2.0,
    knowledge: Sight = "full",
    direction: Literal["sum", "rule", "persistent"] = "sum",
    pool: Literal["honest", "all"] = "honest",
    law: Literal["uniform", "divide", "fixed"] = "uniform",
    include_root: bool = False,
    max_malicious: int | None = None,
) -> Array:
    """The Trim attack of Fang et al., against trimmed mean and median.

    Per coordinate j let s_j be the sign of the update before the attack. Malicious values are drawn
    independently, just beyond the honest values on the side opposite to s_j: let x = w_max,j for s_j = −1 and
    x = w_min,j for s_j = +1. Where s_j·x > 0, beyond means towards zero and values lie between x and x/b,
    else between x and b·x, with b = `stretch`; uniformly in that interval, or as `law` says.

    With partial knowledge, from the mean μ_j and standard deviation σ_j (divided by m) of the attackers' own
    rows: ŝ_j = sign(μ_j), values uniform in [μ_j + 3σ_j, μ_j + 4σ_j] for ŝ_j = −1 and in
    [μ_j − 4σ_j, μ_j − 3σ_j] for ŝ_j = +1. Where the sign is 0, full knowledge sends 0 and partial knowledge
    μ_j.

    Args:
        updates: (n, d), the rows all clients would send honestly.
        malicious: (n,) boolean; if no row is honest, the extremes are those of all rows.
        key: typed PRNG key; row i draws from `fold_in(key, i)`.
        rule: (n, d) -> (d,), the attacked rule, for `direction="rule"`.
        root_update: (d,), the server's own update, for `include_root`.
        run_key: typed PRNG key, the same in every round, for `direction="persistent"`.
        stretch: b > 1, how far beyond the extreme.
        knowledge: "full" (all honest rows) or "partial" (the attackers' own).
        direction: s is the sign of the "sum" of all rows or of what the "rule" makes of them, or drawn once
            for the whole run ("persistent", with partial knowledge in place of ŝ): what one round does is not
            undone by the next.
        pool: whose extremes, the "honest" rows' or those of "all" rows, the attackers' honest ones included.
        law: "uniform"; "divide": x/r or r·x with r uniform in [1, b]; "fixed": x/b or b·x, and with partial
            knowledge μ_j − 3.5 ŝ_j σ_j, the same for all.
        include_root: whether the server's update is one more row of the sum and the extremes.
        max_malicious: an upper bound on the number of malicious rows, to draw fewer random numbers; the
            result does not depend on it. Rows beyond it stay honest.

    Returns:
        (n, d); honest rows are bit-identical.

    Raises:
        ValueError: if the shapes do not fit, an option is not one of those named or does not go with partial
            knowledge, the rule, the root update or the run's key is missing, or a static `stretch` is not
            above 1.

    Example:
        >>> rows = jnp.array([[1.0], [2.0], [3.0], [9.0]])
        >>> crafted = trim_attack(rows, jnp.array([False, False, False, True]), jax.random.key(0))
        >>> bool(0.5 <= crafted[3, 0] <= 1.0)
        True

    Source: Fang et al., USENIX Security 2020, sections 3.3 and 3.4, where s is the direction of the attacked
    rule's own update (`direction="rule"`). The FLTrust authors' demo is `pool="all"`, `law="divide"`,
    `include_root=True`; the group's code in FLDetector is `pool="all"`, `law="fixed"`. Both take the sign of
    the sum.
    """
    n = updates.shape[0]
    stretch = real("stretch", stretch, above=1, finite=True)
    include_root = flag("include_root", include_root)
    _check(knowledge, direction, pool, law, include_root)
    rows = malicious_rows(malicious, max_malicious)
    if knowledge == "partial":
        center = mean_of(malicious, updates)
        deviation = deviation_of(malicious, updates, center)
        drawn = direction == "persistent"
        sign = signs_of_run(run_key, center.size, center.dtype) if drawn else jnp.sign(center)
        step = -sign * deviation
        if law == "fixed":
            return craft_rows(updates, rows, _same, center + 0.5 * (NEAREST + FARTHEST) * step)
        return craft_rows(updates, rows, _within, key, center + NEAREST * step, (FARTHEST - NEAREST) * step)

    if include_root and root_update is None:
        raise ArgumentError("include_root=True needs root_update")
    server = None
    if include_root:
        server = shaped("root_update", root_update, updates.shape[1:])
    if direction == "persistent":
        sign = signs_of_run(run_key, updates.shape[1], updates.dtype)
    else:
        sign = _direction(updates, malicious, rule, server, direction)
    seen = jnp.ones((n,), bool) if pool == "all" else honest_rows(malicious)
    low, high = extreme_of(seen, updates, largest=False), extreme_of(seen, updates, largest=True)
    if server is not None:
        low, high = jnp.minimum(low, server), jnp.maximum(high, server)
    # Malicious values go upwards from the largest where s < 0, downwards from the smallest where s > 0.
    extreme = jnp.where(sign > 0, low, jnp.where(sign < 0, high, 0.0))
    # On its way towards zero a value shrinks, on its way from zero it grows.
    shrink = sign * extreme > 0

    ratio = jnp.asarray(stretch, updates.dtype)
    farther = _moved(extreme, shrink, ratio)
    if law == "fixed":
        return craft_rows(updates, rows, _same, farther)
    if law == "divide":
        return craft_rows(updates, rows, _by_drawn_ratio, key, extreme, shrink, ratio)
    return craft_rows(updates, rows, _within, key, extreme, farther - extreme)


def _moved(extreme: Array, shrink: Array, ratio: Array) -> Array:
    return jnp.where(shrink, extreme / ratio, extreme * ratio)


def _same(position: Array, row: Array, crafted: Array) -> Array:
    return crafted


def _within(position: Array, row: Array, key: Array, start: Array, width: Array) -> Array:
    return start + width * jax.random.uniform(jax.random.fold_in(key, row), start.shape, start.dtype)


def _by_drawn_ratio(
    position: Array, row: Array, key: Array, extreme: Array, shrink: Array, largest: Array
) -> Array:
    draw = jax.random.uniform(jax.random.fold_in(key, row), extreme.shape, extreme.dtype)
    return _moved(extreme, shrink, 1.0 + (largest - 1.0) * draw)


def _direction(
    updates: Array,
    malicious: Array,
    rule: Callable[[Array], Array] | None,
    server: Array | None,
    direction: str,
) -> Array:
    """The sign of the update before the attack, (d,)."""
    if direction == "rule":
        if rule is None:
            raise ArgumentError('direction="rule" needs the rule')
        return jnp.sign(rule(updates))
    # Ones, but out of the mask: a product with constant ones copies a vmapped stack.
    total = row_sum(1.0 + 0.0 * malicious, updates)
    return jnp.sign(total if server is None else total + server)


def _check(knowledge: str, direction: str, pool: str, law: str, include_root: bool) -> None:
    option("knowledge", knowledge, ("full", "partial"))
    option("direction", direction, ("sum", "rule", "persistent"))
    option("pool", pool, ("honest", "all"))
    option("law", law, ("uniform", "divide", "fixed"))
    if knowledge == "partial":
        # What only an attacker who sees the honest rows can do.
        if direction == "rule":
            raise ArgumentError('direction="rule" must be "sum" or "persistent" with knowledge="partial"')
        if pool != "honest":
            raise ArgumentError(f'pool="{pool}" must be "honest" with knowledge="partial"')
        if include_root:
            raise ArgumentError('include_root=True must be False with knowledge="partial"')
        if law == "divide":
            raise ArgumentError('law="divide" must be "uniform" or "fixed" with knowledge="partial"')
