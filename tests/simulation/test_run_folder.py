import json
import os
import random
import signal
import subprocess
import time
import tomllib
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fljax
from fljax.config.schema import parse_config
from fljax.engine.evaluate import Evaluation
from fljax.engine.loop import Record, no_metrics
from fljax.engine.round import RoundMetrics
from fljax.engine.state import RunState
from fljax.errors import ConfigError
from fljax.simulation import run_folder as record
from fljax.simulation.checkpoint import load_checkpoint, save_checkpoint, write_atomically
from fljax.simulation.experiment import assemble, compile_experiment, run_experiment
from fljax.simulation.lines import metrics_line
from fljax.simulation.run_folder import RunFolder, check_run_folder
from tests.support.run_folders import (
    VALUES,
    InterruptError,
    assert_same_run,
    bits,
    contents,
    interrupt_at,
    read_lines,
    start,
    strict_json,
)

TOML = """
rounds = 600
eval_every = 1
num_clients = 6
cohort_size = 5
data = { name = "synthetic", num_train = 200, num_test = 50 }
model = { name = "logistic_regression" }
local = { steps = 2, batch_size = 8 }
root = { size = 20 }
server = { optimizer = { name = "adam" }, learning_rate = 0.01 }
aggregator = { name = "fltrust" }
attack = { name = "sign_flip", fraction = 0.34 }
"""

SUMMARY = {
    "test_error": float,
    "attack_success_rate": type(None),
    "rounds": int,
    "diverged": bool,
    "seconds_compile": float,
    "seconds_run": float,
    "rounds_per_second": float,
    "seconds_wall": float,
    "rounds_per_second_wall": float,
    "notes": list,
    "device": str,
    "versions": dict,
    "seed": int,
}


# --- files -------------------------------------------------------------------------------------------


def test_files_of_a_run(whole):
    out, result = whole
    assert {path.name for path in out.iterdir()} == {
        "config.json",
        "metrics.jsonl",
        "summary.json",
        "checkpoints",
    }
    summary = strict_json((out / "summary.json").read_text())
    assert {name: type(summary[name]) for name in SUMMARY} == SUMMARY
    assert summary == result.summary
    assert summary["rounds"] == 10
    assert not summary["diverged"]
    assert summary["rounds_per_second"] > 0
    assert summary["versions"]["jax"] == jax.__version__
    config = strict_json((out / "config.json").read_text())
    assert parse_config(config) == parse_config(VALUES)
    lines = read_lines(out)
    assert [line["round"] for line in lines] == [2, 4, 6, 8, 10]
    assert lines[-1]["test_error"] == summary["test_error"] < lines[0]["test_error"]
    assert 0 < lines[-1]["trust_benign"] <= 1
    assert lines[-1]["attack_success_rate"] is None
    # The one before is kept in case the last is damaged.
    assert {path.name for path in (out / "checkpoints").iterdir()} == {
        "round_8.checkpoint",
        "round_10.checkpoint",
    }


def test_result_matches_the_files(whole, small):
    out, result = whole
    lines = read_lines(out)
    for name in ("round", "test_error", "loss", "update_norm", "trust_benign"):
        np.testing.assert_array_equal(result.metrics[name], [line[name] for line in lines])
    assert np.isnan(result.metrics["attack_success_rate"]).all()
    saved = load_checkpoint(out / "checkpoints", small[0].state.run)
    assert bits(small[0].unravel(saved.state.params)) == bits(result.params)


def test_without_a_folder_nothing_is_written(small, whole, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run_experiment(small[0], None, program=small[1])
    assert list(tmp_path.iterdir()) == []
    assert bits(result.params) == bits(whole[1].params)


def test_seeds_change_the_run(small, whole):
    other = assemble(parse_config({**VALUES, "seeds": {"train": 1}}))
    result = run_experiment(other, None, program=small[1])
    assert bits(result.params) != bits(whole[1].params)


# --- what is there already ---------------------------------------------------------------------------


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_with_other_files_is_left_alone(small, tmp_path, resume):
    (tmp_path / "thesis.txt").write_text("all of it")
    before = contents(tmp_path)
    with pytest.raises(ConfigError, match="no run to resume" if resume else "files already") as error:
        run_experiment(small[0], tmp_path, resume=resume, program=small[1])
    assert str(tmp_path) in str(error.value)
    assert contents(tmp_path) == before


def test_a_finished_run_is_not_overwritten(small, whole):
    before = contents(whole[0])
    with pytest.raises(ConfigError, match="--resume"):
        run_experiment(small[0], whole[0], program=small[1])
    assert contents(whole[0]) == before


def test_an_empty_folder_is_used(small, tmp_path):
    config = parse_config(VALUES)
    RunFolder(tmp_path, config.resolved(), resume=False).close()
    assert parse_config(json.loads((tmp_path / "config.json").read_text())) == config


@pytest.mark.parametrize("inside", [False, True])
def test_a_file_in_the_folder_s_place_is_an_error_of_the_input(tmp_path, inside):
    path = tmp_path / "notes.txt"
    path.write_text("notes")
    with pytest.raises(ConfigError, match=r"notes\.txt"):
        RunFolder(path / "run" if inside else path, {}, resume=False)
    assert path.read_text() == "notes"


def test_resuming_with_another_configuration_shows_the_difference(whole):
    before = contents(whole[0])
    changed = parse_config({**VALUES, "rounds": 20, "aggregator": {"name": "trimmed_mean", "trim": 1}})
    with pytest.raises(ConfigError) as error:
        fljax.run(changed, whole[0], resume=True)
    message = str(error.value)
    assert "rounds: 10 → 20" in message
    assert "aggregator.name: fltrust → trimmed_mean" in message
    assert "trim" in message
    assert "num_clients" not in message
    assert contents(whole[0]) == before


# --- resuming ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("last_round", [2, 6, 10])
def test_an_interrupted_run_resumes_bit_for_bit(small, whole, tmp_path, last_round):
    out = tmp_path / "run"
    with pytest.raises(InterruptError):
        run_experiment(small[0], out, progress=interrupt_at(last_round), program=small[1])
    assert not (out / "summary.json").exists()
    assert read_lines(out)[-1]["round"] == last_round
    seen = []
    result = run_experiment(small[0], out, resume=True, progress=seen.append, program=small[1])
    assert [record.round for record in seen] == list(range(last_round + 2, 11, 2))
    assert_same_run(out, result, whole)


@pytest.mark.parametrize("torn", [False, True])
def test_a_line_without_its_checkpoint_is_dropped(small, whole, tmp_path, monkeypatch, torn):
    out = tmp_path / "run"

    def save(folder, state, *more):
        if int(state.round) == 6:
            raise InterruptError
        return save_checkpoint(folder, state, *more)

    with monkeypatch.context() as patched:
        patched.setattr(record, "save_checkpoint", save)
        with pytest.raises(InterruptError):
            run_experiment(small[0], out, program=small[1])
    metrics = out / "metrics.jsonl"
    assert len(metrics.read_text().splitlines()) == 3
    if torn:
        metrics.write_text(metrics.read_text()[:-30])
    result = run_experiment(small[0], out, resume=True, program=small[1])
    assert_same_run(out, result, whole)


def test_a_run_interrupted_before_its_first_checkpoint_starts_over(small, whole, tmp_path, monkeypatch):
    out = tmp_path / "run"
    RunFolder(out, parse_config(VALUES).resolved(), resume=False).close()
    result = run_experiment(small[0], out, resume=True, program=small[1])
    assert_same_run(out, result, whole)
    # Killed while the first file was written: no run is there yet.
    for name in (".lock", ".config.json.partial"):
        (tmp_path / "new").mkdir(exist_ok=True)
        (tmp_path / "new" / name).write_text("{")
    for resume in (False, True):
        check_run_folder(tmp_path / "new", parse_config(VALUES).resolved(), resume)


def test_left_overs_of_a_killed_write_do_not_matter(small, whole, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(InterruptError):
        run_experiment(small[0], out, progress=interrupt_at(4), program=small[1])
    (out / "checkpoints" / ".round_6.checkpoint.partial").write_bytes(b"half")
    (out / ".summary.json.partial").write_text("{")
    # Killed between writing a checkpoint and removing the oldest.
    (out / "checkpoints" / "round_1.checkpoint").write_bytes(b"old")
    assert_same_run(out, run_experiment(small[0], out, resume=True, program=small[1]), whole)


def test_resuming_a_finished_run_trains_no_further(small, whole, tmp_path):
    out = tmp_path / "run"
    run_experiment(small[0], out, program=small[1])
    state = contents(out / "checkpoints")
    result = run_experiment(
        small[0], out, resume=True, progress=lambda record: pytest.fail("trained on"), program=small[1]
    )
    assert contents(out / "checkpoints") == state
    assert_same_run(out, result, whole)


@pytest.mark.parametrize("damage", ["torn", "missing"])
def test_metrics_lost_after_their_checkpoint_never_shorten_the_summary(small, whole, tmp_path, damage):
    # The lines of metrics.jsonl can reach the disk after the checkpoint does.
    out = tmp_path / "run"
    run_experiment(small[0], out, program=small[1])
    metrics = out / "metrics.jsonl"
    if damage == "torn":
        metrics.write_text(metrics.read_text()[:-30])
    else:
        metrics.unlink()
    # Either the run says what is wrong, or it puts it right.
    problem = ""
    try:
        run_experiment(small[0], out, resume=True, program=small[1])
    except fljax.DataError as error:
        problem = str(error)
    if problem:
        assert "metrics.jsonl" in problem
    else:
        assert read_lines(out) == read_lines(whole[0])
    summary = strict_json((out / "summary.json").read_text())
    assert summary["rounds"] == 10
    assert summary["rounds_per_second"] >= 0


def test_a_damaged_configuration_is_an_error_that_names_it(small, tmp_path):
    out = tmp_path / "run"
    run_experiment(small[0], out, program=small[1])
    (out / "config.json").write_bytes(b"{ not what it was")
    with pytest.raises(fljax.DataError, match=r"config\.json"):
        run_experiment(small[0], out, resume=True, program=small[1])


# --- killed processes --------------------------------------------------------------------------------


def wait_for_lines(process: subprocess.Popen, metrics: Path, number: int) -> None:
    deadline = time.monotonic() + 120
    while not metrics.exists() or metrics.read_bytes().count(b"\n") < number:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """The same run in one piece: the experiment, its program, folder and result."""
    built = assemble(parse_config(tomllib.loads(TOML)))
    program = compile_experiment(built)
    out = tmp_path_factory.mktemp("long") / "run"
    return built, program, (out, run_experiment(built, out, program=program))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGKILL"])
def test_a_killed_process_resumes_bit_for_bit(long, tmp_path, name):
    built, program, whole = long
    out = tmp_path / "run"
    (tmp_path / "long.toml").write_text(TOML)
    process = start(tmp_path, "run", "long.toml", "--out", "run")
    # Somewhere between two lines, at another place every time.
    moment = random.SystemRandom().randrange(2, 200)
    wait_for_lines(process, out / "metrics.jsonl", moment)
    time.sleep(random.SystemRandom().random() * 0.005)
    process.send_signal(getattr(signal, name))
    stdout, stderr = process.communicate(timeout=60)
    assert not (out / "summary.json").exists()
    assert moment <= len((out / "metrics.jsonl").read_text().splitlines()) < 600
    if name == "SIGKILL":
        assert process.returncode == -signal.SIGKILL
    else:
        assert process.returncode == 128 + getattr(signal, name)
        assert "Traceback" not in stdout + stderr
        assert "stopping: waiting for the rounds under way" in stderr
        assert "interrupted; continue with: fljax run long.toml --out run --resume" in stdout
        # Nothing is done twice.
        moment = len((out / "metrics.jsonl").read_text().splitlines()) + 1
    seen = []
    with warnings.catch_warnings():
        # Killed before the first checkpoint, it says that it starts again.
        warnings.simplefilter("ignore")
        result = run_experiment(built, out, resume=True, progress=seen.append, program=program)
    # After a kill, what came after the last checkpoint is done again.
    assert seen[0].round == moment or name == "SIGKILL"
    assert seen[-1].round == 600
    assert_same_run(out, result, whole, {"notes"})
    last = [load_checkpoint(folder / "checkpoints", built.state.run).state for folder in (out, whole[0])]
    plain = [state._replace(key=jax.random.key_data(state.key)) for state in last]
    assert int(plain[0].round) == 600
    assert bits(plain[0]) == bits(plain[1])


# --- divergence --------------------------------------------------------------------------------------


def test_a_diverging_run_ends_early_with_valid_files(tmp_path):
    config = parse_config(
        {
            "rounds": 40,
            "eval_every": 2,
            "num_clients": 5,
            "data": {"name": "synthetic"},
            "model": {"name": "mlp", "hidden": [8]},
            "local": {"learning_rate": 10.0},
            "aggregator": {"name": "mean"},
            "attack": {"name": "sign_flip", "factor": 1000.0, "fraction": 0.4},
        }
    )
    built = assemble(config)
    program = compile_experiment(built)
    result = run_experiment(built, tmp_path / "run", program=program)
    assert result.summary["diverged"] is True
    assert result.summary["rounds"] < 40
    summary = strict_json((tmp_path / "run" / "summary.json").read_text())
    assert summary == result.summary
    lines = read_lines(tmp_path / "run")
    assert [line["diverged"] for line in lines] == [0] * (len(lines) - 1) + [1]
    assert lines[-1]["round"] == summary["rounds"]
    assert 0 <= summary["test_error"] <= 1
    # A diverged run is over: resuming it changes nothing.
    again = run_experiment(
        built,
        tmp_path / "run",
        resume=True,
        progress=lambda record: pytest.fail("trained on"),
        program=program,
    )
    assert again.summary["diverged"] is True
    assert read_lines(tmp_path / "run") == lines


# --- lines -------------------------------------------------------------------------------------------


def a_record(**curves) -> Record:
    values = dict.fromkeys(RoundMetrics._fields, np.array([1.0, 1.0])) | {
        name: np.array(curve) for name, curve in curves.items()
    }
    return Record(None, 2, Evaluation(0.25, float("nan")), RoundMetrics(**values), 0.5)


def test_metrics_line_is_the_evaluation_and_the_chunk_s_means():
    line = metrics_line(a_record(loss=[1.0, 3.0], update_norm=[np.inf, 1.0], trust_benign=[np.nan, np.nan]))
    assert line["round"] == 2
    assert line["test_error"] == 0.25
    assert line["attack_success_rate"] is None
    assert line["loss"] == 2.0
    assert line["update_norm"] is None
    assert line["trust_benign"] is None
    assert line["diverged"] == 0
    assert line["seconds"] == 0.5
    assert metrics_line(a_record(finite=[1.0, 0.0]))["diverged"] == 1
    strict_json(json.dumps(line, allow_nan=False))


def test_rounds_without_an_attacker_in_the_cohort_do_not_hide_the_others():
    line = metrics_line(a_record(malicious_accepted=[np.nan, 0.5], trust_malicious=[0.25, np.nan]))
    assert line["malicious_accepted"] == 0.5
    assert line["trust_malicious"] == 0.25


# --- atomic writes and checkpoints -------------------------------------------------------------------


@pytest.mark.parametrize("where", ["write", "fsync", "replace"])
def test_a_failing_write_leaves_the_old_file(tmp_path, monkeypatch, where):
    path = tmp_path / "summary.json"
    write_atomically(path, b"old")
    assert path.read_bytes() == b"old"

    def fail(*_, **__):
        raise OSError("no space left on device")

    class Torn:
        """A file that takes half of what it is given."""

        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def write(self, content):
            self.file.write(content[: len(content) // 2])
            fail()

    opened = Path.open
    if where == "write":
        monkeypatch.setattr(Path, "open", lambda *given, **named: Torn(opened(*given, **named)))
    elif where == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    else:
        monkeypatch.setattr(Path, "replace", fail)
        monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space left"):
        write_atomically(path, b"new and longer")
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert [each.name for each in tmp_path.iterdir()] == ["summary.json"]


def test_checkpoints_are_bit_exact(tmp_path):
    optimizer = optax.adam(0.1)
    params = jnp.array([0.1, -0.0, jnp.nan, jnp.inf, 1e-42, 3e38], jnp.float32)
    _, server_state = optimizer.update(jnp.arange(6.0), optimizer.init(params), params)
    state = RunState(
        params=params,
        round=jnp.int32(7),
        key=jax.random.fold_in(jax.random.key(3, impl="rbg"), 1),
        server_state=server_state,
        aggregator_state=(jnp.zeros((0,)), {"history": jnp.ones((2, 3), jnp.bfloat16)}),
        attack_state=(),
    )
    path = save_checkpoint(tmp_path / "checkpoints", state)
    assert path.name == "round_7.checkpoint"
    like = jax.tree.map(jnp.zeros_like, state._replace(key=state.round))._replace(
        key=jax.random.key(0, impl="rbg")
    )
    with pytest.raises(fljax.DataError, match="not finite"):
        load_checkpoint(tmp_path / "checkpoints", like)
    save_checkpoint(tmp_path / "checkpoints", state, {"diverged": True})
    loaded = load_checkpoint(tmp_path / "checkpoints", like).state
    assert jax.tree.structure(loaded) == jax.tree.structure(state)
    assert loaded.key.dtype == state.key.dtype
    plain = [one._replace(key=jax.random.key_data(one.key)) for one in (state, loaded)]
    assert bits(plain[0]) == bits(plain[1])
    assert [leaf.dtype for leaf in jax.tree.leaves(plain[0])] == [
        leaf.dtype for leaf in jax.tree.leaves(plain[1])
    ]
    draws = [jax.random.normal(one.key, (4,)) for one in (state, loaded)]
    assert bits(draws[0]) == bits(draws[1])


def test_a_checkpoint_of_a_version_that_measured_less_has_gaps(tmp_path):
    state = RunState(jnp.ones(3), jnp.int32(3), jax.random.key(0), (), (), ())
    before = {"loss": np.arange(4, dtype=np.float32), "finite": np.ones(4, np.float32)}
    save_checkpoint(tmp_path, state, metrics=before)
    metrics = load_checkpoint(tmp_path, state, no_metrics(4)).metrics
    assert isinstance(metrics, RoundMetrics)
    np.testing.assert_array_equal(metrics.loss, before["loss"])
    assert np.isnan([metrics.detection_recall, metrics.benign_accepted]).all()
    # What is not known is no number of this version's.
    save_checkpoint(tmp_path, state, metrics={**before, "largest": np.ones(4, np.float32)})
    with pytest.raises(fljax.DataError, match="of another kind of run"):
        load_checkpoint(tmp_path, state, no_metrics(4))


def test_the_newest_checkpoint_counts_and_older_ones_go(tmp_path):
    def state(number: int) -> RunState:
        return RunState(jnp.full(3, float(number)), jnp.int32(number), jax.random.key(0), (), (), ())

    assert load_checkpoint(tmp_path / "none", state(0)) is None
    for number in (8, 9, 10):
        save_checkpoint(tmp_path, state(number))
    assert {path.name for path in tmp_path.iterdir()} == {"round_9.checkpoint", "round_10.checkpoint"}
    write_atomically(tmp_path / "round_9.checkpoint", b"older")
    (tmp_path / "round_11.checkpoint.txt").write_text("not one")
    assert float(load_checkpoint(tmp_path, state(0)).state.params[0]) == 10
