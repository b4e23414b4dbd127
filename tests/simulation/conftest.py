"""The run that is interrupted, damaged and resumed, compiled once a module."""

import pytest

from fljax.config.schema import parse_config
from fljax.simulation.experiment import assemble, compile_experiment, run_experiment
from tests.support.run_folders import VALUES


@pytest.fixture(scope="module")
def small():
    """A small experiment and its compiled program."""
    built = assemble(parse_config(VALUES))
    return built, compile_experiment(built)


@pytest.fixture(scope="module")
def whole(small, tmp_path_factory):
    """The uninterrupted run: its folder and result."""
    out = tmp_path_factory.mktemp("whole") / "run"
    return out, run_experiment(small[0], out, program=small[1])
