"""A trigger that a small network draws for every input, ever fainter."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from fljax.attacks.generators import Generator, marked_by, new_generator
from fljax.attacks.poisoning import poisoned
from fljax.attacks.registry import register_attack
from fljax.attacks.training import cross_entropy
from fljax.attacks.wrappers import NO_ATTACK, from_factory
from fljax.base import Attack, Attackers
from fljax.numerics.checks import ArgumentError, fixed_real, whole

# The factor of ε from round to round.
FADING = 0.999


class IBAState(NamedTuple):
    """The memory of `iba`.

    Attributes:
        generator: the kernels and biases of T's three convolutions.
        moments: Adam's two means of the gradient and of its square.
        steps: int32 scalar, the number of Adam's steps.
        ready: boolean scalar, whether T is good enough for the model to be attacked.
        began: int32 scalar, the round from which on it is.
        attacks: int32 scalar, the rounds with an attack on the model so far.
        size: scalar, the round's ε.
    """

    generator: Generator
    moments: tuple[Generator, Generator]
    steps: Array
    ready: Array
    began: Array
    attacks: Array
    size: Array


@register_attack(
    title="IBA",
    source="Nguyen et al. 2023",
    assumes="own data, the model",
    optimises="backdoor",
    make=from_factory,
    streams=True,
)
def iba(
    *,
    num_classes: int | None = None,
    image_shape: tuple[int, int, int] | None = None,
    target: int = 0,
    poison_fraction: float = 0.5,
    strength: float = 0.3,
    final_strength: float = 0.05,
    success: float = 0.85,
    epochs: int = 10,
    rate: float = 1e-3,
    batches: int = 8,
    batch_size: int = 64,
    seed: int = 0,
) -> Attack:
    """IBA: a generator T draws a faint mark for every image, x' = clip(x + ε T(x), 0, 1).

    T is three convolutions of 3×3 with two times 16 channels between, ReLU and tanh at last, and belongs to
    all attackers. Before anybody trains, the first malicious client of the round draws B batches of its
    examples. In its first phase it trains T on them by Adam for e epochs to minimise the cross-entropy of the
    global model at (x', target), and malicious clients train honestly, until the model answers a share
    `success` of its x' with the target. From that round on T is trained in every second round with an attack,
    and malicious clients replace a share ρ of every batch by x' with the target's label, where

        ε = max(ε_test, ε_0 · 0.999^t)

    in the t-th round after it, and ε_0 before. The success on test examples is that of ε_test.

    Args:
        num_classes: number of labels, to check the target against.
        image_shape: (height, width, channels).
        target: the label the attacker wants.
        poison_fraction: ρ; 0.5 gives clean and marked examples the authors' equal weights.
        strength: ε_0, in the unit of the images.
        final_strength: ε_test.
        success: how good T must be for the second phase, between 0 and 1.
        epochs: e, of T's training in a round.
        rate: Adam's learning rate.
        batches, batch_size: B, and how many examples each of them has.
        seed: of T's first parameters.

    Returns:
        The `Attack`, with an `IBAState`. It is a `backdoor` of others, too: `projected_gradient` and
        `neurotoxin` are the authors' options.

    Raises:
        ValueError: if a number is out of range or the inputs are no images.

    Example:
        >>> attack = iba(image_shape=(8, 8, 1), target=2)
        >>> x = jnp.full((1, 8, 8, 1), 0.5)
        >>> faint = attack.trigger.embedded(x, attack.init(10, 100))
        >>> bool((jnp.abs(faint - x) <= 0.05).all())
        True

    Source: Nguyen et al., "IBA: towards irreversible backdoor attacks in federated learning", NeurIPS 2023
    (ε_0 = 0.3, ε_test = 0.05, of normalised images; a U-Net or an autoencoder as T, with a rate of 1e-4 on
    CIFAR-10 and 1e-3 on MNIST). The authors' code trains T after the model, against the attacker's own local
    model, and by SGD with momentum, although it makes an Adam; the share that it asks for counts examples of
    the target. BackFed has one phase and one ε = 0.3, also where it measures.
    """
    if image_shape is None:
        raise ArgumentError("is for images")
    share = fixed_real("poison_fraction", poison_fraction, at_least=0, at_most=1)
    first = fixed_real("strength", strength, at_least=0, finite=True)
    last = fixed_real("final_strength", final_strength, at_least=0, finite=True)
    success = fixed_real("success", success, at_least=0, at_most=1)
    rate = fixed_real("rate", rate, at_least=0, finite=True)
    for name, number in {"epochs": epochs, "batches": batches, "batch_size": batch_size}.items():
        whole(name, number, smallest=1)
    seed = whole("seed", seed)
    channels = image_shape[2]

    def init(num_clients: int, num_params: int) -> IBAState:
        start = new_generator(jax.random.key(seed), channels)
        zeros = jax.tree.map(jnp.zeros_like, start)
        none = jnp.int32(0)
        return IBAState(start, (zeros, zeros), none, jnp.zeros((), bool), none, none, jnp.float32(first))

    def embed(x: Array, state: IBAState) -> Array:
        return marked_by(state.generator, x, state.size)

    def embed_at_last(x: Array, state: IBAState) -> Array:
        return marked_by(state.generator, x, last)

    def prepare(state: IBAState, attackers: Attackers) -> IBAState:
        row, key = jnp.argmax(attackers.malicious), attackers.context.key
        drawn: Any = attackers.draw(row, key, batches, batch_size)
        predict, params = attackers.predict, attackers.params
        round = jnp.asarray(attackers.context.round, jnp.int32)
        # A power of 0.999 loses digits.
        power = jnp.exp(math.log(FADING) * (round - state.began).astype(jnp.float32))
        faded = jnp.maximum(last, first * power)
        size = jnp.where(state.ready, faded, first)

        def loss(generator: Generator, batch: Any) -> Array:
            x, y, counted = batch
            return cross_entropy(
                predict(params, marked_by(generator, x, size)), jnp.full_like(y, target), counted
            )

        def hits(generator: Generator) -> Array:
            def of_batch(batch: Any) -> tuple[Array, Array]:
                x, y, weights = batch
                counted = (weights > 0) & (y != target)
                answers = jnp.argmax(predict(params, marked_by(generator, x, size)), axis=-1)
                return jnp.sum(counted & (answers == target)), jnp.sum(counted)

            found, counted = lax.map(of_batch, drawn)
            return jnp.sum(found) / jnp.maximum(jnp.sum(counted), 1)

        def step(at: IBAState, batch: Any) -> tuple[IBAState, None]:
            return adam(at, jax.grad(loss)(at.generator, batch), rate), None

        def trained(at: IBAState) -> IBAState:
            return lax.fori_loop(0, epochs, lambda _, at: lax.scan(step, at, drawn)[0], at)

        # In the first, the third, and so on of the second phase.
        due = ~state.ready | (state.attacks % 2 == 0)
        after = lax.cond(due, trained, lambda at: at, state)
        ready = state.ready | (hits(after.generator) >= success)
        return after._replace(
            ready=ready,
            began=jnp.where(state.ready, state.began, round),
            attacks=state.attacks + ready.astype(jnp.int32),
            size=size,
        )

    made = poisoned(
        NO_ATTACK._replace(init=init, prepare=prepare),
        embed,
        num_classes=num_classes,
        image_shape=image_shape,
        target=target,
        poison_fraction=share,
        pixels=None,
        mix="replace",
    )
    poison: Any = made.poison_data

    def poison_data(
        x: Array, y: Array, is_copy: Array, member: Array, state: IBAState
    ) -> tuple[Array, Array]:
        return poison(x, y, is_copy & state.ready, member, state=state)

    trigger = made.trigger and made.trigger._replace(embed=embed_at_last)
    return made._replace(poison_data=poison_data, trigger=trigger)


def adam(state: IBAState, slope: Generator, rate: float) -> IBAState:
    """One step of Adam with its usual constants."""
    steps = state.steps + 1
    means, squares = state.moments
    means = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, means, slope)
    squares = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, squares, slope)
    of_means, of_squares = 1 - 0.9**steps, 1 - 0.999**steps
    generator = jax.tree.map(
        lambda at, m, v: at - rate * (m / of_means) / (jnp.sqrt(v / of_squares) + 1e-8),
        state.generator,
        means,
        squares,
    )
    return state._replace(generator=generator, moments=(means, squares), steps=steps)
