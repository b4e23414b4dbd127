"""Rules that treat every coordinate on its own: mean, median, trimmed mean."""

import jax.numpy as jnp
from jax import Array
from jax.lax import Precision

from fljax.aggregators.base import (
    Info,
    Int,
    as_stack,
    bounded,
    compute_dtype,
    is_static,
    output_dtype,
)
from fljax.aggregators.order_statistics import sorted_rows, sum_rows


def mean_explained(updates: Array, weights: Array | None = None) -> tuple[Array, Info]:
    """`mean`, and the normalised weights."""
    updates = as_stack("mean", updates)
    n = updates.shape[0]
    dtype = compute_dtype(updates)
    if weights is None:
        share = jnp.full((n,), 1.0 / n, dtype)
    else:
        if jnp.shape(weights) != (n,):
            raise ValueError(f"mean: weights must be ({n},), one per row, got shape {jnp.shape(weights)}")
        share = jnp.asarray(weights, dtype)
        share = share / jnp.sum(share)
    # A matrix product: on a CPU it reads the stack at memory speed, where `mean(0)` does not.
    total = jnp.matmul(share, updates.astype(dtype), precision=Precision.HIGHEST)
    return total.astype(output_dtype(updates)), {"weights": share}


def mean(updates: Array, weights: Array | None = None) -> Array:
    """Weighted average of the updates (FedAvg): g = Σ_i w_i g_i / Σ_i w_i.

    Tolerates no malicious row: a single one moves the result anywhere. This is the baseline that is meant
    to break.

    Args:
        updates: (n, d).
        weights: (n,) non-negative, normalised inside; None for equal weights. FedAvg uses the clients'
            numbers of examples.

    Returns:
        (d,), in the type of `updates`.

    Raises:
        ValueError: if `updates` is not (n, d) or `weights` is not (n,).

    Example:
        >>> mean(jnp.array([[1.0, 2.0], [3.0, 6.0]]), weights=jnp.array([3.0, 1.0])).tolist()
        [1.5, 3.0]

    Source: McMahan et al., "Communication-efficient learning of deep networks from decentralized data",
    AISTATS 2017. The plain mean is what ByzFL and the FLTrust authors' demo call FedAvg.
    """
    return mean_explained(updates, weights)[0]


def median(updates: Array) -> Array:
    """Coordinate-wise median; the mean of the middle two when n is even.

    Tolerates fewer than n/2 malicious rows. A non-finite entry counts as an extreme one (NaN as +inf) in
    its own coordinate.

    Args:
        updates: (n, d).

    Returns:
        (d,), in the type of `updates`.

    Raises:
        ValueError: if `updates` is not (n, d).

    Example:
        >>> median(jnp.array([[1.0, 9.0], [2.0, 8.0], [50.0, jnp.nan]])).tolist()
        [2.0, 9.0]

    Source: Yin et al., "Byzantine-robust distributed learning: towards optimal statistical rates", ICML
    2018. ByzPy takes the lower of the middle two, the Fang et al. attack code the upper one.
    """
    updates = as_stack("median", updates)
    n = updates.shape[0]
    rows = sorted_rows(updates.astype(compute_dtype(updates)))
    low, high = rows[(n - 1) // 2], rows[n // 2]
    # Halves first, so that two large finite values do not overflow.
    middle = low if n % 2 else 0.5 * low + 0.5 * high
    return middle.astype(output_dtype(updates))


def trimmed_mean(updates: Array, *, trim: Int) -> Array:
    """Coordinate-wise mean after dropping the `trim` largest and the `trim` smallest values.

    g_j = (1 / (n − 2·trim)) Σ of the values of coordinate j ranked trim+1 … n−trim. Tolerates `trim`
    malicious rows. A non-finite entry counts as an extreme one (NaN as +inf) in its own coordinate.

    Args:
        updates: (n, d).
        trim: values dropped at each end, 0 ≤ trim < n/2. A traced value is clamped to that range
            (largest ⌈n/2⌉ − 1).

    Returns:
        (d,), in the type of `updates`.

    Raises:
        ValueError: if `updates` is not (n, d), or a static `trim` is not a whole number in range.

    Example:
        >>> trimmed_mean(jnp.array([[1.0], [2.0], [4.0], [100.0]]), trim=1).tolist()
        [3.0]

    Source: Yin et al., ICML 2018. Flower takes a fraction per side instead of a count.
    """
    updates = as_stack("trimmed_mean", updates)
    n = updates.shape[0]
    trim = bounded("trimmed_mean", "trim", trim, largest=(n - 1) // 2, needs=f"n > {2 * trim} rows", n=n)
    rows = sorted_rows(updates.astype(compute_dtype(updates)))
    if is_static(trim):
        kept = sum_rows(rows[trim : n - trim])
    else:
        inside = [(rank >= trim) & (rank < n - trim) for rank in range(n)]
        # `where`, not a product: a dropped infinity times zero would be NaN.
        kept = sum_rows([jnp.where(keep, row, 0.0) for keep, row in zip(inside, rows, strict=True)])
    return (kept / (n - 2 * trim)).astype(output_dtype(updates))
