"""What a model is asked before anything is compiled, and which rounds count as diverged."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import fljax
from fljax.config.optimizers import check_local_optimizer
from fljax.config.schema import Component, parse_config
from fljax.data import Dataset
from fljax.models import MODELS, Model, register_model
from fljax.simulation.experiment import assemble
from fljax.sweeps.axes import make_sweep
from fljax.sweeps.plan import make_plan

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


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (jnp.arange(3), "its parameter more must be real numbers, got int32"),
        (jnp.ones(3, bool), "its parameter more must be real numbers, got bool"),
        (jnp.ones(3) * 1j, "its parameter more must be real numbers, got complex64"),
        (jax.random.key(0), "its parameter more must be real numbers, got key<fry>"),
    ],
)
def test_parameters_are_real_numbers(more, said):
    good = plain(lambda y: y)
    assert said in refusal(good._replace(init=lambda key: {**good.init(key), "more": more}))
    assert "it has no parameters" in refusal(Model(lambda key: {}, lambda params, x: jnp.zeros((len(x), 5))))


def test_a_model_in_half_precision_runs():
    good = plain(lambda y: y)
    model = good._replace(init=lambda key: jax.tree.map(lambda a: a.astype(jnp.bfloat16), good.init(key)))
    result = fljax.run(parse_config(BASE), model=model, progress=False)
    assert (result.params["w"].dtype, result.summary["diverged"]) == (jnp.bfloat16, False)


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
