"""Layers chosen for training many clients at once, and the initialisation of the paper's models."""

import math

import jax.numpy as jnp
from flax import linen as nn
from jax import Array, lax

from fljax.models.conv import client_conv

# MXNet's Xavier initialiser with magnitude 2.24: uniform in (−a, a), a² = 2.24 / mean fan; biases 0.
xavier = nn.initializers.variance_scaling(2.24 / 3, "fan_avg", "uniform")
# The same with the magnitude of 3.14 that the group used for its residual networks.
xavier_resnet = nn.initializers.variance_scaling(3.14 / 3, "fan_avg", "uniform")


def max_pool_2x2(x: Array) -> Array:
    """Maximum over disjoint 2×2 windows; an odd last row or column is dropped.

    Written with strided maxima: the gradient of `reduce_window` is slow on a CPU. Where values tie, the
    gradient is shared equally.

    Args:
        x: (batch, height, width, channels).

    Returns:
        (batch, height // 2, width // 2, channels).

    Example:
        >>> max_pool_2x2(jnp.arange(16.0).reshape(1, 4, 4, 1))[0, :, :, 0].tolist()
        [[5.0, 7.0], [13.0, 15.0]]
    """
    height, width = x.shape[1] // 2 * 2, x.shape[2] // 2 * 2
    x = x[:, :height, :width]
    x = jnp.maximum(x[:, ::2], x[:, 1::2])
    return jnp.maximum(x[:, :, ::2], x[:, :, 1::2])


class ConvPool(nn.Module):
    """A valid 3×3 convolution, 2×2 max pooling and ReLU.

    ReLU comes after the pooling, which gives the same values from a quarter of the work, and input rows and
    columns that the pooling would drop are not convolved at all.

    Attributes:
        features: number of output channels.
    """

    features: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        height, width = ((size - 2) // 2 * 2 + 2 for size in x.shape[1:3])
        if min(height, width) < 4:
            raise ValueError(
                f"ConvPool: images of {x.shape[1]}×{x.shape[2]} are too small, at least 4×4 needed"
            )
        conv = nn.Conv(
            self.features,
            (3, 3),
            padding="VALID",
            kernel_init=xavier,
            conv_general_dilated=client_conv,
        )
        return nn.relu(max_pool_2x2(conv(x[:, :height, :width])))


def flatten(x: Array) -> Array:
    """(batch, ...) to (batch, features)."""
    return x.reshape(x.shape[0], math.prod(x.shape[1:]))


class BatchNorm(nn.BatchNorm):
    """Batch normalisation over the last axis, as flax's, in two thirds of the time on a CPU.

    The statistics are matrix products. `mask` is (b,) or any shape with one entry per example, not per pixel.
    """

    @nn.compact
    def __call__(
        self, x: Array, use_running_average: bool | None = None, *, mask: Array | None = None
    ) -> Array:
        running = nn.merge_param("use_running_average", self.use_running_average, use_running_average)
        channels = x.shape[-1]
        old_mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,))
        old_var = self.variable("batch_stats", "var", jnp.ones, (channels,))
        scale = self.param("scale", self.scale_init, (channels,))
        bias = self.param("bias", self.bias_init, (channels,))
        if running:
            mean, var = old_mean.value, old_var.value
        else:
            pixels = math.prod(x.shape[1:-1])
            real = jnp.ones(x.shape[0]) if mask is None else mask.reshape(-1).astype(jnp.float32)
            weights = jnp.repeat(real / (pixels * jnp.sum(real)), pixels)
            flat = x.reshape(-1, channels)
            mean = jnp.matmul(weights, flat, precision="highest")
            squares = jnp.matmul(weights, jnp.square(flat), precision="highest")
            var = jnp.maximum(squares - jnp.square(mean), 0.0)
            if not self.is_initializing():
                old_mean.value = self.momentum * old_mean.value + (1 - self.momentum) * mean
                old_var.value = self.momentum * old_var.value + (1 - self.momentum) * var
        factor = scale * lax.rsqrt(var + self.epsilon)
        return x * factor + (bias - mean * factor)
