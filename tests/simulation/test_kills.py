"""A run that is killed again and again, at any moment, ends as if nothing had happened."""

import json
import subprocess
import sys

import jax
import pytest

from fljax.config.schema import parse_config
from fljax.simulation.checkpoint import load_checkpoint
from fljax.simulation.experiment import assemble
from tests.support.run_folders import VALUES as SMALL
from tests.support.run_folders import bits, environment, read_lines

KILLS = 12
VALUES = SMALL | {"rounds": 3000, "eval_every": 3, "checkpoint_every": "auto"}
# Imports once, then a fork for every attempt, which is killed at a random moment, also while it compiles.
ATTEMPTS = """
import json, os, random, signal, sys, time, warnings
from pathlib import Path
import fljax
from fljax import experiment
from fljax.config import parse_config

out, kills, values = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
draw, killed = random.SystemRandom(), 0

def attempt():
    warnings.simplefilter("ignore")
    fljax.run(parse_config(values), out, resume=True)
    os._exit(0)

def newest():
    names = [path.stem[6:] for path in Path(out).glob("checkpoints/round_*.checkpoint")]
    return max(map(int, names), default=0)

while True:
    child = os.fork()
    if not child:
        attempt()
    if killed == kills:
        print(killed, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        break
    before = newest()
    # Most of them while rounds are done, so that little is done between two kills.
    while newest() == before and draw.random() < 0.999 and not os.waitpid(child, os.WNOHANG)[0]:
        time.sleep(0.002)
    time.sleep(draw.random() * 0.03)
    try:
        os.kill(child, signal.SIGKILL)
    except ProcessLookupError:
        raise SystemExit("it was done before all kills")
    os.waitpid(child, 0)
    killed += 1
"""


@pytest.mark.slow
def test_killed_many_times_a_run_is_bit_identical(tmp_path, record_property):
    alone = environment(
        JAX_COMPILATION_CACHE_DIR=str(tmp_path / "cache"),
        JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0",
        JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES="-1",
    )
    for name, kills in (("whole", 0), ("killed", KILLS)):
        done = subprocess.run(
            [sys.executable, "-c", ATTEMPTS, name, str(kills), json.dumps(VALUES)],
            cwd=tmp_path,
            env=alone,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.stdout.split() == [str(kills), "0"], done
    record_property("killed runs", {"killed": KILLS})
    assert read_lines(tmp_path / "killed") == read_lines(tmp_path / "whole")
    like = assemble(parse_config(VALUES)).state.run
    found = [load_checkpoint(tmp_path / name / "checkpoints", like).state for name in ("whole", "killed")]
    plain = [state._replace(key=jax.random.key_data(state.key)) for state in found]
    assert int(plain[0].round) == VALUES["rounds"]
    assert bits(plain[0]) == bits(plain[1])
