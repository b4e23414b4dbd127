"""The contracts between a round and its pieces: rules, attacks, models and what clients do."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypedDict

import jax
import jax.numpy as jnp
from jax import Array

State = Any


def asks(function: Callable[..., Any] | None, name: str) -> bool:
    """True for a function with an argument of this name."""
    return function is not None and name in inspect.signature(function).parameters


def draws(function: Callable[..., Any] | None) -> bool:
    """True for a function with an argument `key`, which draws random numbers."""
    return asks(function, "key")


class Info(TypedDict, total=False):
    """What explains a rule's decision, as far as the rule has it.

    Attributes:
        trust_scores: (n,) how far each row is trusted.
        weights: (n,) what each row counts.
        selected: (n,) bool, the rows that the update is made of.
    """

    trust_scores: Array
    weights: Array
    selected: Array


@jax.tree_util.register_static
@dataclass(frozen=True)
class Layers:
    """The tensors that a model's raveled parameters are made of; to JAX no array, but a part of the program.

    Attributes:
        shapes: of the tensors, in the order of the vector: `[leaf.shape for leaf in jax.tree.leaves(params)]`
            for parameters raveled by `ravel_pytree`. The last axis of a matrix or a convolution is taken for
            its outputs, as flax and haiku have it.

    Example:
        >>> Layers([(3, 2), (2,)]).shapes
        ((3, 2), (2,))
    """

    shapes: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "shapes", tuple(tuple(map(int, shape)) for shape in self.shapes))


@jax.tree_util.register_static
@dataclass(frozen=True)
class Head:
    """The last layer of a classifier in its raveled parameters, logits = features · kernel + bias.

    To JAX it is no array, but a part of the program.

    Attributes:
        kernel: where the kernel begins in the vector.
        num_features: its inputs h.
        num_classes: its outputs M.
        bias: where the bias begins; None without one.
        transposed: whether the kernel lies there as (M, h), as in equinox and PyTorch, or as (h, M).
    """

    kernel: int
    num_features: int
    num_classes: int
    bias: int | None = None
    transposed: bool = False


@jax.tree_util.register_static
@dataclass(frozen=True)
class Lacking:
    """It stands in a `Context` for what a model or a task does not have.

    Attributes:
        reason: the end of a sentence about a rule that needs it.
    """

    reason: str


class Context(NamedTuple):
    """A round, beside its updates: a rule or an attack reads the fields it names.

    Attributes:
        key: typed PRNG key of this round's aggregation (or attack).
        round: int32 scalar, the round's number from 0.
        client_ids: (n,) int32, which client each row comes from.
        weights: (n,) float32, the clients' numbers of examples.
        params: (d,) the global model before the round.
        root_update: (d,) the server's own update on the root dataset.
        layers: the tensors that `params` is made of.
        head: the last layer in `params`.
        predict: `predict(params, x) -> logits`, of parameters (d,) and inputs (b, ...) to (b, M).
        features: `features(params, x)`, the inputs (b, h) of the last layer.
        root_x: (r, ...) the inputs of the root dataset.
        root_loss: `root_loss(params)`, the mean loss on the root dataset of parameters (d,), a scalar.
    """

    key: Array | None = None
    round: Array | int = 0
    client_ids: Array | None = None
    weights: Array | None = None
    params: Array | None = None
    root_update: Array | None = None
    layers: Layers | Lacking | None = None
    head: Head | Lacking | None = None
    predict: Callable[[Array, Array], Array] | Lacking | None = None
    features: Callable[[Array, Array], Array] | Lacking | None = None
    root_x: Array | Lacking | None = None
    root_loss: Callable[[Array], Array] | Lacking | None = None


class Knowledge(NamedTuple):
    """A round as attackers see it.

    Attributes:
        context: the round.
        rule: the update (d,) that the server will make of a stack (n, d) this round: its rule behind its
            pre-aggregators and with its state. Where it draws at random, it draws other numbers here.
        surrogate: a smooth version of `rule`, for attacks that follow a gradient; None where there is none.
        local_rate: scalar, the local learning rate β; with `batch_size` the unit of published constants.
        batch_size: scalar, the number of examples in a client's batch, on average over the cohort.
        run_key: typed PRNG key, the same in every round of a run: for what attackers draw once.
    """

    context: Context
    rule: Callable[[Array], Array] | None = None
    surrogate: Callable[[Array], Array] | None = None
    local_rate: Array | None = None
    batch_size: Array | None = None
    run_key: Array | None = None


class Aggregator(NamedTuple):
    """A rule for the round, as a pair of pure functions.

    Attributes:
        init: `init(num_clients, num_params) -> state`.
        aggregate: `aggregate(updates, state, context) -> (update, state, info)`; `updates` is (n, d),
            `update` (d,), and `info` explains the decision.
        streams: True if it takes `Rows` of fljax/numerics/rows.py as well, a stack that is never whole.
    """

    init: Callable[[int, int], State]
    aggregate: Callable[[Array, State, Context], tuple[Array, State, Info]]
    streams: bool = False


class PreAggregator(NamedTuple):
    """A map from (n, d) updates to (n', d) updates that runs before a rule.

    Attributes:
        init: `init(num_clients, num_params) -> state`.
        transform: `transform(updates, state, context) -> (updates, state, context)`; a context is returned
            because a map that mixes rows makes their weights and client ids meaningless.
        streams: True if it takes `Rows` as well, and makes `Rows` of them.
    """

    init: Callable[[int, int], State]
    transform: Callable[[Array, State, Context], tuple[Array, State, Context]]
    streams: bool = False


class PostAggregator(NamedTuple):
    """A map from the update that a rule made to another one, such as noise on it.

    Attributes:
        init: `init(num_clients, num_params) -> state`.
        transform: `transform(update, updates, state, context) -> (update, state)`; `update` is (d,), and
            `updates` and `context` are what came before any pre-aggregator: the clients' rows (n, d).
        streams: True if it takes `Rows` as well.
    """

    init: Callable[[int, int], State]
    transform: Callable[[Array, Array, State, Context], tuple[Array, State]]
    streams: bool = False


class Trigger(NamedTuple):
    """A backdoor: a mark in the input, and the label that the model shall then answer with.

    Attributes:
        embed: `embed(x) -> x`, (..., *input_shape) inputs to the same inputs carrying the trigger; one that
            changes from round to round names a second argument `state`, the attack's.
        target: the label the attacker wants for them; None where that depends on the true one.
        source: the true label that the success is measured on; None for all that are to change.
        examples: (K, *input_shape) inputs that the success is measured on as they are, in place of test
            examples with the mark; None where there are no such inputs.
        relabel: from true labels to those that the attacker wants; None for `target` in place of all.
    """

    embed: Callable[..., Array]
    target: int | None
    source: int | None = None
    examples: Array | None = None
    relabel: Callable[[Array], Array] | None = None

    def embedded(self, x: Array, state: State) -> Array:
        """Inputs carrying the trigger, where the attack's state is `state`."""
        if not asks(self.embed, "state"):
            return self.embed(x)
        if state is None:
            raise ValueError("the trigger changes from round to round: the attack's state must be given")
        return self.embed(x, state=state)

    def wanted(self, labels: Array) -> Array:
        """The labels that the attacker wants in place of true ones."""
        target: Any = self.target
        return jnp.full_like(labels, target) if self.relabel is None else self.relabel(labels)

    def counted(self, labels: Array) -> Array:
        """The true labels that the trigger is there to change."""
        return self.wanted(labels) != labels if self.source is None else labels == self.source


class Attackers(NamedTuple):
    """The malicious clients of a round before anybody trains, as they see it together.

    Attributes:
        context: the round; its `key` is theirs.
        malicious: (n,) boolean, the rows that attack in this round; at least one does.
        params: the global model as a pytree.
        predict: `predict(params, x) -> logits` of the model in evaluation, x (b, *input_shape).
        draw: `draw(row, key, steps, batch_size) -> (x, y, weights)`, as many random batches of the honest
            examples of the client in a row of the round: (R, b, *input_shape), (R, b, ...) and (R, b), 0 for
            what only fills a batch that is larger than the client's examples.
        learning_rate: scalar β of honest clients.
    """

    context: Context
    malicious: Array
    params: Any
    predict: Callable[[Any, Array], Array]
    draw: Callable[[Any, Array | None, int, int], tuple[Array, Array, Array]]
    learning_rate: Array


class LocalAttack(NamedTuple):
    """The local training of malicious clients, where it is not that of honest ones.

    Only malicious clients train so, once more, in place of what they would send honestly: it costs time in
    proportion to their number. What a client algorithm keeps of them and the messages that they send besides
    their updates are those of honest training.

    Attributes:
        train: `train(client, honest, state, context) -> Trained`, one malicious client's round. `honest` (d,)
            is the update that it would send honestly, `state` the attack's. `client.descend` reads poisoned
            examples, and takes further hooks besides those of `Client`: `change(change, step) -> change`, of
            an optimizer's step before it is made; `count(weights, is_copy, step) -> weights`, of what the
            examples (b,) of a batch count in it; `loss(params, x, y, weights) -> scalar` in place of the
            objective; and `part`, a pair of numbers for the steps from the first to before the second, of a
            fixed number.
        steps: R, local steps a round; None for that of honest clients.
        epochs: passes over a client's examples and copies instead; None for that of honest clients.
        batch_size: b, or "full"; None for that of honest clients.
        learning_rate: scalar β; None for that of honest clients.
        loss: `loss(honest) -> loss`, from the honest clients' loss to one with the same arguments; None for
            theirs.
        gather: `gather(updates, malicious, state) -> state`, before they train: what `train` gets for the
            attack's state, from what all would send honestly (n, d); None for the state itself.
        needs: the fields of `Context` that `train` reads of the model, such as "head".
    """

    train: Callable[..., Any]
    steps: int | None = None
    epochs: float | None = None
    batch_size: int | Literal["full"] | None = None
    learning_rate: Array | float | None = None
    loss: Callable[[Callable[..., Any]], Callable[..., Any]] | None = None
    gather: Callable[[Array, Array, Any], Any] | None = None
    needs: tuple[str, ...] = ()


class Attack(NamedTuple):
    """An attack for the round, as pure functions.

    Attributes:
        init: `init(num_clients, num_params) -> state`.
        corrupt: `corrupt(updates, malicious, state, knowledge) -> (updates, state)`; honest rows come back
            bit-identical.
        poison_data: `poison_data(x, y, is_copy, member) -> (x, y)`, applied to every batch of a malicious
            client when it is gathered, or None; `is_copy` (b,) marks the copies, `member` is the client's
            number among the malicious ones, from 0. One may name further arguments: `key`, a typed PRNG key
            of the client's batch; `state`, the attack's; and `predict`, `predict(x) -> logits` of the global
            model in evaluation.
        copies: how many copies a malicious client appends to its examples at most, as a share of their
            number.
        share: `share(member) -> scalar`, the share of one client, or None for `copies` of all.
        trigger: the backdoor whose success is measured, or None.
        active: `active(context) -> bool or (n,) mask`, the clients that attack in this round if they are
            malicious, or None for all in every round; the others train and send honestly.
        train: the training of malicious clients on their poisoned data, or None for that of honest ones.
        triggers: the triggers one by one, by name, where `trigger` is made of several, for the metric
            `backdoor`.
        streams: True if `corrupt` takes `Rows` of fljax/numerics/rows.py as well, and makes `Rows` of them.
        in_place: whether nothing is appended, and the copies are that share of the examples of every batch,
            drawn anew and rounded down.
        prepare: `prepare(state, attackers) -> state`, once before anybody trains, in rounds with an attacker;
            None for nothing. `attackers` are the `Attackers` of the round.
    """

    init: Callable[[int, int], State]
    corrupt: Callable[[Array, Array, State, Knowledge], tuple[Array, State]]
    poison_data: Callable[..., tuple[Array, Array]] | None = None
    copies: float = 0.0
    share: Callable[[Array], Array] | None = None
    trigger: Trigger | None = None
    active: Callable[[Context], Array] | None = None
    train: LocalAttack | None = None
    triggers: Mapping[str, Trigger] = MappingProxyType({})
    streams: bool = False
    in_place: bool = False
    prepare: Callable[[State, Any], State] | None = None


class Task(NamedTuple):
    """The learning problem, as far as attacks are told of it.

    Attributes:
        num_classes: number of labels; None for regression.
        max_malicious: an upper bound on the malicious rows in one stack, for static shapes; None for n.
        image_shape: (height, width, channels), or None for plain features.
        init_params: a typed PRNG key to the model's parameters (d,) as they may be before the first round;
            None where there is no model.
    """

    num_classes: int | None
    max_malicious: int | None = None
    image_shape: tuple[int, int, int] | None = None
    init_params: Callable[[Array], Array] | None = None


Params = Any


class Model(NamedTuple):
    """A model as the simulator sees it.

    Where training is as evaluation it is `Model(init, apply)`. With layers that differ in training, such as
    dropout, it has `train` as well. With running batch statistics, or any other state that a forward pass in
    training changes and that is not trained, it has all four functions. The state is no part of an update: no
    rule sees it and no attack writes it. `mean_state` in fljax/engine/local_training.py says how it is
    averaged.

    Attributes:
        init: `init(key) -> params`.
        apply: `apply(params, x) -> logits`, x (b, *input_shape) to (b, M); for a model with state
            `apply(params, x, state) -> logits`, the prediction in evaluation.
        init_state: `init_state(key) -> state`, with the same key as `init`; None for a model without state.
        train: `train(params, x, state, real) -> (logits, state)`, the forward pass in training; the state is
            () where there is none. `real` (b,) is False for examples that only pad the batch, which the state
            and the other examples' logits must not depend on. With an argument `key` it draws at random: it
            is given a typed PRNG key, another one for every client, round and local step. None where
            training is as evaluation.
    """

    init: Callable[[Array], Params]
    apply: Callable[..., Array]
    init_state: Callable[[Array], Any] | None = None
    train: Callable[..., tuple[Array, Any]] | None = None

    @property
    def random(self) -> bool:
        """True if the forward pass in training draws random numbers."""
        return draws(self.train)


class Trained(NamedTuple):
    """The result of a client's local training.

    Attributes:
        update: (d,), what the client sends.
        loss: scalar, the mean training loss over its steps; 0 without one.
        model_state: the model's state after them.
        steps: int32 scalar K, the number of steps.
        optimizer_state: the optimizer's state after them.
        state: what the client keeps until it is in a cohort again, of the structure that `init` returns.
        messages: what it sends besides the update, (d,) each.
    """

    update: Array
    loss: Array
    model_state: Any
    steps: Array
    optimizer_state: Any
    state: State = ()
    messages: tuple[Array, ...] = ()


class Client(NamedTuple):
    """A client in one round, as its algorithm sees it.

    Attributes:
        params: w, the global model as a pytree.
        learning_rate: scalar β of this round.
        unravel: (d,) to a pytree like `params`.
        descend: `descend(*, gradient=None, project=None, optimizer_state=None, start=None) -> Trained`, the
            local steps by the configured optimizer, from w or from w + `start`, which is part of the update.
            `gradient(grads, delta, step) -> grads` changes the gradient of every step, where `delta` is the
            sum of the steps so far, y − w, and `step` counts from 0. `project(delta, step) -> delta` changes
            that sum after every step. An optimizer goes on with the
            state that is given, or starts afresh. All of them are pytrees like `params`.
        gradient: `gradient(params) -> (d,)`, the gradient of the mean loss over all of the client's examples.
        draw: `draw(steps, batch_size) -> (x, y, weights)`, random batches of its own examples as in
            `Attackers`, the same at every call of a round.
        predict: `predict(params, x) -> logits` of the model in evaluation.
    """

    params: Params
    learning_rate: Array
    unravel: Callable[[Array], Params]
    descend: Callable[..., Trained]
    gradient: Callable[[Params], Array]
    draw: Callable[[int, int], tuple[Array, Array, Array]] | None = None
    predict: Callable[[Params, Array], Array] | None = None


def _nothing(*arguments: Any) -> State:
    return ()


class ClientAlgorithm(NamedTuple):
    """What a client does in a round, and what stays with it and with the server, as pure functions.

    Attributes:
        train: `train(client, state, shared) -> Trained`, one client's round. A client without examples
            takes no part: what it returns is neither sent nor kept.
        init: `init(params, optimizer) -> state`, the state of one client before its first round; `optimizer`
            is the configured one of optax. The simulator keeps one stack of the states of all n clients.
        init_shared: `init_shared(num_params) -> shared`, what the server keeps and sends to every client.
        serve: `serve(update, messages, shared, share) -> (update, shared)`, the server's part after the rule
            has made one vector (d,) of the updates and of each kind of message; `share` is the cohort's share
            of all clients, τ/n. None for a server that does nothing of its own.
        num_messages: how many vectors a client sends besides its update. Attack and rule take the stack of
            each (n, d) like that of the updates, every one with a state and random numbers of its own; a rule
            that needs the server's own update cannot, since there is none to compare a message with.
    """

    train: Callable[[Client, State, State], Trained]
    init: Callable[[Params, Any], State] = _nothing
    init_shared: Callable[[int], State] = _nothing
    serve: Callable[[Array, tuple[Array, ...], State, float], tuple[Array, State]] | None = None
    num_messages: int = 0
