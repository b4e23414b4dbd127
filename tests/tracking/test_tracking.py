"""Trackers are told of a run once and in order, whatever interrupts it, and none of them can end it."""

import csv
import json
import sys

import pytest

import fljax
from fljax.config.schema import parse_config
from fljax.errors import ConfigError
from fljax.simulation.experiment import assemble, compile_experiment, run_experiment
from fljax.tracking import CSV, TRACKERS, Started, TrackedCell, Tracker, make_trackers, scalars
from tests.support.command import command
from tests.support.run_folders import InterruptError, interrupt_at, read_lines, strict_json
from tests.tracking.reading import read_mlflow, read_tensorboard, read_wandb

RUN = {
    "rounds": 6,
    "eval_every": 2,
    "checkpoint_every": 2,
    "num_clients": 4,
    "data": {"name": "synthetic", "num_train": 60, "num_test": 20},
    "model": {"name": "logistic_regression"},
    "root": {"size": 10},
    "aggregator": {"name": "mean"},
}


def read_csv(folder):
    with (folder / "metrics.csv").open() as file:
        return [(int(row["round"]), float(row["test_error"])) for row in csv.DictReader(file)]


def read_events(folder):
    lines = [strict_json(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    first, *middle, last = lines
    assert (first["event"], first["config"]) == ("start", json.loads((folder / "config.json").read_text()))
    assert last == {"event": "end", "summary": json.loads((folder / "summary.json").read_text())}
    assert {line["event"] for line in middle} == {"evaluation"}
    return [(line["round"], line["test_error"]) for line in middle]


# What is read back of a run: (round, test error) of every evaluation.
READ = {
    "csv": read_csv,
    "jsonl": read_events,
    "tensorboard": lambda folder: read_tensorboard(folder / "tensorboard"),
    "wandb": lambda folder: read_wandb(folder)["run"],
    "mlflow": lambda folder: read_mlflow(folder)["run"],
}
SERVICES = {"wandb", "mlflow"}  # heavy to import
EVERY = [pytest.param(name, marks=pytest.mark.slow) if name in SERVICES else name for name in READ]


def test_every_tracker_is_tested():
    assert set(READ) == set(TRACKERS)


@pytest.fixture(scope="module")
def small():
    built = assemble(parse_config(RUN))
    return built, compile_experiment(built)


class Own(Tracker):
    """Keeps all that it hears."""

    def __init__(self, fails="", error=None):
        self.heard, self.fails, self.error = [], fails, error or ValueError("full\nof it")

    def __getattribute__(self, name):
        if name not in ("start", "evaluation", "cell", "end"):
            return super().__getattribute__(name)

        def hear(what):
            if name == self.fails:
                raise self.error
            self.heard.append((name, what))

        return hear


@pytest.fixture
def clean(monkeypatch):
    for name in (
        "WANDB_MODE",
        "WANDB_API_KEY",
        "WANDB_PROJECT",
        "MLFLOW_TRACKING_URI",
        "MLFLOW_EXPERIMENT_NAME",
    ):
        monkeypatch.delenv(name, raising=False)


def test_one_of_your_own_hears_everything_in_order(small, tmp_path):
    own = Own()
    result = run_experiment(small[0], tmp_path / "demo", program=small[1], track=own)
    (first, started), *middle, (last, summary) = own.heard
    assert (first, last) == ("start", "end")
    assert started == Started("run", "demo", small[0].config.resolved(), tmp_path / "demo", False)
    assert [line["round"] for name, line in middle if name == "evaluation"] == [2, 4, 6]
    assert [line["test_error"] for _, line in middle] == result.metrics["test_error"].tolist()
    assert summary == result.summary
    assert {path.name for path in (tmp_path / "demo").iterdir()} == {
        "config.json",
        "metrics.jsonl",
        "summary.json",
        "checkpoints",
    }

    class Few:
        def end(self, summary):
            self.rounds = summary["rounds"]

    few = Few()
    untracked = run_experiment(small[0], program=small[1], track=[few, Own()])
    assert few.rounds == 6
    assert untracked.metrics["test_error"].tolist() == result.metrics["test_error"].tolist()


@pytest.mark.parametrize("name", EVERY)
def test_a_run_that_is_interrupted_and_resumed_is_told_once(small, tmp_path, clean, name):
    out = tmp_path / "demo"
    with pytest.raises(InterruptError):
        run_experiment(small[0], out, program=small[1], progress=interrupt_at(4), track=name)
    expected = [(line["round"], line["test_error"]) for line in read_lines(out)]
    assert [round_ for round_, _ in expected] == [2, 4]
    if name != "jsonl":  # whose reader asks for the summary
        assert READ[name](out) == expected
    run_experiment(small[0], out, program=small[1], resume=True, track=name)
    expected = [(line["round"], line["test_error"]) for line in read_lines(out)]
    assert [round_ for round_, _ in expected] == [2, 4, 6]
    assert READ[name](out) == expected
    # Once more, where nothing is left to do.
    run_experiment(small[0], out, program=small[1], resume=True, track=name)
    assert READ[name](out) == expected


def test_one_that_interrupts_hears_of_its_end(small, tmp_path):
    own = Own("evaluation", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run_experiment(small[0], tmp_path / "demo", program=small[1], track=own)
    assert [name for name, _ in own.heard] == ["start", "end"]
    assert own.heard[-1][1] is None


@pytest.mark.parametrize("fails", ["evaluation", "end"])
def test_one_that_fails_does_not_lose_the_run(small, tmp_path, fails):
    bad, good, notes = Own(fails), Own(), []
    result = run_experiment(
        small[0], tmp_path / "demo", program=small[1], track=[bad, good], note=notes.append
    )
    assert notes == ["track Own has failed (ValueError: full); the run goes on without it"]
    summary = json.loads((tmp_path / "demo" / "summary.json").read_text())
    assert summary["notes"] == (notes if fails == "evaluation" else [])
    assert result.summary["rounds"] == 6
    assert len(read_lines(tmp_path / "demo")) == 3
    assert [name for name, _ in good.heard] == ["start", *["evaluation"] * 3, "end"]
    # It is told of nothing any more but that it is over.
    assert [name for name, _ in bad.heard] == (
        ["start", "end"] if fails == "evaluation" else ["start", *["evaluation"] * 3]
    )


def test_one_that_cannot_start_ends_the_run_before_its_first_round(small, tmp_path):
    good = Own()
    with pytest.raises(ConfigError, match=r"^track Own 2: cannot start \(ValueError: full\)$"):
        run_experiment(small[0], tmp_path / "demo", program=small[1], track=[good, Own("start")])
    assert [name for name, _ in good.heard] == ["start", "end"]
    assert not (tmp_path / "demo" / "metrics.jsonl").exists()
    with pytest.raises(ConfigError, match=r"^track CSV: cannot start .*the run's folder, which out gives"):
        run_experiment(small[0], program=small[1], track=CSV())


@pytest.mark.parametrize(
    ("track", "folder", "message"),
    [
        ("csb", True, "unknown tracker 'csb'; did you mean 'csv'"),
        ("csv", False, "track csv: writes below the run's folder, which out gives"),
        (
            3,
            True,
            r"track: must be a name \(csv, .*mlflow.*\) or an object with the methods start, .*, got 3",
        ),
        (Own, True, "track: must be a name"),
        ([object()], True, "track: must be a name"),
    ],
)
def test_what_is_no_tracker_is_one_sentence(tmp_path, track, folder, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        make_trackers(track, tmp_path if folder else None)
    with pytest.raises(ConfigError, match=f"^{message}"):
        fljax.run(parse_config(RUN), tmp_path / "out" if folder else None, track=track)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "package"), [("tensorboard", "tensorboardX"), ("wandb", "wandb"), ("mlflow", "mlflow")]
)
def test_without_its_package_the_extra_is_named(tmp_path, monkeypatch, name, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=rf'^track {name}: needs .*: pip install "fljax\[{name}\]"$'):
        make_trackers(name, tmp_path)


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps(RUN))
    call = command(monkeypatch, capsys)
    outcome = call("run", "run.json", "--out", "demo", "--track", "csv", "--track", "jsonl")
    assert (outcome.status, outcome.err) == (0, "")
    assert read_csv(tmp_path / "demo") == read_events(tmp_path / "demo")
    outcome = call("run", "run.json", "--out", "other", "--track", "csb")
    assert outcome.status == 2
    assert outcome.err.startswith("fljax: unknown tracker 'csb'")
    assert not (tmp_path / "other").exists()


# --- cells -------------------------------------------------------------------------------------------

SWEEP = Started("sweep", "tiny", {"name": "tiny", "cells": 3})


def cell(number):
    lines = [{"round": 2, "test_error": 0.5, "loss": None}, {"round": 4, "test_error": 0.25, "loss": 0.125}]
    summary = {"cell": f"id{number}", "aggregator": "=1+1", "seed": number, "test_error": 0.25}
    return TrackedCell(
        f"id{number}", number, f"Mean-seed{number}", {"local": {"steps": number}}, lines, summary
    )


def read_cells(name, folder):
    """The cells, and (round, test error) of each, as far as the tracker keeps them."""
    if name == "csv":
        text = (folder / "results.csv").read_text().splitlines()
        assert text[0] == "cell,aggregator,seed,test_error"
        assert all(",'=1+1," in line for line in text[1:])  # no formula
        return {f"Mean-seed{line.split(',')[2]}": [(2, 0.5), (4, 0.25)] for line in text[1:]}
    if name == "jsonl":
        lines = [strict_json(line) for line in (folder / "events.jsonl").read_text().splitlines()]
        assert [line["event"] for line in lines] == ["start", *["cell"] * (len(lines) - 2), "end"]
        cells = lines[1:-1]
        return {
            line["name"]: [(each["round"], each["test_error"]) for each in line["lines"]] for line in cells
        }
    if name == "tensorboard":
        return {path.name: read_tensorboard(path) for path in (folder / "tensorboard").iterdir()}
    return (read_wandb if name == "wandb" else read_mlflow)(folder)


@pytest.mark.parametrize("name", EVERY)
def test_a_sweep_that_is_resumed_has_every_cell_once(tmp_path, clean, name):
    curve = [(2, 0.5), (4, 0.25)]
    for told, resumed, done in (((2, 0), False, None), ((0, 2, 1), True, {"cells": 3, "failed": 0})):
        trackers = make_trackers(name, tmp_path)
        with trackers.following(SWEEP._replace(folder=tmp_path, resumed=resumed), note=pytest.fail):
            for number in told:
                trackers.cell(cell(number))
            if done:
                trackers.end(done)
        found = read_cells(name, tmp_path)
        assert found == {f"Mean-seed{number}": curve for number in sorted(told)}
    if name == "csv":
        assert list(found) == ["Mean-seed0", "Mean-seed1", "Mean-seed2"]  # in the order of the sweep


def test_a_csv_gets_the_columns_of_every_cell(tmp_path):
    more = cell(1)
    more = more._replace(summary={**more.summary, "top5": 0.125})
    trackers = make_trackers("csv", tmp_path)
    with trackers.following(SWEEP._replace(folder=tmp_path), note=pytest.fail):
        trackers.cell(cell(2))
        trackers.cell(more)
    with (tmp_path / "results.csv").open() as file:
        assert [(row["cell"], row["top5"]) for row in csv.DictReader(file)] == [("id1", "0.125"), ("id2", "")]


def test_scalars_are_finite_metrics():
    line = {
        "round": 2,
        "diverged": 1,
        "seconds": 0.5,
        "a": 1,
        "b": None,
        "c": float("nan"),
        "d": [1],
        "e": True,
    }
    assert scalars(line) == {"a": 1.0, "e": 1.0}
