"""IBA's generator: its training, its phases and its strength."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fljax.attacks import IBAState, iba
from tests.attacks.test_triggers import CLASSES, SIDE, X, Y, attackers, softmax_regression

SMALL = {"image_shape": (SIDE, SIDE, 1), "num_classes": CLASSES, "target": 2}


def prepared(state, **how):
    attack = iba(**SMALL, **how)
    return jax.jit(lambda state: attack.prepare(state, attackers()))(state)


def trained_by_hand(state, size, rate, epochs, own_label=False):
    """Adam on the cross-entropy at the marked images, by optax and convolutions as sums of shifts."""
    round = attackers()

    def loss(generator, x, y):
        values = x
        for number, (kernel, bias) in enumerate(generator):
            padded = jnp.pad(values, ((0, 0), (1, 1), (1, 1), (0, 0)))
            shifts = [
                padded[:, i : i + SIDE, j : j + SIDE] @ kernel[i, j] for i in range(3) for j in range(3)
            ]
            values = sum(shifts) + bias
            values = jax.nn.relu(values) if number < 2 else jnp.tanh(values)
        logits = softmax_regression(round.params, jnp.clip(x + size * values, 0, 1))
        labels = y if own_label else jnp.full_like(y, 2)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    generator, optimizer = state.generator, optax.adam(rate)
    memory, slope = optimizer.init(generator), jax.jit(jax.grad(loss))
    for _ in range(epochs):
        for x, y in zip(X, Y, strict=True):
            made, memory = optimizer.update(slope(generator, jnp.asarray(x, jnp.float32), y), memory)
            generator = optax.apply_updates(generator, made)
    return generator


def apart(one, other):
    return max(
        np.abs(np.asarray(a) - b).max()
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    )


def test_the_generator_is_trained_by_adam():
    start = iba(**SMALL).init(3, 9)
    after = prepared(start, epochs=2, rate=0.01, success=1.0)
    assert int(after.steps) == 4
    assert apart(after.generator, trained_by_hand(start, 0.3, 0.01, 2)) < 1e-4
    for wrong in (
        trained_by_hand(start, 0.05, 0.01, 2),
        trained_by_hand(start, 0.3, 0.01, 1),
        trained_by_hand(start, 0.3, 0.01, 2, own_label=True),
    ):
        assert apart(after.generator, wrong) > 1e-3


def test_its_phases():
    attack = iba(**SMALL, epochs=1)
    state = attack.init(3, 9)
    waiting = prepared(state, epochs=1, success=1.0, strength=0.0)
    assert not waiting.ready
    assert int(waiting.steps) == 2
    ready = prepared(state, epochs=1, success=0.0)
    assert ready.ready
    x, y, copies = jnp.full((2, SIDE, SIDE, 1), 0.5), jnp.array([0, 1]), jnp.array([True, False])
    for state, poisons in ((waiting, False), (ready, True)):
        marked, labels = attack.poison_data(x, y, copies, jnp.int32(0), state=state)
        assert labels.tolist() == ([2, 1] if poisons else [0, 1])
        assert bool((marked[0] != x[0]).any()) == poisons
        np.testing.assert_array_equal(marked[1], x[1])
    assert (int(waiting.attacks), int(ready.attacks)) == (0, 1)
    # Then the generator is trained every second time.
    steps, state = [], ready
    for _ in range(4):
        state = prepared(state, epochs=1)
        steps.append(int(state.steps))
    assert steps == [2, 4, 4, 6]
    assert int(state.attacks) == 5


def test_it_fades():
    attack = iba(**SMALL)
    start: IBAState = attack.init(3, 9)
    # A generator that answers 1 everywhere; in round 7 it is good enough.
    loud = [*start.generator[:2], (0 * start.generator[2][0], jnp.full(1, 50.0))]
    start = start._replace(generator=loud, attacks=jnp.int32(1))

    @jax.jit
    def at(state, round):
        known = attackers()
        return iba(**SMALL, success=0.0, rate=0.0).prepare(
            state, known._replace(context=known.context._replace(round=round))
        )

    begun = at(start, 7)
    x = jnp.full((1, SIDE, SIDE, 1), 0.25)
    for rounds, size in ((0, 0.3), (100, 0.2714376441), (1000, 0.1103086274), (2000, 0.05)):
        state = at(begun, 7 + rounds)
        assert int(state.began) == 7
        marked, _ = attack.poison_data(x, jnp.array([0]), jnp.array([True]), jnp.int32(0), state=state)
        np.testing.assert_allclose(marked - x, size, rtol=1e-5)
        np.testing.assert_allclose(attack.trigger.embedded(x, state) - x, 0.05, rtol=1e-5)
