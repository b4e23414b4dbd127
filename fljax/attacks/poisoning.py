"""The part that all backdoors share: copies of examples with a trigger and another label."""

from collections.abc import Callable, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array

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
        def chosen(marked: Array | int, plain: Array) -> Array:
            return jnp.where(is_copy.reshape(is_copy.shape + (1,) * (plain.ndim - 1)), marked, plain)

        return chosen(embed(x) if embed_own is None else embed_own(x, member), x), chosen(target, y)

    return attack._replace(
        poison_data=poison_data,
        copies=copies,
        share=_share_of if uniform else None,
        trigger=Trigger(embed, target),
    )


def _share_of(member: Array) -> Array:
    """A number in (0, 1] for every malicious client, the same in every round."""
    return 1.0 - jax.random.uniform(jax.random.fold_in(jax.random.key(0), member))
