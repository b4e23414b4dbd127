"""What studies report of whole runs, in tables, CSV files, figures and the page."""

import json

import numpy as np
import pandas as pd
import pytest

import fljax
from fljax.config.schema import parse_config
from fljax.report import load_results, write_report
from fljax.report.outcomes import STUDIES
from fljax.report.run import run_figure
from fljax.report.summary import sections
from fljax.simulation.experiment import assemble
from fljax.sweeps import make_sweep
from tests.support.sweep_folders import cell, write_sweep

ROUNDS = [50, 100, 150, 200, 250]
BACKDOOR = {"name": "badnets", "fraction": 0.2, "schedule": {"name": "between", "start": 0, "stop": 100}}
ATTACKS = {
    "no attack": {"name": "none", "fraction": 0.2, "schedule": None},
    "Trim attack": {"name": "trim_attack", "fraction": 0.2, "schedule": None},
    "BadNets": BACKDOOR,
}
RULES = {"FedAvg": "mean", "Krum": "krum"}


def row(rule, attack, seed, errors, success=None, attack_table=None, **others):
    config = {
        "rounds": 250,
        "seed": seed,
        "aggregator": {"name": RULES[rule], "num_malicious": "actual"},
        "attack": attack_table or ATTACKS[attack],
    }
    curves = {"curve_test_error": errors, "curve_attack_success_rate": success or [None] * 5}
    curves |= {f"curve_{name}": values for name, values in others.items()}
    end = None if success is None else success[-1]
    made = cell(rule, attack, seed, errors[-1], end, curve_rounds=ROUNDS, config=json.dumps(config), **curves)
    return made


def decisions(precision, recall, wrong):
    return {
        "detection_precision": [precision] * 5,
        "detection_recall": [recall] * 5,
        "false_positive_rate": [wrong] * 5,
    }


@pytest.fixture
def folder(tmp_path):
    cells = []
    for seed in range(2):
        late = [0.9, 0.5, 0.3, 0.2 + 0.1 * seed, 0.25]
        plain = [0.9, 0.4, 0.2, 0.1, 0.15]
        for rule in RULES:
            krum = decisions(0.25, 1.0, 0.75) if rule == "Krum" else decisions(None, 0.0, 0.0)
            honest = decisions(None, None, 0.5 if rule == "Krum" else 0.0)
            stays = rule == "FedAvg"
            success = [1.0, 1.0, 0.9 - 0.2 * seed, 0.8, 0.75 if stays else 0.2]
            cells += [
                row(rule, "no attack", seed, plain, **honest),
                row(rule, "Trim attack", seed, late, **krum),
                row(rule, "BadNets", seed, plain, success, **krum),
            ]
    axes = {"aggregator": list(RULES), "attack": list(ATTACKS), "seed": [0, 1]}
    return write_sweep(tmp_path / "sweep", axes, cells)


def table_of(results, title):
    (table,) = [made for section in sections(results) for made in section.tables if made.title == title]
    return {
        (name, rule): entry.text
        for name, entries in table.rows
        for rule, entry in zip(table.columns, entries, strict=True)
    }


def test_studies_have_tables_of_their_own(folder):
    results = load_results(folder)
    found = table_of(results, "Detection of attackers")
    assert found["Trim attack", "Krum"] == "0.25 / 1.00 / 0.75"
    assert found["Trim attack", "FedAvg"] == "– / 0.00 / 0.00"
    assert found["no attack", "Krum"] == "– / – / 0.50"
    found = table_of(results, "Durability of backdoors")
    assert found["BadNets", "Krum"] == "100 / 0.80"
    assert found["BadNets", "FedAvg"] == "≥ 150 / 0.80"
    assert {name for name, _ in found} == {"BadNets"}, "nothing but what there is"
    found = table_of(results, "Attack impact")
    # The lowest errors are 0.2 and 0.25 with attack, 0.1 without.
    assert found["Trim attack", "Krum"] == "+0.125 / +0.100 / +0.100"
    assert found["BadNets", "Krum"] == "+0.000 / +0.000 / +0.000"
    assert "no attack" not in {name for name, _ in found}


def test_numbers_that_no_cell_has_keep_their_place(tmp_path):
    """Without anybody left out there is no precision; what stands first must not be the recall."""
    cells = [row("FedAvg", "Trim attack", 0, [0.5] * 5, **decisions(None, 0.0, 0.25))]
    folder = write_sweep(tmp_path / "x", {"aggregator": ["FedAvg"], "attack": ["Trim attack"]}, cells)
    found = table_of(load_results(folder), "Detection of attackers")
    assert list(found.values()) == ["– / 0.00 / 0.25"]


def test_studies_are_in_every_file(folder, tmp_path):
    names = {path.name for path in write_report(folder, tmp_path / "out")}
    mine = [study for study in STUDIES if study.name != "natural"]
    assert {f"{study.name}.png" for study in mine} <= names
    table = pd.read_csv(tmp_path / "out" / "table.csv").set_index(["aggregator", "attack"])
    line = table.loc["FedAvg", "BadNets"]
    assert (line["lifespan_mean"], line["lifespan_censored_max"]) == (150, 1)
    cells = pd.read_csv(tmp_path / "out" / "results.csv")
    impact = cells[(cells["attack"] == "Trim attack") & (cells["seed"] == 1)]["impact_best"]
    np.testing.assert_allclose(impact, 0.15)
    for name in ("report.html", "report.md"):
        text = (tmp_path / "out" / name).read_text(encoding="utf-8")
        assert all(study.title in text for study in mine)
        assert "≥ 150 / 0.80" in text


def test_the_same_run_without_attack_has_the_same_share_where_the_rule_is_told(tmp_path):
    other = {**ATTACKS["no attack"], "fraction": 0.4}
    plain = [0.9, 0.4, 0.2, 0.1, 0.15]
    cells = [
        row("Krum", "no attack", 0, plain, attack_table=other),
        row("Krum", "Trim attack", 0, [0.5] * 5),
        row("FedAvg", "no attack", 1, plain),
        row("FedAvg", "Trim attack", 0, [0.5] * 5),
    ]
    axes = {"aggregator": list(RULES), "attack": list(ATTACKS)[:2], "seed": [0, 1]}
    results = load_results(write_sweep(tmp_path / "none", axes, cells))
    assert not results.derived
    cells = [cell | {"config": cell["config"].replace('"actual"', "4")} for cell in cells[:2]]
    results = load_results(write_sweep(tmp_path / "told", axes, cells))
    np.testing.assert_allclose(results.frame["impact_best"], [np.nan, 0.4])


def test_folders_of_versions_that_measured_less_are_read(folder, tmp_path):
    table = pd.read_parquet(folder / "results.parquet")
    less = [name for name in table if "detection" in name or "false" in name or name == "curve_loss"]
    assert len(less) == 4
    table.drop(columns=less).to_parquet(folder / "results.parquet")
    results = load_results(folder)
    assert "detection_recall" not in results.derived
    assert "lifespan" in results.derived
    assert write_report(folder, tmp_path / "out", formats=["csv", "md"])


def test_the_end_of_an_attack_is_drawn():
    metrics = {"round": np.array(ROUNDS), "test_error": np.full(5, 0.1), **decisions(0.5, 0.25, 0.0)}
    metrics |= {"benign_accepted": np.ones(5), "attack_success_rate": np.full(5, np.nan)}
    figure = run_figure({name: np.array(values) for name, values in metrics.items()}, "", "", 100)
    panels = {axes.get_ylabel(): axes for part in figure.subfigs for axes in part.axes}
    assert list(panels) == ["test error", "detection of attackers"]
    for axes in panels.values():
        assert [100, 100] in [list(line.get_xdata()) for line in axes.get_lines()]
    texts = [text.get_text() for text in panels["detection of attackers"].get_legend().get_texts()]
    assert texts == ["precision", "recall", "false-positive rate"]


def test_the_natural_success_of_a_trigger_is_measured_where_nobody_attacks(tmp_path):
    values = {
        "rounds": 2, "eval_every": 2, "num_clients": 6, "aggregator": {"name": "mean"}, "root": {"size": 20},
        "data": {"name": "synthetic", "num_train": 200, "num_test": 60}, "local": {"learning_rate": 0.3},
        "model": {"name": "logistic_regression"}, "seed": 3,
    }  # fmt: skip
    badnets = {"name": "badnets", "target": 1, "every": 2, "fraction": 0.4}
    sweep = make_sweep(values, {"natural": True, "axes": {"attack": ["none", "sign_flip", badnets]}})
    plain = sweep.cells[0].config
    assert [each.name for each in plain.attack.natural] == ["sign_flip", "badnets"]
    fljax.sweep(sweep, tmp_path / "sweep", progress=False, workers=1)
    # By a loop over the test examples, with the model of the run without attack.
    experiment = assemble(plain)
    result = fljax.run(plain, progress=False)
    weights, bias = (np.asarray(result.params["Dense_0"][name]) for name in ("kernel", "bias"))
    hits, count = 0, 0
    for x, y in zip(experiment.dataset.test_x, experiment.dataset.test_y, strict=True):
        if y != 1:
            marked = np.where(np.arange(x.size) % 2 == 1, 0.0, np.ravel(x))
            hits, count = hits + (np.argmax(marked @ weights + bias) == 1), count + 1
    assert 0 < hits < count
    assert list(result.metrics["natural_success_badnets"]) == pytest.approx([hits / count])
    assert "natural_success_sign_flip" not in result.metrics
    results = load_results(tmp_path / "sweep")
    rates = results.frame.set_index("attack")["natural_success_rate"]
    np.testing.assert_allclose(
        rates[["no attack", "Sign flipping", "BadNets"]], [np.nan, np.nan, hits / count]
    )
    found = table_of(results, "Backdoors beside their natural success")
    assert found["BadNets", "FedAvg"].endswith(f" / {hits / count:.2f}")
    assert set(found) == {("BadNets", "FedAvg")}


def test_what_has_no_natural_success_is_said():
    def refused(match, attacks, **axes):
        with pytest.raises(fljax.ConfigError, match=match):
            make_sweep({"num_clients": 4}, {"natural": True, "axes": {"attack": attacks, **axes}})

    refused('needs "none" and another attack', ["badnets"])
    refused('needs "none" and another attack', ["none"])
    refused("does not go with the axis attack.target", ["none", "badnets"], **{"attack.target": [0, 1]})
    refused("unknown attack 'badnet'", ["none", "badnet"])
    table = {"name": "none", "natural": ["badnet"]}
    with pytest.raises(fljax.ConfigError, match="unknown attack 'badnet'"):
        fljax.build(parse_config({"num_clients": 4, "attack": table}))
