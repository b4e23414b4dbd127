"""Krum scores: the sum of the distances of every row from its nearest others."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from fljax.aggregators.registry import takes_updates
from fljax.numerics.checks import Int, bounded, option, tolerated
from fljax.numerics.neighbors import Block, Nearest, nearest_values, reduce_distances
from fljax.numerics.safe import contained, finite_rows


class Scored(NamedTuple):
    """Krum's scores of all rows, in parts.

    Attributes:
        nearest: the distances^power from each row to its nearest others, in units of unit^power.
        unit: scalar.
        num_malicious: f, checked.
    """

    nearest: Nearest
    unit: Array
    num_malicious: Int


def score_rows(
    updates: Array, num_malicious: Int, power: int, num_neighbors: Int | None, strict: bool
) -> Scored:
    """Score the rows of a stack; arguments as for `krum_scores`."""
    n = updates.shape[0]
    power = option("power", power, (1, 2))
    # Without `strict` one neighbour must remain, or a row if the number of neighbours is given.
    least = (1, 2 if num_neighbors is None else 0)
    f = tolerated(num_malicious, n, (2, 2), least=least, strict=strict)
    if num_neighbors is None:
        neighbors: Int = n - f - 2
    else:
        needs = "1 to n - 1 neighbors"
        neighbors = bounded("num_neighbors", num_neighbors, smallest=1, largest=n - 1, needs=needs, n=n)

    def of_block(block: Block) -> Nearest:
        values = block.squares if power == 2 else _roots(block.squares)
        return nearest_values(jnp.where(block.own, jnp.inf, values), neighbors)

    nearest, unit = reduce_distances(contained(updates), of_block)
    return Scored(nearest, unit, f)


def num_averaged(num_selected: Int | None, n: int, scored: Scored) -> Int:
    """The number of rows that Multi-Krum averages, by default n − f."""
    if num_selected is None:
        return n - scored.num_malicious
    return bounded("num_selected", num_selected, smallest=1, largest=n, needs="1 to n rows", n=n)


def keys_of(updates: Array, nearest: Nearest, count: Int) -> tuple[Array, ...]:
    """The keys that the first `count` rows are chosen by, the most important first."""
    # A row with all its neighbours is finite, and before those without: mostly nobody needs to look.
    enough = jnp.sum(nearest.missing == 0) >= count
    return nearest.keys(finite_rows(updates, jnp.where(enough, 0.0, jnp.inf)))


def _roots(squares: Array) -> Array:
    """Square roots with the gradient 0 at 0."""
    apart = squares > 0
    return jnp.where(apart, jnp.sqrt(jnp.where(apart, squares, 1.0)), 0.0)


@takes_updates
def krum_scores(
    updates: Array,
    *,
    num_malicious: Int,
    power: int = 2,
    num_neighbors: Int | None = None,
    strict: bool = True,
) -> Array:
    """Krum score of every row: the sum of its distances^power to its nearest other rows.

    s_i = Σ over the n − f − 2 rows j ≠ i nearest to i of ‖g_i − g_j‖^power, with f = `num_malicious`. A row
    with a non-finite entry is infinitely far from every other.

    Args:
        updates: (n, d).
        num_malicious: f, how many malicious rows to tolerate, 0 ≤ f ≤ (n − 3) / 2; a traced value is clamped
            to that range.
        power: 2 for squared distances (Blanchard et al.), 1 for distances (FLPoison, Fang et al.'s text).
        num_neighbors: how many neighbours count instead of n − f − 2; ByzFL and ByzPy use n − f − 1.
        strict: whether to insist on n > 2f + 2; False takes any f that leaves a neighbour, n > f + 2, or with
            `num_neighbors` a row, n > f, without a guarantee.

    Returns:
        (n,) scores, float32 (float64 for float64 input).

    Raises:
        ValueError: for a static `num_malicious` or `num_neighbors` out of range.

    Example:
        >>> krum_scores(jnp.array([[0.0], [1.0], [3.0], [7.0], [50.0]]), num_malicious=1).tolist()
        [10.0, 5.0, 13.0, 52.0, 4058.0]

    Source: Blanchard et al., "Machine learning with adversaries: Byzantine tolerant gradient descent",
    NeurIPS 2017.
    """
    power = option("power", power, (1, 2))
    scored = score_rows(updates, num_malicious, power, num_neighbors, strict)
    scores = scored.nearest.score()
    # One factor after the other: the square of the unit may overflow, or vanish, where the score does not.
    for _ in range(power):
        scores = scores * scored.unit
    return scores
