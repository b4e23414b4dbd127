"""A sweep's folder and what a person sees: whole at every moment, whatever ends the sweep."""

import csv
import functools
import json
import math
import os
import pty
import random
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
import tomllib
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet
from rich.console import Console

import fljax
from fljax.config.schema import parse_config
from fljax.engine.loop import StoppedError
from fljax.errors import ConfigError, DataError, SweepError
from fljax.host import limits
from fljax.host.limits import Limit
from fljax.host.signals import InterruptError, Stop
from fljax.report import load_results
from fljax.simulation.progress import duration
from fljax.sweeps import load_sweep, make_plan, make_sweep, run_plan
from fljax.sweeps.batch import CellResult
from fljax.sweeps.display import Planning, SweepDisplay
from fljax.sweeps.executors import base as local
from fljax.sweeps.executors.base import Finished, Watcher
from fljax.sweeps.executors.threads import Threads
from fljax.sweeps.folder import CURVES, SweepFolder, read_rows, write_rows
from fljax.sweeps.run import batch_id, missing
from fljax.sweeps.tracked import run_name
from fljax.tracking import Tracker
from tests.support.command import command

TINY = """
rounds = 4
eval_every = 2
num_clients = 6
data = { name = "synthetic", num_train = 200, num_test = 50 }
model = { name = "logistic_regression" }
root = { size = 20 }
attack = { name = "sign_flip", fraction = 0.2 }
"""
SWEEP = """
[sweep]
seeds = 3
[sweep.axes]
aggregator = ["mean", "median"]
attack.fraction = [0.0, 0.2]
"""
TIMES = {"seconds_compile", "seconds_run", "rounds_per_second"}


# --- programs that cost nothing ----------------------------------------------------------------------


class FakeProgram:
    seconds_compile = 0.25
    devices = 1

    def __init__(self, group, size=0):
        self.size, self.bytes = group.size, size


def fake_lines(cell):
    """Made up, but every cell's own; every fifth cell diverges early."""
    start = int(cell.id[:6], 16) / 16**6
    diverges = cell.number % 5 == 4
    evaluations = 1 if diverges else cell.config.rounds // cell.config.eval_every
    return [
        {
            "round": cell.config.eval_every * (i + 1),
            "test_error": start / (i + 1),
            "attack_success_rate": None,
            "loss": None if diverges else 1.0 + start,
            **dict.fromkeys(CURVES[4:], 0.5),
            "diverged": int(diverges),
            "seconds": 0.1,
        }
        for i in range(evaluations)
    ]


@pytest.fixture
def fake(monkeypatch):
    """Batches whose results are made up; `fake.fail` holds what to raise for a cell, `fake.ran` who ran."""

    class Log:
        def __init__(self):
            self.ran, self.compiled, self.fail = [], [], {}
            self.lock = threading.Lock()

    log = Log()

    def compile_group(group, shared):
        log.compiled.append(group.number)
        return FakeProgram(group)

    def run_batch(group, batch, program, *, saved, progress, stop):
        for cell in batch.cells:
            if cell.number in log.fail:
                raise log.fail[cell.number]
        if stop():
            raise StoppedError
        progress(group.config.rounds * len(batch.cells), False)
        with log.lock:
            log.ran += [cell.number for cell in batch.cells]
        return [CellResult(fake_lines(cell), 0.2) for cell in batch.cells]

    monkeypatch.setattr(local, "compile_group", compile_group)
    monkeypatch.setattr(local, "run_batch", run_batch)
    return log


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """The plan of tiny.toml."""
    path = tmp_path_factory.mktemp("planned") / "tiny.toml"
    path.write_text(TINY + SWEEP)
    return make_plan(load_sweep(path), workers=1, size=2)


@pytest.fixture
def plan(planned, tmp_path):
    """The plan of tiny.toml, which is in the test's folder."""
    (tmp_path / "tiny.toml").write_text(TINY + SWEEP)
    return planned


def contents(folder: Path) -> dict:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- the table ---------------------------------------------------------------------------------------


def test_the_table_has_one_row_per_cell(fake, plan, tmp_path):
    out = tmp_path / "out"
    frame = run_plan(plan, out, executor=Threads(2))
    assert sorted(fake.ran) == list(range(12))
    assert sorted(fake.compiled) == [0, 1]
    assert {path.name for path in out.iterdir()} == {"sweep.json", "results.parquet"}
    read = pd.read_parquet(out / "results.parquet")
    pd.testing.assert_frame_equal(read, frame)
    assert list(frame["cell"]) == [cell.id for cell in plan.sweep.cells]
    assert frame["cell"].is_unique
    first = frame.iloc[4]
    assert (first["aggregator"], first["attack"], first["data"], first["seed"]) == (
        "FedAvg",
        "Sign flipping",
        "synthetic",
        1,
    )
    assert first["attack.fraction"] == 0.2
    assert first["diverged"]
    assert first["rounds"] == 2
    assert list(first["curve_round"]) == [2]
    assert np.isnan(first["curve_loss"][0])
    whole = frame.iloc[0]
    assert list(whole["curve_round"]) == [2, 4]
    assert whole["test_error"] == whole["curve_test_error"][-1]
    assert math.isnan(whole["attack_success_rate"])
    assert (whole["num_clients"], whole["num_malicious"], whole["cells_at_once"]) == (6, 0, 2)
    assert frame["num_malicious"].tolist() == [0] * 3 + [1] * 3 + [0] * 3 + [1] * 3
    assert whole["num_params"] == plan.groups[0].num_params
    assert parse_config(json.loads(whole["config"])) == plan.sweep.cells[0].config
    assert json.loads(whole["versions"])["fljax"] == fljax.__version__
    schema = parquet.read_schema(out / "results.parquet")
    assert schema.field("seed").type == pa.int64()
    assert schema.field("attack.fraction").type == pa.float64()
    assert schema.field("diverged").type == pa.bool_()
    assert schema.field("curve_round").type == pa.list_(pa.int32())
    assert schema.field("curve_trust_benign").type == pa.list_(pa.float64())
    about = json.loads((out / "sweep.json").read_text())
    assert about["name"] == "tiny"
    assert about["cells"] == 12
    assert about["axes"] == {
        "aggregator": ["FedAvg", "Median"],
        "attack": ["Sign flipping"],
        "attack.fraction": [0.0, 0.2],
        "seed": [0, 1, 2],
    }


def test_a_diverged_cell_keeps_its_place_on_an_axis_of_rounds(fake, tmp_path):
    plan = make_plan(make_sweep(tomllib.loads(TINY), {"seeds": 3, "axes": {"rounds": [4, 8]}}), size=2)
    frame = run_plan(plan, tmp_path / "out")
    assert frame["rounds"].tolist() == [4, 4, 4, 8, 8, 8]
    assert frame["diverged"].tolist() == [False] * 4 + [True, False]
    # The rounds that were done are those of its curves.
    assert [list(curve)[-1] for curve in frame["curve_round"]] == [4, 4, 4, 8, 2, 8]
    assert load_results(tmp_path / "out").axes["rounds"] == ["4", "8"]


def test_axes_of_every_kind_have_columns(fake, tmp_path):
    base = parse_config({}).resolved() | {"num_clients": 6, "model": {"name": "logistic_regression"}}
    base["data"] = {"name": "synthetic", "num_train": 200, "num_test": 50}
    base["attack"] = {"name": "constant", "value": 0.0, "fraction": 0.2}
    base |= {"rounds": 10, "root": {"size": 20}, "aggregator": {"name": "mean"}}
    table = {
        "zip": [
            {
                "local.batch_size": [8, "full"],
                "local.steps": [1, 2],
                "rounds": [10, 20],
                "attack.value": [math.nan, 1],
                "server.learning_rate": [1, 0.5],
            }
        ],
        "include": [{"root.bias": 0.5}, {"local.optimizer": {"name": "sign_sgd"}}, {"num_clients": 7}],
    }
    plan = make_plan(make_sweep(base, table))
    frame = run_plan(plan, tmp_path / "out")
    assert frame["local.batch_size"].tolist() == ["8", "full", "32", "32", "32"]
    assert frame["local.steps"].tolist() == [1, 2, 1, 1, 1]
    # The axis, not where a cell came to its end.
    assert frame["rounds"].tolist() == [10, 20, 10, 10, 10]
    assert frame["curve_round"].iloc[4][-1] == 10
    assert frame["attack.value"].tolist() == ["nan", "1", "0.0", "0.0", "0.0"]
    assert frame["server.learning_rate"].tolist() == [1.0, 0.5, 1.0, 1.0, 1.0]
    assert frame["root.bias"].tolist() == ["uniform", "uniform", "0.5", "uniform", "uniform"]
    assert frame["num_clients"].tolist() == [6, 6, 6, 6, 7]
    assert frame["local.optimizer"].iloc[3] == '{"name": "sign_sgd"}'
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "out" / "results.parquet"), frame)
    run_plan(plan, tmp_path / "out", resume=True)


def test_without_a_folder_nothing_is_kept(fake, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values = {"num_clients": 6, "data": {"name": "synthetic"}, "root": {"size": 20}, "rounds": 10}
    frame = fljax.sweeps.sweep(make_sweep(values, {"seeds": 2}), workers=1)
    assert frame["seed"].tolist() == [0, 1]
    assert list(tmp_path.iterdir()) == []


# --- resuming ----------------------------------------------------------------------------------------


def test_only_what_is_missing_is_done(fake, plan, tmp_path):
    out = tmp_path / "out"
    fake.fail = {6: RuntimeError("boom\nand more"), 2: ValueError("bad")}
    with pytest.raises(SweepError) as error:
        run_plan(plan, out)
    assert re.fullmatch(
        r"4 of 12 cells failed, first aggregator=FedAvg, .*seed=2: ValueError: bad", str(error.value)
    )
    assert sorted(fake.ran) == [0, 1, 4, 5, 8, 9, 10, 11]
    kept = read_rows(out)
    fake.fail, fake.ran, fake.compiled = {}, [], []
    frame = run_plan(plan, out, resume=True)
    assert sorted(fake.ran) == [2, 3, 6, 7]
    assert list(frame["cell"]) == [cell.id for cell in plan.sweep.cells]
    by_cell = {row["cell"]: row for row in read_rows(out)}
    for row in kept:
        assert by_cell[row["cell"]] == row
    fake.ran, fake.compiled = [], []
    pd.testing.assert_frame_equal(run_plan(plan, out, resume=True), frame)
    assert fake.ran == fake.compiled == []


def test_a_program_that_cannot_be_compiled_fails_its_cells_alone(fake, plan, tmp_path, monkeypatch):
    def compile_group(group, shared):
        if group.number == 0:
            raise RuntimeError("INTERNAL: no such thing")
        return FakeProgram(group)

    monkeypatch.setattr(local, "compile_group", compile_group)
    with pytest.raises(SweepError, match="6 of 12 cells failed, .*INTERNAL: no such thing"):
        run_plan(plan, tmp_path / "out", executor=Threads(2))
    assert sorted(fake.ran) == list(range(6, 12))
    assert len(read_rows(tmp_path / "out")) == 6


def test_batches_keep_their_names_while_others_get_done(plan):
    before = missing(plan, set())
    done = {cell.id for cell in before[0].cells}
    assert [batch_id(batch) for batch in missing(plan, done)] == [batch_id(batch) for batch in before[1:]]
    assert len({batch_id(batch) for batch in before}) == len(before)


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_with_other_files_is_left_alone(fake, plan, tmp_path, resume):
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("all of it")
    before = contents(out)
    with pytest.raises(ConfigError, match="no sweep to resume" if resume else "files already"):
        run_plan(plan, out, resume=resume)
    assert contents(out) == before
    assert fake.compiled == []


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("inside", [False, True])
def test_a_file_in_the_folder_s_place_is_an_error_of_the_input(fake, plan, tmp_path, inside, resume):
    path = tmp_path / "notes.txt"
    path.write_text("notes")
    with pytest.raises(ConfigError, match=r"notes\.txt"):
        run_plan(plan, path / "out" if inside else path, resume=resume)
    assert path.read_text() == "notes"


def test_a_finished_sweep_is_not_overwritten(fake, plan, tmp_path):
    run_plan(plan, tmp_path / "out")
    before = contents(tmp_path / "out")
    with pytest.raises(ConfigError, match="--resume"):
        run_plan(plan, tmp_path / "out")
    assert contents(tmp_path / "out") == before


@pytest.mark.parametrize(
    ("old", "new", "shown"),
    [
        ("rounds = 4", "rounds = 6", "rounds was 4 and is 6"),
        ("seeds = 3", "seeds = 2", "sweep.seeds was 3 and is 2"),
        (
            '["mean", "median"]',
            '["median"]',
            "sweep.axes.aggregator was ['mean', 'median'] and is ['median']",
        ),
        ("num_clients = 6", "num_clients = 6\ncohort_size = 4", "cohort_size was not given and is 4"),
        ("root = { size = 20 }", "", "root was {'size': 20} and is not given"),
    ],
)
def test_another_configuration_shows_the_difference(fake, plan, tmp_path, old, new, shown):
    run_plan(plan, tmp_path / "out")
    before = contents(tmp_path / "out")
    (tmp_path / "tiny.toml").write_text((TINY + SWEEP).replace(old, new))
    other = make_plan(load_sweep(tmp_path / "tiny.toml"))
    with pytest.raises(ConfigError) as error:
        run_plan(other, tmp_path / "out", resume=True)
    assert f"holds another sweep: {shown}" in str(error.value)
    assert "\n" not in str(error.value)
    assert contents(tmp_path / "out") == before


@pytest.mark.parametrize("name", ["sweep.json", "results.parquet"])
@pytest.mark.parametrize("damage", ["empty", "half", "noise", "other"])
def test_a_damaged_file_is_one_sentence(fake, plan, tmp_path, name, damage):
    out = tmp_path / "out"
    run_plan(plan, out)
    good = (out / name).read_bytes()
    if damage == "other" and name == "results.parquet":
        pd.DataFrame({"cell": ["a"], "x": [1]}).to_parquet(out / name)
    else:
        bad = {"empty": b"", "half": good[: len(good) // 2], "noise": b"\xff\xfe" * 99, "other": b"[1, 2]"}
        (out / name).write_bytes(bad[damage])
    before = contents(out)
    with pytest.raises(DataError, match=re.escape(name)) as error:
        run_plan(plan, out, resume=True)
    assert "\n" not in str(error.value)
    assert contents(out) == before


def test_flipped_bytes_are_no_traceback(fake, plan, tmp_path):
    out = tmp_path / "out"
    run_plan(plan, out)
    good = (out / "results.parquet").read_bytes()
    generator = random.Random(0)
    for _ in range(60):
        bad = bytearray(good)
        for _ in range(3):
            bad[generator.randrange(len(bad))] ^= 1 << generator.randrange(8)
        (out / "results.parquet").write_bytes(bad)
        try:
            SweepFolder(out, plan.sweep, resume=True)
        except DataError as error:
            assert "results.parquet" in str(error)  # noqa: PT017 - it may also be readable


def test_cells_of_another_version_are_no_cells_of_this_sweep(fake, plan, tmp_path):
    out = tmp_path / "out"
    run_plan(plan, out)
    frame = pd.read_parquet(out / "results.parquet")
    frame.loc[0, "cell"] = "0" * 16
    parquet.write_table(
        pa.Table.from_pandas(frame, schema=parquet.read_schema(out / "results.parquet")),
        out / "results.parquet",
    )
    with pytest.raises(DataError, match="cells that this sweep does not have"):
        run_plan(plan, out, resume=True)


def test_a_path_that_looks_like_a_partition_is_a_path(fake, plan, tmp_path):
    out = tmp_path / "seed=7" / "data=x"
    frame = run_plan(plan, out)
    assert [row["seed"] for row in read_rows(out)] == frame["seed"].tolist() == [0, 1, 2] * 4


def test_a_batch_that_is_stopped_between_its_parts_keeps_the_first(fake, plan, tmp_path, monkeypatch):
    # The compiler has found two cells too many for the memory.
    monkeypatch.setattr(local, "compile_group", lambda group, shared: FakeProgram(group.resized(1)))
    stop = Stop()

    class StopAtOnce(Watcher):
        def progress(self, batch, rounds, kept):
            stop.number = signal.SIGTERM

    for done in (1, 2):
        with pytest.raises(InterruptError):
            run_plan(plan, tmp_path / "out", resume=True, watcher=StopAtOnce(), stop=stop)
        assert len(read_rows(tmp_path / "out")) == done
        stop.number = 0


def test_checkpoints_that_no_batch_uses_are_said(fake, plan, tmp_path):
    out = tmp_path / "out"
    fake.fail = {2: ValueError("bad")}
    with pytest.raises(SweepError):
        run_plan(plan, out)
    said = []

    class Notes(Watcher):
        def note(self, text):
            said.append(text)

    (left,) = missing(plan, {row["cell"] for row in read_rows(out)})
    # Of the batch, of a part of it by a smaller program, and of one that was killed when its rows were there.
    used = [left, left._replace(cells=left.cells[1:]), plan.groups[0].batches[0]]
    for name in (*map(batch_id, used), "0" * 16):
        assert said == []
        (out / "batches" / name).mkdir(parents=True)
        (out / "batches" / name / "round_2.checkpoint").write_bytes(b"")
        with pytest.raises(SweepError):
            run_plan(plan, out, resume=True, watcher=Notes())
    assert len(said) == 1
    assert "what 1 batches had saved is of cells that are not run together now" in said[0]
    said.clear()
    other = make_plan(plan.sweep, workers=1, size=4)
    with pytest.raises(SweepError):
        run_plan(other, out, resume=True, watcher=Notes())
    assert len(said) == 1


def test_left_overs_of_a_killed_write_do_not_matter(fake, plan, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    # Killed while the very first file was being written.
    (out / ".sweep.json.partial").write_text('{"name"')
    frame = run_plan(plan, out, resume=True)
    (out / ".results.parquet.partial").write_bytes(b"PAR1 half")
    (out / "batches" / "0123").mkdir(parents=True)
    pd.testing.assert_frame_equal(run_plan(plan, out, resume=True), frame)
    assert not (out / "batches").exists()


# --- writes that fail --------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_keeps_the_previous_table_and_stops_the_threads(
    fake, plan, tmp_path, monkeypatch, workers
):
    out = tmp_path / "out"
    synced, allowed, failed = os.fsync, 3, threading.Event()

    def fsync(file):
        nonlocal allowed
        allowed -= 1
        if allowed < 0:
            failed.set()
            raise OSError(28, "No space left on device")
        synced(file)

    quick = local.run_batch

    def run_batch(*given, **named):
        if len(fake.ran) >= 6:  # not faster than the table is written
            failed.wait(60)
        time.sleep(0.05)
        return quick(*given, **named)

    monkeypatch.setattr(local, "run_batch", run_batch)
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", fsync)
        with pytest.raises(OSError, match="No space left"):
            run_plan(plan, out, executor=Threads(workers))
    # The threads have ended with the call: nothing goes on behind its back.
    ran = len(fake.ran)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ThreadPoolExecutor")]
    assert ran <= 6 + 2 * workers
    rows = read_rows(out)
    assert len(rows) == 4  # sweep.json, and two batches
    frame = run_plan(plan, out, resume=True)
    assert list(frame["cell"]) == [cell.id for cell in plan.sweep.cells]
    assert len(fake.ran) == ran + 8
    assert {path.name for path in out.iterdir()} == {"sweep.json", "results.parquet"}


def test_whatever_ends_the_loop_ends_the_threads(fake, plan, tmp_path):
    class Interrupting(Tracker):
        def cell(self, cell):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_plan(plan, tmp_path / "out", executor=Threads(2), track=Interrupting())
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ThreadPoolExecutor")]
    assert len(read_rows(tmp_path / "out")) == 2
    assert len(run_plan(plan, tmp_path / "out", resume=True)) == 12


# --- trackers ----------------------------------------------------------------------------------------


def test_csv_holds_the_rows_so_far(fake, plan, tmp_path):
    out = tmp_path / "out"
    fake.fail = {2: ValueError("bad")}
    with pytest.raises(SweepError):
        run_plan(plan, out, track="csv")
    assert len(list(csv.DictReader((out / "results.csv").open()))) == 10
    fake.fail = {}
    run_plan(plan, out, resume=True)
    # Also where nothing is left to do: the option is about the file.
    frame = run_plan(plan, out, resume=True, track="csv")
    rows = list(csv.DictReader((out / "results.csv").open()))
    assert [row["cell"] for row in rows] == list(frame["cell"])
    assert [float(row["test_error"]) for row in rows] == frame["test_error"].tolist()
    assert rows[0]["attack.fraction"] == "0.0"
    assert not [name for name in rows[0] if name.startswith("curve_") or name == "config"]


def test_tensorboard_has_every_curve_once(fake, plan, tmp_path):
    from tensorboardX.event_file_writer import EventFileWriter  # noqa: F401 - the extra is installed
    from tensorboardX.proto.event_pb2 import Event

    out = tmp_path / "out"
    for resume in (False, True):  # a second time, over the first
        run_plan(plan, out, resume=resume, track="tensorboard")
    folders = sorted((out / "tensorboard").iterdir())
    assert len(folders) == 12
    rows = {row["cell"][:6]: row for row in read_rows(out)}
    for folder in folders:
        (file,) = folder.iterdir()
        raw, points, at = file.read_bytes(), [], 0
        while at < len(raw):  # records: length, its checksum, the event, its checksum
            length = int.from_bytes(raw[at : at + 8], "little")
            event = Event.FromString(raw[at + 12 : at + 12 + length])
            points += [(v.tag, event.step, v.simple_value) for v in event.summary.value]
            at += length + 16
        row = rows[folder.name[-6:]]
        errors = [(step, value) for tag, step, value in points if tag == "test_error"]
        assert [step for step, _ in errors] == row["curve_round"]
        assert [value for _, value in errors] == pytest.approx(row["curve_test_error"])
        assert ("loss" in {tag for tag, _, _ in points}) != row["diverged"]


def test_folders_of_tensorboard_tell_the_cells_apart():
    axes = {
        "aggregator": ["median", "mean"],
        "attack.fraction": [0.1, 0.15, 0.2, 0.3, 0.4],
        "partition": ["iid", {"name": "dirichlet", "alpha": 0.1}, {"name": "dirichlet", "alpha": 1.0}],
    }
    made = make_sweep({"num_clients": 20, "attack": {"name": "none"}}, {"seeds": 2, "axes": axes})
    varying = [name for name, values in made.axes.items() if len(values) > 1]
    rows = [{**cell.axes, "cell": cell.id} for cell in made.cells]
    names = [run_name(row, varying).rpartition("-")[0] for row in rows]  # without the id, which tells nobody
    assert len(set(names)) == len(made.cells) == 60
    assert "Median-no_attack-attack.fraction=0.15-partition=iid-seed1" in names
    assert not any(re.search(r"[^\w.+=-]", name) for name in names)
    long = {**rows[0], "aggregator": "ü/" * 300}
    assert len(run_name(long, varying).encode()) <= 255
    assert run_name(long, varying).endswith(f"-seed0-{made.cells[0].id[:6]}")


def test_one_that_fails_does_not_lose_the_sweep(fake, plan, tmp_path):
    class Failing(Tracker):
        def cell(self, cell):
            raise OSError(28, "No space left on device")

    heard, watcher = [], Watcher()
    watcher.note = heard.append
    frame = run_plan(plan, tmp_path / "out", watcher=watcher, track=Failing())
    assert len(frame) == 12
    assert heard == [
        "track Failing has failed (OSError: [Errno 28] No space left on device); the sweep goes on without it"
    ]


def test_a_tracker_hears_of_cells_as_runs_and_of_failures(fake, plan, tmp_path):
    class Own(Tracker):
        def __init__(self):
            self.cells = []

        def start(self, started):
            self.started = started

        def cell(self, cell):
            self.cells.append(cell)

        def end(self, summary):
            self.summary = summary

    own = Own()
    fake.fail = {2: ValueError("bad")}
    with pytest.raises(SweepError):
        run_plan(plan, tmp_path / "out", track=own)
    assert (own.started.kind, own.started.name, own.started.config["cells"]) == ("sweep", "tiny", 12)
    assert own.summary == {"cells": 10, "failed": 2}
    for cell in own.cells:
        lines = fake_lines(plan.sweep.cells[cell.number])
        kept = [{name: line[name] for name in cell.lines[0]} for line in lines]
        assert list(cell.lines) == kept
        assert cell.config == plan.sweep.cells[cell.number].config.resolved()
        assert cell.summary["test_error"] == lines[-1]["test_error"]
    fake.fail, again = {}, Own()
    run_plan(plan, tmp_path / "out", resume=True, track=again)
    assert again.started.resumed
    assert sorted(cell.number for cell in again.cells) == list(range(12))


# --- the display -------------------------------------------------------------------------------------


def shown(plan, out):
    """What a terminal of 150 columns has at the end."""
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123
        console = Console(force_terminal=True, width=150, record=True, file=nowhere)
        with SweepDisplay(console, plan, missing(plan, set())) as display:
            run_plan(plan, out, watcher=display)
        console.print(display.render())
    return console.export_text()


@pytest.mark.parametrize(("width", "height"), [(100, 30), (80, 24), (60, 24), (40, 12), (30, 6)])
def test_the_bar_is_there_on_terminals_of_any_size(fake, plan, tmp_path, width, height):
    with (tmp_path / "screen").open("w") as file:
        console = Console(force_terminal=True, width=width, height=height, record=True, file=file)
        with SweepDisplay(console, plan, missing(plan, set())) as display:
            run_plan(plan, tmp_path / "out", watcher=display)
        console.export_text()
        console.print(display.render())
    lines = console.export_text().splitlines()
    assert len(lines) < height
    assert max(map(len, lines)) <= width
    text = " ".join(lines)
    assert "12/12 cells" in text
    assert re.search(r"program 2/2 +\S+ +rounds/s", text)
    assert "…" not in text
    # At least the latest cell, where there is room for one.
    assert ("latest cells" in text) == (height > 6)
    if height > 6:
        last = read_rows(tmp_path / "out")
        assert any(f"{row['test_error']:.4f}" in text for row in last)


def test_a_log_has_a_line_for_every_batch(fake, plan, tmp_path):
    fake.fail = {2: ValueError("bad")}
    console = Console(width=150, record=True, file=(tmp_path / "log").open("w"))
    with pytest.raises(SweepError), SweepDisplay(console, plan, missing(plan, set())) as display:
        run_plan(plan, tmp_path / "out", watcher=display)
    lines = console.export_text().splitlines()
    assert len(lines) == 6
    assert re.match(
        r"2/12 cells  FedAvg, Sign flipping: test error 0\.\d+, 0\.\d+  program [12]/2  \S+ rounds/s",
        lines[0],
    )
    assert lines[1] == "2/12 cells  FedAvg, Sign flipping: 2 cells failed: ValueError"
    assert "†" in lines[2]
    assert lines[-1].startswith("10/12 cells  Median")
    assert "\x1b" not in (tmp_path / "log").read_text()


def test_a_log_is_not_silent_for_long_and_knows_what_was_done_before(fake, plan, tmp_path, monkeypatch):
    monkeypatch.setattr("fljax.sweeps.display.SILENCE", 5.0)
    now = [0.0]
    monkeypatch.setattr("fljax.sweeps.display.time.monotonic", lambda: now[0])
    console = Console(width=150, record=True, file=(tmp_path / "log").open("w"))
    batches = missing(plan, set())
    first, rounds = batches[0], plan.groups[batches[0].group].config.rounds
    total = sum(len(batch.cells) * rounds for batch in batches)
    display = SweepDisplay(console, plan, batches)
    display.progress(first, 2 * len(first.cells), True)
    now[0] = 4.0
    display.progress(first, 2, False)
    assert console.export_text(clear=False) == ""
    now[0] = 10.0
    display.progress(first, 2, False)
    # Ten seconds for four rounds; the others were there.
    left = duration(10 / 4 * (total - 2 * len(first.cells) - 4))
    assert console.export_text(clear=False) == f"0/12 cells  program 0/2  0.4 rounds/s  {left} left\n"
    display.finished(Finished(plan.groups[first.group], first, [], 0.0, ValueError("bad")), [])
    assert display.tally.rounds == len(first.cells) * rounds


def test_a_terminal_has_a_bar_and_the_latest_cells(fake, plan, tmp_path):
    text = shown(plan, tmp_path / "out")
    assert "latest cells" in text
    assert "12/12" in text
    assert re.search(r"Median +│ 0\.2 +│ 2 ", text)
    assert "†" in text


# --- where batches run --------------------------------------------------------------------------------


class InTurn:
    """An executor of a user's own: a batch after the other in this thread, the last one first."""

    workers, in_process = 1, True

    def __init__(self):
        self.under_way = 0

    @contextmanager
    def run(self, work):
        compiled = functools.cache(work.compile)
        self.under_way += 1
        yield (work.run(batch, compiled) for batch in reversed(work.batches))
        self.under_way -= 1


def test_an_executor_of_one_s_own_runs_a_sweep(fake, tmp_path):
    cells, mine = make_sweep(tomllib.loads(TINY), tomllib.loads(SWEEP)["sweep"]), InTurn()
    expected = fljax.sweep(cells, progress=False, workers=1)
    fake.ran, fake.compiled = [], []
    frame = fljax.sweep(cells, tmp_path / "out", progress=False, executor=mine)
    pd.testing.assert_frame_equal(frame, expected)
    assert fake.ran == [*range(6, 12), *range(6)]
    assert fake.compiled == [1, 0]
    assert mine.under_way == 0
    fake.fail = {7: ValueError("bad")}
    with pytest.raises(SweepError, match="6 of 12 cells failed"):
        fljax.sweep(cells, progress=False, executor=mine)
    assert mine.under_way == 0


def test_an_executor_that_is_none_is_an_error():
    cells = make_sweep(tomllib.loads(TINY), {"seeds": 1})
    with pytest.raises(ConfigError, match='executor=\'somewhere\' must be "local" or "ray"'):
        fljax.sweep(cells, progress=False, executor="somewhere")
    with pytest.raises(ConfigError, match="executor: an executor of your own takes no workers, address"):
        fljax.sweep(cells, progress=False, executor=InTurn(), workers=2)


# --- from Python -------------------------------------------------------------------------------------


def test_from_python_the_progress_is_shown_unless_something_else_is_asked(
    fake, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(local, "default_workers", lambda: 1)
    cells = make_sweep(tomllib.loads(TINY), tomllib.loads(SWEEP)["sweep"])
    fljax.sweep(cells, progress=False)
    assert capsys.readouterr() == ("", "")
    fljax.sweep(cells)
    out, err = capsys.readouterr()
    assert out == ""
    assert "12/12 cells  Median" in err.splitlines()[-1]
    told = []
    fljax.sweep(cells, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (12, 12)
    assert told == sorted(told)

    class Mine(Watcher):
        cells = 0

        def finished(self, finished, rows):
            self.cells += len(rows)

    mine = Mine()
    fljax.sweep(cells, progress=mine)
    assert mine.cells == 12
    assert capsys.readouterr() == ("", "")


def test_an_interrupt_says_how_to_continue(fake, tmp_path):
    cells, out = make_sweep(tomllib.loads(TINY), tomllib.loads(SWEEP)["sweep"]), tmp_path / "out"

    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as error:
        fljax.sweep(cells, out, progress=interrupt)
    assert error.value.__notes__ == [
        f"what is done is kept; continue with fljax.sweep(..., out={str(out)!r}, resume=True)"
    ]
    with pytest.raises(KeyboardInterrupt) as error:
        fljax.sweep(cells, progress=interrupt)
    assert not hasattr(error.value, "__notes__")  # nothing is kept
    told = []
    fljax.sweep(cells, out, resume=True, progress=lambda done, total: told.append((done, total)))
    assert 0 < told[0][0] <= told[-1][0] == 12


def test_long_planning_is_shown(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("fljax.sweeps.display.time.monotonic", lambda: now[0])
    console = Console(width=150, record=True, file=(tmp_path / "log").open("w"))
    with Planning(console) as planning:
        told = planning.told("planning")
        told(1000, 5000)
        now[0] = 10.0
        told(2000, 5000)
    assert console.export_text() == "planning 2,000 of 5,000 cells\n"
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123
        console = Console(force_terminal=True, width=150, record=True, file=nowhere)
        with Planning(console) as planning:
            planning.told("planning")(3000, 5000)
            planning.bar.refresh()
    assert "planning 3,000 of 5,000 cells" in console.export_text()


# --- many cells --------------------------------------------------------------------------------------


def test_the_whole_table_is_not_written_after_every_batch(fake, plan, tmp_path, monkeypatch):
    monkeypatch.setattr("fljax.sweeps.folder.WHOLE_SHARE", 1e-9)
    written = []
    monkeypatch.setattr(
        "fljax.sweeps.folder.write_rows",
        lambda path, rows, sweep: (written.append((path.name, len(rows))), write_rows(path, rows, sweep)),
    )
    seen = []

    def look(finished, rows):
        seen.append((len(read_rows(tmp_path / "out")), len(load_results(tmp_path / "out").frame)))

    watcher = Watcher()
    watcher.finished = look
    frame = run_plan(plan, tmp_path / "out", watcher=watcher, track="csv")
    whole = [count for name, count in written if name == "results.parquet"]
    assert whole == [2, 12]  # the first time, and at the end
    assert seen == [(count, count) for count in (2, 4, 6, 8, 10, 12)]
    assert names(tmp_path / "out") == {"sweep.json", "results.parquet", "results.csv"}
    assert frame["cell"].tolist() == [cell.id for cell in plan.sweep.cells]
    assert len((tmp_path / "out" / "results.csv").read_text().splitlines()) == 13


def test_rows_that_are_in_the_table_and_in_a_part_count_once(fake, plan, tmp_path, monkeypatch):
    out = tmp_path / "out"
    frame = run_plan(plan, out)
    rows = read_rows(out)
    (out / "parts").mkdir()  # killed after the table was written, before the parts were gone
    write_rows(out / "parts" / "0.parquet", rows[3:5], plan.sweep)
    assert read_rows(out) == rows
    assert len(load_results(out).frame) == 12
    fake.ran = []
    pd.testing.assert_frame_equal(run_plan(plan, out, resume=True), frame)
    assert fake.ran == []
    assert names(out) == {"sweep.json", "results.parquet"}


# --- memory ------------------------------------------------------------------------------------------


def test_a_cell_that_runs_out_of_memory_says_what_to_lower(fake, plan, tmp_path):
    fake.fail = {2: MemoryError("std::bad_alloc")}
    with pytest.raises(SweepError, match=r"2 of 12 cells failed, .*: memory ran out: lower "):
        run_plan(plan, tmp_path / "out")
    assert len(read_rows(tmp_path / "out")) == 10


def test_what_the_compiler_finds_too_large_is_refused(plan, tmp_path, monkeypatch):
    monkeypatch.setattr(local, "compile_group", lambda group, shared: FakeProgram(group, 3 * 10**9))
    with pytest.raises(
        SweepError, match=r"12 of 12 cells failed, .*this needs 3\.0 GB, but 2\.0 GB are allowed"
    ):
        run_plan(plan._replace(budget=2 * 10**9, strict=True), tmp_path / "out")
    monkeypatch.setattr(local, "available", lambda: Limit(10**9, "free on this machine"))
    with pytest.raises(SweepError, match=r"3\.0 GB, but 1\.0 GB are free on this machine"):
        run_plan(plan._replace(budget=2 * 10**9), tmp_path / "other")


# --- the command -------------------------------------------------------------------------------------


@pytest.fixture
def cli(monkeypatch, capsys, tmp_path, fake):
    """The command line in an empty folder that holds tiny.toml, with made-up results and no figures."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fljax.report.write_report", lambda folder: [folder / "report" / "report.md"])
    (tmp_path / "tiny.toml").write_text(TINY + SWEEP)
    return command(monkeypatch, capsys)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_sweep_runs_and_says_what_it_wrote(cli, tmp_path):
    outcome = cli("sweep", "tiny.toml", "--workers", "1", "--csv", "--tensorboard")
    assert outcome.status == 0
    assert outcome.err == ""
    assert "12 cells in 2 programs, 1 at a time; 12 cells to do" in outcome.out
    assert "written to runs/tiny/: results.parquet, report/report.md" in outcome.out
    assert "FedAvg" in outcome.out
    assert names(tmp_path / "runs" / "tiny") == {
        "sweep.json",
        "results.parquet",
        "results.csv",
        "tensorboard",
    }
    again = cli("sweep", "tiny.toml", "--out", "runs/tiny", "--resume")
    assert again.status == 0
    assert "0 cells to do" in again.out
    assert names(tmp_path / "runs") == {"tiny"}


def test_a_dry_run_shows_the_plan_and_writes_nothing(cli, tmp_path, fake):
    outcome = cli("sweep", "tiny.toml", "--dry-run", "--workers", "1", "--set", "sweep.seeds=20")
    assert outcome.status == 0
    rows = [line for line in outcome.out.splitlines() if "│" in line]
    assert len(rows) == 2
    for row, rule in zip(rows, ("FedAvg", "Median"), strict=True):
        assert rule in row
        assert "attack.fraction, seed" in row
        assert re.search(r"│ +40 │ +8 │ +[\d,]+ MB │ +\S.*│", row)
    assert re.search(
        r"80 cells in 2 programs, 1 at a time, roughly .+ here; a program may use [\d.]+ GB", outcome.out
    )
    assert names(tmp_path) == {"tiny.toml"}
    assert fake.compiled == []


def test_a_sweep_with_a_cell_that_cannot_fit_is_refused_before_anything_runs(cli, tmp_path, fake):
    large = ["--set", "sweep.axes.model=['logistic_regression', {name = 'mlp', hidden = [4000]}]"]
    outcome = cli("sweep", "tiny.toml", "--memory", "0.003", *large)
    assert outcome.status == 2
    assert re.search(r"^fljax: memory: this needs about 9\.\d MB, but 3\.0 MB are allowed", outcome.err)
    assert "model=mlp" in outcome.err
    assert outcome.err.count("\n") == 1
    outcome = cli("sweep", "tiny.toml", "--memory", "0.003", "--dry-run", *large)
    assert outcome.status == 2
    assert "fljax: 2 of 4 programs do not fit the memory" in outcome.err
    assert outcome.out.count("(too much)") == 2
    assert outcome.out.count("does not fit: memory: this needs about") == 2
    assert names(tmp_path) == {"tiny.toml"}
    assert fake.compiled == []


def test_programs_that_do_not_fit_beside_each_other_are_refused(cli, fake, monkeypatch):
    monkeypatch.setattr(limits, "available", lambda: Limit(9_000_000, "free on this machine"))
    words = ["sweep", "tiny.toml", "--set", "model={name = 'mlp', hidden = [4000]}"]
    outcome = cli(*words, "--workers", "2")
    assert outcome.status == 2
    assert re.search(r"2 programs at the same time need about \d+ MB, but 9\.0 MB are free", outcome.err)
    assert fake.compiled == []


@pytest.mark.parametrize(
    ("words", "fragments"),
    [
        (
            ["--set", "sweep.axes.aggregator=['mean', 'medain']"],
            ["'median'", "in the cell aggregator=medain"],
        ),
        (
            ["--set", 'sweep.axes.aggregator=["mean", {name = "krum", num_malicious = 5}]'],
            ["krum", "aggregator=Krum"],
        ),
        (["--set", "sweep.axes.aggregator=mean"], ["sweep.axes.aggregator", "paper, all"]),
        (["--set", "rounds=3"], ["rounds=3"]),
        (["--workers", "0"], ["workers=0", "at least 1"]),
        (["--memory", "0"], ["memory=0.0", "positive"]),
        (["--memory", "inf"], ["memory=inf", "positive"]),
        (["--memory", "nan"], ["memory=nan", "positive"]),
        (["--resume"], ["--resume needs --out"]),
        (["--out", "tiny.toml"], ["tiny.toml", "file"]),
        (["--out", "."], ["holds files already"]),
        (["--out", ".", "--resume"], ["no sweep to resume"]),
    ],
)
def test_wrong_input_is_one_sentence_and_writes_nothing(cli, tmp_path, fake, words, fragments):
    before = contents(tmp_path)
    outcome = cli("sweep", "tiny.toml", *words)
    assert outcome.status == 2, outcome
    assert re.fullmatch(r"fljax: [^\n]+\n", outcome.err), outcome.err
    for fragment in fragments:
        assert fragment in outcome.err
    assert contents(tmp_path) == before
    assert names(tmp_path) == {"tiny.toml"}
    assert fake.compiled == []


def test_failed_cells_are_exit_status_1(cli, fake):
    fake.fail = {0: RuntimeError("boom")}
    outcome = cli("sweep", "tiny.toml")
    assert outcome.status == 1
    assert "cells failed" in outcome.err
    assert outcome.err.startswith("fljax: ")


def test_run_points_to_sweep_and_data_shows_the_base(cli, tmp_path):
    outcome = cli("run", "tiny.toml")
    assert outcome.status == 2
    assert outcome.err == "fljax: this file has a [sweep] table; run it with: fljax sweep\n"
    assert cli("data", "tiny.toml", "--out", "mine.png").status == 0
    assert (tmp_path / "mine.png").stat().st_size > 1000
    (tmp_path / "plain.toml").write_text(TINY)
    outcome = cli("sweep", "plain.toml")
    assert outcome.status == 2
    assert "no [sweep] table" in outcome.err


def test_on_a_terminal_the_bar_moves(cli, monkeypatch):
    master, slave = pty.openpty()
    read = []

    def reader():
        try:
            while chunk := os.read(master, 4096):
                read.append(chunk)
        except OSError:  # the other end is closed
            return

    thread = threading.Thread(target=reader)
    thread.start()
    with os.fdopen(slave, "w") as terminal, monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", terminal)
        patched.setenv("TERM", "xterm")
        patched.setenv("COLUMNS", "150")
        outcome = cli("sweep", "tiny.toml")
        terminal.flush()
    thread.join(10)
    os.close(master)
    text = b"".join(read).decode()
    assert outcome.status == 0
    assert "\x1b[" in text
    assert "12/12" in text
    assert "latest cells" in text
    assert "1/12 cells  " not in text


# --- processes that are killed -----------------------------------------------------------------------

LONG = """
rounds = 240
eval_every = 2
checkpoint_every = 2
num_clients = 6
data = { name = "synthetic", num_train = 200, num_test = 50 }
model = { name = "logistic_regression" }
root = { size = 20 }
server = { optimizer = { name = "adam" }, learning_rate = 0.01 }
aggregator = { name = "mean" }
attack = { name = "sign_flip", fraction = 0.2 }
[sweep]
seeds = 6
[sweep.axes]
"attack.fraction" = [0.0, 0.34]
"""
# Imports once, then a fork for every attempt: `attempts.py whole`, or `attempts.py kill out seed`.
ATTEMPTS = """
import os, random, signal, sys, time
from pathlib import Path
from fljax.sweeps import load_sweep, make_plan, run_plan
from fljax.sweeps.executors.base import Watcher

class Log(Watcher):
    def progress(self, batch, rounds, kept):
        if kept:
            with open("kept.txt", "a") as file: print(rounds, file=file)

def attempt(out):
    plan = make_plan(load_sweep("long.toml"), workers=1, size=3)
    run_plan(plan, Path(out), resume=True, watcher=Log())

def kill(child, when):
    while not when():
        if os.waitpid(child, os.WNOHANG)[0]: return False
        time.sleep(0.001)
    time.sleep(draw.random() * 0.1)
    os.kill(child, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])

out, number = sys.argv[1], int(sys.argv[2])
draw = random.SystemRandom()
folder = Path(out)
def checkpoints(): return sorted(folder.glob("batches/*/round_*.checkpoint"))
for i in range(number):
    moment = time.monotonic() + draw.uniform(0, 1.5)
    before, table = set(checkpoints()), folder / "results.parquet"
    at = table.stat().st_mtime_ns if table.exists() else 0
    moments = [
        lambda: len(set(checkpoints()) - before) > 0 and time.monotonic() > moment,
        lambda: table.exists() and table.stat().st_mtime_ns != at,
        lambda: time.monotonic() > moment,
    ]
    child = os.fork()
    if not child:
        attempt(out); os._exit(0)
    print("killed" if kill(child, moments[i % 3]) else "finished", flush=True)
child = os.fork()
if not child:
    attempt(out); os._exit(0)
print("end", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with long.toml, and the environment of processes there."""
    folder = tmp_path_factory.mktemp("killed")
    (folder / "long.toml").write_text(LONG)
    (folder / "attempts.py").write_text(ATTEMPTS)
    root = str(Path(fljax.__file__).parents[1])
    return folder, os.environ | {"PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}


def without_times(folder: Path) -> list[dict]:
    rows = parquet.read_table(folder / "results.parquet").to_pylist()
    return [{key: value for key, value in row.items() if key not in TIMES} for row in rows]


@pytest.mark.slow
def test_killed_again_and_again_nothing_is_lost(workplace):
    folder, environment = workplace
    # Half a program, written by a process that was killed, is for no other test.
    environment = environment | {"JAX_COMPILATION_CACHE_DIR": str(folder / "cache")}
    subprocess.run(
        [sys.executable, "attempts.py", "whole", "0"], cwd=folder, env=environment, check=True, timeout=300
    )
    done = subprocess.run(
        [sys.executable, "attempts.py", "killed", "5"],
        cwd=folder,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
        timeout=500,
    )
    said = done.stdout.split()
    assert said[-2:] == ["end", "0"], done
    assert said.count("killed") >= 3, done
    whole, killed = without_times(folder / "whole"), without_times(folder / "killed")
    assert len(whole) == 12
    assert repr(killed) == repr(whole)  # bit for bit, NaN too
    assert names(folder / "killed") - {".results.parquet.partial"} == {"sweep.json", "results.parquet"}
    # A batch under way went on from its checkpoint.
    assert max(int(rounds) for rounds in (folder / "kept.txt").read_text().split()) > 0


def start(folder: Path, environment: dict, *words: str) -> subprocess.Popen:
    # A shell may have started the tests with SIGINT ignored, and children inherit that.
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from fljax.cli.app import main; main()"
    )
    line = [sys.executable, "-c", program, "sweep", "long.toml", "--workers", "1", *words]
    pipe = subprocess.PIPE
    return subprocess.Popen(line, cwd=folder, env=environment, stdout=pipe, stderr=pipe, text=True)


@pytest.mark.parametrize("name", ["SIGINT", "SIGHUP"])
def test_a_signal_saves_and_says_how_to_go_on(workplace, name):
    folder, environment = workplace
    out = folder / name
    # So long that no machine finishes it before the signal.
    extra = [
        "--set",
        "rounds=2400000",
        "--set",
        "sweep.seeds=3",
        "--set",
        "sweep.axes.attack.fraction=[0.34]",
    ]
    process = start(folder, environment, "--out", name, "--csv", *extra)
    deadline = time.monotonic() + 200
    while not (out / "sweep.json").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    # While it compiles, or while it runs.
    time.sleep(random.SystemRandom().random() * 4)
    process.send_signal(getattr(signal, name))
    stdout, stderr = process.communicate(timeout=100)
    assert process.returncode == 128 + getattr(signal, name)
    assert "stopping: waiting for the rounds under way" in stderr
    assert "Traceback" not in stdout + stderr
    words = ["fljax", "sweep", "long.toml", "--out", name, "--resume", "--workers", "1", "--csv", *extra]
    again = shlex.join(words)
    assert f"interrupted; continue with: {again}" in stdout
    # What the command says is a log: no escape sequences.
    assert "\x1b" not in stdout
    assert names(out) <= {"sweep.json", "status.json", "batches", ".lock"}
