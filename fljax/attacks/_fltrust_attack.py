"""The adaptive attack on FLTrust, from the paper that proposes the rule."""

from functools import partial
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jax import Array

from fljax.aggregators import fltrust
from fljax.attacks._trim_attack import trim_attack
from fljax.attacks.registry import register_attack
from fljax.attacks.searches.fltrust import (
    Chain,
    Game,
    Walk,
    best_direction,
    draw_projections,
    follow_gradient,
    walk_projections,
    walk_vectors,
)
from fljax.attacks.searches.rows import craft_rows
from fljax.attacks.signs import signs_of_run
from fljax.attacks.units import Unit, gradient_in_updates
from fljax.attacks.wrappers import malicious_rows
from fljax.numerics.checks import compute_dtype, option, real, shaped, whole
from fljax.numerics.safe import (
    dot,
    finite_rows,
    for_all,
    ordinary,
    row_norms,
    scale_rows,
    square_norms,
    unit,
)

Search = Literal["zeroth_order", "gradient", "optimum"]
Probes = Literal["projected", "drawn"]
Start = Literal["trim", "honest"]
Direction = Literal["result", "persistent"]
# A vector whose part outside a subspace is shorter than this share of it lies in the subspace.
INSIDE = 100.0


def _direction(vector: Array) -> Array:
    return unit(vector, row_norms(vector[None])[0])


def _plain_alignment(updates: Array, squares: Array, sign: Array) -> Array:
    return dot(updates, sign) / jnp.sqrt(squares)


def _careful_alignment(updates: Array, squares: Array, sign: Array) -> Array:
    rows = scale_rows(updates).rows
    squares = square_norms(rows)
    return dot(rows, sign) / jnp.sqrt(jnp.where(squares > 0, squares, 1.0))


def _new_direction(vector: Array, *basis: Array) -> tuple[Array, Array, Array]:
    """A unit vector in an orthonormal basis extended by it: `(coordinates, direction, exists)`.

    The direction is the basis vector that it adds, zero if it adds none; absent basis vectors are zero.
    """
    coordinates = jnp.zeros((len(basis) + 1,), vector.dtype)
    rest = vector
    for _ in range(2):  # twice, so that a small rest is orthogonal too
        for i, other in enumerate(basis):
            product = dot(rest, other)
            rest = rest - product * other
            coordinates = coordinates.at[i].add(product)
    norm = jnp.sqrt(dot(rest, rest))
    exists = norm > INSIDE * jnp.finfo(vector.dtype).eps
    direction = jnp.where(exists, rest / jnp.where(exists, norm, 1.0), 0.0)
    return coordinates.at[-1].set(jnp.where(exists, norm, 0.0)), direction, exists


def _project(
    starts: Array,
    root: Array,
    sign: Array,
    game: Game,
    *,
    rows: Array,
    count: Array,
    key: Array,
    sweeps: int,
    steps: int,
) -> tuple[Chain, Array]:
    """The attackers in coordinates, and the two basis vectors they share."""
    d = root.shape[0]
    first = _direction(sign)
    in_root, second, apart = _new_direction(root, first)
    shared = jnp.stack([first, second])

    def coordinates(start: Array) -> tuple[Array, Array]:
        inside, _, exists = _new_direction(start, first, second)
        return inside, jnp.stack([jnp.any(sign != 0), apart, exists])

    inside, present = jax.lax.map(coordinates, starts)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, rows)
    draw = partial(draw_projections, sweeps=sweeps, steps=steps, variance=game.variance, d=d)
    probes, rest = jax.vmap(draw)(keys, present)
    length = dot(sign, first)
    chain = Chain(
        inside=inside,
        outside=jnp.zeros(rows.shape, root.dtype),
        probes=probes,
        rest=rest,
        sign=jnp.zeros((3,), root.dtype).at[0].set(length),
        root=jnp.append(in_root, 0.0),
        active=count,
        game=game,
    )
    return chain, shared


def _in_span(
    position: Array, row: Array, length: Array, starts: Array, shared: Array, inside: Array
) -> Array:
    """The vector of that length with these coordinates."""
    third = _new_direction(starts[position], *shared)[1]
    at = length * inside[position]
    return at[0] * shared[0] + at[1] * shared[1] + at[2] * third


def _beyond_span(
    position: Array,
    row: Array,
    length: Array,
    starts: Array,
    shared: Array,
    inside: Array,
    outside: Array,
    key: Array,
) -> Array:
    """The same with a part outside the span, in a random direction."""
    third = _new_direction(starts[position], *shared)[1]
    noise = jax.random.normal(jax.random.fold_in(key, row), third.shape, third.dtype)
    for other in (*shared, third):
        noise = noise - dot(noise, other) * other
    norm = jnp.sqrt(dot(noise, noise))
    beyond = length * outside[position] / jnp.where(norm > 0, norm, 1.0)
    return _in_span(position, row, length, starts, shared, inside) + beyond * noise


def _best_row(root: Array, sign: Array, count: Array, game: Game) -> Array:
    """The direction that is optimal for every attacker."""
    at_sign, across, apart = _new_direction(_direction(sign), root)
    # Where s lies along e_0, any vector orthogonal to it does.
    axis = jnp.zeros_like(root).at[jnp.argmin(jnp.abs(root))].set(1.0)
    _, other, exists = _new_direction(axis, root)
    across = jnp.where(apart, across, other)
    length = jnp.sqrt(dot(sign, sign))
    cosine, sine = best_direction(game, count, length * at_sign[0], length * at_sign[1], apart | exists)
    return cosine * root + sine * across


@register_attack(
    title="Adaptive attack",
    source="Cao et al. 2021",
    assumes="all updates, root update",
    optimises="error of FLTrust",
)
def fltrust_attack(
    updates: Array,
    root_update: Array,
    malicious: Array,
    key: Array,
    local_rate: Array | None = None,
    batch_size: Array | None = None,
    run_key: Array | None = None,
    *,
    probe_variance: float | Array = 0.5,
    probe_step: float | Array = 0.005,
    learning_rate: float | Array = 0.01,
    sweeps: int = 10,
    steps: int = 10,
    search: Search = "zeroth_order",
    probes: Probes = "projected",
    start: Start | None = None,
    direction: Direction = "result",
    unit: Unit = "sum",
    max_malicious: int | None = None,
) -> Array:
    """The adaptive attack on FLTrust: unit vectors that move its result against its own direction.

    With e_i = g_i/‖g_i‖, c_i = ReLU(⟨e_i, e_0⟩) and s the sign of FLTrust's result g before the attack,
    maximise over unit vectors e'_i of the malicious rows, with c'_i = ReLU(⟨e'_i, e_0⟩),

        h = sᵀ(g − g'),  g' = ‖g_0‖ (Σ_mal c'_i e'_i + Σ_hon c_i e_i) / (Σ_mal c'_i + Σ_hon c_i).

    Each e'_i starts as the direction of the Trim attack's row. In each of `sweeps` (V) sweeps every attacker
    in turn takes `steps` (Q) steps e'_i ← (e'_i + η ĝ)/‖·‖, ĝ = (h(e'_i + γu) − h(e'_i))/γ · u with a new
    u ~ N(0, σ² I). It sends ‖g_0‖ e'_i. A row that starts with a clearly negative ⟨e'_i, e_0⟩ has no trust
    and no probe finds any: it stays where it is, in the paper's algorithm as here. Trim rows do where honest
    ones are noisy.

    Args:
        updates: (n, d), the rows all clients would send honestly.
        root_update: (d,), the server's own update g_0.
        malicious: (n,) boolean.
        key: typed PRNG key; with a, b = split(key), the start is `trim_attack` with a, and row i draws from
            fold_in(b, i): with `probes="drawn"` step t of sweep v a normal (d,) from its fold_in(·, v·Q + t).
        local_rate: scalar β, the local learning rate; None for 1. γ and η are absolute and h grows with
            ‖g_0‖, so that the unit g_0 is measured in decides how long the steps are: h is that of
            gradients, and an update is −β times a gradient.
        batch_size: scalar b, the examples of a batch; None for 1.
        run_key: typed PRNG key, the same in every round, for `direction="persistent"`.
        probe_variance: σ².
        probe_step: γ.
        learning_rate: η.
        sweeps: V.
        steps: Q.
        search: "zeroth_order" is the paper's; "gradient" steps along the mean of its ĝ as γ → 0, σ² ∂h/∂e'_i;
            "optimum" needs no steps and no start: the largest h there is, which all attackers reach with the
            same vector in the plane of s and e_0 (−g_0, which has no trust, if none does harm).
        probes: "drawn" draws V·Q vectors per attacker; "projected" the four numbers and the length that h and
            the next step see of each, and one vector in the end: the same law in a hundredth of the time
            (`walk_projections` says why).
        start: "trim", or "honest": the attackers' own rows, which have trust to begin with. None for the
            paper's "trim" with "zeroth_order", else "honest".
        direction: s, the sign of FLTrust's "result", or signs drawn once for the whole run ("persistent", in
            the Trim attack's rows as well): what one round does is not undone by the next.
        unit: which gradient g_0 is measured in. "sum", of the loss summed over a batch, as in the group's
            code: one unit is β/b in the updates. "mean", of the mean loss: β, with steps of 1/b the length.
            "optimum" does not depend on it.
        max_malicious: an upper bound on the number of malicious rows, to draw fewer random numbers; the
            result does not depend on it. Rows beyond it stay honest.

    Returns:
        (n, d); honest rows are bit-identical.

    Raises:
        ValueError: if the shapes do not fit, an option is not one of those named, or a static number is out
            of range.

    Example:
        >>> rows, root = jnp.array([[3.0, 4.0], [4.0, 3.0], [4.0, 3.0]]), jnp.array([2.0, 0.0])
        >>> one = jnp.array([True, False, False])
        >>> sent = fltrust_attack(rows, root, one, jax.random.key(0), search="optimum")
        >>> "{:.2f} {:.2f}".format(*sent[0])
        '1.25 -1.56'

    Source: Cao et al., NDSS 2021, Algorithm 3 and section V. σ² is the variance; SAFEFL passes 0.5 as the
    standard deviation, adds 1e-9 to the denominators and lets the Trim attack look at all rows and g_0.
    """
    root_update = shaped("root_update", root_update, updates.shape[1:])
    # A gradient does not leave the rows without trust that the Trim attack makes.
    start = ("trim" if search == "zeroth_order" else "honest") if start is None else start
    option("search", search, get_args(Search))
    option("probes", probes, get_args(Probes))
    option("start", start, get_args(Start))
    option("direction", direction, get_args(Direction))
    probe_variance = real("probe_variance", probe_variance, above=0, finite=True)
    probe_step = real("probe_step", probe_step, above=0, finite=True)
    learning_rate = real("learning_rate", learning_rate, at_least=0, finite=True)
    sweeps = whole("sweeps", sweeps, smallest=1)
    steps = whole("steps", steps, smallest=1)
    d = updates.shape[1]
    dtype = compute_dtype(updates)
    stack = updates.astype(dtype)
    before, info = fltrust.explained(stack, jnp.asarray(root_update).astype(dtype))
    root, root_norm = (
        _direction(jnp.asarray(root_update, dtype)),
        row_norms(jnp.asarray(root_update, dtype)[None])[0],
    )
    persistent = direction == "persistent"
    sign = signs_of_run(run_key, d, dtype) if persistent else jnp.sign(before)

    # A row without trust may hold anything.
    trust = jnp.where(malicious, 0.0, info["trust_scores"])
    squares = square_norms(stack)
    aligned = jax.lax.cond(
        for_all(ordinary(squares)), _plain_alignment, _careful_alignment, stack, squares, sign
    )
    game = Game(
        numerator=jnp.sum(jnp.where(trust > 0, trust * aligned, 0.0)),
        denominator=jnp.sum(trust),
        stake=root_norm / gradient_in_updates(unit, local_rate, batch_size, dtype),
        rate=jnp.asarray(learning_rate, dtype),
        reach=jnp.asarray(probe_step, dtype),
        variance=jnp.asarray(probe_variance, dtype),
    )
    rows = malicious_rows(malicious, max_malicious)
    count = jnp.minimum(jnp.sum(malicious), rows.shape[0])

    if search == "optimum":
        crafted = jnp.broadcast_to(_best_row(root, sign, count, game), (rows.shape[0], d))
    else:
        start_key, probe_key = jax.random.split(key)
        begin = jnp.where(finite_rows(stack)[:, None], stack, 0.0)
        if start == "trim":
            begin = trim_attack(
                begin,
                malicious,
                start_key,
                run_key=run_key,
                direction="persistent" if persistent else "sum",
                max_malicious=max_malicious,
            )
        # What fills the array has no trust.
        starts = jax.lax.map(_direction, begin.at[rows].get(mode="fill", fill_value=0.0))
        if search == "zeroth_order" and probes == "drawn":
            keys = jax.vmap(jax.random.fold_in, (None, 0))(probe_key, rows)
            crafted = walk_vectors(
                Walk(starts, sign, root, keys=keys, active=count, game=game), sweeps, steps
            )
        else:
            draw_key, end_key = jax.random.split(probe_key)
            chain, shared = _project(
                starts, root, sign, game, rows=rows, count=count, key=draw_key, sweeps=sweeps, steps=steps
            )
            if search == "gradient":
                inside = follow_gradient(chain, sweeps, steps)
                return craft_rows(updates, rows, _in_span, root_norm, starts, shared, inside)
            known = (root_norm, starts, shared, *walk_projections(chain), end_key)
            return craft_rows(updates, rows, _beyond_span, *known)
    return updates.at[rows].set((root_norm * crafted).astype(updates.dtype), mode="drop")
