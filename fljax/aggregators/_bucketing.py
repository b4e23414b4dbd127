"""Bucketing: the means of rows that are put together at random."""

import jax
import jax.numpy as jnp
from jax import Array, lax

from fljax.aggregators.registry import register_pre_aggregator
from fljax.numerics.checks import whole
from fljax.numerics.safe import safe_norms


@register_pre_aggregator(
    title="Bucketing",
    assumes="f of ⌈n / bucket_size⌉, by the rule that follows",
    source="Karimireddy et al. 2022",
    mixes_rows=True,
)
def bucketing(updates: Array, key: Array, *, bucket_size: int) -> Array:
    """Average the rows in random buckets: (n, d) to (⌈n / bucket_size⌉, d).

    The rows are permuted at random and every `bucket_size` consecutive ones averaged; the last bucket may be
    smaller. Halves the variance for buckets of two, while f malicious rows spoil at most f buckets, so the
    rule that follows must tolerate f of ⌈n / bucket_size⌉ rows. A row with a non-finite entry is left out of
    its bucket; a bucket of such rows is zero.

    Args:
        updates: (n, d).
        key: typed PRNG key.
        bucket_size: 1 to n.

    Returns:
        (⌈n / bucket_size⌉, d), in the type of `updates`.

    Raises:
        ValueError: if `updates` is not (n, d) or `bucket_size` is not a whole number from 1 to n.

    Example:
        >>> bucketing(jnp.ones((5, 3)), jax.random.key(0), bucket_size=2).shape
        (3, 3)

    Source: Karimireddy, He, Jaggi, "Byzantine-robust learning on heterogeneous datasets via bucketing", ICLR
    2022. ByzFL agrees.
    """
    n, d = updates.shape
    size = whole("bucket_size", bucket_size, smallest=1, largest=n)
    num_buckets = -(-n // size)
    order = jax.random.permutation(key, n)
    # Places that the last bucket lacks read some row and do not count.
    places = jnp.arange(num_buckets * size).reshape(num_buckets, size)
    members = order[jnp.minimum(places, n - 1)]
    counts = (places < n) & safe_norms(updates).finite[members]
    weights = counts / jnp.maximum(jnp.sum(counts, axis=1, keepdims=True), 1)

    def add(j: Array, total: Array) -> Array:
        row = updates[members[:, j]]
        return total + jnp.where(counts[:, j, None], row * weights[:, j, None].astype(row.dtype), 0.0)

    total = lax.fori_loop(0, size, add, jnp.zeros((num_buckets, d), updates.dtype))
    return total
