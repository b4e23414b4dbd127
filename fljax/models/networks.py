"""The models of the paper, a small perceptron, and linear regression."""

from collections.abc import Sequence

from flax import linen as nn
from jax import Array

from fljax.models.layers import ConvPool, flatten, xavier
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
