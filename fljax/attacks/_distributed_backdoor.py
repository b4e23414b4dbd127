"""The distributed backdoor attack."""

from collections.abc import Sequence
from functools import partial
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jax import Array

from fljax.attacks._scale import scale
from fljax.attacks.poisoning import Embed, Pixels, poisoned
from fljax.attacks.registry import register_attack
from fljax.attacks.triggers import default_parts, feature_mask, feature_trigger, pattern_mask, pattern_trigger
from fljax.attacks.wrappers import from_factory, on_updates
from fljax.base import Attack, Task, Trigger
from fljax.numerics.checks import ArgumentError, fixed_real, whole


@register_attack(
    title="DBA",
    source="Xie et al. 2020",
    assumes="own data",
    optimises="backdoor",
    make=from_factory,
    streams=True,
)
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
    """DBA: every malicious client trains on one part of the trigger, and the whole trigger is measured.

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
        The `Attack`, with the whole `Trigger`, and its parts as `triggers`.

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
    every = whole("every", every, smallest=1)
    value = None if value is None else fixed_real("value", value)
    num_parts = whole("num_parts", num_parts, smallest=1)
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
            raise ArgumentError("parts must hold at least one part")
        embed = partial(pattern_trigger, pixels=[pixel for part in chosen for pixel in part], value=value)

        def masks(x: Array) -> np.ndarray:
            return np.stack([pattern_mask(x.shape[-3], x.shape[-2], part) for part in chosen])

    def embed_own(x: Array, member: Array | int) -> Array:
        mask = jnp.asarray(masks(x))[member % count]
        return jnp.where(mask, jnp.asarray(value, x.dtype), x)

    attack = poisoned(
        on_updates(scale, Task(num_classes=0), factor=factor),
        embed,
        num_classes=num_classes,
        image_shape=image_shape,
        target=target,
        poison_fraction=poison_fraction,
        pixels=parts,
        embed_own=embed_own,
    )
    parts_alone = {
        f"part_{number}": Trigger(partial(embed_own, member=number), target) for number in range(count)
    }
    return attack._replace(triggers=parts_alone)
