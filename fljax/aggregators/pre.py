"""Maps from (n, d) updates to (n', d) updates that run before a rule."""

import jax.numpy as jnp
from jax import Array

from fljax.aggregators.base import Float, as_stack, compute_dtype, is_static, output_dtype
from fljax.aggregators.linalg import scale_rows, square_norms


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
    if is_static(radius) and not radius > 0:
        raise ValueError(f"clip: radius={radius} must be positive")
    scaled = scale_rows(updates.astype(compute_dtype(updates)))
    squares = square_norms(scaled.rows)
    norms = jnp.sqrt(jnp.where(squares > 0, squares, 1.0))
    # The row itself where it is short enough, so that a row inside the ball is returned bit for bit.
    short = scaled.scales * norms <= radius
    clipped = scaled.rows * (radius / norms)[:, None]
    kept = jnp.where((short & (scaled.scales > 0))[:, None], updates, clipped)
    return kept.astype(output_dtype(updates))
