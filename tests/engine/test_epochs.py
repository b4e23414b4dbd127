"""Local epochs against a NumPy loop over the clients' examples, and what the loop must not do."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

import fljax
from fljax.config.loading import apply_overrides, merge
from fljax.config.schema import parse_config
from fljax.engine.batches import draw_passes
from fljax.engine.local_training import Cohort, LocalTraining, root_update, train_clients
from fljax.engine.state import RoundData
from fljax.simulation.assembly import make_parts
from fljax.simulation.experiment import assemble
from tests.support.programs import jitted

draw_passes = jitted(draw_passes)

RNG = np.random.default_rng(5)
COUNTS = np.array([7, 1, 3, 0, 12])
COPIES = np.array([0, 0, 2, 0, 3])
WIDTH = 12
LARGEST = 18  # 12 and half of it
X, Y = RNG.normal(size=(23, 2)).astype(np.float32), RNG.normal(size=23).astype(np.float32)
TABLE = np.full((5, WIDTH), -1, np.int32)
for _client, (_start, _count) in enumerate(zip(np.cumsum(COUNTS) - COUNTS, COUNTS, strict=True)):
    TABLE[_client, :_count] = np.arange(_start, _start + _count)
DATA = RoundData(
    jnp.array(X), jnp.array(Y), jnp.array(TABLE), jnp.array(COUNTS), jnp.arange(9), jnp.array([False] * 5)
)
PARAMS = np.array([0.5, -1.0], np.float32)
KEY = jax.random.key(3)
RATE, MOMENTUM = 0.05, 0.9


def loss(params, state, x, y, weights, divisor=None, key=None):
    """Half the mean squared error of a line; the model's state counts the batches and their examples."""
    total = jnp.sum(weights * (x @ params - y) ** 2) / 2
    return total / jnp.maximum(jnp.sum(weights), 1), state + jnp.array([1.0, jnp.sum(weights)])


def training(epochs, batch_size):
    return LocalTraining(
        loss, lambda flat: flat, lambda rate: optax.sgd(rate, MOMENTUM), None, batch_size, epochs=epochs
    )


def batches_of(order, total, epochs, batch_size):
    """The slots of a batch, a batch a step; `order` has a row of all slots for every epoch."""
    for epoch, row in enumerate(order):
        share = min(1.0, epochs - epoch)
        taken = row[: math.ceil(round(share * total, 6))]
        size = max(total, 1) if batch_size == "full" else batch_size
        yield from (taken[start : start + size] for start in range(0, len(taken), size))


def by_hand(x, y, batches):
    """SGD with momentum on half the mean squared error in float64: update, mean loss and number of steps."""
    params, trace, losses = PARAMS.astype(np.float64), np.zeros(2), []
    for batch in batches:
        errors = x[batch].astype(np.float64) @ params - y[batch]
        losses.append((errors**2).mean() / 2)
        trace = MOMENTUM * trace + errors @ x[batch] / len(batch)
        params = params - RATE * trace
    return params - PARAMS, np.mean(losses) if losses else 0.0, len(losses)


def orders(epochs, batch_size):
    for client in range(5):
        key = jax.random.fold_in(KEY, client)
        given = TABLE[client], jnp.int32(COUNTS[client]), jnp.int32(COPIES[client])
        how = {"epochs": epochs, "batch_size": batch_size, "largest": LARGEST}
        yield np.asarray(draw_passes(key, *map(jnp.asarray, given), **how).order)


@pytest.mark.parametrize(
    ("epochs", "batch_size", "at_once"), [(2.5, 4, 5), (2.5, 4, 2), (0.3, 2, 5), (1, 100, 1), (3, "full", 5)]
)
def test_epochs_equal_a_loop_over_the_examples(epochs, batch_size, at_once):
    cohort = Cohort(
        jnp.arange(5), jnp.array(COPIES), jnp.array([False, False, True, False, True]), jnp.arange(5)
    )

    @jax.jit
    def trained(data):
        return train_clients(
            training(epochs, batch_size),
            jnp.array(PARAMS),
            data,
            cohort,
            key=KEY,
            learning_rate=RATE,
            clients_at_once=at_once,
            poison_data=lambda x, y, is_copy, member: (x, jnp.where(is_copy, -y, y)),
            most_copies=0.5,
            model_state=jnp.zeros(2),
        )

    result = trained(DATA)
    for client, order in enumerate(orders(epochs, batch_size)):
        count, copies = int(COUNTS[client]), int(COPIES[client])
        # Every epoch has its own order of all slots; the copies carry another label.
        assert all(sorted(row[: count + copies]) == list(range(count + copies)) for row in order)
        table = TABLE[client, :count]
        x = np.concatenate([X[table], X[table][:copies]])
        y = np.concatenate([Y[table], -Y[table][:copies]])
        batches = list(batches_of(order, count + copies, epochs, batch_size))
        update, mean_loss, steps = by_hand(x, y, batches)
        np.testing.assert_allclose(result.updates[client], update, atol=2e-6)
        np.testing.assert_allclose(result.losses[client], mean_loss, rtol=1e-5)
        np.testing.assert_allclose(result.model_states[client], [steps, sum(map(len, batches))])


def test_numbers_of_steps():
    """Those of the loop above, counted by hand: 2.5 epochs of batches of four."""
    # 7: 2 + 2 + 1 (four of them). 1: 1 + 1 + 1. 3 + 2: 2 + 2 + 1 (three). 0. 12 + 3: 4 + 4 + 2 (eight).
    steps = [
        len(list(batches_of(order, int(COUNTS[i]) + int(COPIES[i]), 2.5, 4)))
        for i, order in enumerate(orders(2.5, 4))
    ]
    assert steps == [5, 3, 5, 0, 10]


def test_the_servers_epochs_end_with_its_own_examples():
    """In a sweep the root dataset of some cells is padded."""
    data = DATA._replace(root_count=jnp.int32(5))

    @jax.jit
    def update_on(data):
        zeros = jnp.zeros(2)
        return root_update(
            training(2, 3), jnp.array(PARAMS), data, key=KEY, learning_rate=RATE, model_state=zeros
        )

    update = update_on(data)
    how = {"epochs": 2, "batch_size": 3, "largest": 9}
    order = np.asarray(draw_passes(KEY, data.root, jnp.int32(5), jnp.int32(0), **how).order)
    expected, _, steps = by_hand(X, Y, list(batches_of(order, 5, 2, 3)))
    assert steps == 4
    np.testing.assert_allclose(update, expected, atol=2e-6)


def test_orders_are_uniform_and_differ_between_epochs():
    keys = jax.random.split(jax.random.key(0), 3000)
    how = {"epochs": 2, "batch_size": 2, "largest": 6}
    none = jnp.int32(0)

    @jax.jit
    @jax.vmap
    def drawn(key):
        return draw_passes(key, jnp.arange(6), jnp.int32(4), none, **how).order

    orders = np.asarray(drawn(keys))[:, :, :4]
    for epoch in range(2):
        ways = np.unique(orders[:, epoch], axis=0, return_counts=True)[1]
        assert len(ways) == 24
        assert stats.chisquare(ways).pvalue > 1e-3
    # Independent: one in 24 is the same.
    same = (orders[:, 0] == orders[:, 1]).all(1).mean()
    assert abs(same - 1 / 24) < 0.015


def test_a_run_takes_as_many_steps_as_its_examples_ask_for():
    config = parse_config(
        {
            "num_clients": 3,
            "data": {"name": "digits"},
            "model": {"name": "logistic_regression"},
            "local": {"epochs": 0.5, "batch_size": 16},
            "root": {"size": 37},
        }
    )
    experiment = assemble(config)
    # 1,437 training examples without 37, dealt out to three clients: half of 466 or 467 in batches of 16.
    parts = make_parts(config, experiment.dataset)
    assert parts.mean_steps == 15
    state, metrics = jax.jit(experiment.step)(experiment.state.run, experiment.state.data)
    assert np.isfinite(float(metrics.loss))
    assert state.client_state == ()


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"epochs": 0}, "local.epochs: must be greater than 0, got 0"),
        ({"epochs": -0.5}, "local.epochs: must be greater than 0, got -0.5"),
        ({"epochs": math.inf}, "local.epochs: must be a finite number, got inf"),
        ({"epochs": 2e5}, "at most 100,000"),
        ({"epochs": 1, "steps": 1}, "local.steps=1 and local.epochs=1 exclude each other"),
        ({"epochs": True}, "local.epochs: must be a valid number"),
    ],
)
def test_bad_epochs_are_one_sentence(given, sentence):
    with pytest.raises(fljax.ConfigError) as error:
        parse_config({"local": given})
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def test_epochs_and_steps_drop_each_other_where_one_is_set_over_the_other():
    steps, epochs = parse_config({"local": {"steps": 3}}), parse_config({"local": {"epochs": 2}})
    assert (epochs.local.steps, epochs.local.epochs) == (None, 2.0)
    assert parse_config(epochs.resolved()) == epochs
    assert fljax.load_config(steps.resolved(), {"local.epochs": 2}) == epochs
    assert fljax.load_config(epochs.resolved(), {"local.steps": 3}) == steps
    assert merge({"local": {"steps": 3, "batch_size": 8}}, {"local": {"epochs": 2}}) == {
        "local": {"batch_size": 8, "epochs": 2}
    }
    both = apply_overrides({}, {"local.steps": 3, "local.epochs": 2})
    with pytest.raises(fljax.ConfigError, match="exclude each other"):
        parse_config(both)
