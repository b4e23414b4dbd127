"""CRFL's prediction and certificate: the vote of noisy copies of a model, and what backdoor it survives."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.flatten_util import ravel_pytree
from jax.scipy.special import erf


def smoothed_votes(
    apply: Callable[[Any, Array], Array],
    params: Any,
    x: Array,
    key: Array,
    *,
    std: float | Array,
    num_copies: int = 1000,
) -> Array:
    """How many noisy copies of a model answer with each class.

    Copy k has the parameters w + N(0, σ² I); its vote is the class of its largest logit.

    Args:
        apply: `apply(params, x) -> logits` (b, M).
        params: w, a pytree.
        x: (b, *input_shape).
        key: typed PRNG key.
        std: σ ≥ 0, in the unit of the parameters.
        num_copies: how many copies vote; one is evaluated after the other.

    Returns:
        (b, M) int32; the smoothed prediction is the class of most votes.

    Example:
        >>> def apply(w, x):
        ...     return x * w
        >>> x = jnp.array([[1.0, 2.0], [3.0, 0.0]])
        >>> smoothed_votes(apply, jnp.ones(2), x, jax.random.key(0), std=0.01, num_copies=10).tolist()
        [[0, 10], [10, 0]]

    Source: Xie, Chen, Chen, Li, "CRFL: Certifiably robust federated learning against backdoor attacks", ICML
    2021.
    """
    vector, unravel = ravel_pytree(params)
    classes = jax.eval_shape(apply, params, x).shape[-1]

    def vote(votes: Array, copy: Array) -> tuple[Array, None]:
        noise = jax.random.normal(jax.random.fold_in(key, copy), vector.shape, vector.dtype)
        answers = jnp.argmax(apply(unravel(vector + std * noise), x), axis=-1)
        return votes + jax.nn.one_hot(answers, classes, dtype=jnp.int32), None

    none = jnp.zeros((*x.shape[:1], classes), jnp.int32)
    return jax.lax.scan(vote, none, jnp.arange(num_copies))[0]


def vote_bounds(votes: Array, *, alpha: float = 0.001) -> tuple[Array, Array]:
    """Bounds on the chance that a copy votes for the first class and for the second one.

    By Hoeffding's inequality p_A − h and p_B + h with h = √(ln(1/α) / 2M), M the number of votes.

    Args:
        votes: (b, M'), as `smoothed_votes` counts them.
        alpha: the chance with which a bound may be wrong.

    Returns:
        The lower bound for the class of most votes and the upper one for the next, (b,) each.

    Example:
        >>> lower, upper = vote_bounds(jnp.array([[950, 50]]))
        >>> round(float(lower[0]), 4), round(float(upper[0]), 4)
        (0.8912, 0.1088)

    Source: Xie, Chen, Chen, Li, ICML 2021.
    """
    total = jnp.sum(votes, axis=-1)
    ordered = jnp.sort(votes, axis=-1)
    slack = jnp.sqrt(jnp.log(1 / alpha) / (2 * total))
    first, second = ordered[..., -1] / total - slack, ordered[..., -2] / total + slack
    return jnp.clip(first, 0.0, 1.0), jnp.clip(second, 0.0, 1.0)


def certified_radius(
    first: Array,
    second: Array,
    *,
    std: float | Array,
    smoothness: float | Array,
    shares: Array,
    scales: Array,
    local_steps: Array,
    learning_rates: Array,
    poisoned: Array,
    radii: Array,
    stds: Array | None = None,
) -> Array:
    """The length of a backdoor's pattern up to which the vote provably stays as it is (CRFL, Theorem 1).

    √( −ln(1 − (√p_A − √p_B)²) σ² / (2 R L² Σ_i (p_i γ_i τ_i η_i q_i)² Π_t (2Φ(ρ_t / σ_t) − 1)) ) for R
    attackers in one round, the product over the rounds after it. It holds for models of which the gradient
    is known to be Lipschitz in the input, in the paper multi-class logistic regression, with
    L = √(2 + 2ρ + ρ²) for weights of norm ρ; not for other networks.

    Args:
        first: (b,) p_A, and
        second: (b,) p_B, as `vote_bounds` returns them.
        std: σ, the noise of the attackers' round.
        smoothness: L.
        shares: (R,) p_i, the attackers' shares in the mean.
        scales: (R,) γ_i, the factors by which they scale their updates.
        local_steps: (R,) τ_i.
        learning_rates: (R,) η_i.
        poisoned: (R,) q_i, the poisoned share of a batch.
        radii: (T,) ρ_t of the rounds after the attackers'.
        stds: (T,) σ_t of those rounds; None for σ in all of them.

    Returns:
        (b,), NaN where p_A ≤ p_B: there nothing is certified.

    Example:
        >>> one = lambda value: jnp.array([value])
        >>> radius = certified_radius(
        ...     one(0.9), one(0.05), std=0.01, smoothness=17**0.5, shares=one(0.05), scales=one(10.0),
        ...     local_steps=one(30), learning_rates=one(1e-3), poisoned=one(0.05), radii=one(3.1))
        >>> round(float(radius[0]), 3)
        1.975

    Source: Xie, Chen, Chen, Li, "CRFL: Certifiably robust federated learning against backdoor attacks", ICML
    2021. The authors' code has fixed numbers for the weights' norm: 3, 4 and 2.15.
    """
    gap = jnp.sqrt(first) - jnp.sqrt(second)
    moved = jnp.sum(jnp.square(shares * scales * local_steps * learning_rates * poisoned))
    # 2Φ(x) − 1 = erf(x / √2).
    kept = jnp.prod(erf(radii / (std if stds is None else stds) / 2**0.5))
    denominator = 2 * jnp.shape(shares)[0] * smoothness**2 * moved * kept
    squared = -jnp.log1p(-jnp.square(gap)) * std**2 / denominator
    return jnp.where(gap > 0, jnp.sqrt(squared), jnp.nan)
