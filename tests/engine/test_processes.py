"""Runs of several processes on one machine, as they would be on several."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from fljax import ConfigError, run
from fljax.config.schema import parse_config
from fljax.engine.processes import agreed, any_of, told
from fljax.host.processes import join
from tests.support.processes import QUICKLY

BASE = {
    "rounds": 4,
    "eval_every": 2,
    "num_clients": 7,
    "model": {"name": "mlp", "hidden": [5]},
    "aggregator": {"name": "median"},
    "attack": {"name": "sign_flip"},
}


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def start(folder, count, config):
    """The processes of a job on this machine, each with one device."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    environment = os.environ | {"XLA_FLAGS": QUICKLY, "JAX_ENABLE_COMPILATION_CACHE": "false"}
    words = [
        "run",
        folder / "config.json",
        "--out",
        folder / "out",
        "--coordinator",
        f"127.0.0.1:{free_port()}",
    ]
    words += ["--processes", count, "--process"]
    return [
        subprocess.Popen(
            [sys.executable, "-m", "fljax", *map(str, words), str(number)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(count)
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("count", "mapped"), [(2, True), (4, False)])
def test_processes_compute_what_one_does(tmp_path, count, mapped):
    config = BASE
    if mapped:  # of which each of them reads the examples of its own clients
        random = np.random.default_rng(0)
        x = random.normal(size=(120, 6)).astype(np.float32)
        y = random.integers(0, 3, 120)
        np.savez(tmp_path / "arrays.npz", train_x=x, train_y=y, test_x=x[:20], test_y=y[:20])
        data = {"name": "npz", "file": str(tmp_path / "arrays.npz"), "mapped": True}
        config = {**BASE, "data": data, "root": {"size": 5}}
    started = start(tmp_path, count, config)
    first, *others = [process.communicate(timeout=300) for process in started]
    assert [process.returncode for process in started] == [0] * count, first[1]
    # Their transport says that it is connected.
    assert all(line.startswith("[Gloo]") for out, _ in others for line in out.splitlines())
    assert "written to" in first[0]
    lines = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    alone = run(parse_config(config), progress=None).metrics
    for name in ("test_error", "loss", "update_norm"):
        assert [line[name] for line in lines] == pytest.approx(alone[name].tolist(), abs=1e-6)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["device"].endswith(f"× {count}")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "statuses", "said"),
    [
        (signal.SIGKILL, [1, -9], "another process of the job is gone; the run can go on from its last"),
        (signal.SIGTERM, [1, 143], "another process of the job was told to stop; the state is saved"),
    ],
)
def test_a_job_that_loses_a_process_ends_and_goes_on_elsewhere(tmp_path, number, statuses, said):
    config = BASE | {"rounds": 200_000, "eval_every": 20, "checkpoint_every": 20}
    started = start(tmp_path, 2, config)
    folder, deadline = tmp_path / "out", time.monotonic() + 200
    try:
        while not list((folder / "checkpoints").glob("*.checkpoint")):
            assert time.monotonic() < deadline
            assert started[0].poll() is None, started[0].communicate()[1]
            time.sleep(0.2)
        started[1].send_signal(number)
        _, text = started[0].communicate(timeout=100)
        started[1].communicate(timeout=100)
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == statuses, text[:3000]
    assert said in text
    # On one device, as far as the next evaluation and no further.
    resumed: list[int] = []

    def enough(record):
        resumed.append(record.round)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), pytest.warns(UserWarning, match="× 2 →"):
        run(parse_config(config), folder, resume=True, progress=enough)
    assert resumed[0] > 20
    rounds = [json.loads(line)["round"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert rounds == list(range(20, 20 * len(rounds) + 1, 20))


def test_a_process_alone_agrees_with_itself():
    assert (agreed(7), any_of(True), any_of(False), told(b"lines")) == (7, True, False, b"lines")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("nowhere",), "coordinator='nowhere' must be HOST:PORT, or \"auto\""),
        ((":80", 2, 0), "coordinator=':80' must be HOST:PORT"),
        (("here:80",), "needs the number of processes and that of this one, from 0, got processes=None"),
        (("here:80", 2, 2), "got processes=2 and process=2"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(given, said):
    with pytest.raises(ConfigError) as error:
        join(*given)
    assert said in str(error.value)
