"""Mimicry of the honest client that stands out most."""

from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jax import Array

from fljax.attacks.registry import register_attack
from fljax.attacks.wrappers import from_factory
from fljax.base import Attack, Knowledge, State
from fljax.numerics.averages import weighted_rows
from fljax.numerics.checks import flag, option, whole
from fljax.numerics.rows import Rows, by_row, row_at
from fljax.numerics.safe import dot, unit
from fljax.numerics.subset_statistics import honest_rows, mean_of, replaced

Choice = Literal["sum", "last", "smallest"]


class MimicState(NamedTuple):
    """The attackers' estimates so far.

    Attributes:
        rounds: int32 scalar, how many rounds of warm-up are over.
        mean: (d,), the running mean of the honest updates.
        direction: (d,), the estimate z of the direction of largest variance, of length 1.
        scores: (num_clients,), each client's projection on z, added up over the rounds or the last one;
            its negative where the smallest is chosen.
    """

    rounds: Array
    mean: Array
    direction: Array
    scores: Array


@register_attack(
    title="Mimic (warm-up)",
    source="Karimireddy et al. 2022",
    assumes="all updates",
    optimises="weight of the client that stands out most",
    make=from_factory,
    streams=True,
)
def mimic_warmup(
    *, warmup: int = 1, choose: Choice = "sum", fixed: bool = True, spread: bool = False, seed: int = 0
) -> Attack:
    """Mimic the honest client that stands out most along the direction of largest variance.

    In round t = 0, 1, … of the warm-up, with the honest updates x_i and their mean x̄,

        μ ← t/(1 + t) μ + x̄/(1 + t),   c = Σ_i ⟨x_i − μ, z⟩ (x_i − μ),
        z ← t/(1 + t) z + c / ((1 + t) ‖c‖), normalised,

    from a random z. Every malicious row is a copy of the honest client i with the largest |Σ_t ⟨x_i, z⟩| over
    the rounds so far ("sum"), or the largest ⟨x_i, z⟩ of the last round of the warm-up it was in ("last"), or
    the smallest of those ("smallest").
    After the warm-up that client stays the same; where clients are sampled, it is the best one that is
    present.

    Args:
        warmup: for how many rounds z and the choice are learnt; at least 1.
        choose: "sum" as in the paper, with the projections on the z of each round; "last" as in the authors'
            code; "smallest" as there with `argmax=False`.
        fixed: whether the choice is final after the warm-up; else projections on its last z go on to decide,
            those of every round. For a z that is learnt on and on, let the warm-up last.
        spread: whether the k-th malicious row copies the k-th best client, instead of all the best.
        seed: of the first z.

    Returns:
        The `Attack`, with a `MimicState`.

    Raises:
        ValueError: if `warmup` is below 1, `choose` is none of the three or a switch is no boolean.

    Example:
        >>> from fljax.attacks import Context, Knowledge
        >>> attack = mimic_warmup(warmup=1)
        >>> rows = jnp.array([[1.0, 0.0], [9.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        >>> known = Knowledge(Context(client_ids=jnp.arange(4)))
        >>> sent, _ = attack.corrupt(rows, jnp.arange(4) == 3, attack.init(4, 2), known)
        >>> sent[3].tolist()
        [9.0, 0.0]

    Source: Karimireddy, He & Jaggi, ICLR 2022. 1 is the default of the authors' scripts. ByzFL copies client
    0 during the warm-up and chooses anew by |⟨x_i, z⟩| in every round after it; FL-Byzantine-Library goes on
    choosing in every round.
    """
    warmup = whole("warmup", warmup, smallest=1)
    seed = whole("seed", seed)
    option("choose", choose, get_args(Choice))
    fixed, spread = flag("fixed", fixed), flag("spread", spread)

    def init(num_clients: int, num_params: int) -> MimicState:
        start = jax.random.normal(jax.random.key(seed), (num_params,))
        return MimicState(
            rounds=jnp.int32(0),
            mean=jnp.zeros((num_params,)),
            direction=start / jnp.linalg.norm(start),
            # The signed score of a client never seen is below all others.
            scores=jnp.full((num_clients,), 0.0 if choose == "sum" else jnp.finfo(start.dtype).min),
        )

    def corrupt(
        updates: Array, malicious: Array, state: MimicState, knowledge: Knowledge
    ) -> tuple[Array, State]:
        ids = knowledge.context.client_ids
        ids = jnp.arange(updates.shape[0]) if ids is None else ids
        # A cohort without an honest client teaches nothing.
        learning = (state.rounds < warmup) & ~jnp.all(malicious)
        if not fixed:
            # The z of the warm-up's last round is that of all rounds after it.
            later = ~learning & ~jnp.all(malicious)
            state = _scored(updates, ~malicious, ids, state, choose, later)
        state = _learn(updates, ~malicious, ids, state, choose, learning)
        scores = jnp.abs(state.scores[ids]) if choose == "sum" else state.scores[ids]
        scores = jnp.where(honest_rows(malicious), scores, -jnp.inf)
        if spread:
            return _spread(updates, malicious, scores), state
        copied = row_at(jnp.argmax(scores), updates)
        return replaced(updates, malicious, lambda rows: copied), state

    return Attack(init, corrupt, streams=True)


def _learn(
    updates: Array, honest: Array, ids: Array, state: MimicState, choose: Choice, learning: Array
) -> MimicState:
    """The state after one more round of warm-up, or the old one if an honest update is not finite.

    Without `learning` it is the old one, too. Of the scores no others than those of the cohort are touched.
    """
    dtype = updates.dtype
    t, z = state.rounds.astype(dtype), state.direction.astype(dtype)
    old, new = t / (1 + t), 1 / (1 + t)
    mean = old * state.mean.astype(dtype) + new * mean_of(honest, updates)
    deviations = jnp.where(honest, _products(updates, z) - _products(mean, z), 0.0)
    step = weighted_rows(deviations, updates) - jnp.sum(deviations) * mean
    direction = _direction(old * z + new * _direction(step))
    learning &= jnp.isfinite(jnp.sum(direction) + jnp.sum(mean))
    scores = _scored(updates, honest, ids, state._replace(direction=direction), choose, learning).scores

    def learnt(new: Array, old: Array) -> Array:
        return jnp.where(learning, new.astype(old.dtype), old)

    return MimicState(
        rounds=learnt(state.rounds + 1, state.rounds),
        mean=learnt(mean, state.mean),
        direction=learnt(direction, state.direction),
        scores=scores,
    )


def _scored(
    updates: Array, honest: Array, ids: Array, state: MimicState, choose: Choice, counts: Array
) -> MimicState:
    """The state with the projections of this round's honest rows in the scores, if they count."""
    before = state.scores[ids]
    total = _products(updates, state.direction.astype(updates.dtype))
    if choose == "sum":
        total = before.astype(total.dtype) + total
    elif choose == "smallest":
        total = -total
    scores = jnp.where(counts & honest & jnp.isfinite(total), total.astype(before.dtype), before)
    return state._replace(scores=state.scores.at[ids].set(scores))


def _spread(updates: Array, malicious: Array, scores: Array) -> Array:
    """The stack with a copy of the k-th best row in the k-th malicious one, from the first on again."""
    best = jnp.argsort(-scores)
    copied = best[(jnp.cumsum(malicious) - 1) % jnp.maximum(jnp.sum(~malicious), 1)]
    if isinstance(updates, Rows):
        whole_stack = by_row(lambda rows: rows, updates)
        return replaced(updates, malicious, lambda rows, own: whole_stack[own], copied)
    return jnp.where(malicious[:, None], updates[copied], updates)


def _products(rows: Array, direction: Array) -> Array:
    return by_row(lambda chunk: dot(chunk, direction), rows)


def _direction(vector: Array) -> Array:
    return unit(vector, jnp.linalg.norm(vector))
