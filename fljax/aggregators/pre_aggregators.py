"""Maps from (n, d) updates to (n', d) updates that run before a rule."""

import jax
import jax.numpy as jnp
from jax import Array, lax

from fljax.numerics.checks import (
    Float,
    Int,
    as_stack,
    below_half,
    compute_dtype,
    output_dtype,
    real,
    tolerated,
    whole,
)
from fljax.numerics.neighbors import Block, mix, reduce_distances, smallest
from fljax.numerics.safe import Norms, contained, safe_norms


def _shortened(updates: Array, norms: Norms, radius: Array | Float) -> Array:
    """Rows longer than `radius` shortened to it, non-finite ones zero, the others bit for bit as they are."""
    long = norms.values > radius * norms.shifts
    # A row that keeps its length is multiplied by 1 · 1. One pass, so that a donated stack is overwritten.
    shifts = jnp.where(long, norms.shifts, 1.0)
    factors = jnp.where(long, radius / jnp.where(long, norms.values, 1.0), 1.0)
    shorter = (updates * shifts[:, None]) * factors[:, None]
    return jnp.where(norms.finite[:, None], shorter, 0.0)


def clip(updates: Array, *, radius: Float) -> Array:
    """Shorten every row that is longer than `radius` to that length: g_i · min(1, radius / ‖g_i‖).

    A row with a non-finite entry becomes zero.

    Args:
        updates: (n, d).
        radius: > 0, in the unit of the updates; may be traced.

    Returns:
        (n, d), in the type of `updates`.

    Raises:
        ValueError: if a static `radius` is not positive.

    Example:
        >>> clip(jnp.array([[3.0, 4.0], [0.3, 0.4]]), radius=1.0).round(3).tolist()
        [[0.6000000238418579, 0.800000011920929], [0.30000001192092896, 0.4000000059604645]]

    Source: norm clipping, e.g. Sun et al., "Can you really backdoor federated learning?", 2019; ByzFL's
    static clipping.
    """
    updates = as_stack("clip", updates)
    radius = real("clip", "radius", radius, above=0)
    stack = contained(updates.astype(compute_dtype(updates)))
    return _shortened(stack, safe_norms(stack), radius).astype(output_dtype(updates))


def adaptive_clip(updates: Array, *, num_malicious: Int) -> Array:
    """Clip the longest rows to the length of the longest one that is left alone (ARC).

    With k = ⌊2 (f / n) (n − f)⌋ and f = `num_malicious`, the k rows of largest norm are shortened to the norm
    of the (k + 1)-th largest. Keeps the tolerance of the rule that follows, f < n/2, and bounds how long a
    malicious row can be by the honest ones. A row with a non-finite entry is among the longest and becomes
    zero.

    Args:
        updates: (n, d).
        num_malicious: f, 0 ≤ f < n/2; a traced value is clamped to that range (largest ⌈n/2⌉ − 1).

    Returns:
        (n, d), in the type of `updates`.

    Raises:
        ValueError: if `updates` is not (n, d), or a static `num_malicious` is not a whole number in range.

    Example:
        >>> adaptive_clip(jnp.array([[1.0], [-2.0], [4.0], [64.0]]), num_malicious=1).tolist()
        [[1.0], [-2.0], [4.0], [4.0]]

    Source: Allouah et al., "Adaptive gradient clipping for robust federated learning", 2024.
    """
    updates = as_stack("adaptive_clip", updates)
    n = updates.shape[0]
    f = tolerated("adaptive_clip", num_malicious, n, (2, 0))
    stack = contained(updates.astype(compute_dtype(updates)))
    norms = safe_norms(stack)
    num_clipped = 2 * f * (n - f) // n
    lengths = jnp.where(norms.finite, norms.values / norms.shifts, jnp.inf)
    radius = jnp.sort(lengths)[n - 1 - num_clipped]
    return _shortened(stack, norms, radius).astype(output_dtype(updates))


def nnm(updates: Array, *, num_malicious: Int, strict: bool = True) -> Array:
    """Replace every row by the mean of its n − f nearest rows, itself included (nearest-neighbour mixing).

    y_i = (1 / (n − f)) Σ of the n − f rows j with the smallest ‖g_j − g_i‖, ties going to the lowest row,
    f = `num_malicious`. With a rule that tolerates f < n/2 malicious rows it attains the optimal error. A row
    with a non-finite entry is nobody's neighbour; it becomes the mean of the first n − f others. Rows so far
    out that squared distances overflow are all equally far from each other.

    Args:
        updates: (n, d).
        num_malicious: f, 0 ≤ f < n/2; a traced value is clamped to that range (largest ⌈n/2⌉ − 1).
        strict: whether to insist on n > 2f; False takes any f < n, without a guarantee.

    Returns:
        (n, d), in the type of `updates`.

    Raises:
        ValueError: if `updates` is not (n, d), or a static `num_malicious` is not a whole number in range.

    Example:
        >>> nnm(jnp.array([[0.0], [1.0], [5.0], [90.0]]), num_malicious=1).round(3).tolist()
        [[2.0], [2.0], [2.0], [32.0]]

    Source: Allouah et al., "Fixing by mixing: a recipe for optimal Byzantine ML under heterogeneity", AISTATS
    2023. ByzFL breaks ties arbitrarily.
    """
    updates = as_stack("nnm", updates)
    n = updates.shape[0]
    count = n - below_half("nnm", num_malicious, n, strict)
    stack = updates.astype(compute_dtype(updates))
    finite = safe_norms(stack).finite

    def neighbours(block: Block) -> Array:
        # A non-finite row still needs neighbours, and finite ones.
        far = jnp.minimum(block.squares, jnp.finfo(stack.dtype).max)
        return smallest(jnp.where(finite[:, None], far, jnp.inf), count).T

    near, _ = reduce_distances(stack, neighbours)
    return mix(near, stack, finite).astype(output_dtype(updates))


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
    updates = as_stack("bucketing", updates)
    n, d = updates.shape
    size = whole("bucketing", "bucket_size", bucket_size, smallest=1, largest=n)
    stack = updates.astype(compute_dtype(updates))
    num_buckets = -(-n // size)
    order = jax.random.permutation(key, n)
    # Places that the last bucket lacks read some row and do not count.
    places = jnp.arange(num_buckets * size).reshape(num_buckets, size)
    members = order[jnp.minimum(places, n - 1)]
    counts = (places < n) & safe_norms(stack).finite[members]
    weights = counts / jnp.maximum(jnp.sum(counts, axis=1, keepdims=True), 1)

    def add(j: Array, total: Array) -> Array:
        row = stack[members[:, j]]
        return total + jnp.where(counts[:, j, None], row * weights[:, j, None].astype(row.dtype), 0.0)

    total = lax.fori_loop(0, size, add, jnp.zeros((num_buckets, d), stack.dtype))
    return total.astype(output_dtype(updates))
