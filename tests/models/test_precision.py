import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.flatten_util import ravel_pytree
from jax.lax import Precision

import fljax
from fljax.config.schema import parse_config
from fljax.errors import ConfigError
from fljax.models import ResNet20, as_model, client_conv, for_clients
from fljax.models.precision import in_precision
from tests.models.test_random_layers import Dropping


class Plain(nn.Module):
    conv: object = None

    @nn.compact
    def __call__(self, x):
        how = {} if self.conv is None else {"conv_general_dilated": self.conv}
        x = nn.relu(nn.Conv(4, (3, 3), **how)(x))
        return nn.Dense(3)(x.reshape(len(x), -1))


X = np.random.default_rng(0).normal(size=(5, 8, 8, 2)).astype(np.float32)
MODELS = {
    "a convolution for clients": as_model(Plain(client_conv), X.shape[1:]),
    "a rewritten one": for_clients(as_model(Plain(), X.shape[1:])),
}


def gradient(model, params, x):
    """Of the sum of squares, as clients compute it: every client has parameters of its own."""

    def loss(params, x):
        return jnp.sum(jnp.square(model.apply(params, x)))

    return jax.vmap(jax.grad(loss))(params, x)


def products(jaxpr):
    """The matrix products and convolutions of a traced function, those of functions it calls as well."""
    for eqn in jaxpr.eqns:
        if eqn.primitive.name in ("dot_general", "conv_general_dilated"):
            yield eqn
        for value in eqn.params.values():
            for inner in value if isinstance(value, (tuple, list)) else (value,):
                if hasattr(getattr(inner, "jaxpr", inner), "eqns"):
                    yield from products(getattr(inner, "jaxpr", inner))


def made(model, precision):
    model = in_precision(model, precision)
    given = of_two_clients(model)
    return gradient(model, *given), jax.make_jaxpr(lambda params, x: gradient(model, params, x))(*given)


def of_two_clients(model):
    """Parameters and inputs."""
    return jax.vmap(model.init)(jax.random.split(jax.random.key(0), 2)), jnp.stack([X, X])


@pytest.mark.parametrize("name", MODELS)
def test_every_product_of_both_passes_is_computed_so(name):
    grads, traced = made(MODELS[name], "highest")
    found = list(products(traced.jaxpr))
    assert len(found) >= 4
    for eqn in found:
        assert eqn.params["precision"] == (Precision.HIGHEST, Precision.HIGHEST), eqn
    rounded, traced = made(MODELS[name], "bfloat16")
    for eqn in products(traced.jaxpr):
        assert {var.aval.dtype for var in eqn.invars} == {jnp.dtype("bfloat16")}, eqn
    for one, other in zip(*map(jax.tree.leaves, (grads, rounded)), strict=True):
        assert other.dtype == jnp.float32
        off = np.linalg.norm(one - other) / np.linalg.norm(one)
        assert 1e-4 < off < 3e-2
    usual, traced = made(MODELS[name], "default")
    assert all(eqn.params["precision"] is None for eqn in products(traced.jaxpr))
    jax.tree.map(np.testing.assert_array_equal, usual, gradient(MODELS[name], *of_two_clients(MODELS[name])))


def test_what_a_model_keeps_has_its_type_and_it_may_draw():
    model = in_precision(as_model(ResNet20(num_classes=3), (8, 8, 2)), "bfloat16")
    key = jax.random.key(0)
    params, state = model.init(key), model.init_state(key)
    logits, new = model.train(params, X, state, np.ones(5, bool))
    assert logits.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(new)} == {jnp.dtype("float32")}
    random = in_precision(as_model(Dropping(), X.shape[1:]), "highest")
    assert random.random


RUN = {"num_clients": 10, "root": {"size": 20}, "rounds": 10, "attack": {"name": "trim_attack"}}


def test_a_run_learns_in_any_precision_and_updates_stay_float32():
    def errors(precision):
        result = fljax.run(parse_config({**RUN, "precision": precision}), progress=False)
        return ravel_pytree(result.params)[0], result.metrics["test_error"][-1]

    (usual, error), (exact, _), (rounded, near) = map(errors, ("default", "highest", "bfloat16"))
    assert usual.dtype == rounded.dtype == np.float32
    np.testing.assert_allclose(exact, usual, rtol=1e-4, atol=1e-6)
    assert 1e-5 < np.abs(rounded - usual).max() < 0.1
    assert abs(error - near) < 0.05
    with pytest.raises(ConfigError, match=r"precision.*'default', 'highest' or 'bfloat16'"):
        parse_config({**RUN, "precision": "float16"})
