"""FLARE: rows weigh as many votes as their models' features get, by maximum mean discrepancy."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from fljax.aggregators.models import called, of_models
from fljax.aggregators.registry import register_rule
from fljax.base import Info
from fljax.numerics.averages import weighted_rows
from fljax.numerics.checks import Float, real, shaped
from fljax.numerics.safe import contained, dot, finite_rows


@register_rule(title="FLARE", assumes="n > 2f", source="Wang et al. 2022")
def flare(
    updates: Array,
    params: Array,
    features: Callable[[Array, Array], Array],
    root_x: Array,
    *,
    temperature: Float = 1.0,
) -> tuple[Array, Info]:
    """Rows weighted by how many others have their models' features among the nearest (FLARE).

    F_i (r, h) are the inputs of the last layer of the model w + g_i on the root dataset's r inputs. With the
    Gaussian kernel k(a, b) = exp(−‖a − b‖² / 2), MMD²_ij = mean k(F_i, F_i) + mean k(F_j, F_j) −
    2 mean k(F_i, F_j) over all pairs. Every row votes for its round(n/2) nearest other rows (half to even),
    ties by the lowest row; g = Σ_i softmax(votes / T)_i · g_i with T = `temperature`.

    A heuristic with fewer than n/2 malicious rows in mind. No weight is 0, and the length of a row is not
    bounded: put `clip` in front of it. A row with a non-finite entry, or whose features are not finite,
    votes for nobody and has weight 0; without another row the result is 0.

    Args:
        updates: (n, d).
        params: (d,) w, the global model.
        features: `features(params, x)` of parameters (d,) and inputs (r, ...), (r, h); called n times.
        root_x: (r, ...) inputs; (n·r)² kernels are computed, so that r up to 100 is what to take.
        temperature: T > 0; may be traced.

    Returns:
        (d,), in the type of `updates`.

    Raises:
        ValueError: if shapes do not fit or a static `temperature` is not positive.

    Example:
        >>> rows = jnp.array([[0.1], [0.12], [0.08], [5.0]])
        >>> both = lambda params, x: jnp.tanh(x * params)
        >>> info = flare.explained(rows, jnp.ones(1), both, jnp.ones((2, 1)))[1]
        >>> print("{:.2f} {:.2f} {:.2f} {:.2f}".format(*info["weights"]))
        0.41 0.41 0.15 0.02

    Source: Wang, Xiao, Chen, Hu, Lou, Hou, "FLARE: defending federated learning against model poisoning
    attacks via latent space representations", AsiaCCS 2022. BackFed weighs by votes / Σ votes and divides
    the sums within a model by r (r − 1); SAFEFL lets a row vote for itself and takes logits.
    """
    d = updates.shape[1]
    temperature = real("temperature", temperature, above=0)
    read = called("features", features)
    stack = contained(updates)
    fixed = jax.lax.stop_gradient(updates)
    center = jax.lax.stop_gradient(shaped("params", params, (d,)))
    finite = finite_rows(fixed)
    read_out = of_models(lambda model: read(model, root_x), center, fixed, finite).astype(updates.dtype)
    valid = finite & jnp.all(jnp.isfinite(read_out), axis=(1, 2))
    apart = _discrepancies(jnp.where(valid[:, None, None], read_out, 0.0))

    pairs = valid[:, None] & valid[None, :] & ~jnp.eye(len(stack), dtype=bool)
    places = jnp.argsort(jnp.argsort(jnp.where(pairs, apart, jnp.inf), axis=1), axis=1)
    # Half to even, as Python rounds.
    num_votes = jnp.round(jnp.sum(valid) / 2)
    votes = jnp.sum((places < num_votes) & pairs, axis=0).astype(updates.dtype)
    weights = jnp.where(valid, jnp.exp((votes - jnp.max(votes)) / temperature), 0.0)
    weights = weights / jnp.where(jnp.any(valid), jnp.sum(weights), 1.0)
    return weighted_rows(weights, stack, finite), {"weights": weights}


def _discrepancies(features: Array) -> Array:
    """MMD² of all pairs of samples (n, r, h), (n, n)."""
    n, r, h = features.shape
    points = features.reshape(n * r, h)
    # Distances do not change, and keep their digits.
    points = points - jnp.mean(points, axis=0)
    squares = jnp.sum(jnp.square(points), axis=1)

    def of_sample(mine: Array) -> Array:
        own = jnp.sum(jnp.square(mine), axis=1)
        away = jnp.maximum(own[:, None] + squares - 2.0 * dot(mine, points.T), 0.0)
        return jnp.mean(jnp.exp(-0.5 * away).reshape(r, n, r), axis=(0, 2))

    means = jax.lax.map(of_sample, points.reshape(n, r, h))
    own = jnp.diagonal(means)
    return own[:, None] + own[None, :] - 2.0 * means
