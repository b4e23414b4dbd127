"""Every metric against a loop over test examples, through the evaluation that computes it."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fljax
from fljax.base import Trigger
from fljax.config.components import make_measures
from fljax.config.schema import Component, parse_config
from fljax.engine.evaluate import Beside, make_evaluation
from fljax.losses import LOSSES
from fljax.metrics import METRICS, asked, client_errors, described_column

RNG = np.random.default_rng(1)
N, M = 41, 8
X = RNG.normal(size=(N, M)).astype(np.float32)
Y = np.r_[RNG.integers(0, M - 1, N - 1), 0].astype(np.int32)  # nobody is of the last class
CLIENTS = RNG.integers(-1, 25, N).astype(np.int32)
CLIENTS[CLIENTS == 3] = 4  # client 3 has no test example
TRIGGERS = {
    "left": Trigger(lambda x: x.at[..., 0].set(2.0), 0),
    "right": Trigger(lambda x: x.at[..., 5].set(1.0), 5),
}


def apply(params, x):
    return params * x  # the inputs are the logits


def evaluation(names, losses="cross_entropy", y=Y, x=X, function=apply, **kwargs):
    measures = make_measures([Component(name=name) for name in names])
    evaluate = make_evaluation(
        function, lambda flat: flat, TRIGGERS["left"], 7, measures=measures,
        losses=LOSSES[losses].function, triggers=TRIGGERS, num_classes=M, num_clients=25,
    )  # fmt: skip
    return jax.jit(evaluate)(jnp.ones(()), x, y, (), Beside(clients=jnp.asarray(CLIENTS), **kwargs))


def wrongs():
    return [float(np.argmax(x) != y) for x, y in zip(X, Y, strict=True)]


def loss():
    return {"": np.mean([math.log(np.exp(x.astype(float)).sum()) - x[y] for x, y in zip(X, Y, strict=True)])}


def of_classes():
    own = {c: [w for w, y in zip(wrongs(), Y, strict=True) if y == c] for c in range(M)}
    return {str(c): np.mean(values) if values else math.nan for c, values in own.items()}


def top5():
    return {"": np.mean([y not in np.argsort(-x, kind="stable")[:5] for x, y in zip(X, Y, strict=True)])}


def of_clients():
    errors = wrongs()
    rates = [
        np.mean([errors[i] for i in range(N) if CLIENTS[i] == client])
        for client in range(25)
        if client in CLIENTS
    ]
    worst = sorted(rates, reverse=True)[: math.ceil(len(rates) / 10)]
    return {"mean": np.mean(rates), "worst_tenth": np.mean(worst)}


def triggered():
    found = {}
    for name, trigger in TRIGGERS.items():
        hit, missed, count = 0, 0, 0
        for x, y in zip(X, Y, strict=True):
            if y != trigger.target:
                answer = np.argmax(np.asarray(trigger.embed(jnp.asarray(x))))
                count, hit, missed = count + 1, hit + (answer == trigger.target), missed + (answer != y)
        found |= {f"{name}_success": hit / count, f"{name}_error": missed / count}
    return found


def triggered_by_class():
    found = {}
    for name, trigger in TRIGGERS.items():
        for label in range(M):
            answers = [
                np.argmax(np.asarray(trigger.embed(jnp.asarray(x))))
                for x, y in zip(X, Y, strict=True)
                if y == label != trigger.target
            ]
            found[f"{name}_{label}"] = np.mean(np.array(answers) == trigger.target) if answers else math.nan
    return found


OF_CLASSES = {
    "test_loss": loss,
    "per_class_error": of_classes,
    "top5_error": top5,
    "client_errors": of_clients,
    "backdoor": triggered,
    "backdoor_by_class": triggered_by_class,
}
OF_NUMBERS = {
    "rmse": lambda z, y: np.sqrt(np.mean((z - y) ** 2)),
    "mae": lambda z, y: np.mean(np.abs(z - y)),
}


def test_every_registry_entry_is_tested():
    assert {*OF_CLASSES, *OF_NUMBERS} == set(METRICS)


def test_metrics_of_classes():
    found = evaluation(OF_CLASSES)
    expected = {
        f"{name}_{key}" if key else name: value
        for name, reference in OF_CLASSES.items()
        for key, value in reference().items()
    }
    assert list(found.further) == list(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found.further[name], value, rtol=1e-5, err_msg=name)
    np.testing.assert_allclose(found.test_error, np.mean(wrongs()), rtol=1e-6)
    np.testing.assert_allclose(found.attack_success_rate, expected["backdoor_left_success"], rtol=1e-6)
    assert len({round(float(value), 4) for value in expected.values() if value == value}) > 8


def test_metrics_of_numbers_and_the_error_that_is_theirs():
    def sums(params, x):
        return params * x[:, :2]

    y = RNG.normal(size=(N, 2)).astype(np.float32)
    measures = make_measures([Component(name=name) for name in OF_NUMBERS])
    evaluate = make_evaluation(sums, lambda flat: flat, None, 7, measures=measures)
    found = jax.jit(evaluate)(jnp.ones(()), X, y)
    for name, reference in OF_NUMBERS.items():
        np.testing.assert_allclose(found.further[name], reference(X[:, :2].astype(float), y), rtol=1e-5)
    np.testing.assert_allclose(found.test_error, OF_NUMBERS["rmse"](X[:, :2], y), rtol=1e-5)
    # One number for each example, in either form.
    one = jax.jit(make_evaluation(lambda p, x: x[:, 0], lambda flat: flat, None))(jnp.ones(()), X, y[:, 0])
    np.testing.assert_allclose(one.test_error, np.sqrt(np.mean((X[:, 0] - y[:, 0]) ** 2)), rtol=1e-5)


def test_a_class_after_every_token_counts_by_itself():
    logits = RNG.normal(size=(N, 3, M)).astype(np.float32)
    labels = RNG.integers(0, M, (N, 3)).astype(np.int32)
    found = evaluation(["test_loss", "top5_error", "client_errors"], y=labels, x=logits)
    wrong = logits.argmax(-1) != labels
    np.testing.assert_allclose(found.test_error, wrong.mean(), rtol=1e-6)
    rates = [wrong[client == CLIENTS].mean() for client in range(25) if client in CLIENTS]
    np.testing.assert_allclose(found.further["client_errors_mean"], np.mean(rates), rtol=1e-5)


def test_the_validation_error_is_that_of_the_examples_at_its_positions():
    places = np.array([3, 30, 8, 17, 11], np.int32)
    evaluate = make_evaluation(apply, lambda flat: flat, None, 2)
    beside = Beside(x=jnp.asarray(X), y=jnp.asarray(Y), validation=jnp.asarray(places))
    found = jax.jit(evaluate)(jnp.ones(()), X[:6], Y[:6], (), beside)
    np.testing.assert_allclose(found.further["validation_error"], np.mean(np.array(wrongs())[places]))
    assert list(found.further) == ["validation_error"]


def test_nobody_with_test_examples_is_no_number():
    found = client_errors(jnp.ones(3), jnp.full(3, -1), 4)
    assert all(np.isnan(value) for value in found.values())


def test_a_column_is_described_by_its_metric():
    assert described_column("per_class_error_3").title == "error of class: 3"
    assert described_column("per_class_error_3").panel == "error of class"
    assert described_column("top5_error").kind == "error"
    assert described_column("unheard_of").better == "low"


def test_wrong_metrics_are_one_sentence():
    values = {
        "num_clients": 4,
        "data": {"name": "synthetic", "num_train": 80, "num_test": 20},
        "model": {"name": "logistic_regression"},
        "root": {"size": 20},
    }

    def refused(match, metrics=(), **functions):
        with pytest.raises(fljax.ConfigError, match=match):
            fljax.build(parse_config({**values, "metrics": list(metrics)}), metrics=functions)

    refused("unknown metric 'tset_loss'; did you mean 'test_loss'", ["tset_loss"])
    refused("metrics: test_loss is listed twice", ["test_loss", "test_loss"])
    refused("client_errors: needs test_client_ids, which tell whose", ["client_errors"])
    refused("metric rmse: does not fit outputs", ["rmse"])
    refused("metric v: must return a scalar, or a dictionary .* got float32 of", v=lambda errors: errors)
    refused("metric v: .* as v_a", v=lambda errors: {"a": errors})
    refused("metric loss: is the name of another column", loss=lambda losses: losses.mean())
    refused("unknown argument 'x'", f=lambda x: x)
    refused("a function that JAX can compile", f=lambda outputs: float(outputs[0, 0]))
    with pytest.raises(ValueError, match="must take one of"):
        asked(lambda *, k=1: k)
