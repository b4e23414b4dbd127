"""Networks for small images in which other federated benchmarks are reported."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from fljax.models.conv import client_conv
from fljax.models.layers import flatten, max_pool_2x2
from fljax.models.registry import register_model

# PyTorch's default for weights: uniform in (−1/√inputs, 1/√inputs).
_torch = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
_glorot = nn.initializers.glorot_uniform()
_Initializer = nn.initializers.Initializer


def _torch_bias(inputs: int) -> _Initializer:
    """PyTorch's default for biases: as the weights of a layer with so many inputs."""
    return lambda key, shape, dtype=jnp.float32: (
        jax.random.uniform(key, shape, dtype, minval=-1, maxval=1) * inputs**-0.5
    )


def _conv(
    x: Array,
    features: int,
    size: int,
    padding: str,
    kernel_init: _Initializer,
    bias_init: _Initializer = nn.initializers.zeros,
) -> Array:
    return nn.Conv(
        features,
        (size, size),
        padding=padding,
        kernel_init=kernel_init,
        bias_init=bias_init,
        conv_general_dilated=client_conv,
    )(x)


def _images(name: str, x: Array, smallest: int) -> None:
    if x.ndim != 4 or min(x.shape[1:3]) < smallest:
        needed = f"images (height, width, channels) of at least {smallest}×{smallest} needed"
        raise ValueError(f"{name}: {needed}, got {x.shape[1:]}")


@register_model("fedavg_cnn", title="FedAvg CNN", source="McMahan et al. 2017")
class FedAvgCNN(nn.Module):
    """FedAvg's CNN: 5×5 convolutions (32, 64) that keep the size, each with 2×2 pooling, dense 512, dense M.

    1,663,370 parameters for 28×28×1 images and 10 classes.

    Attributes:
        num_classes: M.

    Source: McMahan et al., "Communication-efficient learning of deep networks from decentralized data",
    AISTATS 2017, section 3. The initialisation is not published; this is Glorot's, biases 0.
    """

    num_classes: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        _images("fedavg_cnn", x, 4)
        for features in (32, 64):
            x = nn.relu(max_pool_2x2(_conv(x, features, 5, "SAME", _glorot)))
        x = nn.relu(nn.Dense(512, kernel_init=_glorot)(flatten(x)))
        return nn.Dense(self.num_classes, kernel_init=_glorot)(x)


@register_model("dropout_cnn", title="CNN with dropout", source="Reddi et al. 2021")
class DropoutCNN(nn.Module):
    """EMNIST's CNN: two 3×3 convolutions (32, 64), 2×2 pooling, dropout, dense 128, dropout, dense M.

    1,206,590 parameters for 28×28×1 images and 62 classes. FedJAX's EMNIST example and pfl-research's
    `simple_cnn` are this network.

    Attributes:
        num_classes: M.
        rates: shares of the values that are dropped after the pooling and after the hidden layer.

    Source: Reddi et al., "Adaptive federated optimization", ICLR 2021, appendix. Kernels start as Glorot has
    it, as in pfl-research; FedJAX takes haiku's default.
    """

    num_classes: int
    rates: Sequence[float] = (0.25, 0.5)

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        _images("dropout_cnn", x, 6)
        after_pooling, after_hidden = self.rates
        x = nn.relu(_conv(x, 32, 3, "VALID", _glorot))
        x = nn.relu(max_pool_2x2(_conv(x, 64, 3, "VALID", _glorot)))
        x = flatten(nn.Dropout(after_pooling)(x, deterministic=not train))
        x = nn.relu(nn.Dense(128, kernel_init=_glorot)(x))
        x = nn.Dropout(after_hidden)(x, deterministic=not train)
        return nn.Dense(self.num_classes, kernel_init=_glorot)(x)


@register_model("lenet", title="LeNet", source="LeCun et al. 1998")
class LeNet(nn.Module):
    """LeNet-5 with ReLU: 5×5 convolutions, each with 2×2 maximum pooling, dense hidden layers, dense M.

    62,006 parameters for 32×32×3 images and 10 classes. Weights and biases start as PyTorch has it, uniform
    in ±1/√inputs.

    Attributes:
        num_classes: M.
        features: output channels of the convolutions.
        hidden: widths of the hidden layers.

    Source: LeCun et al., "Gradient-based learning applied to document recognition", 1998, in the form of
    PyTorch's CIFAR-10 tutorial, which Flower's and BlazeFL's examples train. ByzFL's `cnn_mnist` has features
    (20, 50) and one hidden layer of 500.
    """

    num_classes: int
    features: Sequence[int] = (6, 16)
    hidden: Sequence[int] = (120, 84)

    @nn.compact
    def __call__(self, x: Array) -> Array:
        _images("lenet", x, 16)
        for width in self.features:
            x = nn.relu(max_pool_2x2(_conv(x, width, 5, "VALID", _torch, _torch_bias(25 * x.shape[-1]))))
        x = flatten(x)
        for width in self.hidden:
            x = nn.relu(nn.Dense(width, kernel_init=_torch, bias_init=_torch_bias(x.shape[-1]))(x))
        return nn.Dense(self.num_classes, kernel_init=_torch, bias_init=_torch_bias(x.shape[-1]))(x)
