"""Mimicry of one client."""

import jax.numpy as jnp
from jax import Array

from fljax.attacks.registry import register_attack
from fljax.numerics.checks import Int, bounded, shaped
from fljax.numerics.rows import row_at
from fljax.numerics.subset_statistics import honest_rows, replaced


@register_attack(
    title="Mimic",
    source="Karimireddy et al. 2022",
    assumes="one update",
    optimises="weight of one client",
    streams=True,
)
def mimic(updates: Array, malicious: Array, client_ids: Array | None = None, *, target: Int = 0) -> Array:
    """Mimic a fixed client: every malicious row is a copy of that client's.

    g'_i = g_t for malicious i. If client t is malicious or not in the stack, the honest client with the next
    larger id takes its place, after the largest the smallest.

    Args:
        updates: (n, d), the rows all clients would send honestly.
        malicious: (n,) boolean; if no row is honest, any may be the target.
        client_ids: (n,) which client each row comes from; None for 0 to n − 1, the row numbers.
        target: t, from 0; where there are no ids below n. A traced value is clamped.

    Returns:
        (n, d); honest rows are bit-identical.

    Raises:
        ValueError: if the shapes do not fit or a static `target` is negative, or no row number where there
            are no ids.

    Example:
        >>> rows = jnp.array([[1.0], [2.0], [3.0]])
        >>> mimic(rows, jnp.array([True, True, False]), target=1).tolist()
        [[3.0], [3.0], [3.0]]

    Source: Karimireddy, He & Jaggi, "Byzantine-robust learning on heterogeneous datasets via bucketing", ICLR
    2022. ByzFL counts the target among the honest rows only.
    """
    n = updates.shape[0]
    most = n - 1 if client_ids is None else 2**31 - 1
    target = bounded("target", target, largest=most, needs=f"to be a client's, 0 to {most}", n=n)
    ids = jnp.arange(n) if client_ids is None else shaped("client_ids", client_ids, (n,))
    after = ids - target
    # Those before the target come last, in their own order.
    after = jnp.where(after < 0, jnp.iinfo(after.dtype).max // 2 + ids, after)
    row = jnp.argmin(jnp.where(honest_rows(malicious), after, jnp.iinfo(after.dtype).max))
    copied = row_at(row, updates)
    return replaced(updates, malicious, lambda rows: copied)
