"""The [sweep] table: from axes to cells, and every wrong table as one sentence."""

import datetime
import hashlib
import json
import math
import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fljax.aggregators import RULES
from fljax.attacks import ATTACKS
from fljax.config import keys
from fljax.config.schema import LATER, WITHOUT_EFFECT, jsonable, parse_config
from fljax.errors import ConfigError
from fljax.host.limits import Limit
from fljax.sweeps import known, load_sweep, make_plan, make_sweep
from fljax.sweeps.presets import PRESETS

BASE = {
    "num_clients": 10,
    "data": {"name": "synthetic", "num_train": 200, "num_test": 50},
    "model": {"name": "logistic_regression"},
    "aggregator": {"name": "trimmed_mean", "trim": 1},
    "attack": {"name": "sign_flip", "fraction": 0.2},
}


def cells(table, base=BASE):
    return make_sweep(base, table).cells


def column(table, key, base=BASE):
    return [cell.axes[key] for cell in cells(table, base)]


# --- axes --------------------------------------------------------------------------------------------


def test_axes_multiply_in_the_order_of_the_table_seeds_last():
    table = {"seeds": 2, "axes": {"aggregator.trim": [1, 2], "attack.fraction": [0.0, 0.3]}}
    sweep = make_sweep(BASE, table, name="mine")
    found = [
        (c.config.aggregator.parameters["trim"], c.config.attack.fraction, c.config.seed) for c in sweep.cells
    ]
    assert found == [(t, f, s) for t in (1, 2) for f in (0.0, 0.3) for s in (0, 1)]
    assert [cell.number for cell in sweep.cells] == list(range(8))
    assert len({cell.id for cell in sweep.cells}) == 8
    assert sweep.axes["aggregator.trim"] == [1, 2]
    assert sweep.axes["seed"] == [0, 1]
    assert list(sweep.axes)[-1] == "seed"
    assert sweep.name == "mine"


@pytest.mark.parametrize(
    ("spec", "values"),
    [
        ({"range": [1, 4]}, [1, 2, 3]),
        ({"range": [0, 10, 5]}, [0, 5]),
        ({"range": [0.1, 0.4, 0.1]}, [0.1, 0.2, 0.3]),
        ({"range": [5, 6, 0.25]}, [5.0, 5.25, 5.5, 5.75]),
        ({"linspace": [0.1, 0.5, 5]}, [0.1, 0.2, 0.3, 0.4, 0.5]),
        ({"linspace": [0.5, 0.1, 2]}, [0.5, 0.1]),
        ({"linspace": [20, 100, 3]}, [20, 60, 100]),
        ({"linspace": [0, 1, 3]}, [0.0, 0.5, 1.0]),
        ({"linspace": [7, 7, 1]}, [7]),
        ({"logspace": [0.001, 0.1, 3]}, [0.001, 0.01, 0.1]),
        ({"logspace": [1, 100, 3]}, [1, 10, 100]),
        ([3, 1, 2], [3, 1, 2]),
    ],
)
def test_values_of_an_axis(spec, values):
    # A parameter takes whatever it is given until it meets its function.
    shown = column({"axes": {"aggregator.trim": spec}}, "aggregator.trim")
    assert shown == values
    assert [type(value) for value in shown] == [type(value) for value in values]


def test_whole_ranges_fit_keys_of_whole_numbers():
    sizes = [c.config.root.size for c in cells({"axes": {"root.size": {"linspace": [20, 100, 5]}}})]
    assert sizes == [20, 40, 60, 80, 100]


@settings(max_examples=50, deadline=None)
@given(
    start=st.integers(-50, 50),
    count=st.integers(1, 40),
    step=st.sampled_from([0.1, 0.25, 0.3, 1e-3, 2.5, 7]),
)
def test_a_range_has_the_values_that_were_meant(start, count, step):
    spec = {"range": [start, start + count * step, step]}
    assert column({"axes": {"aggregator.trim": spec}}, "aggregator.trim") == pytest.approx(
        [start + i * step for i in range(count)], rel=1e-9, abs=1e-9
    )


@pytest.mark.parametrize(
    "axes",
    [{"local.learning_rate": [0.1, 0.2]}, {"local": {"learning_rate": [0.1, 0.2]}}],
    ids=["quoted", "nested"],
)
def test_a_key_may_be_quoted_or_nested(tmp_path, axes):
    found = cells({"axes": axes})
    assert [cell.config.local.learning_rate for cell in found] == [0.1, 0.2]
    assert [cell.axes["local.learning_rate"] for cell in found] == [0.1, 0.2]


def test_nested_keys_in_a_file(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(
        """
num_clients = 10
[sweep]
zip = [{ local.steps = [1, 2], local.batch_size = ["full", 8] }]
exclude = [{ local.steps = 2, root.size = 50 }]
include = [{ local.optimizer.name = "adam", local.optimizer.b1 = 0.5 }]
[sweep.axes]
root.size = { linspace = [50, 100, 2] }
attack = ["none", { name = "scale", factor = 3 }]
"""
    )
    sweep = load_sweep(file)
    assert sweep.name == "mine"
    points = [
        (c.config.attack.name, c.config.root.size, c.config.local.steps, c.config.local.batch_size)
        for c in sweep.cells
    ]
    first = [
        ("none", 50, 1, "full"),
        ("none", 100, 1, "full"),
        ("none", 100, 2, 8),
        ("scale", 50, 1, "full"),
        ("scale", 100, 1, "full"),
        ("scale", 100, 2, 8),
    ]
    assert sorted(points[:6]) == sorted(first)
    assert sweep.cells[6].config.local.optimizer.model_dump() == {"name": "adam", "b1": 0.5}
    assert len(points) == 7
    values = tomllib.loads(file.read_text())
    assert load_sweep(values)[1:] == sweep[1:]
    assert values == tomllib.loads(file.read_text()), "what is given is left alone"
    changed = load_sweep(file, {"sweep.axes.local.steps": [3], "sweep.zip": [], "sweep.exclude": []})
    assert changed.axes["local.steps"] == [3, 1]


def test_columns_that_go_together():
    table = {
        "zip": [{"attack.fraction": [0.1, 0.2, 0.2], "aggregator.trim": [1, 1, 2]}],
        "axes": {"local.steps": [1, 2]},
    }
    found = [
        (c.axes["attack.fraction"], c.axes["aggregator.trim"], c.axes["local.steps"]) for c in cells(table)
    ]
    assert sorted(found) == [(f, t, s) for f, t in [(0.1, 1), (0.2, 1), (0.2, 2)] for s in (1, 2)]


def test_components_as_axes_keep_what_every_table_of_their_kind_has():
    table = {"axes": {"attack": ["none", {"name": "alie", "z": 2.0}], "aggregator": ["median"]}}
    found = cells(table)
    assert [cell.config.attack.model_dump(exclude_none=True) for cell in found] == [
        {"name": "none", "fraction": 0.2},
        {"name": "alie", "fraction": 0.2, "z": 2.0},
    ]
    assert all(cell.config.aggregator.parameters == {} for cell in found)


def test_a_key_may_point_into_a_list():
    base = BASE | {
        "aggregator": {"name": "median", "pre": [{"name": "clip", "radius": 1.0}]},
        "attack": {"name": "worst_case", "attacks": [{"name": "alie", "z": 1.0}, {"name": "sign_flip"}]},
    }
    found = cells({"axes": {"aggregator.pre.0.radius": [2.0, 3.0], "attack.attacks.0.z": [0.5]}}, base)
    assert [cell.config.aggregator.pre[0].parameters for cell in found] == [{"radius": 2.0}, {"radius": 3.0}]
    assert found[0].config.attack.parameters["attacks"] == [{"name": "alie", "z": 0.5}, {"name": "sign_flip"}]
    assert found[0].axes["aggregator.pre.0.radius"] == 2.0
    assert base["attack"]["attacks"][0]["z"] == 1.0


def test_seeds_are_counted_up_from_the_run_s_or_listed():
    assert column({"seeds": 3}, "seed", BASE | {"seed": 5}) == [5, 6, 7]
    assert column({"seeds": [4, 1]}, "seed") == [4, 1]
    assert column({"axes": {"seed": [4, 1]}}, "seed") == [4, 1]
    # A seed of its own stays where it is.
    found = cells({"seeds": 2}, BASE | {"seeds": {"data": 9}})
    assert [(c.config.seed_for("data"), c.config.seed_for("train")) for c in found] == [(9, 0), (9, 1)]


def test_exclude_and_include():
    table = {
        "seeds": 2,
        "axes": {
            "aggregator": [
                "median",
                {"name": "krum", "num_malicious": 1},
                {"name": "krum", "num_malicious": 2},
            ],
            "attack": ["none", "sign_flip"],
        },
        "exclude": [{"aggregator": "median", "attack": "none"}, {"aggregator": {"num_malicious": 2}}],
        "include": [{"aggregator": "mean", "local.steps": 5}, {"aggregator": "mean", "seed": 9}],
    }
    found = [
        (c.axes["aggregator"], c.axes["attack"], c.axes["local.steps"], c.config.seed) for c in cells(table)
    ]
    assert found == [
        ("Median", "Sign flipping", 1, 0),
        ("Median", "Sign flipping", 1, 1),
        ("Krum", "no attack", 1, 0),
        ("Krum", "no attack", 1, 1),
        ("Krum", "Sign flipping", 1, 0),
        ("Krum", "Sign flipping", 1, 1),
        ("FedAvg", "Sign flipping", 5, 0),
        ("FedAvg", "Sign flipping", 5, 1),
        ("FedAvg", "Sign flipping", 1, 9),
    ]


def test_cells_without_a_key_that_others_have_show_nothing():
    table = {
        "axes": {"attack": ["sign_flip"]},
        "include": [
            {"attack.schedule": {"name": "periodic", "every": 2}},
            {"local.learning_rate": {"name": "cosine_decay_schedule", "init_value": 0.1, "decay_steps": 9}},
            {"local.learning_rate.name": "constant_schedule", "local.learning_rate.value": 0.1},
            {"aggregator.pre": [{"name": "clip", "radius": 1.0}], "aggregator.pre.0.radius": 2.0},
        ],
    }
    found = cells(table)
    assert [cell.axes["attack.schedule"] for cell in found[:2]] == [None, '{"name": "periodic", "every": 2}']
    assert [cell.axes["local.learning_rate.name"] for cell in found[:4]] == [
        None,
        None,
        "cosine_decay_schedule",
        "constant_schedule",
    ]
    assert [cell.axes["aggregator.pre.0.radius"] for cell in found] == [None, None, None, None, 2.0]


def test_cells_that_are_the_same_are_one():
    table = {
        "seeds": [3, 3],
        "axes": {"aggregator": ["median", "trimmed_mean"]},
        "include": [{"aggregator": "median"}],
    }
    assert [tuple(c.axes.values())[::3] for c in cells(table)] == [("Median", 3), ("Trim-mean", 3)]


def test_ids_are_the_configuration_s_and_nothing_else_s():
    first = cells({"axes": {"aggregator.trim": [1, 2]}})
    again = cells({"seeds": 3, "axes": {"aggregator.trim": [2]}})
    assert first[1].id == again[0].id
    assert len({cell.id for cell in first + again}) == 4


# --- presets and "actual" ----------------------------------------------------------------------------


def test_presets():
    paper = make_sweep(BASE, {"axes": {"aggregator": "paper", "attack": "paper"}})
    assert paper.axes["aggregator"] == ["FedAvg", "Krum", "Trim-mean", "Median", "FLTrust"]
    assert len(paper.cells) == 30
    everything = make_sweep(BASE, {"axes": {"aggregator": "all", "attack": "all"}})
    names = {c.config.aggregator.name for c in everything.cells}
    # A radius has no value that fits every task, nor have a number of votes and a gap between clusters.
    needy = {"auror", "centered_clipping", "crfl", "flod", "huber", "sparse_fed", "spectral_filter"}
    assert names == set(RULES) - needy - {"robust_learning_rate"}
    attacks = {c.config.attack.name for c in everything.cells}
    # Nor has the radius of an attack.
    assert attacks == {"none", *ATTACKS} - {"worst_case", "projected_gradient", "train_and_scale"}
    assert len(everything.cells) == len(names) * len(attacks)
    told = {c.config.aggregator.parameters.get("num_malicious", "actual") for c in everything.cells}
    assert told == {"actual"}


def test_a_preset_among_values_stands_for_its_own():
    table = {"name": "centered_clipping", "radius": 0.5}
    found = make_sweep(BASE, {"axes": {"aggregator": ["paper", table], "attack": ["none"]}}).axes
    titles = ["FedAvg", "Krum", "Trim-mean", "Median", "FLTrust", "Centred clipping"]
    assert found["aggregator"] == titles
    with pytest.raises(ConfigError, match="unknown rule 'papers'"):
        make_sweep(BASE, {"axes": {"aggregator": ["papers"]}})


@pytest.mark.parametrize("key", ["aggregator", "attack"])
@pytest.mark.parametrize("name", ["paper", "all"])
def test_titles_of_a_preset_are_distinct(key, name):
    tables = PRESETS[key][name](parse_config(BASE))
    shown = make_sweep(BASE, {"axes": {key: name}}).axes[key]
    assert len(shown) == len(tables)


# --- titles ------------------------------------------------------------------------------------------


def test_components_that_differ_have_titles_that_differ():
    tables = [
        *({"name": "constant", "value": value} for value in (math.nan, math.inf, -math.inf, 0.0, 1)),
        {"name": "scale"},
        {"name": "scale", "factor": 2},
        {"name": "scale", "factor": 2.5},
        {"name": "alie"},
        {"name": "alie", "z": 1.5},
        {"name": "alie", "knowledge": "full"},
        {"name": "alie", "knowledge": "full", "z": 1.5},
        {"name": "worst_case", "attacks": [{"name": "alie"}]},
        {"name": "worst_case", "attacks": [{"name": "ipm", "epsilon": 1.0}]},
        {"name": "sign_flip", "schedule": {"name": "periodic", "every": 2}},
        {"name": "sign_flip"},
    ]
    shown = column({"axes": {"attack": tables}}, "attack")
    assert len(set(shown)) == len(tables), shown
    rules = ["median", *({"name": "median", "pre": [{"name": "clip", "radius": r}]} for r in (1.0, math.inf))]
    shown = column({"axes": {"aggregator": rules}}, "aggregator")
    assert len(set(shown)) == 3, shown
    data = [{"name": "synthetic", "num_train": n, "num_test": 50} for n in (100, 200)] + ["digits"]
    shown = column({"axes": {"data": data}}, "data")
    assert len(set(shown)) == 3, shown


def test_values_that_are_axes_are_not_in_titles_too():
    found = make_sweep(BASE, {"axes": {"aggregator.trim": [1, 2], "attack.fraction": [0.1, 0.2]}})
    assert found.axes["aggregator"] == ["Trim-mean"]
    assert found.axes["attack"] == ["Sign flipping"]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_that_json_lacks_are_text(value):
    base = BASE | {"attack": {"name": "constant", "value": 0.0}}
    assert column({"axes": {"attack.value": [0.0, value]}}, "attack.value", base) == [0.0, str(value)]


# --- what is wrong -----------------------------------------------------------------------------------

LARGE = 10**400
WRONG = {
    "seeds none": ({"seeds": []}, "sweep.seeds", "at least 1", "[]"),
    "seeds zero": ({"seeds": 0}, "sweep.seeds", "greater than 0", "0"),
    "seeds true": ({"seeds": True}, "sweep.seeds", "True"),
    "seeds text": ({"seeds": "3"}, "sweep.seeds", "'3'"),
    "seeds negative": ({"seeds": [1, -1]}, "sweep.seeds", "-1"),
    "seeds too many": ({"seeds": 10**9}, "sweep.seeds", "200000"),
    "unknown key": ({"axis": {}}, "sweep", "'axis'", "did you mean 'axes'?", "zip"),
    "together": ({"together": []}, "unknown key 'together'"),
    "axes a list": ({"axes": [1]}, "sweep.axes", "[1]"),
    "not a table": (3, "sweep", "must be a table", "3"),
    "unknown axis": ({"axes": {"num_clientz": [1]}}, "num_clientz", "num_clients", "cell num_clientz=1"),
    "unknown nested axis": ({"axes": {"local": {"step": [1]}}}, "'step'", "steps", "cell local.step=1"),
    "empty key": ({"axes": {"": [1]}}, "dotted key"),
    "two dots": ({"axes": {"local..steps": [1]}}, "'local..steps'", "dotted key"),
    "below a number": ({"axes": {"rounds.x": [1]}}, "rounds.x"),
    "no list": ({"axes": {"local.steps": 1}}, "sweep.axes.local.steps", "list", "1"),
    "empty list": ({"axes": {"local.steps": []}}, "sweep.axes.local.steps", "[]"),
    "listed twice": ({"axes": {"local.steps": [1, 2, 1]}}, "local.steps", "1 is listed twice"),
    "axis twice": (
        {"axes": {"local.steps": [1]}, "zip": [{"local": {"steps": [2]}}]},
        "local.steps is an axis twice",
    ),
    "seed twice": ({"seeds": 2, "axes": {"seed": [1]}}, "seed is an axis twice"),
    "range misspelt": ({"axes": {"root.size": {"lnspace": [1, 2, 3]}}}, "root.size", "linspace", "lnspace"),
    "two ranges": ({"axes": {"root.size": {"range": [1, 2], "linspace": [1, 2, 2]}}}, "one of", "range"),
    "range of text": ({"axes": {"root.size": {"range": ["a", 2]}}}, "root.size", "'a'"),
    "range of true": ({"axes": {"root.size": {"range": [True, 2]}}}, "root.size", "True"),
    "range of one": ({"axes": {"root.size": {"range": [2]}}}, "[start, stop", "[2]"),
    "range backwards": ({"axes": {"root.size": {"range": [2, 1]}}}, "no values", "[2, 1]"),
    "range step": ({"axes": {"root.size": {"range": [1, 2, 0]}}}, "step > 0", "[1, 2, 0]"),
    "range too long": ({"axes": {"root.size": {"range": [0, 1, 1e-320]}}}, "more than 200,000"),
    "range infinite": ({"axes": {"root.size": {"range": [0, math.inf]}}}, "root.size", "inf"),
    "range too large": ({"axes": {"root.size": {"range": [0, LARGE]}}}, "root.size", "range"),
    "linspace short": ({"axes": {"root.size": {"linspace": [1, 2]}}}, "number of values", "[1, 2]"),
    "linspace none": ({"axes": {"root.size": {"linspace": [1, 2, 0]}}}, "number of values", "[1, 2, 0]"),
    "linspace fraction": ({"axes": {"root.size": {"linspace": [1, 2, 2.0]}}}, "number of values"),
    "linspace long": ({"axes": {"root.size": {"linspace": [1, 2, LARGE]}}}, "root.size", "linspace"),
    "logspace zero": ({"axes": {"root.size": {"logspace": [0, 2, 2]}}}, "positive", "[0, 2, 2]"),
    "preset unknown": ({"axes": {"aggregator": "papers"}}, "'papers'", "did you mean 'paper'?", "list"),
    "preset of nothing": ({"axes": {"local.steps": "all"}}, "local.steps has no presets", "list"),
    "component number": ({"axes": {"attack": [3]}}, "sweep.axes.attack", "name", "3"),
    "component nameless": ({"axes": {"attack": [{"z": 1}]}}, "sweep.axes.attack", "name", "{'z': 1}"),
    "rule unknown": ({"axes": {"aggregator": ["mean", "krumm"]}}, "'krum'", "cell aggregator=krumm"),
    "attack unknown": ({"axes": {"attack": ["aliee"]}}, "'alie'", "cell attack=aliee"),
    "value wrong": (
        {"axes": {"attack.fraction": [0.1, 2.0]}},
        "attack.fraction",
        "2.0",
        "cell attack.fraction=2.0",
    ),
    "rounds wrong": ({"axes": {"rounds": [25]}}, "multiple of eval_every=10", "20 or 30", "cell rounds=25"),
    "list position": (
        {"axes": {"aggregator.pre.1.radius": [1]}, "include": []},
        "aggregator.pre.1.radius",
        "1 must be below 1",
    ),
    "zip lengths": (
        {"zip": [{"root.size": [1, 2], "local.steps": [1]}]},
        "root.size has 2, local.steps has 1",
    ),
    "zip empty": ({"zip": [{}]}, "sweep.zip[0]", "at least one axis"),
    "zip a table": ({"zip": {"root.size": [1]}}, "sweep.zip", "list"),
    "exclude no axis": (
        {"axes": {"root.size": [9]}, "exclude": [{"root.sise": 9}]},
        "sweep.exclude[0]",
        "'root.size'",
    ),
    "exclude nothing": (
        {"axes": {"root.size": [9]}, "exclude": [{"root.size": 8}]},
        "no cell has root.size=8",
    ),
    "exclude a number": (
        {"axes": {"attack": ["none"]}, "exclude": [{"attack": 5}]},
        "exclude[0].attack",
        "5",
    ),
    "exclude a list": (
        {"axes": {"attack": ["none"]}, "exclude": [{"attack": ["none"]}]},
        "exclude[0].attack",
    ),
    "exclude all": ({"axes": {"attack": ["none"]}, "exclude": [{"attack": "none"}]}, "no cells are left"),
    "include wrong": ({"include": [{"root.size": 0}]}, "root.size", "greater than 0", "cell root.size=0"),
    "include component": ({"include": [{"aggregator": 5}]}, "sweep.include[0]", "5"),
    "too many cells": (
        {"axes": {"root.size": {"range": [1, 1002]}, "local.steps": {"range": [1, 1002]}}},
        "1,002,001 cells",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_table_is_one_sentence(name):
    table, *fragments = WRONG[name]
    base = BASE
    if name == "list position":
        base = BASE | {"aggregator": {"name": "median", "pre": [{"name": "clip", "radius": 1.0}]}}
    with pytest.raises(ConfigError) as error:
        make_sweep(base, table)
    sentence = str(error.value)
    assert "\n" not in sentence
    for fragment in fragments:
        assert fragment in sentence
    assert len(sentence) < 1000


def test_seeds_that_change_nothing():
    with pytest.raises(ConfigError, match=r"seeds\.data, init and train are all set"):
        make_sweep(BASE | {"seeds": {"data": 1, "init": 2, "train": 3}}, {"seeds": 2})


def test_what_is_wrong_in_every_cell_names_none():
    with pytest.raises(ConfigError) as error:
        make_sweep(BASE | {"rounds": 0}, {"seeds": 2})
    assert "cell" not in str(error.value)


def test_odd_values_get_as_far_as_the_check_of_their_component():
    # Dates are no configuration, but a list of parameters takes them until the function is asked.
    table = {"axes": {"aggregator.trim": [datetime.date(2020, 1, 1), 1]}}
    assert len(cells(table)) == 2
    assert len(cells({"axes": {"attack": [{"name": "scale", "factor": "x"}]}})) == 1


@pytest.mark.parametrize(
    ("text", "overrides", "fragment"),
    [
        ("rounds = 10", {}, "no [sweep] table"),
        ("sweep = 3", {}, "sweep: must be a table, got 3"),
        ("[compare]\nrules = []\n[sweep]\nseeds = 2", {}, "unknown key 'compare'"),
        ("[sweep]\nseeds = 2", {"sweep.seeds.x": 1}, "sweep.seeds is not a table"),
        ("[sweep]\nseeds = 2", {"sweep.": 1}, "unknown key ''"),
        ("[sweep", {}, "not valid TOML"),
    ],
)
def test_a_wrong_file_is_one_sentence(tmp_path, text, overrides, fragment):
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as error:
        load_sweep(file, overrides)
    assert fragment in str(error.value)
    assert "\n" not in str(error.value).strip()


def test_overrides_reach_the_cells_and_the_table(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('num_clients = 10\n[sweep]\nseeds = 2\n[sweep.axes]\naggregator = ["mean"]')
    changed = {"rounds": 20, "sweep.seeds": 3, "sweep.axes.local.steps": [1, 2]}
    sweep = load_sweep(file, changed)
    assert len(sweep.cells) == 6
    assert {cell.config.rounds for cell in sweep.cells} == {20}
    assert sweep.given == {
        "num_clients": 10,
        "rounds": 20,
        "sweep": {"seeds": 3, "axes": {"aggregator": ["mean"], "local.steps": [1, 2]}},
    }
    file.write_text("num_clients = 10")
    assert len(load_sweep(file, {"sweep.seeds": 3}).cells) == 3


# --- many cells --------------------------------------------------------------------------------------

GRID = {
    "seeds": 5,
    "axes": {
        "aggregator": [{"name": "trimmed_mean", "trim": 2}, "mean", {"name": "krum", "num_malicious": 1}],
        "attack": ["none", {"name": "scale", "factor": math.inf}],
        "attack.fraction": [0.0, 0.1, 0.25],
        "local.steps": [1, 2],
        "local.batch_size": ["full", 8],
        "client_chunk": ["auto", 5],
    },
    "include": [{"seed": 7, "root.bias": "uniform"}, {"aggregator.pre": [{"name": "clip", "radius": 2.0}]}],
    "exclude": [{"aggregator": "krum", "local.steps": 2}],
}


def test_a_cell_is_known_by_its_configuration_however_it_was_put_together():
    found = cells(GRID)
    assert len(found) == len({cell.id for cell in found}) == 606
    for cell in found[::7]:
        values = jsonable(cell.config.model_dump(exclude={*WITHOUT_EFFECT, "plugins"}))
        for key in LATER:  # none of them is set here
            keys.delete(values, key)
        text = json.dumps(values, sort_keys=True, default=str)
        assert cell.id == hashlib.sha256(text.encode()).hexdigest()[:16]
        alone = parse_config(cell.config.model_dump())
        assert alone == cell.config
        assert (alone.attack.fraction, alone.local.steps, alone.seed) == (
            cell.axes["attack.fraction"],
            cell.axes["local.steps"],
            cell.axes["seed"],
        )


def test_true_and_one_are_different_values_of_an_axis():
    shapes = {"axes": {"data.exact_only": [1, 0], "seed": [1, 0]}}
    first, *_ = cells(shapes, {**BASE, "data": {"name": "cifar10"}})
    assert type(first.config.data.parameters["exact_only"]) is int
    with pytest.raises(ConfigError, match="seed"):
        cells(
            {"zip": [{"data.exact_only": [1, True], "seed": [1, True]}]},
            {**BASE, "data": {"name": "cifar10"}},
        )


def test_tables_are_parsed_once_for_all_cells_that_have_them(monkeypatch):
    parsed, told = [], []
    monkeypatch.setattr("fljax.sweeps.cells.parse_config", lambda v: parsed.append(v) or parse_config(v))
    fractions = {"attack.fraction": {"linspace": [0.0, 0.4, 30]}, "local.steps": {"range": [1, 11]}}
    table = {"seeds": 5, "axes": {"aggregator.trim": [1, 2], **fractions}}
    sweep = make_sweep(BASE, table, told=lambda done, total: told.append((done, total)))
    assert len(sweep.cells) == 2 * 30 * 10 * 5
    assert len(parsed) < 2 + 30 + 10 + 5 + 2
    assert told == [(1000, 3000), (2000, 3000), (3000, 3000)]


def test_what_cells_share_is_checked_once(monkeypatch):
    counts = dict.fromkeys(("load_dataset", "check_alone", "gradient_of", "compose"), 0)
    for name in counts:
        plain = getattr(known, name)

        def counted(*args, name=name, plain=plain, **kwargs):
            counts[name] += 1
            return plain(*args, **kwargs)

        monkeypatch.setattr(known, name, counted)
    attacks = ["none", "sign_flip", "min_max", {"name": "ipm", "epsilon": 0.5}]
    rules = ["mean", "median", {"name": "trimmed_mean", "trim": 1}]
    table = {"seeds": 3, "axes": {"aggregator": rules, "attack": attacks, "attack.fraction": [0.1, 0.2]}}
    plan = make_plan(make_sweep(BASE, table))
    assert (len(plan.sweep.cells), len(plan.groups)) == (72, 12)
    assert counts == {"load_dataset": 3, "check_alone": 3 + 4, "gradient_of": 1, "compose": 1}
    # One that asks the rule is checked with every rule.
    table["axes"]["attack"] = ["optimized_ipm"]
    make_plan(make_sweep(BASE, table))
    assert counts["compose"] == 1 + 1 + 3


def test_rules_and_attacks_are_planned_with_what_they_ask_of_the_model():
    asking = {
        "aggregator": ["deepsight", "lasa", {"name": "zeno", "num_malicious": 1}],
        "attack": ["none", "chameleon", "layer_backdoor"],
    }
    assert len(make_plan(make_sweep(BASE, {"zip": [asking]})).groups) == 3


def test_planning_tells_how_far_it_is():
    told = []
    sweep = make_sweep({**BASE, "seeds": {"data": 1}}, {"seeds": 2500})
    plan = make_plan(sweep, told=lambda done, total: told.append((done, total)))
    assert told == [(1000, 2500), (2000, 2500)]
    assert len(plan.groups) == 1


def test_more_data_than_memory_is_refused(monkeypatch):
    monkeypatch.setattr(known, "available", lambda: Limit(100_000, "free"))
    sweep = make_sweep(BASE, {"seeds": 10})
    with pytest.raises(ConfigError, match=r"data sets take more than 60\.0 kB.*fewer seeds.*seeds\.data"):
        make_plan(sweep)
    make_plan(make_sweep({**BASE, "seeds": {"data": 1}}, {"seeds": 10}))
