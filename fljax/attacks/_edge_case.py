"""Edge-case backdoors: rare inputs with another label, and no pixel changed."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fljax.attacks.poisoning import MOST_COPIES
from fljax.attacks.registry import register_attack
from fljax.attacks.wrappers import NO_ATTACK, from_factory
from fljax.base import Attack, Trigger
from fljax.numerics.checks import ArgumentError, fixed_real, whole


@register_attack(
    title="Edge-case backdoor",
    source="Wang et al. 2020",
    assumes="own data, a set of rare inputs",
    optimises="backdoor",
    make=from_factory,
    streams=True,
)
def edge_case(
    *,
    num_classes: int | None = None,
    image_shape: tuple[int, int, int] | None = None,
    target: int = 0,
    poison_fraction: float = 0.25,
    file: str | None = None,
    source: int | None = None,
) -> Attack:
    """Edge-case backdoors: rare inputs, which honest clients hardly have, trained with the target's label.

    Each malicious client appends ⌈ρ · (its number of examples)⌉ copies, ρ = `poison_fraction`. With a `file`
    of rare inputs, each copy is one of them, drawn anew for every batch, and success is measured on the
    file's held-out inputs. With a `source` class, copies of its images are turned upside down as a stand-in
    for rare ones, other copies stay what they are, and success is measured on the class's test images turned
    upside down.

    Args:
        num_classes: number of labels, to check the labels against.
        image_shape: (height, width, channels), or None for plain features.
        target: the label the attacker wants.
        poison_fraction: how many copies, as a share of a client's examples.
        file: path of an .npz file with the arrays `train` and `test`, (K, *input_shape) and (L,
            *input_shape), in the unit of the data set's inputs.
        source: a class, in place of a file; None for the class after the target.

    Returns:
        The `Attack`, with its `Trigger`. Trained inside a ball it is the published PGD attack: it is the
        `backdoor` of `projected_gradient` then.

    Raises:
        ValueError: if both `file` and `source` are given, a number is out of range, or the file does not hold
            such arrays.

    Example:
        >>> attack = edge_case(image_shape=(2, 2, 1), source=7, target=1)
        >>> image = jnp.arange(4.0).reshape(2, 2, 1)
        >>> attack.trigger.embed(image)[..., 0].tolist(), attack.trigger.source
        ([[3.0, 2.0], [1.0, 0.0]], 7)

    Source: Wang et al., "Attack of the tails: yes, you really can backdoor federated learning", NeurIPS 2020:
    100 images of one airline's planes as trucks beside 400 ordinary ones (ρ = 0.25), or ARDIS' sevens as
    ones. A file of one feature's images, such as green cars, gives the semantic backdoor of Bagdasaryan et
    al., AISTATS 2020. FLPoison replaces 80 % of an attacker's examples, BackFed 31 % of every batch.
    """
    copies = fixed_real("poison_fraction", poison_fraction, at_least=0, at_most=MOST_COPIES)
    target = whole("target", target)
    for name, label in (("target", target), ("source", source)):
        if label is not None and num_classes is not None and whole(name, label) >= num_classes:
            raise ArgumentError(f"{name}={label} is not one of the {num_classes} labels from 0")
    if file is not None and source is not None:
        raise ArgumentError(f"takes either a file or a source, got file={file!r} and source={source}")
    if file is not None:
        return _from_file(file, image_shape, target)._replace(copies=copies)
    if image_shape is None:
        raise ArgumentError("source is for images; other inputs need a file")
    chosen = (target + 1) % (num_classes or target + 2) if source is None else source

    def poison_data(x: Array, y: Array, is_copy: Array, member: Array) -> tuple[Array, Array]:
        rare = is_copy & (y == chosen)
        return jnp.where(_along(rare, x), _upside_down(x), x), jnp.where(rare, target, y)

    trigger = Trigger(_upside_down, target, source=chosen)
    return NO_ATTACK._replace(poison_data=poison_data, trigger=trigger, copies=copies)


def _upside_down(images: Array) -> Array:
    return jnp.flip(images, axis=(-3, -2))


def _along(mask: Array, x: Array) -> Array:
    return mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim))


def _from_file(file: str, image_shape: tuple[int, int, int] | None, target: int) -> Attack:
    """The attack with the rare inputs of a file; they are few, and so part of the program."""
    train, test = _read(file, image_shape)

    def poison_data(x: Array, y: Array, is_copy: Array, member: Array, key: Array) -> tuple[Array, Array]:
        if x.shape[1:] != train.shape[1:]:
            raise ArgumentError(f"file={file!r} holds inputs {train.shape[1:]}, the data set {x.shape[1:]}")
        rare = jnp.asarray(train, x.dtype)[jax.random.randint(key, is_copy.shape, 0, len(train))]
        return jnp.where(_along(is_copy, x), rare, x), jnp.where(is_copy, target, y)

    return NO_ATTACK._replace(
        poison_data=poison_data, trigger=Trigger(lambda x: x, target, examples=jnp.asarray(test))
    )


def _read(file: str, image_shape: tuple[int, int, int] | None) -> list[np.ndarray]:
    """The arrays `train` and `test` of a file, float32."""
    try:
        with np.load(Path(file).expanduser(), allow_pickle=False) as arrays:
            found = [np.asarray(arrays[name], np.float32) for name in ("train", "test")]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArgumentError(
            f"file={file!r} must be an .npz file with the arrays train and test of numbers: {error}"
        ) from None
    for name, array in zip(("train", "test"), found, strict=True):
        if array.ndim < 2 or not len(array) or not np.isfinite(array).all():
            raise ArgumentError(f"file={file!r}: {name} must hold at least one input, of finite numbers")
        if image_shape is not None and array.shape[1:] != image_shape:
            raise ArgumentError(
                f"file={file!r}: {name} holds inputs {array.shape[1:]}, the data set {image_shape}"
            )
    return found
