"""What README.md shows is what the library does."""

import re
import shutil
import tomllib
from pathlib import Path

import jax
import numpy as np

from fljax.aggregators import PRE_AGGREGATORS, RULES
from fljax.attacks import ATTACKS
from fljax.config import ExperimentConfig, load_config, parse_config, read_toml
from fljax.data import DATASETS, PARTITIONS
from fljax.experiment import assemble
from fljax.sweeps import make_sweep, sweep

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_python_examples_run(tmp_path, monkeypatch):
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    monkeypatch.chdir(tmp_path)
    pure, stateful, searching, simulator, results, arrays = blocks("python")
    names: dict = {}
    exec(pure, names)
    assert names["aggregate"].shape == (10_000,)
    assert not np.asarray(names["scores"])[:20].any()
    assert np.asarray(names["scores"])[20:].all()
    assert names["many"].shape == (30, 10_000)
    exec(stateful, names)
    assert np.isfinite(names["update"]).all()
    np.testing.assert_array_equal(names["state"][1], names["update"])
    exec(searching, names)
    direction = np.sign(names["rule"](names["updates"]))
    honest, found, stronger = (names["rule"](names[each]) for each in ("updates", "found", "stronger"))
    assert direction @ stronger < direction @ honest
    center = names["updates"][20:].mean(0)
    assert np.linalg.norm(found - center) > np.linalg.norm(honest - center)
    exec(simulator, names)
    assert (tmp_path / "runs" / "demo" / "summary.json").exists()
    assert names["metrics"].loss.shape == (100,)
    base = {"rounds": 2, "eval_every": 2, "num_clients": 5, "root": {"size": 20}}
    sweep(make_sweep(base, {"seeds": 2}), "runs/thousand")
    exec(results, names)
    assert list(names["results"].seed) == [0, 1]
    exec(arrays, names)
    assert names["experiment"].facts["clients"]["num_clients"] == 30


def test_the_configuration_shown_is_the_default():
    *_, shown = blocks("toml")
    values = tomllib.loads(shown)
    optional = {line.split("=")[0].strip("# ") for line in shown.splitlines() if line.startswith("# ")}
    assert set(values) | optional == set(ExperimentConfig.model_fields)
    assert parse_config(values) == ExperimentConfig(num_clients=20)


def test_the_attack_shown_runs():
    shown, *_ = blocks("toml")
    values = {"rounds": 12, "eval_every": 12, "num_clients": 20, "cohort_size": 10, **tomllib.loads(shown)}
    experiment = assemble(parse_config(values))
    state, _ = jax.lax.scan(
        lambda s, _: experiment.step(s, experiment.state.data), experiment.state.run, length=12
    )
    # Ten rounds of attack, then the pause.
    assert int(state.attack_state.chosen.sum()) == 10


def test_the_sweep_shown_is_one():
    _, shown, _ = blocks("toml")
    cells = make_sweep({"num_clients": 20}, tomllib.loads(shown)["sweep"]).cells
    assert len(cells) == 10 * (2 * 2 * 4 * 3 - 2 * 3 + 1)
    assert len({cell.config.aggregator.name for cell in cells}) == 3


def test_every_configuration_is_valid():
    files = list((ROOT / "configs").rglob("*.toml"))
    assert len(files) >= 30
    for path in files:
        values = read_toml(path)
        table = values.pop("sweep", None)
        assert parse_config(values).rounds > 0
        assert table is None or make_sweep(values, table).cells
    assert load_config(ROOT / "configs/quickstart.toml").aggregator.name == "fltrust"


def test_no_registry_address_in_the_constraints():
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    pins = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[^ ]+", pin) for pin in pins)


def test_every_attack_is_in_the_table():
    for name in ATTACKS:
        assert f"`{name}`" in README


def test_every_data_set_and_partition_is_in_a_table():
    for name in (*DATASETS, *PARTITIONS):
        assert f"`{name}`" in README


def test_every_rule_is_in_the_table():
    for name in (*RULES, *PRE_AGGREGATORS):
        assert f"`{name}`" in README
