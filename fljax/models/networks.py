"""The models of the paper, a small perceptron, and the networks that federated benchmarks share."""

from collections.abc import Sequence

from flax import linen as nn
from jax import Array

from fljax.models.conv import client_conv
from fljax.models.layers import ConvPool, flatten, max_pool_2x2, xavier
from fljax.models.registry import register_model


@register_model("cnn", title="CNN", source="Cao et al. 2021")
class CNN(nn.Module):
    """The paper's CNN: Conv 3×3×30, pool, Conv 3×3×50, pool, dense 100, dense M; ReLU throughout.

    For 28×28×1 images and 10 classes it has 300 + 13,550 + 125,100 + 1,010 = 139,960 parameters.

    Attributes:
        num_classes: M.

    Source: Cao et al., NDSS 2021, Table I (as in the authors' demo).
    """

    num_classes: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = ConvPool(30)(x)
        x = ConvPool(50)(x)
        x = nn.relu(nn.Dense(100, kernel_init=xavier)(flatten(x)))
        return nn.Dense(self.num_classes, kernel_init=xavier)(x)


@register_model("logistic_regression", title="logistic regression", source="Cao et al. 2021")
class LogisticRegression(nn.Module):
    """Softmax regression: one dense layer. 561 features and 6 classes make 3,372 parameters.

    Attributes:
        num_classes: M.

    Source: Cao et al., NDSS 2021 (HAR).
    """

    num_classes: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        return nn.Dense(self.num_classes, kernel_init=xavier)(flatten(x))


@register_model("linear_regression", title="linear regression")
class LinearRegression(nn.Module):
    """Linear regression: one dense layer that starts at 0, an output for every number to predict.

    Attributes:
        num_classes: k, how many numbers; from the data.
    """

    num_classes: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        return nn.Dense(self.num_classes, kernel_init=nn.initializers.zeros)(flatten(x))


def _benchmark_conv(width: int, size: int, padding: str) -> nn.Conv:
    return nn.Conv(
        width,
        (size, size),
        padding=padding,
        kernel_init=nn.initializers.glorot_uniform(),
        conv_general_dilated=client_conv,
    )


def _benchmark_dense(width: int) -> nn.Dense:
    return nn.Dense(width, kernel_init=nn.initializers.glorot_uniform())


@register_model("fedavg_cnn", title="FedAvg's CNN", source="McMahan et al. 2017")
class FedAvgCNN(nn.Module):
    """FedAvg's CNN: Conv 5×5×32, pool, Conv 5×5×64, pool, dense 512, dense M; ReLU throughout, images padded.

    For 28×28×1 images and 10 classes it has the paper's 1,663,370 parameters.

    Attributes:
        num_classes: M.

    Source: McMahan et al., "Communication-efficient learning of deep networks from decentralized data",
    AISTATS 2017, section 3.
    """

    num_classes: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        for width in (32, 64):
            x = nn.relu(max_pool_2x2(_benchmark_conv(width, 5, "SAME")(x)))
        return _benchmark_dense(self.num_classes)(nn.relu(_benchmark_dense(512)(flatten(x))))


@register_model("dropout_cnn", title="CNN with dropout", source="Reddi et al. 2021")
class DropoutCNN(nn.Module):
    """Conv 3×3×32, Conv 3×3×64, pool, dropout 1/4, dense 128, dropout 1/2, dense M; ReLU throughout.

    For 28×28×1 images and 62 classes it has 1,206,590 parameters. It is the network of TensorFlow Federated,
    FedJAX and Flower for EMNIST, and of pfl-research for CIFAR-10.

    Attributes:
        num_classes: M.

    Source: Reddi et al., "Adaptive federated optimization", ICLR 2021, table 4 (EMNIST).
    """

    num_classes: int

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        if x.ndim != 4:
            raise ValueError(f"dropout_cnn: images (height, width, channels) needed, got {x.shape[1:]}")
        x = nn.relu(_benchmark_conv(32, 3, "VALID")(x))
        x = nn.relu(max_pool_2x2(_benchmark_conv(64, 3, "VALID")(x)))
        x = nn.Dropout(0.25, deterministic=not train)(x)
        x = nn.relu(_benchmark_dense(128)(flatten(x)))
        return _benchmark_dense(self.num_classes)(nn.Dropout(0.5, deterministic=not train)(x))


@register_model("mlp", title="MLP")
class MLP(nn.Module):
    """A perceptron with ReLU hidden layers.

    Attributes:
        num_classes: M, or how many numbers to predict; from the data.
        hidden: widths of the hidden layers, at least 1.
    """

    num_classes: int
    hidden: Sequence[int] = (64,)

    @nn.compact
    def __call__(self, x: Array) -> Array:
        if any(width < 1 for width in self.hidden):
            raise ValueError(f"hidden layers need at least 1 unit, got hidden={list(self.hidden)}")
        x = flatten(x)
        for width in self.hidden:
            x = nn.relu(nn.Dense(width, kernel_init=xavier)(x))
        return nn.Dense(self.num_classes, kernel_init=xavier)(x)
