"""A backdoor in the few tensors of a model that it needs, everything else honest."""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.flatten_util import ravel_pytree

from fljax.attacks.layers import crafted, critical
from fljax.attacks.registry import register_attack
from fljax.attacks.training import backdoored, local_attack
from fljax.attacks.wrappers import from_factory
from fljax.base import Attack, Client, Context, Params, State, Task, Trained
from fljax.numerics.checks import ArgumentError, option, real, whole
from fljax.numerics.subset_statistics import known_rows, mean_of


class _Known(NamedTuple):
    """The attack's state, and the attackers' mean honest update (d,) where it is sent."""

    state: State
    mean: Array | None


@register_attack(
    title="LP attack",
    source="Zhuang et al. 2024",
    assumes="own data",
    optimises="backdoor",
    make=from_factory,
    streams=True,
)
def layer_backdoor(
    *,
    num_classes: int | None = None,
    image_shape: tuple[int, int, int] | None = None,
    threshold: float | Array = 0.8,
    factor: float | Array = 1.0,
    elsewhere: Literal["own", "mean"] = "own",
    examples: int = 256,
    backdoor: Attack | None = None,
    steps: int | None = None,
    epochs: float | None = None,
    learning_rate: float | Array | None = None,
) -> Attack:
    """Layer-wise poisoning (LP): a backdoor in the tensors that it depends on, honest values in all others.

    A malicious client trains honestly to u_b and on poisoned data to u_m. With S(u) the success of the
    backdoor at w + u on its own examples, tensor l is ranked by how much S(u_m) loses once l is taken from
    u_b. In this order, of equal ones the first in the model, tensors of u_m are put into u_b until the
    success is at least τ S(u_m). In those tensors the client sends λ u_m + max(0, 1 − λ) u_c, elsewhere u_c.

    Args:
        num_classes, image_shape: of the task, for the backdoor.
        threshold: τ, between 0 and 1.
        factor: λ ≥ 0.
        elsewhere: u_c, the client's own u_b, or the "mean" of the u_b of all malicious clients in the round.
        examples: how many of its own examples it measures the success on, at most.
        backdoor: the attack whose data malicious clients train on, in a configuration a table with a name;
            None for `badnets`.
        steps, epochs: local steps, or passes over their own examples, of malicious clients; None for those of
            honest clients.
        learning_rate: β of malicious clients; None for that of honest clients.

    Returns:
        The `Attack`, with the backdoor's `Trigger`. It runs the model 2 L + 1 times on the examples, L being
        the number of tensors.

    Raises:
        ValueError: if a number is out of range, `elsewhere` is neither, or `backdoor` is none or has no
            trigger.

    Example:
        >>> attack = layer_backdoor(image_shape=(8, 8, 1), threshold=0.95)
        >>> attack.trigger.target
        0

    Source: Zhuang et al., "Backdoor federated learning by poisoning backdoor-critical layers", ICLR 2024
    (τ = 0.8; λ = 1 on CIFAR-10, 0.5 elsewhere). The authors measure the success on a quarter of all
    attackers' examples, which they do not train on. Their adaptive form, which drops tensors until a
    simulated Multi-Krum takes the update, is not here.
    """
    threshold = real("threshold", threshold, at_least=0, at_most=1)
    factor = real("factor", factor, at_least=0, finite=True)
    option("elsewhere", elsewhere, ("own", "mean"))
    size = whole("examples", examples, smallest=1)
    made = backdoored(backdoor, Task(num_classes, image_shape=image_shape))
    trigger = made.trigger
    if trigger is None or trigger.examples is not None:
        raise ArgumentError("backdoor must have a trigger to embed")

    def gather(updates: Array, malicious: Array, state: State) -> _Known:
        return _Known(state, mean_of(known_rows(malicious, "partial"), updates))

    def train(client: Client, honest: Array, known: _Known | State, context: Context) -> Trained:
        state, mean = known if isinstance(known, _Known) else (known, None)
        trained = client.descend()
        if client.draw is None or client.predict is None:
            raise ArgumentError("needs the model's predictions, which this round does not provide")
        x, y, weights = (part[0] for part in client.draw(1, size))
        marked, wanted = trigger.embedded(x, state), trigger.wanted(y)
        counted = (weights > 0) & trigger.counted(y)
        predict = client.predict

        def success(update: Params) -> Array:
            answers = jnp.argmax(predict(jax.tree.map(jnp.add, client.params, update), marked), axis=-1)
            return jnp.sum(counted & (answers == wanted)) / jnp.maximum(jnp.sum(counted), 1)

        benign, bad = client.unravel(honest), client.unravel(trained.update)
        chosen = critical(success, benign, bad, threshold)
        center = benign if mean is None else client.unravel(mean)
        sent = crafted(bad, center, chosen, factor)
        return trained._replace(update=ravel_pytree(sent)[0])

    training = local_attack(train, steps=steps, epochs=epochs, learning_rate=learning_rate)
    return made._replace(train=training._replace(gather=gather if elsewhere == "mean" else None))
