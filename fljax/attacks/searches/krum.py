"""The search of the Krum attack: the largest λ for which Krum still selects one of m equal rows −λs.

Everything is decided by scalars per row: the distances within the pool the rows −λs compete with, and
‖g_i + λs‖² = ‖g_i‖² + 2λ⟨g_i, s⟩ + λ²‖s‖². A trial costs n² comparisons and no pass over the stack.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from fljax.numerics.checks import Int
from fljax.numerics.safe import divide, dot, safe_norms, saturation


class Contest(NamedTuple):
    """Krum's choice between a pool of rows and copies of −λs, in scalars; lengths are in units of `length`.

    Attributes:
        pool: (n,) bool, the rows the copies compete with.
        nearest: (n, n) distances^power from row i to the other rows of the pool in order, +inf behind them.
        sums: (n, n + 1), sums[i, t] is the sum of the first t of them.
        norms: (n,) ‖g_i‖.
        products: (n,) ⟨g_i, s⟩.
        square: scalar ‖s‖².
        length: scalar.
        neighbors: how many neighbours count in a score.
        power: of the distances in a score, 1 or 2.
        before: (n,) bool, rows that win a tie against a copy; the others lose it.
        compactness: scalar, the smallest Σ of distances, not squared, to `neighbors` rows of the pool.
        farthest: scalar, the largest norm in the pool.
    """

    pool: Array
    nearest: Array
    sums: Array
    norms: Array
    products: Array
    square: Array
    length: Array
    neighbors: Array
    power: Array
    before: Array
    compactness: Array
    farthest: Array


class Search(NamedTuple):
    """One step of the search for λ.

    Attributes:
        contest: the problem.
        most: how many copies to try at most.
        one: λ to start from where the bound says nothing.
        use_bound: whether to start from the bound.
        threshold: below it there is no solution.
        copies: how many copies compete.
        size: λ.
        selected: whether Krum selects a copy.
    """

    contest: Contest
    most: Array
    one: Array
    use_bound: Array
    threshold: Array
    copies: Array
    size: Array
    selected: Array


def _sum_first(values: Array, count: Array) -> Array:
    """Sum of the first `count` entries along the last axis."""
    return jnp.sum(jnp.where(jnp.arange(values.shape[-1]) < count, values, 0.0), axis=-1)


def _entry(values: Array, places: Array) -> Array:
    """values[..., places] along the last axis, +inf beyond it."""
    there = jnp.take_along_axis(values, jnp.atleast_1d(jnp.clip(places, 0, values.shape[-1] - 1)), axis=-1)
    return jnp.where(places < values.shape[-1], there, jnp.inf).reshape(places.shape)


def make_contest(
    stack: Array,
    pool: Array,
    s: Array,
    *,
    squares: Array,
    length: Array,
    neighbors: Int,
    power: int,
    before: Array,
) -> Contest:
    """The contest between a pool of rows and copies of −λs: norms, products with s and distances in order.

    Args:
        stack: (n, d).
        pool: (n,) bool, the rows the copies compete with.
        s: (d,).
        squares: (n, n) squared distances of the rows, in units of `length`².
        length: scalar.
        neighbors: how many neighbours count in a score.
        power: of the distances in a score, 1 or 2.
        before: (n,) bool, rows that win a tie against a copy.
    """
    n = stack.shape[0]
    norms = safe_norms(stack)
    pool = pool & norms.finite
    others = pool & ~jnp.eye(n, dtype=bool)
    ordered = jnp.sort(jnp.where(others, squares, jnp.inf), axis=1)
    distances = jnp.sqrt(ordered)
    nearest = ordered if power == 2 else distances
    sizes = divide(norms.values / norms.shifts, length)
    # Rows that are infinitely far are not part of the bound's sum.
    totals = _sum_first(jnp.where(jnp.isfinite(distances), distances, 0.0), jnp.asarray(neighbors))
    return Contest(
        pool=pool,
        nearest=nearest,
        sums=jnp.pad(jnp.cumsum(nearest, axis=1), ((0, 0), (1, 0))),
        norms=sizes,
        products=divide(dot(stack, s), length),
        square=jnp.sum(jnp.square(s)),
        length=length,
        neighbors=jnp.asarray(neighbors),
        power=jnp.asarray(power),
        before=before,
        compactness=jnp.min(jnp.where(pool, totals, jnp.inf)),
        farthest=jnp.max(jnp.where(pool, sizes, 0.0)),
    )


def selects_copy(contest: Contest, copies: Array, size: Array) -> Array:
    """True if Krum selects one of `copies` rows −λs, λ = `size`, from them and the pool."""
    size, neighbors = size / contest.length, contest.neighbors
    # ‖g_i + λs‖²; one that overflows counts as very far.
    squares = contest.norms**2 + 2.0 * size * contest.products + size**2 * contest.square
    largest = saturation(squares.dtype, squares.shape[0])
    squares = jnp.where(squares < largest, jnp.maximum(squares, 0.0), largest)
    to_copy = jnp.where(contest.power == 2, squares, jnp.sqrt(squares))
    # Both sums below take their distances from the sorted ones, that is, the same bits: computed twice they
    # may be rounded differently, which would decide a tie.
    rows = jnp.arange(to_copy.shape[0])
    in_order, places = lax.sort((jnp.where(contest.pool, to_copy, jnp.inf), rows), num_keys=1)
    to_copy = jnp.zeros_like(to_copy).at[places].set(in_order)
    # All copies are equally far from row i: they are among its neighbours once the nearer rows are used up.
    nearer = jnp.sum(contest.nearest < to_copy[:, None], axis=1)
    num_rows = jnp.clip(nearer, jnp.maximum(neighbors - copies, 0), neighbors)
    to_rows = jnp.take_along_axis(contest.sums, num_rows[:, None], axis=1)[:, 0]
    of_rows = jnp.where(contest.pool, to_rows + (neighbors - num_rows) * to_copy, jnp.inf)
    # A copy has the others at distance 0.
    of_copy = _sum_first(in_order, neighbors - (copies - 1))
    # Of equal scores the smaller next distance wins: with one neighbour a copy and its nearest row tie.
    beyond = jnp.where(neighbors < nearer, neighbors, neighbors - copies)
    next_of_rows = jnp.where(
        (neighbors >= nearer) & (beyond < nearer), to_copy, _entry(contest.nearest, beyond[:, None])[:, 0]
    )
    next_of_copy = jnp.where(neighbors < copies - 1, 0.0, _entry(in_order, neighbors - (copies - 1)))
    first = jnp.where(contest.before, next_of_copy < next_of_rows, next_of_copy <= next_of_rows)
    return jnp.all((of_copy < of_rows) | ((of_copy == of_rows) & first))


def _start(search: Search, copies: Array) -> Array:
    """The λ that is halved first: Theorem 1's bound, in its proof's form for any number of neighbours."""
    contest = search.contest
    share = contest.neighbors - (copies - 1)
    bound = contest.compactness / jnp.maximum(share, 1) + contest.farthest
    bound *= contest.length / jnp.sqrt(contest.square)
    known = search.use_bound & (share > 0) & (bound > 0) & (bound < jnp.inf)
    return jnp.where(known, bound, search.one)


def _can_halve(search: Search) -> Array:
    return (search.size >= search.threshold) & (search.size < jnp.inf)


def _unsolved(search: Search) -> Array:
    return ~search.selected & (_can_halve(search) | (search.copies < search.most))


def _step(search: Search) -> Search:
    halve = _can_halve(search)
    copies = jnp.where(halve, search.copies, search.copies + 1)
    size = jnp.where(halve, 0.5 * search.size, _start(search, copies))
    return search._replace(copies=copies, size=size, selected=selects_copy(search.contest, copies, size))


def largest_selected(
    contest: Contest, copies: Array, most: Array, one: Array, use_bound: bool, threshold: Array
) -> Array:
    """λ: halved until Krum selects a copy or λ < threshold; then again with one more copy, up to `most`.

    Where nothing is found, the last λ.
    """
    dtype = contest.square.dtype
    # Halving ends at zero, below any threshold.
    threshold = jnp.maximum(jnp.asarray(threshold, dtype), jnp.finfo(dtype).tiny)
    copies, most = jnp.asarray(copies, jnp.int32), jnp.asarray(most, jnp.int32)
    # The first step finds nothing to halve, and starts with one copy more than this. Without an attacker
    # there is nothing to solve.
    before = Search(
        contest=contest,
        most=most,
        one=jnp.asarray(one, dtype),
        use_bound=jnp.asarray(use_bound),
        threshold=threshold,
        copies=copies - 1,
        size=jnp.zeros((), dtype),
        selected=most < 1,
    )
    return lax.while_loop(_unsolved, _step, before).size
