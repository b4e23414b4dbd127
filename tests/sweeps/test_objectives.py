"""Losses, metrics, validation and early ends in a sweep: what each cell gives alone."""

import json

import numpy as np
import pandas as pd
import pytest

import fljax
from fljax.config.schema import parse_config
from fljax.data import DATASETS, from_arrays
from fljax.errors import ConfigError
from fljax.report import load_results, write_report
from fljax.sweeps import make_plan, make_sweep
from fljax.sweeps.batch import run_batch
from fljax.sweeps.folder import read_rows
from fljax.sweeps.inputs import group_inputs
from fljax.sweeps.program import compile_group
from tests.support.sweeps import BASE

SLOW = BASE | {"rounds": 8, "local": {"steps": 1, "batch_size": 8, "learning_rate": 0.05}}


IDS = ["b1b09984d04cb132", "678389d530bb72fd", "649587d81e9eef99", "fccf2769de7e02b6"]


def alone(config):
    return fljax.run(config, progress=False)


def test_ids_of_cells_without_new_keys_are_those_of_earlier_versions():
    table = {"seeds": 2, "axes": {"aggregator": ["median", {"name": "krum", "num_malicious": 2}]}}
    ids = [cell.id for cell in make_sweep(BASE, table).cells]
    assert ids == IDS
    default = BASE | {"loss": {"name": "cross_entropy"}, "metrics": []}
    assert [cell.id for cell in make_sweep(default, table).cells] == IDS
    for other in ({"loss": {"name": "mse"}}, {"metrics": ["test_loss"]}, {"validation": {"size": 5}}):
        assert not set(IDS) & {cell.id for cell in make_sweep(BASE | other, table).cells}


def test_a_cell_that_stops_leaves_its_neighbours_alone(tmp_path):
    longs = [alone(parse_config(SLOW | {"seed": seed})).metrics["test_error"] for seed in (0, 1)]
    # A value that one seed reaches early and the other does not reach then.
    targets = sorted({float(value) for course in longs for value in course})
    firsts = {t: [int(np.argmax(c <= t)) if (c <= t).any() else 9 for c in longs] for t in targets}
    target = next(t for t, (a, b) in firsts.items() if a != b)
    values = SLOW | {"stop": {"target": target}, "metrics": ["test_loss"], "validation": {"size": 20}}
    values |= {"stop": {"target": target}}
    sweep = make_sweep(values, {"seeds": 2})
    assert [group.size for group in make_plan(sweep, size=2).groups] == [2]
    table = fljax.sweep(sweep, tmp_path / "s", progress=False, workers=1)
    for row, cell in zip(table.to_dict("records"), sweep.cells, strict=True):
        single = alone(cell.config)
        assert row["rounds_done"] == row["rounds"] == single.summary["rounds"]
        assert row["stopped"] == single.summary["stopped"] or (
            single.summary["stopped"] is None and not isinstance(row["stopped"], str)
        )
        for name in ("test_error", "test_loss", "validation_error"):
            np.testing.assert_allclose(row[f"curve_{name}"], single.metrics[name], atol=1e-5, err_msg=name)
            best = single.summary["best"][name]
            np.testing.assert_allclose(row[f"best_{name}"], best["value"], atol=1e-5)
            assert row[f"best_{name}_round"] == best["round"]
    again = fljax.sweep(sweep, tmp_path / "s", progress=False, workers=1, resume=True)
    pd.testing.assert_frame_equal(again, table)


def test_splits_of_the_same_examples_keep_their_validation_and_their_clients():
    rng = np.random.default_rng(0)
    x, y, users = rng.normal(size=(240, 6)), rng.integers(0, 3, 240), rng.integers(0, 8, 240)

    @fljax.register_dataset("study_users")
    def study_users(data_dir, seed):
        return from_arrays(x, y, client_ids=users, seed=seed, name="study_users")

    values = {
        "rounds": 4, "eval_every": 2, "data": {"name": "study_users"}, "partition": {"name": "by_client"},
        "model": {"name": "logistic_regression"}, "root": {"size": 20}, "aggregator": {"name": "mean"},
        "metrics": ["client_errors"], "validation": {"size": 40},
    }  # fmt: skip
    try:
        sweep = make_sweep(values, {"seeds": 2})
        (group,) = make_plan(sweep, size=2).groups
        inputs = group_inputs(group)
        assert inputs.axes.x is None  # one copy of the examples, of which both splits are positions
        program = compile_group(group)
        (batch,) = group.batches
        results = run_batch(group, batch, program)
        for result, cell in zip(results, sweep.cells, strict=True):
            single = alone(cell.config)
            for name in ("validation_error", "client_errors_mean", "client_errors_worst_tenth"):
                found = [line[name] for line in result.lines]
                np.testing.assert_allclose(found, single.metrics[name], atol=1e-5, err_msg=name)
        first, second = ([line["validation_error"] for line in result.lines] for result in results)
        assert first != second
    finally:
        DATASETS.remove("study_users")


def test_cells_may_measure_different_things(tmp_path):
    axes = {"metrics": [["test_loss"], ["per_class_error"]], "loss.label_smoothing": [0.0, 0.2]}
    sweep = make_sweep(BASE | {"rounds": 2}, {"axes": axes})
    fljax.sweep(sweep, tmp_path / "s", progress=False, workers=1)
    rows = read_rows(tmp_path / "s")
    assert [row["test_loss"] is None for row in rows] == [False, False, True, True]
    assert rows[0]["test_loss"] != rows[1]["test_loss"]
    assert rows[0]["curve_per_class_error_9"] is None
    assert len(rows[2]["curve_per_class_error_9"]) == 1
    results = load_results(tmp_path / "s")
    assert [*results.evaluated][:3] == ["test_error", "attack_success_rate", "test_loss"]
    assert results.shown == ["test_error", "attack_success_rate", "test_loss"]
    write_report(tmp_path / "s", formats=["csv", "md"])
    assert "per_class_error_9_mean" in pd.read_csv(tmp_path / "s" / "report" / "table.csv")
    assert "Test loss" in (tmp_path / "s" / "report" / "table.md").read_text()


def test_a_sweep_that_chooses_needs_an_axis_and_validation():
    axes = {"local.learning_rate": [0.1, 0.2]}
    with pytest.raises(ConfigError, match=r"sweep.select: unknown axis 'local.rate'"):
        make_sweep(BASE | {"validation": {"size": 9}}, {"axes": axes, "select": ["local.rate"]})
    with pytest.raises(ConfigError, match="validation = "):
        make_sweep(BASE, {"axes": axes, "select": ["local.learning_rate"]})
    made = make_sweep(BASE | {"validation": {"size": 9}}, {"axes": axes, "select": ["local.learning_rate"]})
    assert json.dumps(made.given["sweep"]["select"]) == '["local.learning_rate"]'
