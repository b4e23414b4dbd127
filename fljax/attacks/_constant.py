"""The same number in every entry."""

import jax.numpy as jnp
from jax import Array

from fljax.attacks.registry import register_attack
from fljax.numerics.checks import real
from fljax.numerics.subset_statistics import replaced


@register_attack(
    title="Constant",
    source="this library",
    assumes="nothing",
    optimises="what rules do with 0, NaN, infinity",
    streams=True,
)
def constant(updates: Array, malicious: Array, *, value: float | Array) -> Array:
    """A constant: every entry of every malicious row is the same number.

    g'_i = (value, …, value) for malicious i. With 0 the client sends nothing; NaN, infinity and 1e38, whose
    square overflows, test what a rule does with them.

    Args:
        updates: (n, d), the rows all clients would send honestly.
        malicious: (n,) boolean.
        value: any float, `nan` and `inf` included; one beyond the range of the updates' type is infinite.

    Returns:
        (n, d); honest rows are bit-identical.

    Raises:
        ValueError: if the shapes do not fit.

    Example:
        >>> constant(jnp.ones((2, 1)), jnp.array([True, False]), value=float("-inf")).tolist()
        [[-inf], [1.0]]

    Source: simulators at large; ByzFL sends infinity.
    """
    value = jnp.asarray(real("value", value), updates.dtype)
    return replaced(updates, malicious, lambda rows: value)
