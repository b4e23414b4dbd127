"""The best value of every metric, and runs that end early."""

import numpy as np
import pandas as pd
import pytest

import fljax
from fljax.config.schema import StopConfig, parse_config
from fljax.data import Dataset
from fljax.metrics import METRICS, register_metric
from fljax.report import write_report
from fljax.simulation.clients import make_clients
from fljax.simulation.endings import best_values, stopped
from tests.support.run_folders import InterruptError, assert_same_run, interrupt_at, strict_json

pytestmark = pytest.mark.usefixtures("shared_experiments")

SMALL = {
    "rounds": 12,
    "eval_every": 2,
    "checkpoint_every": 2,
    "num_clients": 4,
    "data": {"name": "synthetic", "num_train": 120, "num_test": 50},
    "model": {"name": "logistic_regression"},
    "root": {"size": 20},
}


NO_BETTER = "test_error has no better value"


def lines(*values, name="test_error", every=10):
    return [{"round": every * (i + 1), name: value, "diverged": 0} for i, value in enumerate(values)]


@pytest.mark.parametrize(
    ("stop", "values", "reason"),
    [
        ({"target": 0.2}, [0.5, 0.21], None),
        ({"target": 0.2}, [0.5, 0.2], "test_error 0.2 reached the target 0.2 in round 20"),
        ({"patience": 2}, [0.5, 0.3, 0.4], None),
        ({"patience": 2}, [0.5, 0.3, 0.4, 0.3], f"{NO_BETTER} since round 20, for 2 evaluations"),
        ({"patience": 2}, [None, None, 0.3, None], None),
        ({"patience": 3, "target": 0.1}, [0.3, 0.1], "test_error 0.1 reached the target 0.1 in round 20"),
    ],
)  # fmt: skip
def test_what_ends_a_run(stop, values, reason):
    assert stopped(lines(*values), StopConfig(**stop)) == reason


def test_a_metric_that_should_be_high_ends_a_run_from_below():
    try:
        register_metric("cleverness", better="high")(lambda errors: 1 - errors.mean())
        found = lines(0.2, 0.7, 0.6, name="cleverness")
        assert best_values(found)["cleverness"] == (0.7, 20)
        stop = StopConfig(metric="cleverness", target=0.65)
        assert stopped(found[:1], stop) is None
        assert "0.7 reached the target 0.65" in stopped(found[:2], stop)
        assert stopped(found, StopConfig(metric="cleverness", patience=1))
    finally:
        METRICS.remove("cleverness")


def test_the_best_value_is_the_first_of_equals_and_none_where_there_is_none():
    found = best_values(lines(0.5, None, 0.2, 0.2))
    assert found == {"test_error": (0.2, 30)}
    assert best_values(lines(None, None))["test_error"] == (None, None)


def test_a_run_that_stops_says_why_and_goes_on_to_the_same(tmp_path):
    long = fljax.run(parse_config(SMALL), progress=False)
    target = float(long.metrics["test_error"][2]) + 1e-6
    reached = int(np.argmax(long.metrics["test_error"] <= target))
    config = parse_config(SMALL | {"stop": {"target": target}})
    out = tmp_path / "whole"
    whole = fljax.run(config, out, progress=False)
    summary = strict_json((out / "summary.json").read_text())
    assert summary["rounds"] == 2 * (reached + 1) < SMALL["rounds"]
    assert "reached the target" in summary["stopped"]
    assert long.summary["stopped"] is None
    np.testing.assert_array_equal(whole.metrics["test_error"], long.metrics["test_error"][: reached + 1])
    with pytest.raises(InterruptError):
        fljax.run(config, tmp_path / "cut", progress=interrupt_at(2))
    result = fljax.run(config, tmp_path / "cut", resume=True, progress=False)
    assert_same_run(tmp_path / "cut", result, (out, whole))
    again = fljax.run(config, tmp_path / "cut", resume=True, progress=False)
    assert again.summary["rounds"] == summary["rounds"]


def test_summary_has_last_and_best_with_its_round():
    values = SMALL | {"metrics": ["test_loss"], "validation": {"size": 30}, "local": {"learning_rate": 3.0}}
    result = fljax.run(parse_config(values), progress=False)
    for name in ("test_error", "test_loss", "validation_error"):
        course = result.metrics[name]
        assert result.summary[name] == course[-1]
        assert result.summary["best"][name] == {
            "value": course.min(), "round": result.metrics["round"][course.argmin()]
        }  # fmt: skip
    assert result.summary["data"]["num_validation"] == 30


def test_a_function_of_your_own_is_a_metric_like_the_others(tmp_path):
    config = parse_config(SMALL | {"rounds": 2, "stop": {"metric": "largest", "target": 1e6}})
    largest = {"largest": lambda losses: losses.max()}
    with pytest.raises(fljax.ConfigError, match="stop.metric: unknown metric 'largest'"):
        fljax.build(config)
    result = fljax.run(config, tmp_path / "run", metrics=largest, progress=False)
    line = strict_json((tmp_path / "run" / "metrics.jsonl").read_text())
    assert line["largest"] == result.summary["largest"] == result.metrics["largest"][0] > 0
    assert result.summary["stopped"].startswith("largest ")
    write_report(tmp_path / "run", formats=["csv", "md"])
    assert pd.read_csv(tmp_path / "run" / "report" / "curves.csv")["largest"].tolist() == [line["largest"]]
    assert "**Largest**" in (tmp_path / "run" / "report" / "table.md").read_text()


def test_what_is_not_measured_ends_no_run():
    for stop in ({"metric": "test_eror", "target": 0.1}, {"metric": "validation_error", "patience": 2}):
        with pytest.raises(fljax.ConfigError, match="stop.metric: unknown metric"):
            fljax.build(parse_config(SMALL | {"stop": stop}))
    for stop in ({}, {"patience": 0}, {"target": "low"}):
        with pytest.raises(fljax.ConfigError, match="stop"):
            parse_config({"stop": stop})
    with pytest.raises(fljax.ConfigError, match="^stop: unknown key 'patient'; did you mean 'patience'"):
        parse_config({"stop": {"patient": 3}})


def deal(validation, labels=None, root=20):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 200).astype(np.int32) if labels is None else labels
    data = Dataset(np.zeros((len(y), 1), np.float32), y, np.zeros((1, 1), np.float32), y[:1], 3, "mine")
    return make_clients(
        data, 5, fljax.data.PARTITIONS["iid"].function, {}, num_clients=6, root={"size": root},
        malicious_fraction=0.5, validation=validation,
    )  # fmt: skip


def test_validation_examples_are_nobody_elses():
    plain, held = deal(0), deal(50)
    assert plain.validation is None
    table = held.table[held.table >= 0]
    everything = np.concatenate([held.validation, held.root, table])
    assert len(held.validation) == len(set(held.validation)) == 50
    np.testing.assert_array_equal(np.sort(everything), np.arange(200))
    # A stream of their own: who is malicious stays, and more of them are other examples' loss alone.
    np.testing.assert_array_equal(plain.malicious, held.malicious)
    assert (deal(50).validation == held.validation).all()
    with pytest.raises(fljax.ConfigError, match=r"validation.size=199 must be between 1 and 198"):
        deal(199)
