"""Rules that treat every coordinate on its own: means around the middle of each."""

import jax.numpy as jnp
from jax import Array
from jax.lax import Precision

from fljax.base import Info
from fljax.numerics.checks import (
    Int,
    as_stack,
    below_half,
    compute_dtype,
    is_static,
    output_dtype,
    tolerated,
)
from fljax.numerics.order_statistics import median_of_rows, sorted_rows, sum_nearest, trimmed_sum
from fljax.numerics.weights import relative_weights


def mean_explained(updates: Array, weights: Array | None = None) -> tuple[Array, Info]:
    """`mean`, and the normalised weights."""
    updates = as_stack("mean", updates)
    n = updates.shape[0]
    dtype = compute_dtype(updates)
    share = relative_weights("mean", weights, n, dtype)
    total = jnp.sum(share)
    weighed = total != 0
    share = share / jnp.where(weighed, total, 1.0)
    # A matrix product: on a CPU it reads the stack at memory speed, where `mean(0)` does not.
    update = jnp.matmul(share, updates.astype(dtype), precision=Precision.HIGHEST)
    return jnp.where(weighed, update, 0.0).astype(output_dtype(updates)), {"weights": share}


def mean(updates: Array, weights: Array | None = None) -> Array:
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
    stack = updates.astype(compute_dtype(updates))
    return median_of_rows(stack, sorted_rows(stack)).astype(output_dtype(updates))


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
    trim = tolerated("trimmed_mean", trim, n, (2, 0), name="trim")
    stack = updates.astype(compute_dtype(updates))
    kept = trimmed_sum(stack, trim, sorted_rows(stack))
    return (kept / (n - 2 * trim)).astype(output_dtype(updates))


def _fused_rows(stack: Array, count: Int) -> list[Array] | None:
    """The sorted rows where a network serves; with a traced count, values are ranked by bisection."""
    return sorted_rows(stack) if is_static(count) else None


def mean_around_median(updates: Array, *, num_malicious: Int, strict: bool = True) -> Array:
    """Coordinate-wise mean of the n − f values nearest the median (MeaMed), with f = `num_malicious`.

    g_j = (1 / (n − f)) Σ of the n − f values of coordinate j with the smallest |g_ij − median_j|. Tolerates
    f < n/2 malicious rows. A non-finite entry counts as an extreme one in its own coordinate. Of two values
    at the same distance, the smaller one counts.

    Args:
        updates: (n, d).
        num_malicious: f, 0 ≤ f < n/2; a traced value is clamped to that range (largest ⌈n/2⌉ − 1).
        strict: whether to insist on n > 2f; False takes any f < n, without a guarantee.

    Returns:
        (d,), in the type of `updates`.

    Raises:
        ValueError: if `updates` is not (n, d), or a static `num_malicious` is not a whole number in range.

    Example:
        >>> mean_around_median(jnp.array([[0.0], [4.0], [5.0], [6.0], [90.0]]), num_malicious=2).tolist()
        [5.0]

    Source: Xie, Koyejo, Gupta, "Generalized Byzantine-tolerant SGD", 2018. ByzFL breaks ties arbitrarily.
    """
    updates = as_stack("mean_around_median", updates)
    n = updates.shape[0]
    f = below_half("mean_around_median", num_malicious, n, strict)
    stack = updates.astype(compute_dtype(updates))
    rows = _fused_rows(stack, f)
    nearest = sum_nearest(stack, median_of_rows(stack, rows), n - f, rows)
    return (nearest / (n - f)).astype(output_dtype(updates))


def phocas(updates: Array, *, trim: Int) -> Array:
    """Coordinate-wise mean of the n − trim values nearest the trimmed mean.

    g_j = (1 / (n − trim)) Σ of the n − trim values of coordinate j with the smallest |g_ij − t_j|, t the
    trimmed mean with the same `trim`. Tolerates `trim` malicious rows. A non-finite entry counts as an
    extreme one in its own coordinate. Of two values at the same distance, the smaller one counts.

    Args:
        updates: (n, d).
        trim: values the trimmed mean drops at each end, and values dropped around it, 0 ≤ trim < n/2; a
            traced value is clamped to that range (largest ⌈n/2⌉ − 1).

    Returns:
        (d,), in the type of `updates`.

    Raises:
        ValueError: if `updates` is not (n, d), or a static `trim` is not a whole number in range.

    Example:
        >>> phocas(jnp.array([[0.0], [4.0], [5.0], [9.0], [90.0]]), trim=1).tolist()
        [4.5]

    Source: Xie, Koyejo, Gupta, "Phocas: dimensional Byzantine-resilient stochastic gradient descent", 2018.
    """
    updates = as_stack("phocas", updates)
    n = updates.shape[0]
    trim = tolerated("phocas", trim, n, (2, 0), name="trim")
    stack = updates.astype(compute_dtype(updates))
    rows = _fused_rows(stack, trim)
    center = trimmed_sum(stack, trim, rows) / (n - 2 * trim)
    nearest = sum_nearest(stack, center, n - trim, rows)
    return (nearest / (n - trim)).astype(output_dtype(updates))
