"""Whole runs: one compilation, the same numbers twice, real data."""

from pathlib import Path

import jax
import numpy as np
import pytest

import fljax
from fljax.aggregators import stateless, trimmed_mean
from fljax.config.loading import load_config
from fljax.config.schema import parse_config

OPTIMIZED = True  # see quick_programs in conftest.py
CONFIG = {
    "rounds": 30,
    "eval_every": 5,
    "num_clients": 10,
    "partition": {"name": "label_bias", "bias": 0.5},
    "attack": {"name": "trim_attack", "fraction": 0.2},
}


def test_a_run_compiles_its_chunk_once():
    traces, compiled, at_record = [], [], []

    def counted(updates):
        traces.append(updates.shape)
        return trimmed_mean(updates, trim=2)

    def listen(event, seconds, **_):
        if "backend_compile" in event:
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        fljax.run(
            parse_config(CONFIG),
            aggregator=stateless(counted),
            progress=lambda record: at_record.append(len(compiled)),
        )
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert len(at_record) == 6
    assert at_record[0] > 0, "the listener hears nothing"
    assert at_record[-1] == at_record[0], "something was compiled between chunks"
    # Once to check the pieces, and once in the compiled chunk.
    assert traces == [(10, 4810)] * 2


def test_the_same_seed_gives_the_same_bits(tmp_path):
    def lines(name):
        text = (tmp_path / name / "metrics.jsonl").read_text()
        return [line.rpartition('"seconds"')[0] for line in text.splitlines()]

    first, second = (fljax.run(parse_config(CONFIG), out=tmp_path / name) for name in ("a", "b"))
    assert lines("a") == lines("b")
    assert len(lines("a")) == 6
    for one, two in zip(jax.tree.leaves(first.params), jax.tree.leaves(second.params), strict=True):
        assert np.asarray(one).tobytes() == np.asarray(two).tobytes()
    other = fljax.run(parse_config({**CONFIG, "seed": 1}))
    assert not np.array_equal(jax.tree.leaves(other.params)[1], jax.tree.leaves(first.params)[1])


@pytest.mark.parametrize("purpose", ["data", "init", "train"])
def test_each_seed_has_its_own_purpose(purpose):
    base = fljax.build(parse_config(CONFIG))[1]
    other = fljax.build(parse_config({**CONFIG, "seeds": {purpose: 5}}))[1]
    assert np.array_equal(base.data.root, other.data.root) == (purpose != "data")
    assert np.array_equal(base.run.params, other.run.params) == (purpose != "init")
    keys = [jax.random.key_data(state.run.key) for state in (base, other)]
    assert np.array_equal(*keys) == (purpose != "train")


def test_attackers_of_a_smaller_fraction_stay_malicious_in_a_larger_one():
    masks = [
        np.asarray(
            fljax.build(parse_config({**CONFIG, "attack": {"name": "sign_flip", "fraction": f}}))[
                1
            ].data.malicious
        )
        for f in (0.2, 0.4, 0.9)
    ]
    assert (masks[0] <= masks[1]).all()
    assert (masks[1] <= masks[2]).all()


@pytest.mark.slow
def test_fltrust_holds_where_averaging_fails():
    attack = {"name": "sign_flip", "fraction": 0.3, "factor": 10.0}
    config = {**CONFIG, "rounds": 100, "attack": attack, "root": {"bias": 0.1}}
    errors = {
        rule: fljax.run(parse_config({**config, "aggregator": {"name": rule}})).summary["test_error"]
        for rule in ("mean", "fltrust")
    }
    assert errors["mean"] > 0.7
    assert errors["fltrust"] < 0.4


@pytest.mark.slow
def test_mnist_agrees_with_an_independent_implementation(shared_data):
    # Another, plain implementation reached 0.161 (FedAvg, 100 clients, q = 0.5, b = 32, rate 0.0096).
    config = load_config(
        Path(__file__).parents[2] / "configs/mnist_quick.toml",
        {
            "rounds": 500,
            "eval_every": 100,
            "data.dir": str(shared_data),
            "model.name": "logistic_regression",
            "local.learning_rate": 0.0096,
            "aggregator.name": "mean",
            "attack.name": "none",
        },
    )
    summary = fljax.run(config).summary
    assert abs(summary["test_error"] - 0.161) < 0.008
    assert summary["data"]["source"].startswith("idx files")
    assert summary["num_params"] == 7850


@pytest.mark.slow
def test_uci_har_by_user(shared_data):
    config = parse_config(
        {
            "rounds": 40,
            "eval_every": 20,
            "data": {"name": "uci_har", "dir": str(shared_data)},
            "partition": {"name": "by_client"},
            "model": {"name": "logistic_regression"},
            "local": {"learning_rate": 0.096},
            "attack": {"name": "scaling_attack", "fraction": 0.2},
        }
    )
    summary = fljax.run(config).summary
    assert summary["num_params"] == 3372
    assert summary["clients"]["num_clients"] == 21
    assert "21 of 30 subjects" in summary["data"]["notes"][0]
    assert summary["test_error"] < 0.5
    assert 0 <= summary["attack_success_rate"] <= 1
