"""Plain functions where a run takes a rule or an attack."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fljax
from fljax.aggregators import (
    PRE_AGGREGATORS,
    RULES,
    Aggregator,
    Context,
    centered_clipping,
    foolsgold_mean,
    krum,
    median,
    pre_from_registry,
    stateless,
)
from fljax.attacks import (
    ATTACKS,
    Attack,
    Knowledge,
    Task,
    attack_from_registry,
    label_flip,
    scale,
    scaling_attack,
    sign_flip,
    trim_attack,
    worst_case,
)
from fljax.config.components import as_aggregator, as_attack
from fljax.config.schema import parse_config
from tests.rules.case import make

ROWS, _ = make(d=5)
MASK = jnp.arange(12) < 3
CONTEXT = Context(key=jax.random.key(0), round=0, client_ids=jnp.arange(12), params=jnp.zeros(5))
TASK = Task(num_classes=10, max_malicious=3, image_shape=(8, 8, 1))
CONFIG = {
    "rounds": 2,
    "eval_every": 2,
    "num_clients": 6,
    "model": {"name": "logistic_regression"},
    "attack": {"name": "none", "fraction": 0.34},
}


def test_a_round_with_plain_functions_is_the_configured_one():
    configured = {
        **CONFIG,
        "aggregator": {"name": "krum", "num_malicious": 1},
        "attack": {"name": "sign_flip", "fraction": 0.34, "factor": 3.0},
    }
    expected_step, expected_state = fljax.build(parse_config(configured))
    step, state = fljax.build(
        parse_config(CONFIG),
        aggregator=partial(krum, num_malicious=1),
        attack=lambda updates, malicious: jnp.where(malicious[:, None], -3.0 * updates, updates),
    )
    expected, expected_metrics = jax.jit(expected_step)(expected_state, None)
    found, metrics = jax.jit(step)(state, None)
    np.testing.assert_array_equal(found.run.params, expected.run.params)
    # Krum's choice is reported as well.
    np.testing.assert_array_equal(metrics.benign_accepted, expected_metrics.benign_accepted)
    assert 0 < float(metrics.benign_accepted) < 1
    own, _ = fljax.build(parse_config(CONFIG), aggregator=lambda updates: 2.0 * median(updates))
    jax.eval_shape(own, state, None)


def test_a_rule_of_the_library_keeps_its_state_and_its_explanation():
    _, _, info = as_aggregator(partial(krum, num_malicious=1)).aggregate(ROWS, (), CONTEXT)
    assert info["selected"].sum() == 1
    clipping = as_aggregator(partial(centered_clipping, radius=1.0))
    assert clipping.init(12, 5).shape == (5,)
    assert as_aggregator(foolsgold_mean).init(12, 5).shape == (12, 5)
    # A centre of one's own stays where it is.
    center = jnp.ones(5)
    fixed = as_aggregator(partial(centered_clipping, center=center, radius=1.0))
    np.testing.assert_array_equal(
        fixed.aggregate(ROWS, (), CONTEXT)[0], centered_clipping(ROWS, center, radius=1.0)
    )
    rule = stateless(median)
    assert as_aggregator(rule) is rule


def test_attacks_of_the_library_become_what_the_configuration_makes_of_them():
    def sent(attack):
        return attack.corrupt(jnp.asarray(ROWS), MASK, attack.init(12, 5), Knowledge(CONTEXT))[0]

    for function, hyper in ((scale, {"factor": 4.0}), (trim_attack, {"stretch": 3.0})):
        np.testing.assert_array_equal(
            sent(as_attack(partial(function, **hyper), TASK)),
            sent(attack_from_registry(function.__name__, TASK, **hyper)),
        )
    backdoor = as_attack(partial(scaling_attack, target=3), TASK)
    assert backdoor.trigger.target == 3
    _, flipped = as_attack(label_flip, TASK).poison_data(ROWS, jnp.arange(3), MASK[:3], jnp.int32(0))
    assert flipped.tolist() == [9, 8, 7]
    # What a partial settles is not replaced by what the task knows.
    two = sent(as_attack(partial(trim_attack, max_malicious=2), TASK))
    assert (np.asarray(two) != ROWS).any(1).tolist() == [True, True] + [False] * 10
    attack = Attack(lambda n, d: (), lambda updates, malicious, state, context: (updates, state))
    assert as_attack(attack, TASK) is attack


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"aggregator": "krum"}, r"aggregator: must be an Aggregator or a function .*, got a str"),
        ({"aggregator": RULES["krum"]}, "aggregator: must be an Aggregator .*, got a Entry"),
        (
            {"aggregator": pre_from_registry(PRE_AGGREGATORS, "clip", radius=1.0)},
            "aggregator: must be an Aggregator .*, got a PreAggregator",
        ),
        ({"aggregator": lambda updates, server: server}, "<lambda>: needs server, which this round does not"),
        ({"aggregator": partial(lambda updates, server: server)}, "needs server, which this round does not"),
        (
            {"aggregator": lambda updates: updates},
            r"aggregator turns updates \(6, 650\) into float32 of shape \(6, 650\), not \(650,\)",
        ),
        (
            {"aggregator": lambda updates: None},
            r"aggregator turns updates \(6, 650\) into None, not \(650,\)",
        ),
        ({"aggregator": krum}, "missing 1 required keyword-only argument: 'num_malicious'"),
        ({"aggregator": partial(krum, num_malicious=1, factor=2)}, "unexpected keyword argument 'factor'"),
        (
            {"attack": lambda updates, malicious: updates[0]},
            r"the attack turns updates \(6, 650\) into float32 of shape \(650,\)",
        ),
        ({"aggregator": lambda updates: np.median(updates, 0)}, "written in jax.numpy"),
        ({"aggregator": partial(krum, num_malicious=9)}, "krum: num_malicious=9 needs n > 20 rows"),
        ({"attack": "alie"}, "attack: must be an Attack or a function .*, got a str"),
        ({"attack": ATTACKS["alie"]}, "attack: must be an Attack .*, got a Entry"),
        ({"attack": partial(scaling_attack, target=11)}, "target=11 is not one of the 10 labels"),
        ({"attack": partial(sign_flip, factor=None)}, "sign_flip: factor must be a number, got None"),
    ],
)
def test_what_is_neither_is_one_sentence(given, message):
    with pytest.raises(fljax.ConfigError, match=message) as caught:
        fljax.build(parse_config(CONFIG), **given)
    assert "\n" not in str(caught.value)


def test_pieces_of_pieces_name_what_makes_them():
    with pytest.raises(ValueError, match="attacks must be Attacks; on_updates makes one of a function"):
        worst_case(attacks=[sign_flip])
    assert isinstance(stateless(median), Aggregator)
