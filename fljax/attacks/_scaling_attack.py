"""The Scaling attack."""

from typing import Literal

from fljax.attacks._scale import scale
from fljax.attacks.poisoning import Pixels, with_pattern
from fljax.attacks.registry import register_attack
from fljax.attacks.wrappers import from_factory, on_updates
from fljax.base import Attack, Task


@register_attack(
    title="Scaling attack",
    source="Bagdasaryan et al. 2020",
    assumes="own data",
    optimises="backdoor",
    make=from_factory,
    streams=True,
)
def scaling_attack(
    *,
    num_classes: int | None = None,
    image_shape: tuple[int, int, int] | None = None,
    factor: float | None = None,
    target: int = 0,
    poison_fraction: float | Literal["uniform"] = 0.5,
    pixels: Pixels | None = None,
    every: int = 20,
    value: float | None = None,
) -> Attack:
    """The Scaling attack: a backdoor trained into the malicious clients' updates, then scaled by n.

    Each malicious client appends copies of a fraction of its examples, with the trigger embedded and the
    target as their label, trains honestly on the augmented data (its weight in FedAvg stays its honest number
    of examples), and sends `factor` times its update. The share that is copied is not settled by the paper;
    0.5 is this library's choice.

    Args:
        num_classes: number of labels, to check the target against.
        image_shape: (height, width, channels), or None for plain features.
        factor: None for n, the number of rows of the stack.
        target: the label the attacker wants.
        poison_fraction: how many copies, as a share of the client's examples; "uniform" draws the share of
            every malicious client once from U(0, 1], as SAFEFL does.
        pixels: (row, column) pairs of the trigger, None for the usual pattern (`default_pixels`).
        every: the period of the trigger on plain features.
        value: what triggered pixels or features are set to; None for 1 on images, 0 on features.

    Returns:
        The `Attack`, with its `Trigger` for measuring the attack success rate.

    Raises:
        ValueError: if `poison_fraction` is negative or the trigger does not fit the inputs.

    Example:
        >>> import jax.numpy as jnp
        >>> attack = scaling_attack(image_shape=(8, 8, 1))
        >>> int(attack.trigger.embed(jnp.zeros((1, 8, 8, 1))).sum())
        4

    Source: Bagdasaryan et al., AISTATS 2020, as evaluated by Cao et al., NDSS 2021.
    """
    return with_pattern(
        on_updates(scale, Task(num_classes=0), factor=factor),
        num_classes=num_classes,
        image_shape=image_shape,
        target=target,
        poison_fraction=poison_fraction,
        pixels=pixels,
        every=every,
        value=value,
    )
