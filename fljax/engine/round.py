"""One round of federated learning under attack, as one pure function."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax
from jax import Array

from fljax.base import Aggregator, Attack, ClientAlgorithm, Context, Info, Knowledge
from fljax.engine.batches import BatchSize, sample_without_replacement
from fljax.engine.keys import named_key
from fljax.engine.local_training import (
    SGD,
    LocalTraining,
    Result,
    attackers_updates,
    client_updates,
    prepared,
    root_update,
    without_poison,
)
from fljax.engine.metrics import Metric
from fljax.engine.state import Kept, RoundData, RunState
from fljax.engine.streaming import Cohort, Left, in_passes, whole
from fljax.numerics.sharding import replicated

# The panel of the decisions of a rule, as a detector of attackers: who is left out is called malicious.
DETECTION = "detection of attackers"


class RoundMetrics(NamedTuple):
    """Scalars of one round; NaN where the rule has no such quantity, or nobody of that kind is in the cohort.

    Malicious are those who attack in this round: one whose schedule pauses counts as benign.

    Attributes:
        loss: mean training loss of the benign clients of the cohort that have examples.
        update_norm: ‖g‖ of the aggregate.
        trust_benign: mean trust score of the benign clients.
        trust_malicious: mean trust score of the malicious clients.
        benign_accepted: share of benign clients with positive weight, positive trust or selected; the others
            are left out.
        malicious_accepted: the same of the malicious clients.
        detection_precision: share of malicious clients among those that the rule leaves out; NaN also where
            it leaves nobody out, or nobody attacks.
        detection_recall: share of the malicious clients that the rule leaves out.
        false_positive_rate: share of the benign clients that the rule leaves out.
        finite: 1 if the aggregate, the new model and `loss` (where it is a mean of any client) are finite; 0
            is a diverged round. Losses and rows of malicious clients do not count by themselves: they may be
            NaN as long as the rule leaves them out.
    """

    loss: Annotated[Array, Metric("training loss")]
    update_norm: Annotated[Array, Metric("update norm")]
    trust_benign: Annotated[
        Array,
        Metric("benign trust score", partial=True, panel="mean trust score", who="benign", spoken="trust"),
    ]
    trust_malicious: Annotated[
        Array,
        Metric(
            "malicious trust score", partial=True, panel="mean trust score", who="malicious", spoken="trust"
        ),
    ]
    benign_accepted: Annotated[
        Array,
        Metric(
            "benign clients accepted",
            kind="share",
            partial=True,
            panel="share of clients accepted",
            unless=DETECTION,
            who="benign",
        ),
    ]
    malicious_accepted: Annotated[
        Array,
        Metric(
            "malicious clients accepted",
            kind="share",
            partial=True,
            panel="share of clients accepted",
            unless=DETECTION,
            who="malicious",
        ),
    ]
    detection_precision: Annotated[
        Array,
        Metric(
            f"{DETECTION}: precision",
            brief="precision",
            kind="share",
            partial=True,
            panel=DETECTION,
            better="high",
        ),
    ]
    detection_recall: Annotated[
        Array,
        Metric(
            f"{DETECTION}: recall",
            brief="recall",
            kind="share",
            partial=True,
            panel=DETECTION,
            better="high",
        ),
    ]
    false_positive_rate: Annotated[
        Array,
        Metric(
            f"{DETECTION}: false-positive rate",
            brief="false-positive rate",
            kind="share",
            partial=True,
            panel=DETECTION,
        ),
    ]
    finite: Annotated[Array, Metric("finite", recorded=False)]


Step = Callable[[RunState, RoundData], tuple[RunState, RoundMetrics]]

# What a rule may ask of the model is about updates: parameters plus another message are no model.
NOT_OF_MESSAGES: dict[str, Any] = dict.fromkeys(("root_update", "predict", "features", "root_x", "root_loss"))


def _mean_over(mask: Array, values: Array) -> Array:
    return jnp.sum(jnp.where(mask, values, 0.0)) / jnp.sum(mask)


def _examples_per_batch(batch_size: BatchSize, counts: Array) -> Array:
    """The mean number of examples in a client's batch; a client with fewer takes all of its own."""
    taken = counts if batch_size == "full" else jnp.minimum(counts, batch_size)
    return jnp.maximum(jnp.mean(taken.astype(jnp.float32)), 1.0)


def _metrics(
    update: Array, params: Array, *, losses: Array, malicious: Array, counted: Array, info: Info
) -> RoundMetrics:
    missing = jnp.full(malicious.shape, jnp.nan)
    trust = info.get("trust_scores", missing)
    accepted = missing
    for name in ("selected", "trust_scores", "weights"):
        if name in info:
            accepted = (info[name] > 0).astype(jnp.float32)
            break
    left_out = 1.0 - accepted
    # Without attackers there is nothing to find.
    precision = jnp.where(jnp.any(malicious), jnp.sum(malicious * left_out) / jnp.sum(left_out), jnp.nan)
    loss = _mean_over(counted, losses)
    finite = jnp.isfinite(loss) | ~jnp.any(counted)
    finite &= jnp.all(jnp.isfinite(update)) & jnp.all(jnp.isfinite(params))
    return RoundMetrics(
        loss=loss,
        update_norm=jnp.linalg.norm(update),
        trust_benign=_mean_over(~malicious, trust),
        trust_malicious=_mean_over(malicious, trust),
        benign_accepted=_mean_over(~malicious, accepted),
        malicious_accepted=_mean_over(malicious, accepted),
        detection_precision=precision,
        detection_recall=_mean_over(malicious, left_out),
        false_positive_rate=_mean_over(~malicious, left_out),
        finite=finite.astype(jnp.float32),
    )


def draw_cohort(key: Array, data: RoundData, size: int, num_malicious: int | None = None) -> Array:
    """A round's clients, a uniformly random subset in ascending order; its cost does not depend on n.

    Args:
        key: typed PRNG key.
        data: of the round; who is malicious is all that counts.
        size: τ.
        num_malicious: number of malicious clients among them, drawn uniformly from all malicious ones, the
            others from the honest ones; None draws from all alike.

    Returns:
        (size,) int32.
    """
    n = data.malicious.shape[0]
    if num_malicious is None:
        return jnp.sort(sample_without_replacement(key, jnp.int32(n), size)[0])
    ids = data.attacker_ids
    m = jnp.searchsorted(ids, n).astype(jnp.int32)

    kinds = []
    if num_malicious > 0:
        kinds.append(ids[sample_without_replacement(named_key(key, "malicious"), m, num_malicious)[0]])
    if num_malicious < size:
        ranks = sample_without_replacement(named_key(key, "honest"), n - m, size - num_malicious)[0]
        kinds.append(_outside(ids, m, ranks))
    return jnp.sort(jnp.concatenate(kinds)).astype(jnp.int32)


def _outside(ids: Array, count: Array, ranks: Array) -> Array:
    """The numbers of these ranks, from 0, among all that are not in the first `count` of ascending `ids`."""
    # By bisection, the first j with more numbers outside below ids[j] than the rank says.
    low, high = jnp.zeros_like(ranks), jnp.broadcast_to(count, ranks.shape)
    for _ in range(ids.shape[0].bit_length()):
        middle = (low + high) // 2
        beyond = (low >= high) | (ids[middle] - middle > ranks)
        low, high = jnp.where(beyond, low, middle + 1), jnp.where(beyond, middle, high)
    return ranks + low


class AsksRuleError(Exception):
    """An attack asks what a rule makes of a stack, where it cannot know the rule."""


def _refuse(stack: Any) -> Array:
    raise AsksRuleError


class Beginning(NamedTuple):
    """A round before anybody trains.

    Attributes:
        key: of the round.
        context: what everybody knows, without the root update.
        malicious: (τ,) boolean, the clients that attack in this round.
        rate: β, scalar.
        has_examples: (τ,) boolean.
    """

    key: Array
    context: Context
    malicious: Array
    rate: Array
    has_examples: Array


class Sent(NamedTuple):
    """The stacks of a round: the updates, and each kind of message.

    Attributes:
        stacks: (τ, d) each, or `Rows`.
        left: the rest of the training; to be called when the rule has read the stacks.
        attack_states: of the attack, for every stack.
    """

    stacks: Sequence[Any]
    left: Callable[[], Left]
    attack_states: Sequence[Any]


class Stages(NamedTuple):
    """A round in pieces, pure functions of the state and the data before the round and of earlier pieces.

    Attributes:
        begin: `(state, data) -> Beginning`.
        train: `(state, data, beginning) -> Sent`, as honest clients and poisoned data make it.
        root: `(state, data, beginning) -> (d,)`, the server's own update.
        corrupt: `(state, data, beginning, sent, root) -> Sent`, as the attackers leave it.
        finish: `(state, data, beginning, sent, root) -> (state, metrics)`: rule and server step.
    """

    begin: Callable[[RunState, RoundData], Beginning]
    train: Callable[[RunState, RoundData, Beginning], Sent]
    root: Callable[[RunState, RoundData, Beginning], Array]
    corrupt: Callable[[RunState, RoundData, Beginning, Sent, Array | None], Sent]
    finish: Callable[[RunState, RoundData, Beginning, Sent, Array | None], tuple[RunState, RoundMetrics]]

    def step(self, state: RunState, data: RoundData) -> tuple[RunState, RoundMetrics]:
        """The whole round."""
        beginning = self.begin(state, data)
        sent = self.train(state, data, beginning)
        # The compiler drops the root update where neither the rule nor the attack reads it.
        root = self.root(state, data, beginning)
        sent = self.corrupt(state, data, beginning, sent, root)
        return self.finish(state, data, beginning, sent, root)


def make_stages(
    *,
    client_training: LocalTraining,
    server_training: LocalTraining,
    attack: Attack,
    aggregator: Aggregator,
    server_optimizer: optax.GradientTransformation,
    learning_rate: Callable[[Array], Array],
    num_clients: int,
    cohort_size: int,
    clients_at_once: int,
    surrogate: Aggregator | None = None,
    num_in_cohort: int | None = None,
    algorithm: ClientAlgorithm = SGD,
    max_malicious: int | None = None,
    by_device: bool = False,
    rows_at_once: int | None = None,
    told: Callable[[Any, RoundData], dict[str, Any]] | None = None,
    blind: bool = False,
) -> Stages:
    """Compose a round: cohort, local updates, root update, attack, aggregation, server step.

    Args:
        client_training: the training of a client on its examples.
        server_training: the training of the server on its root dataset.
        attack: the attack of the malicious clients.
        aggregator: the rule.
        server_optimizer: applied to −g, so that SGD with rate α does w + α·g.
        learning_rate: local rate β as a function of the round.
        num_clients: n.
        cohort_size: τ ≤ n, clients sampled without replacement each round.
        clients_at_once: clients that are vmapped together.
        surrogate: a smooth version of the rule with a state of the same structure, for attacks that follow a
            gradient.
        num_in_cohort: number of malicious clients in every cohort; None leaves it to chance.
        algorithm: what clients do, and what they and the server keep.
        max_malicious: an upper bound on the malicious clients in a cohort, who may train in their own way;
            None for τ.
        by_device: whether every device of a mesh has the examples of its own clients only, as
            `fljax.engine.mesh.lay_out` lays them; then the cohort is all clients, and attackers train as
            honest clients do.
        rows_at_once: how many rows of the stack there are at once, in a round that trains a chunk of clients
            after the other in every pass over them; rule and attack stream. None for all of them.
        told: `told(model_state, data)`, the fields of `Context` that the model and the task have.
        blind: whether an attack that asks the rule raises an `AsksRuleError`; what it sends is then the same
            for every rule.

    Returns:
        The `Stages`, pure and without captured data.

    Source: Cao et al., NDSS 2021, Algorithm 2.
    """

    def cohort_of(key: Array, data: RoundData) -> Array:
        if cohort_size == num_clients:
            return jnp.arange(num_clients, dtype=jnp.int32)
        return draw_cohort(named_key(key, "cohort"), data, cohort_size, num_in_cohort)

    def begin(state: RunState, data: RoundData) -> Beginning:
        key = jax.random.fold_in(state.key, state.round)
        client_ids = cohort_of(key, data)
        context = Context(
            key=named_key(key, "schedule"),
            round=state.round,
            client_ids=client_ids,
            weights=data.counts[client_ids].astype(jnp.float32),
            params=state.params,
            **({} if told is None else told(state.model_state, data)),
        )
        malicious = data.malicious[client_ids]
        if attack.active is not None:
            malicious &= attack.active(context)
        return Beginning(key, context, malicious, learning_rate(state.round), data.counts[client_ids] > 0)

    def train(state: RunState, data: RoundData, beginning: Beginning) -> Sent:
        key, context, rate = beginning.key, beginning.context, beginning.rate
        client_ids: Any = context.client_ids
        attack_state = state.attack_state
        if attack.prepare is not None and max_malicious != 0:
            attack_state = prepared(
                client_training,
                data,
                attack=attack,
                state=attack_state,
                context=context._replace(key=named_key(key, "prepare")),
                malicious=beginning.malicious,
                learning_rate=rate,
                model_state=state.model_state,
            )
        kept = state.client_state or Kept((), ())

        def train(client_ids: Array, malicious: Array, following: Array) -> Result:
            training: Any = {
                "client_ids": client_ids,
                "malicious": malicious,
                "key": named_key(key, "batches"),
                "learning_rate": rate,
                "clients_at_once": clients_at_once,
                "model_state": state.model_state,
            }
            result = client_updates(
                client_training,
                state.params,
                data,
                # Who trains in another way trains honestly before.
                attack=attack if attack.train is None else without_poison(attack),
                attack_state=attack_state,
                **training,
                algorithm=algorithm,
                states=jax.tree.map(lambda leaf: leaf[client_ids], kept.clients),
                shared=kept.shared,
                following=following,
                by_device=by_device,
            )
            if attack.train is not None and max_malicious != 0:
                result = attackers_updates(
                    client_training,
                    state.params,
                    data,
                    result,
                    attack=attack,
                    local=attack.train,
                    state=attack_state,
                    context=context,
                    max_malicious=max_malicious,
                    **training,
                )
            return result

        following = jnp.zeros((0,), jnp.int32)
        if client_training.examples is not None:
            following = cohort_of(jax.random.fold_in(state.key, state.round + 1), data)
        cohort = Cohort(
            train,
            client_ids,
            following,
            beginning.malicious,
            beginning.has_examples,
            state.model_state,
            kept.clients,
        )
        stacks: Sequence[Any]
        if rows_at_once is None:
            stacks, left = whole(cohort)
        else:
            stacks, left = in_passes(
                cohort,
                size=rows_at_once,
                num_params=state.params.size,
                dtype=state.params.dtype,
                num_messages=algorithm.num_messages,
            )
        return Sent(stacks, left, [attack_state, *kept.attack_states])

    def root(state: RunState, data: RoundData, beginning: Beginning) -> Array:
        return root_update(
            server_training,
            state.params,
            data,
            key=named_key(beginning.key, "root"),
            learning_rate=beginning.rate,
            model_state=state.model_state,
            by_device=by_device,
        )

    def known(beginning: Beginning, root: Array | None, number: int) -> tuple[Context, Array]:
        """What a round's rule and attack know of a stack, and its key."""
        context, key = beginning.context, beginning.key
        if not number:
            return context._replace(root_update=root), key
        return context._replace(**NOT_OF_MESSAGES), jax.random.fold_in(named_key(key, "message"), number - 1)

    def aggregator_states(state: RunState) -> list[Any]:
        kept = state.client_state or Kept((), ())
        return [state.aggregator_state, *kept.aggregator_states]

    def corrupt(
        state: RunState, data: RoundData, beginning: Beginning, sent: Sent, root: Array | None
    ) -> Sent:
        run_key = named_key(state.key, "attackers")

        def corrupted(number: int, stack: Any, attack_state: Any, aggregator_state: Any) -> tuple[Any, Any]:
            chex.assert_shape(stack, (cohort_size, state.params.size))
            context, key = known(beginning, root, number)
            foreseen = context._replace(key=named_key(key, "foreseen"))

            def foresee(rule: Aggregator) -> Callable[[Any], Array]:
                return lambda stack: rule.aggregate(stack, aggregator_state, foreseen)[0]

            asked = foresee(aggregator), None if surrogate is None else foresee(surrogate)
            if blind:
                asked = _refuse, _refuse
            own = run_key
            if number:
                own = jax.random.fold_in(named_key(run_key, "message"), number - 1)
            counts = data.counts[beginning.context.client_ids]
            knowledge = Knowledge(
                context._replace(key=named_key(key, "attack")),
                rule=asked[0],
                surrogate=asked[1],
                local_rate=jnp.asarray(beginning.rate, stack.dtype),
                batch_size=_examples_per_batch(client_training.batch_size, counts),
                run_key=own,
            )
            return attack.corrupt(stack, beginning.malicious, attack_state, knowledge)

        states = zip(sent.stacks, sent.attack_states, aggregator_states(state), strict=True)
        results = [corrupted(number, *each) for number, each in enumerate(states)]
        return sent._replace(
            stacks=[stack for stack, _ in results], attack_states=[state for _, state in results]
        )

    def finish(
        state: RunState, data: RoundData, beginning: Beginning, sent: Sent, root: Array | None
    ) -> tuple[RunState, RoundMetrics]:
        def aggregated(number: int, stack: Any, aggregator_state: Any) -> tuple[Array, Any, Info]:
            context, key = known(beginning, root, number)
            result = aggregator.aggregate(
                stack, aggregator_state, context._replace(key=named_key(key, "aggregate"))
            )
            chex.assert_equal_shape([result[0], state.params])
            return result

        stacks = zip(sent.stacks, aggregator_states(state), strict=True)
        (update, aggregator_state, info), *messages = [
            aggregated(number, *each) for number, each in enumerate(stacks)
        ]
        kept = state.client_state or Kept((), ())
        shared, served = kept.shared, update
        if algorithm.serve is not None:
            vectors = tuple(message[0] for message in messages)
            served, shared = algorithm.serve(update, vectors, shared, cohort_size / num_clients)
        change, server_state = server_optimizer.update(-served, state.server_state, state.params)
        # The next round's clients need all of it.
        params = replicated(optax.apply_updates(state.params, change))
        losses, model_state, clients = sent.left()
        # A client without examples has trained on nothing.
        malicious = beginning.malicious
        counted = ~malicious & beginning.has_examples
        metrics = _metrics(update, params, losses=losses, malicious=malicious, counted=counted, info=info)
        attack_state, *of_messages = sent.attack_states
        state = RunState(
            params=params,
            round=state.round + 1,
            key=state.key,
            server_state=server_state,
            aggregator_state=aggregator_state,
            attack_state=attack_state,
            model_state=model_state,
            client_state=state.client_state
            and Kept(clients, shared, tuple(of_messages), tuple(message[1] for message in messages)),
        )
        return state, metrics

    return Stages(begin, train, root, corrupt, finish)


def make_round(**pieces: Any) -> Step:
    """A round as one function.

    Args:
        **pieces: as for `make_stages`.

    Returns:
        `step(state, data) -> (state, metrics)`, pure and without captured data.

    Source: Cao et al., NDSS 2021, Algorithm 2.
    """
    return make_stages(**pieces).step
