"""PoisonedFL: updates that push the model in one direction over all rounds."""

import math
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from fljax.attacks.registry import register_attack
from fljax.attacks.signs import signs_of_run
from fljax.attacks.wrappers import from_factory
from fljax.base import Attack, Knowledge
from fljax.numerics.checks import ArgumentError, real, whole
from fljax.numerics.safe import row_norms, unit
from fljax.numerics.subset_statistics import replaced

# The 99 % quantile of the normal distribution.
QUANTILE = 2.3263478740408408
# How the scale falls where the direction is not seen in the model, and what it does not fall below.
FALL, LEAST = 0.7, 0.5


class PoisonedFLState(NamedTuple):
    """What the attackers remember.

    Attributes:
        rounds: int32 scalar, rounds since the first one with an attacker in the cohort.
        params: (d,), the global model of the round before.
        anchor: (d,), the global model at the last check.
        sent: (d,), the last malicious update.
        scale: scalar, c.
    """

    rounds: Array
    params: Array
    anchor: Array
    sent: Array
    scale: Array


@register_attack(
    title="PoisonedFL",
    source="Xie, Fang & Gong 2025",
    assumes="the global model",
    optimises="error under any rule",
    make=from_factory,
    streams=True,
)
def poisoned_fl(*, scale: float = 8.0, every: int = 50) -> Attack:
    """PoisonedFL: updates that push in the same random direction in every round of the run.

    Signs s ∈ {−1, 1}^d are drawn once. With the model's last change g̃ = w_t − w_(t−1) and the previous
    malicious update p, all malicious clients send

        g' = c ‖g̃‖ v/‖v‖ ⊙ s,  v = |g̃ − ‖g̃‖ p/‖p‖|,

    large where the honest clients moved the model, and 0 in the first round. In every `every`-th round they
    count the coordinates of w_t − w_(t−`every`), or of w_t where those are 0, that have the sign of s. With
    fewer than the 99 % quantile of Binomial(d, 1/2), which says that the rule filters them out, c becomes
    0.7 c, but not below 0.5. Rounds are counted from the first with an attacker in its cohort; in one
    without, p stays as it is. Attackers need no data and know neither the rule nor other updates.

    Args:
        scale: c in the beginning.
        every: rounds between two checks.

    Returns:
        The `Attack`, with a `PoisonedFLState`. s is `jax.random.rademacher` of the round's `run_key`.

    Raises:
        ValueError: if a number is out of range; while tracing, if a context lacks `params` or `run_key`.

    Example:
        >>> import jax
        >>> from fljax.attacks import Context, Knowledge
        >>> attack, rows, mask = poisoned_fl(), jnp.ones((2, 1)), jnp.array([True, False])
        >>> key = jax.random.key(0)
        >>> one, two = (Knowledge(Context(params=jnp.array([w])), run_key=key) for w in (5.0, 5.5))
        >>> _, state = attack.corrupt(rows, mask, attack.init(2, 1), one)
        >>> abs(attack.corrupt(rows, mask, state, two)[0]).tolist()
        [[4.0], [1.0]]

    Source: Xie, Fang & Gong, "Model poisoning attacks to federated learning via multi-round consistency",
    CVPR 2025. The authors' code knows the quantile for four d only; the normal approximation here gives the
    same numbers. Its snapshots are of the model after rounds 0, 50, …, so that a check spans 49 rounds.
    """
    first = real("scale", scale, above=0, finite=True)
    every = whole("every", every, smallest=1)

    def init(num_clients: int, num_params: int) -> PoisonedFLState:
        nothing = jnp.zeros((num_params,))
        return PoisonedFLState(jnp.int32(0), nothing, nothing, nothing, jnp.asarray(first, nothing.dtype))

    def corrupt(
        updates: Array, malicious: Array, state: PoisonedFLState, knowledge: Knowledge
    ) -> tuple[Array, PoisonedFLState]:
        if knowledge.context.params is None:
            raise ArgumentError("needs params, which this round does not provide")
        params = knowledge.context.params.astype(state.params.dtype)
        d = params.shape[0]
        signs = signs_of_run(knowledge.run_key, d, params.dtype)
        begun = state.rounds > 0
        due = state.rounds % every == 0
        scale = jnp.where(begun & due, _after_check(state, params, signs), state.scale)
        change = jnp.where(begun, params - state.params, 0.0)
        length, before = row_norms(jnp.stack([change, state.sent]))
        apart = jnp.abs(change - length * unit(state.sent, before))
        sent = scale * length * unit(apart, row_norms(apart[None])[0]) * signs

        present = jnp.any(malicious)
        active = begun | present

        def kept(new: Array, old: Array, condition: Array = active) -> Array:
            return jnp.where(condition, new, old)

        after = PoisonedFLState(
            rounds=state.rounds + active,
            params=kept(params, state.params),
            anchor=kept(params, state.anchor, active & due),
            sent=kept(sent, state.sent, present),
            scale=scale,
        )
        crafted = sent.astype(updates.dtype)
        return replaced(updates, malicious, lambda rows: crafted), after

    return Attack(init, corrupt, streams=True)


def aligned_at_random(num_params: int) -> int:
    """The 99 % quantile of how many of d random signs agree with given ones.

    Example:
        >>> aligned_at_random(139960), aligned_at_random(1204682)
        (70415, 603618)
    """
    return round(num_params / 2 + QUANTILE * math.sqrt(num_params) / 2)


def _after_check(state: PoisonedFLState, params: Array, signs: Array) -> Array:
    """c, smaller where the model has not moved along the signs."""
    moved = params - state.anchor
    moved = jnp.where(moved == 0, params, moved)
    aligned = jnp.sum(jnp.sign(moved) == signs, dtype=jnp.int32)
    smaller = FALL * state.scale
    missed = aligned < aligned_at_random(params.shape[0])
    return jnp.where(missed & (smaller >= LEAST), smaller, state.scale)
