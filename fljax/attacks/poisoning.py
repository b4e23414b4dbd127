"""The part that all backdoors share: copies of examples with a trigger and another label."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from jax import Array

from fljax.attacks.triggers import default_pixels, feature_trigger, pattern_trigger
from fljax.base import Attack, State, Trigger, asks
from fljax.numerics.checks import ArgumentError, fixed_real, flag, option, whole

# Copies per example; the round makes room for them.
MOST_COPIES = 100

Embed = Callable[..., Array]
Labels = Literal["all_to_one", "all_to_all"]
Mix = Literal["copies", "replace"]
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
    labels: Labels = "all_to_one",
    source: int | None = None,
    clean_label: bool = False,
    mix: Mix = "copies",
) -> Attack:
    """An attack on updates whose clients train a backdoor into them.

    Args:
        attack: what becomes of the malicious updates.
        embed: the whole trigger, with a second argument `state`, the attack's, where it depends on that.
        num_classes: number of labels, to check the target against; None if it is not known.
        image_shape: (height, width, channels), or None for plain features.
        target: the label the attacker wants.
        poison_fraction: how many copies, as a share of a client's examples, or "uniform".
        pixels: where the trigger is, which only images have; None where nobody said.
        embed_own: `embed_own(x, member)`, what one malicious client embeds; None for the whole trigger.
        labels: "all_to_one" for the target in place of every label, "all_to_all" for the next label, y + 1
            mod `num_classes`.
        source: the only class whose copies are marked, and whose test examples count; None for all. Copies
            of others stay what they are.
        clean_label: whether only copies of the target's own examples are marked, and keep their label.
        mix: "copies" for those that are appended to a client's examples, "replace" for a share of every batch
            that is drawn anew and rounded down.

    Raises:
        ValueError: if an argument is out of range, or two exclude each other.
    """
    uniform = isinstance(poison_fraction, str)
    if isinstance(poison_fraction, str):
        option("poison_fraction", poison_fraction, ("uniform",))
        poison_fraction = 1.0
    option("mix", mix, get_args(Mix))
    most = 1 if mix == "replace" else MOST_COPIES
    copies = fixed_real("poison_fraction", poison_fraction, at_least=0, at_most=most)
    trigger = _trigger(embed, num_classes, target, labels, source, clean_label)
    if image_shape is None and pixels is not None:
        raise ArgumentError("pixels are for images; the trigger on plain features is set by every")

    def poison(x: Array, y: Array, is_copy: Array, member: Array, **told: State) -> tuple[Array, Array]:
        if x.dtype == jnp.int32:
            raise ArgumentError("the trigger sets pixels or features, but the inputs are tokens")

        marks = is_copy
        if clean_label or source is not None:
            marks = is_copy & (y == (target if clean_label else source))

        def chosen(marked: Array, plain: Array) -> Array:
            return jnp.where(marks.reshape(marks.shape + (1,) * (plain.ndim - 1)), marked, plain)

        marked = embed(x, **told) if embed_own is None else embed_own(x, member)
        return chosen(marked, x), chosen(trigger.wanted(y), y)

    def poison_data(x: Array, y: Array, is_copy: Array, member: Array) -> tuple[Array, Array]:
        return poison(x, y, is_copy, member)

    def poison_by_state(
        x: Array, y: Array, is_copy: Array, member: Array, state: State
    ) -> tuple[Array, Array]:
        return poison(x, y, is_copy, member, state=state)

    return attack._replace(
        poison_data=poison_by_state if asks(embed, "state") else poison_data,
        copies=copies,
        in_place=mix == "replace",
        share=_share_of if uniform else None,
        trigger=trigger,
    )


def _trigger(
    embed: Embed,
    num_classes: int | None,
    target: int,
    labels: Labels,
    source: int | None,
    clean_label: bool,
) -> Trigger:
    """The trigger with a map of labels."""
    option("labels", labels, get_args(Labels))
    flag("clean_label", clean_label)
    for name, label in (("target", target), ("source", source)):
        if label is not None and whole(name, label) >= (num_classes or label + 1):
            raise ArgumentError(f"{name}={label} is not one of the {num_classes} labels from 0")
    if labels == "all_to_one":
        if source is not None and clean_label:
            raise ArgumentError(f"source={source} and clean_label=True exclude each other")
        if source == target:
            raise ArgumentError(f"source={source} must be another label than the target")
        return Trigger(embed, target, source)
    if clean_label or source is not None or target:
        raise ArgumentError('labels="all_to_all" goes with no target, source or clean_label')
    if num_classes is None:
        raise ArgumentError('labels="all_to_all" needs num_classes')
    return Trigger(embed, None, relabel=lambda y: (y + 1) % num_classes)


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
    **how: Any,
) -> Attack:
    """`poisoned` by a pattern of pixels or features that are set to one value.

    Args:
        attack, num_classes, image_shape, target, poison_fraction: as for `poisoned`.
        pixels: (row, column) pairs of the trigger, None for the usual pattern (`default_pixels`).
        every: the period of the trigger on plain features.
        value: what triggered pixels or features are set to; None for 1 on images, 0 on features.
        **how: other arguments of `poisoned`.

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
        **how,
    )


def _share_of(member: Array) -> Array:
    """A number in (0, 1] for every malicious client, the same in every round."""
    return 1.0 - jax.random.uniform(jax.random.fold_in(jax.random.key(0), member))
