"""Every loss against a slow loop over examples and outputs, in float64."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fljax
from fljax.config.schema import parse_config
from fljax.data import Dataset
from fljax.engine.objectives import objective, per_example
from fljax.losses import LOSSES

RNG = np.random.default_rng(0)
CLASSES = RNG.normal(size=(7, 4)).astype(np.float32) * 3, RNG.integers(0, 4, 7).astype(np.int32)
TOKENS = RNG.normal(size=(3, 5, 4)).astype(np.float32), RNG.integers(0, 4, (3, 5)).astype(np.int32)
NUMBERS = RNG.normal(size=(6, 2)).astype(np.float32) * 2, RNG.normal(size=(6, 2)).astype(np.float32)


def cross_entropy(outputs, label, smoothing=0.0):
    largest = max(outputs)
    total = largest + math.log(sum(math.exp(z - largest) for z in outputs))
    shares = [(1 - smoothing) * (c == label) + smoothing / len(outputs) for c in range(len(outputs))]
    return sum(share * (total - z) for share, z in zip(shares, outputs, strict=True))


def one_hot(outputs, label):
    return [float(c == label) for c in range(len(outputs))] if np.ndim(label) == 0 else list(label)


def mse(outputs, label):
    wanted = one_hot(outputs, label)
    return sum((z - t) ** 2 for z, t in zip(outputs, wanted, strict=True)) / len(outputs)


def huber(outputs, label, delta=1.0):
    total = 0.0
    for z, t in zip(outputs, one_hot(outputs, label), strict=True):
        off = abs(z - t)
        total += off**2 / 2 if off <= delta else delta * (off - delta / 2)
    return total / len(outputs)


def binary_cross_entropy(outputs, label):
    total = 0.0
    for c, z in enumerate(outputs):
        yes = 1 / (1 + math.exp(-z))
        total -= math.log(yes if c == label else 1 - yes)
    return total / len(outputs)


# Parameters, reference, and the labels it is for.
ROWS = {
    "cross_entropy": [({}, cross_entropy), ({"label_smoothing": 0.3}, lambda z, y: cross_entropy(z, y, 0.3))],
    "mse": [({}, mse)],
    "huber": [({}, huber), ({"delta": 0.4}, lambda z, y: huber(z, y, 0.4))],
    "binary_cross_entropy": [({}, binary_cross_entropy)],
}
CASES = [
    (name, given, reference, data)
    for name, rows in ROWS.items()
    for given, reference in rows
    for data in (CLASSES, TOKENS, NUMBERS)
    if not (data is NUMBERS and name in ("cross_entropy", "binary_cross_entropy"))
]


def test_every_registry_entry_is_tested():
    assert set(ROWS) == set(LOSSES)


@pytest.mark.parametrize(("name", "given", "reference", "data"), CASES)
def test_a_loss_is_its_formula(name, given, reference, data):
    outputs, labels = data
    found = per_example(lambda z, y: LOSSES[name].function(z, y, **given))(*map(jnp.asarray, data))
    if labels.ndim == 2 and labels.dtype == np.int32:  # a class after every token: their mean
        expected = [
            np.mean([reference(z, y) for z, y in zip(row.astype(float), own, strict=True)])
            for row, own in zip(outputs, labels, strict=True)
        ]
    else:
        expected = [reference(z, y) for z, y in zip(outputs.astype(float), labels, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=2e-5)


def test_losses_of_the_same_outputs_differ():
    values = [float(jnp.mean(entry.function(*map(jnp.asarray, CLASSES)))) for entry in LOSSES.values()]
    assert len({round(value, 3) for value in values}) == len(LOSSES)


def test_an_objective_is_the_weighted_mean_and_takes_one_number_in_two_forms():
    def apply(params, x):
        return params * x

    loss = objective(LOSSES["mse"].function, apply)
    x, y = jnp.array([[1.0], [2.0], [9.0]]), jnp.array([0.0, 1.0, 5.0])
    weights = jnp.array([1.0, 1.0, 0.0])
    value, state = loss(jnp.float32(3.0), (), x, y, weights)
    assert float(value) == pytest.approx((9 + 25) / 2)
    assert state == ()
    flat = objective(LOSSES["mse"].function, lambda params, x: params * x[:, 0])
    np.testing.assert_array_equal(flat(jnp.float32(3.0), (), x, y, weights, 4.0)[0], (9 + 25) / 4)


SMALL = {
    "num_clients": 4,
    "data": {"name": "synthetic", "num_train": 80, "num_test": 20},
    "model": {"name": "logistic_regression"},
    "root": {"size": 20},
}


def updated(values, **components):
    step, state = fljax.build(parse_config({**SMALL, **values}), **components)
    return np.asarray(jax.jit(step)(state)[0].run.params)


def test_the_loss_of_a_configuration_trains_clients_and_server():
    def own(outputs, labels):
        return jnp.mean((outputs - jax.nn.one_hot(labels, 10)) ** 2, axis=1)

    only = {"aggregator": {"name": "root_only"}}  # the server's own training alone
    named, python = updated(only | {"loss": {"name": "mse"}}), updated(only, loss=own)
    np.testing.assert_array_equal(named, python)
    assert np.abs(named - updated(only)).max() > 1e-4
    # FLTrust takes the size from the server and the direction from the clients.
    assert np.abs(updated({"loss": {"name": "mse"}}) - named).max() > 1e-4


LINE = Dataset(
    np.ones((40, 2), np.float32), np.ones(40, np.float32),
    np.ones((9, 2), np.float32), np.ones(9, np.float32), num_classes=None, name="line",
)  # fmt: skip


def linear(params, x):
    return x @ params


def refused(match, values=None, **components):
    with pytest.raises(fljax.ConfigError, match=match):
        fljax.build(parse_config({**SMALL, **(values or {})}), **components)


def test_a_loss_that_does_not_fit_is_one_sentence():
    refused("unknown loss 'mze'; did you mean 'mse'", {"loss": {"name": "mze"}})
    refused("loss huber: delta=-1.0 must be larger than 0", {"loss": {"name": "huber", "delta": -1.0}})
    refused("label_smoothing=2.0 must be between 0 and 1", {"loss": {"label_smoothing": 2.0}})
    refused("one value for each of the 11 examples", loss=lambda outputs, labels: outputs.sum())
    refused("loss f: does not fit outputs", loss=_taking_one)
    model = fljax.models.Model(lambda key: jnp.zeros((2, 1)), linear)
    refused(
        r"loss cross_entropy: is for classes, but the labels of line are numbers \(choose from mse, huber\)",
        dataset=LINE, model=model,
    )  # fmt: skip


def _taking_one(outputs):
    return outputs


_taking_one.__name__ = "f"
