"""Local training: steps of an optimizer from the global model, for one client, for many, for the server."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax
from jax.flatten_util import ravel_pytree

from fljax.base import (
    Attack,
    Attackers,
    Client,
    ClientAlgorithm,
    Context,
    LocalAttack,
    Params,
    State,
    Trained,
    asks,
    draws,
)
from fljax.engine.batches import (
    Batches,
    BatchSize,
    Passes,
    all_of,
    draw_batches,
    draw_passes,
    marked_in_place,
    num_copies,
    with_keys,
)
from fljax.engine.host_examples import HostExamples
from fljax.engine.keys import named_key
from fljax.engine.objectives import Loss
from fljax.engine.state import RoundData
from fljax.numerics.sharding import (
    CLIENTS_AXIS,
    COLUMNS,
    ROWS,
    WHOLE,
    by_columns,
    column_devices,
    over_rows,
    replicated,
    to_columns,
)

# From positions in the training set, the mask of copies and a key (None where nothing draws) to a batch.
Read = Callable[[Array, Array, Array | None], tuple[Array, Array]]


class _Step(NamedTuple):
    """What a local step hands on: δ = y − w, the optimizer's state, y, and the model's state."""

    delta: Params
    optimizer_state: Any
    here: Params
    model_state: Any


def descend(
    params: Params,
    batches: Batches | Passes,
    read: Read,
    *,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    divisor: float | None = None,
    model_state: Any = (),
    optimizer_state: Any = None,
    start: Params | None = None,
    gradient: Callable[[Params, Params, Array], Params] | None = None,
    project: Callable[[Params, Array], Params] | None = None,
    change: Callable[[Params, Array], Params] | None = None,
    count: Callable[[Array, Array, Array], Array] | None = None,
    mark: Callable[[Batches], Batches] | None = None,
    own_loss: Callable[[Params, Array, Array, Array], Array] | None = None,
    part: tuple[int, int] | None = None,
) -> Trained:
    """The optimizer steps that a client or the server makes from the model, ModelUpdate(w, D, b, β, R).

    Args:
        params: w, a pytree.
        batches: of R steps, arrays (R, b), or of epochs: as many steps as the examples ask for.
        read: `(examples, is_copy, key) -> (x, y)`, the batch that consists of these examples.
        loss: as `objective` returns it.
        optimizer: any optax optimizer.
        divisor: of the summed loss of a batch; None for the number of its examples.
        model_state: the model's state before the first step; every step changes it as it sees its batch.
        optimizer_state: the optimizer's state before the first step; None starts it afresh.
        start, gradient, project: as in `Client.descend`.
        change, count, part: as in `LocalAttack`.
        own_loss: its `loss`.
        mark: from a step's batch to the same with other copies.

    Returns:
        The `Trained`: the update (d,), the mean loss over the steps, and the states after them.
    """
    objective = loss
    if own_loss is not None:

        def objective(at: Params, seen: Any, x: Array, y: Array, weights: Array, *other: Any) -> Any:
            return own_loss(at, x, y, weights), seen

    value_and_gradient = jax.value_and_grad(objective, has_aux=True)
    if part is not None:
        if not isinstance(batches, Batches):
            raise ValueError("part is of a fixed number of steps")
        batches = jax.tree.map(lambda leaf: leaf[slice(*part)], batches)

    def step(at: _Step, batch: Batches, number: Any) -> tuple[_Step, Array]:
        batch = batch if mark is None else mark(batch)
        x, y = read(batch.examples, batch.is_copy, batch.key)
        weights = batch.weights if count is None else count(batch.weights, batch.is_copy, number)
        (value, seen), grads = value_and_gradient(at.here, at.model_state, x, y, weights, divisor, batch.key)
        if gradient is not None:
            grads = gradient(grads, at.delta, number)
        made, state = optimizer.update(grads, at.optimizer_state, at.here)
        if change is not None:
            made = change(made, number)
        # The change is summed on its own: w_R − w would lose its last digits to the size of w.
        delta = jax.tree.map(jnp.add, at.delta, made)
        if project is not None:
            delta = project(delta, number)
        return _Step(delta, state, jax.tree.map(jnp.add, params, delta), seen), value

    # The first step is written out, since in it all clients share the weights: under vmap its products with
    # them stay unbatched. Inside a loop they would be copied per client.
    begun = optimizer.init(params) if optimizer_state is None else optimizer_state
    begin = _Step(jax.tree.map(jnp.zeros_like, params), begun, params, model_state)
    if start is not None:
        begin = begin._replace(delta=start, here=jax.tree.map(jnp.add, params, start))
    steps: Any
    if isinstance(batches, Batches):
        numbered = any(hook is not None for hook in (gradient, project, change, count))
        steps, last, total = _all_steps(step, begin, batches, numbered)
        mean = total / steps
    else:
        steps, last, total = _as_many_steps(step, begin, batches, params)
        mean = total / jnp.maximum(steps, 1)
    return Trained(
        update=ravel_pytree(last.delta)[0],
        loss=mean,
        model_state=last.model_state,
        steps=jnp.asarray(steps, jnp.int32),
        optimizer_state=last.optimizer_state,
    )


def _all_steps(
    step: Callable[..., Any], start: _Step, batches: Batches, numbered: bool
) -> tuple[int, _Step, Array]:
    """R steps, the same for every client: their number, the last one, and the sum of the losses."""
    at, first = step(start, jax.tree.map(lambda a: a[0], batches), jnp.int32(0))
    steps = batches.weights.shape[0]
    if steps == 1:
        return steps, at, first
    others = jax.tree.map(lambda a: a[1:], batches)
    numbers = jnp.arange(1, steps, dtype=jnp.int32) if numbered else None
    at, values = lax.scan(lambda at, each: step(at, *each), at, (others, numbers))
    return steps, at, first + jnp.sum(values)


def _as_many_steps(
    step: Callable[..., Any], start: _Step, passes: Passes, params: Params
) -> tuple[Array, _Step, Array]:
    """As many steps as a client's passes have, perhaps none, as `_all_steps` returns them.

    Vmapped, the loop ends with the client that has most steps; those that are done stay as they are.
    """
    steps = passes.steps
    at, first = step(start, passes.batch(jnp.int32(0)), jnp.int32(0))
    at, total = jax.tree.map(
        lambda new, old: jnp.where(steps > 0, new, old), (at, first), (start, jnp.zeros_like(first))
    )

    def one(number: Array, carry: tuple[Any, Array]) -> tuple[Any, Array]:
        (delta, state, seen), total = carry
        # Not handed on: that would be one more array to hold for clients that are done.
        here = jax.tree.map(jnp.add, params, delta)
        at, value = step(_Step(delta, state, here, seen), passes.batch(number), number)
        return (at.delta, at.optimizer_state, at.model_state), total + value

    handed = (at.delta, at.optimizer_state, at.model_state), total
    (delta, state, seen), total = lax.fori_loop(1, steps, one, handed)
    return steps, _Step(delta, state, params, seen), total


def mean_gradient(
    params: Params,
    passes: Passes,
    read: Read,
    *,
    loss: Loss,
    model_state: Any = (),
    mark: Callable[[Batches], Batches] | None = None,
) -> Array:
    """The gradient (d,) of the mean loss over all examples of a pass, at one model, batch by batch."""
    gradient = jax.grad(loss, has_aux=True)
    number = jnp.maximum(passes.limits[0], 1).astype(jnp.float32)

    def add(step: Array, total: Params) -> Params:
        batch = passes.batch(step) if mark is None else mark(passes.batch(step))
        x, y = read(batch.examples, batch.is_copy, batch.key)
        grads, _ = gradient(params, model_state, x, y, batch.weights, number, batch.key)
        return jax.tree.map(jnp.add, total, grads)

    return ravel_pytree(lax.fori_loop(0, passes.steps, add, jax.tree.map(jnp.zeros_like, params)))[0]


def mean_state(states: Any, counted: Array, before: Any) -> Any:
    """The plain mean of the clients' model states: every client counts the same, malicious ones too.

    A client whose state is not finite is left out, as is one that `counted` leaves out; where nobody is
    left the state stays as it was.

    Args:
        states: pytree with a leading client axis.
        counted: (n,) boolean.
        before: the state before the round.

    Returns:
        The state after the round.

    Example:
        >>> states = {"mean": jnp.array([[1.0], [3.0], [jnp.nan]])}
        >>> mean_state(states, jnp.ones(3, bool), {"mean": jnp.zeros(1)})["mean"].tolist()
        [2.0]
    """
    counted = _finite_states(states, counted)
    means = _shares_of(states, counted, jnp.maximum(jnp.sum(counted), 1))
    return _settled(means, jnp.any(counted), before)


class StateSums(NamedTuple):
    """The part of some clients in `mean_state`; those of all clients add up.

    Attributes:
        shares: the sum of their states, each divided by the number of all clients.
        number: int32 scalar, how many of them count.
    """

    shares: Any
    number: Array


def sum_states(states: Any, counted: Array, num_clients: int) -> StateSums:
    """The part of some of `num_clients` clients; other arguments as for `mean_state`."""
    counted = _finite_states(states, counted)
    return StateSums(_shares_of(states, counted, num_clients), jnp.sum(counted))


def mean_of_sums(sums: StateSums, num_clients: int, before: Any) -> Any:
    """The `mean_state` of all clients from the sum of their parts."""
    factor = num_clients / jnp.maximum(sums.number, 1)
    return _settled(jax.tree.map(lambda share: factor * share, sums.shares), sums.number > 0, before)


def _finite_states(states: Any, counted: Array) -> Array:
    """The clients that count and whose state is finite, (n,) boolean."""
    for leaf in jax.tree.leaves(states):
        counted &= jnp.all(jnp.isfinite(leaf.reshape(leaf.shape[0], -1)), axis=1)
    return counted


def _shares_of(states: Any, counted: Array, divisor: Array | int) -> Any:
    """The sum of the states that count over a divisor."""
    # The weights first: a sum could overflow.
    weights = counted / divisor

    def total(leaf: Array) -> Array:
        column = (-1,) + (1,) * (leaf.ndim - 1)
        kept = jnp.where(counted.reshape(column), leaf, 0)
        return jnp.sum(weights.reshape(column) * kept, axis=0)

    return jax.tree.map(total, states)


def _settled(means: Any, counts: Array, before: Any) -> Any:
    """The means in the types that they had before, or what was before if nobody counts."""

    def settled(mean: Array, old: Array) -> Array:
        if not jnp.issubdtype(old.dtype, jnp.inexact):
            mean = jnp.round(mean)  # a counter that all clients agree on
        return jnp.where(counts, mean, old).astype(old.dtype)

    return jax.tree.map(settled, means, before)


class LocalTraining(NamedTuple):
    """The local training of a client, or of the server.

    Attributes:
        loss: as `objective` returns it.
        unravel: (d,) to the parameter pytree.
        optimizer: learning rate to an optax optimizer.
        steps: R, local steps a round; None where `epochs` says it.
        batch_size: b, or "full".
        divisor: of the summed loss of a batch; None for the number of its examples.
        epochs: E, passes over the examples in a round; None where `steps` says it.
        random: whether a local step draws anything besides its examples.
        augment: `(x, key) -> x`, a random change of a batch's inputs, or None.
        examples: of the clients, where they stay on the host; None where the round's data hold them.
        predict: `(params, x, model_state) -> logits` of the model in evaluation, for attacks; or None.
    """

    loss: Loss
    unravel: Callable[[Array], Params]
    optimizer: Callable[[Array], optax.GradientTransformation]
    steps: int | None
    batch_size: BatchSize
    divisor: float | None = None
    epochs: float | None = None
    random: bool = False
    augment: Callable[[Array, Array], Array] | None = None
    examples: HostExamples | None = None
    predict: Callable[[Params, Array, Any], Array] | None = None

    def gather(self, data: RoundData, examples: Array, key: Array | None) -> tuple[Array, Array]:
        """The inputs and labels of a batch; `key` is the step's, of which augmentation takes its own."""
        x, y = data.x[examples], data.y[examples]
        if self.augment is not None and key is not None:
            x = self.augment(x, named_key(key, "augment"))
        return x, y

    def draw(self, key: Array, table: Array, count: Array, copies: Array, largest: int) -> Batches | Passes:
        """The batches of all steps of one client; arguments as for `draw_batches`."""
        batches: Any
        how: Any = {"batch_size": self.batch_size, "largest": largest}
        if self.epochs is not None:
            batches = draw_passes(key, table, count, copies, epochs=self.epochs, **how)
        else:
            batches = draw_batches(key, table, count, copies, steps=self.steps or 1, **how)
        return with_keys(batches, key) if self.random else batches


SGD = ClientAlgorithm(lambda client, state, shared: client.descend())


class Cohort(NamedTuple):
    """The clients that train in a round.

    Attributes:
        ids: (τ,) int32.
        copies: (τ,) int32, how many copies of its examples each appends.
        poisoned: (τ,) boolean, those whose batches an attack changes.
        members: (τ,) int32, the number of each among all malicious clients.
        in_place: (τ,), the share of each batch that is poisoned in place of copies; None for copies.
    """

    ids: Array
    copies: Array
    poisoned: Array
    members: Array
    in_place: Array | None = None


class Result(NamedTuple):
    """What a cohort's training gives.

    Attributes:
        updates: (τ, d).
        losses: (τ,) mean training losses.
        model_states: the models' states, with a leading axis (τ,).
        states: what the clients keep, with a leading axis (τ,).
        messages: what they send besides, (τ, d) each.
    """

    updates: Array
    losses: Array
    model_states: Any
    states: State = ()
    messages: tuple[Array, ...] = ()


def train_clients(
    training: LocalTraining,
    params: Array,
    data: RoundData,
    cohort: Cohort,
    *,
    states: State = (),
    by_device: bool = False,
    **how: Any,
) -> Result:
    """The local training of some clients, on a mesh by every device of its share of them.

    Args:
        training: their steps.
        params: (d,).
        data: the examples and index tables.
        cohort: the clients.
        states: what the clients have kept, with a leading axis (τ,).
        by_device: whether the devices have the examples of their own clients only, and the cohort is all.
        **how: the other arguments of `_train`.

    Returns:
        The `Result`.
    """
    here = _Here(len(cohort.ids), column_devices())

    def train(cohort: Cohort, states: State, *own: Array) -> Result:
        if not own:
            return _train(training, params, data, cohort, cohort.ids, here, states=states, **how)
        of_device = data._replace(x=own[0], y=own[1], table=own[2], counts=own[3])
        rows = jnp.arange(len(own[3]))
        return _train(training, params, of_device, cohort, rows, here, states=states, **how)

    own = (data.x, data.y, data.table, data.counts) if by_device else ()
    laid: Any = COLUMNS, ROWS, ROWS, ROWS, COLUMNS
    result = over_rows(train, cohort, states, *own, laid=Result(*laid))

    def stack(columns: Array) -> Array:
        filled = columns.shape[1] > params.size  # the last device's share
        return by_columns(columns[:, : params.size] if filled else columns)

    return result._replace(updates=stack(result.updates), messages=jax.tree.map(stack, result.messages))


class _Here(NamedTuple):
    """The place of some clients' training: among how many clients and devices."""

    clients: int
    devices: int


def _train(
    training: LocalTraining,
    params: Array,
    data: RoundData,
    cohort: Cohort,
    rows: Array,
    here: _Here,
    *,
    key: Array,
    learning_rate: Array,
    clients_at_once: int,
    poison_data: Callable[..., tuple[Array, Array]] | None = None,
    most_copies: float = 0.0,
    model_state: Any = (),
    algorithm: ClientAlgorithm = SGD,
    states: State = (),
    shared: State = (),
    following: Array | None = None,
) -> Result:
    """The local training of some clients on one device.

    Args:
        training, params, data, cohort, states: as for `train_clients`.
        rows: (τ,) int32, the row of each in the index table.
        here: where; of several devices each trains its share and returns its columns of all updates.
        key: typed PRNG key; client i draws from `fold_in(key, cohort.ids[i])`.
        learning_rate: β of this round.
        clients_at_once: clients that are vmapped together.
        poison_data: of an attack, for the batches of those that are `poisoned`.
        most_copies: the largest share of its examples that a client appends as copies.
        model_state: the global model's state, from which every client starts.
        algorithm: what a client does.
        shared: what the server sends to all of them.
        following: int32, the clients whose examples are needed next, where those stay on the host.

    Returns:
        The `Result`.
    """
    if training.examples is not None:
        nobody = jnp.zeros((0,), jnp.int32)
        data = training.examples.of(data, cohort.ids, nobody if following is None else following)
        rows = jnp.arange(len(cohort.ids), dtype=jnp.int32)
    tree = training.unravel(params)
    optimizer = training.optimizer(learning_rate)
    poisons_at_random = draws(poison_data)
    drawn_in_place = cohort.in_place is not None
    training = training._replace(random=training.random or poisons_at_random or drawn_in_place)
    counts = data.counts[rows]
    width = data.table.shape[1]
    largest = width + math.ceil(most_copies * width)

    def draw(client: Array, row: Array, count: Array, extra: Array) -> Batches | Passes:
        return training.draw(jax.random.fold_in(key, client), data.table[row], count, extra, largest)

    owners = cohort.ids, rows, counts, cohort.copies
    # Those of epochs are drawn for as many clients as train at once.
    drawn = None if training.epochs is not None else jax.vmap(draw)(*owners)

    def one(
        of_data: Any, batches: Any, is_poisoned: Array, member: Array, in_place: Any, state: State
    ) -> Result:
        def mark(batch: Batches) -> Batches:
            return marked_in_place(batch, in_place)

        marks = mark if drawn_in_place else None

        def read(examples: Array, is_copy: Array, key: Array | None) -> tuple[Array, Array]:
            x, y = training.gather(data, examples, key)
            if poison_data is None:
                return x, y
            drawn: Any = {} if key is None or not poisons_at_random else {"key": named_key(key, "poison")}
            bad_x, bad_y = poison_data(x, y, is_copy, member, **drawn)
            return jnp.where(is_poisoned, bad_x, x), jnp.where(is_poisoned, bad_y, y)

        def run(loss: Any = None, **hooks: Any) -> Trained:
            return descend(
                tree,
                draw(*of_data) if batches is None else batches,
                read,
                loss=training.loss,
                optimizer=optimizer,
                divisor=training.divisor,
                model_state=model_state,
                mark=marks,
                own_loss=loss,
                **hooks,
            )

        def whole_gradient(at: Params) -> Array:
            client, row, number, extra = of_data
            passes = all_of(data.table[row], number, extra, training.batch_size, largest)
            if training.random:
                passes = with_keys(passes, named_key(jax.random.fold_in(key, client), "gradient"))
            return mean_gradient(at, passes, read, loss=training.loss, model_state=model_state, mark=marks)

        def examples(steps: int, batch_size: int) -> tuple[Array, Array, Array]:
            client, row, number, _ = of_data
            own = named_key(jax.random.fold_in(key, client), "examples")
            return _random_batches(data, row, number, own, steps, batch_size)

        def predict(at: Params, x: Array) -> Array:
            return _prediction(training, model_state)(at, x)

        client = Client(
            tree, learning_rate, training.unravel, run, whole_gradient, draw=examples, predict=predict
        )
        trained = algorithm.train(client, state, shared)
        sent = trained.update, trained.state, trained.messages
        if jax.tree.leaves((state, trained.messages)):
            # Nobody who has no examples moves what others keep of him.
            nothing = jax.tree.map(jnp.zeros_like, (trained.update, trained.messages))
            sent = jax.tree.map(
                lambda new, old: jnp.where(of_data[2] > 0, new, old), sent, (nothing[0], state, nothing[1])
            )
        return Result(sent[0], trained.loss, trained.model_state, *sent[1:])

    of_clients = owners, drawn, cohort.poisoned, cohort.members, cohort.in_place, states
    together = clients_at_once >= cohort.ids.shape[0]
    if together and here.devices == 1:
        return jax.vmap(one)(*of_clients)

    def mapped(of_clients: Any, order: Array | None = None) -> Result:
        if here.devices == 1:
            return lax.map(lambda client: one(*client), of_clients, batch_size=clients_at_once)
        return _exchanged(jax.vmap(one), of_clients, clients_at_once, here, order)

    if together or training.epochs is None:
        return mapped(of_clients)
    # Together those with about as many examples: clients that train at once wait for the one with most steps.
    order = jnp.argsort(counts + cohort.copies)
    back = jnp.argsort(order)
    result = mapped(jax.tree.map(lambda leaf: leaf[order], of_clients), order)
    # The columns of all clients are in their places already.
    kept: Any = {} if here.devices == 1 else {"updates": result.updates, "messages": result.messages}
    nothing: Any = dict.fromkeys(kept)
    unsorted: Any = jax.tree.map(lambda leaf: leaf[back], result._replace(**nothing))
    return unsorted._replace(**kept)


def _exchanged(
    train: Callable[..., Result], of_clients: Any, at_once: int, here: _Here, order: Array | None
) -> Result:
    """The training of a device's clients, whose updates go to the columns of all devices as they come.

    Args:
        train: `train(*of_clients)` of some clients at a time.
        of_clients: arrays with a leading axis (c,).
        at_once: how many clients train at a time.
        here: among how many.
        order: (c,), the place of each among the device's clients; None for their own order.

    Returns:
        The `Result`, with all clients' rows of this device's columns as `updates` and `messages`.
    """
    count = jax.tree.leaves(of_clients)[0].shape[0]
    at_once = min(at_once, count)
    places = jnp.arange(here.devices * count, dtype=jnp.int32).reshape(here.devices, count)
    if order is not None:
        places = lax.all_gather(order + lax.axis_index(CLIENTS_AXIS) * count, CLIENTS_AXIS)

    def blank(rows: Any, value: Any = 0) -> Array:
        return jnp.full((here.clients, -(-rows.shape[1] // here.devices)), value, rows.dtype)

    def chunk(stacks: Any, some: tuple[Any, Array]) -> tuple[Any, Result]:
        result, places = train(*some[0]), some[1].T
        sent = result.updates, result.messages
        if stacks is None:
            # They begin as a number of what is sent, for which they have to wait until training has freed its
            # memory; all of it is written over.
            sent = lax.optimization_barrier(sent)
            stacks = jax.tree.map(lambda rows: blank(rows, rows[-1, -1]), sent)
        stacks = jax.tree.map(lambda rows, columns: to_columns(rows, places, columns), sent, stacks)
        left: Any = {"updates": None, "messages": None}
        return stacks, result._replace(**left)

    given = of_clients, places.T
    if at_once == count:
        stacks, result = chunk(None, given)
        return result._replace(updates=stacks[0], messages=stacks[1])
    shapes: Any = jax.eval_shape(train, *jax.tree.map(lambda leaf: leaf[:1], of_clients))
    stacks = jax.tree.map(blank, (shapes.updates, shapes.messages))
    full = count - count % at_once
    chunks = jax.tree.map(lambda leaf: leaf[:full].reshape(-1, at_once, *leaf.shape[1:]), given)
    stacks, result = lax.scan(chunk, stacks, chunks)
    result = jax.tree.map(lambda leaf: leaf.reshape(full, *leaf.shape[2:]), result)
    if full < count:
        stacks, rest = chunk(stacks, jax.tree.map(lambda leaf: leaf[full:], given))
        result = jax.tree.map(lambda *each: jnp.concatenate(each), result, rest)
    return result._replace(updates=stacks[0], messages=stacks[1])


def client_updates(
    training: LocalTraining,
    params: Array,
    data: RoundData,
    *,
    client_ids: Array,
    malicious: Array,
    attack: Attack,
    attack_state: State = (),
    **how: Any,
) -> Result:
    """The local training of a round's clients, of whom the malicious ones read what the attack makes of it.

    Args:
        training: of every client.
        params: (d,).
        data: the examples and index tables.
        client_ids: (n,).
        malicious: (n,) boolean, the clients that attack in this round.
        attack: its data poisoning applies to the malicious clients' batches.
        attack_state: of the attack.
        **how: the other arguments of `train_clients`.

    Returns:
        The `Result`.
    """
    counts = data.counts[client_ids]
    # Of all malicious clients; `malicious` holds those that attack in this round.
    members = jnp.searchsorted(data.attacker_ids, client_ids).astype(jnp.int32)
    shares = attack.copies if attack.share is None else jax.vmap(attack.share)(members)
    copies, in_place = jnp.where(malicious, num_copies(shares, counts), 0), None
    if attack.in_place:
        copies, in_place = jnp.zeros_like(counts), jnp.where(malicious, shares, 0.0)
    return train_clients(
        training,
        params,
        data,
        Cohort(client_ids, copies, malicious, members, in_place),
        poison_data=_told(attack.poison_data, training, params, attack_state, how.get("model_state", ())),
        most_copies=0.0 if attack.in_place else attack.copies,
        **how,
    )


def _told(
    poison_data: Callable[..., Any] | None, training: LocalTraining, params: Array, state: State, seen: Any
) -> Callable[..., Any] | None:
    """What an attack does to examples, with those arguments that are the same for all clients."""
    if poison_data is None:
        return None
    told: dict[str, Any] = {}
    if asks(poison_data, "state"):
        told["state"] = state
    if asks(poison_data, "predict"):
        told["predict"] = partial(_prediction(training, seen), training.unravel(params))
    return partial(poison_data, **told) if told else poison_data


def _prediction(training: LocalTraining, model_state: Any) -> Callable[[Params, Array], Array]:
    """The model in evaluation, `(params, x) -> logits`."""
    predict = training.predict
    if predict is None:
        raise ValueError("the attack asks for the model's predictions, which this training does not provide")
    return lambda params, x: predict(params, x, model_state)


def _random_batches(
    data: RoundData, row: Array, count: Array, key: Array, steps: int, batch_size: int
) -> tuple[Array, Array, Array]:
    """Random batches of the `count` examples in a row of the table: inputs, labels, and which are real."""
    table = data.table[row]
    batches = draw_batches(
        key, table, count, jnp.int32(0), steps=steps, batch_size=batch_size, largest=table.shape[0]
    )
    return data.x[batches.examples], data.y[batches.examples], batches.weights


def prepared(
    training: LocalTraining,
    data: RoundData,
    *,
    attack: Attack,
    state: State,
    context: Context,
    malicious: Array,
    learning_rate: Array,
    model_state: Any,
) -> State:
    """The attack's state after what attackers do before anybody trains, in rounds that have any.

    Args:
        training: of honest clients.
        data: the examples and index tables.
        attack: with its `prepare`.
        state: of the attack, before the round.
        context: the round, with a key for this.
        malicious: (n,) boolean, the clients that attack in this round.
        learning_rate: β of honest clients.
        model_state: the model's state.
    """
    known: Any = context
    prepare: Any = attack.prepare

    def draw(row: Any, key: Any, steps: int, batch_size: int) -> tuple[Array, Array, Array]:
        client, held = known.client_ids[row], data
        place = client
        if training.examples is not None:
            held = training.examples.of(data, client[None], jnp.zeros((0,), jnp.int32))
            place = jnp.int32(0)
        return _random_batches(held, place, held.counts[place], key, steps, batch_size)

    attackers = Attackers(
        context=context,
        malicious=malicious,
        params=training.unravel(known.params),
        predict=_prediction(training, model_state),
        draw=draw,
        learning_rate=learning_rate,
    )
    return lax.cond(jnp.any(malicious), lambda: prepare(state, attackers), lambda: state)


def without_poison(attack: Attack) -> Attack:
    """The attack without what it does to examples."""
    return attack._replace(poison_data=None, copies=0.0, in_place=False, share=None)


def attackers_updates(
    training: LocalTraining,
    params: Array,
    data: RoundData,
    honest: Result,
    *,
    client_ids: Array,
    malicious: Array,
    attack: Attack,
    local: LocalAttack,
    state: State,
    context: Context,
    max_malicious: int | None,
    learning_rate: Array,
    **how: Any,
) -> Result:
    """The local training of a round, with malicious clients trained in their own way in place of honestly.

    Args:
        training: of honest clients.
        params: (d,).
        data: the examples and index tables.
        honest: the training of all clients on their own examples.
        client_ids: (n,).
        malicious: (n,) boolean, the clients that attack in this round; a round without any trains nobody.
        attack: whose data poisoning applies to the malicious clients' batches.
        local: its training.
        state: the attack's state before the round.
        context: the round, as attackers know it.
        max_malicious: as many malicious clients train at most; None for n.
        learning_rate: β of honest clients.
        **how: the other arguments of `train_clients`.

    Returns:
        The `Result` with other updates and model states in the malicious rows.
    """
    own = training._replace(
        loss=training.loss if local.loss is None else local.loss(training.loss),
        batch_size=training.batch_size if local.batch_size is None else local.batch_size,
    )
    if local.steps is not None or local.epochs is not None:
        own = own._replace(steps=local.steps, epochs=local.epochs)
    rate = learning_rate if local.learning_rate is None else jnp.asarray(local.learning_rate)
    told = state if local.gather is None else local.gather(honest.updates, malicious, state)
    train = local.train

    def attacker(client: Client, honest_update: Array, known: tuple[State, Context]) -> Trained:
        return train(client, honest_update, *known)._replace(state=honest_update)

    n = client_ids.shape[0]
    rows = jnp.nonzero(malicious, size=n if max_malicious is None else min(max_malicious, n), fill_value=n)[0]

    def of_rows(leaf: Array) -> Array:
        return leaf.at[rows].get(mode="clip")

    sent = honest.updates, honest.model_states

    def trained() -> tuple[Array, Any]:
        result = client_updates(
            own,
            params,
            data,
            client_ids=of_rows(client_ids),
            malicious=of_rows(malicious),
            attack=attack,
            attack_state=state,
            learning_rate=rate,
            algorithm=ClientAlgorithm(attacker),
            states=of_rows(honest.updates),
            shared=(told, context),
            **how,
        )
        return result.updates, result.model_states

    replaced = lax.cond(jnp.any(malicious), trained, lambda: jax.tree.map(of_rows, sent))
    updates, model_states = jax.tree.map(
        lambda leaf, other: leaf.at[rows].set(other, mode="drop"), sent, replaced
    )
    return honest._replace(updates=updates, model_states=model_states)


def root_update(
    training: LocalTraining,
    params: Array,
    data: RoundData,
    *,
    key: Array,
    learning_rate: Array,
    model_state: Any = (),
    by_device: bool = False,
) -> Array:
    """The server's own update g_0 on the root dataset, (d,); arguments as for `train_clients`.

    On a mesh every device computes it; those that have examples of their own all have the root dataset's.
    """
    size = data.root.shape[0]
    count = jnp.int32(size) if data.root_count is None else data.root_count

    def train(x: Array, y: Array) -> Array:
        here = data._replace(x=x, y=y)
        return descend(
            training.unravel(params),
            training.draw(key, data.root, count, jnp.int32(0), size),
            lambda examples, is_copy, key: training.gather(here, examples, key),
            loss=training.loss,
            optimizer=training.optimizer(learning_rate),
            divisor=training.divisor,
            model_state=model_state,
        ).update

    if by_device:
        return over_rows(train, data.x, data.y, laid=WHOLE)
    return replicated(train(data.x, data.y))
