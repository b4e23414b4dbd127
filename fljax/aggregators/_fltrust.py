"""FLTrust: trust scores from the server's own update on a small clean root dataset."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal, NamedTuple, get_args

import jax.numpy as jnp
from jax import Array, lax

from fljax.aggregators.registry import register_rule, takes_updates
from fljax.base import Info
from fljax.numerics.checks import flag, option, shaped
from fljax.numerics.rows import Rows, fold
from fljax.numerics.safe import (
    contained,
    divide,
    dot,
    for_all,
    largest_entries,
    ordinary,
    scale_rows,
    square_norms,
)

Normalization = Literal["full", "shrink", "none"]


def _unit_root(root_update: Array) -> tuple[Array, Array]:
    """The direction of the root update, zero where it vanishes, and its norm."""
    largest = largest_entries(root_update)
    vanishes = largest < jnp.finfo(root_update.dtype).tiny
    scaled = divide(root_update, jnp.where(vanishes, 1.0, largest))
    square = dot(scaled, scaled)
    length = jnp.sqrt(jnp.where(vanishes, 1.0, square))
    direction = jnp.where(vanishes, 0.0, scaled / length)
    return direction, jnp.where(vanishes, 0.0, largest * length)


def _cosines(rows: Array, squares: Array, direction: Array) -> tuple[Array, Array]:
    """Cosine with a unit vector (0 for a zero row), and the reciprocal norm (0 for a zero row)."""
    zero = squares == 0
    norms = jnp.sqrt(jnp.where(zero, 1.0, squares))
    cosines = dot(rows, direction) / norms
    return jnp.clip(cosines, -1.0, 1.0), jnp.where(zero, 0.0, 1.0 / norms)


@takes_updates
def trust_scores(updates: Array, root_update: Array) -> Array:
    """FLTrust's trust score of every row: TS_i = max(0, cos(g_i, g_0)).

    A zero or non-finite row, and every row when g_0 is zero, scores 0.

    Args:
        updates: (n, d).
        root_update: (d,), g_0.

    Returns:
        (n,) scores in [0, 1], float32 (float64 for float64 input).

    Raises:
        ValueError: if the shapes do not fit.

    Example:
        >>> rows = jnp.array([[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0], [3.0, 4.0]])
        >>> print(trust_scores(rows, jnp.array([1.0, 0.0])))
        [1.  0.  0.  0.6]

    Source: Cao et al., "FLTrust: Byzantine-robust federated learning via trust bootstrapping", NDSS 2021.
    """
    return _average(updates, root_update, clip_negative=True, normalize="full", include_root=False)[1]


class _Variant(NamedTuple):
    """The arguments of `fltrust`."""

    clip_negative: bool
    normalize: Normalization
    include_root: bool


def _trust(
    variant: _Variant, rows: Array, scales: Array | float, squares: Array, direction: Array, root_norm: Array
) -> tuple[Array, Array]:
    """Trust scores, and the factors that bring the rows to their lengths, both (n,).

    Row i of the stack is scales[i] * rows[i]; squares are the squared norms of `rows`.
    """
    cosines, inverse = _cosines(rows, squares, direction)
    scores = jnp.maximum(cosines, 0.0) if variant.clip_negative else cosines
    if variant.normalize == "full":
        # The factor ‖g_0‖ comes after the product: before it, it could overflow for very short rows.
        lengths = inverse
    elif variant.normalize == "shrink":
        lengths = jnp.minimum(scales, root_norm * inverse)
    else:
        lengths = jnp.broadcast_to(scales, inverse.shape)
    return scores, lengths


def _divisor(variant: _Variant, scores: Array) -> tuple[Array, Array]:
    """What the sum is divided by, of the sum of the scores, and whether anybody is trusted."""
    total = scores + (1.0 if variant.include_root else 0.0)
    trusted = total != 0
    return jnp.where(trusted, total, 1.0), trusted


def _finished(
    variant: _Variant, update: Array, scores: Array, divisor: tuple[Array, Array], root: tuple[Array, ...]
) -> tuple[Array, Array]:
    """The update and the scores, of the average of the rows."""
    (total, trusted), (direction, root_norm) = divisor, root
    if variant.normalize == "full":
        update = root_norm * update
    if variant.include_root:
        update = update + jnp.where(trusted, root_norm / total, 0.0) * direction
    # Without a direction to trust there is no update, in every variant.
    return jnp.where(root_norm == 0, 0.0, update), jnp.where(root_norm == 0, 0.0, scores)


class _Branches(NamedTuple):
    """The two paths of one variant, as functions of (stack, squares, direction, root_norm)."""

    plain: Callable[..., Any]
    careful: Callable[..., Any]


@lru_cache
def _branches(variant: _Variant, num_rows: int | None = None) -> _Branches:
    """The update and the scores of a stack; or, of a chunk of `num_rows` rows, its sums and the scores."""

    # Cached so that outside jit, too, JAX meets the same functions again and compiles them once.
    def combine(rows: Array, scales: Array | float, squares: Array, *root: Array) -> Any:
        scores, lengths = _trust(variant, rows, scales, squares, *root)
        if num_rows is not None:
            return (dot(scores / num_rows * lengths, rows), jnp.sum(scores)), scores
        total, trusted = divisor = _divisor(variant, jnp.sum(scores))
        coefficients = jnp.where(trusted, scores / total * lengths, 0.0)
        return _finished(variant, dot(coefficients, rows), scores, divisor, root)

    def plain(stack: Array, squares: Array, *root: Array) -> Any:
        return combine(stack, 1.0, squares, *root)

    def careful(stack: Array, squares: Array, *root: Array) -> Any:
        rows, scales = scale_rows(stack)
        return combine(rows, scales, square_norms(rows), *root)

    return _Branches(plain, careful)


def _average(updates: Array, root_update: Array, **arguments: Any) -> tuple[Array, Array]:
    """The update and the trust scores of one variant."""
    given = shaped("root_update", root_update, updates.shape[1:]).astype(updates.dtype)
    root, variant = _unit_root(given), _Variant(**arguments)
    n = len(updates) if isinstance(updates, Rows) else None

    def part(rows: Array) -> Any:
        stack = contained(rows)
        squares = square_norms(stack)
        return lax.cond(for_all(ordinary(squares)), *_branches(variant, n), stack, squares, *root)

    if n is None:
        return part(updates)
    (total, sum_of_scores), scores = fold(part, updates)
    divisor = _divisor(variant, sum_of_scores)
    return _finished(variant, jnp.where(divisor[1], n / divisor[0], 0.0) * total, scores, divisor, root)


@register_rule(title="FLTrust", assumes="any f, with a clean root", source="Cao et al. 2021", streams=True)
def fltrust(
    updates: Array,
    root_update: Array,
    *,
    clip_negative: bool = True,
    normalize: Normalization = "full",
    include_root: bool = False,
) -> tuple[Array, Info]:
    """FLTrust: the average of the updates rescaled to ‖g_0‖, weighted by their trust scores.

    g = Σ_i TS_i · (‖g_0‖ / ‖g_i‖) · g_i / Σ_j TS_j, with TS_i = max(0, cos(g_i, g_0)). It needs no bound on
    the number of malicious rows: ‖g‖ ≤ ‖g_0‖ whatever they send. A zero or non-finite row has score 0;
    with all scores 0 the result is 0 and the model stays (as in the authors' demo; FLPoison falls back to
    equal weights). A non-finite g_0 is the server's own and is not guarded against: the result is NaN.

    Args:
        updates: (n, d).
        root_update: (d,), the server's own update g_0 on the root dataset.
        clip_negative: False gives the paper's FLTrust-NoReLU: TS_i = cos(g_i, g_0), the denominator Σ_j TS_j
            may then be near zero or negative.
        normalize: "full" rescales every row to ‖g_0‖; "shrink" only longer ones (FLTrust-ParNorm); "none"
            rescales nothing (FLTrust-NoNorm), and a huge row then counts with its length.
        include_root: True gives FLTrust-withServer: g_0 joins the average with trust score 1.

    Returns:
        (d,), in the type of `updates`.

    Raises:
        ValueError: if the shapes do not fit or `normalize` is not one of the three.

    Example:
        >>> rows = jnp.array([[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0], [3.0, 4.0]])
        >>> "{:.2f} {:.2f}".format(*fltrust(rows, jnp.array([1.0, 0.0])))
        '0.85 0.30'

    Source: Cao et al., NDSS 2021, Algorithm 2 and the variants of its Table IV.
    """
    update, scores = _average(
        updates,
        root_update,
        clip_negative=flag("clip_negative", clip_negative),
        normalize=option("normalize", normalize, get_args(Normalization)),
        include_root=flag("include_root", include_root),
    )
    return update, {"trust_scores": scores}
