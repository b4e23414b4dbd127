"""The strongest rows that a gradient finds: optimisation through the server's own rule."""

from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jax import Array, lax

from fljax.attacks._trim_attack import trim_attack
from fljax.attacks.registry import register_attack
from fljax.attacks.signs import signs_of_run
from fljax.attacks.wrappers import malicious_rows
from fljax.numerics.checks import ArgumentError, compute_dtype, option, real, whole
from fljax.numerics.safe import finite_rows, row_norms
from fljax.numerics.subset_statistics import along, honest_rows, mean_of

Start = Literal["best", "honest", "trim", "negative_mean", "shifted_mean"]
Direction = Literal["rule", "persistent"]
# How far the honest mean is shifted against s: shares of a typical honest row's length.
SHIFTS = (2.0, 0.5, 0.125, 0.03125)
# What starts are made of: shares of the attackers' own rows, Trim rows, the honest mean and the shift.
STARTS: dict[str, tuple[tuple[float, float, float, float], ...]] = {
    "honest": ((1.0, 0.0, 0.0, 0.0),),
    "trim": ((0.0, 1.0, 0.0, 0.0),),
    "negative_mean": ((0.0, 0.0, -1.0, 0.0),),
    "shifted_mean": tuple((0.0, 0.0, 1.0, shift) for shift in SHIFTS),
}


class _Found(NamedTuple):
    """The best rows so far, or how they are made, and sᵀ(g − g') with them."""

    value: Array
    best: Array


def _typical_norm(updates: Array, rows: Array) -> Array:
    """Median norm of the rows in the mask, 0 if there is none."""
    norms = jnp.sort(jnp.where(rows, row_norms(updates), jnp.inf))
    middle = norms[jnp.maximum(jnp.sum(rows) - 1, 0) // 2]
    return jnp.where(jnp.isfinite(middle), middle, 0.0)


def _better(found: _Found, value: Array, candidate: Array) -> _Found:
    better = jnp.isfinite(value) & (value > found.value)
    return _Found(jnp.where(better, value, found.value), jnp.where(better, candidate, found.best))


@register_attack(
    title="Optimised attack",
    source="Fang et al. 2020",
    assumes="all updates, rule",
    optimises="error of any rule",
)
def optimize_attack(
    updates: Array,
    malicious: Array,
    rule: Callable[[Array], Array],
    surrogate: Callable[[Array], Array] | None = None,
    key: Array | None = None,
    run_key: Array | None = None,
    *,
    steps: int = 20,
    learning_rate: float | Array = 0.3,
    start: Start = "best",
    direction: Direction = "rule",
    max_malicious: int | None = None,
) -> Array:
    """Gradient ascent on the damage sᵀ(g − g') through any rule, over the malicious rows.

    g = rule(updates), s = sign(g), g' = rule of the stack with the crafted rows. Each step moves every row
    along its own gradient of −sᵀg', normalised, by `learning_rate` · L · (1 − t/T), with L the median norm of
    the honest rows and T = `steps`. The gradient is that of `surrogate` where there is one, else of `rule`;
    every iterate is judged by `rule`, and the best one is sent, so the damage is never below that of the
    start, nor negative. Where no row has a gradient, because the rule ignores them, all move towards their
    honest values. An iterate whose damage is not finite is rejected, and the next one starts from the best.

    Args:
        updates: (n, d), the rows all clients would send honestly.
        malicious: (n,) boolean.
        rule: what the server will make of a stack, (n, d) to (d,), pre-aggregators included.
        surrogate: a smooth version of it to take gradients of (`SURROGATES`); None if the rule has one that
            tells where to go. Rules that select rows have none for those they do not select. That of the
            sorting network behind `median` and `trimmed_mean` takes XLA gigabytes to compile at n = 100.
        key: typed PRNG key of the Trim rows among the starts; None draws the same ones every time.
        run_key: typed PRNG key, the same in every round, for `direction="persistent"`.
        steps: T; the rule runs T times on iterates and 7 times on starts, one after the other. 0 leaves the
            best start as it is.
        learning_rate: share of L that the first step moves a row.
        start: "honest", the rows as they are; "trim", those of `trim_attack`; "negative_mean", minus the
            honest mean for all; "shifted_mean", the honest mean minus λ L s/√d for all, with the best of four
            λ from 2 to 1/32; "best", the best of these. Where one does no damage, the honest rows.
        direction: s, the sign of the rule's result ("rule"), or signs drawn once for the whole run
            ("persistent", in the Trim rows as well): what one round does is not undone by the next.
        max_malicious: an upper bound on the number of malicious rows, to follow fewer gradients; the result
            does not depend on it. Rows beyond it stay honest.

    Returns:
        (n, d); honest rows are bit-identical, and malicious ones where nothing found does damage.

    Raises:
        ValueError: if the shapes do not fit, a number is out of range, or the rule has no gradient and there
            is no surrogate.

    Example:
        >>> from fljax.aggregators import trimmed_mean
        >>> rows = jnp.array([[1.0], [2.0], [3.0], [4.0], [5.0]])
        >>> one = jnp.array([False, False, False, False, True])
        >>> sent = optimize_attack(rows, one, lambda stack: trimmed_mean(stack, trim=1))
        >>> round(float(trimmed_mean(sent, trim=1)[0]), 1)
        2.0

    Source: Fang et al., USENIX Security 2020, equation 1, for any rule; they solve it for Krum and the
    trimmed mean by hand.
    """
    option("start", start, get_args(Start))
    option("direction", direction, get_args(Direction))
    steps = whole("steps", steps)
    learning_rate = real("learning_rate", learning_rate, above=0, finite=True)
    rows = malicious_rows(malicious, max_malicious)
    own = updates.at[rows].get(mode="fill", fill_value=0.0).astype(compute_dtype(updates))

    def sent(crafted: Array) -> Array:
        return updates.at[rows].set(crafted.astype(updates.dtype), mode="drop")

    known = honest_rows(malicious) & finite_rows(updates)
    length = _typical_norm(updates, known)
    given = signs_of_run(run_key, updates.shape[1], own.dtype) if direction == "persistent" else None
    trims = start in ("best", "trim")
    sign, found = _best_start(
        updates,
        rule,
        sent,
        names=tuple(STARTS) if start == "best" else (start,),
        sign=given,
        trim_rows=_trim_rows(updates, malicious, key, rows, run_key, direction) if trims else None,
        own=own,
        mean=mean_of(known, updates).astype(own.dtype),
        length=length,
    )
    if steps == 0:
        return sent(found.best)

    def damage(follow: Callable[[Array], Array], crafted: Array) -> Array:
        return -along(sign, follow(sent(crafted)))

    def step(carry: tuple[Array, _Found], size: Array) -> tuple[tuple[Array, _Found], None]:
        crafted, found = carry
        gradient = jax.grad(damage, argnums=1)(surrogate or rule, crafted)
        norms = row_norms(gradient)
        usable = jnp.isfinite(norms) & (norms > 0)
        ahead = gradient / jnp.where(usable, norms, 1.0)[:, None]
        back = own - crafted
        # No farther than to the honest row itself.
        distances = jnp.maximum(row_norms(back), jnp.maximum(size, jnp.finfo(own.dtype).tiny))
        forced = back / distances[:, None]
        direction = jnp.where(jnp.any(usable), jnp.where(usable[:, None], ahead, 0.0), forced)
        crafted = crafted + size * direction
        value = damage(rule, crafted)
        found = _better(found, value, crafted)
        return (jnp.where(jnp.isfinite(value), crafted, found.best), found), None

    sizes = learning_rate * length * (1.0 - jnp.arange(steps, dtype=own.dtype) / steps)
    try:
        (_, found), _ = lax.scan(step, (found.best, found), sizes)
    except ValueError as error:
        if "everse-mode" not in str(error):
            raise
        raise ArgumentError(
            "the rule has no gradient; it needs a surrogate, or steps=0 for the best start"
        ) from error
    return sent(found.best)


def _trim_rows(
    updates: Array,
    malicious: Array,
    key: Array | None,
    rows: Array,
    run_key: Array | None,
    direction: Direction,
) -> Array:
    """The malicious rows of the Trim attack on the finite updates, (m, d)."""
    clean = jnp.where(finite_rows(updates)[:, None], updates, 0.0)
    key = jax.random.key(0) if key is None else key
    crafted = trim_attack(
        clean,
        malicious,
        key,
        run_key=run_key,
        direction="sum" if direction == "rule" else direction,
        max_malicious=max(rows.shape[0], 1),
    )
    return crafted.at[rows].get(mode="fill", fill_value=0.0)


def _best_start(
    updates: Array,
    rule: Callable[[Array], Array],
    sent: Callable[[Array], Array],
    *,
    names: tuple[str, ...],
    sign: Array | None,
    trim_rows: Array | None,
    own: Array,
    mean: Array,
    length: Array,
) -> tuple[Array, _Found]:
    """The signs s, and the best of the starts with −sᵀg'.

    Args:
        updates: (n, d).
        rule: (n, d) to (d,).
        sent: crafted rows (m, d) to the stack (n, d) with them.
        names: of the starts.
        sign: (d,), s; None for the sign of the rule's result before the attack.
        trim_rows: (m, d), where one of the starts needs them.
        own: (m, d), the malicious rows as they are.
        mean: (d,), of the honest rows.
        length: scalar, of a typical honest row.
    """
    d, given = updates.shape[1], sign
    # The honest rows come first: they give s.
    table = STARTS["honest"] + tuple(row for name in names if name != "honest" for row in STARTS[name])
    trimmed = own if trim_rows is None else trim_rows.astype(own.dtype)
    shift = length / jnp.sqrt(jnp.asarray(d, own.dtype))

    def made(shares: Array, sign: Array) -> Array:
        used = shares != 0
        common = shares[2] * mean - shares[3] * shift * sign
        return jnp.where(used[0], own, 0.0) + jnp.where(used[1], trimmed, 0.0) + common

    def attempt(carry: tuple[Array, _Found], item: tuple[Array, Array]) -> tuple[tuple[Array, _Found], None]:
        sign, found = carry
        number, shares = item
        after = rule(sent(made(shares, sign)))
        if given is None:
            sign = jnp.where(number == 0, jnp.sign(after).astype(sign.dtype), sign)
        value = -along(sign, after)
        return (sign, _better(found, value, shares)), None

    shares = jnp.asarray(table, own.dtype)
    nothing = _Found(jnp.asarray(-jnp.inf, own.dtype), shares[0])
    begin = (jnp.zeros((d,), own.dtype) if given is None else given, nothing)
    (sign, found), _ = lax.scan(attempt, begin, (jnp.arange(len(table)), shares))
    return sign, _Found(found.value, made(found.best, sign))
