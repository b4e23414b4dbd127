"""Backdoors: a trigger trained into the malicious clients' updates, which are then enlarged."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fljax.attacks.checks import fixed_real, option, real, whole
from fljax.attacks.simple import scale
from fljax.attacks.triggers import (
    default_parts,
    default_pixels,
    feature_mask,
    feature_trigger,
    pattern_mask,
    pattern_trigger,
)
from fljax.attacks.wrappers import check_stack, on_updates
from fljax.base import Attack, Task, Trigger

# Copies per example; the round makes room for them.
MOST_COPIES = 100
Embed = Callable[[Array], Array]
Pixels = Sequence[tuple[int, int]]


def _share_of(member: Array) -> Array:
    """A number in (0, 1] for every malicious client, the same in every round."""
    return 1.0 - jax.random.uniform(jax.random.fold_in(jax.random.key(0), member))


def _backdoor(
    attack: str,
    num_classes: int | None,
    image_shape: tuple[int, int, int] | None,
    target: int,
    poison_fraction: float | Literal["uniform"],
    pixels: object,
) -> Callable[..., Attack]:
    """Check what all backdoors have in common; returns `add(attack, embed, embed_local=None) -> Attack`."""
    uniform = isinstance(poison_fraction, str)
    if isinstance(poison_fraction, str):
        option(attack, "poison_fraction", poison_fraction, ("uniform",))
        poison_fraction = 1.0
    copies = fixed_real(attack, "poison_fraction", poison_fraction, at_least=0, at_most=MOST_COPIES)
    target = whole(attack, "target", target)
    if num_classes is not None and target >= num_classes:
        raise ValueError(f"{attack}: target={target} is not one of the {num_classes} labels from 0")
    if image_shape is None and pixels is not None:
        raise ValueError(f"{attack}: pixels are for images; the trigger on plain features is set by every")

    def add(
        corrupting: Attack, embed: Embed, embed_local: Callable[[Array, Array], Array] | None = None
    ) -> Attack:
        def poison_data(x: Array, y: Array, is_copy: Array, member: Array) -> tuple[Array, Array]:
            mask = is_copy.reshape(is_copy.shape + (1,) * (x.ndim - is_copy.ndim))
            marked = embed(x) if embed_local is None else embed_local(x, member)
            return jnp.where(mask, marked, x), jnp.where(is_copy, target, y)

        return corrupting._replace(
            poison_data=poison_data,
            copies=copies,
            share=_share_of if uniform else None,
            trigger=Trigger(embed, target),
        )

    return add


def scaling_attack(
    *,
    num_classes: int | None = None,
    image_shape: tuple[int, int, int] | None = None,
    factor: float | None = None,
    target: int = 0,
    poison_fraction: float | Literal["uniform"] = 0.5,
    pixels: Sequence[tuple[int, int]] | None = None,
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
        >>> attack = scaling_attack(image_shape=(8, 8, 1))
        >>> int(attack.trigger.embed(jnp.zeros((1, 8, 8, 1))).sum())
        4

    Source: Bagdasaryan et al., AISTATS 2020, as evaluated by Cao et al., NDSS 2021.
    """
    every = whole("scaling_attack", "every", every, smallest=1)
    value = None if value is None else fixed_real("scaling_attack", "value", value)
    poisoning = _backdoor("scaling_attack", num_classes, image_shape, target, poison_fraction, pixels)
    if image_shape is None:
        embed = partial(feature_trigger, every=every, value=0.0 if value is None else value)
    else:
        where = tuple(pixels) if pixels is not None else default_pixels(*image_shape)
        embed = partial(pattern_trigger, pixels=where, value=1.0 if value is None else value)
    return poisoning(on_updates(scale, Task(num_classes=0), factor=factor), embed)


def replace_model(updates: Array, malicious: Array, *, server_lr: float | Array = 1.0) -> Array:
    """Model replacement: malicious rows enlarged so that their mean becomes the new model under averaging.

    g'_i = n / (α m) · g_i for malicious i, with α = `server_lr` and m malicious rows. If the honest rows
    cancel, w + α · mean(g') = w + the mean of the malicious g_i: the model the attackers trained. With m = 1
    this is the published γ = n / η.

    Args:
        updates: (n, d), the rows all clients would send honestly.
        malicious: (n,) boolean.
        server_lr: α, the server's learning rate.

    Returns:
        (n, d); honest rows are bit-identical.

    Raises:
        ValueError: if the shapes do not fit or a static `server_lr` is not positive.

    Example:
        >>> rows = jnp.array([[1.0], [2.0], [-2.0], [3.0]])
        >>> replace_model(rows, jnp.array([True, False, False, True])).tolist()
        [[2.0], [2.0], [-2.0], [6.0]]

    Source: Bagdasaryan et al., "How to backdoor federated learning", AISTATS 2020, equation 3.
    """
    updates, malicious = check_stack("replace_model", updates, malicious)
    server_lr = real("replace_model", "server_lr", server_lr, above=0)
    factor = updates.shape[0] / (server_lr * jnp.maximum(jnp.sum(malicious), 1))
    return jnp.where(malicious[:, None], factor.astype(updates.dtype) * updates, updates)


def model_replacement(
    *,
    num_classes: int | None = None,
    image_shape: tuple[int, int, int] | None = None,
    server_lr: float = 1.0,
    target: int = 0,
    poison_fraction: float | Literal["uniform"] = 0.5,
    pixels: Pixels | None = None,
    every: int = 20,
    value: float | None = None,
) -> Attack:
    """Model replacement: a backdoor, enlarged together by exactly what averaging takes away.

    As `scaling_attack`, but the malicious rows are multiplied by n / (α m) (see `replace_model`). The authors
    attack once, in a model that has nearly converged: schedule it (`SCHEDULES["between"]`).

    Args:
        num_classes, image_shape, target, poison_fraction, pixels, every, value: as for `scaling_attack`.
        server_lr: α, the server's learning rate.

    Returns:
        The `Attack`, with its `Trigger` for measuring the attack success rate.

    Raises:
        ValueError: as `scaling_attack`, or if `server_lr` is not positive.

    Example:
        >>> attack = model_replacement(image_shape=(8, 8, 1), target=3)
        >>> attack.trigger.target
        3

    Source: Bagdasaryan et al., AISTATS 2020; without its constrain-and-scale loss.
    """
    server_lr = fixed_real("model_replacement", "server_lr", server_lr, above=0)
    backdoor = scaling_attack(
        num_classes=num_classes,
        image_shape=image_shape,
        target=target,
        poison_fraction=poison_fraction,
        pixels=pixels,
        every=every,
        value=value,
    )
    return backdoor._replace(corrupt=on_updates(replace_model, Task(0), server_lr=server_lr).corrupt)


def distributed_backdoor(
    *,
    num_classes: int | None = None,
    image_shape: tuple[int, int, int] | None = None,
    factor: float = 1.0,
    target: int = 0,
    poison_fraction: float | Literal["uniform"] = 0.5,
    parts: Sequence[Pixels] | None = None,
    num_parts: int = 4,
    every: int = 20,
    value: float | None = None,
) -> Attack:
    """DBA: every malicious client trains on one part of the trigger, and the whole is used against the model.

    Malicious client k (counted among the malicious ones) embeds part k mod `num_parts` in its copies; the
    attack success rate is that of all parts together.

    Args:
        num_classes: number of labels, to check the target against.
        image_shape: (height, width, channels), or None for plain features.
        factor: what malicious updates are multiplied by: 1 for attacking in every round (the authors' A-M),
            100 in theirs for a single round (A-S).
        target: the label the attacker wants.
        poison_fraction: how many copies, as a share of the client's examples, or "uniform" (see
            `scaling_attack`).
        parts: (row, column) pairs of every part; None for the authors' four bars on 28×28 and 32×32×3 images,
            else the usual pattern (`default_pixels`) dealt out.
        num_parts: how many parts, where `parts` does not say.
        every: on plain features, the period of the whole trigger.
        value: what triggered pixels or features are set to; None for 1 on images, 0 on features.

    Returns:
        The `Attack`, with the whole `Trigger`.

    Raises:
        ValueError: if a number is out of range or a part does not fit the inputs.

    Example:
        >>> attack = distributed_backdoor(image_shape=(28, 28, 1))
        >>> x, y = jnp.zeros((1, 28, 28, 1)), jnp.array([7])
        >>> part, label = attack.poison_data(x, y, jnp.array([True]), jnp.int32(2))
        >>> int(part.sum()), int(attack.trigger.embed(x).sum()), label.tolist()
        (4, 16, [0])

    Source: Xie, Huang, Chen and Li, "DBA: distributed backdoor attacks against federated learning", ICLR
    2020. Their target is label 2 on MNIST and CIFAR-10.
    """
    add = _backdoor("distributed_backdoor", num_classes, image_shape, target, poison_fraction, parts)
    every = whole("distributed_backdoor", "every", every, smallest=1)
    value = None if value is None else fixed_real("distributed_backdoor", "value", value)
    num_parts = whole("distributed_backdoor", "num_parts", num_parts, smallest=1)
    corrupting = on_updates(scale, Task(num_classes=0), factor=factor)
    if image_shape is None:
        value = 0.0 if value is None else value
        embed: Embed = partial(feature_trigger, every=every, value=value)
        count = num_parts

        def masks(x: Array) -> np.ndarray:
            marked = feature_mask(x.shape[-1], every)
            order = np.cumsum(marked) - 1
            return np.stack([marked & (order % num_parts == k) for k in range(num_parts)])
    else:
        value = 1.0 if value is None else value
        chosen = default_parts(image_shape, num_parts) if parts is None else parts
        count = len(chosen)
        if not count:
            raise ValueError("distributed_backdoor: parts must hold at least one part")
        embed = partial(pattern_trigger, pixels=[pixel for part in chosen for pixel in part], value=value)

        def masks(x: Array) -> np.ndarray:
            return np.stack([pattern_mask(x.shape[-3], x.shape[-2], part) for part in chosen])

    def embed_part(x: Array, member: Array) -> Array:
        mask = jnp.asarray(masks(x))[member % count]
        return jnp.where(mask, jnp.asarray(value, x.dtype), x)

    return add(corrupting, embed, embed_part)
