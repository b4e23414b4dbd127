"""LFighter: the better of two clusters of the last layer's changes in the two most disputed classes."""

import jax
import jax.numpy as jnp
from jax import Array

from fljax.aggregators.layers import checked_head, of_head
from fljax.aggregators.registry import register_rule
from fljax.base import Head, Info
from fljax.numerics.averages import mean_of_rows
from fljax.numerics.cosines import pairwise_cosines
from fljax.numerics.k_means import k_means
from fljax.numerics.neighbors import squared_distances
from fljax.numerics.safe import divide, finite_rows


@register_rule(title="LFighter", assumes="n > 2f, labels flipped", source="Jebreel et al. 2023")
def lfighter(updates: Array, head: Head) -> tuple[Array, Info]:
    """Mean of the larger, more diverse of two clusters of the last layer's changes (LFighter).

    With the changes ΔW_ic (h,) and Δb_ic of row i for class c, the source and the target of flipped labels
    are taken for the two classes with the largest Σ_i ‖ΔW_ic‖ + |Δb_ic|. 2-means divides the rows' ΔW for
    these two; the cluster S with the larger (|S| / n) · (1 − mean_{i ∈ S} min_{j ∈ S} cos_ij) is averaged,
    where cos_ii counts as 0; that of the lowest row if they are equal. Attackers resemble each other more
    than honest rows do.

    A heuristic against clients that flip labels of one class, with fewer than n/2 of them in mind. It bounds
    the influence of no other attack: put `clip` in front of it. A row with a non-finite entry is left out of
    every statistic; without another row the result is 0.

    Args:
        updates: (n, d).
        head: the model's last layer.

    Returns:
        (d,), in the type of `updates`.

    Raises:
        ValueError: if the last layer is not within the updates.

    Example:
        >>> rows = jnp.array([[1.0, 0.2], [0.2, 1.0], [0.7, 0.5], [-3.0, 3.0]])
        >>> lfighter.explained(rows, Head(0, 1, 2))[1]["selected"].tolist()
        [True, True, True, False]

    Source: Jebreel, Domingo-Ferrer, Sánchez, Blanco-Justicia, "LFighter: defending against the label-flipping
    attack in federated learning", Neural Networks 2024 (arXiv 2022), and the authors' code, which begins
    2-means at random points; here it begins at those that are farthest.
    """
    head = checked_head(head, updates.shape[1])
    # Which rows are averaged is a step function of the updates: no gradient passes through it.
    fixed = jax.lax.stop_gradient(updates)
    kernel, bias = of_head(fixed, head)
    n = len(kernel)
    valid = finite_rows(fixed)
    sizes = jnp.abs(kernel) if bias is None else jnp.concatenate([jnp.abs(kernel), jnp.abs(bias)[:, None]], 1)
    # In units of the largest entry nothing overflows.
    largest = jnp.max(jnp.where(valid[:, None, None], sizes, 0.0))
    largest = jnp.where(largest > 0, largest, 1.0)
    kernel = jnp.where(valid[:, None, None], kernel, 0.0)
    scaled = divide(kernel, largest)
    disputed = jnp.sum(jnp.sqrt(jnp.sum(jnp.square(scaled), axis=1)), axis=0)
    if bias is not None:
        disputed = disputed + jnp.sum(divide(jnp.where(valid[:, None], jnp.abs(bias), 0.0), largest), axis=0)
    classes = jax.lax.top_k(disputed, min(2, head.num_classes))[1]
    points = jnp.take(kernel, classes, axis=2).reshape(n, -1)
    labels = k_means(squared_distances(points), valid, 2)
    cosines = jnp.where(jnp.eye(n, dtype=bool), 0.0, pairwise_cosines(points).cosines)

    def worth(label: int) -> Array:
        inside = valid & (labels == label)
        pairs = inside[:, None] & inside[None, :]
        lowest = jnp.min(jnp.where(pairs, cosines, jnp.inf), axis=1)
        # (|S| / n) (1 − mean) without the common divisor.
        return jnp.sum(jnp.where(inside, 1.0 - lowest, 0.0))

    first = labels[jnp.argmax(valid)]
    chosen = jnp.where(worth(1) == worth(0), first, worth(1) > worth(0))
    update, selected = mean_of_rows(valid & (labels == chosen), updates)
    return jnp.where(jnp.any(valid), update, 0.0), {"selected": selected}
