"""Two runs or two sweeps side by side, as values, in a terminal and as JSON."""

import json
import re

import numpy as np
import pytest
from scipy import stats

from fljax.errors import ConfigError, DataError
from fljax.report.contrast import contrast
from tests.support.command import command
from tests.support.sweep_folders import cell, write_sweep

ATTACKS = ["Trim attack", "no attack"]


def sweep(folder, errors, seeds, config=None, attacks=ATTACKS, **others):
    """Errors of a rule by seed; the same under all attacks."""
    cells = [
        cell("FedAvg", attack, seed, float(errors[seed]), config=json.dumps(config or {}), **others)
        for attack in attacks
        for seed in seeds
    ]
    axes = {"aggregator": ["FedAvg"], "attack": attacks, "seed": list(seeds)}
    return write_sweep(folder, axes, cells, rounds=40, **(config or {}))


@pytest.fixture
def cli(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return command(monkeypatch, capsys, "compare")


BEFORE = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
AFTER = BEFORE + np.array([0.01, 0.012, 0.009, 0.011, 0.01, 0.5])


def test_sweeps_are_compared_over_the_seeds_they_share(tmp_path):
    a = sweep(tmp_path / "a", BEFORE, range(5), {"local": {"steps": 1, "batch_size": 32}})
    b = sweep(
        tmp_path / "b", AFTER, range(6), {"local": {"steps": 2}}, attacks=["Trim attack", "Scaling attack"]
    )
    found = contrast(a, b)
    assert found.config["local.steps"] == {"a": 1, "b": 2}
    assert found.config["local.batch_size"] == {"a": 32}
    assert "rounds" not in found.config
    assert found.places == [{"aggregator": "FedAvg", "attack": "Trim attack"}]
    assert found.only_a == [{"aggregator": "FedAvg", "attack": "no attack"}]
    assert found.only_b == [{"aggregator": "FedAvg", "attack": "Scaling attack"}]
    error = found.differences[0][0]
    apart = (AFTER - BEFORE)[:5]
    assert (error.metric, error.seeds) == ("test_error", 5)
    assert (error.a, error.b) == pytest.approx((BEFORE[:5].mean(), AFTER[:5].mean()))
    assert (error.difference, error.spread) == pytest.approx((apart.mean(), apart.std()))
    assert error.p_value == pytest.approx(stats.ttest_1samp(apart, 0).pvalue)
    assert not found.equal


def test_an_axis_that_one_sweep_lacks_is_read_from_its_configurations(tmp_path):
    base = {"local": {"learning_rate": 0.1}}
    a = sweep(tmp_path / "a", BEFORE, [0], base)
    rates = [0.1, 0.5]
    cells = [
        cell("FedAvg", attack, 0, 0.7 * rate, **{"local.learning_rate": rate}, config="{}")
        for attack in ATTACKS
        for rate in rates
    ]
    axes = {"aggregator": ["FedAvg"], "attack": ATTACKS, "seed": [0], "local.learning_rate": rates}
    found = contrast(a, write_sweep(tmp_path / "b", axes, cells))
    assert [place["local.learning_rate"] for place in found.places] == ["0.1", "0.1"]
    assert [row[0].b for row in found.differences] == pytest.approx([0.07, 0.07])
    assert {place["local.learning_rate"] for place in found.only_b} == {"0.5"}


def test_a_sweep_and_its_copy_are_equal(cli, tmp_path):
    for name in "ab":
        sweep(tmp_path / name, BEFORE, range(2))
    outcome = cli("a", "b")
    assert outcome.status == 0
    assert "The configurations are the same." in outcome.out
    assert "Every number that was measured is the same in both." in outcome.out
    # The same mean of other numbers is not the same.
    sweep(tmp_path / "turned", BEFORE[[1, 0]], range(2))
    assert not contrast("a", "turned").equal
    sweep(tmp_path / "lost", np.array([0.1, np.nan]), range(2))
    assert not contrast("a", "lost").equal


def test_a_terminal_shows_both_and_the_difference(cli, tmp_path):
    sweep(tmp_path / "a", BEFORE, range(5), {"local": {"steps": 1}})
    sweep(tmp_path / "b", AFTER, range(6), {"local": {"steps": 2}})
    text = cli("a", "b").out
    assert re.search(r"local\.steps +│ 1 +│ 2 ", text)
    assert re.search(r"FedAvg │ Trim attack +│ 0\.3000 │ 0\.3104 │ \+0\.0104 ± 0\.0010 │ \d", text)
    assert "paired t-test" in text
    assert all(len(line) <= 80 for line in text.splitlines() if re.match("[┃│]", line))
    values = json.loads(cli("b", "a", "--json").out, parse_constant=pytest.fail)
    assert (values["a"], values["b"], values["equal"]) == ("b", "a", False)
    (first, *_) = values["places"]
    assert first["metrics"][0]["difference"] == pytest.approx(-0.0104)


def run(folder, error, **config):
    folder.mkdir()
    config = {"rounds": 10, "seed": 0, "aggregator": {"name": "mean"}, "attack": {"name": "none"}, **config}
    (folder / "config.json").write_text(json.dumps(config))
    line = {"round": 10, "test_error": error, "attack_success_rate": None, "diverged": 0, "seconds": 2.0}
    (folder / "metrics.jsonl").write_text(json.dumps(line) + "\n")


def test_runs(cli, tmp_path):
    run(tmp_path / "a", 0.25)
    run(tmp_path / "b", 0.5, aggregator={"name": "krum", "num_malicious": 2})
    text = cli("a", "b").out
    assert re.search(r'aggregator\.name +│ "mean" │ "krum"', text)
    assert re.search(r"aggregator\.num_malicious │ – +│ 2 ", text)
    assert re.search(r"test error +│ 0\.2500 │ 0\.5000 │ \+0\.2500", text)
    assert re.search(r"rounds/s +│ +5 │ +5 │ +0 ", text)


def test_a_default_that_one_leaves_out_is_no_difference(tmp_path):
    run(tmp_path / "a", 0.25, partition={"name": "label_bias", "bias": 0.5}, model={"name": "mlp"})
    run(tmp_path / "b", 0.25, partition={"name": "label_bias"}, model={"name": "mlp", "hidden": [64]})
    assert contrast(tmp_path / "a", tmp_path / "b").config == {}
    run(tmp_path / "c", 0.25, partition={"name": "label_bias", "bias": 0.9}, model={"name": "mlp"})
    found = contrast(tmp_path / "c", tmp_path / "b").config
    assert found == {"partition.bias": {"a": 0.9, "b": 0.5}}


def test_what_cannot_be_compared(tmp_path):
    run(tmp_path / "run", 0.25)
    sweep(tmp_path / "sweep", BEFORE, [0])
    with pytest.raises(ConfigError, match=r"run is a run and .*sweep a sweep: compare two"):
        contrast(tmp_path / "sweep", tmp_path / "run")
    with pytest.raises(DataError, match="neither a sweep's folder nor a run's"):
        contrast(tmp_path / "run", tmp_path / "nothing")
