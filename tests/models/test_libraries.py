"""`as_model` for modules of other libraries: their own numbers, padding, keys, state and a whole run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import serialization
from jax.flatten_util import ravel_pytree

import fljax
from fljax.base import Lacking
from fljax.config.schema import parse_config
from fljax.data import Dataset
from fljax.models import MLP, as_model
from fljax.models.adapters.padding import with_real_statistics
from fljax.models.heads import find_head, inputs_of_head
from fljax.simulation.experiment import assemble

eqx = pytest.importorskip("equinox")
hk = pytest.importorskip("haiku")

KEY = jax.random.key(0)
X = np.random.default_rng(0).normal(size=(34, 4)).astype(np.float32)
Y = np.arange(34, dtype=np.int32) % 3
DATA = Dataset(X, Y, X[:8], Y[:8], 3, "made up")
BASE = {
    "rounds": 2,
    "eval_every": 1,
    "num_clients": 2,
    "root": {"size": 4},
    "local": {"batch_size": 20, "steps": 2},
    "aggregator": {"name": "mean"},
}
REAL = jnp.arange(6) < 4


class Net(eqx.Module):
    """Dense, batch normalisation, dropout, dense."""

    first: eqx.nn.Linear
    norm: eqx.nn.BatchNorm
    drop: eqx.nn.Dropout
    last: eqx.nn.Linear

    def __init__(self, mode="batch", rate=0.0):
        keys = jax.random.split(KEY)
        self.first = eqx.nn.Linear(4, 5, key=keys[0])
        self.norm = eqx.nn.BatchNorm(5, "examples", momentum=0.9, mode=mode)
        self.drop = eqx.nn.Dropout(rate)
        self.last = eqx.nn.Linear(5, 3, key=keys[1])

    def __call__(self, x, state, *, key=None):
        x, state = self.norm(self.first(x), state)
        return self.last(self.drop(x, key=key)), state


def normalised(x, is_training, rate=0.0):
    """The same in haiku."""
    x = hk.BatchNorm(True, True, 0.9)(hk.Linear(5)(x), is_training)
    if is_training and rate:
        x = hk.dropout(hk.next_rng_key(), rate, x)
    return hk.Linear(3)(x)


STATEFUL = {
    "equinox batch": lambda: eqx.nn.make_with_state(Net)("batch"),
    "equinox ema": lambda: eqx.nn.make_with_state(Net)("ema"),
    "haiku": lambda: hk.transform_with_state(normalised),
}


def close(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5), a, b)


def the_librarys_own(name, params, state):
    """The forward pass in training on four examples, as the library's documentation has it."""
    if name == "haiku":
        return hk.transform_with_state(normalised).apply(params, state, None, X[:4], True)
    module, initial = eqx.nn.make_with_state(Net)(name.split()[1])
    own = jax.tree.unflatten(jax.tree.structure(initial), state)
    many = jax.vmap(eqx.combine(params, module), (0, None), (0, None), axis_name="examples")
    logits, after = many(X[:4], own)
    return logits, tuple(jax.tree.leaves(after))


@pytest.mark.parametrize("name", STATEFUL)
def test_statistics_are_those_of_the_real_examples(name):
    model = as_model(STATEFUL[name](), (4,))
    assert not model.random
    params, state = model.init(KEY), model.init_state(KEY)
    padded = jnp.concatenate([X[:4], 50 + X[4:6]])

    @jax.jit
    def both(params):
        def loss(params):
            logits, after = model.train(params, padded, state, REAL)
            return jnp.sum(jnp.sin(logits[:4])), (logits[:4], after)

        def own(params):
            logits, after = the_librarys_own(name, params, state)
            return jnp.sum(jnp.sin(logits)), (logits, after)

        return [jax.value_and_grad(f, has_aux=True)(params) for f in (loss, own)]

    ours, theirs = both(params)
    close(ours, theirs)
    _, after = ours[0][1]
    assert not np.allclose(jax.tree.leaves(after)[-1], jax.tree.leaves(state)[-1])
    # In evaluation the running statistics, an example alone as among others.
    logits = model.apply(params, X[:3], after)
    close(model.apply(params, X[:1], after), logits[:1])
    assert not np.allclose(logits, model.apply(params, X[:3], state), atol=1e-3)


def test_statistics_without_real_examples_or_variance_have_gradients():
    def loss(x):
        return jnp.sum(jnp.square(with_real_statistics(x, REAL, [0])))

    assert np.isfinite(jax.grad(loss)(jnp.ones((6, 2)))).all()
    with pytest.raises(ValueError, match="the first axis must be the batch of 6"):
        with_real_statistics(jnp.ones((12, 2)), REAL, [0])


@pytest.mark.parametrize("name", ["equinox", "haiku"])
def test_a_run_draws_and_carries_the_state(name):
    if name == "equinox":
        module = eqx.nn.make_with_state(Net)("batch", 0.5)
    else:
        module = hk.transform_with_state(lambda x, is_training: normalised(x, is_training, 0.5))
    result = fljax.run(parse_config(BASE), model=module, dataset=DATA, progress=False)
    assert np.isfinite(result.metrics["loss"]).all()
    # Two steps in each of two rounds: the counter is a whole number of the mean over clients.
    counters = [
        leaf for leaf in jax.tree.leaves(result.model_state) if jnp.issubdtype(leaf.dtype, jnp.integer)
    ]
    assert [int(counter) for counter in counters] == [4] * len(counters)
    assert counters
    model = as_model(module, (4,))
    params, state = model.init(KEY), model.init_state(KEY)
    # As a checkpoint writes and reads it.
    written = serialization.to_bytes(jax.device_get(result.model_state))
    close(serialization.from_bytes(state, written), result.model_state)
    one, again, other = (
        model.train(params, X[:6], state, REAL, jax.random.key(seed))[0] for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, again)
    assert not np.allclose(one, other)


def test_modules_without_state():
    class Dropping(eqx.Module):
        layer: eqx.nn.Linear
        drop: eqx.nn.Dropout

        def __call__(self, x, key):
            return self.drop(self.layer(x), key=key)

    linear = eqx.nn.Linear(4, 3, key=KEY)
    transformed = hk.transform(lambda x: hk.Linear(3)(x))
    dropping = hk.transform(
        lambda x, train: hk.dropout(hk.next_rng_key(), 0.5 if train else 0.0, hk.Linear(3)(x))
    )

    def init(key):
        return {"w": jax.random.normal(key, (4, 3))}

    def apply(params, x, *, key, training):
        x = x @ params["w"]
        return x * jax.random.bernoulli(key, 0.5, x.shape) if training else x

    for module, random in (
        (linear, False),
        (eqx.nn.MLP(4, 3, 5, 1, key=KEY), False),
        (Dropping(linear, eqx.nn.Dropout(0.5)), True),
        (transformed, False),
        (hk.without_apply_rng(transformed), False),
        ((init, lambda params, x: x @ params["w"]), False),
        ((init, apply), True),
    ):
        model = as_model(module, (4,))
        assert model.random == random
        assert (model.train is None) == (not random)
        params = model.init(KEY)
        logits = model.apply(params, X[:2])
        assert logits.shape == (2, 3)
        if random:
            assert np.all(np.asarray(logits) != 0)
            assert np.any(np.asarray(model.train(params, X[:6], (), REAL, KEY)[0]) == 0)
    weights = eqx.filter(linear, eqx.is_inexact_array)
    np.testing.assert_allclose(
        as_model(linear, (4,)).apply(weights, X[:2]), X[:2] @ linear.weight.T + linear.bias, rtol=1e-5
    )
    with pytest.raises(ValueError, match="non-None PRNGKey"):
        as_model(dropping, (4,))


def test_what_is_no_model_is_one_sentence():
    for wrong in (lambda x: x, Net, (lambda key: key, 3), 7, {"w": X}):
        with pytest.raises(fljax.ConfigError, match="model must be a module of flax.linen, flax.nnx or eq"):
            assemble(parse_config(BASE), model=wrong, dataset=DATA)
    with pytest.raises(
        fljax.ConfigError, match=r"give the pair \(module, state\) that eqx.nn.make_with_state"
    ):
        assemble(parse_config(BASE), model=Net(), dataset=DATA)


def perceptron(x):
    return hk.nets.MLP([7, 10])(x)


@pytest.mark.parametrize(
    ("module", "transposed"),
    [
        (eqx.nn.MLP(4, 10, 7, 1, key=KEY), True),
        (hk.without_apply_rng(hk.transform(perceptron)), False),
        (MLP(10, hidden=(10, 10)), False),
        ((lambda key: {"k": jnp.eye(4, 10)}, lambda params, x: x @ params["k"]), False),
    ],
    ids=["equinox", "haiku", "as many hidden units as classes", "no bias"],
)
def test_the_last_layer_is_found_and_its_inputs_read(module, transposed):
    model = as_model(module, (4,))
    params = model.init(KEY)
    head = find_head(model.apply, jax.eval_shape(model.init, KEY), X[:2])
    flat = ravel_pytree(params)[0]
    h, end = head.num_features, head.kernel + 10 * head.num_features
    kernel = flat[head.kernel : end].reshape((10, h) if transposed else (h, 10))
    bias = 0.0 if head.bias is None else flat[head.bias : head.bias + 10]
    assert head.transposed == transposed
    features = inputs_of_head(model.apply, params, head, X)
    logits = features @ (kernel.T if transposed else kernel) + bias
    np.testing.assert_allclose(logits, model.apply(params, X), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "apply",
    [
        lambda params, x: jax.nn.log_softmax(x @ params["k"]),
        lambda params, x: x @ params["k"] + jnp.sin(params["b"]),
        lambda params, x: (x @ params["k"]) * params["b"],
        lambda params, x: x @ (params["k"] + params["b"]),
    ],
    ids=["softmax", "another bias", "a product", "no kernel of its own"],
)
def test_another_last_layer_is_none(apply):
    shapes = {"k": jax.ShapeDtypeStruct((4, 3), jnp.float32), "b": jax.ShapeDtypeStruct((3,), jnp.float32)}
    assert isinstance(find_head(apply, shapes, X[:2]), Lacking)
