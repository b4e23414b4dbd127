"""Label flipping by what the global model holds least likely."""

from collections.abc import Callable
from typing import Literal, get_args

import jax.numpy as jnp
from jax import Array

from fljax.attacks.registry import register_attack
from fljax.attacks.training import local_attack, on_own_data
from fljax.attacks.wrappers import from_factory
from fljax.base import Attack, Client, Context, State, Trained
from fljax.numerics.checks import option, whole

Choice = Literal["least_likely", "second_best"]


@register_attack(
    title="Dynamic label flipping",
    source="Shejwalkar et al. 2022",
    assumes="own data, the model",
    optimises="untargeted error",
    make=from_factory,
    streams=True,
)
def dynamic_label_flip(*, num_classes: int, kind: Choice = "least_likely") -> Attack:
    """Dynamic label flipping: y becomes the label that the global model holds least likely for x.

    With the logits l of the global model w for an example (x, y), in every round anew,

        y ← argmin_c l_c ("least_likely") or y ← argmax_(c ≠ y) l_c ("second_best").

    Of equal logits the first counts; where one is NaN, y stays. All examples of malicious clients are
    flipped, and their numbers of examples are the honest ones.

    Args:
        num_classes: number of labels M.
        kind: what a label becomes.

    Returns:
        The `Attack`. Malicious clients train twice a round: the model is asked for their examples alone.

    Raises:
        ValueError: if `kind` is neither.

    Example:
        >>> x, y, none = jnp.zeros((2, 1)), jnp.array([0, 1]), jnp.zeros(2, bool)
        >>> def predict(x): return jnp.array([[2.0, -1.0, 0.0], [0.1, 0.1, -0.3]])
        >>> poison = dynamic_label_flip(num_classes=3).poison_data
        >>> poison(x, y, none, jnp.int32(0), predict=predict)[1].tolist()
        [1, 2]

    Source: Shejwalkar et al., "Back to the drawing board: a critical evaluation of poisoning attacks on
    production federated learning", IEEE S&P 2022, who take the label from a surrogate of the global model;
    here it is the global model itself. "second_best" is the loss of Carlini and Wagner in the FL-Byzantine
    library, which falls back to the most likely label where the second best is y.
    """
    num_classes = whole("num_classes", num_classes, smallest=1)
    option("kind", kind, get_args(Choice))

    def poison_data(
        x: Array, y: Array, is_copy: Array, member: Array, predict: Callable[[Array], Array]
    ) -> tuple[Array, Array]:
        logits = predict(x)[..., :num_classes]
        if kind == "least_likely":
            flipped = jnp.argmin(logits, axis=-1)
        else:
            own = jnp.arange(num_classes) == y[..., None]
            flipped = jnp.argmax(jnp.where(own, -jnp.inf, logits), axis=-1)
        known = ~jnp.any(jnp.isnan(logits), axis=-1)
        return x, jnp.where(known, flipped.astype(y.dtype), y)

    def train(client: Client, honest: Array, state: State, context: Context) -> Trained:
        return client.descend()

    return on_own_data(local_attack(train))._replace(poison_data=poison_data)
