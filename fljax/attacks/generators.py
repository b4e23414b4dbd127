"""A small network that draws a trigger for every image."""

from itertools import pairwise

import jax
import jax.numpy as jnp
from jax import Array, lax

# Channels of the two inner layers.
WIDTH = 16

# Kernels and biases of three convolutions.
Generator = list[tuple[Array, Array]]


def new_generator(key: Array, channels: int) -> Generator:
    """Three convolutions with He's normal kernels."""
    sizes = [channels, WIDTH, WIDTH, channels]
    layers = []
    for number, (inner, outer) in enumerate(pairwise(sizes)):
        kernel = jax.random.normal(jax.random.fold_in(key, number), (3, 3, inner, outer))
        layers.append((kernel * jnp.sqrt(2 / (9 * inner)), jnp.zeros(outer)))
    return layers


def marked_by(generator: Generator, x: Array, size: Array | float) -> Array:
    """clip(x + ε T(x), 0, 1) of images (..., height, width, channels)."""
    images = x.reshape(-1, *x.shape[-3:])
    for number, (kernel, bias) in enumerate(generator):
        images = jax.nn.relu(images) if number else images
        images = lax.conv_general_dilated(
            images, kernel.astype(x.dtype), (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        images = images + bias.astype(x.dtype)
    return jnp.clip(x + jnp.asarray(size, x.dtype) * jnp.tanh(images).reshape(x.shape), 0, 1)
