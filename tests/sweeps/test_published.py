"""Published numbers beside one's own: which cell is which, what differs, what is said."""

import copy
import json
from io import StringIO
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from fljax.attacks import ATTACKS
from fljax.config.loading import apply_overrides, merge, read_toml
from fljax.config.schema import parse_config
from fljax.errors import ConfigError, DataError
from fljax.report import load_results, places, rich_tables, write_report
from fljax.report.comparison import compare
from fljax.sweeps import make_sweep, sweep
from fljax.sweeps.published import published, read_published
from tests.support.sweep_folders import cell, write_sweep

PAPER = Path(__file__).parents[2] / "configs" / "paper"
RULES = {"FedAvg": {"name": "mean"}, "Krum": {"name": "krum", "num_malicious": "actual"}}
ATTACK_TABLES = {
    "no attack": {"name": "none"},
    "Scaling attack": {"name": "scaling_attack"},
    "Adaptive attack (default)": {"name": "fltrust_attack"},
    "Adaptive attack (search=optimum)": {"name": "fltrust_attack", "search": "optimum"},
}
# Of "table3_uci_har": FedAvg 0.03 M, 0.04/0.81 L, 0.04 L; Krum 0.12 M, 0.10/0.03 L, 0.19 L.
MEASURED = {
    ("FedAvg", "no attack"): ([0.05, 0.07], None),
    ("FedAvg", "Scaling attack"): ([0.04, 0.04], [0.5, 0.5]),
    ("FedAvg", "Adaptive attack (default)"): ([0.5, 0.5], None),
    ("FedAvg", "Adaptive attack (search=optimum)"): ([0.9, 0.9], None),
    ("Krum", "no attack"): ([0.20, 0.22], None),
    ("Krum", "Scaling attack"): ([0.10, 0.12], [0.0, 0.04]),
}


def config(rule, attack, **others):
    values = {"aggregator": RULES[rule], "attack": ATTACK_TABLES[attack], **others}
    return json.dumps(parse_config(values).resolved())


def write(folder, **given):
    rows = [
        cell(rule, attack, seed, errors[seed], successes and successes[seed], config=config(rule, attack))
        for (rule, attack), (errors, successes) in MEASURED.items()
        for seed in (0, 1)
    ]
    axes = {"aggregator": list(RULES), "attack": list(ATTACK_TABLES), "seed": [0, 1]}
    return write_sweep(folder, axes, rows, **given)


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "demo", sweep={"published": "table3_uci_har"})


def test_the_papers_layout_with_both_numbers(folder):
    (table,) = compare(places(load_results(folder))).tables
    assert table.title == "Table III (e): logistic regression, UCI HAR"
    assert table.columns == ["FedAvg", "Krum", "Trim-mean", "Median", "FLTrust"]
    rows = {name: [entry.text for entry in entries[:3]] for name, entries in table.rows}
    # 0.06 and 0.03 are 0.03 apart, and what was not run is missing.
    assert rows["no attack"] == ["0.060 (0.03 M)", "0.210 (0.12 M) ≠", "– (0.04 M)"]
    assert rows["Scaling attack"] == [
        "0.040 / 0.50 ✗ (0.04 / 0.81 L) ≠",
        "0.110 / 0.02 (0.10 / 0.03 L)",
        "– (0.04 / 0.36 L)",
    ]
    # The published adaptive attack, not the optimum of its search.
    assert rows["Adaptive attack"][0] == "0.500 (0.04 L) ≠"
    assert list(rows)[1] == "Label flipping"


def test_the_caption_counts_by_confidence(folder):
    text = compare(places(load_results(folder))).caption
    assert "Within 0.03: 1 of 2 with M, 1 of 3 with L." in text
    assert text.endswith("25 cells (–) are not there.")


def test_every_kind_of_report_shows_it(folder):
    files = {path.name: path for path in write_report(folder)}
    markdown = files["report.md"].read_text(encoding="utf-8")
    assert "| no attack | 0.060 (0.03 M) | **0.210 (0.12 M) ≠** |" in markdown
    html = files["report.html"].read_text(encoding="utf-8")
    assert "Beside published numbers" in html
    assert '<td class="differs">0.210 (0.12 M) ≠</td>' in html
    table = pd.read_csv(files["published.csv"])
    line = table[(table.attack == "Scaling attack") & (table.column == "FedAvg")].iloc[0]
    assert line.differs
    assert (line.test_error, line.published_attack_success_rate, line.seeds) == (0.04, 0.81, 2)
    text = StringIO()
    results = load_results(folder)
    for table in rich_tables(results, places(results)):
        Console(file=text, width=160).print(table)
    assert "0.210 (0.12 M) ≠" in text.getvalue()


def test_without_published_numbers_the_report_is_as_it_was(tmp_path):
    folder = write(tmp_path / "demo")
    files = {path.name: path for path in write_report(folder)}
    assert "published.csv" not in files
    assert "Beside published numbers" not in files["report.html"].read_text(encoding="utf-8")
    # The caller may name one.
    assert len(places(load_results(folder), ["table3_uci_har"])) == 30


def test_other_axes_have_a_table_each_and_those_of_the_columns_none(tmp_path):
    rows = [
        cell(
            "FLTrust",
            seed=0,
            error=bias / 10,
            config=json.dumps(
                parse_config({"aggregator": {"name": "fltrust"}, "root": {"bias": bias}}).resolved()
            ),
            **{"root.bias": bias, "num_clients": n},
        )
        for bias in (0.1, 1.0)
        for n in (50, 100)
    ]
    axes = {
        "aggregator": ["FLTrust"],
        "attack": ["no attack"],
        "root.bias": [0.1, 1.0],
        "num_clients": [50, 100],
    }
    results = load_results(write_sweep(tmp_path / "bias", axes, rows))
    first, second = compare(places(results, ["table5"])).tables
    assert first.title.endswith("; clients 50")
    assert second.title.endswith("; clients 100")
    name, entries = first.rows[0]
    assert (name, entries[0].text, entries[5].text) == ("no attack", "0.010 (0.05 L) ≠", "0.100 (0.80 L) ≠")


def test_more_tables_than_anybody_reads_are_left_to_the_csv(tmp_path):
    counts = list(range(10, 20))
    text = config("FedAvg", "no attack")
    rows = [cell(seed=0, error=0.5, config=text, num_clients=n) for n in counts]
    axes = {"aggregator": ["FedAvg"], "attack": ["no attack"], "num_clients": counts}
    folder = write_sweep(tmp_path / "many", axes, rows)
    found = places(load_results(folder), ["table3_mnist_0.1", "table3_uci_har"])
    few = [place for place in found if place.table == "table3_uci_har"][:30]
    assert compare(found).tables == []
    assert len(compare([*few, *found[:300]]).tables) == 1
    files = {path.name: path for path in write_report(folder, published="table3_mnist_0.1")}
    assert "The 10 tables beside table3_mnist_0.1 are too many to be shown; published.csv has them." in files[
        "table.md"
    ].read_text(encoding="utf-8")
    assert pd.read_csv(files["published.csv"]).title.nunique() == 10


def test_a_diverged_cell_differs(tmp_path):
    axes = {"aggregator": ["FedAvg"], "attack": ["no attack"], "seed": [0]}
    rows = [cell(error=float("nan"), config=config("FedAvg", "no attack"))]
    found = places(load_results(write_sweep(tmp_path / "nan", axes, rows)), ["table3_mnist_0.1"])
    assert compare(found).tables[0].rows[0][1][0].text == "— (0.04 H) ≠"


def one(folder, configs, **columns):
    """A folder with a row per configuration, seed by seed."""
    rows = [
        cell(
            f"rule {i}", f"attack {i}", error=i / 10, config=json.dumps(parse_config(c).resolved()), **columns
        )
        for i, c in enumerate(configs)
    ]
    return write_sweep(
        folder, {"aggregator": [r["aggregator"] for r in rows], "attack": ["x"]}, rows, total=9
    )


def test_only_the_rule_and_the_attack_itself_have_a_place(tmp_path):
    others = [
        {"aggregator": {"name": "median", "pre": [{"name": "nnm", "num_malicious": 1}]}},
        {"aggregator": {"name": "krum", "num_malicious": 1, "power": 1}},
        {"aggregator": {"name": "median"}, "attack": {"name": "trim_attack", "fraction": 0.4}},
        {"aggregator": {"name": "median"}, "attack": {"name": "trim_attack", "stretch": 3.0}},
        {
            "aggregator": {"name": "median"},
            "attack": {"name": "trim_attack", "schedule": {"name": "between", "first": 1}},
        },
        {"aggregator": {"name": "mean"}, "attack": {"name": "none", "fraction": 0.4}},
        {"aggregator": {"name": "mean"}, "attack": {"name": "none"}},
    ]
    found = places(load_results(one(tmp_path / "others", others)), "table3_mnist_0.5")
    assert [(p.attack, p.column) for p in found if p.seeds] == [("no attack", "FedAvg")]


def test_nothing_but_seeds_is_averaged(tmp_path):
    twice = [{"aggregator": {"name": "krum", "num_malicious": m}} for m in (1, 2)]
    folder = one(tmp_path / "twice", twice)
    with pytest.raises(ConfigError, match="rule 0 and rule 1 would both be in the column Krum"):
        places(load_results(folder), ["table3_mnist_0.5"])


def test_what_is_missing_or_diverged_is_said(tmp_path):
    axes = {"aggregator": ["FedAvg"], "attack": ["no attack"], "seed": [0, 1]}
    rows = [cell(seed=0, config=config("FedAvg", "no attack"), diverged=True)]
    found = places(load_results(write_sweep(tmp_path / "part", axes, rows)), ["table3_mnist_0.5"] * 2)
    assert len(found) == 30  # named twice, compared once
    assert compare(found).tables[0].rows[0][1][0].text == "0.100 † ‡ (0.04 M) ≠"
    assert "† At least one seed diverged. ‡ Not all seeds are there yet." in compare(found).caption


def test_a_report_without_comparison_leaves_no_old_one(folder):
    files = write_report(folder, formats=["csv"], published=["table4"])
    assert any(path.name == "published.csv" for path in files)
    (folder / "sweep.json").write_text((folder / "sweep.json").read_text().replace('"table3_uci_har"', "[]"))
    write_report(folder, formats=["csv"])
    assert not (folder / "report" / "published.csv").exists()


def test_published_tables_may_be_named_later(tmp_path):
    base = {"rounds": 2, "eval_every": 2, "num_clients": 4, "model": {"name": "logistic_regression"}}
    sweep(make_sweep(base, {"seeds": 1}), tmp_path / "out")
    later = make_sweep(base, {"seeds": 1, "published": "table4"})
    assert len(sweep(later, tmp_path / "out", resume=True)) == 1


def test_mistakes_are_one_sentence(folder, tmp_path):
    with pytest.raises(ConfigError, match="unknown published table 'table3_har'.*table3_uci_har"):
        write_report(folder, published=["table3_har"])
    assert not (folder / "report").exists()
    with pytest.raises(ConfigError, match="unknown published table 'table9'"):
        make_sweep({"num_clients": 10}, {"published": ["table9"], "seeds": 2})
    axes = {"aggregator": ["FedAvg"], "attack": ["no attack"], "seed": [0]}
    row = cell()
    del row["config"]
    results = load_results(write_sweep(tmp_path / "old", axes, [row]))
    with pytest.raises(DataError, match="do not hold their configurations"):
        places(results, ["table4"])
    for text in ("{", "[]", None):
        results = load_results(write_sweep(tmp_path / "bad", axes, [cell(), cell(seed=1, config=text)]))
        with pytest.raises(DataError, match="do not hold their configurations"):
            places(results, "table4")
    for given in (3, None, [1]):
        results = load_results(write_sweep(tmp_path / "bad", axes, [cell()], sweep={"published": given}))
        with pytest.raises(DataError, match=r"sweep\.published in sweep\.json is no list of names"):
            places(results)


@pytest.mark.parametrize("name", list(read_published()))
def test_every_published_table_is_whole(name):
    table = published(name)
    assert table.rows
    for attack, values in table.rows.items():
        assert attack in ("none", *ATTACKS)
        assert len(values) == len(table.columns)
        for value in filter(None, values):
            assert 0 <= value.test_error <= 1
            assert value.confidence in ("H", "M", "L")
            assert (value.attack_success_rate is None) == (attack != "scaling_attack")


@pytest.mark.parametrize(
    "name", ["table3_uci_har", "table4_uci_har", "table5_mnist_0.5", "table6_mnist_0.5", "table3_cifar10"]
)
def test_every_place_of_a_table_has_a_cell_in_the_papers_configuration(name):
    values = read_toml(PAPER / f"{name}.toml")
    table = values.pop("sweep")
    cells = make_sweep(values, table).cells
    names = [table["published"]] if isinstance(table["published"], str) else table["published"]
    beside = published(names[0])
    known = [place for c in cells if (place := beside.place(c.config.resolved())) is not None]
    assert set(known) == {(r, c) for r in beside.rows for c in beside.columns}
    # One cell each: nothing is averaged but seeds.
    assert len(known) == len(set(known))


def test_a_configuration_extends_another(tmp_path):
    (tmp_path / "base.toml").write_text(
        'rounds = 7\nroot = { size = 9, bias = 0.5 }\nmodel = { name = "cnn" }\n'
    )
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "mine.toml").write_text(
        'extends = "../base.toml"\nroot.size = 5\nmodel = { name = "mlp" }\n[sweep]\nseeds = 2\n'
    )
    assert read_toml(tmp_path / "sub" / "mine.toml") == {
        "rounds": 7,
        "root": {"size": 5, "bias": 0.5},
        "model": {"name": "mlp"},
        "sweep": {"seeds": 2},
    }
    (tmp_path / "loop.toml").write_text('extends = "loop.toml"')
    with pytest.raises(ConfigError, match=r"loop\.toml extends itself$"):
        read_toml(tmp_path / "loop.toml")
    (tmp_path / "bad.toml").write_text("extends = 3")
    with pytest.raises(ConfigError, match=r"bad\.toml: extends must be the name of a file, got 3$"):
        read_toml(tmp_path / "bad.toml")
    (tmp_path / "gone.toml").write_text('extends = "nowhere.toml"')
    with pytest.raises(
        ConfigError, match=r"cannot read configuration file .*nowhere\.toml, which gone\.toml extends: "
    ):
        read_toml(tmp_path / "gone.toml")
    (tmp_path / "zero.toml").write_text('extends = "a\\u0000b.toml"')
    with pytest.raises(ConfigError, match="cannot read configuration file .*null"):
        read_toml(tmp_path / "zero.toml")
    (tmp_path / "round.toml").symlink_to(tmp_path / "round.toml")
    with pytest.raises(ConfigError, match="cannot read configuration file"):
        read_toml(tmp_path / "round.toml")


@pytest.mark.parametrize(
    ("dotted", "above"),
    [
        ({"attack.name": "sign_flip"}, {"attack": {"name": "sign_flip"}}),
        ({"attack.name": "trim_attack"}, {"attack": {"name": "trim_attack"}}),
        (
            {"attack.factor": 2.0, "attack.name": "sign_flip"},
            {"attack": {"factor": 2.0, "name": "sign_flip"}},
        ),
        ({"attack.stretch": 1.0}, {"attack": {"stretch": 1.0}}),
        ({"data.name": "digits"}, {"data": {"name": "digits"}}),
        ({"model.name": "mlp"}, {"model": {"name": "mlp"}}),
        ({"local.optimizer.name": "adam"}, {"local": {"optimizer": {"name": "adam"}}}),
        ({"local.learning_rate": 0.1}, {"local": {"learning_rate": 0.1}}),
        ({"aggregator.pre": [{"name": "nnm"}]}, {"aggregator": {"pre": [{"name": "nnm"}]}}),
        (
            {"server.learning_rate": 2.0, "seeds.data": 1},
            {"server": {"learning_rate": 2.0}, "seeds": {"data": 1}},
        ),
    ],
)
def test_extending_and_setting_are_one_rule(dotted, above):
    below = {
        "data": {"name": "mnist", "dir": "here", "split": 1},
        "attack": {"name": "trim_attack", "stretch": 3.0, "fraction": 0.4, "schedule": {"name": "always"}},
        "model": {"name": "cnn", "width": 2},
        "local": {"optimizer": {"name": "sgd", "momentum": 0.9}, "learning_rate": {"name": "x", "rate": 1}},
        "aggregator": {"name": "krum", "pre": [{"name": "clip", "radius": 1.0}]},
    }
    before = copy.deepcopy(below)
    assert merge(below, above) == apply_overrides(below, dotted)
    assert below == before


def test_the_values_of_an_axis_are_one_value():
    below, above = {"axes": {"seed": {"range": [0, 2, 1]}}}, {"axes": {"seed": {"linspace": [0, 1, 2]}}}
    assert merge(below, above) == above
