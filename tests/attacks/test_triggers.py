"""Triggers that change from round to round: their search, and what of it reaches training and evaluation."""

import jax
import jax.numpy as jnp
import numpy as np

import fljax
from fljax.aggregators import Context
from fljax.attacks import NO_ATTACK, A3FLState, a3fl
from fljax.attacks.training import cross_entropy
from fljax.base import Attackers
from fljax.config.schema import parse_config
from fljax.simulation.experiment import assemble
from tests.attacks import a3fl as reference

SIDE, CLASSES = 4, 3
random = np.random.default_rng(11)
WEIGHTS = random.normal(size=(SIDE * SIDE + 1, CLASSES))
X = random.uniform(size=(2, 6, SIDE, SIDE, 1))
Y = random.integers(0, CLASSES, (2, 6))


def softmax_regression(params, x):
    flat = x.reshape(len(x), -1)
    return flat @ params["w"] + params["b"]


def attackers(batches=(X, Y), predict=softmax_regression, weights=WEIGHTS):
    """A round whose second row attacks, with these batches of its own."""

    def draw(row, key, steps, batch_size):
        x, y = (jnp.asarray(part) for part in batches)
        mine = jnp.where(row == 1, 1.0, jnp.nan)  # nobody else has any
        return mine * x.astype(jnp.float32), y, jnp.ones(y.shape)

    return Attackers(
        context=Context(key=jax.random.key(0)),
        malicious=jnp.array([False, True, True]),
        params={"w": jnp.asarray(weights[:-1], jnp.float32), "b": jnp.asarray(weights[-1], jnp.float32)},
        predict=predict,
        draw=draw,
        learning_rate=jnp.float32(0.1),
    )


SEARCH = {"passes": 8, "step": 0.05, "strength": -4.0, "adversarial_epochs": 3}


def searched(**changes):
    own = {"target": 2, "passes": 8, "step": 0.05, "strength": -4.0, "every": 3, "epochs": 3, "rate": 0.8}
    flat = [(x.reshape(len(x), -1), y) for x, y in zip(X, Y, strict=True)]
    place = [row * SIDE + column for row in (1, 2) for column in (1, 2)]
    return reference.search(WEIGHTS, flat, place, [0.5] * 4, **{**own, **changes})


def test_the_patch_is_that_of_the_loops():
    attack = a3fl(
        image_shape=(SIDE, SIDE, 1),
        num_classes=CLASSES,
        target=2,
        size=2,
        corner=1,
        renewed_every=3,
        adversarial_rate=0.8,
        **SEARCH,
    )
    found = jax.jit(lambda state: attack.prepare(state, attackers()))(attack.init(3, 9)).trigger.reshape(-1)
    np.testing.assert_allclose(found, searched(), atol=1e-5)
    wrong = {
        "no copies": {"strength": 0.0},
        "the target's labels": {"true_labels": False},
        "no momentum": {"momentum": 0.0},
        "no decay": {"decay": 0.0},
        "no cosine": {"cosine": False},
        "one copy": {"every": 9},
        "a copy a pass": {"every": 1},
        "copies of copies": {"from_model": False},
        "one epoch": {"epochs": 1},
        "by the slope itself": {"signed": False},
        "one pass": {"passes": 1},
    }
    for name, changes in wrong.items():
        assert not np.allclose(found, searched(**changes), atol=1e-3), name


def test_worked_numbers_of_a_step():
    attack = a3fl(
        image_shape=(1, 1, 1), target=1, size=1, corner=0, passes=1, strength=0.0, batches=1, batch_size=1
    )
    one = (np.zeros((1, 1, 1, 1, 1)), np.zeros((1, 1), int))

    def predict(params, x):
        value = x.reshape(-1, 1)
        return jnp.concatenate([value, -value], 1)

    found = attack.prepare(A3FLState(jnp.full((1, 1, 1), 0.5)), attackers(one, predict)).trigger
    np.testing.assert_allclose(found, 0.49, rtol=1e-6)
    for value, loss in ((0.5, 1.3132616875), (0.49, 1.2986799592)):
        logits = predict((), jnp.full((2, 1, 1, 1), value))
        # The second example only fills the batch.
        logits = logits.at[1].set(jnp.nan)
        found = cross_entropy(logits, jnp.ones(2, jnp.int32), jnp.array([1.0, 0.0]))
        np.testing.assert_allclose(found, loss, rtol=1e-6)


SEARCHED = {
    "name": "a3fl",
    "target": 3,
    "passes": 3,
    "batches": 2,
    "batch_size": 8,
    "step": 0.05,
    "adversarial_epochs": 1,
}


def config(attack, **changes):
    return parse_config(
        {
            "rounds": 3,
            "eval_every": 3,
            "num_clients": 6,
            "root": {"size": 10},
            "model": {"name": "logistic_regression"},
            "aggregator": {"name": "mean"},
            "attack": {"fraction": 0.4, **attack},
            **changes,
        }
    )


def test_what_is_searched_is_trained_on_and_measured():
    """Also as the backdoor of another attack; after its last round the patch stays what it is."""
    attack = {"name": "neurotoxin", "backdoor": SEARCHED, "schedule": {"name": "between", "stop": 2}}
    given = config(attack)
    experiment = assemble(given)
    step, state, patches = jax.jit(experiment.step), experiment.state.run, []
    for _ in range(3):
        state, _ = step(state, experiment.state.data)
        patches.append(np.asarray(state.attack_state[1].trigger))
    assert np.abs(patches[0] - 0.5).max() > 0.04
    assert np.abs(patches[1] - patches[0]).max() > 0.04
    np.testing.assert_array_equal(patches[2], patches[1])
    result = fljax.run(given, progress=False)
    test_x, test_y = np.array(experiment.dataset.test_x), np.asarray(experiment.dataset.test_y)
    others = test_y != 3
    test_x[:, 2:7, 2:7] = patches[2]
    kernel, bias = (
        np.asarray(leaf) for leaf in sorted(jax.tree.leaves(result.params), key=lambda a: -a.ndim)
    )
    answers = np.argmax(test_x.reshape(len(test_x), -1) @ kernel + bias, 1)
    np.testing.assert_allclose(
        result.summary["attack_success_rate"], np.mean(answers[others] == 3), atol=1e-6
    )


def test_the_labels_of_the_model_are_trained_on():
    """A round with dynamic labels is one with the labels that the first model holds least likely."""
    given = config({"name": "dynamic_label_flip"}, rounds=1, eval_every=1)
    experiment = assemble(given)
    state, data = experiment.state
    kernel, bias = sorted(jax.tree.leaves(experiment.unravel(state.params)), key=lambda leaf: -leaf.ndim)

    def poison(x, y, is_copy, member):
        return x, jnp.argmin(x.reshape(len(x), -1) @ kernel + bias, 1).astype(y.dtype)

    by_hand = assemble(given, attack=NO_ATTACK._replace(poison_data=poison))
    found, wanted = (jax.jit(each.step)(state, data)[0].params for each in (experiment, by_hand))
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    honest = jax.jit(assemble(config({"name": "none"})).step)(state, data)[0].params
    assert np.abs(np.asarray(found) - np.asarray(honest)).max() > 1e-3
