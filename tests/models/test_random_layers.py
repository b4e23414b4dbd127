"""Layers that draw random numbers: the key of every client, round and step, and evaluation without."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx

import fljax
from fljax.config.schema import parse_config
from fljax.data import Dataset
from fljax.engine.keys import named_key
from fljax.engine.round import draw_cohort
from fljax.models import MODELS, Model, ResNet20, as_model, register_model
from fljax.models.modes import MODES
from fljax.simulation.experiment import assemble
from fljax.sweeps import make_plan, make_sweep
from fljax.sweeps.batch import run_batch
from fljax.sweeps.program import compile_group

KEY = jax.random.key(0)
X = np.random.default_rng(0).normal(size=(33, 6)).astype(np.float32)
Y = np.arange(33, dtype=np.int32) % 3
DATA = Dataset(X, Y, X[:7], Y[:7], 3, "made up")
BASE = {
    "rounds": 4,
    "eval_every": 2,
    "num_clients": 3,
    "cohort_size": 2,
    "local": {"batch_size": "full", "learning_rate": 0.5, "steps": 2},
    "root": {"size": 3},
    "aggregator": {"name": "mean", "weights": "uniform"},
}


class Dropping(nn.Module):
    """A dense layer after dropout."""

    num_classes: int = 3

    @nn.compact
    def __call__(self, x, train: bool):
        return nn.Dense(self.num_classes)(nn.Dropout(0.5, deterministic=not train)(x))


def config(**changes):
    return parse_config({**BASE, **changes})


@pytest.fixture(scope="module")
def experiment():
    return assemble(config(), model=Dropping(), dataset=DATA)


@jax.jit
@jax.grad
def gradient(params, x, y, key):
    logits = Dropping().apply({"params": params}, x, train=True, rngs={"dropout": key})
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


def by_hand(params, examples, key):
    """Two steps of SGD, each with the client's key of that step: the update."""
    here = params
    for step in range(2):
        draws = jax.random.fold_in(named_key(key, "step"), step)
        grads = gradient(here, X[examples], Y[examples], draws)
        here = jax.tree.map(lambda w, g: w - 0.5 * g, here, grads)
    return jax.tree.map(jnp.subtract, here, params)


def test_every_client_round_and_step_has_its_own_mask(experiment):
    (run, data), step = experiment.state, jax.jit(experiment.step)
    for _ in range(2):
        key = jax.random.fold_in(run.key, run.round)
        cohort = draw_cohort(named_key(key, "cohort"), data, 2)
        updates = [
            by_hand(
                experiment.unravel(run.params),
                np.asarray(data.table)[client, : int(data.counts[client])],
                jax.random.fold_in(named_key(key, "batches"), client),
            )
            for client in cohort
        ]
        after, _ = step(run, data)
        expected = jax.tree.map(lambda a, b: (a + b) / 2, *updates)
        found = experiment.unravel(after.params - run.params)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), found, expected)
        run = after


def test_the_server_draws_as_well():
    experiment = assemble(config(aggregator={"name": "root_only"}), model=Dropping(), dataset=DATA)
    run, data = experiment.state
    key = named_key(jax.random.fold_in(run.key, 0), "root")
    expected = by_hand(experiment.unravel(run.params), np.asarray(data.root), key)
    after, _ = jax.jit(experiment.step)(run, data)
    found = experiment.unravel(after.params - run.params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), found, expected)


def test_neither_chunks_nor_a_sweep_change_what_is_drawn(experiment, request):
    request.addfinalizer(lambda: MODELS.remove("dropping"))
    register_model("dropping")(Dropping)
    data = {"name": "synthetic", "num_train": 60, "num_test": 20, "num_classes": 3, "num_features": 6}
    base = {**BASE, "model": {"name": "dropping"}, "data": data}
    (group,) = make_plan(make_sweep(base, {"axes": {"seed": [0, 1]}}), size=2).groups
    results = run_batch(group, group.batches[0], compile_group(group))
    alone = fljax.run(parse_config({**base, "seed": 1, "client_chunk": 1}), progress=False)
    for name in ("loss", "update_norm", "test_error"):
        column = [line[name] for line in results[1].lines]
        np.testing.assert_allclose(column, alone.metrics[name], rtol=1e-5)
        assert column != [line[name] for line in results[0].lines] or name == "test_error"


def test_evaluation_draws_nothing(experiment):
    run, _ = experiment.state
    kernel = experiment.unravel(run.params)["Dense_0"]["kernel"]
    expected = np.mean(np.argmax(DATA.test_x @ np.asarray(kernel), 1) != DATA.test_y)
    found = jax.jit(experiment.evaluate)(run.params, DATA.test_x, DATA.test_y)
    np.testing.assert_allclose(found.test_error, expected)


# --- modules ------------------------------------------------------------------------------------------


def told(name, statistics):
    """A module with a dropout layer that the argument `name` switches on."""

    def forward(self, x, training):
        x = nn.relu(nn.Dense(4)(x))
        if statistics:
            x = nn.BatchNorm(use_running_average=not training)(x)
        return nn.Dense(5)(nn.Dropout(self.rate, deterministic=not training)(x))

    trains = name in ("train", "training", "is_train", "is_training")
    names = {"forward": forward}
    # The value in evaluation is not the default.
    exec(f"def call(self, x, {name}={trains}): return forward(self, x, {name} == {trains})", names)
    return type(
        "Told", (nn.Module,), {"__annotations__": {"rate": float}, "__call__": nn.compact(names["call"])}
    )


@pytest.mark.parametrize("name", MODES)
@pytest.mark.parametrize("statistics", [False, True])
def test_dropout_is_on_in_training_alone_however_it_is_switched(name, statistics):
    model = as_model(told(name, statistics)(rate=0.5), (3,))
    assert model.random
    assert (model.init_state is not None) == statistics
    # A rate of 0 is no dropout.
    assert not as_model(told(name, statistics)(rate=0.0), (3,)).random
    params = model.init(KEY)
    state = (model.init_state(KEY),) if statistics else ()
    x = jax.random.normal(KEY, (8, 3))
    texts = [str(jax.make_jaxpr(f)(params, x)) for f in (
        lambda p, x: model.apply(p, x, *state),
        lambda p, x: model.train(p, x, *(state or ((),)), jnp.ones(8, bool), KEY),
    )]  # fmt: skip
    assert ["random_bits" in text for text in texts] == [False, True]


def test_any_stream_draws_from_the_key():
    class Noisy(nn.Module):
        @nn.compact
        def __call__(self, x, train):
            x = nn.Dense(5)(x)
            return x + jax.random.normal(self.make_rng("noise"), x.shape) if train else x

    model = as_model(Noisy(), (3,))
    params, x, real = model.init(KEY), jnp.ones((2, 3)), jnp.ones(2, bool)
    one, again, other = (model.train(params, x, (), real, jax.random.key(seed))[0] for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert not np.allclose(one, other)


def test_training_may_differ_without_drawing():
    class Doubling(nn.Module):
        @nn.compact
        def __call__(self, x, train):
            return nn.Dense(5)(x) * (2.0 if train else 1.0)

    model = as_model(Doubling(), (3,))
    params, x = model.init(KEY), jnp.ones((2, 3))
    assert not model.random
    logits, state = model.train(params, x, (), jnp.ones(2, bool))
    assert state == ()
    np.testing.assert_allclose(logits, 2 * model.apply(params, x), rtol=1e-6)
    # An argument that changes nothing makes no second pass.
    assert as_model(ResNet20(3, norm="group", widths=(2,), blocks=1), (4, 4, 1)).train is None


def test_a_model_of_plain_functions_draws_if_it_takes_a_key():
    def train(params, x, state, real, key):
        return x @ params["w"] + jax.random.normal(key, (len(x), 3)), state

    model = Model(lambda key: {"w": jnp.zeros((6, 3))}, lambda p, x: x @ p["w"], train=train)
    losses = []
    for seed in (0, 0, 1):
        experiment = assemble(config(seeds={"train": seed}), model=model, dataset=DATA)
        losses.append(float(jax.jit(experiment.step)(*experiment.state)[1].loss))
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize(
    "module",
    [
        nn.Sequential([nn.Dense(4), nn.Dropout(0.3, deterministic=False), nn.Dense(3)]),
        nn.Sequential([nn.Dense(4), nn.remat(nn.Dropout)(0.3, deterministic=False), nn.Dense(3)]),
    ],
)
def test_random_numbers_in_evaluation_are_refused(module):
    with pytest.raises(fljax.ConfigError, match="draws random numbers in evaluation: its call must take"):
        assemble(config(), model=module, dataset=DATA)


# --- flax.nnx -----------------------------------------------------------------------------------------


class Nnx(nnx.Module):
    """Layers that train otherwise than they are evaluated, told by `train()` and `eval()`."""

    def __init__(self, rngs):
        self.dense = nnx.Linear(3, 5, rngs=rngs)
        self.norm = nnx.BatchNorm(5, momentum=0.9, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.drop(self.norm(self.dense(x)))


def test_nnx_draws_from_the_key_and_keeps_its_statistics_without_padding():
    module = Nnx(nnx.Rngs(0))
    model = as_model(module, (3,))
    assert model.random
    params, state = model.init(KEY), model.init_state(KEY)
    x = jax.random.normal(KEY, (6, 3))
    real = jnp.arange(6) < 4
    train = jax.jit(model.train)
    logits, after = train(params, x, state, real, KEY)
    _, expected = train(params, x[:4], state, jnp.ones(4, bool), KEY)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), after, expected)
    _, padded = train(params, x, state, real | True, KEY)
    assert not np.allclose(jax.tree.leaves(after)[0], jax.tree.leaves(padded)[0])
    # Kept values are doubled, and which are kept depends on the key alone.
    hidden = np.asarray(x @ module.dense.kernel[...] + module.dense.bias[...])
    mean, var = hidden[:4].mean(0), hidden[:4].var(0)
    normal = (hidden - mean) / np.sqrt(var + 1e-5)
    kept = np.asarray(logits) != 0
    np.testing.assert_allclose(np.asarray(logits)[:4], np.where(kept, 2 * normal, 0)[:4], atol=1e-4)
    assert 0 < kept.mean() < 1
    np.testing.assert_array_equal(train(params, x, state, real, KEY)[0], logits)
    assert not np.array_equal(train(params, x, state, real, jax.random.key(1))[0] != 0, kept)
    # Evaluation: running statistics, nothing dropped; the user's module is as it was.
    running = dict(zip(("mean", "var"), map(np.asarray, after), strict=True))
    np.testing.assert_allclose(running["mean"], 0.1 * mean, atol=1e-6)
    np.testing.assert_allclose(
        model.apply(params, x, after), (hidden - running["mean"]) / np.sqrt(running["var"] + 1e-5), atol=1e-5
    )
    assert type(module.norm) is nnx.BatchNorm
    assert not module.drop.deterministic


def test_nnx_modules_are_told_in_every_way():
    class Called(nnx.Module):
        def __init__(self):
            self.layer = nnx.Linear(3, 5, rngs=nnx.Rngs(0))
            self.drop = nnx.Dropout(0.5)

        def __call__(self, x, *, training, rngs):
            return self.drop(self.layer(x), deterministic=not training, rngs=rngs)

    class Other(nnx.Module):
        def __init__(self):
            self.seen = nnx.Cache(jnp.zeros(()))
            self.layer = nnx.Linear(3, 5, rngs=nnx.Rngs(0))

        def __call__(self, x):
            return self.layer(x)

    model = as_model(Called(), (3,))
    params, x = model.init(KEY), jnp.ones((2, 3))
    assert model.random
    assert model.init_state is None
    assert np.all(model.apply(params, x) != 0)
    assert np.any(model.train(params, x, (), jnp.ones(2, bool), KEY)[0] == 0)
    with pytest.raises(ValueError, match="random streams are supported, it has other state"):
        as_model(Other(), (3,))
