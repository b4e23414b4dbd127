"""The table of claims: what follows from numbers, and that what is kept is of these claims."""

import json
import sys
from pathlib import Path

import pytest

from fljax.sweeps import load_sweep

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def claims():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import claims
    finally:
        sys.path.pop(0)
    return claims


@pytest.mark.parametrize(
    ("values", "by", "seen"),
    [
        ([0.30, 0.31, 0.32], 0.1, "yes"),
        ([0.30, 0.31, 0.32], 0.25, "no"),
        ([0.30, 0.31, 0.32], 0.21, "open"),
        ([0.1, 0.1, 0.1], 0.0, "open"),  # no difference at all, and none asked for
        ([float("nan")] * 3, 0.1, "open"),
    ],
)
def test_a_statement_is_seen_if_the_whole_interval_is_beyond_it(claims, values, by, seen):
    more = claims.Statement("error", claims.Arm("mean", "alie"), claims.Arm("mean", "none"), 1, by)
    numbers = {more.arm: {"error": values}, more.than: {"error": [0.1, 0.1, 0.1]}}
    found = claims.judged(more, numbers)
    assert found["seen"] == seen
    # The same the other way round, and against a number in place of runs.
    less = claims.Statement("error", more.than, more.arm, -1, by)
    assert claims.judged(less, numbers)["seen"] == seen
    number = claims.Statement("error", more.arm, 0.1, 1, by)
    assert claims.judged(number, numbers)["seen"] == seen


def test_the_verdict_is_that_of_the_first_statement_unless_others_fail(claims):
    assert claims.verdict(["yes", "yes"]) == "seen"
    assert claims.verdict(["yes", "open"]) == claims.verdict(["yes", "no"]) == "in part"
    assert claims.verdict(["open", "yes"]) == "open"
    assert claims.verdict(["no", "yes"]) == "not seen"


def test_all_runs_have_valid_configurations(claims):
    for arm in {arm for claim in claims.CLAIMS for arm in claim.arms}:
        cells = load_sweep(ROOT / "configs" / "claims.toml", arm.overrides).cells
        assert len({cell.config.seed for cell in cells}) == len(cells) >= 3


def test_what_is_kept_is_of_these_claims(claims):
    kept = ROOT / "benchmarks" / "results" / "claims"
    rows = json.loads((kept / "claims.json").read_text(encoding="utf-8"))["claims"]
    said = [(claim.name, claim.says, claim.note, len(claim.statements)) for claim in claims.CLAIMS]
    assert [(row["name"], row["claimed"], row["note"], len(row["statements"])) for row in rows] == said
    for claim, row in zip(claims.CLAIMS, rows, strict=True):
        for statement, kept_one in zip(claim.statements, row["statements"], strict=True):
            assert kept_one["of"] == statement.arm.label
            assert (kept_one["sign"], kept_one["by"]) == (statement.sign, statement.by)
        assert row["verdict"] == claims.verdict([each["seen"] for each in row["statements"]])
    assert (kept / "table.md").read_text(encoding="utf-8") == claims.page(rows)
