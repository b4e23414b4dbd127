"""Run folders: a small configuration, processes that write them, and what tests read from the folders."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np

import fljax

# A cohort, batches, an attack and a server optimizer: everything a resumed run has to get right.
VALUES = {
    "rounds": 10,
    "eval_every": 2,
    "checkpoint_every": 2,
    "num_clients": 6,
    "cohort_size": 5,
    "data": {"name": "synthetic", "num_train": 200, "num_test": 50},
    "model": {"name": "logistic_regression"},
    "local": {"steps": 2, "batch_size": 8},
    "root": {"size": 20},
    "server": {"optimizer": {"name": "adam"}, "learning_rate": 0.01},
    "aggregator": {"name": "fltrust"},
    "attack": {"name": "sign_flip", "fraction": 0.34},
}


def environment(**others: str) -> dict[str, str]:
    """The environment of a process, in whatever folder, that imports the library under test."""
    root = str(Path(fljax.__file__).parents[1])
    path = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path, **others}


def start(folder: Path, *words: str) -> subprocess.Popen:
    """The command `fljax` with these words in a process of its own, which Ctrl-C reaches."""
    # A shell may have started the tests with SIGINT ignored, and children inherit that.
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from fljax.cli.app import main; main()"
    )
    return subprocess.Popen(
        [sys.executable, "-c", program, *words],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def strict_json(text: str):
    def refuse(name: str):
        raise AssertionError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)


def read_lines(folder: Path) -> list[dict]:
    """metrics.jsonl without the wall times."""
    text = (folder / "metrics.jsonl").read_text()
    assert text.endswith("\n")
    lines = [strict_json(line) for line in text.splitlines()]
    for line in lines:
        assert line.pop("seconds") >= 0
        assert len(line.pop("check")) == 16
    return lines


def contents(folder: Path) -> dict:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def bits(tree) -> list[bytes]:
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


class InterruptError(Exception):
    """Stands for whatever ends a run early."""


def interrupt_at(last_round: int):
    def progress(record):
        if record.round >= last_round:
            raise InterruptError

    return progress


def assert_same_run(out: Path, result, whole, but=()) -> None:
    """The files and the result of a run, wall times and some keys of the summary left out."""
    assert read_lines(out) == read_lines(whole[0])
    assert bits(result.params) == bits(whole[1].params)
    timed = {name for name in whole[1].summary if "second" in name or name in but}
    summary = strict_json((out / "summary.json").read_text())
    assert {k: v for k, v in summary.items() if k not in timed} == {
        k: v for k, v in whole[1].summary.items() if k not in timed
    }
    for name, column in whole[1].metrics.items():
        if name != "seconds":
            np.testing.assert_array_equal(result.metrics[name], column)
