"""Honest and malicious steps by turns."""

import jax
import jax.numpy as jnp
from jax import Array

from fljax.attacks.registry import register_attack
from fljax.attacks.training import local_attack, trained_on
from fljax.attacks.wrappers import from_factory
from fljax.base import Attack, Client, Context, Params, State, Task, Trained
from fljax.numerics.checks import ArgumentError, real, whole


@register_attack(
    title="Alternating minimisation",
    source="Bhagoji et al. 2019",
    assumes="own data, n",
    optimises="backdoor",
    make=from_factory,
    streams=True,
)
def alternating_minimisation(
    *,
    num_classes: int | None = None,
    image_shape: tuple[int, int, int] | None = None,
    factor: float | Array | None = None,
    strength: float | Array = 1e-4,
    benign_steps: int = 10,
    loops: int = 5,
    backdoor: Attack | None = None,
    learning_rate: float | Array | None = None,
) -> Attack:
    """Alternating minimisation: stealthy steps on honest examples, then a boosted one on poisoned copies.

    With δ_b the update that it would send honestly, a malicious client repeats l times: s steps on its own
    examples with the loss L + ρ/2 ‖δ − δ_b‖², then one step on its poisoned copies, whose change counts λ
    times.

    Args:
        num_classes, image_shape: of the task, for the backdoor.
        factor: λ; None for n, the number of clients in the round.
        strength: ρ ≥ 0, of the distance from the honest update.
        benign_steps: s, at least 0.
        loops: l, at least 1; malicious clients make l (s + 1) steps, whatever honest ones make.
        backdoor: the attack whose data malicious clients train on, in a configuration a table with a name;
            None for `badnets`. A step takes the part of a batch that it is about.
        learning_rate: β of malicious clients; None for that of honest clients.

    Returns:
        The `Attack`, with the backdoor's `Trigger`.

    Raises:
        ValueError: if a number is out of range or `backdoor` is none.

    Example:
        >>> attack = alternating_minimisation(image_shape=(8, 8, 1), benign_steps=2, loops=4)
        >>> attack.train.steps
        12

    Source: Bhagoji et al., "Analyzing federated learning through an adversarial lens", ICML 2019, section
    3.3 (ρ = 1e-4, s = 10, λ = n = 10). The authors constrain and boost weights but not biases. FLPoison has
    one phase of each kind, and a distance without a gradient.
    """
    boost = None if factor is None else real("factor", factor, finite=True)
    strength = real("strength", strength, at_least=0, finite=True)
    benign_steps = whole("benign_steps", benign_steps)
    loops = whole("loops", loops, smallest=1)

    def poisons(step: Array) -> Array:
        return step % (benign_steps + 1) == benign_steps

    def train(client: Client, honest: Array, state: State, context: Context) -> Trained:
        benign = client.unravel(honest)
        times = boost
        if times is None:
            if context.client_ids is None:
                raise ArgumentError("needs a factor, or client_ids, which this round does not provide")
            times = context.client_ids.shape[0]

        def gradient(grads: Params, delta: Params, step: Array) -> Params:
            pull = jnp.where(poisons(step), 0.0, strength)
            return jax.tree.map(lambda own, here, ref: own + pull * (here - ref), grads, delta, benign)

        def change(made: Params, step: Array) -> Params:
            size = jnp.where(poisons(step), times, 1.0)
            return jax.tree.map(lambda leaf: size.astype(leaf.dtype) * leaf, made)

        def count(weights: Array, is_copy: Array, step: Array) -> Array:
            return jnp.where(poisons(step) == is_copy, weights, 0.0)

        return client.descend(gradient=gradient, change=change, count=count)

    training = local_attack(train, steps=loops * (benign_steps + 1), learning_rate=learning_rate)
    return trained_on(backdoor, training, Task(num_classes, image_shape=image_shape))
