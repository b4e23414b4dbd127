"""Nearest-neighbour mixing (NNM): every row becomes the mean of its nearest ones."""

import jax.numpy as jnp
from jax import Array

from fljax.aggregators.registry import register_pre_aggregator
from fljax.numerics.checks import Int, below_half
from fljax.numerics.neighbors import Block, mix, reduce_distances, smallest
from fljax.numerics.safe import safe_norms


@register_pre_aggregator(title="NNM", assumes="n > 2f", source="Allouah et al. 2023", mixes_rows=True)
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
    n = updates.shape[0]
    count = n - below_half(num_malicious, n, strict)
    finite = safe_norms(updates).finite

    def neighbours(block: Block) -> Array:
        # A non-finite row still needs neighbours, and finite ones.
        far = jnp.minimum(block.squares, jnp.finfo(updates.dtype).max)
        return smallest(jnp.where(finite[:, None], far, jnp.inf), count).T

    near, _ = reduce_distances(updates, neighbours)
    return mix(near, updates, finite)
