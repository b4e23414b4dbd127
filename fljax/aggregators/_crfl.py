"""CRFL's training: the averaged model is clipped to a ball and given noise, every round."""

from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jax import Array

from fljax.aggregators.registry import register_rule
from fljax.numerics.averages import weighted_rows
from fljax.numerics.checks import Float, option, real, shaped, whole
from fljax.numerics.clipping import shortened
from fljax.numerics.eigen import as_shares
from fljax.numerics.safe import finite_rows, safe_norms
from fljax.numerics.weights import relative_weights

Clipped = Literal["model", "update"]


@register_rule(title="CRFL", assumes="bounds nothing; certifies after training", source="Xie et al. 2021")
def crfl(
    updates: Array,
    params: Array,
    key: Array,
    weights: Array | None = None,
    round: Array | int = 0,
    *,
    radius: Float,
    growth: Float = 0.0,
    cap: Float = float("inf"),
    std: Float = 0.01,
    num_rounds: int | None = None,
    clip: Clipped = "model",
) -> Array:
    """The weighted mean, with the model that results clipped to a ball and given noise (CRFL).

    x = w + Σ_i p_i g_i over the finite rows, x ← x · min(1, ρ_t / ‖x‖), and g = x − w + N(0, σ² I), with
    ρ_t = min(cap, radius + growth · t) in round t = 1, 2, … It rejects nobody. The noise makes the models
    that a bounded backdoor can and cannot have trained hard to tell apart, from which `certified_radius`
    follows for the vote of many noisy copies of the final model (`smoothed_votes`). The clipped model is the
    server's next one only with a server learning rate of 1 and plain SGD there. A row with a non-finite
    entry has no weight.

    Args:
        updates: (n, d).
        params: (d,), w, the global model before the round.
        key: typed PRNG key of the noise.
        weights: (n,) finite and not negative, of any size; None for equal weights.
        round: int32 scalar, the round's number t − 1.
        radius: > 0, ρ_0 in the unit of the parameters; may be traced.
        growth: by how much ρ_t grows a round, ≥ 0; may be traced.
        cap: > 0, the largest ρ_t; may be traced.
        std: σ ≥ 0, in the unit of the parameters; may be traced.
        num_rounds: T, the round in which no noise is added, since the vote adds its own to the final model;
            None for noise in every round.
        clip: "model" clips x; "update" the mean of the updates instead.

    Returns:
        (d,), in the type of `updates`.

    Raises:
        ValueError: if shapes do not fit or a static number is out of range.

    Example:
        >>> rows, model = jnp.array([[1.0, 0.0], [3.0, 0.0]]), jnp.array([1.0, 4.0])
        >>> update = crfl(rows, model, jax.random.key(0), radius=1.0, std=0.0)
        >>> [f"{entry:.2f}" for entry in model + update]  # (3, 4) at length 1
        ['0.60', '0.80']

    Source: Xie, Chen, Chen, Li, "CRFL: Certifiably robust federated learning against backdoor attacks", ICML
    2021; σ is the authors', whose ρ_t is 2 + 0.1 t up to 15 on MNIST, 4 + 0.25 t up to 100 on EMNIST and
    2 + 0.025 t up to 5 on LOAN. FLPoison and Snowball clip the update, at 3 and 15.
    """
    radius = real("radius", radius, above=0, finite=True)
    growth = real("growth", growth, at_least=0, finite=True)
    cap = real("cap", cap, above=0)
    std = real("std", std, at_least=0, finite=True)
    option("clip", clip, get_args(Clipped))
    n, d = updates.shape
    model = shaped("params", params, (d,)).astype(updates.dtype)
    finite = finite_rows(updates)
    shares = as_shares(jnp.where(finite, relative_weights(weights, n, updates.dtype), 0.0))
    change = weighted_rows(shares, updates, finite)
    limit = jnp.minimum(cap, radius + growth * (round + 1))
    clipped = model + change if clip == "model" else change
    norms = safe_norms(clipped[None])
    shorter = shortened(clipped[None], norms, limit)[0]
    # Not the model less itself: where nothing is clipped the mean keeps its digits.
    long = norms.values[0] > limit * norms.shifts[0]
    update = jnp.where(long, shorter - model if clip == "model" else shorter, change)
    noise = jax.random.normal(key, (d,), jnp.float32).astype(updates.dtype)
    if num_rounds is not None:
        last = round + 1 >= whole("num_rounds", num_rounds, smallest=1)
        std = jnp.where(last, 0.0, std)
    return update + jnp.asarray(std, updates.dtype) * noise
