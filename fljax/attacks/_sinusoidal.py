"""The sinusoidal backdoor: a faint wave over the whole input."""

from functools import partial
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jax import Array

from fljax.attacks.poisoning import Labels, Mix, poisoned
from fljax.attacks.registry import register_attack
from fljax.attacks.wrappers import NO_ATTACK, checked, from_factory
from fljax.base import Attack
from fljax.numerics.checks import fixed_real


@checked
def sinusoidal_trigger(
    inputs: Array, *, ndim: int, amplitude: float = 20 / 255, frequency: float = 6.0
) -> Array:
    """Add a wave along the columns: x'_j = x_j + Δ sin(2π f j / J), for images clipped to [0, 1].

    Args:
        inputs: (..., height, width, channels), or (..., num_features), whose columns are the features.
        ndim: the number of axes of one input, 3 for images.
        amplitude: Δ, in the unit of the inputs.
        frequency: f, waves per J columns.

    Returns:
        Inputs of the same shape and type.

    Raises:
        ValueError: if a number is not finite.

    Example:
        >>> row = sinusoidal_trigger(jnp.full((1, 4, 1), 0.5), ndim=3, amplitude=0.25, frequency=1.0)
        >>> row[0, :, 0].tolist()
        [0.5, 0.75, 0.5, 0.25]

    Source: Barni, Kallas and Tondi, "A new backdoor attack in CNNs by training set corruption without label
    poisoning", ICIP 2019.
    """
    amplitude = fixed_real("amplitude", amplitude, finite=True)
    frequency = fixed_real("frequency", frequency, finite=True)
    inputs = jnp.asarray(inputs)
    columns = inputs.shape[-2 if ndim == 3 else -1]
    wave = amplitude * np.sin(2 * np.pi * frequency * np.arange(columns) / columns)
    if ndim != 3:
        return inputs + jnp.asarray(wave, inputs.dtype)
    return jnp.clip(inputs + jnp.asarray(wave[:, None], inputs.dtype), 0, 1)


@register_attack(
    title="Sinusoidal signal",
    source="Barni et al. 2019",
    assumes="own data",
    optimises="backdoor",
    make=from_factory,
    streams=True,
)
def sinusoidal(
    *,
    num_classes: int | None = None,
    image_shape: tuple[int, int, int] | None = None,
    target: int = 0,
    poison_fraction: float | Literal["uniform"] = 0.5,
    amplitude: float = 20 / 255,
    frequency: float = 6.0,
    labels: Labels = "all_to_one",
    source: int | None = None,
    clean_label: bool = True,
    mix: Mix = "copies",
) -> Attack:
    """The sinusoidal backdoor (SIG): a faint wave x'_j = x_j + Δ sin(2π f j / J) along the J columns.

    Each malicious client appends ⌈ρ · (its number of examples)⌉ copies, ρ = `poison_fraction`, and sends what
    it trained on all of them. Those of the target's own class carry the wave and keep their label, so that
    nobody who looks at a label finds it wrong; the others stay what they are. Success is that of the wave on
    test examples of other classes.

    Args:
        num_classes: number of labels, to check the target against.
        image_shape: (height, width, channels), or None for plain features, of which each is a column.
        target: the label the attacker wants.
        poison_fraction: how many copies, as a share of a client's examples, or "uniform" (see
            `scaling_attack`).
        amplitude: Δ, in the unit of the inputs; images are clipped to [0, 1] afterwards.
        frequency: f.
        labels: "all_to_one" for the target in place of every label, "all_to_all" for y + 1 mod `num_classes`;
            both without clean labels.
        source: the only class whose copies are marked, and whose test examples count; None for all.
        clean_label: whether only copies of the target's own examples are marked, and keep their label.
        mix: "copies" for those that are appended, "replace" for a share ρ of every batch, rounded down, which
            is marked in place of being copied.

    Returns:
        The `Attack`, with its `Trigger` for measuring the attack success rate.

    Raises:
        ValueError: if a number is out of range, or two arguments exclude each other.

    Example:
        >>> attack = sinusoidal(image_shape=(8, 8, 1), target=3, frequency=2.0)
        >>> x, y = jnp.full((2, 8, 8, 1), 0.5), jnp.array([3, 7])
        >>> marked, label = attack.poison_data(x, y, jnp.array([True, True]), jnp.int32(0))
        >>> (marked != x).any((1, 2, 3)).tolist(), label.tolist()
        ([True, False], [3, 7])

    Source: Barni, Kallas and Tondi, "A new backdoor attack in CNNs by training set corruption without label
    poisoning", ICIP 2019 (Δ = 20/255, f = 6).
    """
    embed = partial(
        sinusoidal_trigger,
        ndim=1 if image_shape is None else 3,
        amplitude=fixed_real("amplitude", amplitude, finite=True),
        frequency=fixed_real("frequency", frequency, finite=True),
    )
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
