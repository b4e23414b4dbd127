"""`fljax watch`: folders that are empty, under way, left alone, damaged, finished."""

import io
import json
import os
import re
import socket
import sys
import time

import pyarrow as pa
import pytest
from pyarrow import parquet

from fljax.cli.watch import Look
from fljax.errors import DataError
from fljax.sweeps.executors.base import Finished, Watcher
from fljax.sweeps.tally import StatusFile
from tests.support.command import command
from tests.support.run_folders import contents
from tests.support.sweep_folders import cell, write_sweep

pytestmark = pytest.mark.usefixtures("shared_experiments")

AXES = {"aggregator": ["FedAvg", "Krum"], "attack": ["Trim attack"], "seed": [0, 1]}


@pytest.fixture
def cli(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return command(monkeypatch, capsys, "watch")


def cells(*seeds, **others):
    return [cell("FedAvg", "Trim attack", seed, 0.25, **others) for seed in seeds]


def write_status(folder, **changes):
    status = {
        "process": os.getpid(),
        "host": socket.gethostname(),
        "ended": False,
        "started": time.time() - 75,
        "written": time.time(),
        "rounds_per_second": 12.0,
        "seconds_left": 60.4,
        "programs": [1, 2],
        "compiling": ["Krum, Trim attack"],
        "failed": [],
        "running": [{"what": "FedAvg, Trim attack", "cells": 1, "rounds": 20, "of": 40}],
    }
    (folder / "status.json").write_text(json.dumps(status | changes))


def test_a_sweep_under_way(cli, tmp_path):
    folder = write_sweep(tmp_path / "way", AXES, cells(0), total=4)
    write_status(folder)
    before = contents(folder)
    text = cli(folder, "--once").out
    for shown in (
        "demo: 1 of 4 cells done, 1 running, 2 to do",
        "12 rounds/s  1 min 0 s left  program 1/2",
        "compiling Krum, Trim attack",
        f"running for 1 min 15 s as process {os.getpid()} on",
    ):
        assert shown in text
    assert re.search(r"FedAvg, Trim attack │ +1 │ +20/40", text)
    assert re.search(r"FedAvg +│ 0 +│ 0\.2500", text)
    assert max(map(len, text.splitlines())) <= 80
    assert contents(folder) == before, "it only reads"


def test_a_finished_sweep_ends_by_itself(cli, tmp_path):
    folder = write_sweep(tmp_path / "done", AXES | {"aggregator": ["FedAvg"]}, cells(0, 1, diverged=True))
    write_status(folder)  # of an earlier process
    outcome = cli(folder)
    assert outcome.status == 0
    assert "demo: 2 of 2 cells done  2 diverged (†)" in outcome.out
    assert "running" not in outcome.out


@pytest.mark.parametrize(
    "changes",
    [
        *({"process": bad} for bad in (None, "x", [], -1, 10**30)),
        *({"written": bad} for bad in (None, "now", [], float("nan"))),
        *({"rounds_per_second": None}, {"seconds_left": "soon"}, {"programs": [1]}, {"running": [{}]}),
        *({"failed": [None]}, {"compiling": [{}]}, {"host": None}),
    ],
)
def test_a_status_that_no_sweep_has_written_is_none(cli, tmp_path, changes):
    folder = write_sweep(tmp_path / "odd", AXES, cells(0), total=4)
    write_status(folder, **changes)
    outcome = cli(folder)
    assert (outcome.status, outcome.err) == (0, "")
    assert "1 of 4 cells done, 3 to do  nobody works on it" in outcome.out


@pytest.mark.parametrize("who", ["killed", "ended", "no status", "damaged status"])
def test_a_sweep_that_nobody_works_on(cli, tmp_path, who):
    folder = write_sweep(tmp_path / "left", AXES, cells(0), total=4)
    failed = [{"what": "Krum, Trim attack", "cells": 2, "error": "ValueError", "reason": "n < 3"}]
    if who == "killed":
        write_status(folder, process=2**22 + 1, failed=failed)
    elif who == "ended":
        write_status(folder, ended=True, failed=failed)
    elif who == "damaged status":
        (folder / "status.json").write_text("{")
    outcome = cli(folder)
    assert outcome.status == 0
    assert "--resume" in outcome.out
    assert "1 of 4 cells done" in outcome.out
    assert ("2 failed" in outcome.out) == (who in ("killed", "ended"))
    if who == "ended":
        assert "ValueError: n < 3" in cli(folder, "--once").out


def test_rows_that_come_while_it_looks(tmp_path):
    folder = write_sweep(tmp_path / "grows", AXES, cells(0), total=4)
    write_status(folder)
    look = Look(folder)
    assert (look().done, look().over) == (1, False)
    (folder / "parts").mkdir()
    (row,) = cells(1)
    parquet.write_table(pa.Table.from_pylist([row | {"cell": "new"}]), folder / "parts" / "new.parquet")
    state = look()
    assert state.done == 2
    assert state.rows[-1]["cell"] == "new"
    write_sweep(tmp_path / "other", AXES, cells(0))
    (folder / "results.parquet").write_bytes(b"no table")
    with pytest.raises(DataError, match=r"results\.parquet"):
        look()
    parquet.write_table(pa.table({"cell": ["new"]}), folder / "results.parquet")
    with pytest.raises(DataError, match=r"results\.parquet lacks the columns diverged, test_error"):
        look()
    (folder / "results.parquet").unlink()
    (folder / "results.parquet").symlink_to("results.parquet")
    with pytest.raises(DataError, match=r"results\.parquet: cannot be read"):
        look()


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_a_locale_without_a_sign_ends_no_command(cli, tmp_path, monkeypatch, encoding):
    folder = tmp_path / os.fsdecode(b"\xff\xc3\xa9")
    folder.mkdir()
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict")
    monkeypatch.setattr(sys, "stdout", stream)
    assert cli(folder, "--once").status == 0
    stream.flush()
    assert b"is empty:" in b" ".join(stream.buffer.getvalue().split())  # lines are broken anywhere


def test_without_any_streams_commands_work(cli, tmp_path, monkeypatch):
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    assert cli(tmp_path, "--once").status == 0
    assert cli(tmp_path / "none", "--once").status == 2


def test_what_is_no_sweep(cli, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "empty is empty: waiting" in cli("empty", "--once").out
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("mine")
    for words, said in (
        (["nowhere"], "nowhere is no folder"),
        (["notes"], "neither a sweep's folder nor a run's"),
        (["empty", "--every", "0"], "--every must be above 0"),
    ):
        outcome = cli(*words)
        assert outcome.status == 2
        assert re.fullmatch(rf"fljax: .*{said}.*\n", outcome.err)


def test_a_run(cli, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.json").write_text('{"rounds": 40}')
    assert "run: 0 of 40 rounds" in cli(folder, "--once").out
    (folder / "config.json").write_text('{"rounds": "many"}')
    assert "config.json is damaged: rounds = many" in cli(folder, "--once").err
    (folder / "config.json").write_text('{"rounds": 40}')
    line = {"round": 10, "test_error": 0.25, "attack_success_rate": None, "diverged": 0, "seconds": 2.0}
    (folder / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    (folder / ".lock").write_text(f"{os.getpid()}\n{socket.gethostname()}\n")
    text = cli(folder, "--once").out
    assert "run: 10 of 40 rounds" in text
    assert "test error 0.2500" in text
    assert "5 rounds/s  6 s left" in text
    (folder / "summary.json").write_text("{}")
    assert "run: 10 of 40 rounds, finished" in cli(folder).out


def test_a_sweep_writes_how_far_it_is_and_leaves_nothing_when_it_is_done(tmp_path):
    from fljax.sweeps import make_sweep
    from fljax.sweeps.plan import make_plan
    from fljax.sweeps.run import missing

    base = {"rounds": 10, "num_clients": 10}
    plan = make_plan(make_sweep(base, {"seeds": 2, "axes": {"aggregator": ["mean", "median"]}}))
    todo = missing(plan, set())
    count = len(todo[0].cells)
    heard = []

    class Then(Watcher):
        def progress(self, batch, rounds, kept):
            heard.append(rounds)

    status = StatusFile(tmp_path, plan, todo, Then())
    path = tmp_path / "status.json"
    status.progress(todo[0], 3 * count, False)
    assert heard == [3 * count]
    assert not path.exists(), "the folder is not its own yet"
    status.begin()
    (running,) = json.loads(path.read_text())["running"]
    assert running == {"what": "FedAvg, no attack", "cells": count, "rounds": 3, "of": 10}
    error = ValueError("too\nlong")
    status.finished(Finished(plan.groups[0], todo[0], [], 0.0, error), [])
    status.close(done=False)
    left = json.loads(path.read_text())
    assert left["ended"]
    assert left["running"] == []
    assert left["failed"] == [
        {"what": "FedAvg, no attack", "cells": count, "error": "ValueError", "reason": "too"}
    ]
    status.close(done=True)
    assert not path.exists()
