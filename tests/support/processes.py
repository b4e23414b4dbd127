"""Programs of this folder in a process of their own."""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[2]
# XLA's older emitter of loops takes less time, and so does code that is not split among threads: a worker has
# one core. XLA ends a process that gives it a flag it does not know.
QUICKLY = (
    "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
    if version("jaxlib").startswith("0.10.")
    else ""
)


def lines_of(*words: object, folder: Path = ROOT, **variables: str) -> list[str]:
    """The lines that `python WORDS` prints in a folder, with some environment variables set."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path} | variables
    environment.pop("FLJAX_DATA", None)
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    return done.stdout.splitlines()
