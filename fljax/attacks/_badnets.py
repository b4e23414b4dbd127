"""BadNets: a pattern trained into the model, and nothing else."""

from typing import Literal

from fljax.attacks.poisoning import Labels, Mix, Pixels, with_pattern
from fljax.attacks.registry import register_attack
from fljax.attacks.wrappers import NO_ATTACK, from_factory
from fljax.base import Attack


@register_attack(
    title="BadNets",
    source="Gu et al. 2017",
    assumes="own data",
    optimises="backdoor",
    make=from_factory,
    streams=True,
)
def badnets(
    *,
    num_classes: int | None = None,
    image_shape: tuple[int, int, int] | None = None,
    target: int = 0,
    poison_fraction: float | Literal["uniform"] = 0.5,
    pixels: Pixels | None = None,
    every: int = 20,
    value: float | None = None,
    labels: Labels = "all_to_one",
    source: int | None = None,
    clean_label: bool = False,
    mix: Mix = "copies",
) -> Attack:
    """BadNets: copies of examples with a pattern and the target's label; updates are sent as they are.

    Each malicious client appends ⌈ρ · (its number of examples)⌉ copies with the pattern, ρ =
    `poison_fraction`, and trains on all of them. It is `scaling_attack` with `factor=1`.

    Args:
        num_classes: number of labels, to check the target against.
        image_shape: (height, width, channels), or None for plain features.
        target: the label the attacker wants.
        poison_fraction: how many copies, as a share of a client's examples, or "uniform" (see
            `scaling_attack`).
        pixels: (row, column) pairs of the trigger, None for the usual pattern (`default_pixels`).
        every: the period of the trigger on plain features.
        value: what triggered pixels or features are set to; None for 1 on images, 0 on features.
        labels: "all_to_one" for the target in place of every label, "all_to_all" for y + 1 mod `num_classes`.
        source: the only class whose copies are marked, and whose test examples count; None for all.
        clean_label: whether only copies of the target's own examples are marked, and keep their label.
        mix: "copies" for those that are appended, "replace" for a share ρ of every batch, rounded down, which
            is marked in place of being copied.

    Returns:
        The `Attack`, with its `Trigger` for measuring the attack success rate.

    Raises:
        ValueError: if a number is out of range, the trigger does not fit the inputs, or two arguments exclude
            each other.

    Example:
        >>> attack = badnets(image_shape=(28, 28, 1), target=2)
        >>> attack.trigger.target, attack.copies
        (2, 0.5)

    Source: Gu, Dolan-Gavitt and Garg, "BadNets: identifying vulnerabilities in the machine learning model
    supply chain", 2017. BackFed (ρ = 0.3125), A3FL (0.25) and FLPoison (0.32, a white square of 5×5 pixels)
    replace the first examples of every batch. FLPoison's map of all to all is M − 1 − y. BackFed marks images
    of the target as well where one source is mapped to it.
    """
    return with_pattern(
        NO_ATTACK,
        num_classes=num_classes,
        image_shape=image_shape,
        target=target,
        poison_fraction=poison_fraction,
        pixels=pixels,
        every=every,
        value=value,
        labels=labels,
        source=source,
        clean_label=clean_label,
        mix=mix,
    )
