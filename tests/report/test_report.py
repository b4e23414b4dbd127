"""The report of a sweep: numbers computed by hand, gaps, odd labels, files."""

import json
import os
from io import BytesIO, StringIO

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from rich.console import Console

from fljax.config.schema import parse_config
from fljax.errors import ConfigError, DataError
from fljax.report import load_results, rich_tables, write_report
from fljax.report.lines import over_axis
from fljax.report.panels import courses
from fljax.report.ranking import Outcome, marks
from fljax.report.results import label
from fljax.report.summary import Entry, Table, caption, state, summarize, tables, worst_cases
from fljax.report.tex import tex_table
from fljax.report.text import escape, markdown_table, markdown_tables
from fljax.simulation.lines import chained
from tests.support.command import command
from tests.support.sweep_folders import cell, large, write_sweep

RULES = ["FedAvg", "Krum", "FLTrust"]
ATTACKS = ["no attack", "Trim attack", "Scaling attack"]
# (rule, attack): errors of seeds 0 and 1, success rates or None
NUMBERS = {
    ("FedAvg", "no attack"): ((0.03, 0.05), None),
    ("Krum", "no attack"): ((0.9, 0.9), None),
    ("FLTrust", "no attack"): ((0.04, 0.04), None),
    ("FedAvg", "Trim attack"): ((0.5, 0.7), None),
    ("Krum", "Trim attack"): ((0.2, 0.3), None),
    ("FLTrust", "Trim attack"): ((0.05, 0.05), None),
    ("FedAvg", "Scaling attack"): ((0.1, 0.1), (1.0, 0.5)),
    ("Krum", "Scaling attack"): ((0.4, 0.2), (0.0, 0.0)),
    ("FLTrust", "Scaling attack"): ((0.08, 0.04), (0.1, 0.3)),
}


def rows(skip=(), **changes):
    for (rule, attack), (errors, successes) in NUMBERS.items():
        for seed in (0, 1):
            if (rule, attack, seed) not in skip:
                success = successes[seed] if successes else None
                yield cell(rule, attack, seed, errors[seed], success, **changes)


def sweep(folder, **others):
    return write_sweep(folder, {"aggregator": RULES, "attack": ATTACKS, "seed": [0, 1]}, **others)


@pytest.fixture
def demo(tmp_path):
    return sweep(tmp_path / "demo", cells=list(rows()))


def texts(table):
    return {name: [entry.text for entry in entries] for name, entries in table.rows}


def marked(table):
    return {name: [entry.mark for entry in entries] for name, entries in table.rows}


def test_means_deviations_and_the_worst_case(demo):
    (table,) = tables(load_results(demo))
    assert table.columns == RULES
    assert texts(table) == {
        "no attack": ["0.040 ± 0.010", "0.900 ± 0.000", "0.040 ± 0.000"],
        "Trim attack": ["0.600 ± 0.100", "0.250 ± 0.050", "0.050 ± 0.000"],
        "Scaling attack": ["0.100 ± 0.000 / 0.75 ✗", "0.300 ± 0.100 / 0.00", "0.060 ± 0.020 / 0.20"],
        # Krum's 0.900 is without an attack. FedAvg's two numbers are of two attacks.
        "worst case": ["0.600 / 0.75 ✗", "0.300 / 0.00", "0.060 / 0.20"],
    }


def test_best_and_worst_are_marked_and_ties_alike(demo):
    (table,) = tables(load_results(demo))
    assert marked(table) == {
        "no attack": ["best", "worst", "best"],
        "Trim attack": ["worst", "", "best"],
        "Scaling attack": ["worst", "", "best"],
        "worst case": ["worst", "", "best"],
    }
    assert marks([Outcome(0.1), Outcome(0.1), None]) == ["", "", ""]
    assert marks([None, Outcome(float("nan")), Outcome(0.3)]) == ["", "worst", "best"]


def test_a_backdoored_rule_is_never_the_best():
    # What a small error hides: the published FedAvg under the Scaling attack.
    fedavg, krum, fltrust = Outcome(0.038, 1.0), Outcome(0.11, 0.02), Outcome(0.042, 0.01)
    assert marks([fedavg, krum, fltrust]) == ["worst", "", "best"]
    assert [each.broken for each in (fedavg, krum, fltrust)] == [True, False, False]
    # All are broken: one is the worst, none the best.
    assert marks([Outcome(0.05, 0.99), Outcome(0.06, 0.77)]) == ["worst", ""]
    # At exactly 0.5 of the digits that are shown.
    assert [Outcome(0.0, rate).broken for rate in (0.49, 0.496, 0.5)] == [False, True, True]
    # A success rate below counts as well, and an error without a backdoor as such.
    assert marks([Outcome(0.04, 0.4), Outcome(0.05, 0.01), Outcome(0.9, 0.0)]) == ["", "best", "worst"]


def test_the_caption_explains_the_signs_that_occur(demo):
    results = load_results(demo)
    text = caption(results, tables(results))
    assert text.startswith(
        "Test error after the last round, mean ± standard deviation over 2 seeds; after a slash the attack"
    )
    assert "†" not in text
    assert "‡" not in text
    assert state(results) == "18 of 18 cells"


def test_missing_cells_leave_gaps(tmp_path):
    missing = {("Krum", "Trim attack", 0), ("Krum", "Trim attack", 1), ("FedAvg", "Scaling attack", 1)}
    folder = sweep(tmp_path / "half", cells=list(rows(skip=missing)))
    results = load_results(folder)
    (table,) = tables(results)
    assert texts(table)["Trim attack"] == ["0.600 ± 0.100", "", "0.050 ± 0.000"]
    assert texts(table)["Scaling attack"][0] == "0.100 / 1.00 ✗ ‡"
    assert texts(table)["worst case"] == ["0.600 / 1.00 ✗ ‡", "0.300 / 0.00 ‡", "0.060 / 0.20"]
    assert "‡ Not everything" in caption(results, [table])
    assert state(results) == "15 of 18 cells; the others are missing so far"
    files = write_report(folder)
    assert "15 of 18 cells" in (folder / "report" / "report.md").read_text(encoding="utf-8")
    assert all(file.stat().st_size > 100 for file in files)


def test_a_whole_row_and_column_may_be_missing(tmp_path):
    cells = [row for row in rows() if row["aggregator"] != "Krum" and row["attack"] != "Scaling attack"]
    folder = sweep(tmp_path / "start", cells=cells)
    (table,) = tables(load_results(folder))
    assert texts(table)["Scaling attack"] == ["", "", ""]
    assert texts(table)["worst case"] == ["0.600 ‡", "", "0.050 ‡"]
    write_report(folder)


def test_diverged_seeds_have_a_dagger(tmp_path):
    cells = list(rows())
    for row in cells:
        if row["aggregator"] == "FedAvg" and row["attack"] == "Trim attack":
            row["diverged"] = True
            row["curve_round"] = [10, 20][: 1 + row["seed"]]
            row["curve_test_error"] = [0.8, 0.85][: 1 + row["seed"]]
            for name in [name for name in row if name.startswith("curve_")]:
                row[name] = row[name][: 1 + row["seed"]]
        if row["aggregator"] == "Krum" and row["attack"] == "Trim attack":
            row.update(diverged=True, test_error=None)
    folder = sweep(tmp_path / "diverged", cells=cells)
    results = load_results(folder)
    (table,) = tables(results)
    assert texts(table)["Trim attack"] == ["0.600 ± 0.100 †", "— †", "0.050 ± 0.000"]
    # No error at all is the worst there is.
    assert texts(table)["worst case"] == ["0.600 / 0.75 ✗ †", "— / 0.00 †", "0.060 / 0.20"]
    assert marked(table)["worst case"] == ["", "worst", "best"]
    assert "† At least one seed diverged." in caption(results, [table])
    # The seed that ended first keeps its last value.
    course = courses(results.frame, "test_error")["Trim attack", "FedAvg"]
    np.testing.assert_array_equal(course.to_numpy(), [[0.8, 0.8], [0.8, 0.85]])
    write_report(folder)


def test_one_seed_has_no_deviation_and_one_rule_no_marks(tmp_path):
    cells = [cell("FedAvg", attack, 0, error) for attack, error in (("ALIE", 0.25), ("IPM", 0.5))]
    folder = write_sweep(tmp_path / "one", {"attack": ["ALIE", "IPM"]}, cells)
    results = load_results(folder)
    (table,) = tables(results)
    assert texts(table) == {"ALIE": ["0.250"], "IPM": ["0.500"], "worst case": ["0.500"]}
    assert {mark for row in marked(table).values() for mark in row} == {""}
    assert caption(results, [table]) == (
        "Test error after the last round. The worst case is a rule's largest mean error over the attacks."
    )
    write_report(folder)


def test_no_seed_axis_and_no_axes_at_all(tmp_path):
    folder = write_sweep(tmp_path / "none", {}, [cell("Krum", "ALIE", 3, 0.25)])
    (table,) = tables(load_results(folder))
    assert texts(table) == {"ALIE": ["0.250"]}
    assert write_report(folder)


def test_further_axes_are_never_averaged_over(tmp_path):
    cells = [
        cell("Krum", attack, seed, error + 0.1 * seed, **{"attack.fraction": fraction, "data": data})
        for attack, fraction, data, error in (
            ("ALIE", 0.1, "digits", 0.1),
            ("ALIE", 0.25, "digits", 0.3),
            ("IPM", 0.1, "mnist", 0.5),
        )
        for seed in (0, 1)
    ]
    axes = {
        "attack": ["ALIE", "IPM"],
        "attack.fraction": [0.1, 0.25],
        "data": ["digits", "mnist"],
        "seed": [0, 1],
    }
    results = load_results(write_sweep(tmp_path / "axes", axes, cells))
    assert results.numeric == {"attack.fraction", "seed"}
    found = {table.title: texts(table) for table in tables(results)}
    assert list(found) == [
        "malicious clients 10 %, data digits",
        "malicious clients 10 %, data MNIST",
        "malicious clients 25 %, data digits",
    ]
    assert found["malicious clients 25 %, data digits"]["ALIE"] == ["0.350 ± 0.050"]
    assert found["malicious clients 10 %, data MNIST"]["worst case"] == ["0.550 ‡"]


def test_many_combinations_become_rows_and_then_only_csv(tmp_path):
    fractions = [round(0.05 * i, 2) for i in range(10)]
    folder = large(tmp_path / "rows", ["FedAvg", "Krum"], ["ALIE", "IPM"], 1, {"attack.fraction": fractions})
    results = load_results(folder)
    made = tables(results)
    assert [table.title for table in made] == ["ALIE", "IPM", "worst case over the attacks"]
    assert made[0].corner == "malicious clients (%)"
    assert [name for name, _ in made[0].rows] == [str(5 * i) for i in range(10)]
    wide = np.array(
        [[float(entry.text.split()[0]) for entry in row] for table in made for _, row in table.rows]
    )
    alie, ipm, worst = wide.reshape(3, 10, 2)
    np.testing.assert_array_equal(worst, np.maximum(alie, ipm))
    files = {path.name for path in write_report(folder)}
    assert {"lines_attack.fraction.png", "report.html"} <= files
    assert not any(name.startswith("comparison") for name in files)

    many = large(tmp_path / "many", ["Krum"], ["ALIE"], 1, {"a": list(range(9)), "b": list("xyz")})
    assert tables(load_results(many))
    most = large(tmp_path / "most", ["Krum"], ["ALIE"], 1, {"a": list(range(9)), "b": list("abcdefghi")})
    assert tables(load_results(most)) == rich_tables(load_results(most)) == []
    assert "table.csv has every mean" in markdown_tables(load_results(most))
    write_report(most, formats=["md", "csv"])


def test_labels_of_axes_in_their_order():
    assert [label(value) for value in (0.30000000000000004, 100, 100.0, False)] == [
        "0.3",
        "100",
        "100",
        "false",
    ]


def test_odd_labels_survive_markdown_csv_and_the_terminal(tmp_path):
    # The last one's dollars would be a formula, and a wrong one.
    rule, attack = 'A|B <b>"x"</b> [red] *y* _z', "no | attack & `c`\n$\\d$"
    folder = write_sweep(
        tmp_path / "odd",
        {"aggregator": [rule, "Krum"], "attack": [attack]},
        [cell(rule, attack), cell("Krum", attack)],
    )
    write_report(folder)
    out = folder / "report"
    first, _, line = (out / "table.md").read_text(encoding="utf-8").splitlines()[:3]
    assert first == r'| attack | A\|B \<b\>"x"\</b\> \[red\] \*y\* \_z | Krum |'
    assert line == r"| no \| attack \& \`c\` \$\\d\$ | 0.100 | 0.100 |"
    assert set(pd.read_csv(out / "results.csv")["attack"]) == {attack}
    console = Console(width=200, record=True, file=StringIO())
    for table in rich_tables(load_results(folder)):
        console.print(table)
    assert "[red] *y*" in console.export_text()
    assert escape("num_malicious=4") == "num_malicious=4"


def test_names_within_entries_and_facts_are_escaped():
    table = Table("", "rule", ["under"], [("[64, 32]", [Entry("a|b <i> $x$ {0}", "best")])])
    assert r"| \[64, 32\] | **a\|b \<i\> \$x\$ {0}** |" in markdown_table(table)
    # In LaTeX a row that begins with a bracket would be an option of the line before it.
    assert "\n{[}64, 32] & \\textbf{a\\textbar{}b " in tex_table(table, "", "x")


@pytest.mark.parametrize("name", ["leaderboard.csv", "published.csv", "choices.csv"])
def test_a_table_of_an_earlier_report_does_not_stay(tmp_path, name):
    folder = write_sweep(tmp_path / "x", {"aggregator": ["Krum"]}, [cell("Krum", "ALIE")])
    (folder / "report").mkdir()
    (folder / "report" / name).write_text("old")
    names = {path.name for path in write_report(folder, formats=["csv"])}
    assert (
        {path.name for path in (folder / "report").iterdir()}
        == names
        == {"results.csv", "table.csv", "curves.csv"}
    )


def test_the_markdown_shows_the_name_of_the_sweep_as_it_is(tmp_path):
    folder = write_sweep(tmp_path / "x", {"aggregator": ["Krum"]}, [cell("Krum", "ALIE")], name="*a* <b>|")
    (path, _) = write_report(folder, formats=["md"])
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0] == r"# \*a\* \<b\>\|"
    assert r"\*a\* \<b\>\| · " in lines[2]


def test_csv_files_hold_everything_once(demo):
    write_report(demo, formats=["csv"])
    out = demo / "report"
    results = pd.read_csv(out / "results.csv")
    assert len(results) == results["cell"].nunique() == 18
    assert not [name for name in results if name.startswith("curve_")]
    for (rule, attack), (errors, _) in NUMBERS.items():
        mine = results[(results["aggregator"] == rule) & (results["attack"] == attack)]
        assert tuple(mine.sort_values("seed")["test_error"]) == errors
    assert results["attack_success_rate"].notna().sum() == 6

    curves = pd.read_csv(out / "curves.csv")
    assert len(curves) == 18 * 4
    last = curves[
        (curves["aggregator"] == "Krum") & (curves["attack"] == "Trim attack") & (curves["seed"] == 1)
    ]
    assert list(last["round"]) == [10, 20, 30, 40]
    np.testing.assert_allclose(last["test_error"], [0.75, 0.6, 0.45, 0.3])
    assert last["trust_benign"].isna().all()

    means = pd.read_csv(out / "table.csv").set_index(["attack", "aggregator"])
    np.testing.assert_allclose(means.loc[("Trim attack", "FedAvg"), "test_error_std"], 0.1)
    assert means.loc[("worst case", "Krum"), "worst_attack"] == "Scaling attack"
    np.testing.assert_allclose(means.loc[("worst case", "Krum"), "test_error_mean"], 0.3)
    fedavg = means.loc[("worst case", "FedAvg")]
    assert (fedavg["worst_attack"], fedavg["worst_backdoor"]) == ("Trim attack", "Scaling attack")
    np.testing.assert_allclose(fedavg[["test_error_mean", "attack_success_rate_mean"]].tolist(), [0.6, 0.75])
    assert means.loc["Scaling attack", "rank"].to_dict() == {"FedAvg": 3, "Krum": 2, "FLTrust": 1}
    assert means.loc["Scaling attack", "broken"].to_dict() == {
        "FedAvg": True,
        "Krum": False,
        "FLTrust": False,
    }


def test_figures_are_images_of_a_sensible_size(demo):
    files = write_report(demo, formats=["png"])
    assert [path.name for path in files] == [
        "comparison.png",
        "heat_map.png",
    ]
    for path in files:
        with Image.open(BytesIO(path.read_bytes())) as image:
            assert min(image.size) > 200
            assert len(set(image.convert("L").resize((64, 64)).tobytes())) > 5
    assert not list((demo / "report").glob(".*"))


def test_one_run_without_attack_is_a_line_in_every_panel(tmp_path):
    cells = [
        cell("FLTrust", attack, error=share, **{"attack.fraction": share})
        for attack in ("Trim attack", "Krum attack")
        for share in (0.1, 0.4)
    ]
    cells.append(cell("FedAvg", "no attack", error=0.25, **{"attack.fraction": 0.0}))
    axes = {
        "aggregator": ["FLTrust", "FedAvg"],
        "attack": ["Trim attack", "Krum attack", "no attack"],
        "attack.fraction": [0.1, 0.4, 0.0],
    }
    results = load_results(write_sweep(tmp_path / "fraction", axes, cells))
    figure = over_axis(results, summarize(results), None, "attack.fraction", "title", "facts")
    panels = [panel for panel in figure.axes if panel.get_visible()]
    assert [panel.get_title() for panel in panels] == ["Trim attack", "Krum attack"]
    assert {panel.get_xlabel() for panel in panels} == {"malicious clients (%)"}
    for panel in panels:
        rule, reference = panel.get_lines()
        assert rule.get_label() == "FLTrust"
        np.testing.assert_allclose(rule.get_xdata(), [0, 10, 40])
        assert set(reference.get_ydata()) == {0.25}


def test_lines_for_each_numeric_axis(tmp_path):
    folder = large(
        tmp_path / "lines",
        ["FedAvg", "Krum"],
        ["ALIE", "IPM"],
        2,
        {"root.size": [10, 1000], "server.lr": [0.1, 1.0]},
    )
    names = {path.name for path in write_report(folder, formats=["png"])}
    lines = {f"lines_{axis}_{i}.png" for axis in ("root.size", "server.lr") for i in (1, 2)}
    assert {name for name in names if name.startswith("lines")} == lines
    assert {f"comparison_{i}.png" for i in (1, 2, 3, 4)} <= names


def test_columns_of_nulls(tmp_path):
    cells = [
        row
        | {"attack_success_rate": None, "rounds_per_second": None, "device": None, "curve_test_error": None}
        for row in rows()
    ]
    folder = sweep(tmp_path / "nulls", cells=cells)
    assert summarize(load_results(folder))["attack_success_rate_mean"].isna().all()
    write_report(folder)


def test_the_worst_case_is_of_each_combination(tmp_path):
    cells = [
        cell("Krum", attack, 0, error, **{"root.size": size})
        for size, attack, error in ((10, "ALIE", 0.2), (10, "IPM", 0.4), (50, "ALIE", 0.6), (50, "IPM", 0.5))
    ]
    axes = {"attack": ["ALIE", "IPM"], "root.size": [10, 50]}
    results = load_results(write_sweep(tmp_path / "worst", axes, cells))
    found = worst_cases(results, summarize(results))
    assert list(found["worst_attack"]) == ["IPM", "ALIE"]
    assert list(found["complete"]) == [True, True]
    assert found["worst_backdoor"].isna().all()


def test_one_attack_over_an_axis_is_one_table(tmp_path):
    shares = [0.4, 0.1, 0.25]
    folder = large(tmp_path / "one", ["FedAvg", "Krum"], ["ALIE"], 2, {"attack.fraction": shares})
    (table,) = tables(load_results(folder))
    assert (table.title, table.corner) == ("ALIE", "malicious clients (%)")
    assert [name for name, _ in table.rows] == ["10", "25", "40"]
    # The lines say most, and come first.
    write_report(folder, formats=["md", "png"])
    text = (folder / "report" / "report.md").read_text(encoding="utf-8")
    order = [text.index(part) for part in ("(lines_attack.fraction.png)", "| 10 |", "(heat_map.png)")]
    assert order == sorted(order)


def test_many_rules_are_rows(tmp_path):
    rules = [f"rule {i}" for i in range(26)]
    folder = large(tmp_path / "rules", rules, ["ALIE", "IPM"], 1, {})
    (table,) = tables(load_results(folder))
    assert table.corner == "rule"
    assert table.columns == ["ALIE", "IPM", "worst case"]
    assert [name for name, _ in table.rows] == rules
    # Best and worst still are of an attack, which now is a column.
    for i in range(3):
        assert [row[i].mark for _, row in table.rows].count("best") >= 1
    lines = markdown_tables(load_results(folder)).splitlines()
    assert len([line for line in lines if line.startswith("| rule ")]) == 1 + 26


def test_names_of_axes_may_hold_anything(tmp_path):
    axis = "a/../../b\\c=*"
    folder = large(tmp_path / "sweep" / "inner", ["Krum"], ["ALIE", "IPM"], 1, {axis: [1, 2], "a_": [1, 2]})
    files = write_report(folder)
    assert {"report.html", "results.csv", "heat_map.png"} < {path.name for path in files}
    assert all(path.parent == folder / "report" and path.is_file() for path in files)
    assert len(set(files)) == len(files)
    assert {path.name for path in tmp_path.iterdir()} == {"sweep"}


def test_a_spreadsheet_calculates_nothing(tmp_path):
    labels = ["=1+1", "+1+1", "-a", "@SUM(A1)", "Krum"]
    cells = [cell(rule, "ALIE", error=0.1, **{"=axis": value}) for rule in labels for value in (-1.5, 2.5)]
    axes = {"aggregator": labels, "attack": ["ALIE"], "=axis": [-1.5, 2.5]}
    folder = write_sweep(tmp_path / "formulas", axes, cells)
    write_report(folder, formats=["csv"])
    for name in ("results", "table", "curves"):
        table = pd.read_csv(folder / "report" / f"{name}.csv")
        assert set(table["aggregator"]) == {"'=1+1", "'+1+1", "'-a", "'@SUM(A1)", "Krum"}
        assert "'=axis" in table
    # Numbers are numbers.
    numbers = pd.read_csv(folder / "report" / "results.csv")
    assert set(numbers["'=axis"]) == {-1.5, 2.5}


RUN_LINES = [
    {
        "round": round_,
        "test_error": error,
        "attack_success_rate": None,
        "trust_benign": trust,
        "diverged": 0,
        "seconds": seconds,
    }
    for round_, error, trust, seconds in ((10, 0.5, 0.25, 1.0), (20, 0.125, 0.5, 1.5))
]


def run_folder(folder, lines=RUN_LINES, finished=True, end="\n"):
    folder.mkdir()
    config = parse_config(
        {
            "rounds": 40,
            "num_clients": 20,
            "aggregator": {"name": "fltrust"},
            "attack": {"name": "trim_attack"},
        }
    )
    (folder / "config.json").write_text(json.dumps(config.resolved()), encoding="utf-8")
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + end, encoding="utf-8")
    if finished:
        summary = {"clients": {"num_clients": 20, "num_malicious": 4}, "device": "cpu"}
        (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    return folder


def test_a_run_has_a_report(tmp_path):
    folder = run_folder(tmp_path / "mine")
    names = {path.name for path in write_report(folder)}
    assert names == {
        *("report.md", "table.md", "report.html", "curves.png"),
        *("results.csv", "table.csv", "curves.csv"),
    }
    text = (folder / "report" / "report.md").read_text(encoding="utf-8")
    assert "| Trim attack | 0.125 |" in text
    assert "20 of 40 rounds." in text
    curves = pd.read_csv(folder / "report" / "curves.csv")
    assert curves["test_error"].tolist() == [0.5, 0.125]
    assert curves["trust_benign"].tolist() == [0.25, 0.5]
    # One under way: a line half written does not count.
    folder = run_folder(tmp_path / "going", finished=False, end='\n{"round": 3')
    assert "missing so far" in state(load_results(folder))
    assert load_results(folder).frame["test_error"].tolist() == [0.125]


def test_a_folder_whose_name_is_no_text_has_a_report(tmp_path):
    folder = run_folder(tmp_path / os.fsdecode(b"r\xff"))
    (path, _) = write_report(folder, formats=["md"])
    assert path.read_text(encoding="utf-8").startswith("# r\ufffd\n")


def test_a_runs_lines_that_were_changed_or_have_gone_are_found(tmp_path):
    digest, lines = "", []
    for line in RUN_LINES:
        digest = chained(digest, line)
        lines.append(line | {"check": digest})
    assert load_results(run_folder(tmp_path / "good", lines)).frame["test_error"].tolist() == [0.125]
    for name, damaged in (("changed", [lines[0] | {"test_error": 0.25}, lines[1]]), ("gone", lines[1:])):
        folder = run_folder(tmp_path / name, damaged)
        with pytest.raises(DataError, match="line 1 is not what the run wrote"):
            load_results(folder)
    folder = run_folder(tmp_path / "cut", lines[:1])
    (folder / "summary.json").write_text('{"rounds": 20}', encoding="utf-8")
    with pytest.raises(DataError, match="it ends at round 10 of 20"):
        load_results(folder)


@pytest.mark.parametrize("line", [5, None, {"a": 1}, {"round": None}, {"round": "x"}, [1], {"round": 1e400}])
def test_a_runs_lines_of_another_shape_are_one_sentence(tmp_path, line):
    folder = run_folder(tmp_path / "odd", [RUN_LINES[0], line])
    with pytest.raises(DataError, match="line 2 is not "):
        write_report(folder)
    assert not (folder / "report").exists()


def test_a_run_without_results_is_one_sentence(tmp_path):
    with pytest.raises(DataError, match="no results yet"):
        load_results(run_folder(tmp_path / "empty", [], end=""))
    folder = run_folder(tmp_path / "none")
    (folder / "metrics.jsonl").unlink()
    with pytest.raises(DataError, match="is a run's folder without results yet"):
        load_results(folder)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"axes": {"aggregator": 3}}, "axes.aggregator is no list"),
        ({"axes": {"aggregator": [{}]}}, "axes.aggregator is no list"),
        ({"axes": {"aggregator": [10**400]}}, "sweep.json is damaged: it is not JSON"),
        ({"axes": {"aggregator": [float("inf")]}}, "sweep.json is damaged: it is not JSON"),
        ({"cells": -1}, "cells = -1"),
        ({"cells": True}, "cells = True"),
        ({"axes": []}, "needs name, axes and cells"),
    ],
)
def test_a_sweeps_description_of_another_shape_is_one_sentence(demo, changes, sentence):
    about = json.loads((demo / "sweep.json").read_text(encoding="utf-8"))
    (demo / "sweep.json").write_text(json.dumps(about | changes), encoding="utf-8")
    with pytest.raises(DataError, match=sentence):
        write_report(demo)


@pytest.mark.parametrize(
    ("column", "values", "sentence"),
    [
        ("test_error", "much", "test_error does not hold numbers"),
        ("seed", "one", "seed does not hold numbers"),
        ("curve_test_error", "0.1", "curve_test_error does not hold lists of numbers"),
        ("curve_test_error", [0.1, 0.2], "curve_test_error are not as long as those in curve_round"),
    ],
)
def test_columns_of_another_kind_are_one_sentence(demo, column, values, sentence):
    frame = pd.read_parquet(demo / "results.parquet")
    frame[column] = [values] * len(frame)
    frame.to_parquet(demo / "results.parquet")
    with pytest.raises(DataError, match=sentence):
        write_report(demo)


def damaged(folder, what):
    if what == "nothing":
        return folder / "nowhere"
    sweep(folder, cells=list(rows()))
    if what == "no json":
        (folder / "sweep.json").unlink()
    elif what == "bad json":
        (folder / "sweep.json").write_text("{", encoding="utf-8")
    elif what == "foreign json":
        (folder / "sweep.json").write_text(json.dumps({"name": 3}), encoding="utf-8")
    elif what == "no results":
        (folder / "results.parquet").unlink()
    elif what == "no parquet":
        (folder / "results.parquet").write_bytes(b"cell,aggregator\n")
    elif what == "no column":
        pd.DataFrame({"cell": ["a"]}).to_parquet(folder / "results.parquet")
    elif what == "no cells":
        pd.read_parquet(folder / "results.parquet").head(0).to_parquet(folder / "results.parquet")
    return folder


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("nothing", "is neither a sweep's folder nor a run's: it has no sweep.json"),
        ("no json", "is neither a sweep's folder nor a run's: it has no sweep.json"),
        ("bad json", "is damaged: it is not JSON"),
        ("foreign json", "is not of a sweep: it needs name, axes and cells"),
        ("no results", "has no results yet: results.parquet is missing"),
        ("no parquet", "cannot be read as Parquet"),
        ("no column", "lacks the columns aggregator, attack"),
        ("no cells", "has no results yet: no cell is done"),
    ],
)
def test_other_folders_are_one_sentence(tmp_path, what, sentence):
    folder = damaged(tmp_path / "x", what)
    with pytest.raises(DataError, match=sentence):
        write_report(folder)
    assert not (folder / "report").exists()


def test_unknown_formats_and_files_in_the_way(demo, tmp_path):
    with pytest.raises(ConfigError, match=r"unknown format 'htm'; did you mean 'html'\?"):
        write_report(demo, formats=["htm"])
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match="cannot use .*file as a folder"):
        write_report(demo, tmp_path / "file")


def test_the_command(demo, tmp_path, monkeypatch, capsys):
    report = command(monkeypatch, capsys, "report")
    result = report(demo, "--out", tmp_path / "out", "--format", "md", "--format", "csv")
    assert result.status == 0, result.err
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "report.md",
        "table.md",
        "results.csv",
        "table.csv",
        "curves.csv",
    }
    assert "0.600 ± 0.100" in result.out
    result = report(tmp_path)
    assert result.status == 2
    said = f"{tmp_path} is neither a sweep's folder nor a run's: it has no sweep.json; {demo} is one"
    assert result.err == f"fljax: {said}\n"
