"""The Huber-loss aggregator: squared distances near the result, plain distances farther away."""

from typing import Literal

import jax.numpy as jnp
from jax import Array, lax

from fljax.aggregators._geometric_median import geometric_median
from fljax.aggregators.registry import register_rule
from fljax.numerics.checks import Float, Int, bounded, option, real
from fljax.numerics.order_statistics import median_of_some
from fljax.numerics.safe import distances_to, finite_rows
from fljax.numerics.weights import relative_weights


def _usual_distance(updates: Array) -> Array:
    """The median distance of the finite rows from their coordinate-wise median; 1 if it is 0."""
    fixed = lax.stop_gradient(updates)
    finite = finite_rows(fixed)
    distances = distances_to(fixed, lax.optimization_barrier(median_of_some(fixed, finite)))
    (middle,) = median_of_some(distances[:, None], finite)
    return jnp.where(middle > 0, middle, 1.0)


@register_rule(title="Huber", assumes="n > 2f", source="Zhao et al. 2024")
def huber(
    updates: Array,
    weights: Array | None = None,
    *,
    radius: Float | Literal["median"],
    tolerance: Float = 1e-6,
    max_iterations: Int = 100,
) -> Array:
    """The point with the smallest weighted Huber loss of its distances to the updates.

    g = argmin_z Σ_i w_i φ(‖g_i − z‖) with φ(r) = r² / 2 up to r = T and T · (r − T / 2) beyond it, T =
    `radius`: Σ_i w_i min(1, T / ‖g_i − g‖) (g_i − g) = 0, so no row pulls harder than one at distance T. It
    is the weighted mean for T → ∞ and the geometric median for T → 0, namely `geometric_median` with the
    smoothing ν = T, whose steps, stop and gradient are used; centred clipping with radius T has the same
    fixed point. Tolerates malicious rows with less than half of the weight, which move it by a multiple of T
    and of the honest rows' spread; they should be fewer than half of the rows, too. A row with a non-finite
    entry is left out.

    Args:
        updates: (n, d).
        weights: (n,) finite and not negative, of any size; None for equal weights.
        radius: T > 0, in the unit of the updates, may be traced; or "median", the median distance of the
            rows from their coordinate-wise median, through which no gradient passes.
        tolerance: how large ‖Σ_i w_i min(1 / T, 1 / ‖g_i − g‖) (g_i − g)‖ may remain, relative to Σ_i w_i.
        max_iterations: at most so many steps.

    Returns:
        (d,), in the type of `updates`; 0 if all weights are.

    Raises:
        ValueError: if shapes do not fit, a static number is out of range, or known weights are negative or
            not finite.

    Example:
        >>> rows = jnp.array([[0.0], [1.0], [2.0], [90.0]])
        >>> [huber(rows, radius=T).round(2).tolist() for T in (3.0, 1000.0)]
        [[2.0], [23.25]]

    Source: Zhao, Yu, Wan, "A Huber loss minimization approach to Byzantine robust federated learning", AAAI
    2024, where T depends on the clients' numbers of examples. Ports iterate from the mean with T = 10.
    """
    length: Float
    if isinstance(radius, str):
        option("radius", radius, ("median",))
        length = _usual_distance(updates)
    else:
        length = real("radius", radius, above=0, finite=True)
    tolerance = real("tolerance", tolerance, at_least=0)
    needs = "to be less than 2^31"
    max_iterations = bounded("max_iterations", max_iterations, smallest=1, largest=2**31 - 1, needs=needs)
    return geometric_median(
        updates,
        relative_weights(weights, updates.shape[0], updates.dtype),
        smoothing=length,
        smoothing_unit=1.0,
        tolerance=tolerance,
        max_iterations=max_iterations,
    )
