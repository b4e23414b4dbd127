"""The blended backdoor: a faint pattern over the whole input."""

from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array

from fljax.attacks.poisoning import Labels, Mix, poisoned
from fljax.attacks.registry import register_attack
from fljax.attacks.wrappers import NO_ATTACK, checked, from_factory
from fljax.base import Attack
from fljax.numerics.checks import fixed_real, whole


@checked
def blended_trigger(inputs: Array, *, ndim: int, opacity: float = 0.2, seed: int = 0) -> Array:
    """Blend a random pattern into inputs: x' = (1 − b) x + b t.

    t has the shape of one input and entries drawn once from U(0, 1).

    Args:
        inputs: (..., *input_shape), in the unit of the pattern, 0 to 1.
        ndim: the number of axes of one input.
        opacity: b, between 0 and 1.
        seed: of t.

    Returns:
        Inputs of the same shape and type.

    Raises:
        ValueError: if `opacity` is not between 0 and 1.

    Example:
        >>> faint = blended_trigger(jnp.zeros((2, 3)), ndim=1, opacity=0.1)
        >>> bool((faint[0] == faint[1]).all()), bool((faint <= 0.1).all())
        (True, True)

    Source: Chen et al., "Targeted backdoor attacks on deep learning systems using data poisoning", 2017.
    """
    opacity = fixed_real("opacity", opacity, at_least=0, at_most=1)
    inputs = jnp.asarray(inputs)
    shape = inputs.shape[inputs.ndim - ndim :]
    pattern = jax.random.uniform(jax.random.key(whole("seed", seed)), shape, inputs.dtype)
    return (1 - opacity) * inputs + opacity * pattern


@register_attack(
    title="Blended",
    source="Chen et al. 2017",
    assumes="own data",
    optimises="backdoor",
    make=from_factory,
    streams=True,
)
def blended(
    *,
    num_classes: int | None = None,
    image_shape: tuple[int, int, int] | None = None,
    target: int = 0,
    poison_fraction: float | Literal["uniform"] = 0.5,
    opacity: float = 0.2,
    seed: int = 0,
    labels: Labels = "all_to_one",
    source: int | None = None,
    clean_label: bool = False,
    mix: Mix = "copies",
) -> Attack:
    """The blended backdoor: a faint random pattern t over the whole input, x' = (1 − b) x + b t.

    Each malicious client appends ⌈ρ · (its number of examples)⌉ copies that carry the pattern and the
    target's label, ρ = `poison_fraction`, and sends what it trained on all of them.

    Args:
        num_classes: number of labels, to check the target against.
        image_shape: (height, width, channels), or None for plain features.
        target: the label the attacker wants.
        poison_fraction: how many copies, as a share of a client's examples, or "uniform" (see
            `scaling_attack`).
        opacity: b, between 0 and 1.
        seed: of t, whose entries are drawn once from U(0, 1).
        labels: "all_to_one" for the target in place of every label, "all_to_all" for y + 1 mod `num_classes`.
        source: the only class whose copies are marked, and whose test examples count; None for all.
        clean_label: whether only copies of the target's own examples are marked, and keep their label.
        mix: "copies" for those that are appended, "replace" for a share ρ of every batch, rounded down, which
            is marked in place of being copied.

    Returns:
        The `Attack`, with its `Trigger` for measuring the attack success rate.

    Raises:
        ValueError: if a number is out of range, or two arguments exclude each other.

    Example:
        >>> attack = blended(image_shape=(8, 8, 1), opacity=0.1)
        >>> bool((attack.trigger.embed(jnp.zeros((8, 8, 1))) <= 0.1).all())
        True

    Source: Chen, Liu, Li, Lu and Song, "Targeted backdoor attacks on deep learning systems using data
    poisoning", 2017, with their random pattern; BackFed's opacity is 0.2, too.
    """

    def embed(x: Array) -> Array:
        return blended_trigger(x, ndim=1 if image_shape is None else 3, opacity=opacity, seed=seed)

    fixed_real("opacity", opacity, at_least=0, at_most=1)
    return poisoned(
        NO_ATTACK,
        embed,
        num_classes=num_classes,
        image_shape=image_shape,
        target=target,
        poison_fraction=poison_fraction,
        pixels=None,
        labels=labels,
        source=source,
        clean_label=clean_label,
        mix=mix,
    )
