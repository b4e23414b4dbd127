"""PyTorch's loop does the same work; skipped where PyTorch is not installed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fljax import aggregators
from fljax.bench.flower_rounds import FlowerRounds
from fljax.bench.pfl_rounds import PflRounds
from fljax.bench.torch_loop import NoCounterpart, TorchLoop, Way, check, make_rule, trim_attack, ways
from fljax.config.schema import parse_config
from fljax.data import Dataset
from fljax.simulation.experiment import assemble

torch = pytest.importorskip("torch")

BASE = {
    "num_clients": 4,
    "local": {"batch_size": 3, "learning_rate": 0.5, "steps": 2},
    "root": {"size": 2},
    "aggregator": {"name": "mean"},
}


def config_of(**changes):
    return parse_config({**BASE, **changes})


def alike(shape):
    """A data set of one example, again and again: whatever is drawn, the batch is the same."""
    draw = np.random.default_rng(0)
    x = np.repeat(draw.normal(size=(1, *shape)).astype(np.float32), 60, axis=0)
    y = np.full(60, 2, np.int32)
    # Every class is there once; partitions and models ask for that, the one client who has it sees it.
    return Dataset(x, y, x[:4], y[:4], 3, "alike")


def as_torch(name, params, shape):
    """The parameters of a model of fljax in PyTorch's order, flat."""
    flat = []
    for layer in params.values():
        layer = layer.get("Conv_0", layer)
        kernel = np.asarray(layer["kernel"])
        if kernel.ndim == 4:
            flat += [kernel.transpose(3, 2, 0, 1), np.asarray(layer["bias"])]
            channels = kernel.shape[3]
            continue
        if name == "cnn" and flat and flat[-2].ndim == 4:
            side = int((kernel.shape[0] / channels) ** 0.5)
            images = kernel.reshape(side, side, channels, -1)
            kernel = images.transpose(2, 0, 1, 3).reshape(kernel.shape)
        flat += [kernel.T, np.asarray(layer["bias"])]
    return np.concatenate([part.ravel() for part in flat])


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize(("model", "shape"), [("cnn", (14, 14, 2)), ("mlp", (5,))])
def test_rounds_are_those_of_fljax(model, shape, steps):
    config = config_of(model={"name": model}, local={**BASE["local"], "steps": steps})
    experiment = assemble(config, dataset=alike(shape))
    start = experiment.unravel(experiment.state.run.params)
    state, _ = jax.jit(experiment.step)(*experiment.state)
    expected = as_torch(model, experiment.unravel(state.params), shape)
    given = [*ways(config, shape, 2, cuda=False), Way("vmap", 1, vmapped=3)]
    assert len({way.title for way in given}) == len(given) >= 4
    for way in given:
        loop = TorchLoop(experiment, way)
        loop.set_parameters(as_torch(model, start, shape))
        loop()
        np.testing.assert_allclose(loop.parameters(), expected, rtol=1e-4, atol=1e-5, err_msg=way.title)
        assert loop.shares().keys() == {"gradients", "attack", "rule"}
        assert 0.0 <= loop.evaluate() <= 1.0


def test_pfl_makes_the_same_round():
    pytest.importorskip("pfl")
    shape = (5,)
    experiment = assemble(config_of(model={"name": "mlp"}), dataset=alike(shape))
    start = experiment.unravel(experiment.state.run.params)
    state, _ = jax.jit(experiment.step)(*experiment.state)
    rounds = PflRounds(experiment, 2)
    flat = torch.from_numpy(as_torch("mlp", start, shape))
    torch.nn.utils.vector_to_parameters(flat, rounds.network.parameters())
    rounds()
    found = torch.nn.utils.parameters_to_vector(rounds.network.parameters()).detach()
    expected = as_torch("mlp", experiment.unravel(state.params), shape)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(NoCounterpart, match="the mean"):
        PflRounds(assemble(config_of(aggregator={"name": "median"}), dataset=alike(shape)), 2)


@pytest.mark.slow
def test_flower_makes_the_same_round():
    pytest.importorskip("flwr")
    shape = (5,)
    experiment = assemble(config_of(model={"name": "mlp"}), dataset=alike(shape))
    loop, flower = TorchLoop(experiment, Way("loop", 1)), FlowerRounds(experiment)

    def flat():
        return np.concatenate([part.ravel() for part in flower.arrays.to_numpy_ndarrays()])

    try:
        loop.set_parameters(flat())
        before = flat()
        for _ in range(2):
            flower()
            loop()
        assert not np.allclose(flat(), before, atol=1e-3)
        np.testing.assert_allclose(flat(), loop.parameters(), rtol=1e-4, atol=1e-5)
    finally:
        flower.close()


@pytest.mark.parametrize(
    "rule", [{"name": "mean"}, {"name": "median"}, {"name": "trimmed_mean", "trim": 2}, {"name": "fltrust"}]
)
@pytest.mark.parametrize("n", [7, 8])
def test_rules_are_those_of_fljax(rule, n):
    draw = np.random.default_rng(n)
    updates, root = draw.normal(size=(n, 50)).astype(np.float32), draw.normal(size=50).astype(np.float32)
    found = make_rule(config_of(aggregator=rule), torch.from_numpy(updates), False)(
        torch.from_numpy(updates), torch.from_numpy(root)
    )
    arrays = (root,) if rule["name"] == "fltrust" else ()
    hyper = {"trim": 2} if "trim" in rule else {}
    expected = getattr(aggregators, rule["name"])(jnp.asarray(updates), *arrays, **hyper)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-6)


def test_attackers_are_just_beyond_the_others():
    draw = np.random.default_rng(0)
    updates = draw.normal(size=(6, 400)).astype(np.float32) + 0.3
    attacked = torch.from_numpy(updates.copy())
    trim_attack(attacked, 2)
    np.testing.assert_array_equal(attacked[2:], updates[2:])
    sent, low, high = attacked[:2].numpy(), updates[2:].min(0), updates[2:].max(0)
    down = updates.sum(0) > 0
    assert (sent[:, down] <= low[down] + 1e-6).all()
    assert (sent[:, ~down] >= high[~down] - 1e-6).all()
    assert (np.abs(sent) <= 2 * np.abs(np.where(down, low, high)) + 1e-6).all()


@pytest.mark.parametrize(
    "changes",
    [
        {"local": {"epochs": 1}},
        {"local": {"optimizer": {"name": "adam"}}},
        {"client": {"name": "scaffold"}},
        {"attack": {"name": "sign_flip"}},
        {"server": {"learning_rate": 0.5}},
    ],
    ids=str,
)
def test_what_it_cannot_do_is_said(changes):
    with pytest.raises(NoCounterpart, match="no counterpart of"):
        check(config_of(**changes))


def test_a_rule_or_a_model_it_does_not_have_is_said():
    with pytest.raises(NoCounterpart, match="krum"):
        make_rule(config_of(aggregator={"name": "krum", "num_malicious": 1}), torch.zeros(4, 2), False)
    experiment = assemble(config_of(model={"name": "linear_regression"}), dataset=alike((5,)))
    with pytest.raises(NoCounterpart, match="linear_regression"):
        TorchLoop(experiment, Way("loop", 1))
