"""The strongest attack of a list, chosen in every round."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fljax
from fljax.aggregators import Context, krum, mean, median, trimmed_mean
from fljax.attacks import Knowledge, Task, attack_from_registry, scaling_attack, scheduled, worst_case
from fljax.config.schema import parse_config
from fljax.simulation.experiment import assemble
from tests.support.programs import jitted

TASK = Task(10, 3)
NAMES = {"scale": {}, "sign_flip": {"factor": 4.0}, "trim_attack": {}}
RULES = {
    "mean": mean,
    "median": median,
    "trimmed_mean": partial(trimmed_mean, trim=3),
    "krum": partial(krum, num_malicious=3),
}


def attacks(task=TASK):
    return [attack_from_registry(name, task, **hyper) for name, hyper in NAMES.items()]


# Compiled once for all tests.
CORRUPT = [jax.jit(attack.corrupt) for attack in attacks()]


def stacks(seed):
    random = np.random.default_rng(seed)
    updates = (random.normal(size=40) + random.normal(size=(12, 40))).astype(np.float32)
    malicious = np.zeros(12, bool)
    malicious[random.permutation(12)[:3]] = True
    return jnp.asarray(updates), jnp.asarray(malicious)


@pytest.mark.parametrize("objective", ["direction", "distance"])
@pytest.mark.parametrize("rule", RULES)
def test_it_sends_what_does_most_damage(rule, objective):
    function = RULES[rule]
    attack = worst_case(attacks=attacks(), objective=objective, max_malicious=3)
    run = jax.jit(lambda u, m, s, k: attack.corrupt(u, m, s, Knowledge(Context(key=k), rule=function)))
    state = attack.init(12, 40)
    chosen = np.zeros(3, int)
    for seed in range(6):
        updates, malicious = stacks(seed)
        key = jax.random.key(seed)
        sent, state = run(updates, malicious, state, key)
        before = np.asarray(jitted(function)(updates), np.float64)
        damages, candidates = [], []
        for i, corrupt in enumerate(CORRUPT):
            stack, _ = corrupt(updates, malicious, (), Knowledge(Context(key=jax.random.fold_in(key, i))))
            change = before - np.asarray(jitted(function)(stack), np.float64)
            damages.append(np.sign(before) @ change if objective == "direction" else np.linalg.norm(change))
            candidates.append(np.asarray(stack))
        best = int(np.argmax(damages))
        chosen[best] += 1
        np.testing.assert_allclose(sent, candidates[best], rtol=1e-5, atol=1e-6)
        assert np.asarray(sent)[~malicious].tobytes() == np.asarray(updates)[~malicious].tobytes()
    np.testing.assert_array_equal(state.chosen, chosen)


def test_rules_differ_in_what_hurts_them_most():
    counts = {}
    for name in ("mean", "median"):
        attack = worst_case(attacks=attacks(), max_malicious=3)
        corrupt = jax.jit(
            lambda u, m, s, k, a=attack, r=RULES[name]: a.corrupt(u, m, s, Knowledge(Context(k), rule=r))
        )
        state = attack.init(12, 40)
        for seed in range(4):
            _, state = corrupt(*stacks(seed), state, jax.random.key(seed))
        counts[name] = np.asarray(state.chosen).argmax()
    assert counts["mean"] != counts["median"]


def test_a_result_that_is_not_finite_is_the_worst():
    made = [*attacks(), attack_from_registry("sign_flip", TASK, factor=float("nan"))]
    attack = worst_case(attacks=made, max_malicious=3)
    updates, malicious = stacks(0)
    sent, state = attack.corrupt(
        updates, malicious, attack.init(12, 40), Knowledge(Context(key=jax.random.key(0)), rule=mean)
    )
    assert np.isnan(np.asarray(sent)[np.asarray(malicious)]).all()
    np.testing.assert_array_equal(state.chosen, [0, 0, 0, 1])


def test_nobody_malicious_changes_nothing_and_counts_nothing():
    attack = worst_case(attacks=attacks(), max_malicious=3)
    updates, _ = stacks(0)
    nobody = jnp.zeros(12, bool)
    sent, state = attack.corrupt(
        updates, nobody, attack.init(12, 40), Knowledge(Context(key=jax.random.key(0)), rule=mean)
    )
    np.testing.assert_array_equal(sent, updates)
    np.testing.assert_array_equal(state.chosen, 0)


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="only attacks on updates"):
        worst_case(attacks=[scaling_attack(image_shape=(8, 8, 1))])
    with pytest.raises(ValueError, match="only attacks on updates"):
        worst_case(attacks=[scheduled(attacks()[0], lambda context: context.round > 3)])
    with pytest.raises(ValueError, match="at least one attack"):
        worst_case(attacks=[])
    with pytest.raises(ValueError, match="objective='most'"):
        worst_case(attacks=attacks(), objective="most")
    updates, malicious = stacks(0)
    attack = worst_case(attacks=attacks())
    with pytest.raises(ValueError, match="needs rule"):
        attack.corrupt(updates, malicious, attack.init(12, 40), Knowledge(Context(key=jax.random.key(0))))


def config(attack, rule):
    return parse_config(
        {
            "rounds": 30,
            "eval_every": 30,
            "num_clients": 10,
            "model": {"name": "logistic_regression"},
            "aggregator": rule,
            "attack": {"fraction": 0.3, **attack},
        }
    )


def test_it_runs_from_a_configuration_against_a_rule_behind_a_pre_aggregator():
    tables = [{"name": "sign_flip", "factor": 3.0}, {"name": "trim_attack"}]
    rule = {"name": "trimmed_mean", "trim": 3, "pre": [{"name": "nnm", "num_malicious": 3}]}
    experiment = assemble(config({"name": "worst_case", "attacks": tables}, rule))
    state, metrics = jax.jit(lambda s, d: jax.lax.scan(lambda c, _: experiment.step(c, d), s, length=5))(
        experiment.state.run, experiment.state.data
    )
    assert int(state.attack_state.chosen.sum()) == 5
    assert metrics.finite.all()


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        ({"name": "worst_case"}, "attacks: this parameter is required"),
        ({"name": "worst_case", "attacks": []}, "must be a list of at least one table"),
        ({"name": "worst_case", "attacks": [{"name": "trim_atack"}]}, "did you mean 'trim_attack'"),
        ({"name": "worst_case", "attacks": [{"factor": 2.0}]}, "name: this parameter is required"),
        ({"name": "worst_case", "attacks": [{"name": "label_flip"}]}, "only attacks on updates"),
        ({"name": "worst_case", "attacks": [{"name": "scale", "facto": 2.0}]}, "did you mean 'factor'"),
    ],
)
def test_bad_lists_of_attacks_are_one_sentence(attack, message):
    with pytest.raises(fljax.ConfigError, match=message):
        assemble(config(attack, {"name": "mean"}))
