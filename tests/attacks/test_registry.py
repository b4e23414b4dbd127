"""Attacks and schedules of a user's own, under a name."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fljax.attacks import (
    ATTACKS,
    SCHEDULES,
    Attack,
    Context,
    Knowledge,
    Task,
    attack_from_registry,
    from_factory,
    on_labels,
    on_updates,
    register_attack,
    register_schedule,
    registry,
    schedule_from_registry,
)
from fljax.registry import Registry

ROWS = jnp.arange(8.0).reshape(4, 2)
MASK = jnp.array([True, False, False, True])
TASK = Task(num_classes=10, max_malicious=2)
ROUND = Knowledge(Context(key=jax.random.key(0), round=jnp.int32(3), params=jnp.ones(2)))


@pytest.fixture(autouse=True)
def empty_registries(monkeypatch):
    monkeypatch.setattr(registry, "ATTACKS", Registry("attack", optimises="", make=on_updates, streams=False))
    monkeypatch.setattr(registry, "SCHEDULES", Registry("schedule"))


def sent(attack, updates=ROWS, malicious=MASK):
    return attack.corrupt(updates, malicious, attack.init(4, 2), ROUND)[0]


def test_a_function_becomes_an_attack():
    @register_attack(title="Pull", source="here 2026", assumes="the model", optimises="distance")
    def pull(updates, malicious, params, *, factor: float = 2.0, max_malicious: int | None = None):
        """Pull: rows moved by the model."""
        assert max_malicious == 2
        return jnp.where(malicious[:, None], updates - factor * params, updates)

    entry = registry.ATTACKS["pull"]
    assert (entry.title, entry.source, entry.assumes) == ("Pull", "here 2026", "the model")
    assert entry.facts == {"optimises": "distance", "make": on_updates, "streams": False}
    assert entry.summary == "Pull: rows moved by the model."
    expected = ROWS.at[jnp.array([0, 3])].add(-3.0)
    np.testing.assert_array_equal(sent(attack_from_registry("pull", TASK, factor=3.0)), expected)
    # The registered function is the one that the module has, and checks what it is given.
    assert entry.function is pull
    np.testing.assert_array_equal(
        pull(ROWS.tolist(), MASK, jnp.ones(2), factor=3.0, max_malicious=2), expected
    )
    with pytest.raises(
        ValueError, match=r"^pull: malicious must be a boolean mask of shape \(4,\), got None$"
    ):
        pull(ROWS, None, jnp.ones(2))
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'params'"):
        pull(ROWS, MASK)


def test_a_factory_and_a_function_of_labels_become_attacks():
    @register_attack("counter", make=from_factory)
    def make_counter(*, start: int = 0):
        def corrupt(updates, malicious, state, knowledge):
            return jnp.where(malicious[:, None], state, updates), state + 1

        return Attack(lambda num_clients, num_params: jnp.int32(start), corrupt)

    @register_attack(make=on_labels)
    def next_label(labels, *, num_classes: int):
        return (labels + 1) % num_classes

    counter = attack_from_registry("counter", TASK, start=7)
    np.testing.assert_array_equal(sent(counter)[MASK], 7)
    with pytest.raises(ValueError, match=r"^counter: updates must be \(n, d\)"):
        sent(counter, updates=ROWS[0])
    shifted = attack_from_registry("next_label", TASK)
    _, labels = shifted.poison_data(ROWS, jnp.array([0, 9]), MASK[:2], jnp.int32(0))
    assert labels.tolist() == [1, 0]
    np.testing.assert_array_equal(sent(shifted), ROWS)


def test_a_function_becomes_a_schedule():
    @register_schedule()
    def after_growth(round, params, *, size: float):
        return (round > 2) & (jnp.linalg.norm(params) > size)

    active = schedule_from_registry("after_growth", size=1.0)
    assert bool(active(ROUND.context))
    assert not bool(active(ROUND.context._replace(round=jnp.int32(1))))
    register_schedule("typo")(lambda round, parms=None: round > 2)
    with pytest.raises(ValueError, match="did you mean 'params'"):
        schedule_from_registry("typo")


def test_names_are_checked():
    register_attack("mine")(lambda updates, malicious: updates)
    with pytest.raises(ValueError, match="attack 'mine' is taken by"):

        @register_attack("mine")
        def other(updates, malicious):
            return updates

    with pytest.raises(ValueError, match="a name has letters"):
        register_attack("my attack")(lambda updates, malicious: updates)
    with pytest.raises(ValueError, match="must be a function"):
        register_attack("text")("text")
    with pytest.raises(ValueError, match="unknown attack 'mein'; did you mean 'mine'"):
        attack_from_registry("mein", TASK)


def test_those_of_the_library_are_what_the_module_has():
    from fljax import attacks

    for entries in (ATTACKS, SCHEDULES):
        for name, entry in entries.items():
            assert getattr(attacks, name) is entry.function
            assert entry.function.__name__ == name
            assert entry.summary
            assert name in attacks.__all__
    assert all(entry.title != name and entry.source and entry.assumes for name, entry in ATTACKS.items())
    for name in attacks.__all__:
        assert hasattr(attacks, name)
