"""Clustering: the mean of the larger of two clusters by angle."""

import jax.numpy as jnp
from jax import Array

from fljax.aggregators.registry import register_rule
from fljax.base import Info
from fljax.numerics.averages import weighted_rows
from fljax.numerics.checks import option
from fljax.numerics.cosines import cosine_distances
from fljax.numerics.linkage import Linkage, largest_label, two_clusters
from fljax.numerics.safe import contained, finite_rows

LINKAGES = ("average", "complete", "single")


def larger_cluster(stack: Array, valid: Array, linkage: Linkage) -> Array:
    """The rows of the larger of two clusters by angle, (n,) bool; of equal ones that of the lowest row."""
    return largest_label(two_clusters(cosine_distances(stack), valid, linkage))


@register_rule(title="Clustering", assumes="n > 2f", source="Sattler et al. 2020", surrogate="angle")
def clustering(updates: Array, *, linkage: Linkage = "complete") -> tuple[Array, Info]:
    """The mean of the larger of two clusters by angle.

    Agglomeration in the distances 1 − cos(g_i, g_j) joins the nearest two clusters until two are left;
    g = (1/|B|) Σ_{i ∈ B} g_i over the larger one, of equal ones that of the lowest row. A zero row is at
    distance 1 from every other.

    A heuristic with fewer than n/2 malicious rows in mind that point away together. It looks at directions
    only: the length of a row is not bounded (`clipped_clustering` bounds it), and one row that points nowhere
    near the others can be the other cluster. A row with a non-finite entry is in neither; without another row
    the result is 0.

    Args:
        updates: (n, d).
        linkage: the distance of two clusters: the largest ("complete"), the mean ("average") or the smallest
            ("single") of those of their rows.

    Returns:
        (d,), in the type of `updates`.

    Raises:
        ValueError: if `updates` is not (n, d), or `linkage` is not one of the three.

    Example:
        >>> clustering(jnp.array([[1.0, 0.0], [3.0, 0.1], [2.0, 0.2], [-9.0, 1.0]])).round(3).tolist()
        [2.0, 0.10000000149011612]

    Source: Sattler, Müller, Wiegand, Samek, "On the Byzantine robustness of clustered federated learning",
    ICASSP 2020; the authors' code has complete linkage. Blades' first version hands similarities to the
    clustering where distances belong, so that the most unlike rows are joined.
    """
    option("linkage", linkage, LINKAGES)
    stack = contained(updates)
    selected = larger_cluster(stack, finite_rows(stack), linkage)
    shares = selected / jnp.maximum(jnp.sum(selected), 1).astype(stack.dtype)
    return weighted_rows(shares, stack), {"selected": selected}
