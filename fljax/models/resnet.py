"""The paper's residual network for small images."""

from collections.abc import Sequence
from typing import Literal

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from fljax.models.conv import client_conv
from fljax.models.layers import BatchNorm, xavier_resnet
from fljax.models.registry import register_model

Norm = Literal["batch", "group"]


def _conv(width: int, size: int, stride: int) -> nn.Conv:
    return nn.Conv(
        width,
        (size, size),
        (stride, stride),
        padding=size // 2,
        use_bias=False,
        kernel_init=xavier_resnet,
        conv_general_dilated=client_conv,
    )


def _norm(norm: Norm, width: int, train: bool) -> nn.Module:
    if norm == "group":
        return nn.GroupNorm(num_groups=None, group_size=min(8, width), epsilon=1e-5)
    return BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-5)


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


@register_model("resnet20", title="ResNet20", source="He et al. 2016")
class ResNet20(nn.Module):
    """The paper's ResNet20: a 3×3 stem, 3 stages of 3 basic blocks, average pooling, dense M.

    272,474 parameters for 32×32×3 images and 10 classes, 272,056 for 64×64×1 images and 8 classes. Running
    batch statistics (momentum 0.9 a local step, as in Gluon) are no parameters and no part of an update.
    Kernels start uniform in (−a, a), a² = 3.14 / mean fan, the magnitude in the code of the paper's group.

    Attributes:
        num_classes: M.
        norm: "batch", or "group" for group normalisation in groups of 8 channels: no statistics to carry, but
            not the paper's network.
        widths: channels of the stages; each but the first halves the image.
        blocks: basic blocks of a stage.

    Source: He et al., "Deep residual learning for image recognition", CVPR 2016, section 4.2, with projection
    shortcuts; named in Cao et al., NDSS 2021, which leaves the details open.
    """

    num_classes: int
    norm: Norm = "batch"
    widths: Sequence[int] = (16, 32, 64)
    blocks: int = 3

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        if x.ndim != 4:
            raise ValueError(f"ResNet20: images (height, width, channels) needed, got {x.shape[1:]}")
        x = _conv(self.widths[0], 3, 1)(x)
        x = nn.relu(_norm(self.norm, self.widths[0], train)(x))
        for stage, width in enumerate(self.widths):
            for block in range(self.blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                x = _Block(width, stride, self.norm)(x, train)
        return nn.Dense(self.num_classes, kernel_init=xavier_resnet)(jnp.mean(x, axis=(1, 2)))
