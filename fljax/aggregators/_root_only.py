"""The server's own update alone (FLTrust-Server)."""

from jax import Array

from fljax.aggregators.registry import register_rule
from fljax.numerics.checks import shaped


@register_rule(title="FLTrust-Server", assumes="any f", source="Cao et al. 2021", streams=True)
def root_only(updates: Array, root_update: Array) -> Array:
    """The server's own update alone, g = g_0: the paper's FLTrust-Server, which ignores the clients.

    Args:
        updates: (n, d), not read.
        root_update: (d,), g_0.

    Returns:
        (d,), in the type of `updates`.

    Raises:
        ValueError: if the shapes do not fit.

    Example:
        >>> import jax.numpy as jnp
        >>> root_only(jnp.ones((3, 2)), jnp.array([1.0, 2.0])).tolist()
        [1.0, 2.0]

    Source: Cao et al., NDSS 2021, Table IV.
    """
    return shaped("root_update", root_update, updates.shape[1:])
