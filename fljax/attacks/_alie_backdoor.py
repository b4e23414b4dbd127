"""A backdoor within a few standard deviations of the honest updates."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from fljax.attacks._alie import mean_and_deviation
from fljax.attacks.registry import register_attack
from fljax.attacks.training import backdoored, local_attack
from fljax.attacks.wrappers import from_factory
from fljax.base import Attack, Client, Context, Knowledge, Params, State, Task, Trained
from fljax.numerics.checks import Float, real
from fljax.numerics.subset_statistics import Sight, known_rows, mean_of, replaced

# Standard deviations below it count as it, as in the paper.
SMALLEST = 1e-5


class _Known(NamedTuple):
    """What attackers make of the honest updates they see, (d,) each."""

    mean: Array
    deviation: Array


@register_attack(
    title="ALIE backdoor",
    source="Baruch et al. 2019",
    assumes="attackers' updates",
    optimises="backdoor within the spread",
    make=from_factory,
)
def alie_backdoor(
    *,
    num_classes: int | None = None,
    image_shape: tuple[int, int, int] | None = None,
    z: float | Array = 1.5,
    alpha: float | Array = 0.2,
    knowledge: Sight = "partial",
    backdoor: Attack | None = None,
    steps: int | None = None,
    epochs: float | None = None,
    learning_rate: float | Array | None = None,
) -> Attack:
    """A little is enough, for a backdoor: trained near the honest mean, and clipped to its spread.

    With μ and σ the mean and standard deviation per coordinate of the honest updates that attackers see, a
    malicious client begins at w + μ and minimises over its poisoned examples

        a · L_class + (1 − a) · Σ_j ((v_j − μ_j) / max(z σ_j, 10⁻⁵))²

    in the update v, by local steps on the first term, each followed by the proximal step of the second, whose
    gradient would be as large as 1/σ². What it made is clipped to [μ − z σ, μ + z σ] per coordinate, and
    every malicious client sends the mean of what all of them made.

    Args:
        num_classes, image_shape: of the task, for the backdoor.
        z: the number of standard deviations, z ≥ 0.
        alpha: a, between 0 and 1. The default is recalled from the paper, not checked in it.
        knowledge: "partial", μ and σ of what the attackers would send honestly, or "full", of the honest
            rows. A single attacker with its own row only has σ = 0 and sends what it would send honestly.
        backdoor: the attack whose data malicious clients train on, in a configuration a table with a name;
            None for `badnets`.
        steps, epochs: local steps, or passes over their own examples, of malicious clients; None for those of
            honest clients.
        learning_rate: β of malicious clients; None for that of honest clients.

    Returns:
        The `Attack`, with the backdoor's `Trigger`.

    Raises:
        ValueError: if a number is out of range, `knowledge` is neither, or `backdoor` is none.

    Example:
        >>> attack = alie_backdoor(image_shape=(8, 8, 1), z=1.0)
        >>> attack.trigger.target
        0

    Source: Baruch, Baruch, Goldberg, "A little is enough: circumventing defenses for distributed learning",
    NeurIPS 2019, section 4 (z = 1.5; 30 epochs at rate 0.1 with momentum 0.9 on one model for all attackers).
    The authors' code has the mean squared error of every tensor for the second term, and subtracts μ twice,
    so that a model equal to the honest mean would send −μ; FedML inherits that and does not train.
    """
    z = real("z", z, at_least=0, finite=True)
    alpha = real("alpha", alpha, at_least=0, at_most=1)
    known_rows(jnp.zeros((1,), bool), knowledge)
    made = backdoored(backdoor, Task(num_classes, image_shape=image_shape), send=_together)

    def gather(updates: Array, malicious: Array, state: State) -> _Known:
        return _Known(*mean_and_deviation(known_rows(malicious, knowledge), updates))

    def train(client: Client, honest: Array, known: Any, context: Context) -> Trained:
        start = client.unravel(known.mean)
        widths = jnp.maximum(jnp.asarray(z, honest.dtype) * known.deviation, SMALLEST)
        factors = client.unravel(1 / (1 + 2 * client.learning_rate * (1 - alpha) / jnp.square(widths)))

        def nearer(delta: Params, step: Array) -> Params:
            return jax.tree.map(lambda here, s, factor: s + factor * (here - s), delta, start, factors)

        trained = client.descend(
            start=start,
            gradient=lambda grads, delta, step: jax.tree.map(lambda leaf: alpha * leaf, grads),
            count=lambda weights, is_copy, step: jnp.where(is_copy, weights, 0.0),
            project=nearer,
        )
        return trained._replace(update=within_spread(trained.update, known.mean, known.deviation, z))

    training = local_attack(train, steps=steps, epochs=epochs, learning_rate=learning_rate)
    return made._replace(train=training._replace(gather=gather))


def _together(updates: Array, malicious: Array, state: State, knowledge: Knowledge) -> tuple[Array, State]:
    mean = mean_of(malicious, updates)
    return replaced(updates, malicious, lambda rows: mean), state


def within_spread(update: Array, mean: Array, deviation: Array, z: Float) -> Array:
    """The update (d,) with every coordinate at most z standard deviations from the mean."""
    width = jnp.asarray(z, mean.dtype) * deviation
    return jnp.clip(update, mean - width, mean + width)
