"""Backdoors: a trigger trained into the malicious clients' updates, which are then enlarged."""

from collections.abc import Sequence
from functools import partial

import jax.numpy as jnp
from jax import Array

from fljax.attacks.base import Attack, Task, Trigger, on_updates
from fljax.attacks.data import default_pixels, feature_trigger, pattern_trigger
from fljax.attacks.simple import scale


def scaling_attack(
    *,
    num_classes: int | None = None,
    image_shape: tuple[int, int, int] | None = None,
    factor: float | None = None,
    target: int = 0,
    poison_fraction: float = 0.5,
    pixels: Sequence[tuple[int, int]] | None = None,
    every: int = 20,
    value: float | None = None,
) -> Attack:
    """The Scaling attack: a backdoor trained into the malicious clients' updates, then scaled by n.

    Each malicious client appends copies of a fraction of its examples, with the trigger embedded and the
    target as their label, trains honestly on the augmented data (its weight in FedAvg stays its honest number
    of examples), and sends `factor` times its update. The
    share that is copied is not settled by the paper; 0.5 is this library's choice (SAFEFL draws it from
    U(0, 1] per client).

    Args:
        num_classes: number of labels, to check the target against.
        image_shape: (height, width, channels), or None for plain features.
        factor: None for n, the number of rows of the stack.
        target: the label the attacker wants.
        poison_fraction: how many copies, as a share of the client's examples.
        pixels: (row, column) pairs of the trigger, None for the usual pattern (`default_pixels`).
        every: the period of the trigger on plain features.
        value: what triggered pixels or features are set to; None for 1 on images, 0 on features.

    Returns:
        The `Attack`, with its `Trigger` for measuring the attack success rate.

    Raises:
        ValueError: if `poison_fraction` is negative or the trigger does not fit the inputs.

    Example:
        >>> attack = scaling_attack(image_shape=(8, 8, 1))
        >>> int(attack.trigger.embed(jnp.zeros((1, 8, 8, 1))).sum())
        4

    Source: Bagdasaryan et al., AISTATS 2020, as evaluated by Cao et al., NDSS 2021.
    """
    if not poison_fraction >= 0:
        raise ValueError(f"scaling_attack: poison_fraction={poison_fraction} must not be negative")
    if target < 0 or (num_classes is not None and target >= num_classes):
        raise ValueError(f"scaling_attack: target={target} is not one of the {num_classes} labels from 0")
    if image_shape is None and pixels is not None:
        raise ValueError(
            "scaling_attack: pixels are for images; the trigger on plain features is set by every"
        )
    if image_shape is None:
        embed = partial(feature_trigger, every=every, value=0.0 if value is None else value)
    else:
        where = tuple(pixels) if pixels is not None else default_pixels(*image_shape)
        embed = partial(pattern_trigger, pixels=where, value=1.0 if value is None else value)

    def poison_data(x: Array, y: Array, is_copy: Array, member: Array) -> tuple[Array, Array]:
        mask = is_copy.reshape(is_copy.shape + (1,) * (x.ndim - is_copy.ndim))
        return jnp.where(mask, embed(x), x), jnp.where(is_copy, target, y)

    corrupting = on_updates(scale, Task(num_classes=0), factor=factor)
    return corrupting._replace(
        poison_data=poison_data, copies=poison_fraction, trigger=Trigger(embed, target)
    )
