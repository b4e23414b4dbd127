"""The order of the rules against a loop over draws of the seeds, and where there is none."""

import numpy as np
import pandas as pd
import pytest

from fljax.report import load_results, write_report
from fljax.report.leaderboard import DRAWS, leaderboard_frame, leaderboards
from tests.support.sweep_folders import cell, write_sweep

RULES = ["FedAvg", "Krum", "FLTrust", "Median"]
ATTACKS = ["Trim attack", "Scaling attack", "ALIE"]
SPEED = {"FedAvg": 100.0, "Krum": 50.0, "FLTrust": 80.0, "Median": 100.0}


def values(seeds):
    """Errors and success rates of every cell; only the second attack has a backdoor."""
    rng = np.random.default_rng(5)
    # FLTrust is best by far, FedAvg worst; which of the other two is better depends on the seeds.
    base = np.array([[0.8, 0.3, 0.4], [0.2, 0.1, 0.3], [0.05, 0.04, 0.06], [0.3, 0.2, 0.1]])
    errors = base[..., None] + rng.uniform(0, 0.04, (4, 3, seeds))
    errors[1, 2, :3] = 0.3, 0.5, 0.4
    errors[3, 0, :3] = 0.42, 0.38, 0.41
    return errors, np.clip(errors[:, 1] * 1.5, 0, 1)


def sweep(tmp_path, seeds=3, missing=()):
    errors, success = values(seeds)
    cells = [
        cell(
            rule, attack, seed, errors[i, j, seed], success[i, seed] if j == 1 else None,
            rounds_per_second=7.0,
        )
        for i, rule in enumerate(RULES)
        for j, attack in enumerate(ATTACKS)
        for seed in range(seeds)
        if (rule, attack, seed) not in missing
    ]  # fmt: skip
    cells += [
        cell(rule, "no attack", seed, 0.03, rounds_per_second=SPEED[rule])
        for rule in RULES
        for seed in range(seeds)
    ]
    axes = {"aggregator": RULES, "attack": ["no attack", *ATTACKS], "seed": list(range(seeds))}
    return write_sweep(tmp_path / f"sweep_{seeds}", axes, cells)


def harms(errors, success, seeds):
    """Of every rule the harm of every attack, over some seeds."""
    return [
        [
            max(np.mean([errors[i, j, s] for s in seeds]), np.mean([success[i, s] for s in seeds]) * (j == 1))
            for j in range(3)
        ]
        for i in range(4)
    ]  # fmt: skip


def test_rules_are_in_the_order_of_their_worst_case(tmp_path):
    frame = leaderboard_frame(load_results(sweep(tmp_path))).set_index("rule")
    errors, success = values(3)
    found = harms(errors, success, range(3))
    for rule, own in zip(RULES, found, strict=True):
        mine = frame.loc[rule]
        assert mine["rank"] == 1 + sum(max(other) < max(own) for other in found)
        assert mine["worst"] == pytest.approx(max(own))
        assert mine["attack"] == ATTACKS[int(np.argmax(own))]
        assert (mine["mean"], mine["spread"]) == pytest.approx((np.mean(own), np.std(own)))
        assert mine["plain"] == pytest.approx(0.03)
        assert mine["milliseconds"] == pytest.approx(1000 / SPEED[rule])
        assert mine["relative"] == pytest.approx(100 / SPEED[rule])
    assert list(frame.index[:1]) == ["FLTrust"]
    assert frame["complete"].all()


def test_the_interval_is_that_of_all_draws_of_the_seeds(tmp_path):
    frame = leaderboard_frame(load_results(sweep(tmp_path))).set_index("rule")
    errors, success = values(3)
    ranks = []
    for drawn in np.ndindex(3, 3, 3):  # all 27 draws of three seeds, equally likely
        worst = [max(own) for own in harms(errors, success, drawn)]
        ranks.append([1 + sum(other < own for other in worst) for own in worst])
    for rule, own in zip(RULES, np.array(ranks).T, strict=True):
        low, high = np.quantile(np.repeat(own, DRAWS), [0.025, 0.975])
        assert (frame.loc[rule, "low"], frame.loc[rule, "high"]) == (low, high)
    assert (frame.loc["Median", "low"], frame.loc["Median", "high"]) == (2, 3)
    assert (frame.loc["FLTrust", "low"], frame.loc["FLTrust", "high"]) == (1, 1)


def test_equal_worst_cases_are_told_apart_by_the_mean(tmp_path):
    cells = [
        cell(rule, attack, 0, error)
        for rule, errors in {"Krum": (0.5, 0.2, 0.3), "FedAvg": (0.1, 0.5, 0.1), "Median": (0.4,) * 3}.items()
        for attack, error in zip(ATTACKS, errors, strict=True)
    ]
    axes = {"aggregator": ["FedAvg", "Krum", "Median"], "attack": ATTACKS, "seed": [0]}
    (board,) = leaderboards(load_results(write_sweep(tmp_path / "sweep", axes, cells)))
    assert [standing.rule for standing in board[1]] == ["Median", "FedAvg", "Krum"]
    assert np.isnan([standing.low for standing in board[1]]).all()


def test_a_model_that_is_lost_is_the_worst_and_missing_seeds_are_said(tmp_path):
    folder = sweep(tmp_path, 5, missing={("FLTrust", "ALIE", 1)})
    table = pd.read_parquet(folder / "results.parquet")
    lost = (table["aggregator"] == "FLTrust") & (table["attack"] == "ALIE")
    table.loc[lost, "test_error"] = np.nan
    table.to_parquet(folder / "results.parquet")
    frame = leaderboard_frame(load_results(folder)).set_index("rule")
    assert frame["rank"].idxmax() == "FLTrust"
    assert np.isinf(frame.loc["FLTrust", "worst"])
    assert list(frame.index[~frame["complete"]]) == ["FLTrust"]
    text = (folder / "report" / "report.md") if write_report(folder, formats=["md"]) else folder
    row = [line for line in text.read_text().splitlines() if line.startswith("| FLTrust | 4")]
    assert row[0].split(" | ")[1:4] == ["4 (4 to 4) ‡", "—", "ALIE"]


def test_a_report_has_it_in_every_file(tmp_path):
    names = {path.name for path in write_report(sweep(tmp_path), tmp_path / "out")}
    assert {"leaderboard.csv", "leaderboard.png"} <= names
    for name in ("report.html", "report.md", "table.md"):
        assert "Leaderboard" in (tmp_path / "out" / name).read_text(encoding="utf-8")
    few = [cell(rule, ATTACKS[0], 0, 0.1) for rule in RULES]
    axes = {"aggregator": RULES, "attack": ATTACKS[:1], "seed": [0]}
    assert not leaderboards(load_results(write_sweep(tmp_path / "few", axes, few)))
