"""What papers claim of defences and attacks, beside what is seen on the digits.

    python benchmarks/claims.py                  # all of them; results/claims/
    python benchmarks/claims.py --only flame     # one, shown and not kept

benchmarks/claimed.py has the claims. Runs are kept in runs/claims/, a sweep over seeds for every rule under
an attack; what is there is not done again.
"""

import argparse
import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from claimed import CLAIMS, Arm, Claim, Statement

from fljax.files import write_atomically
from fljax.host.programs import keep_programs
from fljax.report.outcomes import with_outcomes
from fljax.report.uncertainty import interval
from fljax.sweeps import Threads, load_sweep, make_plan, run_plan

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "benchmarks" / "results" / "claims"
FOLDER = ROOT / "runs" / "claims"
# Evaluations at the end of a run of which a number is the mean.
LAST = 5
VERDICTS = ("seen", "in part", "open", "not seen")
MEASURES = {
    "error": "test error",
    "success": "attack success",
    "recall": "share of the attackers left out",
    "false positives": "share of the honest left out",
    "highest success": "highest attack success from the attack on",
    "success afterwards": "attack success in the 100 rounds after",
}
COLUMNS = {
    "error": "test_error",
    "success": "attack_success_rate",
    "recall": "detection_recall",
    "false positives": "false_positive_rate",
}


def done(arm: Arm) -> pd.DataFrame:
    """The runs of an arm, one for every seed, in the order of the seeds."""
    overrides = json.dumps(arm.overrides, sort_keys=True)
    folder = FOLDER / f"{arm.rule}_{arm.attack}_{hashlib.sha256(overrides.encode()).hexdigest()[:8]}"
    sweep = load_sweep(ROOT / "configs" / "claims.toml", arm.overrides)
    table = folder / "results.parquet"
    frame = pd.read_parquet(table) if table.exists() else pd.DataFrame()
    if len(frame) < len(sweep.cells):
        # One run at a time: programs of a single run compile in the shortest time, and that is most of it.
        plan = make_plan(sweep, size=1)
        frame = run_plan(plan, folder, resume=folder.exists(), executor=Threads(1))
    return with_outcomes(frame.sort_values("seed"))[0]


def measured(frame: pd.DataFrame) -> dict[str, list[float]]:
    """By measure, a value of every seed."""
    rows = frame.to_dict("records")
    return {name: [_value(row, name) for row in rows] for name in MEASURES}


def _value(row: Mapping[str, Any], measure: str) -> float:
    if measure == "success afterwards":
        return float(row.get("success_afterwards", math.nan))
    if measure == "highest success":
        start = (json.loads(row["config"])["attack"]["schedule"] or {}).get("start", 0)
        rates = np.asarray(row["curve_attack_success_rate"], float)
        return float(np.max(rates[np.asarray(row["curve_round"]) > start]))
    column = COLUMNS[measure]
    return float(row[column]) if row["diverged"] else _mean(row[f"curve_{column}"][-LAST:])


def _mean(values: Iterable[Any]) -> float:
    known = np.asarray([math.nan if value is None else value for value in values], float)
    return float(np.mean(known)) if len(known) else math.nan


def judged(statement: Statement, values: Mapping[Arm, Mapping[str, list[float]]]) -> dict[str, Any]:
    """A statement with its numbers, the paired difference, and whether it is seen.

    It is where the 95 % interval of the difference over the seeds lies beyond what is stated, and is not
    where that lies short of it; else it is open.
    """
    own = np.asarray(values[statement.arm][statement.measure])
    other = statement.than
    theirs = np.asarray(values[other][statement.measure]) if isinstance(other, Arm) else float(other)
    difference = statement.sign * (own - theirs)
    low, high = map(float, interval(difference, "student"))
    return {
        "measure": statement.measure,
        "of": statement.arm.label,
        "sign": statement.sign,
        "than": other.label if isinstance(other, Arm) else other,
        "by": statement.by,
        "values": own.tolist(),
        "than_values": theirs.tolist() if isinstance(other, Arm) else None,
        "difference": float(difference.mean()),
        "interval": [low, high],
        "seen": "yes" if low > statement.by else "no" if high < statement.by else "open",
    }


def verdict(seen: Sequence[str]) -> str:
    """Of a claim, from its statements, of which the first is what it is about."""
    if all(each == "yes" for each in seen):
        return "seen"
    return {"yes": "in part", "open": "open", "no": "not seen"}[seen[0]]


def told(claim: Claim, values: Mapping[Arm, Mapping[str, list[float]]]) -> dict[str, Any]:
    """A claim with its numbers."""
    statements = [judged(each, values) for each in claim.statements]
    return {
        "name": claim.name,
        "title": claim.title,
        "source": claim.source,
        "claimed": claim.says,
        "setting": claim.setting,
        "statements": statements,
        "verdict": verdict([each["seen"] for each in statements]),
        "note": claim.note,
    }


def page(claims: Sequence[Mapping[str, Any]]) -> str:
    """The table, and what was found out where a claim is not seen."""
    counts = Counter(claim["verdict"] for claim in claims)
    summary = ", ".join(f"{counts[name]} {name}" for name in VERDICTS if counts[name])
    lines = [
        f"{len(claims)} claims: {summary}.",
        "",
        "| | claimed | seen here | |",
        "| --- | --- | --- | --- |",
    ]
    for claim in claims:
        who = f"{claim['title']}, {claim['source']}"
        setting = f" ({claim['setting']})" * bool(claim["setting"])
        seen = "<br>".join(map(sentence, claim["statements"]))
        lines.append(f"| {who} | {claim['claimed']}{setting} | {seen} | {claim['verdict']} |")
    notes = [f"- **{claim['title']}**: {claim['note']}" for claim in claims if claim["note"]]
    return "\n".join([*lines, "", "## What was looked into", "", *notes, ""])


def sentence(statement: Mapping[str, Any]) -> str:
    """A statement and its numbers, as mean ± standard deviation over the seeds."""
    mark = {"yes": "✓", "no": "✗", "open": "?"}[statement["seen"]]
    limit = statement["sign"] * statement["by"]
    beyond = f" {'+' if limit > 0 else '−'} {abs(limit):g}" if limit else ""
    than = statement["than"]
    if statement["than_values"] is not None:
        than = f"{_spread(statement['than_values'])} of {than}"
    relation = ">" if statement["sign"] > 0 else "<"
    own = f"{_spread(statement['values'])} of {statement['of']}"
    return f"{mark} {MEASURES[statement['measure']]} {own} {relation} {than}{beyond}"


def _spread(values: Sequence[float]) -> str:
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}"


def keep(rows: Sequence[Mapping[str, Any]], frames: Mapping[Arm, pd.DataFrame]) -> None:
    """Write results/claims/."""
    first = next(iter(frames.values()))
    about = {
        "command": "python benchmarks/claims.py",
        "runs": sum(map(len, frames.values())),
        "seconds_compile": round(sum(float(frame["seconds_compile"].max()) for frame in frames.values())),
        "seconds_run": round(sum(float(frame["seconds_run"].sum()) for frame in frames.values())),
        "device": first["device"].iloc[0],
        "versions": json.loads(first["versions"].iloc[0]),
    }
    text = json.dumps({**about, "claims": rows}, indent=1, ensure_ascii=False) + "\n"
    KEPT.mkdir(parents=True, exist_ok=True)
    write_atomically(KEPT / "claims.json", text.encode())
    write_atomically(KEPT / "table.md", page(rows).encode())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", help="the name of a claim's rule or attack")
    given = parser.parse_args()
    keep_programs()
    claims = [claim for claim in CLAIMS if given.only is None or claim.name in given.only]
    frames: dict[Arm, pd.DataFrame] = {}
    rows = []
    for claim in claims:
        frames |= {arm: done(arm) for arm in claim.arms if arm not in frames}
        rows.append(told(claim, {arm: measured(frames[arm]) for arm in claim.arms}))
        print(
            f"{claim.name}: {rows[-1]['verdict']}",
            *map(sentence, rows[-1]["statements"]),
            sep="\n  ",
            flush=True,
        )
    if given.only is None:
        keep(rows, frames)


if __name__ == "__main__":
    main()
