"""Fuzzers and kills in numbers: `make test-slow`. Counts are printed at the end of the session."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.support.processes import lines_of

TESTS = Path(__file__).parent
FUZZER, KILLER = TESTS / "support" / "fuzzing.py", TESTS / "support" / "kills.py"


def program(folder: Path, *words: object, **variables: str) -> dict:
    """Run one of the programs in support/; what it prints."""
    return json.loads(lines_of(*words, folder=folder, **variables)[-1])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "inputs", "megabytes"),
    [("config", 500, 1500), ("data", 1500, 800), ("folders", 300, 1500), ("command", 8, 1500)],
)
def test_whatever_goes_in_is_read_or_refused(tmp_path, record_property, kind, inputs, megabytes):
    counts = program(tmp_path, FUZZER, kind, 0, inputs)
    record_property(f"fuzzed {kind}", counts)
    assert counts["read"] + counts["refused"] == inputs
    assert min(counts["read"], counts["refused"]) > inputs / 50  # neither hides the other
    assert counts["peak_megabytes"] < megabytes


@pytest.mark.slow
def test_sweeps_killed_again_and_again_do_not_differ(tmp_path, record_property):
    # Half a program, written by a process that was killed, is for no other test.
    own = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache")}
    program(tmp_path, KILLER, "whole", 0, 0, **own)
    counts = program(tmp_path, KILLER, "killed", 6, 0, **own)
    record_property("killed sweeps", counts)
    assert counts["killed"] == 6
    assert counts["folders"] == len(list((tmp_path / "killed").glob("*.npz")))
    with np.load(tmp_path / "whole" / "0.npz") as whole:
        for path in (tmp_path / "killed").glob("*.npz"):
            with np.load(path) as killed:
                assert killed.files == whole.files
                for name in whole.files:
                    assert killed[name].tobytes() == whole[name].tobytes(), (path, name)
