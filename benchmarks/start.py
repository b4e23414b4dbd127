"""Seconds from `fljax run` to its first line of metrics, with nothing kept, the first and the second time.

    python benchmarks/start.py configs/quickstart.toml --repeats 5 --against ../another/checkout

The commands of a repeat run one after the other, so that a busy machine is busy for all of them.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

HERE = Path(__file__).parents[1]


def start(checkout: Path, config: Path, cache: str) -> tuple[float, float]:
    """Wall time and CPU time until the first line, seconds."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("JAX_COMPILATION_CACHE")}
    own |= {"PYTHONPATH": str(checkout), "PYTHONUNBUFFERED": "1", "FLJAX_CACHE": cache}
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-m", "fljax", "run", str(config), "--out", f"{folder}/run"]
        begin = time.perf_counter()
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        with subprocess.Popen(words, cwd=folder, env=own, **pipes) as process:
            for line in process.stdout:
                if line.startswith("round "):
                    wall, used = time.perf_counter() - begin, psutil.Process(process.pid).cpu_times()
                    process.kill()
                    return wall, used.user + used.system
    raise SystemExit(f"no line of metrics: {line}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--against", type=Path, help="another checkout, whose command runs in between")
    given = parser.parse_args()
    config = given.config.absolute()
    found: dict[str, list[tuple[float, float]]] = {}
    for _ in range(given.repeats):
        if given.against:
            found.setdefault("the other checkout", []).append(start(given.against.absolute(), config, "off"))
        found.setdefault("nothing kept", []).append(start(HERE, config, "off"))
        with tempfile.TemporaryDirectory() as cache:
            found.setdefault("the first time", []).append(start(HERE, config, cache))
            found.setdefault("the second time", []).append(start(HERE, config, cache))
    print(f"load average {os.getloadavg()[0]:.1f}")
    print("| | wall, least | wall, median | CPU, least | CPU, median |\n| --- | ---: | ---: | ---: | ---: |")
    for name, times in found.items():
        columns = [
            value for each in zip(*times, strict=True) for value in (min(each), statistics.median(each))
        ]
        print(f"| {name} | {' | '.join(f'{value:.1f} s' for value in columns)} |")


if __name__ == "__main__":
    main()
