"""Seconds and peak memory of rounds that stream, by the number of clients.

python benchmarks/streaming.py --model cnn --clients 1000 100000
python benchmarks/streaming.py --model logistic_regression --clients 10000 100000 1000000 --mapped

Every client has `--examples` examples of 28x28 pixels of noise and takes one step on a batch of them; a fifth
of the clients flips the sign of its update, and the rule is `--rule`. Every number of clients has a process
of its own. With `--mapped` the examples are in an uncompressed .npz file, read a chunk of clients at a time.
The exponent is that of seconds ~ clients^exponent, by least squares over all numbers of clients.
"""

import argparse
import json
import re
import resource
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fljax.config.schema import parse_config
from fljax.data import Dataset, load
from fljax.simulation.experiment import assemble, compile_experiment

SHAPE, CLASSES, ROOT, TEST = (28, 28, 1), 10, 100, 100


def noise(number: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels."""
    random = np.random.default_rng(seed)
    return random.random((number, *SHAPE), np.float32), random.integers(0, CLASSES, number, np.int32)


def write_noise(path: Path, number: int) -> None:
    """The same in an uncompressed .npz file, some at a time."""
    labels = []
    with zipfile.ZipFile(path, "w") as archive:
        with archive.open("train_x.npy", "w", force_zip64=True) as file:
            header = {"descr": "<f4", "fortran_order": False, "shape": (number, *SHAPE)}
            np.lib.format.write_array_header_2_0(file, header)
            for start in range(0, number, 10_000):
                x, y = noise(min(10_000, number - start), start)
                file.write(x.tobytes())
                labels.append(y)
        test_x, test_y = noise(TEST, number)
        for name, array in {"train_y": np.concatenate(labels), "test_x": test_x, "test_y": test_y}.items():
            with archive.open(f"{name}.npy", "w") as file:
                np.save(file, array)


class Anonymous(threading.Thread):
    """The largest part of the resident memory, in bytes, that is no page of a file; Linux."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0
        self.start()

    def run(self) -> None:
        """Look five times a second."""
        while True:
            found = re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
            self.peak = max(self.peak, 1024 * int(found[1]) if found else 0)
            time.sleep(0.2)


def measure(given: argparse.Namespace, num_clients: int, folder: Path) -> dict[str, Any]:
    """One number of clients, in this process."""
    number = num_clients * given.examples + ROOT
    anonymous = Anonymous()
    config = parse_config(
        {
            "rounds": 1 + given.rounds,
            "eval_every": 1,
            "num_clients": num_clients,
            "model": {"name": given.model},
            "local": {"batch_size": given.examples, "learning_rate": 0.01},
            "root": {"size": ROOT},
            "aggregator": {"name": given.rule},
            "attack": {"name": "sign_flip", "fraction": 0.2},
            "streaming": not given.stacked,
        }
    )
    if given.mapped:
        write_noise(folder / "noise.npz", number)
        dataset = load("npz", file=str(folder / "noise.npz"), mapped=True, num_classes=CLASSES)
    else:
        dataset = Dataset(*noise(number, 0), *noise(TEST, 1), CLASSES, "noise")
    begin = time.perf_counter()
    experiment = assemble(config, dataset=dataset)
    program = compile_experiment(experiment)
    prepared = time.perf_counter() - begin
    test = jax.numpy.asarray(dataset.test_x), jax.numpy.asarray(dataset.test_y)
    bound = program.bind(experiment.state.data, test, 1, experiment.beside)
    state, metrics, seconds = experiment.state.run, bound.blank, []
    for _ in range(1 + given.rounds):
        begin = time.perf_counter()
        state, metrics = jax.block_until_ready(bound.chunk(state, metrics, np.int32(0), np.int32(1)))
        seconds.append(round(time.perf_counter() - begin, 3))
    return {
        "clients": num_clients,
        "parameters": int(state.params.size),
        "stack_gb": round(4e-9 * num_clients * state.params.size, 3),
        "data_gb": round(1e-9 * dataset.train_x.nbytes, 3),
        "seconds_prepared": round(prepared, 1),
        # The first one loads what the others find in the caches.
        "seconds": min(seconds),
        "peak_gb": round(1.024e-6 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, 3),
        # Without the pages of the mapped file, which the system takes back when it needs them.
        "peak_anonymous_gb": round(1e-9 * anonymous.peak, 3),
        "finite": bool(np.asarray(metrics.finite).all()),
    }


def main() -> None:
    """Measure every number of clients and print a row for each, then the exponent."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="cnn")
    parser.add_argument("--rule", default="fltrust")
    parser.add_argument("--clients", type=int, nargs="+", default=[1000, 10000])
    parser.add_argument("--examples", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=1, help="after the first one")
    parser.add_argument("--mapped", action="store_true", help="examples in a file")
    parser.add_argument("--stacked", action="store_true", help="the other round, for comparison")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(measure(given, given.clients[0], Path(folder))))
        return
    rows = []
    for number in given.clients:
        command = [sys.executable, __file__, *sys.argv[1:], "--inside", "--clients", str(number)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        print(rows[-1], flush=True)
    if len(rows) > 1:
        exponent = np.polyfit(*(np.log([row[key] for row in rows]) for key in ("clients", "seconds")), 1)[0]
        print(f"seconds ~ clients^{exponent:.3f}")


if __name__ == "__main__":
    main()
