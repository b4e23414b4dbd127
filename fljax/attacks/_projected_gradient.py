"""A backdoor trained inside a ball around the global model."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import Array

from fljax.attacks.registry import register_attack
from fljax.attacks.training import into_ball, local_attack, trained_on
from fljax.attacks.wrappers import from_factory
from fljax.base import Attack, Client, Context, Knowledge, Params, State, Task, Trained
from fljax.numerics.checks import flag, option, real, whole
from fljax.numerics.subset_statistics import replaced


def by_examples(
    updates: Array, malicious: Array, weights: Array | None, server_lr: float | Array = 1.0
) -> Array:
    """Malicious rows enlarged by what an average by numbers of examples divides them by, shared among them.

    g'_i = Σ_j w_j / (α m w_i) · g_i for malicious i.
    """
    weights = jnp.ones(updates.shape[:1]) if weights is None else weights
    most = server_lr * jnp.maximum(jnp.sum(malicious), 1) * jnp.maximum(weights, 1.0)
    factors = (jnp.sum(weights) / most).astype(updates.dtype)
    return replaced(updates, malicious, lambda rows, own: own[:, None] * rows, factors)


@register_attack(
    title="PGD backdoor",
    source="Wang et al. 2020",
    assumes="own data, the norm bound",
    optimises="backdoor",
    make=from_factory,
    streams=True,
)
def projected_gradient(
    *,
    num_classes: int | None = None,
    image_shape: tuple[int, int, int] | None = None,
    norm: float | Array,
    ball: Literal["l2", "linf"] = "l2",
    every: int = 1,
    replacement: bool = False,
    server_lr: float | Array = 1.0,
    backdoor: Attack | None = None,
    steps: int | None = None,
    epochs: float | None = None,
    learning_rate: float | Array | None = None,
) -> Attack:
    """Projected gradient descent: a backdoor trained inside a ball around the global model.

    With w' = w + δ the local model, after every k-th local step and after the last one

        δ ← δ · min(1, ε / ‖δ‖) ("l2"), or δ ← clip(δ, −ε, ε) ("linf").

    With `replacement` malicious client i sends Σ_j n_j / (α m n_i) · δ, where n_j are the numbers of examples
    in the round and m malicious clients share the work: the ball is that of the model, not of what is sent.

    Args:
        num_classes, image_shape: of the task, for the backdoor.
        norm: ε ≥ 0, in the unit of the parameters; a server that clips updates names it.
        ball: the ball's norm.
        every: k, steps from one projection to the next.
        replacement: whether the update is enlarged to replace the model.
        server_lr: α, the server's learning rate, for the replacement.
        backdoor: the attack whose data malicious clients train on, in a configuration a table with a name;
            None for `badnets`.
        steps, epochs: local steps, or passes over their own examples, of malicious clients; None for those of
            honest clients.
        learning_rate: β of malicious clients; None for that of honest clients.

    Returns:
        The `Attack`, with the backdoor's `Trigger`.

    Raises:
        ValueError: if a number is out of range or `backdoor` is none.

    Example:
        >>> attack = projected_gradient(image_shape=(8, 8, 1), norm=2.0, every=10)
        >>> attack.trigger.target, attack.train.steps is None
        (0, True)

    Source: Wang et al., "Attack of the tails: yes, you really can backdoor federated learning", NeurIPS 2020
    (ε = 2, k = 10); a ball of the server's clipping bound: Sun et al., "Can you really backdoor federated
    learning?", 2019. The optimizer's memory is not projected, as in the authors' code. Their "linf" takes
    steps of 0.001 by the sign instead of the optimizer's; with Krum their ε shrinks by 0.998 a round.
    FLPoison counts epochs, not steps.
    """
    norm = real("norm", norm, at_least=0, finite=True)
    server_lr = real("server_lr", server_lr, above=0, finite=True)
    every = whole("every", every, smallest=1)
    flag("replacement", replacement)
    option("ball", ball, ("l2", "linf"))

    def inside(delta: Params) -> Params:
        if ball == "l2":
            return into_ball(delta, norm)
        return jax.tree.map(lambda leaf: jnp.clip(jnp.nan_to_num(leaf), -norm, norm), delta)

    def project(delta: Params, step: Array) -> Params:
        if every == 1:
            return inside(delta)
        due = (step + 1) % every == 0
        return jax.tree.map(lambda new, old: jnp.where(due, new, old), inside(delta), delta)

    def train(client: Client, honest: Array, state: State, context: Context) -> Trained:
        trained = client.descend(project=project)
        return trained._replace(update=inside(trained.update))

    def send(updates: Array, malicious: Array, state: State, knowledge: Knowledge) -> tuple[Any, State]:
        if not replacement:
            return updates, state
        return by_examples(updates, malicious, knowledge.context.weights, server_lr), state

    training = local_attack(train, steps=steps, epochs=epochs, learning_rate=learning_rate)
    return trained_on(backdoor, training, Task(num_classes, image_shape=image_shape), send=send)
