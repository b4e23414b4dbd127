"""Chameleon: its loss, and the two stages of a round by hand."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from fljax.aggregators import Aggregator
from fljax.attacks import badnets
from fljax.attacks.contrast import contrastive_loss
from fljax.config.schema import parse_config
from fljax.simulation.experiment import assemble

FEATURES = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]])


def by_loops(features, labels, factors, temperature):
    """Dai and Li 2023, without rows that only fill a batch."""
    unit = [row / np.linalg.norm(row) for row in np.asarray(features, float)]
    rows = []
    for i, own in enumerate(unit):
        total = sum(np.exp(own @ other / temperature) for a, other in enumerate(unit) if a != i)
        alike = [p for p in range(len(unit)) if p != i and labels[p] == labels[i]]
        logs = [np.log(np.exp(own @ unit[p] / temperature) / total) for p in alike]
        rows.append(-factors[i] * sum(logs) / len(alike) if alike else 0.0)
    return rows


def test_worked_numbers():
    labels, ones = np.array([0, 0, 1, 1]), np.ones(4)
    np.testing.assert_allclose(by_loops(FEATURES, labels, ones, 1.0)[:2], [0.5282288619, 0.8189247159])
    for pull, mean in ((1.0, 0.6735767888), (6.0, 2.3575187611)):
        factors = np.where(labels == 1, pull, 1.0)
        np.testing.assert_allclose(np.mean(by_loops(FEATURES, labels, factors, 1.0)), mean)
        # Two more rows fill the batch; lengths do not count.
        padded = jnp.asarray(np.vstack([3.0 * FEATURES, [[5.0, 1.0], [0.0, 0.0]]]), jnp.float32)
        real = jnp.arange(6) < 4
        wide = jnp.asarray(np.append(factors, [9.0, 9.0]), jnp.float32)
        found = contrastive_loss(padded, jnp.array([0, 0, 1, 1, 0, 1]), real, wide, 1.0)
        np.testing.assert_allclose(found, mean, rtol=1e-6)


def test_rows_alone_count_nothing_and_have_a_gradient():
    def loss(features, real):
        return contrastive_loss(features, jnp.array([0, 1, 1, 2]), real, jnp.ones(4), 0.5)

    features = jnp.asarray(FEATURES, jnp.float32).at[3].set(0.0)
    expected = np.mean([0.0, *by_loops(FEATURES[:3], [0, 1, 1], np.ones(3), 0.5)[1:]])
    np.testing.assert_allclose(loss(features, jnp.arange(4) < 3), expected, rtol=1e-5)
    for count in (0, 1, 2, 4):
        slope = jax.grad(loss)(features, jnp.arange(4) < count)
        assert np.isfinite(slope).all()


STEPS = {"encoder_steps": 3, "classifier_steps": 2}
NORM, RATE, PULL, KAPPA = 0.8, 0.05, 6.0, 0.07


def forward(params, x):
    """The features and the logits of a perceptron."""
    first, last = params["Dense_0"], params["Dense_1"]
    hidden = jax.nn.relu(x.reshape(len(x), -1) @ first["kernel"] + first["bias"])
    return hidden, hidden @ last["kernel"] + last["bias"]


def into(delta):
    size = np.sqrt(sum(float(jnp.sum(leaf**2)) for leaf in jax.tree.leaves(delta)))
    return jax.tree.map(lambda leaf: leaf * min(1.0, NORM / max(size, 1e-9)), delta)


def by_hand(params, x, y, steps, frozen=True, pull=PULL, norm=True):
    """What a malicious client sends that takes all its examples and copies in every step."""
    delta = jax.tree.map(jnp.zeros_like, params)

    def contrast(delta):
        features = forward(jax.tree.map(jnp.add, params, delta), x)[0]
        unit = features / jnp.linalg.norm(features, axis=1, keepdims=True)
        scores = unit @ unit.T / KAPPA - jnp.diag(jnp.full(len(y), jnp.inf))
        logs = jnp.where(jnp.eye(len(y), dtype=bool), 0.0, jax.nn.log_softmax(scores, axis=1))
        alike = (y[:, None] == y[None]) & ~np.eye(len(y), dtype=bool)
        rows = -jnp.sum(jnp.where(alike, logs, 0.0), 1) / np.maximum(alike.sum(1), 1)
        return jnp.mean(np.where(y == 0, pull, 1.0) * rows)

    def honest(delta):
        logits = forward(jax.tree.map(jnp.add, params, delta), x)[1]
        return -jnp.mean(jax.nn.log_softmax(logits)[np.arange(len(y)), y])

    for loss, count, kept in (
        (contrast, steps["encoder_steps"], "Dense_0"),
        (honest, steps["classifier_steps"], "Dense_1"),
    ):
        slope = jax.jit(jax.grad(loss))
        for _ in range(count):
            found = slope(delta)
            rates = {name: RATE * (name == kept or not frozen) for name in delta}
            moved = {
                name: jax.tree.map(lambda d, g, rate=rate: d - rate * g, delta[name], found[name])
                for name, rate in rates.items()
            }
            delta = into(moved) if norm else moved
    return ravel_pytree(delta)[0]


def test_a_round_is_the_two_stages():
    attack = {"name": "chameleon", "fraction": 0.4, "norm": NORM, "pull": PULL, **STEPS}
    config = parse_config(
        {
            "rounds": 1,
            "eval_every": 1,
            "num_clients": 5,
            "data": {"name": "digits"},
            "root": {"size": 10},
            "local": {"steps": 1, "batch_size": "full", "learning_rate": RATE},
            "model": {"name": "mlp", "hidden": [12]},
            "attack": attack,
        }
    )
    rule = Aggregator(
        lambda n, d: jnp.zeros((n, d)), lambda stack, state, context: (jnp.mean(stack, 0), stack, {})
    )
    experiment = assemble(config, aggregator=rule)
    state, data = experiment.state
    after, _ = jax.jit(experiment.step)(state, data)
    row = int(np.flatnonzero(data.malicious)[0])
    sent = np.asarray(after.aggregator_state)[row]
    params = experiment.unravel(state.params)
    params = params.get("params", params)
    count = int(data.counts[row])
    own = np.asarray(data.table)[row, :count]
    copied = own[: -(-count // 2)]
    x, y = (np.asarray(part)[np.append(own, copied)] for part in (data.x, data.y))
    is_copy = np.arange(len(x)) >= count
    x, y = badnets(image_shape=(8, 8, 1)).poison_data(jnp.asarray(x), jnp.asarray(y), is_copy, jnp.int32(0))
    y = np.asarray(y)
    np.testing.assert_allclose(sent, by_hand(params, x, y, STEPS), atol=2e-5)
    for wrong in (
        {"frozen": False},
        {"pull": 1.0},
        {"norm": False},
        {"steps": {"encoder_steps": 3, "classifier_steps": 1}},
        {"steps": {"encoder_steps": 2, "classifier_steps": 2}},
    ):
        assert np.abs(sent - by_hand(params, x, y, **{"steps": STEPS, **wrong})).max() > 1e-4, wrong
