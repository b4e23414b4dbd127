"""The scripts in benchmarks/ that others' figures depend on."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_ratios_below_the_kept_ones_are_named():
    check = runpy.run_path(str(ROOT / "benchmarks" / "check.py"))
    ours = {"job": "J", "who": "fljax", "status": "ok", "of_floor": 0.25}

    def peer(who, ratio, status="ok"):
        return {"job": "J", "who": who, "status": status, "ratio": ratio}

    others = [peer("PyTorch, a", 3.0), peer("PyTorch, b", 2.0), peer("Flower", 1.0), peer("PyTorch", 0, "no")]
    assert check["ratios_of"]([ours, *others]) == {"J, against PyTorch": 2.0, "J, of the floor": 0.25}
    assert check["ratios_of"]([ours]) == {"J, of the floor": 0.25}
    assert check["ratios_of"]([ours | {"status": "failed"}]) == {}
    now, kept = {"a": 0.79, "b": 0.81, "new": 0.1}, {"a": 1.0, "b": 1.0, "gone": 1.0}
    assert check["slower"](now, kept, 0.8) == ["a"]


@pytest.mark.slow
def test_the_accelerators_script_goes_on_where_it_was(tmp_path):
    def call(out, *words):
        script = [sys.executable, str(ROOT / "benchmarks" / "accelerator.py"), "--small", "--out", str(out)]
        variables = os.environ | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [*script, *words], cwd=tmp_path, env=variables, capture_output=True, text=True, check=True
        )
        return done.stdout, json.loads((out / "accelerator.json").read_text())["parts"]

    first, second = tmp_path / "first", tmp_path / "second"
    _, parts = call(first, "--part", "checks", "--part", "table3")
    assert all(row["ok"] for row in parts["checks"])
    assert {row["name"].split()[0] for row in parts["checks"]} >= {"rule", "attack"}
    (table,) = parts["table3"]
    assert (table["name"], table["cells"], table["of"]) == ("table3_mnist_0.5", 2, 2)
    assert all(row["test_error"] < 1 for row in table["results"])
    out, again = call(second, "--previous", str(first))
    # What was there is not measured again, and a table that is done is not run again.
    assert not [line for line in out.splitlines() if line.startswith("checks name=")]
    assert again["checks"] == parts["checks"]
    assert again["table3"] == parts["table3"]
    rows = {part: {row["name"]: row for row in rows} for part, rows in again.items()}
    assert not any("failed" in names for names in rows.values())
    assert rows["rules"]["median (16 × 1,000)"]["of_copy"] > 0
    assert any(name.endswith(": fljax") for name in rows["rounds"])
    assert rows["sweep"]["4 seeds at once"]["of_singles"] > 0
    text = (second / "accelerator.md").read_text()
    assert all(f"## {part}\n" in text for part in again)
    # No time, no measurement.
    out, empty = call(tmp_path / "third", "--budget", "1")
    assert not any(empty.values())
    assert out.count("no time left") == 5
