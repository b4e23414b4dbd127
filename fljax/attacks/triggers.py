"""Triggers: pixels or features that are set to one value."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import Array

from fljax.attacks.wrappers import checked
from fljax.numerics.checks import ArgumentError, whole

# The group's own code for 28×28 images; other sizes use the same offsets from the last row and column.
PATTERN_28 = ((26, 26), (24, 26), (26, 24), (25, 25))
# The pattern of Bagdasaryan et al. for CIFAR-10, as in the group's code.
PATTERN_CIFAR = ((1, 28), (1, 29), (1, 30), (2, 29), (3, 28), (4, 29), (5, 28), (5, 29), (5, 30))


def _bars(length: int, below: int, beside: int) -> tuple[tuple[tuple[int, int], ...], ...]:
    """Two by two horizontal bars of pixels from the upper left corner."""
    corners = ((0, 0), (0, beside), (below, 0), (below, beside))
    return tuple(tuple((row, column + k) for k in range(length)) for row, column in corners)


# The distributed trigger of Xie et al. for MNIST and CIFAR-10, from their published settings.
PARTS = {(28, 28, 1): _bars(4, 3, 6), (32, 32, 3): _bars(6, 4, 9)}


def pattern_mask(height: int, width: int, pixels: Sequence[tuple[int, int]]) -> np.ndarray:
    """(height, width, 1) boolean, True at the (row, column) pairs, of which there is at least one."""
    if not len(pixels):
        raise ArgumentError("pixels must hold at least one (row, column) pair")
    mask = np.zeros((height, width, 1), bool)
    for row, column in pixels:
        if not (0 <= row < height and 0 <= column < width):
            raise ArgumentError(f"pixel ({row}, {column}) lies outside images of {height}×{width}")
        mask[row, column] = True
    return mask


def feature_mask(count: int, every: int) -> np.ndarray:
    """(count,) boolean, True at every `every`-th feature, counted from 1."""
    every = whole("every", every, smallest=1)
    if every > count:
        raise ArgumentError(f"every={every} must be between 1 and {count} features")
    return (np.arange(count) + 1) % every == 0


@checked
def pattern_trigger(images: Array, *, pixels: Sequence[tuple[int, int]], value: float = 1.0) -> Array:
    """Set the given pixels, in every channel, to one value.

    Args:
        images: (..., height, width, channels).
        pixels: (row, column) pairs.
        value: the new intensity, in the unit of the images.

    Returns:
        Images of the same shape and type.

    Raises:
        ValueError: if a pixel lies outside the images.

    Example:
        >>> pattern_trigger(jnp.zeros((1, 2, 2, 1)), pixels=[(0, 1)])[0, :, :, 0].tolist()
        [[0.0, 1.0], [0.0, 0.0]]

    Source: Gu et al., "BadNets", 2017; Bagdasaryan et al., "How to backdoor federated learning", AISTATS
    2020.
    """
    images = jnp.asarray(images)
    mask = pattern_mask(images.shape[-3], images.shape[-2], pixels)
    return jnp.where(mask, jnp.asarray(value, images.dtype), images)


@checked
def feature_trigger(features: Array, *, every: int = 20, value: float = 0.0) -> Array:
    """Set every `every`-th feature (counted from 1) to one value.

    Args:
        features: (..., num_features).
        every: the period; 20 sets features 20, 40, …, 560 of the 561 of UCI HAR.
        value: the new value.

    Returns:
        Features of the same shape and type.

    Raises:
        ValueError: if `every` is not between 1 and the number of features.

    Example:
        >>> feature_trigger(jnp.ones((4,)), every=2).tolist()
        [1.0, 0.0, 1.0, 0.0]

    Source: Cao et al., NDSS 2021 (HAR).
    """
    features = jnp.asarray(features)
    mask = feature_mask(features.shape[-1], every)
    return jnp.where(mask, jnp.asarray(value, features.dtype), features)


def default_pixels(height: int, width: int, channels: int) -> tuple[tuple[int, int], ...]:
    """The trigger pattern usual for images of this shape.

    Example:
        >>> default_pixels(8, 8, 1)
        ((6, 6), (4, 6), (6, 4), (5, 5))
    """
    if (height, width, channels) == (32, 32, 3):
        return PATTERN_CIFAR
    return tuple((row + height - 28, column + width - 28) for row, column in PATTERN_28)


def default_parts(
    image_shape: tuple[int, int, int], num_parts: int
) -> tuple[tuple[tuple[int, int], ...], ...]:
    """The parts of a distributed trigger usual for images of this shape.

    Example:
        >>> default_parts((28, 28, 1), 4)[1]
        ((0, 6), (0, 7), (0, 8), (0, 9))
    """
    bars = PARTS.get(image_shape)
    if bars is not None and num_parts == len(bars):
        return bars
    pixels = [pixel for part in bars for pixel in part] if bars else default_pixels(*image_shape)
    if num_parts > len(pixels):
        raise ArgumentError(f"num_parts={num_parts} exceeds the trigger's {len(pixels)} pixels")
    return tuple(tuple(pixels[k::num_parts]) for k in range(num_parts))
