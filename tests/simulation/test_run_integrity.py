"""What happens to a run's folder behind its back: found, said, and never continued with other numbers."""

import dataclasses
import errno
import functools
import json
import os
import random
import re
import shutil
import socket
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import serialization

from fljax.cli.app import main
from fljax.config.schema import parse_config
from fljax.engine import loop as train
from fljax.engine.loop import no_metrics
from fljax.engine.state import RunState
from fljax.errors import ConfigError, DataError
from fljax.files import WriteError
from fljax.host.locking import FolderLock
from fljax.host.signals import InterruptError as SignalError
from fljax.host.signals import Stop
from fljax.simulation.checkpoint import Cadence, load_checkpoint, save_checkpoint
from fljax.simulation.experiment import assemble, run_experiment
from fljax.sweeps import make_plan, make_sweep, run_plan
from fljax.sweeps.executors import base
from fljax.sweeps.executors.base import Watcher
from tests.support.run_folders import (
    VALUES,
    InterruptError,
    assert_same_run,
    bits,
    contents,
    interrupt_at,
    read_lines,
)


@pytest.fixture
def interrupted(small, tmp_path):
    """A run that was stopped after round 6 of 10."""
    out = tmp_path / "run"
    with pytest.raises(InterruptError):
        run_experiment(small[0], out, progress=interrupt_at(6), program=small[1])
    return out


def resume(small, out, **named):
    return run_experiment(small[0], out, resume=True, program=small[1], **named)


def unfinished(*_):
    pytest.fail("trained on")


# --- one process at a time ---------------------------------------------------------------------------


def test_a_folder_in_use_is_refused_and_left_alone(small, whole, tmp_path):
    out, said = tmp_path / "run", []

    def intrude(record):
        before = contents(out)
        for again in (True, False):
            with pytest.raises(ConfigError) as error:
                run_experiment(small[0], out, resume=again, program=small[1])
            said.append(str(error.value))
        assert contents(out) == before

    result = run_experiment(small[0], out, progress=intrude, program=small[1])
    assert set(said) == {f"{out} is in use by process {os.getpid()} on {socket.gethostname()}"}
    assert_same_run(out, result, whole)
    assert not (out / ".lock").exists()


def test_the_lock_of_a_process_that_was_killed_does_not_matter(small, whole, tmp_path, interrupted):
    (interrupted / ".lock").write_text("12345\nelsewhere\n")
    assert_same_run(interrupted, resume(small, interrupted), whole)
    new = tmp_path / "new"
    new.mkdir()
    (new / ".lock").write_text("12345\nelsewhere\n")
    assert_same_run(new, run_experiment(small[0], new, program=small[1]), whole)


def test_a_lock_that_cannot_be_had_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(ConfigError, match=f"cannot use {tmp_path}/file: no lock on .*"):
        FolderLock(tmp_path / "file")


@pytest.fixture(scope="module")
def planned():
    """A plan of one program, and that program's compiler, which compiles it once."""
    table = {"seeds": 2, "axes": {"attack.fraction": [0.0, 0.34]}}
    sweep = make_sweep({**VALUES, "aggregator": {"name": "mean"}}, table)
    return make_plan(sweep, workers=1, size=2), functools.cache(base.compile_group)


@pytest.fixture
def plan(planned, monkeypatch):
    monkeypatch.setattr(base, "compile_group", planned[1])
    return planned[0]


def same_rows(found, wanted):
    timed = [name for name in wanted.columns if "second" in name]
    left, right = (frame.drop(columns=timed).to_dict("records") for frame in (found, wanted))
    assert repr(left) == repr(right)


def test_a_sweep_s_folder_in_use_is_refused_but_can_be_read(plan, tmp_path):
    from fljax.report import load_results

    out, said = tmp_path / "out", []

    def intrude(finished, rows):
        for again in (True, False):
            with pytest.raises(ConfigError) as error:
                run_plan(plan, out, resume=again)
            said.append(str(error.value))
        assert len(load_results(out).frame) == 2 * (len(said) // 2)

    watcher = Watcher()
    watcher.finished = intrude
    run_plan(plan, out, watcher=watcher)
    assert said == [f"{out} is in use by process {os.getpid()} on {socket.gethostname()}"] * 4
    assert {path.name for path in out.iterdir()} == {"sweep.json", "results.parquet"}


# --- lines -------------------------------------------------------------------------------------------


def changed(texts, number, **values):
    return [*texts[:number], json.dumps({**json.loads(texts[number]), **values}), *texts[number + 1 :]]


def without_checks(texts):
    return [json.dumps({k: v for k, v in json.loads(text).items() if k != "check"}) for text in texts]


LINES = {
    "deleted": lambda t: t[:1] + t[2:],
    "the last one deleted": lambda t: t[:-1],
    "repeated": lambda t: [*t[:2], *t[1:]],
    "out of order": lambda t: [t[1], t[0], *t[2:]],
    "a number edited": lambda t: changed(t, 1, test_error=0.25),
    "an edit without the digests": lambda t: changed(without_checks(t), 1, loss=0.5),
    "a digest edited": lambda t: changed(t, 2, check="0" * 16),
    "a key added": lambda t: changed(t, 0, more=1.0),
    "no JSON": lambda t: ["{", *t[1:]],
    "NaN": lambda t: [t[0].replace('"diverged": 0', '"diverged": NaN'), *t[1:]],
    "a number": lambda t: ["5", *t[1:]],
    "another object": lambda t: ['{"a": 1}', *t[1:]],
    "no round": lambda t: changed(t, 1, round=None),
    "a text": lambda t: changed(t, 1, loss="low"),
    "deep": lambda t: ["[" * 50_000, *t[1:]],
}


def test_lines_the_run_has_not_written_are_found(small, interrupted):
    metrics = interrupted / "metrics.jsonl"
    texts = metrics.read_text().splitlines()
    for name, damage in LINES.items():
        metrics.write_text("\n".join(damage(texts)) + "\n")
        before = contents(interrupted)
        with pytest.raises(DataError, match=r"metrics\.jsonl: .*; restore the file") as error:
            resume(small, interrupted, progress=unfinished)
        assert "\n" not in str(error.value), name
        assert contents(interrupted) == before, name


def test_lines_of_another_run_are_found(small, interrupted, tmp_path):
    other = assemble(parse_config({**VALUES, "seeds": {"train": 1}}))
    run_experiment(other, tmp_path / "other", program=small[1])
    shutil.copy(tmp_path / "other" / "metrics.jsonl", interrupted / "metrics.jsonl")
    with pytest.raises(DataError, match="not those the checkpoint goes with"):
        resume(small, interrupted)


def as_before(folder: Path, small) -> None:
    """Make a folder what an earlier version has left: no digests, a bare checkpoint, fewer settings."""
    config = json.loads((folder / "config.json").read_text())
    del config["checkpoint_every"]
    (folder / "config.json").write_text(json.dumps(config))
    texts = (folder / "metrics.jsonl").read_text().splitlines()
    (folder / "metrics.jsonl").write_text("\n".join(without_checks(texts)) + "\n")
    found = load_checkpoint(folder / "checkpoints", small[0].state.run).state
    shutil.rmtree(folder / "checkpoints")
    (folder / "checkpoints").mkdir()
    plain = jax.tree.map(np.asarray, found._replace(key=jax.random.key_data(found.key)))
    name = f"round_{int(found.round)}.msgpack"
    (folder / "checkpoints" / name).write_bytes(serialization.to_bytes(plain))


def test_a_folder_of_an_earlier_version_is_continued_and_said(small, whole, interrupted):
    as_before(interrupted, small)
    notes = []
    result = resume(small, interrupted, note=notes.append)
    assert len(notes) == 1
    assert "earlier version" in notes[0]
    assert result.summary["notes"] == notes
    assert bits(result.params) == bits(whole[1].params)
    texts = (interrupted / "metrics.jsonl").read_text().splitlines()
    assert ["check" in json.loads(text) for text in texts] == [False] * 3 + [True] * 2
    np.testing.assert_array_equal(result.metrics["loss"], whole[1].metrics["loss"])
    # What can be checked is, and the new digests are of the old lines, too.
    (interrupted / "metrics.jsonl").write_text("\n".join(changed(texts, 0, loss=0.5)) + "\n")
    with pytest.raises(DataError, match="line 4 is not what the run wrote"):
        resume(small, interrupted)


@pytest.mark.parametrize("kind", ["removed", "emptied", "shortened", "edited", "replaced"])
def test_lines_that_change_while_the_run_goes_on_are_written_again(small, whole, tmp_path, kind):
    out, notes = tmp_path / "run", []
    metrics = out / "metrics.jsonl"

    def meddle(record):
        if record.round == 6:
            text = metrics.read_text()
            metrics.unlink() if kind in ("removed", "replaced") else None
            other = {
                "emptied": "",
                "shortened": text[: len(text) // 2],
                "edited": text.replace("0.", "1."),
                "replaced": "x" * len(text),
            }
            if kind != "removed":
                metrics.write_text(other[kind])

    result = run_experiment(small[0], out, progress=meddle, program=small[1], note=notes.append)
    assert len(notes) == 1
    assert str(metrics) in notes[0]
    assert result.summary["notes"] == notes
    assert read_lines(out) == read_lines(whole[0])
    assert resume(small, out, progress=unfinished).summary["rounds"] == 10


def test_the_file_s_time_alone_is_no_change(small, whole, tmp_path):
    out = tmp_path / "run"
    result = run_experiment(
        small[0], out, progress=lambda _: os.utime(out / "metrics.jsonl", (1, 1)), program=small[1]
    )
    assert_same_run(out, result, whole)


# --- checkpoints -------------------------------------------------------------------------------------


def states(small, folder):
    """What `load_checkpoint` gives, and what it says."""
    notes = []
    found = load_checkpoint(folder, small[0].state.run, no_metrics(2), note=notes.append)
    plain = found.state._replace(key=jax.random.key_data(found.state.key))
    return int(found.state.round), bits(plain), notes


def test_no_damage_gives_another_state(small, interrupted, tmp_path):
    folder = interrupted / "checkpoints"
    newest, before = folder / "round_6.checkpoint", folder / "round_4.checkpoint"
    good = {path: path.read_bytes() for path in (newest, before)}
    newest.unlink()
    older = states(small, folder)[1]
    generator = random.Random(0)
    content = good[newest]
    places = {generator.randrange(8 * len(content)) for _ in range(150)}
    places |= {8 * at for at in range(90)}  # all of the two lines at the top
    damages = [
        content[: place // 8] + bytes([content[place // 8] ^ 1 << place % 8]) + content[place // 8 + 1 :]
        for place in places
    ]
    damages += [content[:-1], content[: len(content) // 2], b"", content + b"0", b"\0" * len(content)]
    for damaged in damages:
        newest.write_bytes(damaged)
        before.write_bytes(good[before])
        done, state, notes = states(small, folder)
        assert (done, state, len(notes)) == (4, older, 1)
        assert "round_6.checkpoint is damaged" in notes[0]
        assert (folder / "round_6.checkpoint.damaged").read_bytes() == damaged


def test_a_damaged_checkpoint_falls_back_to_the_one_before(small, whole, interrupted):
    newest = interrupted / "checkpoints" / "round_6.checkpoint"
    content = bytearray(newest.read_bytes())
    content[-100] ^= 4
    newest.write_bytes(content)
    seen, notes = [], []
    result = resume(small, interrupted, progress=lambda record: seen.append(record.round), note=notes.append)
    assert seen == [6, 8, 10]
    assert re.fullmatch(r"\S*round_6\.checkpoint is damaged .*, and the run goes on from round 4", notes[0])
    assert result.summary["notes"] == notes
    assert bits(result.params) == bits(whole[1].params)
    assert read_lines(interrupted) == read_lines(whole[0])


def test_a_summary_of_rounds_that_are_done_again_is_none(small, whole, tmp_path):
    folder = shutil.copytree(whole[0], tmp_path / "again")
    newest = folder / "checkpoints" / "round_10.checkpoint"
    newest.write_bytes(newest.read_bytes()[:-1])
    seen = []
    resume(small, folder, progress=lambda _: seen.append((folder / "summary.json").exists()))
    assert seen == [False]
    assert (folder / "summary.json").exists()


def test_without_a_usable_checkpoint_it_says_so(small, interrupted):
    for path in (interrupted / "checkpoints").iterdir():
        path.write_bytes(b"noise")
    before = contents(interrupted)
    with pytest.raises(DataError, match=r"no usable checkpoint.*round_6.*; round_4.*"):
        resume(small, interrupted)
    assert contents(interrupted) == before


def test_a_checkpoint_holds_the_lines_of_many_cells(tmp_path):
    lines = [[{"round": i, "loss": 0.1 * i} for i in range(2000)] for _ in range(50)]
    save_checkpoint(tmp_path, as_state(jnp.ones(4)), {"lines": lines})
    assert load_checkpoint(tmp_path, as_state(jnp.ones(4))).about["lines"] == lines


def as_state(params, number=1) -> RunState:
    return RunState(params, jnp.int32(number), jax.random.key(0), (), (), ())


@pytest.mark.parametrize(
    ("params", "fragment"),
    [
        (np.ones(4, np.float64), r"params'?\]? is float64\[4\], expected float32\[4\]"),
        (np.ones(4, np.int32), "int32"),
        (np.ones(5, np.float32), r"float32\[5\]"),
        (np.ones((4, 1), np.float32), r"float32\[4, 1\]"),
        (np.array([1, np.nan, 1, 1], np.float32), "not finite"),
        (np.array([1, np.inf, 1, 1], np.float32), "not finite"),
    ],
)
def test_a_state_of_another_kind_is_refused(tmp_path, params, fragment):
    save_checkpoint(tmp_path, as_state(params))
    plain = as_state(params)
    plain = jax.tree.map(np.asarray, plain._replace(key=jax.random.key_data(plain.key)))
    old = tmp_path / "old"
    old.mkdir()
    (old / "round_1.msgpack").write_bytes(serialization.to_bytes(plain))
    for folder in (tmp_path, old):
        with pytest.raises(DataError, match=fragment):
            load_checkpoint(folder, as_state(jnp.ones(4)))


def test_a_checkpoint_of_another_run_or_round_is_not_used(small, interrupted, tmp_path):
    other = tmp_path / "other"
    with pytest.raises(InterruptError):
        run_experiment(
            assemble(parse_config({**VALUES, "seeds": {"train": 1}})),
            other,
            progress=interrupt_at(6),
            program=small[1],
        )
    for path in (other / "checkpoints").iterdir():
        shutil.copy(path, interrupted / "checkpoints")
    with pytest.raises(DataError, match=r"round_6\.checkpoint is of another run"):
        resume(small, interrupted)
    save_checkpoint(tmp_path, as_state(jnp.ones(4), 3)).rename(tmp_path / "round_5.checkpoint")
    with pytest.raises(DataError, match="holds round 3"):
        load_checkpoint(tmp_path, as_state(jnp.ones(4)))


def test_other_library_versions_are_noted(small, whole, tmp_path):
    out, notes = tmp_path / "run", []
    facts = small[0].facts
    before = dataclasses.replace(
        small[0], facts={**facts, "device": "gpu: X", "versions": {**facts["versions"], "jax": "0.1"}}
    )
    with pytest.raises(InterruptError):
        run_experiment(before, out, progress=interrupt_at(4), program=small[1])
    result = resume(small, out, note=notes.append)
    assert len(notes) == 1
    assert f"from round 4 on the run is computed with device gpu: X → {facts['device']}" in notes[0]
    assert f"jax 0.1 → {jax.__version__}" in notes[0]
    assert json.loads((out / "summary.json").read_text())["notes"] == notes
    # Also when it is resumed once more, and not a second time.
    assert resume(small, out, note=unfinished).summary["notes"] == notes
    assert bits(result.params) == bits(whole[1].params)


# --- when ----------------------------------------------------------------------------------------------


def test_checkpoints_are_as_frequent_as_they_may_be(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("fljax.simulation.checkpoint.time.monotonic", lambda: now[0])
    auto, minutes, rounds = Cadence("auto", 0), Cadence({"minutes": 0.5}, 0), Cadence(20, 40)
    assert not rounds.due(59)
    assert rounds.due(65)
    rounds.saved(65, 1.0)
    assert not rounds.due(79)
    assert rounds.due(80)
    now[0] = 29.0
    assert not minutes.due(1000)
    now[0] = 30.0
    assert minutes.due(1)
    assert auto.due(1)  # nobody knows yet what it costs
    for seconds in (0.01, 3.0):
        auto.saved(1, seconds)
        now[0] += 49 * seconds
        assert not auto.due(10_000)
        now[0] += 1.01 * seconds
        assert auto.due(2)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0, "checkpoint_every: must be .*, got 0"),
        ("often", "checkpoint_every: must be .*'auto'.*, got 'often'"),
        ({"minutes": 0}, r"checkpoint_every\.minutes: must be .*, got 0"),
        ({"hours": 1}, "checkpoint_every: unknown key 'hours' .choose from minutes"),
    ],
)
def test_a_wrong_cadence_is_one_sentence(value, message):
    with pytest.raises(ConfigError, match=message):
        parse_config({"checkpoint_every": value})


def test_how_often_is_saved_is_no_other_run(small, whole, interrupted):
    often = dataclasses.replace(
        small[0], config=parse_config({**VALUES, "checkpoint_every": {"minutes": 10}})
    )
    assert_same_run(interrupted, run_experiment(often, interrupted, resume=True, program=small[1]), whole)


def test_both_speeds_are_told(whole):
    summary = whole[1].summary
    assert summary["seconds_wall"] > summary["seconds_run"]
    assert summary["rounds_per_second_wall"] == pytest.approx(10 / summary["seconds_wall"], rel=0.1)


# --- chunks in several calls ---------------------------------------------------------------------------


def test_a_chunk_in_several_calls_is_the_same_and_can_be_stopped_between_them(
    small, whole, tmp_path, monkeypatch
):
    monkeypatch.setattr(train, "LONGEST_CALL", 0.0)  # one round a call
    calls = []

    def chunk(*given):
        calls.append((int(given[-2]), int(given[-1])))
        return small[1].chunk(*given)

    program = small[1]._replace(chunk=chunk)
    out = tmp_path / "run"
    assert_same_run(out, run_experiment(small[0], out, program=program), whole)
    assert calls == [(0, 1), (1, 2)] * 5

    class AfterSevenCalls(Stop):
        def __call__(self):
            self.number = 15 if len(calls) == 17 else 0
            return super().__call__()

    out = tmp_path / "stopped"
    with pytest.raises(SignalError):
        run_experiment(small[0], out, program=program, stop=AfterSevenCalls())
    assert (out / "checkpoints" / "round_7.checkpoint").exists()
    assert [line["round"] for line in read_lines(out)] == [2, 4, 6]
    assert_same_run(out, resume(small, out), whole)


def test_a_pace_follows_the_time_rounds_take():
    pace = train.Pace()
    assert pace.rounds == 1
    pace.measured(1, 0.05)
    assert pace.rounds == 100
    pace.measured(100, 1000.0)
    assert pace.rounds == 1


class StopAfter(Watcher):
    """Asks to stop after some rounds."""

    def __init__(self, rounds):
        self.left, self.stop, self.kept, self.notes = rounds, Stop(), [], []

    def progress(self, batch, rounds, kept):
        self.kept += [rounds] * kept
        self.left -= rounds
        if self.left <= 0:
            self.stop.number = 1

    def note(self, text):
        self.notes.append(text)


def test_a_stopped_sweep_goes_on_where_it_was(plan, tmp_path, monkeypatch):
    wanted = run_plan(plan, tmp_path / "whole")
    monkeypatch.setattr(train, "LONGEST_CALL", 0.0)
    out = tmp_path / "out"
    watcher = StopAfter(2 * (10 + 5))  # in the middle of the second batch, and of a chunk
    with pytest.raises(SignalError):
        run_plan(plan, out, watcher=watcher, stop=watcher.stop)
    assert len(list(out.glob("batches/*/round_5.checkpoint"))) == 1
    again = StopAfter(1000)
    same_rows(run_plan(plan, out, resume=True, watcher=again), wanted)
    assert (again.kept, again.notes) == ([2 * 5], [])
    assert {path.name for path in out.iterdir()} == {"sweep.json", "results.parquet"}


def test_a_damaged_checkpoint_of_a_batch_is_said(plan, tmp_path):
    wanted = run_plan(plan, tmp_path / "whole")
    for damage, rounds, said in (("newest", 4, "damaged"), ("both", 0, "start again"), ("old", 0, "earlier")):
        out = tmp_path / damage
        watcher = StopAfter(2 * 6)
        with pytest.raises(SignalError):
            run_plan(plan, out, watcher=watcher, stop=watcher.stop)
        newest, before = (out.glob(f"batches/*/round_{i}.checkpoint") for i in (6, 4))
        newest, before = next(newest), next(before)
        if damage == "old":
            newest.write_bytes(newest.read_bytes().split(b"\n", 3)[3])
            content = serialization.msgpack_restore(newest.read_bytes())["state"]
            newest.with_suffix(".msgpack").write_bytes(serialization.msgpack_serialize(content))
            newest.unlink()
            before.unlink()
        else:
            newest.write_bytes(newest.read_bytes()[:-1])
            if damage == "both":
                before.write_bytes(b"")
        again = StopAfter(1000)
        same_rows(run_plan(plan, out, resume=True, watcher=again), wanted)
        assert len(again.notes) == 1
        assert said in again.notes[0]
        assert again.kept == [2 * rounds] * (rounds > 0)


def test_other_library_versions_of_a_sweep_are_noted(plan, tmp_path, monkeypatch):
    from fljax.simulation.environment import environment

    out = tmp_path / "out"
    here = environment()
    with monkeypatch.context() as patched:
        older = {**here, "versions": {**here["versions"], "jax": "0.1"}}
        for module in ("folder", "batch", "executors.base"):
            patched.setattr(f"fljax.sweeps.{module}.environment", lambda devices=1: older)
        watcher = StopAfter(2 * (10 + 6))
        with pytest.raises(SignalError):
            run_plan(plan, out, watcher=watcher, stop=watcher.stop)
    again = StopAfter(1000)
    frame = run_plan(plan, out, resume=True, watcher=again)
    change = f"jax 0.1 → {jax.__version__}"
    differ = "their numbers may differ from those of a sweep in one piece"
    assert sorted(again.notes) == [
        f"2 cells go on from round 6 with {change}: {differ}",
        f"2 cells that are there were computed with other versions: {change}",
    ]
    versions = [json.loads(text) for text in frame["versions"]]
    assert [each["jax"] for each in versions] == ["0.1"] * 2 + [jax.__version__] * 2
    assert [each.get("changes") for each in versions] == [None] * 2 + [[change]] * 2


# --- disks that are full -----------------------------------------------------------------------------


class Full:
    """A file on a disk with no room left for it."""

    def __init__(self, file, room, buffered):
        self.file, self.room, self.buffered = file, room, buffered

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def write(self, content):
        written = self.file.write(content[: self.room])
        self.room -= written
        # A raw file says how much it took; a buffered one goes on until it is told why it cannot.
        if not written or (self.buffered and written < len(content)):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return written

    def __getattr__(self, name):
        return getattr(self.file, name)


@pytest.mark.parametrize("name", ["metrics.jsonl", "round_6.checkpoint", "summary.json", "config.json"])
def test_a_full_disk_names_the_file_and_leaves_nothing_half_written(
    small, whole, tmp_path, monkeypatch, name, capsys
):
    out, opened, written = tmp_path / "run", Path.open, []

    def open_on_full_disk(path, *given, **named):
        file = opened(path, *given, **named)
        if path.name in (name, f".{name}.partial") and given and given[0] in ("ab", "wb"):
            written.append(path)
            if name != "metrics.jsonl" or len(written) == 3:
                return Full(file, 30, given[0] == "wb")
        return file

    with monkeypatch.context() as full:
        full.setattr(Path, "open", open_on_full_disk)
        with pytest.raises(WriteError) as error:
            run_experiment(small[0], out, program=small[1])
    path = out / "checkpoints" / name if "checkpoint" in name else out / name
    assert str(error.value) == f"cannot write {path}: No space left on device"
    assert not list(out.rglob("*.partial"))
    assert not path.exists() or path.read_bytes().endswith(b"\n")
    result = run_experiment(small[0], out, resume=(out / "config.json").exists(), program=small[1])
    assert_same_run(out, result, whole)

    def fail(*_):
        raise error.value

    monkeypatch.setattr("fljax.config.loading.load_config", fail)
    monkeypatch.setattr(sys, "argv", ["fljax", "run", "any.toml"])
    with pytest.raises(SystemExit) as leave:
        main()
    assert leave.value.code == 1
    assert capsys.readouterr().err == f"fljax: {error.value}\n"


def test_the_exception_of_a_callback_leaves_a_checkpoint(small, tmp_path):
    seldom = dataclasses.replace(small[0], config=parse_config({**VALUES, "checkpoint_every": 1000}))
    with pytest.raises(InterruptError):
        run_experiment(seldom, tmp_path / "run", progress=interrupt_at(4), program=small[1])
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["round_4.checkpoint"]
