"""What attacks are published for, seen in small runs: ten clients on digits, two of them malicious."""

import pytest

import fljax
from fljax.config.schema import parse_config

pytestmark = pytest.mark.slow


def outcome(attack, rounds, rule=None):
    """Testing error and attack success rate after some rounds."""
    config = parse_config(
        {
            "rounds": rounds,
            "eval_every": rounds,
            "num_clients": 10,
            "model": {"name": "mlp", "hidden": [64]},
            "local": {"steps": 5},
            "aggregator": rule or {"name": "mean"},
            "attack": attack if attack["name"] == "none" else {"fraction": 0.2, **attack},
        }
    )
    summary = fljax.run(config, progress=False).summary
    return summary["test_error"], summary["attack_success_rate"]


def test_constrain_and_scale_plants_a_backdoor_in_one_round():
    backdoor = {"name": "badnets", "poison_fraction": 1.0}
    once = {"schedule": {"name": "between", "start": 20, "stop": 21}}
    trained = {"name": "constrain_and_scale", "alpha": 0.8, "steps": 20, "backdoor": backdoor}
    assert outcome({**trained, **once}, 21)[1] > 0.7
    assert outcome({**backdoor, **once}, 21)[1] < 0.2


def test_rare_inputs_of_one_class_become_another_and_nothing_else_does():
    error, success = outcome({"name": "edge_case", "source": 7, "target": 1, "poison_fraction": 1.0}, 20)
    assert success > 0.5
    assert error < outcome({"name": "none"}, 20)[0] + 0.03


def test_inside_a_ball_a_backdoor_passes_a_filter_of_long_updates():
    rule = {"name": "norm_filter", "num_malicious": 2}
    inside = outcome({"name": "projected_gradient", "norm": 0.3, "steps": 10}, 10, rule)[1]
    assert inside > 0.2 + outcome({"name": "badnets"}, 10, rule)[1]


def test_flipping_every_step_does_more_than_flipping_their_sum():
    ascent, flipped = outcome({"name": "gradient_ascent"}, 10)[0], outcome({"name": "sign_flip"}, 10)[0]
    assert ascent > flipped + 0.3
