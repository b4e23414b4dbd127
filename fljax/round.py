"""One round of federated learning under attack, as one pure function."""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax
from jax import Array

from fljax.aggregators.base import Aggregator, Context, Info
from fljax.attacks.base import Attack
from fljax.keys import named_key
from fljax.local import LocalTraining, client_updates, root_update
from fljax.types import RoundData, RunState


class RoundMetrics(NamedTuple):
    """Scalars of one round; NaN where the rule has no such quantity, or nobody of that kind is in the cohort.

    Attributes:
        loss: mean training loss of the benign clients of the cohort.
        update_norm: ‖g‖ of the aggregate.
        trust_benign: mean trust score of the benign clients.
        trust_malicious: mean trust score of the malicious clients.
        benign_accepted: share of benign clients with positive weight, positive trust or selected.
        malicious_accepted: the same of the malicious clients.
        finite: 1 if the aggregate and the new model are finite.
    """

    loss: Array
    update_norm: Array
    trust_benign: Array
    trust_malicious: Array
    benign_accepted: Array
    malicious_accepted: Array
    finite: Array


Step = Callable[[RunState, RoundData], tuple[RunState, RoundMetrics]]


def _mean_over(mask: Array, values: Array) -> Array:
    return jnp.sum(jnp.where(mask, values, 0.0)) / jnp.sum(mask)


def _metrics(update: Array, params: Array, losses: Array, malicious: Array, info: Info) -> RoundMetrics:
    missing = jnp.full(malicious.shape, jnp.nan)
    trust = info.get("trust_scores", missing)
    accepted = missing
    for name in ("selected", "trust_scores", "weights"):
        if name in info:
            accepted = (info[name] > 0).astype(jnp.float32)
            break
    return RoundMetrics(
        loss=_mean_over(~malicious, losses),
        update_norm=jnp.linalg.norm(update),
        trust_benign=_mean_over(~malicious, trust),
        trust_malicious=_mean_over(malicious, trust),
        benign_accepted=_mean_over(~malicious, accepted),
        malicious_accepted=_mean_over(malicious, accepted),
        finite=(jnp.all(jnp.isfinite(update)) & jnp.all(jnp.isfinite(params))).astype(jnp.float32),
    )


def make_round(
    *,
    clients: LocalTraining,
    root: LocalTraining,
    attack: Attack,
    aggregator: Aggregator,
    server_optimizer: optax.GradientTransformation,
    learning_rate: Callable[[Array], Array],
    num_clients: int,
    cohort_size: int,
    chunk: int,
) -> Step:
    """Compose a round: cohort, local updates, root update, attack, aggregation, server step.

    Args:
        clients: how clients train.
        root: how the server trains on its root dataset.
        attack: what the malicious clients do.
        aggregator: the rule.
        server_optimizer: applied to −g, so that SGD with rate α does w + α·g.
        learning_rate: local rate β as a function of the round.
        num_clients: n.
        cohort_size: τ ≤ n, clients sampled without replacement each round.
        chunk: how many clients are vmapped together.

    Returns:
        `step(state, data) -> (state, metrics)`, pure and without captured data.

    Source: Cao et al., NDSS 2021, Algorithm 2.
    """

    def step(state: RunState, data: RoundData) -> tuple[RunState, RoundMetrics]:
        key = jax.random.fold_in(state.key, state.round)
        if cohort_size == num_clients:
            client_ids = jnp.arange(num_clients, dtype=jnp.int32)
        else:
            order = jax.random.permutation(named_key(key, "cohort"), num_clients)
            client_ids = jnp.sort(order[:cohort_size]).astype(jnp.int32)
        malicious = data.malicious[client_ids]
        rate = learning_rate(state.round)
        updates, losses = client_updates(
            clients,
            state.params,
            data,
            client_ids,
            malicious,
            named_key(key, "batches"),
            rate,
            attack,
            chunk,
        )
        context = Context(
            key=named_key(key, "attack"),
            round=state.round,
            client_ids=client_ids,
            weights=data.counts[client_ids].astype(jnp.float32),
            params=state.params,
            # The compiler drops this where neither the rule nor the attack reads it.
            root_update=root_update(root, state.params, data, key, rate),
        )
        chex.assert_shape(updates, (cohort_size, state.params.size))
        updates, attack_state = attack.corrupt(updates, malicious, state.attack_state, context)
        context = context._replace(key=named_key(key, "aggregate"))
        update, aggregator_state, info = aggregator.aggregate(updates, state.aggregator_state, context)
        chex.assert_equal_shape([update, state.params])
        change, server_state = server_optimizer.update(-update, state.server_state, state.params)
        params = optax.apply_updates(state.params, change)
        metrics = _metrics(update, params, losses, malicious, info)
        state = RunState(params, state.round + 1, state.key, server_state, aggregator_state, attack_state)
        return state, metrics

    return step
