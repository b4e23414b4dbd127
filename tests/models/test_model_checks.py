"""What a model is asked before anything is compiled, and which rounds count as diverged."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import fljax
from fljax.config.optimizers import check_local_optimizer
from fljax.config.schema import Component, parse_config
from fljax.data import Dataset
from fljax.models import MODELS, Model, ResNet20, as_model, register_model
from fljax.simulation.experiment import assemble
from fljax.sweeps.axes import make_sweep
from fljax.sweeps.plan import make_plan

KEY = jax.random.key(0)
BASE = {
    "rounds": 4,
    "eval_every": 2,
    "num_clients": 4,
    "data": {"name": "synthetic", "num_train": 100, "num_test": 20, "num_classes": 5},
    "local": {"batch_size": 4},
    "root": {"size": 10},
    "aggregator": {"name": "median"},
}


def refusal(model, **changes):
    with pytest.raises(fljax.ConfigError) as caught:
        assemble(parse_config(BASE | changes), model=model)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- layers that draw random numbers --------------------------------------------------------------------


WHERE_TRUE_TRAINS = ("train", "training", "is_train", "is_training")
WHERE_FALSE_TRAINS = ("deterministic", "use_running_average", "inference", "eval", "evaluate", "is_eval")


def told(name, default=..., statistics=False):
    """A module with a dropout layer that the argument `name` switches on, if it has one at all."""

    def forward(self, x, training):
        x = nn.relu(nn.Dense(4)(x))
        if statistics:
            x = nn.BatchNorm(use_running_average=not training)(x)
        deterministic = self.always_off or not training
        return nn.Dense(5)(nn.Dropout(self.rate, deterministic=deterministic)(x))

    says_so = name not in WHERE_FALSE_TRAINS
    value = "" if default is ... else f"={default}"
    names = {"forward": forward}
    exec(f"def call(self, x, {name}{value}): return forward(self, x, {name} == {says_so})", names)
    fields = {"__annotations__": {"rate": float, "always_off": bool}, "always_off": False}
    return type("Told", (nn.Module,), {**fields, "__call__": nn.compact(names["call"])})


@pytest.mark.parametrize("name", [*WHERE_TRUE_TRAINS, *WHERE_FALSE_TRAINS])
@pytest.mark.parametrize("statistics", [False, True])
def test_a_dropout_layer_is_refused_however_it_is_switched(name, statistics):
    for default in (..., True, False):
        module = told(name, default, statistics)
        for given in ({"rate": 0.99}, {"rate": 0.5, "always_off": True}):
            message = refusal(module(**given))
            assert "draw random numbers, such as dropout" in message
            assert f"Dropout_0 has dropout rate {given['rate']}" in message
        # A rate of 0 is no dropout.
        model = as_model(module(rate=0.0), (3,))
        assert (model.train is None) == (not statistics)


def test_a_dropout_layer_is_found_anywhere():
    class Attention(nn.Module):
        rate: float

        @nn.compact
        def __call__(self, x):
            x = x[:, :, None]
            layer = nn.MultiHeadDotProductAttention(num_heads=1, dropout_rate=self.rate, deterministic=True)
            return nn.Dense(5)(layer(x, x)[:, :, 0])

    class InTrainingOnly(nn.Module):
        @nn.compact
        def __call__(self, x, train=False):
            x = nn.Dropout(0.5, deterministic=True)(x) if train else x
            return nn.Dense(5)(x)

    for module in (
        nn.Sequential([nn.Dense(4), nn.Dropout(0.3, deterministic=True), nn.Dense(5)]),
        nn.Sequential([nn.Dense(4), nn.remat(nn.Dropout)(0.3, deterministic=True), nn.Dense(5)]),
        # Without being told whether it is on, flax itself would complain.
        nn.Sequential([nn.Dense(4), nn.Dropout(0.3), nn.Dense(5)]),
        Attention(0.3),
        InTrainingOnly(),
    ):
        assert "has dropout rate 0." in refusal(module)
    assert as_model(Attention(0.0), (3,)).train is None


def test_plain_functions_around_a_module_are_looked_into():
    module = nn.Sequential([nn.Dense(5), nn.Dropout(0.5, deterministic=True)])
    x = jnp.zeros((1, 20))
    model = Model(lambda key: module.init(key, x), lambda params, x: module.apply(params, x))
    assert "has dropout rate 0.5" in refusal(model)


def test_random_layers_of_ones_own_and_modes_without_statistics():
    class Noisy(nn.Module):
        noise: bool = True

        @nn.compact
        def __call__(self, x, train):
            x = nn.Dense(5)(x)
            if not train:
                return x
            return x + jax.random.normal(self.make_rng("noise"), x.shape) if self.noise else 2.0 * x

    assert "layers that draw random numbers" in refusal(Noisy())
    message = refusal(Noisy(noise=False))
    assert "argument train changes what it computes" in message
    assert "dropout" in message
    # An argument that changes nothing is no reason to refuse.
    model = as_model(ResNet20(3, norm="group", widths=(2,), blocks=1), (4, 4, 1))
    assert jax.eval_shape(model.apply, jax.eval_shape(model.init, KEY), jnp.ones((2, 4, 4, 1))).shape == (
        2,
        3,
    )


def test_nnx_modules_with_dropout_are_refused():
    class Own(nnx.Module):
        def __init__(self, **dropout):
            self.layers = nnx.List([nnx.Linear(3, 5, rngs=nnx.Rngs(0))])
            self.drop = nnx.Dropout(**dropout)

        def __call__(self, x, train):
            return self.drop(self.layers[0](x))

    class Doubling(nnx.Module):
        def __init__(self):
            self.layer = nnx.Linear(3, 5, rngs=nnx.Rngs(0))

        def __call__(self, x, *, training=True):
            return self.layer(x) * (2.0 if training else 1.0)

    data = {"data": BASE["data"] | {"num_features": 3}}
    for dropout in (
        {"rate": 0.4, "deterministic": True},
        {"rate": 0.4, "deterministic": False},
        {"rate": 0.4, "rngs": nnx.Rngs(1)},
    ):
        assert "layer drop has dropout rate 0.4" in refusal(Own(**dropout), **data)
    assert "argument training changes what it computes" in refusal(Doubling(), **data)
    model = as_model(Own(rate=0.0, deterministic=True), (3,))
    assert jax.eval_shape(model.apply, model.init(KEY), jnp.ones((2, 3))).shape == (2, 5)


# --- outputs ------------------------------------------------------------------------------------------


def plain(function, outputs=5):
    """A `Model` of plain functions."""
    return Model(
        lambda key: {"w": jnp.zeros((20, outputs))},
        lambda params, x: function(x.reshape(len(x), -1) @ params["w"]),
    )


@pytest.mark.parametrize(
    ("function", "outputs", "said"),
    [
        (lambda y: y, 4, "it has 4 outputs for 5 classes"),
        (lambda y: y, 1, "it has 1 output for 5 classes"),
        (lambda y: y[:, 0], 5, "inputs (1, ...) must become logits (1, 5), got shape (1,)"),
        (lambda y: y[:, None], 5, "logits (1, 5), got shape (1, 1, 5)"),
        (
            lambda y: y.mean(0, keepdims=True),
            5,
            "inputs (6, ...) must become logits (6, 5), got shape (1, 5)",
        ),
        (lambda y: y @ y.T, 5, "it has 1 output for 5 classes"),
        (lambda y: y.T, 5, "logits (1, 5), got shape (5, 1)"),
        (lambda y: y.astype(jnp.int32), 5, "logits must be floating-point numbers, got int32"),
        (lambda y: y + 0j, 5, "logits must be floating-point numbers, got complex64"),
        (lambda y: (y, y), 5, "logits (1, 5), got a tuple"),
    ],
)
def test_outputs_are_one_row_of_logits_per_example(function, outputs, said):
    assert said in refusal(plain(function, outputs))


def test_outputs_in_training_are_checked_as_well():
    good = plain(lambda y: y)

    def train(params, x, state, real):
        return good.apply(params, x)[:, :3], state

    model = Model(good.init, lambda p, x, state: good.apply(p, x), lambda key: {"seen": jnp.zeros(2)}, train)
    assert "it has 3 outputs for 5 classes" in refusal(model)


def test_a_state_of_weak_type_is_of_the_type_it_becomes():
    good = plain(lambda y: y)

    def train(params, x, state, real):
        return good.apply(params, x), 0.9 * state + jnp.mean(x)

    model = Model(good.init, lambda p, x, state: good.apply(p, x), lambda key: jnp.asarray(0.0), train)
    assert fljax.run(parse_config(BASE), model=model, progress=False).summary["rounds"] == BASE["rounds"]


def test_more_outputs_than_classes_are_noted(request):
    @register_model("wide")
    class Wide(nn.Module):
        num_classes: int

        @nn.compact
        def __call__(self, x):
            return nn.Dense(self.num_classes + 2)(x)

    note = "the model has 7 outputs for 5 classes; no example teaches it the others"
    assert assemble(parse_config(BASE), model=plain(lambda y: y, 7)).facts["data"]["notes"] == [note]
    assert assemble(parse_config(BASE), model=plain(lambda y: y)).facts["data"]["notes"] == []
    request.addfinalizer(lambda: MODELS.remove("wide"))
    config = parse_config(BASE | {"model": {"name": "wide"}})
    plan = make_plan(make_sweep(config.resolved(), {"axes": {"seed": [0, 1]}}))
    assert plan.notes == [note]


# --- divergence -----------------------------------------------------------------------------------------


def with_a_broken_example(client):
    """Five clients of four examples; the model's output for one example of one of them is NaN."""
    x = np.random.default_rng(0).normal(size=(25, 3)).astype(np.float32)
    # Root examples are drawn from all clients; marked ones only from one.
    owner = np.repeat(np.arange(5, dtype=np.int32), 5)
    x[owner == client, 0] = 100.0
    y = np.arange(25, dtype=np.int32) % 2
    return Dataset(x, y, np.abs(x[:6]) % 1, y[:6], 2, "made up", client_ids=owner)


def broken(params, x):
    return x @ params["w"] + jnp.where(x[:, :1] > 50, jnp.nan, 0.0)


BROKEN = Model(lambda key: {"w": jnp.ones((3, 2))}, broken)


def test_a_loss_that_is_not_finite_is_a_diverged_round():
    config = parse_config(
        {
            "rounds": 6,
            "eval_every": 2,
            "partition": {"name": "by_client"},
            "root": {"size": 2},
            "local": {"batch_size": "full"},
            "aggregator": {"name": "median"},
        }
    )
    pieces = {"dataset": with_a_broken_example(2), "model": BROKEN}
    round_fn, state = fljax.build(config, **pieces)
    one_round = jax.jit(lambda data: round_fn(state._replace(data=data))[1])

    def metrics(**changes):
        return one_round(state.data._replace(**{name: jnp.asarray(v) for name, v in changes.items()}))

    seen = metrics()
    # The median leaves the client's row out: nothing but its loss says that it is lost.
    assert np.isfinite(seen.update_norm)
    assert np.isnan(seen.loss)
    assert seen.finite == 0
    only = np.arange(5) == 2
    for counts in ({"malicious": only}, {"counts": np.where(only, 0, state.data.counts)}):
        seen = metrics(**counts)
        assert np.isfinite(seen.loss)
        assert seen.finite == 1
    # Nobody's loss is no loss that is not finite.
    seen = metrics(malicious=np.ones(5, bool))
    assert np.isnan(seen.loss)
    assert seen.finite == 1

    result = fljax.run(config, **pieces)
    assert result.summary["diverged"] is True
    assert result.summary["rounds"] == 2


def test_a_client_without_examples_is_no_part_of_the_loss():
    config = parse_config(BASE | {"attack": {"name": "none"}})
    round_fn, state = fljax.build(config)
    one_round = jax.jit(lambda data: round_fn(state._replace(data=data))[1].loss)
    losses = [float(one_round(state.data._replace(malicious=jnp.arange(4) != client))) for client in range(4)]
    empty = state.data._replace(counts=state.data.counts.at[1].set(0))
    np.testing.assert_allclose(one_round(empty), np.mean([losses[0], *losses[2:]]), rtol=1e-5)


# --- optimizers that remember -----------------------------------------------------------------------------

REMEMBER = [
    {"name": "sgd", "momentum": 0.9},
    {"name": "sgd", "momentum": 0.9, "nesterov": True},
    *({"name": name} for name in ("adam", "adamw", "rmsprop", "lion", "adagrad", "adafactor", "lars")),
]


def test_an_optimizer_that_remembers_needs_two_steps():
    for table in REMEMBER:
        component = Component(**table)
        with pytest.raises(fljax.ConfigError, match="needs local.steps of at least 2: what it remembers"):
            check_local_optimizer(component, 1)
        check_local_optimizer(component, 2)
    for name in ("sgd", "sign_sgd", "fromage"):
        check_local_optimizer(Component(name=name), 1)
    for kind in (assemble, fljax.build):
        with pytest.raises(fljax.ConfigError, match=re.escape("local.optimizer sgd (momentum = 0.9) needs")):
            kind(parse_config(BASE | {"local": {"optimizer": REMEMBER[0]}}))
    with pytest.raises(fljax.ConfigError, match=r"local.optimizer adam needs local.steps"):
        make_plan(
            make_sweep(parse_config(BASE).resolved(), {"axes": {"local.optimizer": [{"name": "adam"}]}})
        )
