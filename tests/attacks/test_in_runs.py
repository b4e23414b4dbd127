"""Attacks on local training in whole runs: cohorts, epochs, client algorithms, chunks, resumed folders."""

import jax
import numpy as np
import pytest

import fljax
from fljax.config.schema import parse_config


def config(**changes):
    return parse_config(
        {
            "rounds": 4,
            "eval_every": 2,
            "num_clients": 10,
            "cohort_size": 6,
            "client_chunk": 2,
            "root": {"size": 10},
            "model": {"name": "logistic_regression"},
            "aggregator": {"name": "mean"},
            **changes,
        }
    )


def bits(result):
    return b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(result.params))


@pytest.mark.slow
def test_a_resumed_run_is_the_whole_one(tmp_path):
    """The attackers' memory is in the checkpoint; kept momentum and epochs go on beside it."""
    random = np.random.default_rng(0)
    rare = {name: random.uniform(size=(6, 8, 8, 1)).astype(np.float32) for name in ("train", "test")}
    np.savez(tmp_path / "rare.npz", **rare)
    backdoor = {"name": "edge_case", "file": str(tmp_path / "rare.npz"), "target": 2}
    given = config(
        local={"epochs": 1.5, "batch_size": 16},
        client={"name": "momentum"},
        attack={"name": "neurotoxin", "fraction": 0.3, "share": 0.5, "epochs": 2.0, "backdoor": backdoor},
    )
    whole = fljax.run(given, progress=False)

    class StopError(Exception):
        pass

    def interrupt(record):
        raise StopError

    with pytest.raises(StopError):
        fljax.run(given, out=tmp_path / "run", progress=interrupt)
    resumed = fljax.run(given, out=tmp_path / "run", resume=True, progress=False)
    assert bits(resumed) == bits(whole)
    # Measured on the file's inputs: six of them.
    success = resumed.summary["attack_success_rate"]
    assert abs(6 * success - round(6 * success)) < 1e-5


@pytest.mark.slow
def test_before_its_first_round_training_in_another_way_leaves_no_trace():
    honest = fljax.run(config(), progress=False)
    attack = {"name": "constrain_and_scale", "fraction": 0.4, "schedule": {"name": "between", "start": 4}}
    assert bits(fljax.run(config(attack=attack), progress=False)) == bits(honest)
    attack["schedule"] = {"name": "between", "start": 3}
    assert bits(fljax.run(config(attack=attack), progress=False)) != bits(honest)


@pytest.mark.parametrize(
    ("backdoor", "message"),
    [
        ("badnets", "attack neurotoxin.backdoor: must be a table, got 'badnets'"),
        ({"name": "badnet"}, "unknown attack 'badnet'; did you mean 'badnets'"),
        ({"name": "none"}, "neurotoxin: backdoor must be an attack that poisons data"),
        ({"name": "scale"}, "neurotoxin: backdoor must be an attack that poisons data"),
        ({"opacity": 0.3}, "attack neurotoxin.backdoor.name: this parameter is required"),
        ({"name": "blended", "opacity": 3.0}, "blended: opacity=3.0 must be between 0 and 1"),
        ({"name": "edge_case", "file": "absent.npz"}, "edge_case: file='absent.npz' must be an .npz file"),
    ],
)
def test_a_backdoor_that_is_none_is_one_sentence(tmp_path, backdoor, message):
    with pytest.raises(fljax.ConfigError, match=message):
        fljax.run(config(attack={"name": "neurotoxin", "backdoor": backdoor}), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
