"""Krum: the row with the smallest Krum score."""

import jax.numpy as jnp
from jax import Array

from fljax.aggregators._krum_scores import keys_of, score_rows
from fljax.aggregators.registry import register_rule
from fljax.aggregators.surrogates import soft_krum
from fljax.base import Info
from fljax.numerics.checks import Int
from fljax.numerics.neighbors import first_row


@register_rule(title="Krum", assumes="n > 2f + 2", source="Blanchard et al. 2017", surrogate=soft_krum)
def krum(
    updates: Array,
    *,
    num_malicious: Int,
    power: int = 2,
    num_neighbors: Int | None = None,
    strict: bool = True,
) -> tuple[Array, Info]:
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
    # Scores stay in the unit of the distances: rescaling could make all of them overflow and tie.
    nearest = score_rows(updates, num_malicious, power, num_neighbors, strict).nearest
    chosen = first_row(*keys_of(updates, nearest, 1))
    # Without columns nothing depends on the choice, and XLA's CPU compiler crashes on what is left of it.
    row = updates[chosen] if updates.shape[1] else updates[0]
    return row, {"selected": jnp.arange(updates.shape[0]) == chosen}
