"""Sign flipping in every local step."""

import jax
import jax.numpy as jnp
from jax import Array

from fljax.attacks.registry import register_attack
from fljax.attacks.training import local_attack, on_own_data, tree_norm
from fljax.attacks.wrappers import from_factory
from fljax.base import Attack, Client, Context, Params, State, Trained
from fljax.numerics.checks import real


@register_attack(
    title="Gradient ascent",
    source="Karimireddy et al. 2021",
    assumes="own data",
    optimises="untargeted error",
    make=from_factory,
    streams=True,
)
def gradient_ascent(
    *,
    factor: float | Array = 1.0,
    steps: int | None = None,
    epochs: float | None = None,
    learning_rate: float | Array | None = None,
) -> Attack:
    """Gradient ascent: the sign of the gradient is flipped in every local step.

    Malicious clients take −c ∇L for ∇L on their honest data. With one step of SGD that is `sign_flip`; with
    more, every step starts where the last one led. A step that is not finite is not made, so that the last
    finite update is sent.

    Args:
        factor: c.
        steps, epochs: local steps, or passes over their own examples, of malicious clients; None for those of
            honest clients.
        learning_rate: β of malicious clients; None for that of honest clients.

    Returns:
        The `Attack`.

    Raises:
        ValueError: if a number is out of range.

    Example:
        >>> gradient_ascent(steps=3).train.steps
        3

    Source: bit flipping of Karimireddy, He and Jaggi, "Learning from history for Byzantine robust
    optimization", ICML 2021, whose code negates every gradient of a worker.
    """
    factor = real("factor", factor, finite=True)

    def train(client: Client, honest: Array, state: State, context: Context) -> Trained:
        def change(made: Params, step: Array) -> Params:
            finite = jnp.isfinite(tree_norm(made))
            return jax.tree.map(lambda leaf: jnp.where(finite, leaf, 0.0), made)

        return client.descend(
            gradient=lambda grads, delta, step: jax.tree.map(lambda leaf: -factor * leaf, grads),
            change=change,
        )

    return on_own_data(local_attack(train, steps=steps, epochs=epochs, learning_rate=learning_rate))
