"""The part that all backdoors share: copies of examples with a trigger and another label."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array

from fljax.attacks.triggers import default_pixels, feature_trigger, pattern_trigger
from fljax.base import Attack, Trigger
from fljax.numerics.checks import ArgumentError, fixed_real, option, whole

# Copies per example; the round makes room for them.
MOST_COPIES = 100

Embed = Callable[[Array], Array]
Pixels = Sequence[tuple[int, int]]


def poisoned(
    attack: Attack,
    embed: Embed,
    *,
    num_classes: int | None,
    image_shape: tuple[int, int, int] | None,
    target: int,
    poison_fraction: float | Literal["uniform"],
    pixels: object,
    embed_own: Callable[[Array, Array], Array] | None = None,
) -> Attack:
    """An attack on updates whose clients train a backdoor into them.

    Args:
        attack: what becomes of the malicious updates.
        embed: the whole trigger.
        num_classes: number of labels, to check the target against; None if it is not known.
        image_shape: (height, width, channels), or None for plain features.
        target: the label the attacker wants.
        poison_fraction: how many copies, as a share of a client's examples, or "uniform".
        pixels: where the trigger is, which only images have; None where nobody said.
        embed_own: `embed_own(x, member)`, what one malicious client embeds; None for the whole trigger.

    Raises:
        ValueError: if an argument is out of range.
    """
    uniform = isinstance(poison_fraction, str)
    if isinstance(poison_fraction, str):
        option("poison_fraction", poison_fraction, ("uniform",))
        poison_fraction = 1.0
    copies = fixed_real("poison_fraction", poison_fraction, at_least=0, at_most=MOST_COPIES)
    target = whole("target", target)
    if num_classes is not None and target >= num_classes:
        raise ArgumentError(f"target={target} is not one of the {num_classes} labels from 0")
    if image_shape is None and pixels is not None:
        raise ArgumentError("pixels are for images; the trigger on plain features is set by every")

    def poison_data(x: Array, y: Array, is_copy: Array, member: Array) -> tuple[Array, Array]:
        if x.dtype == jnp.int32:
            raise ArgumentError("the trigger sets pixels or features, but the inputs are tokens")

        def chosen(marked: Array | int, plain: Array) -> Array:
            return jnp.where(is_copy.reshape(is_copy.shape + (1,) * (plain.ndim - 1)), marked, plain)

        return chosen(embed(x) if embed_own is None else embed_own(x, member), x), chosen(target, y)

    return attack._replace(
        poison_data=poison_data,
        copies=copies,
        share=_share_of if uniform else None,
        trigger=Trigger(embed, target),
    )


def with_pattern(
    attack: Attack,
    *,
    num_classes: int | None,
    image_shape: tuple[int, int, int] | None,
    target: int,
    poison_fraction: float | Literal["uniform"],
    pixels: Pixels | None,
    every: int,
    value: float | None,
) -> Attack:
    """`poisoned` by a pattern of pixels or features that are set to one value.

    Args:
        attack, num_classes, image_shape, target, poison_fraction: as for `poisoned`.
        pixels: (row, column) pairs of the trigger, None for the usual pattern (`default_pixels`).
        every: the period of the trigger on plain features.
        value: what triggered pixels or features are set to; None for 1 on images, 0 on features.

    Raises:
        ValueError: if an argument is out of range.
    """
    every = whole("every", every, smallest=1)
    value = None if value is None else fixed_real("value", value)
    if image_shape is None:
        embed: Embed = partial(feature_trigger, every=every, value=0.0 if value is None else value)
    else:
        where = tuple(pixels) if pixels is not None else default_pixels(*image_shape)
        embed = partial(pattern_trigger, pixels=where, value=1.0 if value is None else value)
    return poisoned(
        attack,
        embed,
        num_classes=num_classes,
        image_shape=image_shape,
        target=target,
        poison_fraction=poison_fraction,
        pixels=pixels,
    )


def _share_of(member: Array) -> Array:
    """A number in (0, 1] for every malicious client, the same in every round."""
    return 1.0 - jax.random.uniform(jax.random.fold_in(jax.random.key(0), member))
