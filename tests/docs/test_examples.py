"""Every file of examples/ is short and runs."""

import contextlib
import io
import runpy
from pathlib import Path

import pytest

from tests.support.plugins import no_trace

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))


def test_there_are_examples():
    assert len(EXAMPLES) >= 6


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_and_says_something(path, tmp_path, monkeypatch):
    assert len(path.read_text(encoding="utf-8").splitlines()) < 60
    monkeypatch.chdir(tmp_path)
    printed = io.StringIO()
    with no_trace(), contextlib.redirect_stdout(printed):
        runpy.run_path(str(path), run_name="__main__")
    assert printed.getvalue().strip()
    assert "nan" not in printed.getvalue()
    assert not list(tmp_path.iterdir())
