"""When malicious clients attack, and how many of them are in a cohort."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fljax
from fljax.aggregators import Aggregator, Context
from fljax.attacks import (
    ATTACKS,
    NO_ATTACK,
    Attack,
    at_random,
    between,
    periodic,
    schedule_from_registry,
    scheduled,
)
from fljax.config.schema import parse_config
from fljax.simulation.experiment import assemble

ROUNDS = jnp.arange(12)
BASE = {
    "rounds": 6,
    "eval_every": 6,
    "num_clients": 10,
    "model": {"name": "logistic_regression"},
    "local": {"batch_size": 16},
    "aggregator": {"name": "fltrust"},
}


def config(attack, **changes):
    return parse_config({**BASE, **changes, "attack": attack})


def test_between_and_periodic_by_hand():
    first = jax.vmap(lambda r: between(r, start=3, stop=5))(ROUNDS)
    np.testing.assert_array_equal(np.flatnonzero(first), [3, 4])
    np.testing.assert_array_equal(
        np.flatnonzero(jax.vmap(lambda r: between(r, start=9))(ROUNDS)), [9, 10, 11]
    )
    pattern = jax.vmap(lambda r: periodic(r, on=2, off=3, start=1))(ROUNDS)
    np.testing.assert_array_equal(np.flatnonzero(pattern), [1, 2, 6, 7, 11])
    # Traced numbers: one program for every period.
    many = jax.jit(jax.vmap(lambda on: jax.vmap(lambda r: periodic(r, on=on, off=1))(ROUNDS)))(
        jnp.array([1, 3])
    )
    np.testing.assert_array_equal(many.sum(1), [6, 9])


def test_participation_is_a_coin_of_every_client_in_every_round():
    ids = jnp.arange(50)
    keys = jax.random.split(jax.random.key(0), 200)
    draws = np.asarray(jax.vmap(lambda k: at_random(jnp.int32(0), k, ids, probability=0.3))(keys))
    assert abs(draws.mean() - 0.3) < 0.02
    assert abs(np.corrcoef(draws.T)[0, 1:]).max() < 0.35
    together = np.asarray(
        jax.vmap(lambda k: at_random(jnp.int32(0), k, ids, probability=0.3, together=True))(keys)
    )
    assert (together.all(1) | ~together.any(1)).all()
    assert 0.2 < together[:, 0].mean() < 0.4
    # A client's coin does not depend on who else is in the cohort.
    one = at_random(jnp.int32(0), keys[0], ids[7:8], probability=0.3)
    assert bool(one[0]) == draws[0, 7]
    assert not at_random(jnp.int32(1), keys[0], ids, probability=1.0, start=2).any()


def test_two_schedules_hold_both():
    attack = scheduled(
        scheduled(NO_ATTACK, schedule_from_registry("between", start=2)),
        schedule_from_registry("periodic", on=1, off=1),
    )
    active = [bool(attack.active(Context(round=jnp.int32(r)))) for r in range(6)]
    assert active == [False, False, True, False, True, False]


@pytest.mark.parametrize(
    ("name", "hyper", "message"),
    [
        ("between", {"start": 5, "stop": 5}, "stop=5 must be larger than start=5"),
        ("periodic", {"on": 0, "off": 2}, "on=0 must be a whole number of at least 1"),
        ("periodic", {"on": 1, "off": -1}, "off=-1 must be a whole number of at least 0"),
        ("at_random", {"probability": 1.5}, r"probability=1\.5 must be between 0 and 1"),
        ("sometimes", {}, "unknown schedule 'sometimes'"),
        ("between", {"begin": 5}, "unknown parameter 'begin'"),
        ("between", {"start": 3_000_000_000}, "3000000000"),
    ],
)
def test_bad_schedules_are_one_sentence(name, hyper, message):
    for attack in ("sign_flip", "none") if "start" not in hyper else ("sign_flip",):
        table = {"name": attack, "schedule": {"name": name, **hyper}}
        with pytest.raises(fljax.ConfigError, match=message):
            assemble(config(table))


@pytest.mark.slow
def test_before_its_first_round_an_attack_leaves_no_trace():
    honest = fljax.run(config({"name": "none"}))
    for attack in ({"name": "sign_flip", "factor": 5}, {"name": "label_flip"}, {"name": "scaling_attack"}):
        late = {**attack, "fraction": 0.4, "schedule": {"name": "between", "start": 6}}
        result = fljax.run(config(late))
        np.testing.assert_array_equal(
            jax.tree.leaves(result.params)[1], jax.tree.leaves(honest.params)[1], err_msg=str(attack)
        )
        now = {**late, "schedule": {"name": "between", "start": 5}}
        different = fljax.run(config(now))
        assert not np.array_equal(jax.tree.leaves(different.params)[1], jax.tree.leaves(honest.params)[1])


def test_the_round_tells_an_attack_who_is_active_now():
    seen = []

    def corrupt(updates, malicious, state, knowledge):
        number = knowledge.context.round
        jax.debug.callback(lambda r, m: seen.append((int(r), np.array(m))), number, malicious)
        return updates, state

    attack = scheduled(Attack(lambda n, d: (), corrupt), schedule_from_registry("periodic", on=1, off=2))
    experiment = assemble(config({"name": "none", "fraction": 0.3}), attack=attack)
    state, metrics = jax.lax.scan(
        lambda s, _: experiment.step(s, experiment.state.data), experiment.state.run, length=6
    )
    jax.block_until_ready(state)
    jax.effects_barrier()
    pool = np.asarray(experiment.state.data.malicious)
    for number, mask in sorted(seen, key=lambda pair: pair[0]):
        np.testing.assert_array_equal(mask, pool if number % 3 == 0 else np.zeros_like(pool))
    np.testing.assert_array_equal(np.isnan(metrics.trust_malicious), np.arange(6) % 3 != 0)


def test_a_fixed_number_of_attackers_in_a_run():
    seen = []

    def aggregate(updates, state, context):
        jax.debug.callback(lambda ids: seen.append(np.array(ids)), context.client_ids)
        return updates.mean(0), state, {}

    rule = Aggregator(lambda n, d: (), aggregate)
    attack = {"name": "sign_flip", "fraction": 0.4, "in_cohort": 2}
    experiment = assemble(config(attack, cohort_size=5), aggregator=rule)
    state, _ = jax.lax.scan(
        lambda s, _: experiment.step(s, experiment.state.data), experiment.state.run, length=8
    )
    jax.block_until_ready(state)
    jax.effects_barrier()
    malicious = np.asarray(experiment.state.data.malicious)
    assert len(seen) == 8
    assert {malicious[ids].sum() for ids in seen} == {2}
    assert len({tuple(ids) for ids in seen}) > 3


NEEDED = {
    "gaussian": {"std": 1.0},
    "constant": {"value": 0.0},
    "ipm": {"epsilon": 0.5},
    "worst_case": {"attacks": [{"name": "fltrust_attack"}, {"name": "none"}]},
    "projected_gradient": {"norm": 1.0},
    "train_and_scale": {"bound": 1.0},
    "edge_case": {"source": 1},
}


def after_a_round(attack):
    experiment = assemble(config(attack, aggregator={"name": "mean"}))
    state, _ = jax.jit(experiment.step)(experiment.state.run, experiment.state.data)
    return np.asarray(state.params)


@cache
def after_a_round_without_attack():
    return after_a_round({"name": "none"})


@pytest.mark.parametrize("name", ATTACKS)
def test_nobody_malicious_is_no_attack(name):
    """A sweep over the fraction starts at 0."""
    attacked = after_a_round({"name": name, "fraction": 0.0, **NEEDED.get(name, {})})
    np.testing.assert_array_equal(attacked, after_a_round_without_attack())
    if name in ("fltrust_attack", "krum_attack"):
        partial = (
            {"knowledge": "partial"} if name == "krum_attack" else {"probes": "drawn", "start": "honest"}
        )
        nobody = {"name": name, "fraction": 0.4, "in_cohort": 0, **partial}
        experiment = assemble(config(nobody, cohort_size=5))
        _, metrics = jax.jit(experiment.step)(experiment.state.run, experiment.state.data)
        assert metrics.finite


@pytest.mark.parametrize(("count", "size"), [(5, 5), (0, 7), (1, None)])
def test_an_impossible_number_in_a_cohort_is_refused(count, size):
    attack = {"name": "sign_flip", "fraction": 0.4, "in_cohort": count}
    with pytest.raises(fljax.ConfigError, match=f"in_cohort={count} must be between"):
        assemble(config(attack, cohort_size=size))
