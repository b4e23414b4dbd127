"""Intervals and tests over seeds, against SciPy's and by hand; where they are in tables and files."""

import math
import re

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from scipy import stats

from fljax.errors import ConfigError
from fljax.report import load_results, write_report
from fljax.report.figures import pictures
from fljax.report.summary import caption, summarize, tables
from fljax.report.uncertainty import against, explain_interval, holm, interval
from tests.support.sweep_folders import cell, write_sweep

SEEDS = range(6)
# Over six seeds Krum is FLTrust but for noise, FedAvg is worse in every one of them.
NOISE = np.array([0.01, -0.012, 0.004, -0.006, 0.008, -0.003])
ERRORS = {
    "FLTrust": 0.05 + 0.01 * np.arange(6),
    "Krum": 0.05 + 0.01 * np.arange(6) + NOISE + 0.001,
    "FedAvg": 0.15 + 0.01 * np.arange(6) + NOISE,
}


@pytest.fixture
def seeds(tmp_path):
    def made(count):
        cells = [
            cell(rule, attack, seed, float(ERRORS[rule][seed]))
            for rule in ERRORS
            for attack in ("Trim attack", "no attack")
            for seed in SEEDS[:count]
        ]
        axes = {
            "aggregator": list(ERRORS),
            "attack": ["Trim attack", "no attack"],
            "seed": list(SEEDS[:count]),
        }
        return write_sweep(tmp_path / f"seeds_{count}", axes, cells)

    return made


def test_students_interval_is_scipys_and_needs_two_seeds():
    values = ERRORS["Krum"]
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    np.testing.assert_allclose(interval(values, "student"), expected, rtol=1e-12)
    # A seed without a number does not count.
    np.testing.assert_allclose(interval([*values, np.nan], "student"), expected, rtol=1e-12)
    for kind in ("student", "bootstrap"):
        assert np.isnan(interval([0.1], kind)).all()
        assert np.isnan(interval([0.1, np.nan], kind)).all()


def test_the_bootstrap_agrees_with_scipys():
    values = np.random.default_rng(0).normal(size=30)
    expected = stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=10_000, random_state=np.random.default_rng(1)
    ).confidence_interval
    np.testing.assert_allclose(interval(values, "bootstrap"), expected, atol=0.02)
    low, high = interval([0.1, 0.3], "bootstrap")
    assert (low, high) == pytest.approx((0.1, 0.3))  # a quarter of the draws each


def test_students_interval_covers_what_it_says_at_three_seeds_and_the_bootstrap_does_not():
    draws = np.random.default_rng(0).normal(size=(400, 3))
    covered = {
        kind: np.mean([low <= 0 <= high for low, high in (interval(row, kind) for row in draws)])
        for kind in ("student", "bootstrap")
    }
    assert covered["student"] == pytest.approx(0.95, abs=0.03)
    assert covered["bootstrap"] < 0.85


def test_holm_by_hand():
    np.testing.assert_allclose(holm([0.04, 0.01, 0.02]), [0.04, 0.03, 0.04])
    np.testing.assert_allclose(holm([0.9, 0.8]), [1.0, 1.0])
    assert holm([]).size == 0


def frame(rule_errors, successes=None):
    return pd.DataFrame(
        [
            {"aggregator": rule, "seed": seed, "test_error": error, "attack_success_rate": np.nan}
            | ({"attack_success_rate": successes[rule]} if successes else {})
            for rule, errors in rule_errors.items()
            for seed, error in enumerate(errors)
        ]
    )


def test_rules_are_compared_over_the_seeds_they_share():
    found = against("FLTrust", frame(ERRORS))
    raw = [stats.ttest_rel(ERRORS[rule], ERRORS["FLTrust"]).pvalue for rule in ("Krum", "FedAvg")]
    assert {rule: found[rule] for rule in ("Krum", "FedAvg")} == pytest.approx(
        dict(zip(("Krum", "FedAvg"), holm(raw), strict=True))
    )
    # A paired test: unpaired, the spread of the seeds hides a difference that is the same in each.
    assert found["FedAvg"] < 1e-4
    lost = ERRORS | {"FedAvg": [np.nan, np.nan, *ERRORS["FedAvg"][2:]]}
    assert "FedAvg" not in against("FLTrust", frame(lost))
    same = {"FLTrust": [0.1] * 5, "Krum": [0.1] * 5, "FedAvg": [0.2, 0.2, 0.2, 0.2, 0.2 + 1e-12]}
    assert against("FLTrust", frame(same)) == {"Krum": 1.0, "FedAvg": 0.0}
    # A backdoor that succeeds counts as an error.
    planted = against(
        "FLTrust", frame(same | {"FedAvg": [0.1] * 5}, {"FLTrust": 0.0, "Krum": 0.0, "FedAvg": 1.0})
    )
    assert planted == {"Krum": 1.0, "FedAvg": 0.0}


def test_tables_mark_what_seeds_do_not_tell_apart_from_the_best(seeds):
    results = load_results(seeds(6), interval="student")
    (table,) = tables(results)
    texts = {rule: entry.text for rule, entry in zip(table.columns, table.rows[0][1], strict=True)}
    assert texts["Krum"].endswith("≈")
    assert not any("≈" in texts[rule] for rule in ("FLTrust", "FedAvg"))
    low, high = interval(ERRORS["FedAvg"], "student")
    assert f"[{low:.3f}, {high:.3f}]" in texts["FedAvg"]
    text = caption(results, [table])
    assert "95 % confidence interval of the mean (Student's t, n = 6 seeds)" in text
    assert "paired t-test" in text
    assert "Holm" in text
    line = summarize(results).set_index(["attack", "aggregator"]).loc["Trim attack", "FedAvg"]
    assert (line.test_error_low, line.test_error_high) == pytest.approx((low, high))


def test_figures_show_the_interval_that_is_asked_for(seeds):
    """Around the final values, and around the curves to their ends."""
    folder, errors = seeds(6), ERRORS["FedAvg"]
    for kind, ends in (("", (errors.min(), errors.max())), ("student", interval(errors, "student"))):
        results = load_results(folder, interval=kind)
        (drawn,) = (picture for picture in pictures(results) if picture.name == "comparison")
        assert ("95 % confidence interval (Student's t)" if kind else "range of the seeds") in drawn.caption
        panels = drawn.figure.findobj(Axes)
        reaches = [np.asarray(line.get_ydata()) for axes in panels for line in axes.lines]
        bars = [pair for each in reaches if np.isnan(each).any() for pair in each.reshape(-1, 3)[:, :2]]
        assert any(pair == pytest.approx(ends) for pair in bars)
        bands = [band.get_paths()[0].vertices for axes in panels for band in axes.collections]
        at_end = [band[band[:, 0] == 40, 1] for band in bands]
        assert any((values.min(), values.max()) == pytest.approx(ends) for values in at_end)


def test_an_interval_of_an_error_is_cut_at_0_and_says_so(tmp_path):
    cells = [cell("Krum", "no attack", seed, error) for seed, error in enumerate((0.01, 0.02, 0.09))]
    axes = {"aggregator": ["Krum"], "attack": ["no attack"], "seed": [0, 1, 2]}
    results = load_results(write_sweep(tmp_path / "low", axes, cells), interval="student")
    (table,) = tables(results)
    assert "[0.000, 0.148]" in table.rows[0][1][0].text
    assert caption(results, [table]).endswith("It is cut at 0.")


def test_few_seeds_have_no_test_and_one_has_no_interval(seeds):
    results = load_results(seeds(4), interval="bootstrap")
    (table,) = tables(results)
    assert "≈" not in str(table)
    assert "too narrow" in caption(results, [table])
    results = load_results(seeds(1), interval="student")
    (table,) = tables(results)
    assert "[" not in table.rows[0][1][0].text
    assert "a single seed has none" in caption(results, [table])
    assert "2 to 5 seeds" in explain_interval("student", [5, 2, 4])
    with pytest.raises(ConfigError, match=r"interval 'students'.*did you mean 'student'"):
        load_results(seeds(1), interval="students")


def test_the_caption_counts_seeds_that_have_a_number(tmp_path):
    cells = [
        cell(rule, "ALIE", seed, math.nan if seed < lost else 0.1 + seed / 100, diverged=seed < lost)
        for rule, lost in (("Krum", 3), ("Median", 0), ("FedAvg", 5))
        for seed in range(5)
    ]
    axes = {"aggregator": ["Krum", "Median", "FedAvg"], "attack": ["ALIE"], "seed": list(range(5))}
    results = load_results(write_sweep(tmp_path / "x", axes, cells), interval="student")
    assert "(Student's t, n = 2 to 5 seeds)" in caption(results, tables(results))


def test_what_should_be_high_is_compared_with_the_highest(seeds):
    (table,) = tables(load_results(seeds(6)), worst_case=False, better="high")
    # Krum and FLTrust are both far from FedAvg, the highest.
    assert "≈" not in str(table)


def test_files_for_a_paper(seeds):
    folder = seeds(6)
    files = write_report(folder, formats=["tex", "pdf", "csv"], interval="student")
    names = {path.name for path in files}
    assert {"tables.tex", "figures.tex", "heat_map.pdf", "comparison.pdf", "courses.pdf"} <= names
    out = folder / "report"
    text = (out / "tables.tex").read_text(encoding="utf-8")
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == text.count(r"\toprule") > 0
    assert r"\label{tab:demo-1}" in text
    assert r"\textbf{0.075 \ensuremath{\pm}" in text
    # What LaTeX has no letter for is a command.
    assert text.isascii()
    shown = (out / "figures.tex").read_text(encoding="utf-8")
    assert set(re.findall(r"\{(\w+)\.pdf\}", shown)) == {name[:-4] for name in names if name.endswith(".pdf")}
    first = (out / "comparison.pdf").read_bytes()
    assert re.search(rb"/MediaBox \[ ?0 0 239\.7", first), "3.33 inches"
    assert b"/Type3" not in first  # TrueType letters
    write_report(folder, formats=["pdf"], width="7")
    assert re.search(rb"/MediaBox \[ ?0 0 504", (out / "comparison.pdf").read_bytes())
    assert r"\begin{figure*}" in (out / "figures.tex").read_text(encoding="utf-8")
    for width in ("wide", "nan", "1", "99"):
        with pytest.raises(ConfigError, match=rf"width '{width}' must be column or page, or from 2 to 20"):
            write_report(folder, formats=["pdf"], width=width)
    means = pd.read_csv(out / "table.csv").set_index(["attack", "aggregator"])
    assert np.isnan(means.loc["Trim attack", "FLTrust"].p_value)
    assert means.loc["Trim attack", "Krum"].p_value > 0.05 > means.loc["Trim attack", "FedAvg"].p_value
    assert means.loc["Trim attack", "FedAvg"].test_error_high == pytest.approx(
        interval(ERRORS["FedAvg"], "student")[1]
    )
    write_report(folder, formats=["pdf"], interval="student")
    assert (out / "comparison.pdf").read_bytes() == first, "the same figure, the same bytes"
