"""FedAvg: the weighted mean of the updates."""

import jax.numpy as jnp
from jax import Array

from fljax.aggregators.registry import register_rule
from fljax.base import Info
from fljax.numerics.rows import sum_rows
from fljax.numerics.safe import dot
from fljax.numerics.weights import relative_weights


@register_rule(title="FedAvg", assumes="f = 0", source="McMahan et al. 2017", streams=True)
def mean(updates: Array, weights: Array | None = None) -> tuple[Array, Info]:
    """Weighted average of the updates (FedAvg): g = Σ_i w_i g_i / Σ_i w_i.

    Tolerates no malicious row: a single one moves the result anywhere. This is the baseline that is meant
    to break.

    Args:
        updates: (n, d).
        weights: (n,) finite and not negative, of any size, normalised inside; None for equal weights. FedAvg
            uses the clients' numbers of examples. Traced ones are not checked: a negative weight subtracts
            its row, a non-finite one makes the result NaN.

    Returns:
        (d,), in the type of `updates`; 0 if all weights are.

    Raises:
        ValueError: if `updates` is not (n, d) or `weights` is not (n,), negative or not finite.

    Example:
        >>> mean(jnp.array([[1.0, 2.0], [3.0, 6.0]]), weights=jnp.array([3.0, 1.0])).tolist()
        [1.5, 3.0]

    Source: McMahan et al., "Communication-efficient learning of deep networks from decentralized data",
    AISTATS 2017. The plain mean is what ByzFL and the FLTrust authors' demo call FedAvg.
    """
    share = relative_weights(weights, updates.shape[0], updates.dtype)
    total = jnp.sum(share)
    weighed = total != 0
    share = share / jnp.where(weighed, total, 1.0)
    # A matrix product: on a CPU it reads the stack at memory speed, where `mean(0)` does not.
    update = sum_rows(lambda rows, own: dot(own, rows), updates, share)
    return jnp.where(weighed, update, 0.0), {"weights": share}
