"""Free-riders: clients without data that send what an honest update might look like."""

from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
from jax import Array

from fljax.attacks._gaussian import draw_around
from fljax.attacks.registry import register_attack
from fljax.attacks.wrappers import from_factory
from fljax.base import Attack, Knowledge, State
from fljax.numerics.checks import ArgumentError, is_static, option, real
from fljax.numerics.rows import by_row
from fljax.numerics.safe import row_norms
from fljax.numerics.subset_statistics import replaced


class ReplayState(NamedTuple):
    """The memory of free-riders that send what they trained once.

    Attributes:
        seen: (num_clients,) bool, the clients that have trained.
        sent: (num_clients, d), their updates.
    """

    seen: Array
    sent: Array


class FreeRiderState(NamedTuple):
    """The memory of a free-rider.

    Attributes:
        rounds: int32 scalar, the number of rounds it has seen.
        params: (d,), the global model of the round before.
        scale: scalar, the mean absolute change of the model in the first round, 0 before that.
    """

    rounds: Array
    params: Array
    scale: Array


class ScaledDeltaState(NamedTuple):
    """The memory of free-riders that follow how long the model's changes are.

    Attributes:
        rounds: int32 scalar, the number of rounds it has seen.
        params: (d,), the global model of the round before.
        first: scalar, the length of the model's first change.
        last: scalar, that of its last one.
    """

    rounds: Array
    params: Array
    first: Array
    last: Array


@register_attack(
    title="Free-rider",
    source="Lin et al. 2019",
    assumes="the global model",
    optimises="the model without training",
    make=from_factory,
    streams=True,
)
def free_rider(
    *,
    kind: Literal["zero", "noise", "delta", "scaled_delta", "replay"] = "zero",
    std: float | None = None,
    power: float = 1.0,
    multiplier: float = 1.0,
    decay: float = 0.5,
    max_malicious: int | None = None,
) -> Attack:
    """Free-riding: malicious clients send nothing, noise or what is known already instead of training.

    With the global model w_t of round t = 0, 1, … (counted from the first the attacker sees), for malicious i

        g'_i = 0 ("zero"),
        g'_i = k σ max(t, 1)^(−γ) · N(0, I) ("noise"),
        g'_i = w_t − w_(t−1) + k σ · N(0, I) ("delta"; 0 in place of the change in round 0),
        g'_i = a Δ_t + k φ / √d · N(0, I) ("scaled_delta"; the same as "delta" in rounds 0 and 1),
        g'_i = g_i of its first round + k σ · N(0, I) ("replay"; honest in that round).

    The scaled change is as long as the next change is to be expected: Δ_t = w_t − w_(t−1) and
    a = ‖Δ_t‖ / ‖Δ_(t−1)‖. Its noise is as long as that of an honest update beside the mean of n: with the
    rate λ = ln(‖Δ_t‖ / ‖Δ_1‖) / (t − 1) and the cosine c = C² / (C² + exp(2 λ (t + 1))) of two honest
    updates, φ² = (n² / (n + (n² − n) c) − 1) · ‖a Δ_t‖².

    Args:
        kind: what is sent.
        std: σ. None for 0 with "delta", "scaled_delta" and "replay", and with "noise" for the published
            guess: the mean absolute entry of w_1 − w_0, and 0 in round 0.
        power: γ ≥ 0, how fast the noise fades.
        multiplier: k ≥ 0.
        decay: C > 0, of the cosine of honest updates.
        max_malicious: an upper bound on the number of malicious rows, to draw fewer random numbers.

    Returns:
        The `Attack`, with a `FreeRiderState`, a `ScaledDeltaState`, or a `ReplayState` of all clients'
        updates; row i draws from `fold_in(key, i)`.

    Raises:
        ValueError: if `kind` is none of the five or a number is negative; while tracing, if a context
            lacks the `params` or the `key` that is needed.

    Example:
        >>> from fljax.attacks import Context, Knowledge
        >>> attack = free_rider(kind="delta")
        >>> rows, mask = jnp.ones((2, 1)), jnp.array([True, False])
        >>> before, now = (Knowledge(Context(params=jnp.array([w]))) for w in (5.0, 5.5))
        >>> _, state = attack.corrupt(rows, mask, attack.init(2, 1), before)
        >>> attack.corrupt(rows, mask, state, now)[0].tolist()
        [[0.5], [1.0]]

    Source: "zero" and "noise" are the plain and the disguised attack of Fraboni, Vidal & Lorenzi, "Free-rider
    attacks on model aggregation in federated learning", AISTATS 2021 (γ = 1, σ as in the authors' code);
    "delta" is the delta weights attack of Lin, Du & Liu, "Free-riders in federated learning: attacks and
    defenses", 2019, with σ = 0.001 their advanced one; "replay" is what FedML's lazy worker is meant to be.
    As coded that sends a zero model, not a zero update, and its other modes never begin, since its count of
    rounds does not advance. "scaled_delta" is the attack of Zhu, Shu, Zou & Jia, "Advanced free-rider attacks
    in federated learning", NeurIPS workshop on new frontiers in federated learning 2021, which was not read:
    the formula is that of an independent port for Flower (C = 0.5). Its noise, in 70 % of the entries, has
    deviation φ / d and all but vanishes, and its λ divides by t.
    """
    option("kind", kind, ("zero", "noise", "delta", "scaled_delta", "replay"))
    spread = real("decay", decay, above=0, finite=True)
    sigma = None if std is None else real("std", std, at_least=0, finite=True)
    gamma = real("power", power, at_least=0, finite=True)
    k = real("multiplier", multiplier, at_least=0, finite=True)

    def init(num_clients: int, num_params: int) -> FreeRiderState:
        return FreeRiderState(jnp.int32(0), jnp.zeros((num_params,)), jnp.zeros(()))

    def corrupt(
        updates: Array, malicious: Array, state: FreeRiderState, knowledge: Knowledge
    ) -> tuple[Array, State]:
        context = knowledge.context
        if kind == "zero":
            return replaced(updates, malicious, lambda rows: jnp.zeros((), rows.dtype)), state
        if context.params is None:
            raise ArgumentError(f"kind={kind!r} needs params, which this round does not provide")
        params = context.params.astype(state.params.dtype)
        change = jnp.where(state.rounds > 0, params - state.params, 0.0)
        scale = jnp.where(state.rounds == 1, jnp.mean(jnp.abs(change)), state.scale)
        fading = jnp.maximum(state.rounds, 1).astype(scale.dtype) ** -gamma
        state = FreeRiderState(state.rounds + 1, params, scale)
        base = change.astype(updates.dtype) if kind == "delta" else jnp.zeros((), updates.dtype)
        sent = replaced(updates, malicious, lambda rows: base)
        if kind == "delta" and (sigma is None or (is_static(sigma) and sigma == 0)):
            return sent, state
        if context.key is None:
            raise ArgumentError(f"kind={kind!r} needs a key, which this round does not provide")
        size = k * (scale if sigma is None else jnp.asarray(sigma, scale.dtype))
        if kind == "noise":
            size = size * fading
        return draw_around(sent, malicious, context.key, size, "own", max_malicious), state

    def init_scaled(num_clients: int, num_params: int) -> ScaledDeltaState:
        return ScaledDeltaState(jnp.int32(0), jnp.zeros((num_params,)), jnp.zeros(()), jnp.zeros(()))

    def scaled(
        updates: Array, malicious: Array, state: ScaledDeltaState, knowledge: Knowledge
    ) -> tuple[Array, ScaledDeltaState]:
        known: Any = knowledge.context
        for name in ("params", "key"):
            if getattr(known, name) is None:
                raise ArgumentError(f"kind={kind!r} needs {name}, which this round does not provide")
        n, t = len(updates), state.rounds
        params = known.params.astype(state.params.dtype)
        change = jnp.where(t > 0, params - state.params, 0.0)
        length = row_norms(change[None])[0]
        first = jnp.where(t == 1, length, state.first)
        moves = (t > 1) & (state.last > 0) & (first > 0) & (length > 0)
        factor = jnp.where(moves, length / jnp.where(moves, state.last, 1.0), 1.0)
        rate = jnp.log(jnp.where(moves, length / jnp.where(moves, first, 1.0), 1.0)) / jnp.maximum(t - 1, 1)
        # Beyond it the cosine is 0 or 1 to all digits.
        falling = jnp.exp(jnp.clip(2 * rate * (t + 1), -60.0, 60.0))
        cosine = spread**2 / (spread**2 + falling)
        beside = jnp.sqrt(n / (1 + (n - 1) * cosine) - 1) * factor * length
        size = jnp.where(t > 1, beside / jnp.sqrt(max(params.shape[0], 1)), 0.0 if sigma is None else sigma)
        base = (factor * change).astype(updates.dtype)
        sent = replaced(updates, malicious, lambda rows: base)
        state = ScaledDeltaState(t + 1, params, first, length)
        return draw_around(sent, malicious, known.key, k * size, "own", max_malicious), state

    def init_replay(num_clients: int, num_params: int) -> ReplayState:
        return ReplayState(jnp.zeros((num_clients,), bool), jnp.zeros((num_clients, num_params)))

    def replay(
        updates: Array, malicious: Array, state: ReplayState, knowledge: Knowledge
    ) -> tuple[Array, ReplayState]:
        context = knowledge.context
        ids = jnp.arange(len(updates)) if context.client_ids is None else context.client_ids
        riding, first = malicious & state.seen[ids], malicious & ~state.seen[ids]
        before = state.sent[ids]
        sent = replaced(updates, riding, lambda rows, own: own.astype(rows.dtype), before)
        trained = by_row(lambda rows: rows, updates).astype(before.dtype)
        after = ReplayState(
            state.seen.at[ids].set(state.seen[ids] | malicious),
            state.sent.at[ids].set(jnp.where(first[:, None], trained, before)),
        )
        if sigma is None or (is_static(sigma) and sigma == 0):
            return sent, after
        if context.key is None:
            raise ArgumentError(f"kind={kind!r} needs a key, which this round does not provide")
        return draw_around(sent, riding, context.key, k * sigma, "own", max_malicious), after

    if kind == "scaled_delta":
        return Attack(init_scaled, scaled, streams=True)
    if kind == "replay":
        return Attack(init_replay, replay, streams=True)
    return Attack(init, corrupt, streams=True)
