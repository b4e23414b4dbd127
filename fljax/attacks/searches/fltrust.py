"""Search for the unit vectors that do FLTrust most harm, in scalars instead of vectors.

FLTrust looks at an attacker's row only through its direction e, and its result changes along the sign vector
s of the honest aggregate only with two numbers, α = ⟨s, e⟩ and κ = ⟨e_0, e⟩:

    s·g' / ‖g_0‖ = (B + Σ_i ReLU(κ_i) α_i) / (C + Σ_i ReLU(κ_i)),

with B = Σ ReLU(c_j) ⟨s, e_j⟩ and C = Σ ReLU(c_j) over the honest rows; 0 where the denominator is 0.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from fljax.numerics.safe import dot

# A step of any length is taken; beyond this one its square would overflow.
LONGEST_STEP = 1e15
# Points of the optimum's grid on each side of e_0, and how often it is refined around the best one.
GRID, REFINEMENTS = 128, 3


class Game(NamedTuple):
    """The stakes of the attackers.

    Attributes:
        numerator: B.
        denominator: C.
        stake: ‖g_0‖ in units of a gradient.
        rate: η, how far a step moves along its estimated gradient.
        reach: γ, how far ahead a probe looks.
        variance: σ², of a probe's coordinates.
    """

    numerator: Array
    denominator: Array
    stake: Array
    rate: Array
    reach: Array
    variance: Array


def ratio(numerator: Array, denominator: Array) -> Array:
    """The quotient, 0 where nobody is trusted."""
    trusted = denominator > 0
    return jnp.where(trusted, numerator / jnp.where(trusted, denominator, 1.0), 0.0)


def without(game: Game, alphas: Array, kappas: Array, member: Array) -> Game:
    """The game as one attacker sees it: the other attackers' rows count as given."""
    weights = jnp.where(jnp.arange(alphas.shape[0]) == member, 0.0, jnp.maximum(kappas, 0.0))
    numerator = game.numerator + dot(weights, alphas)
    return game._replace(numerator=numerator, denominator=game.denominator + jnp.sum(weights))


def change(others: Game, alpha: Array, kappa: Array, new_alpha: Array, new_kappa: Array) -> Array:
    """The rise of h when one attacker's (α, κ) becomes another."""
    # From the differences: h itself is much larger than what a probe changes.
    old, new = jnp.maximum(kappa, 0.0), jnp.maximum(new_kappa, 0.0)
    before = ratio(others.numerator + old * alpha, others.denominator + old)
    total = others.denominator + new
    moved = new * new_alpha - old * alpha - before * (new - old)
    return -others.stake * jnp.where(total > 0, ratio(moved, total), -before)


def step_length(others: Game, alpha: Array, kappa: Array, along_sign: Array, along_root: Array) -> Array:
    """η (h(e + γu) − h(e)) / γ, the length of a step along u; it depends on ⟨s, u⟩ and ⟨e_0, u⟩ alone."""
    gamma = others.reach
    rise = change(others, alpha, kappa, alpha + gamma * along_sign, kappa + gamma * along_root)
    return jnp.clip(others.rate * rise / gamma, -LONGEST_STEP, LONGEST_STEP)


# --- probes as vectors --------------------------------------------------------------------------------


class Walk(NamedTuple):
    """The attackers' vectors between two visits, and the constants of a visit.

    Attributes:
        vectors: (m, d), the e'_i.
        sign: (d,), s.
        root: (d,), e_0.
        keys: (m,) one typed key per attacker.
        active: how many of the m there are; the last ones only fill the array.
        game: the stakes.
    """

    vectors: Array
    sign: Array
    root: Array
    keys: Array
    active: Array
    game: Game


def _products(vectors: Array, other: Array) -> Array:
    return dot(vectors, other)


@lru_cache
def _visit(steps: int) -> Callable[[Array, Walk], Walk]:
    """One attacker's Q steps; cached so that outside jit the loop is compiled once."""

    def visit(number: Array, walk: Walk) -> Walk:
        sweep, member = number // walk.active, number % walk.active
        alphas, kappas = _products(walk.vectors, walk.sign), _products(walk.vectors, walk.root)
        others = without(walk.game, alphas, kappas, member)

        def step(t: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            vector, alpha, kappa = carry
            key = jax.random.fold_in(walk.keys[member], sweep * steps + t)
            probe = jnp.sqrt(others.variance) * jax.random.normal(key, vector.shape, vector.dtype)
            along_sign, along_root = _products(walk.sign, probe), _products(walk.root, probe)
            length = step_length(others, alpha, kappa, along_sign, along_root)
            vector = vector + length * probe
            norm = jnp.sqrt(_products(vector, vector))
            norm = jnp.where(norm > 0, norm, 1.0)
            return (
                vector / norm,
                (alpha + length * along_sign) / norm,
                (kappa + length * along_root) / norm,
            )

        start = (walk.vectors[member], alphas[member], kappas[member])
        vector, _, _ = lax.fori_loop(0, steps, step, start)
        return walk._replace(vectors=walk.vectors.at[member].set(vector))

    return visit


def walk_vectors(walk: Walk, sweeps: int, steps: int) -> Array:
    """Algorithm 3 with every probe drawn as a vector: the final e'_i, (m, d)."""
    return lax.fori_loop(0, sweeps * walk.active, _visit(steps), walk).vectors


# --- probes as their projections ----------------------------------------------------------------------


class Chain(NamedTuple):
    """The same attackers in coordinates.

    Attributes:
        inside: (m, 3), coordinates of e'_i in an orthonormal basis of span(s, e_0, its start).
        outside: (m,), the length of what is orthogonal to that.
        probes: (m, V, Q, 4), a probe's coordinates in the basis, and along what is outside already.
        rest: (m, V, Q), the squared length of the rest of the probe.
        sign: (3,), s in the basis, which it shares with all attackers.
        root: (3,), e_0.
        active: how many of the m there are.
        game: the stakes.
    """

    inside: Array
    outside: Array
    probes: Array
    rest: Array
    sign: Array
    root: Array
    active: Array
    game: Game


def draw_projections(
    key: Array, present: Array, *, sweeps: int, steps: int, variance: Array, d: int
) -> tuple[Array, Array]:
    """The projections of one attacker's V·Q probes: `(probes, rest)` of `Chain` without the first axis.

    Args:
        key: typed PRNG key.
        present: (3,) bool, which vectors the basis has: k of them.
        sweeps: V.
        steps: Q.
        variance: σ².
        d: dimension of the probes; d − k − 1 coordinates are left for the rest.
    """
    dtype = variance.dtype
    free = d - jnp.sum(present)
    exists = jnp.append(present, free > 0)
    normal_key, rest_key = jax.random.split(key)
    probes = jnp.where(exists, jax.random.normal(normal_key, (sweeps, steps, 4), dtype), 0.0)
    degrees = jnp.maximum(free - 1, 0).astype(dtype)
    rest = jax.random.chisquare(rest_key, jnp.maximum(degrees, 1.0), (sweeps, steps), dtype)
    return jnp.sqrt(variance) * probes, variance * jnp.where(degrees > 0, rest, 0.0)


def _project_step(
    carry: tuple[Array, Array, Game, Array, Array], probe: tuple[Array, Array]
) -> tuple[tuple[Array, Array, Game, Array, Array], None]:
    inside, outside, others, sign, root = carry
    u, rest = probe[0][:3], probe[1]
    length = step_length(others, inside @ sign, inside @ root, u @ sign, u @ root)
    # A step of any size leaves something to normalise.
    size = jnp.maximum(1.0, jnp.abs(length))
    keep, go = 1.0 / size, length / size
    inside = keep * inside + go * u
    outside = jnp.sqrt((keep * outside + go * probe[0][3]) ** 2 + go**2 * rest)
    norm = jnp.sqrt(jnp.sum(inside**2) + outside**2)
    norm = jnp.where(norm > 0, norm, 1.0)
    return (inside / norm, outside / norm, others, sign, root), None


def _project_visit(number: Array, chain: Chain) -> Chain:
    sweep, member = number // chain.active, number % chain.active
    others = without(chain.game, chain.inside @ chain.sign, chain.inside @ chain.root, member)
    start = (chain.inside[member], chain.outside[member], others, chain.sign, chain.root)
    probes = (chain.probes[member, sweep], chain.rest[member, sweep])
    (inside, outside, *_), _ = lax.scan(_project_step, start, probes)
    return chain._replace(
        inside=chain.inside.at[member].set(inside), outside=chain.outside.at[member].set(outside)
    )


def walk_projections(chain: Chain) -> tuple[Array, Array]:
    """Algorithm 3 on projections: the final `inside` and `outside`.

    Why nothing else is needed. A step reads a probe u through ⟨s, u⟩ and ⟨e_0, u⟩, and moves e by a multiple
    of u. Of the part of u orthogonal to the basis, only the component along e's own orthogonal part r and the
    squared length of what remains change ‖r‖; both are independent of everything before, with laws N(0, σ²)
    and σ²·χ²(d − k − 1), because the normal law looks the same from every side. Turning the probes of one
    attacker around the span of its basis changes none of these numbers: given all of them, each r has a
    uniformly random direction, independent of the other attackers'.
    """
    sweeps = chain.probes.shape[1]
    end = lax.fori_loop(0, sweeps * chain.active, _project_visit, chain)
    return end.inside, end.outside


# --- exact gradient and optimum -----------------------------------------------------------------------


def _gradient_step(_: Array, carry: tuple[Array, Game, Array, Array]) -> tuple[Array, Game, Array, Array]:
    inside, others, sign, root = carry
    alpha, kappa = inside @ sign, inside @ root
    weight = jnp.maximum(kappa, 0.0)
    total = others.denominator + weight
    result = ratio(others.numerator + weight * alpha, total)
    ascent = -others.stake * ratio(kappa * sign + (alpha - result) * root, total)
    # A probe's estimate is σ² times the gradient on average.
    length = others.rate * others.variance
    inside = inside + jnp.where(kappa > 0, length * ascent, 0.0)
    norm = jnp.sqrt(jnp.sum(inside**2))
    return inside / jnp.where(norm > 0, norm, 1.0), others, sign, root


@lru_cache
def _gradient_visit(steps: int) -> Callable[[Array, Chain], Chain]:
    def visit(number: Array, chain: Chain) -> Chain:
        member = number % chain.active
        others = without(chain.game, chain.inside @ chain.sign, chain.inside @ chain.root, member)
        start = (chain.inside[member], others, chain.sign, chain.root)
        inside = lax.fori_loop(0, steps, _gradient_step, start)[0]
        return chain._replace(inside=chain.inside.at[member].set(inside))

    return visit


def follow_gradient(chain: Chain, sweeps: int, steps: int) -> Array:
    """Algorithm 3 with the mean of its estimates, σ²·∂h/∂e'_i, in their place: the final `inside`."""
    return lax.fori_loop(0, sweeps * chain.active, _gradient_visit(steps), chain).inside


def best_direction(
    game: Game, count: Array, along: Array, across: Array, planar: Array
) -> tuple[Array, Array]:
    """The optimum of h: `(κ, λ)`, all attackers send κ e_0 + λ p with p the part of s orthogonal to e_0.

    At the largest h, with ρ the result s·g'/‖g_0‖, each attacker by itself minimises ReLU(κ)(α − ρ): any
    minimiser serves all of them, and for every κ > 0 the smallest α lies in the plane of s and e_0. What
    remains is one angle.

    Args:
        game: the stakes.
        count: number of attackers.
        along: ⟨s, e_0⟩.
        across: ⟨s, p⟩ ≥ 0, for a unit vector p orthogonal to e_0.
        planar: whether there is such a p (d > 1).
    """
    dtype = along.dtype
    # Below, rounding decides whether a row is trusted at all.
    smallest = jnp.finfo(dtype).eps ** 0.5

    def result(sine: Array, cosine: Array) -> Array:
        alpha = cosine * along + sine * across
        return ratio(game.numerator + count * cosine * alpha, game.denominator + count * cosine)

    # Angles from the plane of no trust, closer together towards it: where C is small, the best is there.
    low, high = jnp.log(jnp.asarray(smallest, dtype)), jnp.log(jnp.asarray(jnp.pi / 2, dtype))
    points = jnp.linspace(low, high, GRID, dtype=dtype)
    side = jnp.where(jnp.arange(2 * GRID) < GRID, 1.0, -1.0).astype(dtype)
    points = jnp.tile(points, 2)
    width = (high - low) / (GRID - 1)
    offsets = jnp.linspace(-1.0, 1.0, 2 * GRID, dtype=dtype)
    for _ in range(REFINEMENTS + 1):
        angles = jnp.exp(jnp.clip(points, low, high))
        values = result(side * jnp.cos(angles), jnp.sin(angles))
        best = jnp.argmin(values)
        sine, cosine, value = side[best] * jnp.cos(angles[best]), jnp.sin(angles[best]), values[best]
        points, side = points[best] + width * offsets, jnp.full_like(side, side[best])
        width = 2.0 * width / (2 * GRID - 1)
    # Straight along e_0, or not trusted at all: for the one dimension, and for rounding.
    aligned = result(jnp.zeros((), dtype), jnp.ones((), dtype))
    sine = jnp.where(planar & (value < aligned), sine, 0.0)
    cosine = jnp.where(planar & (value < aligned), cosine, 1.0)
    silent = ratio(game.numerator, game.denominator) <= jnp.where(
        planar, jnp.minimum(value, aligned), aligned
    )
    return jnp.where(silent, -1.0, cosine), jnp.where(silent, 0.0, sine)
