"""Configurations nobody would write: each is one sentence, soon, and nothing large is made for it."""

import os
import re
import sys
import threading
import tracemalloc
from pathlib import Path

import pytest

from fljax.cli.app import main
from fljax.config.loading import load_config
from fljax.errors import ConfigError, DataError
from fljax.host.toml import parse_toml
from fljax.simulation.experiment import assemble
from fljax.sweeps import load_sweep

PLAIN = """
rounds = 2
eval_every = 2
num_clients = 4
data = { name = "synthetic", num_train = 60, num_test = 20 }
model = { name = "logistic_regression" }
root = { size = 10 }
"""


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """What `fljax run` says to settings it refuses."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plain.toml").write_text(PLAIN)

    def call(*settings: str) -> str:
        words = [word for setting in settings for word in ("--set", setting)]
        monkeypatch.setattr(sys, "argv", ["fljax", "run", "plain.toml", "--out", "out", *words])
        with pytest.raises(SystemExit) as leave:
            main()
        error = capsys.readouterr().err
        assert leave.value.code == 2, error
        assert re.fullmatch(r"fljax: [^\n]+\n", error), f"not one sentence: {error!r}"
        assert not (tmp_path / "out").exists()
        return error

    return call


@pytest.mark.parametrize(
    "setting",
    [
        "rounds=2\nnum_clients=3",
        "rounds=2\nnum clients",
        "aggregator.name=mean\naggregator.name=median",
        "rounds=2\n[local]\nsteps=2",
        "rounds=2\n\nnum_clients=3",
    ],
)
def test_set_takes_one_value_and_drops_no_other(command, setting):
    assert f"--set {setting!r} must be one KEY=VALUE; give --set again for another" in command(setting)


def test_set_takes_one_text_of_several_lines(command):
    assert "unknown model 'several\\nlines'" in command("model.name='''several\nlines'''")


@pytest.mark.parametrize(
    ("setting", "fragment"),
    [
        (".".join(["a"] * 20_000) + "=1", "a.a.a.…: a key has at most 32 parts, got 20,000"),
        ("seed=" + "[" * 40 + "]" * 40, "is not valid TOML (tables or lists are more than 32 deep)"),
        ("seed=0x" + "f" * 5000, "seed: must be a valid integer"),
        ("eval_every=100000001", "eval_every: must be at most 100,000 (what happens in all rounds"),
        ("local.steps=1000000000", "local.steps: must be at most 100,000 (the batches of all"),
        ("local.batch_size=2147483648", "must be less than 2147483648"),
        (
            "data.num_train=1000000000000",
            "data synthetic.num_train: must fit into 32 bits, -2147483648 to 2147483647",
        ),
        ("data.num_train=2147483647", "synthetic: num_train, num_test, num_features and num_classes ask for"),
        ("data.num_test=9223372036854775807", "data synthetic.num_test: must fit into 32 bits"),
        ("model={name='mlp',hidden=[0]}", "hidden layers need at least 1 unit, got hidden=[0]"),
        ("model={name='mlp',hidden=[8,-1]}", "hidden layers need at least 1 unit, got hidden=[8, -1]"),
        ("model={name='mlp',hidden=[99999999999]}", "model mlp.hidden: must fit into 32 bits"),
    ],
)
def test_numbers_and_keys_beyond_all_bounds(command, setting, fragment):
    extra = ["data.num_features=1000"] if "num_train=2147" in setting else []
    assert fragment in command(setting, *extra)


def test_a_batch_larger_than_all_data_is_all_data(tmp_path):
    (tmp_path / "plain.toml").write_text(PLAIN)
    experiment = assemble(load_config(tmp_path / "plain.toml", {"local.batch_size": 2**31 - 1}))
    assert experiment.config.local.batch_size == 2**31 - 1


# --- files -------------------------------------------------------------------------------------------


def refused(path: Path, read=load_config) -> str:
    """The sentence; a thread, so that a reader that waits is a failure and not a hang."""
    said = []

    def call() -> None:
        try:
            read(path)
        except ConfigError as error:
            said.append(str(error))
        except BaseException as error:
            said.append(error)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(60)
    assert said, "still reading"
    assert isinstance(said[0], str), said[0]
    assert "\n" not in said[0]
    assert len(said[0]) < 500
    return said[0]


@pytest.mark.parametrize("read", [load_config, load_sweep])
def test_what_is_no_file_is_not_waited_for(tmp_path, read):
    os.mkfifo(tmp_path / "pipe.toml")
    assert refused(tmp_path / "pipe.toml", read).endswith("pipe.toml: a pipe, not a regular file")
    (tmp_path / "a.toml").write_text('extends = "pipe.toml"')
    assert refused(tmp_path / "a.toml", read).endswith("which a.toml extends: a pipe, not a regular file")
    (tmp_path / "a.toml").write_text('extends = "/dev/zero"')
    assert refused(tmp_path / "a.toml", read).endswith(
        "/dev/zero, which a.toml extends: a device, not a regular file"
    )
    assert refused(tmp_path, read).endswith("Is a directory")


def test_a_file_is_read_up_to_a_size(tmp_path):
    with (tmp_path / "a.toml").open("wb") as file:
        file.truncate(10**12)
    tracemalloc.start()
    assert "it has 1,000,000,000,000 bytes, more than the 4,000,000" in refused(tmp_path / "a.toml")
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def test_a_chain_of_files_has_an_end(tmp_path):
    for i in range(25):
        (tmp_path / f"{i}.toml").write_text(f'extends = "{i + 1}.toml"')
    (tmp_path / "25.toml").write_text(PLAIN)
    assert load_config(tmp_path / "10.toml").rounds == 2
    assert "more than 20 files extend each other" in refused(tmp_path / "0.toml")


LONG = ".".join(["a"] * 20_000)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{LONG} = 1", "a key has more than 32 parts"),
        (f"[{LONG}]", "a key has more than 32 parts"),
        (f"[[x]]\nb = {{ {LONG} = 1 }}", "a key has more than 32 parts"),
        (" . ".join(["'a b'"] * 20_000) + " = 1", "a key has more than 32 parts"),
        (" . ".join([r'"a\"b"'] * 20_000) + " = 1", "a key has more than 32 parts"),
        ("a = " + "[" * 20_000 + "]" * 20_000, "more than 32 deep"),
        ("a = " + "{a=" * 20_000 + "1" + "}" * 20_000, "more than 32 deep"),
        ("a = " + "[" * 100 + "]" * 100, "more than 32 deep"),
        ("[a.b]\nc = " + "[" * 31 + "]" * 31, "more than 32 deep"),
        ("a = 0x" + "f" * 5000, "more than 64 bits"),
        ("a = [9223372036854775808]", "more than 64 bits"),
        ("a = " + "9" * 5000, "more than 64 bits"),
    ],
)
def test_toml_has_bounds(tmp_path, text, message):
    (tmp_path / "a.toml").write_text(text)
    tracemalloc.start()
    assert message in refused(tmp_path / "a.toml")
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()


def test_toml_within_its_bounds():
    depth = [1]
    for _ in range(29):
        depth = [depth]
    assert parse_toml(f"a.b.c = {depth}")["a"]["b"]["c"] == depth
    assert parse_toml(".".join("abcdefgh" * 4) + " = 1")
    assert parse_toml(f"x = [{', '.join(['0.5'] * 50_000)}]  # {LONG[:50]}")["x"][7] == 0.5
    assert parse_toml("x = -9223372036854775808")["x"] == -(2**63)
    assert parse_toml('x = "one. two. three. four. 1.5.2"')


def test_memory_that_is_not_there_is_one_sentence(monkeypatch, tmp_path):
    from fljax.data import sources

    (tmp_path / "plain.toml").write_text(PLAIN)

    def full(*_):
        raise MemoryError

    monkeypatch.setattr(sources.np.random, "default_rng", full)
    with pytest.raises(DataError, match="^synthetic: does not fit into the memory that is free$"):
        sources.load("synthetic")


# --- what nobody foresaw -----------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "status"), [("assemble", 2), ("run_experiment", 1)])
@pytest.mark.parametrize(
    "error", [IndexError("list index\nout of range"), MemoryError(), RecursionError("deep")]
)
def test_what_escapes_is_one_sentence(monkeypatch, capsys, tmp_path, name, status, error):
    (tmp_path / "plain.toml").write_text(PLAIN)

    def fails(*_, **__):
        raise error

    monkeypatch.setattr(f"fljax.simulation.experiment.{name}", fails)
    for trace in ("", "1"):
        monkeypatch.setenv("FLJAX_TRACEBACK", trace)
        monkeypatch.setattr(
            sys, "argv", ["fljax", "run", str(tmp_path / "plain.toml"), "--out", str(tmp_path / "o")]
        )
        with pytest.raises(SystemExit) as leave:
            main()
        said = capsys.readouterr().err
        assert leave.value.code == status
        assert ("Traceback" in said) == bool(trace)
        last = said.splitlines()[-1]
        assert last.startswith("fljax: ")
        assert type(error).__name__ in last
        assert "FLJAX_TRACEBACK=1" in last
        assert trace or said.count("\n") == 1
