"""The paper's ResNet20 for small images."""

from collections.abc import Sequence
from typing import Literal

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from fljax.models.layers import patch_conv, xavier_gluon

Norm = Literal["batch", "group"]


class _Block(nn.Module):
    """Two 3×3 convolutions around a shortcut, projected by a 1×1 convolution where the shape changes."""

    width: int
    stride: int
    norm: Norm

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        y = _conv(self.width, 3, self.stride)(x)
        y = nn.relu(_norm(self.norm, self.width, train)(y))
        y = _conv(self.width, 3, 1)(y)
        y = _norm(self.norm, self.width, train)(y)
        if self.stride != 1 or x.shape[-1] != self.width:
            x = _norm(self.norm, self.width, train)(_conv(self.width, 1, self.stride)(x))
        return nn.relu(x + y)


def _conv(width: int, size: int, stride: int) -> nn.Conv:
    return nn.Conv(
        width,
        (size, size),
        (stride, stride),
        padding=size // 2,
        use_bias=False,
        kernel_init=xavier_gluon,
        conv_general_dilated=patch_conv,
    )


def _norm(norm: Norm, width: int, train: bool) -> nn.Module:
    if norm == "group":
        return nn.GroupNorm(num_groups=None, group_size=min(8, width), epsilon=1e-5)
    return nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-5)


class ResNet20(nn.Module):
    """The paper's ResNet20 for small images."""

    num_classes: int
    norm: Norm = "batch"
    widths: Sequence[int] = (16, 32, 64)
    blocks: int = 3

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        x = nn.relu(_norm(self.norm, self.widths[0], train)(_conv(self.widths[0], 3, 1)(x)))
        for stage, width in enumerate(self.widths):
            for block in range(self.blocks):
                x = _Block(width, 2 if stage > 0 and block == 0 else 1, self.norm)(x, train)
        return nn.Dense(self.num_classes, kernel_init=xavier_gluon)(jnp.mean(x, axis=(1, 2)))
