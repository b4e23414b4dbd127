"""`for_clients`: any library's convolutions and pooling, lowered for many clients, with the same numbers."""

import equinox as eqx
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx
from jax import lax

from fljax.models import Model, as_model, for_clients

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (3, 9, 8, 2))


class Linen(nn.Module):
    """Strides, both paddings, a remat, dropout, overlapping and mean pooling."""

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.max_pool(nn.relu(nn.Conv(4, (3, 3))(x)), (3, 3), (2, 2), padding="SAME")
        x = nn.Dropout(0.3)(x, deterministic=not train)
        x = nn.relu(nn.remat(nn.Conv)(10, (3, 2), (2, 1), padding="VALID")(x))
        x = nn.avg_pool(x, (1, 2), (1, 2))
        return nn.Dense(3)(x.reshape(len(x), -1))


class Nnx(nnx.Module):
    def __init__(self):
        self.conv = nnx.Conv(2, 4, (3, 3), rngs=nnx.Rngs(0))
        self.out = nnx.Linear(4 * 4 * 4, 3, rngs=nnx.Rngs(1))

    def __call__(self, x):
        x = nnx.max_pool(nnx.relu(self.conv(x)), (2, 2), (2, 2))
        return self.out(x.reshape(len(x), -1))


class Equinox(eqx.Module):
    """Channels first, as equinox has it."""

    conv: eqx.nn.Conv2d
    out: eqx.nn.Linear

    def __init__(self):
        self.conv = eqx.nn.Conv2d(2, 4, 3, key=KEY)
        self.out = eqx.nn.Linear(4 * 3 * 3, 3, key=KEY)

    def __call__(self, x):
        x = jax.nn.relu(self.conv(x.transpose(2, 0, 1)))
        return self.out(eqx.nn.MaxPool2d(2, 2)(x).reshape(-1))


def haiku(x):
    x = hk.max_pool(jax.nn.relu(hk.Conv2D(4, 3)(x)), (2, 2, 1), (2, 2, 1), "VALID")
    return hk.Linear(3)(hk.Flatten()(x))


def loop_of_convolutions(params, x):
    """Convolutions inside a scan and a branch, and one under a function with a gradient of its own."""
    kernels, last = params

    def conv(x, kernel):
        return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    x, _ = lax.scan(lambda x, kernel: (jnp.tanh(conv(x, kernel)), None), x, kernels)
    x = lax.cond(jnp.sum(x) > 0, conv, lambda x, kernel: conv(x, 2 * kernel), x, last)
    return jnp.mean(x, axis=(1, 2))


def kernels(key):
    return jax.random.normal(key, (2, 3, 3, 2, 2)), jax.random.normal(key, (3, 3, 2, 3))


MODELS = {
    "linen": lambda: as_model(Linen(), X.shape[1:]),
    "nnx": lambda: as_model(Nnx(), X.shape[1:]),
    "equinox": lambda: as_model(Equinox(), X.shape[1:]),
    "haiku": lambda: as_model(hk.without_apply_rng(hk.transform(haiku)), X.shape[1:]),
    "a pair with loops": lambda: as_model((kernels, loop_of_convolutions), X.shape[1:]),
}


def updates(model: Model, params, x):
    """The gradients of two clients with weights and inputs of their own."""

    def gradient(params, x):
        if model.train is None:
            return jax.grad(lambda params: jnp.sum(model.apply(params, x) ** 2))(params)
        real = jnp.ones(len(x), bool)
        return jax.grad(lambda p: jnp.sum(model.train(p, x, (), real, key=KEY)[0] ** 2))(params)

    return jax.vmap(gradient)(params, x)


@pytest.mark.parametrize("name", MODELS)
def test_outputs_and_clients_gradients_are_those_of_the_model(name):
    model = MODELS[name]()
    fast = for_clients(model)
    assert fast.random == model.random
    params = model.init(KEY)
    np.testing.assert_allclose(fast.apply(params, X), model.apply(params, X), rtol=1e-5, atol=1e-5)
    clients = jax.tree.map(lambda leaf: jnp.stack([leaf, 1.1 * leaf]), params)
    given = clients, jnp.stack([X, X[::-1]])
    for ours, plain in zip(
        *(jax.tree.leaves(jax.jit(updates, static_argnums=0)(each, *given)) for each in (fast, model)),
        strict=True,
    ):
        np.testing.assert_allclose(ours, plain, rtol=1e-4, atol=1e-5 * float(jnp.max(jnp.abs(plain))))
    ours, plain = (str(jax.make_jaxpr(lambda *a, m=each: updates(m, *a))(*given)) for each in (fast, model))
    groups = ("feature_group_count=2", "batch_group_count=2")
    assert any(each in plain for each in groups)
    assert not any(each in ours for each in (*groups, "reduce_window", "select_and_scatter"))


def test_what_client_conv_does_not_do_stays_as_it_is():
    class Others(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.Conv(4, (3, 3), kernel_dilation=2)(x)
            x = nn.Conv(4, (3, 3), feature_group_count=2)(x)
            return nn.Conv(3, (3,))(x.reshape(len(x), -1, 4))

    model = as_model(Others(), X.shape[1:])
    params = model.init(KEY)
    fast = for_clients(model)
    np.testing.assert_array_equal(jax.jit(fast.apply)(params, X), jax.jit(model.apply)(params, X))


def test_half_precision_and_ties():
    """Where values of a window tie, its gradient is shared: it sums to what it was."""

    def pooled(params, x):
        return jnp.sum(nn.max_pool(x + params, (2, 2), (2, 2)), axis=(1, 2, 3))

    model = for_clients(Model(lambda key: jnp.zeros(()), pooled))
    x = jnp.ones((1, 4, 4, 1), jnp.bfloat16)
    assert model.apply(jnp.bfloat16(0), x).dtype == jnp.bfloat16
    shares = jax.grad(lambda x: jnp.sum(model.apply(jnp.float32(0), x)))(jnp.ones((1, 4, 4, 1)))
    np.testing.assert_array_equal(shares[0, :, :, 0], np.full((4, 4), 0.25))


@pytest.mark.parametrize(("channels", "features"), [(1, 30), (16, 6), (9, 9)])
@pytest.mark.parametrize("padding", ["VALID", "SAME"])
@pytest.mark.parametrize("size", [(8, 8), (7, 6)])
def test_neighbouring_outputs_at_once_are_the_convolution(channels, features, padding, size):
    """Both sides of the bound on channels and features, even and odd outputs."""
    x = jax.random.normal(KEY, (2, *size, channels))
    w = jax.random.normal(KEY, (5, 3, channels, features))

    def conv(x, w):
        return lax.conv_general_dilated(x, w, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))

    model = for_clients(Model(lambda key: w, lambda w, x: conv(x, w)))
    np.testing.assert_allclose(model.apply(w, x), conv(x, w), rtol=1e-4, atol=1e-4)
