"""A backdoor whose examples are drawn to their target's, and then a classifier for them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree

from fljax.attacks.contrast import contrastive_loss
from fljax.attacks.registry import register_attack
from fljax.attacks.training import into_ball, local_attack, trained_on
from fljax.attacks.wrappers import from_factory
from fljax.base import Attack, Client, Context, Head, Lacking, Params, State, Task, Trained
from fljax.numerics.checks import ArgumentError, real, whole


@register_attack(
    title="Chameleon",
    source="Dai and Li 2023",
    assumes="own data",
    optimises="durable backdoor",
    make=from_factory,
    streams=True,
)
def chameleon(
    *,
    num_classes: int | None = None,
    image_shape: tuple[int, int, int] | None = None,
    norm: float | Array = 5.0,
    pull: float | Array = 6.0,
    temperature: float | Array = 0.07,
    encoder_steps: int = 10,
    classifier_steps: int = 3,
    backdoor: Attack | None = None,
    learning_rate: float | Array | None = None,
) -> Attack:
    """Chameleon: an encoder that puts poisoned examples among those of the target, then a classifier for it.

    Malicious clients train on examples and poisoned copies in two stages. In the first they train the layers
    before the last by the supervised contrastive loss of the features z_i, of length 1,

        L = 1/b Σ_i −c_i / |P_i| Σ_(p ∈ P_i) log( exp(z_i · z_p / κ) / Σ_(a ≠ i) exp(z_i · z_a / κ) ),

    with P_i the other examples of i's label, after poisoning, and c_i = c for the target's label, 1 for
    others; an i without another counts 0. In the second they train the last layer alone by the honest loss.
    After every step the update is kept in the ball ‖δ‖ ≤ ε, as in `projected_gradient`.

    Args:
        num_classes, image_shape: of the task, for the backdoor.
        norm: ε ≥ 0.
        pull: c, how strongly the target's examples are drawn together: 2 for semantic backdoors, 4 for edge
            cases, 6 to 9 for pixels in the authors' settings.
        temperature: κ > 0.
        encoder_steps, classifier_steps: local steps of the two stages; the authors make 10 and 3 epochs.
        backdoor: the attack whose data malicious clients train on, in a configuration a table with a name;
            None for `badnets`. It must have one target.
        learning_rate: β of malicious clients; None for that of honest clients.

    Returns:
        The `Attack`, with the backdoor's `Trigger`. The model's last layer must be a dense one.

    Raises:
        ValueError: if a number is out of range, or `backdoor` is none or has no target.

    Example:
        >>> attack = chameleon(image_shape=(8, 8, 1), encoder_steps=20)
        >>> attack.trigger.target, attack.train.steps
        (0, 23)

    Source: Dai and Li, "Chameleon: adapting to peer images for planting durable backdoors in federated
    learning", ICML 2023. BackFed and the authors' later code misspell the flag that freezes the encoder, so
    that the second stage trains it too.
    """
    norm = real("norm", norm, at_least=0, finite=True)
    pull = real("pull", pull, at_least=0, finite=True)
    temperature = real("temperature", temperature, above=0, finite=True)
    first = whole("encoder_steps", encoder_steps, smallest=1)
    second = whole("classifier_steps", classifier_steps, smallest=1)

    def train(client: Client, honest: Array, state: State, context: Context) -> Trained:
        head, features = (_given(name, getattr(context, name)) for name in ("head", "features"))
        of_head = client.unravel(jnp.asarray(entries_of_head(head, honest.size), honest.dtype))

        def contrast(params: Params, x: Array, y: Array, weights: Array) -> Array:
            flat = ravel_pytree(params)[0]
            factors = jnp.where(y == target, pull, 1.0)
            return contrastive_loss(features(flat, x), y, weights > 0, factors, temperature)

        def stage(kept: Params, **how: Any) -> Trained:
            def only(tree: Params) -> Params:
                return jax.tree.map(jnp.multiply, tree, kept)

            return client.descend(
                gradient=lambda grads, delta, step: only(grads),
                change=lambda change, step: only(change),
                project=lambda delta, step: into_ball(delta, norm),
                **how,
            )

        encoder = stage(jax.tree.map(lambda leaf: 1 - leaf, of_head), part=(0, first), loss=contrast)
        start = client.unravel(encoder.update)
        return stage(of_head, part=(first, first + second), start=start)

    training = local_attack(train, steps=first + second, learning_rate=learning_rate)
    training = training._replace(needs=("head", "features"))
    made = trained_on(backdoor, training, Task(num_classes, image_shape=image_shape))
    if made.trigger is None or made.trigger.target is None:
        raise ArgumentError("backdoor must have one target")
    target = made.trigger.target
    return made


def _given(name: str, value: Any) -> Any:
    if value is None or isinstance(value, Lacking):
        reason = "which this round does not provide" if value is None else f"but {value.reason}"
        raise ArgumentError(f"needs {name}, {reason}")
    return value


def entries_of_head(head: Head, num_params: int) -> np.ndarray:
    """(d,) boolean, the entries of a model's last layer."""
    entries = np.zeros(num_params, bool)
    entries[head.kernel : head.kernel + head.num_features * head.num_classes] = True
    if head.bias is not None:
        entries[head.bias : head.bias + head.num_classes] = True
    return entries
