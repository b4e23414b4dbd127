"""Attacks on local training: what malicious clients send, at whose cost, and what honest ones see of it."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fljax.aggregators import Context
from fljax.attacks import (
    NO_ATTACK,
    Attack,
    Knowledge,
    alie_backdoor,
    alternating_minimisation,
    attack_from_registry,
    constrain_and_scale,
    gradient_ascent,
    neurotoxin,
    pga,
    projected_gradient,
    scheduled,
    train_and_scale,
)
from fljax.base import Client, LocalAttack
from fljax.engine.batches import Batches
from fljax.engine.local_training import descend
from tests.attacks.alie_backdoor import clipped
from tests.attacks.case import TASK
from tests.attacks.quadratic import (
    BACKDOOR,
    MALICIOUS,
    POINTS,
    Quadratic,
    attack_of,
    expected_by_rounds,
    sent_by_rounds,
)
from tests.attacks.table import TRAINING_CASES

every = pytest.mark.parametrize("case", TRAINING_CASES, ids=lambda case: case.id)
# Its data, but no more.
HONEST_DATA = BACKDOOR._replace(poison_data=lambda x, y, is_copy, member: (x, y), copies=0.0)
ORDINARY = LocalAttack(lambda client, honest, state, context: client.descend())


@every
def test_malicious_clients_train_as_the_reference_does(case):
    sent = sent_by_rounds(attack_of(case))
    np.testing.assert_allclose(sent, expected_by_rounds(case.trained, **case.hyper), rtol=2e-5, atol=2e-5)
    honest = sent_by_rounds(NO_ATTACK, rounds=1)
    assert sent[0, ~MALICIOUS].tobytes() == honest[0, ~MALICIOUS].tobytes()


@every
def test_nobody_malicious_is_no_attack_and_everybody_stays_finite(case):
    attack = attack_of(case)
    np.testing.assert_array_equal(sent_by_rounds(attack, MALICIOUS & False), sent_by_rounds(NO_ATTACK))
    everybody = sent_by_rounds(attack, MALICIOUS | True)
    assert np.isfinite(everybody).all()
    # Examples of any size leave a finite update where the attack bounds it.
    if "norm" in case.hyper and not case.hyper.get("replacement"):
        huge = sent_by_rounds(attack, points=1e30 * POINTS, rounds=1)[0, MALICIOUS]
        assert np.isfinite(huge).all()
        assert np.linalg.norm(huge, axis=1).max() <= 2 * case.hyper["norm"] * (1 + 1e-5)


def test_the_bound_and_the_chunks_change_nothing():
    attack = attack_of(TRAINING_CASES[0])
    sent = sent_by_rounds(attack)
    for how in ({"max_malicious": 2}, {"max_malicious": 3, "clients_at_once": 2}):
        np.testing.assert_allclose(sent_by_rounds(attack, **how), sent, rtol=1e-6, atol=1e-7)
    # Without room for anybody, nobody trains in another way.
    nobody = sent_by_rounds(attack, MALICIOUS & False, max_malicious=0)
    np.testing.assert_array_equal(nobody, sent_by_rounds(NO_ATTACK))


def test_training_as_honest_clients_do_is_honest():
    sent = sent_by_rounds(NO_ATTACK._replace(train=ORDINARY))
    np.testing.assert_allclose(sent, sent_by_rounds(NO_ATTACK), rtol=1e-6, atol=1e-7)


def test_poisoned_training_without_hooks_is_the_poisoning():
    with_training = BACKDOOR._replace(train=ORDINARY)
    np.testing.assert_allclose(sent_by_rounds(with_training), sent_by_rounds(BACKDOOR), rtol=1e-6, atol=1e-7)


def test_a_loss_a_rate_and_epochs_of_their_own():
    def upwards(honest):
        def loss(*arguments):
            value, state = honest(*arguments)
            return -value, state

        return loss

    up = LocalAttack(ORDINARY.train, steps=5, learning_rate=0.2, loss=upwards)
    ascent = gradient_ascent(steps=5, learning_rate=0.2)
    np.testing.assert_allclose(
        sent_by_rounds(NO_ATTACK._replace(train=up)), sent_by_rounds(ascent), rtol=1e-5, atol=1e-6
    )
    # A full batch is an epoch.
    for epochs in (3, 5):
        longer = sent_by_rounds(NO_ATTACK._replace(train=ORDINARY._replace(epochs=epochs)), rounds=1)
        steps = sent_by_rounds(NO_ATTACK._replace(train=ORDINARY._replace(steps=epochs)), rounds=1)
        np.testing.assert_allclose(longer, steps, rtol=1e-5, atol=1e-6)


def test_a_schedule_says_when_they_train():
    case = TRAINING_CASES[0]
    late = scheduled(attack_of(case), lambda context: context.round >= 1)
    sent = sent_by_rounds(late)
    np.testing.assert_array_equal(sent[0], sent_by_rounds(NO_ATTACK, rounds=1)[0])
    assert not np.allclose(sent[1, MALICIOUS], sent_by_rounds(NO_ATTACK)[1, MALICIOUS], atol=1e-3)


def test_they_know_their_honest_update_and_the_state():
    def train(client, honest, state, context):
        assert context.params.shape == honest.shape
        return client.descend()._replace(update=honest + state)

    def corrupt(updates, malicious, state, knowledge):
        return updates, state + 1

    attack = Attack(lambda n, d: jnp.zeros(()), corrupt, train=LocalAttack(train))
    honest, sent = sent_by_rounds(NO_ATTACK, rounds=1), sent_by_rounds(attack)
    np.testing.assert_allclose(sent[0], honest[0], rtol=1e-6)
    mean = sent[1, ~MALICIOUS]
    assert mean.shape == (3, 4)
    again = sent_by_rounds(attack._replace(init=lambda n, d: jnp.ones(())), rounds=1)
    np.testing.assert_allclose(again[0, MALICIOUS], honest[0, MALICIOUS] + 1, rtol=1e-6)


# --- Worked numbers: ½‖w − c‖² with c = (3, 4), from 0 at rate 0.1 ---------------------------------------

AT = np.tile([3.0, 4.0, 0.0, 0.0], (*POINTS.shape[:2], 1))


def one_round(attack, steps):
    problem = Quadratic(np.eye(4), 0.0, steps)
    return sent_by_rounds(attack, rounds=1, points=AT, start=np.zeros(4), problem=problem)[0, 1, :2]


@pytest.mark.parametrize(
    ("attack", "expected"),
    [
        (
            constrain_and_scale(backdoor=HONEST_DATA, factor=1.0),
            [(0.15, 0.2), (0.2625, 0.35), (0.369375, 0.4925)],
        ),
        (
            projected_gradient(backdoor=HONEST_DATA, norm=0.6),
            [(0.3, 0.4), (0.36, 0.48), (0.36, 0.48)],
        ),
        (projected_gradient(backdoor=HONEST_DATA, norm=0.4, ball="linf"), [None, None, (0.4, 0.4)]),
        (projected_gradient(backdoor=HONEST_DATA, norm=0.0), [(0.0, 0.0), None, (0.0, 0.0)]),
        (gradient_ascent(), [(-0.3, -0.4), None, (-0.993, -1.324)]),
        (pga(largest=1.0), [None, None, (-0.813, -1.084)]),
    ],
    ids=["constrain and scale", "ball", "largest entry", "nowhere", "ascent", "PGA"],
)
def test_worked_numbers(attack, expected):
    for steps, values in enumerate(expected, start=1):
        if values is not None:
            np.testing.assert_allclose(one_round(attack, steps), values, rtol=1e-5)


def test_worked_numbers_of_alternating_minimisation():
    points = jnp.array([[1.0, 0.0], [0.0, 1.0]])

    def loss(params, model_state, x, y, weights, divisor=None, key=None):
        return jnp.sum(weights * jnp.sum((params - x) ** 2, 1)) / 2 / jnp.sum(weights), model_state

    for loops, expected in ((1, (0.10175, 0.5)), (2, (0.1385071875, 0.680625))):
        attack = alternating_minimisation(
            backdoor=HONEST_DATA, factor=5.0, strength=0.5, benign_steps=2, loops=loops
        )
        steps = attack.train.steps
        batches = Batches(
            jnp.tile(jnp.arange(2), (steps, 1)),
            jnp.ones((steps, 2)),
            jnp.tile(jnp.array([False, True]), (steps, 1)),
        )

        def run(batches=batches, **hooks):
            return descend(
                jnp.zeros(2),
                batches,
                lambda examples, is_copy, *key: (points[examples], examples),
                loss=loss,
                optimizer=optax.sgd(0.1),
                **hooks,
            )

        client = Client(jnp.zeros(2), jnp.float32(0.1), lambda vector: vector, run, lambda at: at)
        trained = attack.train.train(client, jnp.array([0.2, 0.0]), ((), ()), Context())
        np.testing.assert_allclose(trained.update, expected, rtol=1e-5)


def test_worked_numbers_of_train_and_scale():
    rows = jnp.array([[1, 2, -1, 0], [1, 1, 1, 1], [0, 2, -1, 0], [0, 0, 0, 0]], jnp.float32)
    for make in (constrain_and_scale, train_and_scale):
        attack = make(factor=10.0, bound=3.0)
        sent, _ = attack.corrupt(
            rows, jnp.array([False, True, True, True]), attack.init(4, 4), Knowledge(Context())
        )
        np.testing.assert_allclose(sent, rows * np.array([[1], [1.5], [1.3416407865], [1]]), rtol=1e-6)


def test_worked_numbers_of_the_alie_backdoor():
    own = np.array([[1.0, 1.0, 1.0, 1.0], [0.0, 2.0, -1.0, 0.0]])
    found = clipped(np.array([5.0, -5.0, 0.5, -0.2]), own.mean(0), own.std(0), 1.5)
    np.testing.assert_allclose(found, [1.25, 0.75, 0.5, -0.2], rtol=1e-12)
    # What the attackers made is sent by all of them.
    attack = alie_backdoor(backdoor=BACKDOOR)
    rows = jnp.array([[3.0, 0.0], [0.0, 1.0], [2.0, 5.0]])
    malicious = jnp.array([False, True, True])
    sent, _ = attack.corrupt(rows, malicious, attack.init(3, 2), Knowledge(Context()))
    np.testing.assert_allclose(sent, [[3, 0], [1, 3], [1, 3]], rtol=1e-6)
    # Alone it sees no spread, and sends what it would send honestly.
    alone = np.arange(5) == 1
    sent = sent_by_rounds(attack, alone)
    np.testing.assert_allclose(sent, sent_by_rounds(NO_ATTACK), rtol=1e-5, atol=1e-6)


def test_attacks_that_train_cannot_be_compared_by_their_rows():
    with pytest.raises(ValueError, match="only attacks on updates"):
        attack_from_registry("worst_case", TASK, attacks=[gradient_ascent()])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: projected_gradient(norm=-1.0), "projected_gradient: norm=-1.0 must be at least 0"),
        (lambda: projected_gradient(norm=1.0, every=0), "every=0 must be a whole number of at least 1"),
        (lambda: projected_gradient(norm=1.0, ball="l1"), 'ball=\'l1\' must be "l2" or "linf"'),
        (lambda: constrain_and_scale(alpha=1.5), "constrain_and_scale: alpha=1.5 must be between 0 and 1"),
        (lambda: constrain_and_scale(anomaly="krum"), "anomaly='krum' must be"),
        (lambda: neurotoxin(share=2.0), "neurotoxin: share=2.0 must be between 0 and 1"),
        (lambda: neurotoxin(source="data"), "source='data' must be"),
        (lambda: alternating_minimisation(loops=0), "loops=0 must be a whole number of at least 1"),
        (lambda: gradient_ascent(steps=2, epochs=1.0), "steps=2 and epochs=1.0 exclude each other"),
        (lambda: gradient_ascent(epochs=0.0), "gradient_ascent: epochs=0.0 must be larger than 0"),
        (lambda: gradient_ascent(learning_rate=-0.1), "learning_rate=-0.1 must be at least 0"),
        (lambda: neurotoxin(backdoor=NO_ATTACK), "neurotoxin: backdoor must be an attack that poisons data"),
        (lambda: neurotoxin(backdoor=neurotoxin()), "backdoor must be an attack that poisons data"),
    ],
)
def test_bad_arguments_are_one_sentence(make, message):
    with pytest.raises(ValueError, match=message):
        make()
