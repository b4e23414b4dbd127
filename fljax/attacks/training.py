"""The part that attacks on local training share: a backdoor's data, steps of their own, and balls."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.lax import Precision

from fljax.attacks._badnets import badnets
from fljax.attacks.wrappers import NO_ATTACK, leave, no_state
from fljax.base import Attack, Attackers, Knowledge, LocalAttack, Params, State, Task, Trigger, asks
from fljax.numerics.checks import ArgumentError, fixed_real, real, whole

# The updates before an attack's data have had their own way with them, and the attack's state.
Send = Callable[[Array, Array, State, Knowledge], tuple[Array, State]]


def local_attack(
    train: Callable[..., Any],
    *,
    steps: int | None = None,
    epochs: float | None = None,
    learning_rate: float | Array | None = None,
) -> LocalAttack:
    """A `LocalAttack` with checked arguments.

    Args:
        train: as in `LocalAttack`.
        steps: local steps a round; None for the honest clients'.
        epochs: passes over the examples instead.
        learning_rate: β of malicious clients; None for the honest clients'.

    Raises:
        ValueError: if a number is out of range, or both `steps` and `epochs` are given.
    """
    if steps is not None and epochs is not None:
        raise ArgumentError(f"steps={steps} and epochs={epochs} exclude each other")
    return LocalAttack(
        train,
        steps=None if steps is None else whole("steps", steps, smallest=1),
        epochs=None if epochs is None else fixed_real("epochs", epochs, above=0, finite=True),
        learning_rate=None
        if learning_rate is None
        else real("learning_rate", learning_rate, at_least=0, finite=True),
    )


def backdoored(
    backdoor: Attack | None,
    task: Task,
    *,
    init: Callable[[int, int], State] = no_state,
    send: Send = leave,
) -> Attack:
    """An attack whose clients train as honest ones do on what a backdoor makes of their data.

    Args:
        backdoor: whose data and trigger are taken; what it does to updates comes after `send`. None for
            `badnets`.
        task: for `badnets`.
        init: the state before the first round.
        send: what becomes of the trained updates, `(updates, malicious, state, knowledge) -> (updates,
            state)`.

    Raises:
        ValueError: if `backdoor` poisons no data, trains in its own way or has a schedule.
    """
    if backdoor is None:
        backdoor = badnets(num_classes=task.num_classes, image_shape=task.image_shape)
    if backdoor.poison_data is None or backdoor.train is not None or backdoor.active is not None:
        raise ArgumentError(
            "backdoor must be an attack that poisons data and trains as honest clients do, such as badnets"
        )
    data = backdoor

    def both(num_clients: int, num_params: int) -> State:
        return init(num_clients, num_params), data.init(num_clients, num_params)

    def corrupt(updates: Array, malicious: Array, state: State, knowledge: Knowledge) -> tuple[Array, State]:
        updates, own = send(updates, malicious, state[0], knowledge)
        updates, inner = data.corrupt(updates, malicious, state[1], knowledge)
        return updates, (own, inner)

    inner_prepare: Any = data.prepare

    def prepare(state: State, attackers: Attackers) -> State:
        return state[0], inner_prepare(state[1], attackers)

    def seen(trigger: Trigger) -> Trigger:
        return trigger._replace(embed=_of_inner(trigger.embed))

    return data._replace(
        init=both,
        corrupt=corrupt,
        poison_data=_of_inner(data.poison_data),
        prepare=None if data.prepare is None else prepare,
        trigger=None if data.trigger is None else seen(data.trigger),
        triggers={name: seen(trigger) for name, trigger in data.triggers.items()},
    )


def _of_inner(function: Any) -> Any:
    """The same function, whose `state` is the second of two."""
    if not asks(function, "state"):
        return function

    @wraps(function)
    def call(*args: Any, state: State, **told: Any) -> Any:
        return function(*args, state=state[1], **told)

    return call


def trained_on(backdoor: Attack | None, training: LocalAttack, task: Task, **how: Any) -> Attack:
    """An attack whose clients train in their own way on what a backdoor makes of their data.

    Args:
        backdoor: as for `backdoored`.
        training: the training; its `train` gets the state that `init` made.
        task: for `badnets`.
        **how: `init` and `send`, as for `backdoored`.

    Raises:
        ValueError: as `backdoored`.
    """
    own_train = training.train

    def train(client: Any, honest: Array, state: State, context: Any) -> Any:
        return own_train(client, honest, state[0], context)

    return backdoored(backdoor, task, **how)._replace(train=training._replace(train=train))


def on_own_data(training: LocalAttack) -> Attack:
    """An attack whose clients train in their own way on their honest data."""
    return NO_ATTACK._replace(train=training)


def tree_norm(tree: Params) -> Array:
    """The Euclidean norm of all entries of a pytree, without overflow; NaN if one of them is."""
    leaves = jax.tree.leaves(tree)
    largest = jnp.max(jnp.stack([jnp.max(jnp.abs(leaf), initial=0.0) for leaf in leaves]))
    scale = jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1.0)
    return scale * jnp.sqrt(sum(jnp.sum(jnp.square(leaf / scale)) for leaf in leaves))


def direction(tree: Params) -> Params:
    """The gradient of the Euclidean norm: a pytree at length 1, 0 where it is 0."""
    norm = tree_norm(tree)
    scale = jnp.where(norm > 0, norm, 1.0)
    return jax.tree.map(lambda leaf: jnp.where(norm > 0, leaf / scale, 0.0), tree)


def cosine(one: Params, other: Params) -> Array:
    """The cosine of two pytrees as vectors, 0 where one of them is 0."""
    ones, others = direction(one), direction(other)
    products = jax.tree.map(lambda a, b: jnp.vdot(a, b, precision=Precision.HIGHEST), ones, others)
    return jnp.asarray(sum(jax.tree.leaves(products)))


def cross_entropy(logits: Array, labels: Array, weights: Array) -> Array:
    """The mean cross-entropy of the examples that count, scalar."""
    losses = -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1)[:, 0]
    return jnp.sum(jnp.where(weights > 0, losses, 0.0)) / jnp.maximum(jnp.sum(weights > 0), 1)


def into_ball(delta: Params, norm: float | Array) -> Params:
    """A pytree no longer than `norm`: shortened where it is longer, 0 where it is not finite."""
    size = tree_norm(delta)
    factor = jnp.where(size > norm, norm / jnp.where(size > 0, size, 1.0), 1.0)
    finite = jnp.isfinite(size)
    return jax.tree.map(lambda leaf: jnp.where(finite, factor * leaf, 0.0), delta)
