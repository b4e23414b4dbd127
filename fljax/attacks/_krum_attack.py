"""The Krum attack of Fang et al.: rows −λs with the largest λ, among halvings, for which Krum selects one."""

from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array

from fljax.attacks.registry import register_attack
from fljax.attacks.searches.krum import largest_selected, make_contest
from fljax.attacks.searches.rows import craft_rows
from fljax.attacks.signs import signs_of_run
from fljax.attacks.units import Unit, gradient_in_updates
from fljax.attacks.wrappers import malicious_rows
from fljax.numerics.checks import Int, bounded, compute_dtype, option, real
from fljax.numerics.neighbors import first_row, nearest_values, reduce_distances
from fljax.numerics.safe import safe_norms
from fljax.numerics.subset_statistics import Sight, mean_of


@register_attack(
    title="Krum attack", source="Fang et al. 2020", assumes="all updates", optimises="error of Krum"
)
def krum_attack(
    updates: Array,
    malicious: Array,
    key: Array,
    local_rate: Array | None = None,
    batch_size: Array | None = None,
    run_key: Array | None = None,
    *,
    num_malicious: Int | None = None,
    threshold: float | Array = 1e-5,
    spread: float | Array = 0.01,
    knowledge: Sight = "full",
    direction: Literal["krum", "sum", "persistent"] = "krum",
    lambda_init: Literal["bound", "one"] = "bound",
    supporters: Literal["ball", "copies"] = "ball",
    power: int = 2,
    unit: Unit = "sum",
    max_malicious: int | None = None,
) -> Array:
    """The Krum attack of Fang et al.: rows −λs that Krum selects, s being the sign of its choice before.

    Let s be the sign of the row that Krum would select from all n rows, S = ‖s‖² (s_j = 0 where that row is
    0, else S = d), m the number of malicious rows, f what Krum is told, and k = n − f − 2 the neighbours in
    its score. λ starts at the bound

        λ_max = min_i Σ_{l: the k honest rows nearest to i} ‖g_l − g_i‖ / ((k − m + 1) √S) + max_i ‖g_i‖ / √S

    over honest i, which is Theorem 1 for f = m, and is halved until Krum selects one of m rows −λs among the
    honest rows or λ < `threshold`; the last λ is used in any case. Then the first malicious row is −λs and
    the others are drawn within ε = `spread` of it. Where k − m + 1 ≤ 0, λ starts at 1 unit.

    With partial knowledge the attackers' own rows take the place of the honest ones and s is the sign of
    their mean. One crafted row competes with them, in a Krum told f = 1; if λ < `threshold` solves nothing,
    two compete, in a Krum told f = 2, and so on up to m − 1 (2 for m < 3), where the crafted rows have each
    other for all neighbours and λ = 1 unit is selected.

    Krum's choice in the search is that of m equal rows −λs. Ties are those of `krum`: the smaller next
    distance wins, then the lowest row, with partial knowledge the attackers' own rows. Supporters away from
    −λs can change a close choice: their distance counts where it is not small against λ√S.

    Args:
        updates: (n, d), the rows all clients would send honestly. Rows with a non-finite entry are as far
            from all others as for Krum, and no part of the bound. Of 1 or 2 rows the malicious ones are
            negated, as in the group's code: Krum needs 3.
        malicious: (n,) boolean.
        key: typed PRNG key; row i draws from `fold_in(key, i)`.
        local_rate: scalar β, the local learning rate; None for 1. `threshold`, `spread` and λ = 1 are
            absolute numbers in units of a gradient, and an update is −β times a gradient.
        batch_size: scalar b, the examples of a batch; None for 1.
        run_key: typed PRNG key, the same in every round, for `direction="persistent"`.
        num_malicious: f, 0 to n − 3, a traced value is clamped; None for min(m, n − 3). Not used with partial
            knowledge.
        threshold: of λ, above 0, in gradient units.
        spread: ε, at least 0, in gradient units.
        knowledge: "full" (all rows) or "partial" (the attackers' own).
        direction: with full knowledge, s is the sign of Krum's choice ("krum") or of the sum of the honest
            rows ("sum"); "persistent" with either, signs drawn once for the whole run, so that what one round
            does is not undone by the next.
        lambda_init: where the halving starts, the "bound" or "one" unit.
        supporters: a uniform draw from a cube, scaled to a length uniform in [0, ε] ("ball"), or "copies".
        power: of the distances in Krum's score, 2 or 1. The bound is proved for 1.
        unit: which gradient the units are of. "sum", of the loss summed over a batch, as in the group's code:
            one unit is β/b in the updates. "mean", of the mean loss: β. In the updates ε and `threshold` are
            b times larger then, so that the supporters lie farther from −λs.
        max_malicious: an upper bound on the number of malicious rows, to do less; the result does not depend
            on it. Rows beyond it stay honest.

    Returns:
        (n, d); honest rows are bit-identical.

    Raises:
        ValueError: if the shapes do not fit, an option is not one of those named or a static number is out
            of range.

    Example:
        >>> rows = jnp.array([-2.0, -1.0, 1.0, 2.0, 3.0, 4.0, 1.0, 1.0])[:, None]
        >>> crafted = krum_attack(rows, jnp.arange(8) >= 6, jax.random.key(0))
        >>> round(float(crafted[6, 0]), 3)
        -0.792

    Source: Fang et al., USENIX Security 2020, section 3.2, where with partial knowledge s_j = −1 for a mean
    of 0. The group's code (in FLDetector) starts at λ = 1, works on gradients, and with partial knowledge
    stops at 2e-5 and sends copies. It never tries more than m − 1 crafted rows: with m = 2 that is one among
    two, which at best ties with the row nearest to it and loses, so that it sends two copies with λ = 2⁻¹⁶.
    Here it wins where its next distance is the smaller one, and else the two copies have λ = 1. With m = 1
    that code has no λ at all. SAFEFL sends copies; FoggyTrust takes the sum of the honest rows, λ = 1,
    threshold 1e-8 and copies; FLPoison's is the partial attack on updates, with a Krum of n − f − 1
    neighbours and `power=1`, threshold 1e-5 and copies. The paper crafts models; the attack is the same on
    models, updates and gradients, up to the units.
    """
    _check(knowledge, direction, lambda_init, supporters)
    power = option("power", power, (1, 2))
    threshold = real("threshold", threshold, above=0, finite=True)
    spread = real("spread", spread, at_least=0, finite=True)
    n = updates.shape[0]
    if n < 3:
        return jnp.where(malicious[:, None], -updates, updates)
    dtype = compute_dtype(updates)
    stack = updates.astype(dtype)
    one = gradient_in_updates(unit, local_rate, batch_size, dtype)
    count = jnp.sum(malicious)
    rows = malicious_rows(malicious, max_malicious)
    if direction == "persistent":
        s = signs_of_run(run_key, updates.shape[1], dtype)
    if knowledge == "full":
        if num_malicious is None:
            f: Int = jnp.minimum(count, n - 3)
        else:
            needs = "n > num_malicious + 2 rows"
            f = bounded("num_malicious", num_malicious, largest=n - 3, needs=needs, n=n)
        squares, length = reduce_distances(stack, lambda block: block.squares.T)
        if direction != "persistent":
            s = _direction(stack, malicious, squares, n - f - 2, power, direction)
        # The lowest of the rows that tie is selected: those before the first malicious one win.
        before = jnp.arange(n) < jnp.argmax(malicious)
        contest = make_contest(
            stack,
            ~malicious,
            s,
            squares=squares,
            length=length,
            neighbors=n - f - 2,
            power=power,
            before=before,
        )
        first, most = count, count
    else:
        # Where there are fewer attackers than places, honest rows fill them: copies of one row, or zeros,
        # would send the distances down their careful path.
        some = jnp.argsort(~malicious)[: len(rows)]
        own = stack[some]
        finite = safe_norms(own).finite
        own, pool = jnp.where(finite[:, None], own, 0.0), malicious[some] & finite
        squares, length = reduce_distances(own, lambda block: block.squares.T)
        if direction != "persistent":
            s = jnp.sign(mean_of(pool, own))
        # m rows and c copies leave Krum with f = c for m + c − c − 2 neighbours. The rows win ties.
        contest = make_contest(
            own,
            pool,
            s,
            squares=squares,
            length=length,
            neighbors=jnp.maximum(count - 2, 1),
            power=power,
            before=pool,
        )
        most = jnp.where(count == 0, 0, jnp.maximum(count - 1, 2))
        first = jnp.minimum(count, 1)
    size = largest_selected(contest, first, most, one, lambda_init == "bound", one * threshold)
    base = -size * s
    if supporters == "copies":
        return updates.at[rows].set(base.astype(updates.dtype), mode="drop")
    return craft_rows(updates, rows, _supporter, key, base, one * jnp.asarray(spread, dtype))


def _supporter(position: Array, row: Array, key: Array, base: Array, radius: Array) -> Array:
    """A row within `radius` of the first one, which is `base` itself."""
    for_length, for_direction = jax.random.split(jax.random.fold_in(key, row))
    away = jax.random.uniform(for_direction, base.shape, base.dtype, -0.5, 0.5)
    square = jnp.sum(jnp.square(away))
    far = jnp.where(position == 0, 0.0, radius * jax.random.uniform(for_length, (), base.dtype))
    return base + jnp.where(square > 0, far / jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0) * away


def _direction(
    stack: Array, malicious: Array, squares: Array, neighbors: Int, power: int, direction: str
) -> Array:
    """The sign of the update before the attack, (d,); 0 for NaN."""
    n = stack.shape[0]
    if direction == "sum":
        return jnp.sign(mean_of(~malicious & safe_norms(stack).finite, stack))
    values = squares if power == 2 else jnp.sqrt(squares)
    nearest = nearest_values(jnp.where(jnp.eye(n, dtype=bool), jnp.inf, values), neighbors)
    chosen = stack[first_row(*nearest.keys(safe_norms(stack).finite))]
    return jnp.where(jnp.isnan(chosen), 0.0, jnp.sign(chosen))


def _check(knowledge: str, direction: str, lambda_init: str, supporters: str) -> None:
    option("knowledge", knowledge, ("full", "partial"))
    option("direction", direction, ("krum", "sum", "persistent"))
    option("lambda_init", lambda_init, ("bound", "one"))
    option("supporters", supporters, ("ball", "copies"))
