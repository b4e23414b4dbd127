"""Multi-Krum: the mean of the rows with the smallest Krum scores."""

from jax import Array

from fljax.aggregators._krum_scores import keys_of, num_averaged, score_rows
from fljax.aggregators.registry import register_rule
from fljax.aggregators.surrogates import soft_multi_krum
from fljax.base import Info
from fljax.numerics.averages import mean_of_rows
from fljax.numerics.checks import Int
from fljax.numerics.neighbors import first_in_order


@register_rule(
    title="Multi-Krum", assumes="n > 2f + 2", source="Blanchard et al. 2017", surrogate=soft_multi_krum
)
def multi_krum(
    updates: Array,
    *,
    num_malicious: Int,
    num_selected: Int | None = None,
    power: int = 2,
    num_neighbors: Int | None = None,
    strict: bool = True,
) -> tuple[Array, Info]:
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
        >>> import jax.numpy as jnp
        >>> multi_krum(jnp.array([[0.0], [1.0], [2.0], [3.0], [50.0]]), num_malicious=1).tolist()
        [1.5]

    Source: Blanchard et al., NeurIPS 2017. How many are averaged differs: ByzFL n − f, ByzantineMomentum
    n − f − 2, FLPoison a fifth of n; Flower averages by the clients' numbers of examples. FLPoison's and
    ByzantineMomentum's scores are those with `power=1, num_neighbors=n - f - 1`.
    """
    scored = score_rows(updates, num_malicious, power, num_neighbors, strict)
    count = num_averaged(num_selected, updates.shape[0], scored)
    selected = first_in_order(count, *keys_of(updates, scored.nearest, count))
    update, selected = mean_of_rows(selected, updates)
    return update, {"selected": selected}
