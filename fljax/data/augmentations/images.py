"""Augmentations of images (height, width, channels)."""

import jax
import jax.numpy as jnp
from jax import Array, lax

from fljax.data.augmentations.registry import register_augmentation
from fljax.numerics.checks import ArgumentError, fixed_real, named, whole


def _sides(image: Array) -> tuple[int, int]:
    """Height and width, of an image."""
    if image.ndim != 3:
        raise ArgumentError(f"images (height, width, channels) needed, got inputs of shape {image.shape}")
    return image.shape[0], image.shape[1]


@register_augmentation(title="horizontal flip", source="Krizhevsky et al. 2012")
def flip(image: Array, key: Array, *, probability: float = 0.5) -> Array:
    """Mirror the image from left to right with a probability.

    Args:
        image: (height, width, channels).
        key: typed PRNG key.
        probability: in [0, 1].

    Returns:
        (height, width, channels).

    Raises:
        ValueError: if the input is no image, or the probability is none.

    Example:
        >>> flip(jnp.array([[[1.0], [2.0]]]), jax.random.key(0), probability=1.0)[0, :, 0].tolist()
        [2.0, 1.0]

    Source: Krizhevsky et al., "ImageNet classification with deep convolutional neural networks", NIPS 2012.
    """
    with named("flip"):
        _sides(image)
        probability = fixed_real("probability", probability, at_least=0, at_most=1)
    return jnp.where(jax.random.bernoulli(key, probability), image[:, ::-1], image)


@register_augmentation(title="random crop", source="He et al. 2016")
def crop(image: Array, key: Array, *, padding: int = 4) -> Array:
    """Put zeros around the image and cut its size out at a random place.

    All (2 padding + 1)² places are equally likely.

    Args:
        image: (height, width, channels).
        key: typed PRNG key.
        padding: rows and columns of zeros at every side, at least 1.

    Returns:
        (height, width, channels).

    Raises:
        ValueError: if the input is no image, or `padding` is no number of pixels.

    Example:
        >>> crop(jnp.ones((4, 4, 1)), jax.random.key(0), padding=1).shape
        (4, 4, 1)

    Source: He et al., "Deep residual learning for image recognition", CVPR 2016, section 4.2.
    """
    with named("crop"):
        height, width = _sides(image)
        padding = whole("padding", padding, smallest=1)
    row, column = jax.random.randint(key, (2,), 0, 2 * padding + 1)
    padded = jnp.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    return lax.dynamic_slice(padded, (row, column, 0), (height, width, image.shape[2]))


@register_augmentation(title="cutout", source="DeVries and Taylor 2017")
def cutout(image: Array, key: Array, *, size: int = 16) -> Array:
    """Set a square at a random place to zero; it may stand out over the edges.

    With its centre (r, c), one of all pixels with the same probability, the square has the rows
    r − ⌊size/2⌋ to r − ⌊size/2⌋ + size − 1, and the columns likewise.

    Args:
        image: (height, width, channels).
        key: typed PRNG key.
        size: pixels of a side, at least 1.

    Returns:
        (height, width, channels).

    Raises:
        ValueError: if the input is no image, or `size` is no number of pixels.

    Example:
        >>> float(cutout(jnp.ones((4, 4, 1)), jax.random.key(0), size=1).sum())
        15.0

    Source: DeVries and Taylor, "Improved regularization of convolutional neural networks with cutout", 2017.
    Their code takes squares of odd size one smaller, and cuts out after normalisation, where 0 is the mean.
    """
    with named("cutout"):
        sides = _sides(image)
        size = whole("size", size, smallest=1)
    inside = []
    for side, own in zip(sides, jax.random.split(key), strict=True):
        first = jax.random.randint(own, (), 0, side) - size // 2
        place = jnp.arange(side)
        inside.append((place >= first) & (place < first + size))
    hole = inside[0][:, None, None] & inside[1][None, :, None]
    return jnp.where(hole, jnp.zeros((), image.dtype), image)
