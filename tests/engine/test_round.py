"""One round against NumPy, and what must not change it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import fljax
from fljax.aggregators import mean as mean_rule
from fljax.aggregators import stateless
from fljax.attacks import Attack, Trigger
from fljax.base import Aggregator
from fljax.config.components import as_aggregator
from fljax.config.schema import parse_config
from fljax.data import Dataset
from fljax.engine.batches import draw_batches, sample_without_replacement
from fljax.engine.evaluate import make_evaluation
from fljax.engine.keys import named_key
from fljax.simulation.experiment import assemble
from tests.rules.fltrust import fltrust as reference_fltrust
from tests.rules.mean import mean as reference_mean
from tests.support.programs import jitted

draw_batches = jitted(draw_batches)

BASE = {
    "rounds": 4,
    "eval_every": 2,
    "num_clients": 10,
    "partition": {"name": "label_bias", "bias": 0.5},
    "model": {"name": "logistic_regression"},
    "local": {"batch_size": 16, "learning_rate": 0.1},
    "attack": {"name": "none", "fraction": 0.0},
}


def config(**changes):
    return parse_config({**BASE, **changes})


def one_round(cfg, **components):
    round_fn, state = fljax.build(cfg, **components)
    return jax.jit(round_fn)(state)


def client_batches(experiment, round_key, steps, batch_size):
    """The examples each client reads, from the library's own sampler."""
    data = experiment.state.data
    for client in range(data.table.shape[0]):
        key = jax.random.fold_in(named_key(round_key, "batches"), client)
        batches = draw_batches(
            key,
            data.table[client],
            data.counts[client],
            jnp.int32(0),
            steps=steps,
            batch_size=batch_size,
            largest=data.table.shape[1],
        )
        yield np.asarray(batches.examples), np.asarray(batches.weights) > 0


def numpy_update(x, y, batches, params, rate):
    """R SGD steps of softmax regression in float64; returns the update as (bias, kernel)."""
    weights, bias = (np.array(part, np.float64) for part in (params["kernel"], params["bias"]))
    start = weights.copy(), bias.copy()
    for examples in batches:
        grad_w, grad_b = softmax_gradient(weights, bias, x[examples], y[examples])
        weights, bias = weights - rate * grad_w, bias - rate * grad_b
    return np.r_[bias - start[1], (weights - start[0]).ravel()]


def softmax_gradient(weights, bias, x, y):
    """Gradient of the mean cross-entropy of softmax regression, one example at a time."""
    grad_w, grad_b = np.zeros_like(weights), np.zeros_like(bias)
    for features, label in zip(x, y, strict=True):
        logits = features @ weights + bias
        probabilities = np.exp(logits - logits.max())
        probabilities /= probabilities.sum()
        probabilities[label] -= 1.0
        grad_w += np.outer(features, probabilities)
        grad_b += probabilities
    return grad_w / len(y), grad_b / len(y)


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("rule", ["fltrust", "mean"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_one_round_equals_a_numpy_loop_over_clients(steps, rule, reduction):
    cfg = config(
        local={"batch_size": 16, "learning_rate": 0.1, "steps": steps},
        root={"size": 50, "batch_size": "full", "loss_reduction": reduction},
        server={"learning_rate": 0.7},
        aggregator={"name": rule},
    )
    experiment = assemble(cfg)
    run, data = experiment.state
    params = experiment.unravel(run.params)["Dense_0"]
    x = np.asarray(data.x, np.float64).reshape(len(data.x), -1)
    y = np.asarray(data.y)
    key = jax.random.fold_in(run.key, 0)
    updates = np.stack(
        [
            numpy_update(x, y, [e[m] for e, m in zip(examples, real, strict=True)], params, 0.1)
            for examples, real in client_batches(experiment, key, steps, 16)
        ]
    )
    if rule == "fltrust":
        root = np.asarray(data.root)
        rate = 0.1 * (50 / 16 if reduction == "sum" else 1.0)
        expected = reference_fltrust(updates, numpy_update(x, y, [root] * steps, params, rate))
    else:
        expected = reference_mean(updates, np.asarray(data.counts))
    state, metrics = one_round(cfg)
    np.testing.assert_allclose(state.run.params - run.params, 0.7 * expected, atol=1e-6)
    np.testing.assert_allclose(state.run.params, np.asarray(run.params) + 0.7 * expected, atol=1e-5)
    np.testing.assert_allclose(metrics.update_norm, np.linalg.norm(expected), rtol=1e-4)


def test_plain_mean_ignores_sizes():
    weighted, _ = one_round(config(aggregator={"name": "mean"}))
    plain, _ = one_round(config(aggregator={"name": "mean", "weights": "uniform"}))
    assert np.abs(weighted.run.params - plain.run.params).max() > 1e-5


@pytest.mark.parametrize("model", ["mlp", "logistic_regression"])
def test_chunks_of_clients_do_not_change_the_round(model):
    results = []
    for chunk in (1, 3, 10, "auto"):
        cfg = config(
            client_chunk=chunk, model={"name": model}, attack={"name": "trim_attack", "fraction": 0.2}
        )
        state, _ = one_round(cfg)
        results.append(np.asarray(state.run.params))
    for other in results[1:]:
        np.testing.assert_allclose(other, results[0], atol=1e-6)


def test_chunks_of_clients_do_not_change_the_cnn_round():
    images = np.random.default_rng(0).uniform(size=(300, 12, 12, 1)).astype(np.float32)
    labels = np.arange(300, dtype=np.int32) % 10
    data = Dataset(images, labels, images[:50], labels[:50], 10, "made up")
    params = []
    for chunk in (1, 2, 4):
        cfg = config(client_chunk=chunk, model={"name": "cnn"}, partition={"name": "iid"}, num_clients=4)
        params.append(np.asarray(one_round(cfg, dataset=data)[0].run.params))
    np.testing.assert_allclose(params[1], params[0], atol=1e-6)
    np.testing.assert_allclose(params[2], params[0], atol=1e-6)


def test_cohort_is_sampled_without_replacement_and_changes():
    seen = []

    def spy(updates, client_ids):
        jax.debug.callback(lambda ids: seen.append(np.asarray(ids)), client_ids)
        return jnp.mean(updates, 0)

    round_fn, state = fljax.build(config(cohort_size=4), aggregator=stateless(spy))
    jax.block_until_ready(jax.lax.scan(round_fn, state, length=6))
    jax.effects_barrier()
    assert len(seen) == 6
    assert all(len(np.unique(ids)) == 4 and (np.diff(ids) > 0).all() for ids in seen)
    assert len(np.unique(np.stack(seen), axis=0)) > 1
    assert set(np.concatenate(seen)) <= set(range(10))


def test_a_clients_batches_do_not_depend_on_the_cohort():
    stacks = {}

    def spy(name):
        def rule(updates, client_ids):
            jax.debug.callback(
                lambda u, i: stacks.setdefault(name, (np.array(u), np.array(i))), updates, client_ids
            )
            return jnp.mean(updates, 0)

        return stateless(rule)

    for name, size in (("all", 10), ("some", 4)):
        round_fn, state = fljax.build(config(cohort_size=size), aggregator=spy(name))
        jax.block_until_ready(jax.jit(round_fn)(state))
        jax.effects_barrier()
    updates, ids = stacks["some"]
    np.testing.assert_allclose(updates, stacks["all"][0][ids], atol=1e-7)


def test_sampling_is_uniform_and_without_replacement():
    keys = jax.random.split(jax.random.key(0), 6000)
    sample = jax.jit(jax.vmap(lambda key: sample_without_replacement(key, jnp.int32(9), 4)))
    numbers, real = map(np.asarray, sample(keys))
    assert real.all()
    assert (np.diff(np.sort(numbers, axis=1), axis=1) > 0).all()
    subsets = np.unique(np.sort(numbers, axis=1), axis=0, return_counts=True)[1]
    assert len(subsets) == 126  # 9 choose 4
    assert stats.chisquare(subsets).pvalue > 1e-3


def test_small_clients_use_what_they_have():
    numbers, real = sample_without_replacement(jax.random.key(0), jnp.int32(3), 8)
    assert sorted(np.asarray(numbers)[np.asarray(real)]) == [0, 1, 2]
    big = config(local={"batch_size": 10_000, "learning_rate": 0.1}, aggregator={"name": "median"})
    full = config(local={"batch_size": "full", "learning_rate": 0.1}, aggregator={"name": "median"})
    a, b = one_round(big)[0], one_round(full)[0]
    np.testing.assert_allclose(a.run.params, b.run.params, atol=1e-6)


def test_root_examples_are_nobodys():
    data = assemble(config(root={"size": 70, "bias": 0.4})).state.data
    held = np.asarray(data.table)
    assert np.intersect1d(held, np.asarray(data.root)).size == 0
    assert int(data.counts.sum()) + 70 == len(data.y)
    assert (np.asarray(data.y)[np.asarray(data.root)] == 1).sum() == 28


@pytest.mark.parametrize(("fraction", "count"), [(0.0, 0), (0.2, 2), (0.34, 3), (1.0, 10)])
def test_malicious_clients_are_a_seeded_subset(fraction, count):
    masks = [
        np.asarray(
            assemble(config(seed=s, attack={"name": "sign_flip", "fraction": fraction})).state.data.malicious
        )
        for s in (0, 0, 1, 2)
    ]
    assert all(mask.sum() == count for mask in masks)
    np.testing.assert_array_equal(masks[0], masks[1])
    if count in (2, 3):
        assert len({tuple(mask) for mask in masks}) > 1


def test_label_flip_equals_training_on_flipped_labels():
    captured = {}

    def rule(updates):
        jax.debug.callback(lambda u: captured.setdefault("updates", np.array(u)), updates)
        return jnp.mean(updates, 0)

    cfg = config(attack={"name": "label_flip", "fraction": 0.3})
    experiment = assemble(cfg)
    malicious = np.asarray(experiment.state.data.malicious)
    jax.block_until_ready(one_round(cfg, aggregator=stateless(rule)))
    jax.effects_barrier()
    run, data = experiment.state
    params = experiment.unravel(run.params)["Dense_0"]
    x = np.asarray(data.x, np.float64).reshape(len(data.x), -1)
    y = np.asarray(data.y)
    key = jax.random.fold_in(run.key, 0)
    for i, (examples, _) in enumerate(client_batches(experiment, key, 1, 16)):
        labels = 9 - y if malicious[i] else y
        expected = numpy_update(x, labels, examples, params, 0.1)
        np.testing.assert_allclose(captured["updates"][i], expected, atol=1e-6)


def test_backdoor_copies_reach_the_malicious_batches_only():
    captured = []

    def poison(x, y, is_copy, member):
        jax.debug.callback(lambda c: captured.append(np.array(c)), is_copy)
        return x, y

    def leave(updates, malicious, state, context):
        return updates, state

    attack = Attack(lambda n, d: (), leave, poison, copies=0.5)
    # An attack of the user's own needs no name, only a fraction.
    cfg = config(attack={"name": "none", "fraction": 0.3}, client_chunk=1)
    experiment = assemble(cfg, attack=attack)
    state = experiment.state.run
    for _ in range(5):
        state, _ = jax.jit(experiment.step)(state, experiment.state.data)
    jax.block_until_ready(state)
    jax.effects_barrier()
    shares = np.stack(captured).mean(1)
    assert (shares == 0).mean() >= 0.7  # the seven honest clients of ten, five rounds
    assert 0.2 < shares[shares > 0].mean() < 0.47  # a third of the augmented data


def test_attacks_are_told_the_rate_and_the_batch():
    def rate_and_batch(updates, malicious, state, knowledge):
        told = jnp.stack([knowledge.local_rate, knowledge.batch_size])
        return jnp.zeros_like(updates).at[:, :2].set(told), state

    attack = Attack(lambda n, d: (), rate_and_batch)
    for size, expected in ((16, 16.0), (10_000, 134.7), ("full", 134.7)):
        local = {"batch_size": size, "learning_rate": 0.1}
        pieces = {"attack": attack, "aggregator": stateless(mean_rule)}
        cfg = config(local=local, partition={"name": "iid"}, root={"size": 90})
        round_fn, state = fljax.build(cfg, **pieces)
        # 1,437 training examples less the root dataset, dealt out to ten clients.
        after, _ = jax.jit(round_fn)(state)
        told = (after.run.params - state.run.params)[:2]
        np.testing.assert_allclose(told, [0.1, expected], rtol=1e-3)


def test_learning_rate_schedule_and_server_optimizer_change_the_round():
    plain = config(aggregator={"name": "mean"})
    _, metrics = jax.lax.scan(*(lambda b: (b[0], b[1]))(fljax.build(plain)), length=3)
    schedule = {"name": "piecewise_constant_schedule", "init_value": 0.1, "boundaries_and_scales": {"2": 0.1}}
    decayed = config(aggregator={"name": "mean"}, local={"batch_size": 16, "learning_rate": schedule})
    round_fn, state = fljax.build(decayed)
    _, slow = jax.lax.scan(round_fn, state, length=3)
    np.testing.assert_allclose(slow.update_norm[:2], metrics.update_norm[:2], rtol=1e-5)
    np.testing.assert_allclose(slow.update_norm[2], 0.1 * metrics.update_norm[2], rtol=1e-4)
    momentum = config(aggregator={"name": "mean"}, server={"optimizer": {"name": "sgd", "momentum": 0.9}})
    round_fn, state = fljax.build(momentum)
    round_fn = jax.jit(round_fn)
    first, _ = round_fn(state)
    second, _ = round_fn(first)
    step_1, step_2 = first.run.params - state.run.params, second.run.params - first.run.params
    fresh, _ = round_fn(first._replace(run=first.run._replace(server_state=state.run.server_state)))
    np.testing.assert_allclose(step_2, fresh.run.params - first.run.params + 0.9 * step_1, atol=1e-6)


def test_data_are_arguments_of_the_compiled_round():
    round_fn, state = fljax.build(config())
    captured = jax.make_jaxpr(round_fn)(state).consts
    # What is left to capture is small; the training inputs are not.
    assert sum(np.size(constant) for constant in captured) < 100
    assert state.data.x.size > 80_000


def test_metrics_of_a_round():
    cfg = config(attack={"name": "sign_flip", "fraction": 0.3, "of": "mean"})
    _, metrics = one_round(cfg)
    assert float(metrics.trust_malicious) == 0.0
    assert 0 < float(metrics.trust_benign) <= 1
    assert float(metrics.malicious_accepted) == 0.0
    assert float(metrics.finite) == 1.0
    _, nobody = one_round(config(aggregator={"name": "median"}))
    assert np.isnan([nobody.trust_benign, nobody.malicious_accepted]).all()
    _, one = one_round(config(aggregator={"name": "krum", "num_malicious": 2}))
    np.testing.assert_allclose(one.benign_accepted, 0.1)


def test_the_decisions_of_a_rule_are_counted_like_a_detectors():
    def decide(updates, state, context):
        left_out = (context.client_ids + context.round) % 3 == 0
        return jnp.mean(updates, 0), state, {"weights": jnp.where(left_out, 0.0, 0.5)}

    pieces = {"aggregator": Aggregator(lambda n, d: (), decide)}
    round_fn, state = fljax.build(config(attack={"name": "sign_flip", "fraction": 0.4}), **pieces)
    malicious = np.asarray(state.data.malicious)
    step = jax.jit(round_fn)
    seen = set()
    for number in range(3):
        state, metrics = step(state)
        out = [(client + number) % 3 == 0 for client in range(10)]
        hits = sum(o and m for o, m in zip(out, malicious, strict=True))
        expected = hits / sum(out), hits / 4, (sum(out) - hits) / 6
        found = metrics.detection_precision, metrics.detection_recall, metrics.false_positive_rate
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        seen.add(expected)
    assert len(seen) > 1
    # FedAvg leaves nobody out; without attackers there is nobody to find.
    _, everybody = one_round(config(aggregator={"name": "mean"}, attack={"name": "sign_flip"}))
    assert np.isnan(everybody.detection_precision)
    assert (everybody.detection_recall, everybody.false_positive_rate) == (0, 0)
    _, honest = one_round(config(), **pieces)
    assert np.isnan([honest.detection_precision, honest.detection_recall]).all()
    np.testing.assert_allclose(honest.false_positive_rate, 0.4, rtol=1e-6)


def test_success_rate_leaves_out_examples_of_the_target():
    logits = {0: [9.0, 0, 0], 1: [0, 9.0, 0], 2: [0, 0, 9.0]}
    table = jnp.array([logits[i] for i in range(3)])

    def apply(params, x):
        return table[x[:, 0].astype(int)]

    # The trigger turns the answer into 0 for the first half of the examples only.
    trigger = Trigger(lambda x: jnp.where(x[..., 1:] < 4, x.at[..., 0].set(0), x), 0)
    x = jnp.array([[0.0, 0], [1, 1], [2, 2], [2, 3], [1, 4], [2, 5], [0, 6]])
    y = jnp.array([0, 1, 2, 1, 1, 2, 0])
    evaluate = make_evaluation(apply, lambda flat: flat, trigger, batch_size=3)
    result = jax.jit(evaluate)(jnp.zeros(1), x, y)
    np.testing.assert_allclose(result.test_error, 1 / 7)
    # Five examples are not of class 0; three of them (numbers 1, 2, 3) are turned.
    np.testing.assert_allclose(result.attack_success_rate, 3 / 5)
    clean = jax.jit(make_evaluation(apply, lambda flat: flat, None))(jnp.zeros(1), x, y)
    assert np.isnan(clean.attack_success_rate)
    # Of the two of class 2 that do not answer 0 by themselves, one is turned.
    of_one = jax.jit(make_evaluation(apply, lambda flat: flat, trigger._replace(source=2)))
    of_one = of_one(jnp.zeros(1), x, y)
    np.testing.assert_allclose(of_one.attack_success_rate, 1 / 2)
    rare = trigger._replace(examples=jnp.array([[0.0, 0], [1, 0], [0, 9]]))
    on_rare = jax.jit(make_evaluation(apply, lambda flat: flat, rare, batch_size=2))(jnp.zeros(1), x, y)
    np.testing.assert_allclose(on_rare.attack_success_rate, 2 / 3)
    np.testing.assert_allclose(on_rare.test_error, 1 / 7)


def test_custom_pieces():
    from flax import linen as nn

    class Own(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(10)(x.reshape(len(x), -1))

    rule = stateless(mean_rule)
    state, _ = one_round(config(), model=Own(), aggregator=rule)
    assert state.run.params.shape == (650,)
    with pytest.raises(fljax.ConfigError, match=r"into float32 of shape \(10,\), not \(650,\)"):
        assemble(config(), aggregator=stateless(lambda updates: updates[:, 0]))
    with pytest.raises(fljax.ConfigError, match="needs nothing_known"):
        assemble(config(), aggregator=as_aggregator(lambda updates, nothing_known: updates[0]))
