"""Models: sizes, initialisation, and lowerings that change nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from fljax.config.components import make_model
from fljax.config.schema import Component, parse_config
from fljax.data import load
from fljax.models import (
    CNN,
    MLP,
    MODELS,
    DropoutCNN,
    FedAvgCNN,
    LeNet,
    LinearRegression,
    LogisticRegression,
    ResNet20,
    as_model,
    max_pool_2x2,
    patch_conv,
)
from fljax.models.conv import client_conv
from fljax.models.layers import BatchNorm, xavier
from fljax.simulation.model import build_model, drawn_once
from tests.support.programs import optimized

KEY = jax.random.key(0)


def size(params):
    return sum(leaf.size for leaf in jax.tree.leaves(params))


class PlainCNN(nn.Module):
    """The paper's CNN in flax's own words."""

    @nn.compact
    def __call__(self, x):
        for features in (30, 50):
            x = nn.max_pool(nn.relu(nn.Conv(features, (3, 3), padding="VALID")(x)), (2, 2), (2, 2))
        x = nn.relu(nn.Dense(100)(x.reshape(len(x), -1)))
        return nn.Dense(10)(x)


@pytest.mark.parametrize(
    ("module", "shape", "count"),
    [
        (CNN(10), (28, 28, 1), 139_960),
        (LogisticRegression(6), (561,), 3_372),
        (LogisticRegression(10), (28, 28, 1), 7_850),
        (MLP(10, (64,)), (8, 8, 1), 64 * 64 + 64 + 650),
        (MLP(3, ()), (5,), 18),
        (LinearRegression(1), (10,), 11),
        (FedAvgCNN(10), (28, 28, 1), 1_663_370),
        (DropoutCNN(62), (28, 28, 1), 1_206_590),
        (LeNet(10), (32, 32, 3), 62_006),
        (LeNet(10, (20, 50), (500,)), (28, 28, 1), 520 + 25_050 + 400_500 + 5_010),
    ],
)
def test_parameter_counts(module, shape, count):
    model = as_model(module, shape)
    params = jax.eval_shape(model.init, KEY)
    assert size(params) == count
    x = jax.ShapeDtypeStruct((4, *shape), jnp.float32)
    assert jax.eval_shape(model.apply, params, x).shape == (4, module.num_classes)


def test_lenet_starts_as_pytorch_has_it():
    layer = LeNet(10).init(KEY, jnp.zeros((1, 32, 32, 3)))["params"]["Conv_1"]
    for values in layer.values():
        assert 0.8 * 150**-0.5 < np.abs(values).max() <= 150**-0.5
        assert abs(np.mean(values)) < 0.4 * 150**-0.5


@pytest.mark.parametrize("module", [FedAvgCNN(10), DropoutCNN(10), LeNet(10)])
def test_image_networks_say_what_they_need(module):
    with pytest.raises(ValueError, match=r"images \(height, width, channels\) of at least \d+×\d+ needed"):
        module.init(KEY, jnp.zeros((1, 3, 3, 1)))


def resnet20_size(channels, classes):
    """Kernels, a scale and an offset for every convolution, projections where the width changes, dense."""
    total = 9 * channels * 16 + 2 * 16
    before = 16
    for width in (16, 32, 64):
        for _ in range(3):
            total += 9 * before * width + 9 * width * width + 4 * width
            total += before * width + 2 * width if before != width else 0
            before = width
    return total + 64 * classes + classes


@pytest.mark.parametrize(
    ("channels", "side", "classes", "count"), [(3, 32, 10, 272_474), (1, 64, 8, 272_056)]
)
def test_resnet20_has_the_papers_size(channels, side, classes, count):
    model = as_model(ResNet20(classes), (side, side, channels))
    params, state = jax.eval_shape(lambda key: (model.init(key), model.init_state(key)), KEY)
    assert size(params) == resnet20_size(channels, classes) == count
    assert size(state) == 2 * (7 * 16 + 7 * 32 + 7 * 64)
    x = jax.ShapeDtypeStruct((4, side, side, channels), jnp.float32)
    assert jax.eval_shape(model.apply, params, x, state).shape == (4, classes)


def test_group_normalisation_has_no_state():
    model = as_model(ResNet20(10, norm="group"), (32, 32, 3))
    assert model.init_state is None
    assert model.train is None
    assert size(jax.eval_shape(model.init, KEY)) == 272_474


def test_resnet20_starts_with_the_groups_magnitude():
    params = ResNet20(10, widths=(16, 64), blocks=1).init(KEY, jnp.ones((1, 8, 8, 3)))["params"]
    kernel = np.asarray(params["_Block_1"]["Conv_1"]["kernel"])
    bound = np.sqrt(3.14 / (9 * 64))
    assert 0.99 * bound < np.abs(kernel).max() <= bound
    assert abs(kernel.std() - bound / np.sqrt(3)) < 0.02 * bound


@pytest.mark.parametrize(
    ("kernel", "strides", "padding"),
    [
        ((3, 3), (1, 1), ((1, 1), (1, 1))),
        ((3, 3), (2, 2), "SAME"),
        ((1, 1), (2, 2), "VALID"),
        ((3, 2), (2, 1), ((1, 2), (0, 1))),
    ],
)
def test_client_conv_and_its_gradients_equal_the_convolution(kernel, strides, padding):
    # One client, clients that share the weights or the images, clients inside cells.
    x = jax.random.normal(KEY, (2, 3, 9, 8, 4))
    w = jax.random.normal(jax.random.key(1), (2, *kernel, 4, 5))

    def plain_conv(x, w, strides, padding):
        return jax.lax.conv_general_dilated(
            x, w, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    def all_of(conv):
        def one(x, w):
            return jax.value_and_grad(lambda x, w: jnp.sum(jnp.sin(conv(x, w, strides, padding))), (0, 1))(
                x, w
            )

        return jax.jit(
            lambda x, w: (
                one(x[0], w[0]),
                jax.vmap(one, (0, None))(x, w[0]),
                jax.vmap(one, (None, 0))(x[0], w),
                jax.vmap(one)(x, w),
                jax.vmap(jax.vmap(one))(x[:, None], w[:, None]),
            )
        )(x, w)

    for ours, plain in zip(*map(jax.tree.leaves, (all_of(client_conv), all_of(plain_conv))), strict=True):
        np.testing.assert_allclose(ours, plain, atol=3e-4)


def test_client_conv_refuses_what_it_does_not_do():
    x = jnp.ones((1, 8, 8, 2))
    for options in ({"kernel_dilation": 2}, {"feature_group_count": 2}):
        with pytest.raises(ValueError, match="not supported"):
            nn.Conv(4, (3, 3), conv_general_dilated=client_conv, **options).init(KEY, x)


@pytest.mark.parametrize("mask", [None, jnp.array([True, False, True])])
def test_batch_norm_equals_flaxs(mask):
    x = 3 + jax.random.normal(KEY, (3, 4, 5, 2))
    variables = {
        "params": {"scale": jnp.array([2.0, 0.5]), "bias": jnp.array([1.0, -1.0])},
        "batch_stats": {"mean": jnp.array([1.0, 2.0]), "var": jnp.array([0.5, 2.0])},
    }
    flax_mask = None if mask is None else mask.reshape(-1, 1, 1, 1)
    for running in (False, True):
        ours, theirs = (
            layer(momentum=0.8).apply(
                variables, x, use_running_average=running, mask=m, mutable=["batch_stats"]
            )
            for layer, m in ((BatchNorm, mask), (nn.BatchNorm, flax_mask))
        )
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), ours, theirs)


def test_cnn_and_its_gradient_equal_the_plain_lowering():
    params = jax.jit(as_model(CNN(10), (28, 28, 1)).init)(KEY)
    plain_params = {
        "Conv_0": params["ConvPool_0"]["Conv_0"],
        "Conv_1": params["ConvPool_1"]["Conv_0"],
        "Dense_0": params["Dense_0"],
        "Dense_1": params["Dense_1"],
    }
    x = jax.random.normal(jax.random.key(1), (5, 28, 28, 1))

    def with_gradient(module, params):
        def loss(params):
            logits = module.apply({"params": params}, x)
            return jnp.sum(logits**2), logits

        (_, logits), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
        return logits, grads

    logits, grads = with_gradient(CNN(10), params)
    plain_logits, plain = with_gradient(PlainCNN(), plain_params)
    np.testing.assert_allclose(logits, plain_logits, atol=1e-5)
    np.testing.assert_allclose(
        grads["ConvPool_0"]["Conv_0"]["kernel"], plain["Conv_0"]["kernel"], rtol=1e-3, atol=1e-4
    )
    np.testing.assert_allclose(grads["Dense_0"]["kernel"], plain["Dense_0"]["kernel"], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("padding", ["VALID", "SAME", ((1, 2), (0, 1))])
@pytest.mark.parametrize("strides", [(1, 1), (2, 1), (2, 3)])
def test_patch_conv_equals_the_convolution(padding, strides):
    x = jax.random.normal(KEY, (2, 9, 8, 3))
    conv = nn.Conv(4, (3, 2), strides=strides, padding=padding, conv_general_dilated=patch_conv)
    params = jax.jit(conv.init)(KEY, x)
    plain = nn.Conv(4, (3, 2), strides=strides, padding=padding)
    np.testing.assert_allclose(jax.jit(conv.apply)(params, x), jax.jit(plain.apply)(params, x), atol=1e-5)


def test_patch_conv_refuses_what_it_does_not_do():
    x = jnp.ones((1, 8, 8, 2))
    for options in ({"kernel_dilation": 2}, {"feature_group_count": 2}):
        with pytest.raises(ValueError, match="not supported"):
            nn.Conv(4, (3, 3), conv_general_dilated=patch_conv, **options).init(KEY, x)


@pytest.mark.parametrize("shape", [(6, 4), (7, 5)])
def test_max_pool(shape):
    x = jax.random.normal(KEY, (2, *shape, 3))
    np.testing.assert_array_equal(max_pool_2x2(x), nn.max_pool(x, (2, 2), (2, 2)))


def test_small_images_are_refused():
    with pytest.raises(ValueError, match="too small"):
        as_model(CNN(10), (8, 8, 1))


def test_xavier_is_mxnets():
    # a = sqrt(2.24 / mean fan); for 3×3×30 → 50 the fans are 270 and 450.
    kernel = np.asarray(xavier(KEY, (3, 3, 30, 50)))
    bound = np.sqrt(2.24 / ((270 + 450) / 2))
    assert np.abs(kernel).max() <= bound
    assert np.abs(kernel).max() > 0.99 * bound
    assert abs(kernel.std() - bound / np.sqrt(3)) < 0.01 * bound
    assert all(
        not leaf.any()
        for leaf in jax.tree.leaves(jax.jit(CNN(10).init)(KEY, jnp.ones((1, 28, 28, 1))))
        if leaf.ndim == 1
    )


def test_any_flax_module():
    class Own(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(3)(x)

    class OwnNnx(nnx.Module):
        def __init__(self):
            self.layer = nnx.Linear(4, 3, rngs=nnx.Rngs(0))

        def __call__(self, x):
            return self.layer(x)

    class Counting(nn.Module):
        @nn.compact
        def __call__(self, x):
            self.variable("cache", "calls", jnp.zeros, ())
            return nn.Dense(3)(x)

    for module in (Own(), OwnNnx()):
        model = as_model(module, (4,))
        params = jax.jit(model.init)(KEY)
        assert size(params) == 15
        assert jax.jit(model.apply)(params, jnp.ones((2, 4))).shape == (2, 3)
    assert as_model(model, (4,)) is model
    with pytest.raises(ValueError, match="only parameters and batch_stats are supported, it has cache"):
        as_model(Counting(), (4,))
    with pytest.raises(ValueError, match="its __call__ must take an argument train"):
        as_model(nn.Sequential([nn.BatchNorm(use_running_average=False)]), (4,))
    with pytest.raises(TypeError, match="must be a module of flax.linen"):
        as_model(lambda x: x, (4,))


def test_registry():
    assert set(MODELS) == {
        "cnn",
        "logistic_regression",
        "mlp",
        "resnet20",
        "fedavg_cnn",
        "dropout_cnn",
        "lenet",
        "linear_regression",
        "lstm",
        "mean_embedding",
        "transformer",
    }


def test_an_initialisation_that_compiles_fast_has_the_bits_of_an_optimised_one():
    data = load("digits", seed=0)
    form = data.format
    fast, _ = build_model(parse_config({"num_clients": 2, "model": {"name": "mlp"}}), None, data)
    plain = as_model(make_model(Component(name="mlp"), form), form.input_shape)
    key = jax.random.key(3)
    drawn = drawn_once(fast.init)
    assert drawn is not fast.init
    jax.tree.map(np.testing.assert_array_equal, drawn(key), optimized(plain.init)(key))
    assert drawn_once(plain.init) is plain.init  # what a user gives is run as it is
