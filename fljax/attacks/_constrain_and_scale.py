"""A backdoor trained to stay inconspicuous, then enlarged to replace the model."""

from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jax import Array

from fljax.attacks._train_and_scale import enlarged, within
from fljax.attacks.registry import register_attack
from fljax.attacks.training import cosine, direction, local_attack, trained_on, tree_norm
from fljax.attacks.wrappers import from_factory
from fljax.base import Attack, Client, Context, Knowledge, Params, State, Task, Trained
from fljax.numerics.checks import option, real

Anomaly = Literal["l2", "cosine", "benign"]


@register_attack(
    title="Constrain and scale",
    source="Bagdasaryan et al. 2020",
    assumes="own data, n and α",
    optimises="backdoor",
    make=from_factory,
    streams=True,
)
def constrain_and_scale(
    *,
    num_classes: int | None = None,
    image_shape: tuple[int, int, int] | None = None,
    alpha: float | Array = 0.5,
    anomaly: Anomaly = "l2",
    factor: float | Array | None = None,
    bound: float | Array | None = None,
    server_lr: float | Array = 1.0,
    backdoor: Attack | None = None,
    steps: int | None = None,
    epochs: float | None = None,
    learning_rate: float | Array | None = None,
) -> Attack:
    """Constrain and scale: a backdoor trained with a term against being found, then enlarged.

    Malicious clients minimise a · L_class + (1 − a) · L_ano, with L_class the clients' loss on examples and
    poisoned copies, and for the local model w' = w + δ

        L_ano = ‖δ‖ ("l2"), 1 − cos(w', w) ("cosine"), or ‖δ − δ_b‖ ("benign"),

    where δ_b is the update that the client would send honestly. It sends γ δ, γ = n / (α m) (see
    `replace_model`) or `factor`. With a `bound` S, γ is at most S / ‖δ‖ (see
    `train_and_scale`).

    Args:
        num_classes, image_shape: of the task, for the backdoor.
        alpha: a, between 0 and 1; with 1 there is no anomaly term.
        anomaly: what a defence is expected to look at.
        factor: γ; None for n / (α m).
        bound: S, the largest norm of what is sent; None for no bound.
        server_lr: α, the server's learning rate.
        backdoor: the attack whose data malicious clients train on, in a configuration a table with a name;
            None for `badnets`.
        steps, epochs: local steps, or passes over their own examples, of malicious clients; None for those of
            honest clients.
        learning_rate: β of malicious clients; None for that of honest clients.

    Returns:
        The `Attack`, with the backdoor's `Trigger`.

    Raises:
        ValueError: if a number is out of range, or `anomaly` or `backdoor` is none.

    Example:
        >>> attack = constrain_and_scale(image_shape=(8, 8, 1), alpha=0.7, bound=3.0)
        >>> attack.trigger.target
        0

    Source: Bagdasaryan et al., "How to backdoor federated learning", AISTATS 2020, section 4.3 and algorithm
    1; a = 0.5 is this library's choice. All configurations that the authors released, and DBA's, have a = 1
    and so no anomaly term. FLPoison takes its cosine without a gradient; FedML has train and scale alone.
    """
    alpha = real("alpha", alpha, at_least=0, at_most=1)
    option("anomaly", anomaly, get_args(Anomaly))
    gamma = None if factor is None else real("factor", factor, finite=True)
    most = None if bound is None else real("bound", bound, at_least=0, finite=True)
    server_lr = real("server_lr", server_lr, above=0, finite=True)

    def train(client: Client, honest: Array, state: State, context: Context) -> Trained:
        benign = client.unravel(honest)

        def gradient(grads: Params, delta: Params, step: Array) -> Params:
            if anomaly == "cosine":
                slope = _against_cosine(client.params, delta)
            elif anomaly == "benign":
                slope = direction(jax.tree.map(jnp.subtract, delta, benign))
            else:
                slope = direction(delta)
            return jax.tree.map(lambda own, other: alpha * own + (1 - alpha) * other, grads, slope)

        return client.descend(gradient=gradient)

    def send(updates: Array, malicious: Array, state: State, knowledge: Knowledge) -> tuple[Array, State]:
        sent = enlarged(updates, malicious, gamma, server_lr)
        return sent if most is None else within(sent, malicious, most), state

    training = local_attack(train, steps=steps, epochs=epochs, learning_rate=learning_rate)
    return trained_on(backdoor, training, Task(num_classes, image_shape=image_shape), send=send)


def _against_cosine(params: Params, delta: Params) -> Params:
    """The gradient of 1 − cos(w + δ, w) in δ: −(ŵ − cos · ŵ') / ‖w'‖, 0 where a norm is."""
    local = jax.tree.map(jnp.add, params, delta)
    here, there, size = direction(local), direction(params), tree_norm(local)
    similarity = cosine(local, params)
    scale = jnp.where(size > 0, size, 1.0)
    return jax.tree.map(
        lambda mine, other: jnp.where(size > 0, (similarity * mine - other) / scale, 0.0), here, there
    )
