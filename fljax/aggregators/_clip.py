"""Clipping of rows to a given length."""

from jax import Array

from fljax.aggregators.registry import register_pre_aggregator
from fljax.numerics.checks import Float, real
from fljax.numerics.clipping import shortened
from fljax.numerics.rows import map_rows
from fljax.numerics.safe import contained, safe_norms


@register_pre_aggregator(
    title="Clipping", assumes="bounds each row's influence", source="Sun et al. 2019", streams=True
)
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
        >>> import jax.numpy as jnp
        >>> clip(jnp.array([[3.0, 4.0], [0.3, 0.4]]), radius=1.0).round(3).tolist()
        [[0.6000000238418579, 0.800000011920929], [0.30000001192092896, 0.4000000059604645]]

    Source: norm clipping, e.g. Sun et al., "Can you really backdoor federated learning?", 2019; ByzFL's
    static clipping.
    """
    radius = real("radius", radius, above=0)

    def shorter(rows: Array) -> Array:
        rows = contained(rows)
        return shortened(rows, safe_norms(rows), radius)

    return map_rows(shorter, updates)
