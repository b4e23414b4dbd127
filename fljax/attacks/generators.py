"""A small network that draws a trigger for every image."""

from itertools import pairwise

import jax
import jax.numpy as jnp
from jax import Array

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
        images = _convolved(images, kernel.astype(x.dtype))
        images = images + bias.astype(x.dtype)
    return jnp.clip(x + jnp.asarray(size, x.dtype) * jnp.tanh(images).reshape(x.shape), 0, 1)


def _convolved(images: Array, kernel: Array) -> Array:
    """A convolution of 3×3 that keeps the size.

    It is one product with patches: XLA's own takes long inside a loop on a CPU.
    """
    height, width = images.shape[1:3]
    padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    places = [(i, j) for i in range(3) for j in range(3)]
    patches = jnp.concatenate([padded[:, i : i + height, j : j + width] for i, j in places], axis=-1)
    return patches @ kernel.reshape(-1, kernel.shape[-1])
