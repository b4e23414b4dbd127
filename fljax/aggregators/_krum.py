"""Krum and its descendants: rules that choose whole updates by their pairwise distances."""

import jax.numpy as jnp
from jax import Array

from fljax.base import Info
from fljax.numerics.averages import mean_of_rows
from fljax.numerics.checks import Int, as_stack, bounded, compute_dtype, option, output_dtype, tolerated
from fljax.numerics.neighbors import (
    Block,
    Nearest,
    first_in_order,
    first_row,
    nearest_values,
    reduce_distances,
)
from fljax.numerics.safe import contained, finite_rows


def tolerated_by_krum(rule: str, num_malicious: Int, n: int, num_neighbors: Int | None, strict: bool) -> Int:
    """Krum's f, n > 2f + 2; without `strict` one neighbour must remain, or a row if their number is given."""
    least = (1, 2 if num_neighbors is None else 0)
    return tolerated(rule, num_malicious, n, (2, 2), least=least, strict=strict)


def nearest_rows(
    updates: Array,
    *,
    num_malicious: Int,
    power: int = 2,
    num_neighbors: Int | None = None,
    strict: bool = True,
    rule: str,
) -> tuple[Nearest, Array]:
    """What Krum scores are made of, in units of `unit`**power, and `unit`; arguments as for `krum_scores`."""
    n = updates.shape[0]
    power = option(rule, "power", power, (1, 2))
    f = tolerated_by_krum(rule, num_malicious, n, num_neighbors, strict)
    if num_neighbors is None:
        neighbors: Int = n - f - 2
    else:
        neighbors = bounded(
            rule, "num_neighbors", num_neighbors, smallest=1, largest=n - 1, needs="1 to n - 1 neighbors", n=n
        )

    def of_block(block: Block) -> Nearest:
        values = block.squares if power == 2 else distances_of(block.squares)
        return nearest_values(jnp.where(block.own, jnp.inf, values), neighbors)

    return reduce_distances(contained(updates.astype(compute_dtype(updates))), of_block)


def distances_of(squares: Array) -> Array:
    """The square roots; that of 0 has no gradient."""
    apart = squares > 0
    return jnp.where(apart, jnp.sqrt(jnp.where(apart, squares, 1.0)), 0.0)


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
    updates = as_stack("krum_scores", updates)
    power = option("krum_scores", "power", power, (1, 2))
    nearest, unit = nearest_rows(
        updates,
        num_malicious=num_malicious,
        power=power,
        num_neighbors=num_neighbors,
        strict=strict,
        rule="krum_scores",
    )
    scores = nearest.score()
    # One factor after the other: the square of the unit may overflow, or vanish, where the score does not.
    for _ in range(power):
        scores = scores * unit
    return scores


def _order(updates: Array, nearest: Nearest, count: Int) -> tuple[Array, ...]:
    """The keys by which the first `count` rows are chosen."""
    # A row with all its neighbours is finite, and before those without: mostly nobody needs to look.
    enough = jnp.sum(nearest.missing == 0) >= count
    return nearest.keys(finite_rows(updates, jnp.where(enough, 0.0, jnp.inf)))


def krum_explained(
    updates: Array,
    *,
    num_malicious: Int,
    power: int = 2,
    num_neighbors: Int | None = None,
    strict: bool = True,
) -> tuple[Array, Info]:
    """`krum`, and which row it selected."""
    updates = as_stack("krum", updates)
    # Scores stay in the unit of the distances: rescaling could make all of them overflow and tie.
    nearest, _ = nearest_rows(
        updates,
        num_malicious=num_malicious,
        power=power,
        num_neighbors=num_neighbors,
        strict=strict,
        rule="krum",
    )
    chosen = first_row(*_order(updates, nearest, 1))
    info = {"selected": jnp.arange(updates.shape[0]) == chosen}
    # Without columns nothing depends on the choice, and XLA's CPU compiler crashes on what is left of it.
    row = updates[chosen] if updates.shape[1] else updates[0]
    return row.astype(output_dtype(updates)), info


def krum(
    updates: Array,
    *,
    num_malicious: Int,
    power: int = 2,
    num_neighbors: Int | None = None,
    strict: bool = True,
) -> Array:
    """The update with the smallest Krum score, unchanged.

    g = g_k with k = argmin_i s_i and s_i the sum of the n − f − 2 smallest distances^power from row i to
    other rows (see `krum_scores`). Its guarantee needs n > 2f + 2. With one neighbour the two rows of a
    nearest pair have the same score. Of equal scores the one whose next distance is smaller wins, then the
    lowest row.

    A row with a non-finite entry is infinitely far from every other. With more than f of them, rows have
    fewer neighbours than a score counts: then the fewest that are missing come first, then the sum of the
    others. The result is not finite only if no row is.

    Args:
        updates: (n, d).
        num_malicious: f, how many malicious rows to tolerate, 0 ≤ f ≤ (n − 3) / 2; a traced value is clamped
            to that range.
        power: 2 for squared distances (the original), 1 for distances.
        num_neighbors: how many neighbours count instead of n − f − 2; ByzFL and ByzPy use n − f − 1.
        strict: whether to insist on n > 2f + 2; False takes any f that leaves a neighbour, n > f + 2, or with
            `num_neighbors` a row, n > f, without a guarantee.

    Returns:
        (d,), one of the rows.

    Raises:
        ValueError: for a static `num_malicious` or `num_neighbors` out of range.

    Example:
        >>> krum(jnp.array([[0.0], [1.0], [1.5], [3.0], [50.0]]), num_malicious=1).tolist()
        [1.0]

    Source: Blanchard et al., NeurIPS 2017. Flower and FedML agree, but for ties, which everywhere else go to
    the lowest row. FLPoison and ByzantineMomentum: `power=1, num_neighbors=n - f - 1`. fedlib squares the
    distances twice.
    """
    return krum_explained(
        updates, num_malicious=num_malicious, power=power, num_neighbors=num_neighbors, strict=strict
    )[0]


def multi_krum_explained(
    updates: Array,
    *,
    num_malicious: Int,
    num_selected: Int | None = None,
    power: int = 2,
    num_neighbors: Int | None = None,
    strict: bool = True,
) -> tuple[Array, Info]:
    """`multi_krum`, and which rows it averages."""
    updates = as_stack("multi_krum", updates)
    n = updates.shape[0]
    nearest, _ = nearest_rows(
        updates,
        num_malicious=num_malicious,
        power=power,
        num_neighbors=num_neighbors,
        strict=strict,
        rule="multi_krum",
    )
    if num_selected is None:
        count: Int = n - tolerated_by_krum("multi_krum", num_malicious, n, num_neighbors, strict)
    else:
        count = bounded(
            "multi_krum", "num_selected", num_selected, smallest=1, largest=n, needs="1 to n rows", n=n
        )
    selected = first_in_order(count, *_order(updates, nearest, count))
    update, selected = mean_of_rows(selected, updates.astype(compute_dtype(updates)))
    return update.astype(output_dtype(updates)), {"selected": selected}


def multi_krum(
    updates: Array,
    *,
    num_malicious: Int,
    num_selected: Int | None = None,
    power: int = 2,
    num_neighbors: Int | None = None,
    strict: bool = True,
) -> Array:
    """The mean of the updates with the smallest Krum scores.

    g = (1 / c) Σ of the c rows with the smallest s_i (see `krum_scores`), c = `num_selected`. Its guarantee
    needs n > 2f + 2. Equal scores and rows with non-finite entries are ordered as in `krum`; of the c rows,
    such a row is left out of the mean unless there is no other.

    Args:
        updates: (n, d).
        num_malicious: f, how many malicious rows to tolerate, 0 ≤ f ≤ (n − 3) / 2; a traced value is clamped
            to that range.
        num_selected: c, 1 to n; default n − f.
        power: of the distances in a score: 2 (the original) or 1.
        num_neighbors: how many neighbours count in a score instead of n − f − 2; ByzFL uses n − f − 1.
        strict: whether to insist on n > 2f + 2, as for `krum`.

    Returns:
        (d,), in the type of `updates`.

    Raises:
        ValueError: for a static number out of range.

    Example:
        >>> multi_krum(jnp.array([[0.0], [1.0], [2.0], [3.0], [50.0]]), num_malicious=1).tolist()
        [1.5]

    Source: Blanchard et al., NeurIPS 2017. How many are averaged differs: ByzFL n − f, ByzantineMomentum
    n − f − 2, FLPoison a fifth of n; Flower averages by the clients' numbers of examples. FLPoison's and
    ByzantineMomentum's scores are those with `power=1, num_neighbors=n - f - 1`.
    """
    return multi_krum_explained(
        updates,
        num_malicious=num_malicious,
        num_selected=num_selected,
        power=power,
        num_neighbors=num_neighbors,
        strict=strict,
    )[0]
