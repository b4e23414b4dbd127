"""The subset of n − f rows with the smallest diameter, exactly and without a list of subsets.

Two rows farther apart than t cannot both stay. So a subset of diameter t exists if and only if some f rows
touch every such pair: if the graph of rows that are apart has a vertex cover of f rows. For few f a search
decides that quickly, and bisection finds the smallest t.

Steps of loops are module-level functions of their state: outside jit, JAX then compiles them once.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from fljax.numerics.safe import dot

# Leaving one more row out can multiply the search for the smallest diameter by 1.2 or so: at this many, the
# hardest graphs found (random ones with four or five pairs a row) take three seconds on two CPU cores, the
# distances of random or attacked updates hundredths.
LARGEST_SEARCH = 50


class _Search(NamedTuple):
    """Depth-first search for a vertex cover: the node at hand and the branches still to try.

    Attributes:
        apart: (n, n) symmetric, 1 for rows that cannot both stay, else 0.
        alive: (n,) bool, rows not yet left out.
        budget: how many more may be left out.
        waiting: (depth, n) bool, `alive` of the branches put off, with room for the largest budget and one.
        budgets: (depth,), their `budget`.
        top: how many branches are put off.
        verdict: 1 found, 0 impossible, -1 not known yet.
    """

    apart: Array
    alive: Array
    budget: Array
    waiting: Array
    budgets: Array
    top: Array
    verdict: Array


def _goes_on(search: _Search) -> Array:
    return search.verdict < 0


def _branch(search: _Search) -> _Search:
    apart, alive, budget = search.apart, search.alive, search.budget
    rows = jnp.arange(alive.shape[0])

    def neighbors(of: Array) -> Array:
        return dot(apart, of.astype(apart.dtype))

    degrees = jnp.where(alive, neighbors(alive), 0)
    largest = jnp.max(degrees).astype(jnp.int32)
    # A row left out settles as many pairs as it is in: the `budget` busiest rows must settle all.
    settled = jnp.sum(jnp.where(rows < budget, -jnp.sort(-degrees), 0))
    solved = (largest == 0) & (budget >= 0)
    # An overdrawn budget comes from `_decide`, which under vmap asks about nodes it has no use for.
    hopeless = ~solved & ((2 * settled < jnp.sum(degrees)) | (budget < 0))
    # If u and all that are apart from u are apart from v, v may as well be left out: of these rows all but
    # one go in any case, and v settles at least as much as another. Looked for at one u, of smallest degree.
    fewest = jnp.argmin(jnp.where(degrees > 0, degrees, jnp.inf))
    hood = (alive & (apart[fewest] > 0)) | (rows == fewest)
    dominates = hood & (rows != fewest) & (neighbors(hood) + 1 >= jnp.sum(hood))
    simple = jnp.any(dominates)
    row = jnp.where(simple, jnp.argmax(dominates), jnp.argmax(degrees))
    # Now the row goes. Put off: it stays and all rows apart from it go, unless the budget forbids that.
    put_off = ~solved & ~hopeless & ~simple & (budget >= largest)
    others_gone = alive & ~(apart[row] > 0)
    waiting = jnp.where(put_off, search.waiting.at[search.top].set(others_gone), search.waiting)
    budgets = jnp.where(put_off, search.budgets.at[search.top].set(budget - largest), search.budgets)
    top = search.top + put_off.astype(jnp.int32) - hopeless.astype(jnp.int32)
    return _Search(
        apart=apart,
        alive=jnp.where(hopeless, waiting[top], alive & (rows != row)),
        budget=jnp.where(hopeless, budgets[top], budget - 1),
        waiting=waiting,
        budgets=budgets,
        top=top,
        verdict=jnp.where(solved, 1, jnp.where(top < 0, 0, -1)).astype(jnp.int32),
    )


def coverable(apart: Array, alive: Array, budget: Array, waiting: Array) -> Array:
    """The rows alive less at most `budget` of them can all stay; see `_Search`."""
    none = jnp.zeros((), jnp.int32)
    budgets = jnp.zeros(waiting.shape[:1], jnp.int32)
    start = _Search(apart, alive, budget, waiting, budgets, none, none - 1)
    return jax.lax.while_loop(_goes_on, _branch, start).verdict == 1


def _fits(apart: Array, alive: Array, budget: Array, waiting: Array) -> Array:
    """`coverable` where no row alive is apart from another, or the budget is overdrawn."""
    return budget >= 0


def _graph(squares: Array, threshold: Array) -> Array:
    return (squares > threshold).astype(jnp.float32)


class _Bisection(NamedTuple):
    """The diameter lies between two floats, given by their bits: at least `low`, at most `high`."""

    squares: Array
    budget: Array
    waiting: Array
    low: Array
    high: Array


def _narrow(_: Array, state: _Bisection) -> _Bisection:
    middle = state.low + (state.high - state.low) // 2
    apart = _graph(state.squares, jax.lax.bitcast_convert_type(middle, state.squares.dtype))
    everyone = jnp.ones(state.squares.shape[:1], bool)
    enough = coverable(apart, everyone, state.budget, state.waiting)
    low, high = jnp.where(enough, state.low, middle + 1), jnp.where(enough, middle, state.high)
    return state._replace(low=low, high=high)


class _Choice(NamedTuple):
    """Rows are kept or left out one after the other; `alive` and `budget` are what remains to be decided."""

    apart: Array
    alive: Array
    budget: Array
    waiting: Array
    kept: Array


def _decide(row: Array, state: _Choice) -> _Choice:
    """Keep the row if the rest can then still be covered."""
    this = jnp.arange(state.alive.shape[0]) == row
    candidate = state.alive[row]
    others = state.alive & (state.apart[row] > 0)
    rest = state.alive & ~others & ~this
    left = state.budget - jnp.sum(others, dtype=jnp.int32)
    unsure = candidate & jnp.any(others) & (left >= 0)
    possible = jax.lax.cond(unsure, coverable, _fits, state.apart, rest, left, state.waiting)
    keep, drop = candidate & possible, candidate & ~possible
    return state._replace(
        alive=jnp.where(keep, rest, state.alive & ~this),
        budget=jnp.where(keep, left, state.budget - drop.astype(jnp.int32)),
        kept=state.kept | (this & keep),
    )


def smallest_diameter(squares: Array, f: Array, largest: int) -> Array:
    """The lexicographically first subset of n − f rows with the smallest largest distance, (n,) bool.

    Args:
        squares: (n, n) squared distances, inf allowed.
        f: int32, how many rows to leave out.
        largest: what f is at most.
    """
    n, dtype = squares.shape[0], squares.dtype
    waiting = jnp.zeros((largest + 1, n), bool)
    # Distances are not negative, so they are ordered as their bits are.
    bits = jnp.finfo(dtype).bits
    unsigned = jnp.dtype(f"uint{bits}")
    infinity = jax.lax.bitcast_convert_type(jnp.asarray(jnp.inf, dtype), unsigned)
    start = _Bisection(squares, f, waiting, jnp.zeros((), unsigned), infinity)
    found = jax.lax.fori_loop(0, bits, _narrow, start).high
    diameter = jax.lax.bitcast_convert_type(found, dtype)
    # Equal distances that rounding made different are a tie.
    apart = _graph(squares, diameter * (1 + 16 * float(jnp.finfo(dtype).eps)))
    choice = _Choice(apart, jnp.ones((n,), bool), f, waiting, jnp.zeros((n,), bool))
    kept = jax.lax.fori_loop(0, n, _decide, choice).kept
    # Where fewer than f rows are in the way (copies, for one), the last of those kept go as well.
    return kept & (jnp.cumsum(kept) <= n - f)
