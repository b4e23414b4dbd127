"""Hyper-parameters chosen by the worst validation error over attacks, against ByzFL's loops."""

import math

import numpy as np
import pandas as pd
import pytest

from fljax.errors import ConfigError
from fljax.report import choose, load_results, write_report
from fljax.report.selection import choice_table
from tests.support.sweep_folders import cell, write_sweep

ROUNDS = [10, 20, 30]
RULES, ATTACKS, RATES, SEEDS = ["Median", "Krum"], ["no attack", "ALIE", "IPM"], [0.1, 0.5, 1.0], [0, 1]
RNG = np.random.default_rng(3)
CURVES = {
    (rule, attack, rate, seed): (RNG.uniform(0.1, 0.9, 3).round(3), RNG.uniform(0.1, 0.9, 3).round(3))
    for rule in RULES
    for attack in ATTACKS
    for rate in RATES
    for seed in SEEDS
}


def row(rule, attack, rate, seed, **others):
    test, validation = CURVES[rule, attack, rate, seed]
    values = {
        "local.learning_rate": rate, "curve_rounds": ROUNDS,
        "error": test[-1], "curve_test_error": list(test),
        "validation_error": validation[-1], "curve_validation_error": list(validation),
    }  # fmt: skip
    return cell(rule, attack, seed, **{**values, **others})


def folder_of(path, but=(), change=lambda key: {}, **config):
    axes = {"aggregator": RULES, "attack": ATTACKS, "local.learning_rate": RATES, "seed": SEEDS}
    cells = [row(*key, **change(key)) for key in CURVES if key not in but]
    return write_sweep(path, axes, cells, total=len(CURVES), **config)


def byzfl(rule, last=False):
    """`find_best_hyperparameters` and the test heat map of ByzFL, with accuracies as there."""
    best, chosen = -1.0, None
    for rate in RATES:
        worst = []
        for attack in ATTACKS:
            accuracy = 1 - np.mean([CURVES[rule, attack, rate, seed][1] for seed in SEEDS], axis=0)
            worst.append(accuracy[-1] if last else np.max(accuracy))
        if min(worst) > best:
            best, chosen = min(worst), rate
    accuracies = []
    for attack in ATTACKS:
        accuracy = 1 - np.mean([CURVES[rule, attack, chosen, seed][0] for seed in SEEDS], axis=0)
        accuracies.append(np.max(accuracy))
    return chosen, 1 - best, 1 - min(accuracies)


@pytest.mark.parametrize("value", ["best", "last"])
def test_the_choice_is_byzfls(tmp_path, value):
    results = load_results(folder_of(tmp_path / "s"), value)
    left, choices = choose(results, ["local.learning_rate"])
    assert [choice.rule for choice in choices] == RULES
    for choice in choices:
        rate, validation, best = byzfl(choice.rule, last=value == "last")
        assert choice.chosen == {"local.learning_rate": f"{rate:g}"}
        assert choice.validation_error == pytest.approx(validation)
        assert choice.best == pytest.approx(best)
        tests = {
            attack: np.mean([CURVES[choice.rule, attack, rate, seed][0] for seed in SEEDS], axis=0)
            for attack in ATTACKS
        }
        held = {
            attack: np.mean([CURVES[choice.rule, attack, rate, seed][1] for seed in SEEDS], axis=0)
            for attack in ATTACKS
        }
        assert choice.last == pytest.approx(max(test[-1] for test in tests.values()))
        place = {attack: -1 if value == "last" else np.argmin(held[attack]) for attack in ATTACKS}
        assert choice.there == pytest.approx(max(tests[attack][place[attack]] for attack in ATTACKS))
    # The other tables are of the chosen cells: as many as rules, attacks and seeds.
    assert left.further == []
    assert len(left.frame) == len(RULES) * len(ATTACKS) * len(SEEDS)
    heads = choice_table(choices, value).columns
    assert f"validation error ({value})" in heads
    assert {"test error (last)", "test error (best)"} <= set(heads)


def test_best_and_last_are_named_and_differ(tmp_path):
    folder = folder_of(tmp_path / "s")
    last, best = load_results(folder), load_results(folder, "best")
    for one in best.frame.to_dict("records"):
        test, validation = CURVES[
            one["aggregator"], one["attack"], float(one["local.learning_rate"]), one["seed"]
        ]
        assert one["test_error"] == min(test)
        assert one["validation_error"] == validation[np.argmin(test)]
    assert last.when != best.when
    write_report(folder, formats=["md"], value="best", select=["local.learning_rate"])
    text = (folder / "report" / "table.md").read_text()
    assert "Chosen by validation" in text
    assert f"Test error {best.when}, mean" in text
    write_report(folder, formats=["md", "csv"])
    assert f"Test error {last.when}, mean" in (folder / "report" / "table.md").read_text()
    assert "Validation error" in (folder / "report" / "table.md").read_text()
    assert not (folder / "report" / "choices.csv").exists()


def test_the_sweep_may_say_what_is_chosen(tmp_path):
    folder = folder_of(tmp_path / "s", sweep={"select": ["local.learning_rate"]})
    write_report(folder, formats=["csv"], value="best")
    found = pd.read_csv(folder / "report" / "choices.csv")
    assert found["chosen local.learning_rate"].tolist() == [byzfl(rule)[0] for rule in RULES]


def test_values_whose_cells_are_missing_or_diverged_are_not_chosen(tmp_path):
    rate, _, _ = byzfl("Median")
    gone = ("Median", "IPM", rate, 1)
    _, choices = choose(load_results(folder_of(tmp_path / "a", but=[gone]), "best"), ["local.learning_rate"])
    assert choices[0].chosen != {"local.learning_rate": f"{rate:g}"}

    def change(key):
        return {"diverged": key == gone}

    last = byzfl("Median", last=True)[0]
    gone = ("Median", "IPM", last, 1)
    results = load_results(folder_of(tmp_path / "b", change=change))
    _, choices = choose(results, ["local.learning_rate"])
    assert choices[0].chosen != {"local.learning_rate": f"{last:g}"}
    assert math.isfinite(choices[0].validation_error)


def test_a_sweep_under_way_is_shown_whole_until_a_combination_is_done(tmp_path):
    gone = [key for key in CURVES if key[1] == "IPM" and key[3] == 1]
    results = load_results(folder_of(tmp_path / "s", but=gone))
    left, choices = choose(results, ["local.learning_rate"])
    assert choices == []
    assert len(left.frame) == len(CURVES) - len(gone)


def test_variants_of_a_rule_are_chosen_among(tmp_path):
    names = {"Clipping (radius 1)": "Median", "Clipping (radius 9)": "Krum"}
    config = '{"aggregator": {"name": "centered_clipping", "radius": 1}, "attack": {"name": "none"}}'
    cells = [
        row(rule, attack, 0.1, seed, config=config) | {"aggregator": label}
        for label, rule in names.items()
        for attack in ATTACKS
        for seed in SEEDS
    ]
    cells = [one | {"cell": str(number)} for number, one in enumerate(cells)]
    axes = {"aggregator": [*names], "attack": ATTACKS, "seed": SEEDS}
    left, choices = choose(load_results(write_sweep(tmp_path / "s", axes, cells), "best"), ["aggregator"])
    assert left.rules == ["Centred clipping"]
    assert len(choices) == 1
    assert choices[0].chosen["aggregator"] in names


def test_what_cannot_be_chosen_is_one_sentence(tmp_path):
    results = load_results(folder_of(tmp_path / "s"))
    for axis in ("local.learning_rates", "attack", "seed"):
        with pytest.raises(ConfigError, match="select: unknown axis"):
            choose(results, [axis])
    cells = [cell("Median", seed=seed, **{"local.learning_rate": rate}) for rate in RATES for seed in SEEDS]
    axes = {"aggregator": ["Median"], "local.learning_rate": RATES, "attack": ["no attack"], "seed": SEEDS}
    plain = load_results(write_sweep(tmp_path / "p", axes, cells))
    with pytest.raises(ConfigError, match=r"validation = \{ size = "):
        choose(plain, ["local.learning_rate"])
    with pytest.raises(ConfigError, match="unknown value 'beste'; did you mean 'best'"):
        load_results(tmp_path / "p", "beste")
