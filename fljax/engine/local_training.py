"""Local training: R steps of an optimizer from the global model, for one client, for many, for the server."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax
from jax.flatten_util import ravel_pytree

from fljax.base import Attack, Params
from fljax.engine.batches import Batches, BatchSize, draw_batches, num_copies, with_keys
from fljax.engine.objectives import Loss
from fljax.engine.state import RoundData


def model_update(
    params: Params,
    batches: Batches,
    read: Callable[[Array, Array], tuple[Array, Array]],
    *,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    divisor: float | None = None,
    model_state: Any = (),
) -> tuple[Array, Array, Any]:
    """The change that R optimizer steps make to the model, ModelUpdate(w, D, b, β, R).

    Args:
        params: w, a pytree.
        batches: arrays (R, b).
        read: `(examples, is_copy) -> (x, y)`, the batch that consists of these examples.
        loss: as `cross_entropy` returns it.
        optimizer: any optax optimizer, started afresh.
        divisor: of the summed loss of a batch; None for the number of its examples.
        model_state: the model's state before the first step; every step changes it as it sees its batch.

    Returns:
        The update (d,), the mean loss over the R batches, and the model's state after them.
    """
    gradient = jax.value_and_grad(loss, has_aux=True)

    def step(
        carry: tuple[Params, Any, Params, Any], batch: Batches
    ) -> tuple[tuple[Params, Any, Params, Any], Array]:
        delta, state, here, seen = carry
        x, y = read(batch.examples, batch.is_copy)
        (value, seen), grads = gradient(here, seen, x, y, batch.weights, divisor, batch.key)
        change, state = optimizer.update(grads, state, here)
        # The change is summed on its own: w_R − w would lose its last digits to the size of w.
        delta = jax.tree.map(jnp.add, delta, change)
        return (delta, state, jax.tree.map(jnp.add, params, delta), seen), value

    # The first step is written out, since in it all clients share the weights: under vmap its products with
    # them stay unbatched. Inside a scan they would be copied per client.
    start = (jax.tree.map(jnp.zeros_like, params), optimizer.init(params), params, model_state)
    carry, first = step(start, jax.tree.map(lambda a: a[0], batches))
    steps = batches.weights.shape[0]
    total = first
    if steps > 1:
        carry, values = lax.scan(step, carry, jax.tree.map(lambda a: a[1:], batches))
        total = first + jnp.sum(values)
    return ravel_pytree(carry[0])[0], total / steps, carry[3]


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
    for leaf in jax.tree.leaves(states):
        counted &= jnp.all(jnp.isfinite(leaf.reshape(leaf.shape[0], -1)), axis=1)
    # The weights first: a sum could overflow.
    weights = counted / jnp.maximum(jnp.sum(counted), 1)

    def mean(leaf: Array, old: Array) -> Array:
        column = (-1,) + (1,) * (leaf.ndim - 1)
        kept = jnp.where(counted.reshape(column), leaf, 0)
        total = jnp.sum(weights.reshape(column) * kept, axis=0)
        if not jnp.issubdtype(old.dtype, jnp.inexact):
            total = jnp.round(total)  # a counter that all clients agree on
        return jnp.where(jnp.any(counted), total, old).astype(old.dtype)

    return jax.tree.map(mean, states, before)


class LocalTraining(NamedTuple):
    """The local training of a client, or of the server.

    Attributes:
        loss: as `cross_entropy` returns it.
        unravel: (d,) to the parameter pytree.
        optimizer: learning rate to an optax optimizer.
        steps: R, local steps a round.
        batch_size: b, or "full".
        divisor: of the summed loss of a batch; None for the number of its examples.
        random: whether a local step draws anything besides its examples.
    """

    loss: Loss
    unravel: Callable[[Array], Params]
    optimizer: Callable[[Array], optax.GradientTransformation]
    steps: int
    batch_size: BatchSize
    divisor: float | None = None
    random: bool = False


def client_updates(
    training: LocalTraining,
    params: Array,
    data: RoundData,
    *,
    client_ids: Array,
    malicious: Array,
    key: Array,
    learning_rate: Array,
    attack: Attack,
    clients_at_once: int,
    model_state: Any = (),
) -> tuple[Array, Array, Any]:
    """The updates of a cohort, some clients at a time.

    Args:
        training: the training of a client.
        params: (d,).
        data: the examples and index tables.
        client_ids: (n,).
        malicious: (n,) boolean, the clients that attack in this round.
        key: typed PRNG key; client i draws from `fold_in(key, client_ids[i])`.
        learning_rate: β of this round.
        attack: its data poisoning applies to the malicious clients' batches.
        clients_at_once: clients that are vmapped together.
        model_state: the global model's state, from which every client starts.

    Returns:
        (n, d) updates, (n,) mean training losses and the model's state after the round (`mean_state`).
    """
    tree = training.unravel(params)
    optimizer = training.optimizer(learning_rate)
    counts = data.counts[client_ids]
    # Of all malicious clients; `malicious` holds those that attack in this round.
    members = (jnp.cumsum(data.malicious) - 1)[client_ids].astype(jnp.int32)
    shares = attack.copies if attack.share is None else jax.vmap(attack.share)(members)
    copies = jnp.where(malicious, num_copies(shares, counts), 0)
    width = data.table.shape[1]
    largest = width + math.ceil(attack.copies * width)

    def draw(client: Array, count: Array, extra: Array) -> Batches:
        own = jax.random.fold_in(key, client)
        batches = draw_batches(
            own,
            data.table[client],
            count,
            extra,
            steps=training.steps,
            batch_size=training.batch_size,
            largest=largest,
        )
        return with_keys(batches, own) if training.random else batches

    batches = jax.vmap(draw)(client_ids, counts, copies)

    def one(batches: Batches, is_malicious: Array, member: Array) -> tuple[Array, Array, Any]:
        def read(examples: Array, is_copy: Array) -> tuple[Array, Array]:
            x, y = data.x[examples], data.y[examples]
            if attack.poison_data is None:
                return x, y
            bad_x, bad_y = attack.poison_data(x, y, is_copy, member)
            return jnp.where(is_malicious, bad_x, x), jnp.where(is_malicious, bad_y, y)

        return model_update(
            tree,
            batches,
            read,
            loss=training.loss,
            optimizer=optimizer,
            divisor=training.divisor,
            model_state=model_state,
        )

    if clients_at_once >= client_ids.shape[0]:
        updates, losses, states = jax.vmap(one)(batches, malicious, members)
    else:
        updates, losses, states = lax.map(
            lambda client: one(*client), (batches, malicious, members), batch_size=clients_at_once
        )
    return updates, losses, mean_state(states, counts > 0, model_state)


def root_update(
    training: LocalTraining,
    params: Array,
    data: RoundData,
    *,
    key: Array,
    learning_rate: Array,
    model_state: Any = (),
) -> Array:
    """The server's own update g_0 on the root dataset, (d,); arguments as for `client_updates`."""
    size = data.root.shape[0]
    batches = draw_batches(
        key,
        data.root,
        jnp.int32(size) if data.root_count is None else data.root_count,
        jnp.int32(0),
        steps=training.steps,
        batch_size=training.batch_size,
        largest=size,
    )
    update, _, _ = model_update(
        training.unravel(params),
        with_keys(batches, key) if training.random else batches,
        lambda examples, is_copy: (data.x[examples], data.y[examples]),
        loss=training.loss,
        optimizer=training.optimizer(learning_rate),
        divisor=training.divisor,
        model_state=model_state,
    )
    return update
