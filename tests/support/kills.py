"""Kills sweeps again and again: `python kills.py OUT KILLS SEED` prints how often.

Everything is imported once. Every attempt is a fork that continues a folder and is killed (SIGKILL) at a
random moment; after a few kills it is left alone, saves what it has found, and the next folder begins.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np

import fljax
from fljax.sweeps import make_sweep

SHARED = {
    "rounds": 200,
    "eval_every": 2,
    "num_clients": 6,
    "data": {"name": "synthetic", "num_train": 200, "num_test": 50},
    "model": {"name": "logistic_regression"},
    "root": {"size": 20},
    "server": {"optimizer": {"name": "adam"}, "learning_rate": 0.01},
    "aggregator": {"name": "centered_clipping", "radius": 1.0},
    "attack": {"name": "gaussian", "std": 0.1, "fraction": 0.2},
}
KILLS_A_FOLDER = 5


def finish(out: Path) -> dict[str, np.ndarray]:
    """A sweep to its end: its cells, their final numbers and curves."""
    axes = {"attack.fraction": [0.0, 0.34], "local.batch_size": [8, 16]}
    table = fljax.sweep(make_sweep(SHARED, {"seeds": 2, "axes": axes}), out=out, resume=True, workers=1)
    numbers = ["test_error", *(name for name in table if name.startswith("curve_"))]
    columns = {name: np.array(table[name].tolist(), float) for name in numbers}
    return columns | {"cell": np.array(table["cell"].tolist())}


def attempt(out: Path) -> int:
    """A fork that finishes the folder; its process number."""
    child = os.fork()
    if not child:
        sys.stdout = sys.stderr
        found = finish(out)
        np.savez(out.with_suffix(".partial.npz"), **found)
        out.with_suffix(".partial.npz").rename(out.with_suffix(".npz"))
        os._exit(0)
    return child


def kill(child: int, out: Path, draw: random.Random) -> bool:
    """Whether it was killed before its end; from the folder's first file on, at a random moment."""
    while not out.exists():
        if os.waitpid(child, os.WNOHANG)[0]:
            raise SystemExit("an attempt ended without a folder")
        time.sleep(0.001)
    time.sleep(draw.choice([0.02, 0.5, 2.0]) * draw.random())
    os.kill(child, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def main() -> None:
    place, kills, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    draw = random.Random(seed)
    place.mkdir()
    killed = folders = 0
    while folders == 0 or killed < kills:
        out = place / str(folders)
        for _ in range(min(KILLS_A_FOLDER, kills - killed)):
            if not out.with_suffix(".npz").exists():
                killed += kill(attempt(out), out, draw)
        _, status = os.waitpid(attempt(out), 0)
        if status:
            raise SystemExit(f"{out}: the last attempt ended with status {status}")
        folders += 1
    print(json.dumps({"killed": killed, "folders": folders}))


if __name__ == "__main__":
    main()
