"""Krum and its descendants: rules that choose whole updates by their pairwise distances."""

import jax.numpy as jnp
from jax import Array

from fljax.aggregators.arguments import Int, as_stack, bounded, compute_dtype, option, output_dtype, tolerated
from fljax.aggregators.base import Info
from fljax.aggregators.linalg import weighted_rows
from fljax.aggregators.neighbors import Block, first_in_order, reduce_distances, sum_smallest


def _scores(
    updates: Array, num_malicious: Int, power: int, num_neighbors: Int | None, strict: bool, rule: str
) -> tuple[Array, Array, Int]:
    """Krum scores in units of `unit`**power, `unit`, and f as far as it is allowed."""
    n = updates.shape[0]
    power = option(rule, "power", power, (1, 2))
    # One neighbour must remain, or where their number is given one row.
    least = (1, 2 if num_neighbors is None else 0)
    f = tolerated(rule, num_malicious, n, (2, 2), least=least, strict=strict)
    if num_neighbors is None:
        neighbors: Int = n - f - 2
    else:
        neighbors = bounded(
            rule, "num_neighbors", num_neighbors, smallest=1, largest=n - 1, needs="1 to n - 1 neighbors", n=n
        )

    def of_block(block: Block) -> Array:
        values = block.squares if power == 2 else jnp.sqrt(block.squares)
        return sum_smallest(jnp.where(block.own, jnp.inf, values), neighbors)

    scores, unit = reduce_distances(updates.astype(compute_dtype(updates)), of_block)
    return scores, unit, f


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
    scores, unit, _ = _scores(updates, num_malicious, power, num_neighbors, strict, "krum_scores")
    # One factor after the other: the square of the unit may overflow, or vanish, where the score does not.
    for _ in range(power):
        scores = scores * unit
    return scores


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
    scores, _, _ = _scores(updates, num_malicious, power, num_neighbors, strict, "krum")
    chosen = jnp.argmin(scores)
    info = {"selected": jnp.arange(updates.shape[0]) == chosen}
    return updates[chosen].astype(output_dtype(updates)), info


def krum(
    updates: Array,
    *,
    num_malicious: Int,
    power: int = 2,
    num_neighbors: Int | None = None,
    strict: bool = True,
) -> Array:
    """The update with the smallest Krum score, unchanged; ties go to the lowest row.

    g = g_k with k = argmin_i s_i and s_i the sum of the n − f − 2 smallest distances^power from row i to
    other rows (see `krum_scores`). Its guarantee needs n > 2f + 2.

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

    Source: Blanchard et al., NeurIPS 2017. Flower and FedML agree; fedlib squares the distances twice.
    """
    return krum_explained(
        updates, num_malicious=num_malicious, power=power, num_neighbors=num_neighbors, strict=strict
    )[0]


def multi_krum_explained(
    updates: Array,
    *,
    num_malicious: Int,
    num_selected: Int | None = None,
    num_neighbors: Int | None = None,
    strict: bool = True,
) -> tuple[Array, Info]:
    """`multi_krum`, and which rows it averages."""
    updates = as_stack("multi_krum", updates)
    n = updates.shape[0]
    scores, _, f = _scores(updates, num_malicious, 2, num_neighbors, strict, "multi_krum")
    if num_selected is None:
        count: Int = n - f
    else:
        count = bounded(
            "multi_krum", "num_selected", num_selected, smallest=1, largest=n, needs="1 to n rows", n=n
        )
    selected = first_in_order(scores, count)
    stack = updates.astype(compute_dtype(updates))
    update = weighted_rows(selected.astype(stack.dtype), stack) / count
    return update.astype(output_dtype(updates)), {"selected": selected}


def multi_krum(
    updates: Array,
    *,
    num_malicious: Int,
    num_selected: Int | None = None,
    num_neighbors: Int | None = None,
    strict: bool = True,
) -> Array:
    """The mean of the updates with the smallest Krum scores; ties go to the lowest rows.

    g = (1 / c) Σ of the c rows with the smallest s_i (see `krum_scores`), c = `num_selected`. Its guarantee
    needs n > 2f + 2.

    Args:
        updates: (n, d).
        num_malicious: f, how many malicious rows to tolerate, 0 ≤ f ≤ (n − 3) / 2; a traced value is clamped
            to that range.
        num_selected: c, 1 to n; default n − f.
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
    n − f − 2, FLPoison a fifth of n; Flower averages by the clients' numbers of examples.
    """
    return multi_krum_explained(
        updates,
        num_malicious=num_malicious,
        num_selected=num_selected,
        num_neighbors=num_neighbors,
        strict=strict,
    )[0]
