"""FoundationFL: a trimmed mean or median of the updates and copies of the one farthest from both extremes."""

from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jax import Array

from fljax.aggregators.registry import register_rule
from fljax.numerics.checks import Int, option, tolerated, whole
from fljax.numerics.order_statistics import LARGEST_NETWORK, fold_rows, ranked_sum, sorted_rows
from fljax.numerics.safe import contained, distances_to, finite_rows

Inner = Literal["trimmed_mean", "median"]


def _with_copies(rows: list[Array], copied: Array, copies: int) -> list[Array]:
    """The sorted values of n rows and `copies` more of one of them: n + copies rows (d,)."""
    n = len(rows)
    merged = []
    for rank in range(n + copies):
        # Where v is inserted c times, the rank holds s[rank] before it, s[rank − c] behind it, else v.
        value = copied if rank < copies else jnp.maximum(copied, rows[rank - copies])
        merged.append(value if rank >= n else jnp.minimum(value, rows[rank]))
    return merged


@register_rule(title="FoundationFL", assumes="n > 2f", source="Fang et al. 2025")
def foundation(
    updates: Array, *, num_malicious: Int, rule: Inner = "trimmed_mean", num_copies: int | None = None
) -> Array:
    """Trimmed mean or median of the updates and copies of the one farthest from all extremes (FoundationFL).

    With g_max and g_min the largest and the smallest value of every coordinate, a row scores
    s_i = min(‖g_i − g_max‖, ‖g_i − g_min‖); m copies of the row of largest score, ties to the lowest, join
    the n updates, and the coordinate-wise rule runs on n + m rows: a trimmed mean without the f largest and
    the f smallest values, or the median. The copied row may be a hostile one, which then has m + 1 votes:
    the rule's own bound, f hostile among n + m rows, covers honest copies only. A row with a non-finite
    entry is left out of everything.

    Args:
        updates: (n, d).
        num_malicious: f, the values dropped at each end, 0 ≤ f < n/2; a traced value is clamped to that
            range. "median" does not use it.
        rule: "trimmed_mean" or "median".
        num_copies: m, at least 0; None for ⌊n/2⌋.

    Returns:
        (d,), in the type of `updates`; 0 if no row is finite.

    Raises:
        ValueError: if `updates` is not (n, d), `rule` is neither of the two, or a static number is out of
            range.

    Example:
        >>> rows = jnp.array([[0.0], [1.0], [2.0], [3.0], [90.0]])
        >>> foundation(rows, num_malicious=1).round(3).tolist()
        [2.4000000953674316]

    Source: Fang et al., "Do we really need to design new Byzantine-robust aggregation rules?", NDSS 2025,
    where the server makes synthetic updates by this choice. The default m is that of CRYPTO-KU's library,
    the implementation the formula was read in.
    """
    n = updates.shape[0]
    trim = tolerated(num_malicious, n, (2, 0))
    option("rule", rule, get_args(Inner))
    copies = n // 2 if num_copies is None else whole("num_copies", num_copies)
    fixed = jax.lax.stop_gradient(updates)
    finite = finite_rows(fixed)

    def extremes(row: Array, counts: Array) -> tuple[Array, Array]:
        return jnp.where(counts, row, -jnp.inf), jnp.where(counts, row, jnp.inf)

    any_finite = jnp.any(finite)
    high, low = fold_rows(extremes, [fixed, finite[:, None]], (jnp.maximum, jnp.minimum))
    high, low = (jax.lax.optimization_barrier(jnp.where(any_finite, end, 0.0)) for end in (high, low))
    scores = jnp.minimum(distances_to(fixed, high), distances_to(fixed, low))
    chosen = jnp.argmax(jnp.where(finite, scores, -1.0))

    # What is left out sorts behind all values.
    stack = jnp.where(finite[:, None], contained(updates), jnp.inf)
    copied = jnp.where(any_finite, stack[chosen], 0.0)
    rows = sorted_rows(stack) if n + copies <= 2 * LARGEST_NETWORK else None
    if rows is None:
        stack = jnp.concatenate([stack, jnp.broadcast_to(copied, (copies, copied.shape[0]))])
    else:
        rows = _with_copies(rows, copied, copies)
    count = jnp.sum(finite) + copies
    most = jnp.maximum(count - 1, 0) // 2
    trim = most if rule == "median" else jnp.minimum(trim, most)
    total = ranked_sum(stack, trim, count - trim, rows)
    return jnp.where(any_finite, total / (count - 2 * trim), 0.0)
