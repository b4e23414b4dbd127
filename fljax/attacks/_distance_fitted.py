"""Rows moved towards the honest mean as far as distance filters need, and no farther."""

from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from jax import Array

from fljax.attacks._badnets import badnets
from fljax.attacks.registry import register_attack
from fljax.attacks.wrappers import from_factory, malicious_rows
from fljax.base import Attack, Knowledge
from fljax.numerics.checks import option
from fljax.numerics.safe import dot, finite_rows, gram
from fljax.numerics.subset_statistics import honest_rows, mean_of

Distance = Literal["euclidean", "cosine"]
# A root is on the bound up to rounding.
SLACK = 1e-5


@register_attack(
    title="Distance-fitted",
    source="Yang et al. 2024",
    assumes="all updates",
    optimises="what distance filters let through",
    make=from_factory,
)
def distance_fitted(
    *,
    backdoor: Attack | None = None,
    distance: Distance = "euclidean",
    num_classes: int | None = None,
    image_shape: tuple[int, int, int] | None = None,
    max_malicious: int | None = None,
) -> Attack:
    """Another attack's rows, moved towards the honest mean until no honest row is too far from them.

    With what malicious client i would send, g_i, the honest rows h_j and their mean a,

        g'_i = g_i + r (a − g_i)

    with the smallest r in [0, 1] for which max_j ‖g'_i − h_j‖ ≤ max_jk ‖h_j − h_k‖ ("euclidean"). With
    "cosine" the row is brought back to the length of g_i, and the distances are 1 − cos: what FLAME looks at.
    r is the exact root of the binding quadratic. Where no r does, r = 1.

    Args:
        backdoor: whose data, training and rows are taken; None for `badnets`.
        distance: what is kept within the honest rows' diameter.
        num_classes: as for `badnets`.
        image_shape: as for `badnets`.
        max_malicious: an upper bound on the number of malicious rows, to do less. With "cosine" those beyond
            it are not moved.

    Returns:
        The `Attack`, with the state of `backdoor`.

    Raises:
        ValueError: if `distance` is neither.

    Example:
        >>> from fljax.attacks import Context, Knowledge, Task, on_updates, scale
        >>> attack = distance_fitted(backdoor=on_updates(scale, Task(None), factor=10.0))
        >>> rows = jnp.array([[1.0], [3.0], [2.5]])
        >>> attack.corrupt(rows, jnp.arange(3) == 2, (), Knowledge(Context()))[0].tolist()
        [[1.0], [3.0], [3.0]]

    Source: Yang et al., "A learning-based attack framework to break SOTA poisoning defenses in federated
    learning", 2024. The authors' code searches for r from 0.1 in halving steps, which never come beyond 0.2.
    """
    option("distance", distance, get_args(Distance))
    inner = badnets(num_classes=num_classes, image_shape=image_shape) if backdoor is None else backdoor

    def corrupt(updates: Array, malicious: Array, state: Any, knowledge: Knowledge) -> tuple[Array, Any]:
        rows, state = inner.corrupt(updates, malicious, state, knowledge)
        known = honest_rows(malicious) & finite_rows(updates)
        mean = mean_of(known, updates)
        usable = jnp.where((known | malicious)[:, None] & finite_rows(rows)[:, None], rows, mean)
        if distance == "euclidean":
            fitted = _euclidean(usable, known, mean)
        else:
            fitted = _cosine(usable, known, mean, malicious_rows(malicious, max_malicious))
        return jnp.where(malicious[:, None], fitted, updates), state

    return inner._replace(corrupt=corrupt, streams=False)


def _among(rows: Array) -> Array:
    """Pairs of different rows that are both in the mask, (n, n) bool."""
    return rows[:, None] & rows & ~jnp.eye(rows.shape[0], dtype=bool)


def _euclidean(updates: Array, known: Array, mean: Array) -> Array:
    """All rows fitted to the diameter of the known ones."""
    products = gram(updates - mean)
    squares = jnp.diagonal(products)
    apart = squares[:, None] + squares - 2 * products
    diameter = jnp.max(jnp.where(_among(known), apart, 0.0))
    # About the mean: s² ‖g_i‖² − 2 s ⟨g_i, h_j⟩ + ‖h_j‖² ≤ D² holds at s = 0 and up to the larger root.
    room = jnp.maximum(diameter - squares, 0.0)
    reach = products + jnp.sqrt(jnp.square(products) + squares[:, None] * room)
    share = reach / jnp.where(squares > 0, squares, 1.0)[:, None]
    kept = jnp.min(jnp.where(known, share, 1.0), axis=1)
    kept = jnp.where(jnp.isnan(kept), 0.0, jnp.clip(kept, 0.0, 1.0))
    return mean + kept[:, None] * (updates - mean)


def _cosine(updates: Array, known: Array, mean: Array, rows: Array) -> Array:
    """The rows listed fitted to the largest angle between two of the known ones, at their length."""
    n = updates.shape[0]
    products = gram(updates)
    squares = jnp.diagonal(products)
    pointed = known & (squares > 0)
    weights = known.astype(updates.dtype) / jnp.maximum(jnp.sum(known), 1)
    with_mean = dot(products, weights)
    norms = jnp.sqrt(jnp.where(squares > 0, squares, 1.0))
    pairs = _among(pointed)
    least = jnp.min(jnp.where(pairs, products / norms[:, None] / norms, 1.0))
    # Without two of them there is no angle to stay within.
    least = jnp.where(jnp.any(pairs), least, 2.0)
    # ‖g + r (a − g)‖² = squares + 2 r half + r² curve.
    half, curve = with_mean - squares, dot(weights, with_mean) - 2 * with_mean + squares

    def smallest(row: Array) -> Array:
        # ⟨g + r (a − g), h_j⟩/‖h_j‖ = first + r slope.
        first, slope = products[row] / norms, (with_mean - products[row]) / norms
        a = jnp.square(slope) - least**2 * curve[row]
        b = first * slope - least**2 * half[row]
        c = jnp.square(first) - least**2 * squares[row]
        root = jnp.sqrt(jnp.maximum(jnp.square(b) - a * c, 0.0))
        safe = jnp.where(a != 0, a, 1.0)
        line = -c / jnp.where(b != 0, 2 * b, 1.0)
        # What r may be is bounded by roots, or by 0: the smallest is among them.
        tries = jnp.concatenate([jnp.zeros((1,), a.dtype), (-b - root) / safe, (-b + root) / safe, line])
        tries = jnp.clip(tries, 0.0, 1.0)[:, None]
        length = jnp.sqrt(jnp.maximum(squares[row] + 2 * tries * half[row] + tries**2 * curve[row], 0.0))
        fine = first + tries * slope >= (least - SLACK) * length
        return jnp.min(jnp.where(jnp.all(fine | ~pointed, axis=1), tries[:, 0], 1.0))

    found = jax.lax.map(smallest, jnp.minimum(rows, n - 1))
    r = jnp.zeros((n,), updates.dtype).at[rows].set(found, mode="drop")
    size = jnp.sqrt(jnp.maximum(squares + 2 * r * half + r**2 * curve, 0.0))
    stretch = jnp.where(size > 0, jnp.sqrt(squares) / jnp.where(size > 0, size, 1.0), 1.0)
    return (updates + r[:, None] * (mean - updates)) * stretch[:, None]
