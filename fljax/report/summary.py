"""Means over seeds, and the tables of them."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import pandas as pd

from fljax.report.results import NO_ATTACK, Results

WORST_CASE = "worst case"
# Up to this many combinations of further axes have a table and a figure each, rows of attacks.
MOST_TABLES = 8
# Up to this many are the rows of a table per attack.
MOST_ROWS = 60


class Entry(NamedTuple):
    """What a table shows in one place; `mark` is "best", "worst" or nothing."""

    text: str
    mark: str = ""


class Table(NamedTuple):
    """Rows of entries, a column per rule."""

    title: str
    corner: str
    columns: list[str]
    rows: list[tuple[str, list[Entry]]]


def summarize(results: Results) -> pd.DataFrame:
    """Statistics over the seeds of everything that is there.

    The standard deviation is that of the seeds themselves (divided by their number).

    Args:
        results: the sweep.

    Returns:
        A row per combination of the further axes, attack and rule: seeds, diverged (how many), and mean, std,
        min and max of test_error and attack_success_rate; NaN where there is no such quantity.
    """
    groups = results.frame.groupby([*results.further, "attack", "aggregator"], observed=True)
    columns: dict[str, pd.Series] = {"seeds": groups.size(), "diverged": groups["diverged"].sum()}
    for name in ("test_error", "attack_success_rate"):
        columns[f"{name}_mean"] = groups[name].mean()
        columns[f"{name}_std"] = groups[name].std(ddof=0)
        columns[f"{name}_min"] = groups[name].min()
        columns[f"{name}_max"] = groups[name].max()
    return pd.DataFrame(columns).reset_index()


def worst_cases(results: Results, summary: pd.DataFrame) -> pd.DataFrame:
    """For every rule the attack, "no attack" aside, with the largest mean error.

    Args:
        results: the sweep.
        summary: of `summarize`.

    Returns:
        Rows of `summary` with a column `complete`: whether all seeds of all attacks are there. A mean that is
        missing because every seed diverged counts as the largest.
    """
    real = summary[summary["attack"] != NO_ATTACK]
    keys = [*results.further, "aggregator"]
    ranked = real.assign(rank=real["test_error_mean"].fillna(math.inf)).sort_values("rank", kind="stable")
    worst = ranked.groupby(keys, observed=True).tail(1)
    full = real[real["seeds"] >= results.seeds].groupby(keys, observed=True).size()
    complete = [
        full.get(key if len(key) > 1 else key[0], 0) == len(results.real_attacks)
        for key in worst[keys].itertuples(index=False, name=None)
    ]
    return worst.drop(columns="rank").assign(complete=complete).sort_values(keys)


def tables(results: Results) -> list[Table]:
    """The sweep as tables, never averaged over anything but seeds.

    Few combinations of further axes: one table each, a row per attack. More: one table per attack, a row per
    combination. Too many: none.
    """
    summary = summarize(results)
    worst = worst_cases(results, summary) if len(results.real_attacks) > 1 else None
    combinations = [labels for labels, _ in results.combinations()]
    if len(combinations) <= MOST_TABLES:
        return [_by_attack(results, summary, worst, labels) for labels in combinations]
    if len(combinations) > MOST_ROWS:
        return []
    pieces = [(attack, summary[summary["attack"] == attack]) for attack in results.attacks]
    made = [_by_axes(results, attack, rows, combinations) for attack, rows in pieces if len(rows)]
    if worst is not None:
        made.append(_by_axes(results, f"{WORST_CASE} over the attacks", worst, combinations))
    return made


def describe(labels: dict[str, str]) -> str:
    """A combination of further axes as text: attack.fraction = 0.2, data = digits."""
    return ", ".join(f"{axis} = {value}" for axis, value in labels.items())


def select(frame: pd.DataFrame, labels: dict[str, str]) -> pd.DataFrame:
    """The rows with these values."""
    for axis, value in labels.items():
        frame = frame[frame[axis] == value]
    return frame


def _by_attack(
    results: Results, summary: pd.DataFrame, worst: pd.DataFrame | None, labels: dict[str, str]
) -> Table:
    mine = select(summary, labels)
    rows = [(attack, _row(results, mine[mine["attack"] == attack])) for attack in results.attacks]
    if worst is not None:
        rows.append((WORST_CASE, _row(results, select(worst, labels))))
    return Table(describe(labels), "attack", results.rules, rows)


def _by_axes(
    results: Results, title: str, summary: pd.DataFrame, combinations: Sequence[dict[str, str]]
) -> Table:
    rows = [(", ".join(labels.values()), _row(results, select(summary, labels))) for labels in combinations]
    return Table(title, ", ".join(results.further), results.rules, rows)


def _row(results: Results, found: pd.DataFrame) -> list[Entry]:
    """An entry per rule from at most one line of the summary for each."""
    lines = {line["aggregator"]: line for line in found.to_dict("records")}
    texts = [_text(lines.get(rule), results.seeds) for rule in results.rules]
    means = [_shown(lines.get(rule)) for rule in results.rules]
    return [Entry(text, mark) for text, mark in zip(texts, marks(means), strict=True)]


def marks(means: Sequence[float | None]) -> list[str]:
    """Which are best and worst among those that are there, to the digits shown; nothing if all are equal."""
    there = {mean for mean in means if mean is not None}
    if len(there) < 2:
        return [""] * len(means)
    names = {max(there): "worst", min(there): "best"}
    return ["" if mean is None else names.get(mean, "") for mean in means]


def _shown(line: dict[str, Any] | None) -> float | None:
    if line is None:
        return None
    mean = line["test_error_mean"]
    return math.inf if math.isnan(mean) else round(mean, 3)


def _text(line: dict[str, Any] | None, seeds: int) -> str:
    if line is None:
        return ""
    mean, success = line["test_error_mean"], line["attack_success_rate_mean"]
    text = "—" if math.isnan(mean) else f"{mean:.3f}"
    is_worst_case = "complete" in line
    if line["seeds"] > 1 and not math.isnan(mean) and not is_worst_case:
        text += f" ± {line['test_error_std']:.3f}"
    if not math.isnan(success) and not is_worst_case:
        text += f" / {success:.2f}"
    complete = line["complete"] if is_worst_case else line["seeds"] >= seeds
    return text + " †" * bool(line["diverged"]) + " ‡" * (not complete)


def state(results: Results) -> str:
    """How much of the sweep is there."""
    done = len(results.frame)
    rest = "" if done >= results.total else "; the others are missing so far"
    return f"{done:,} of {results.total:,} cells{rest}"


def caption(results: Results, made: Iterable[Table]) -> str:
    """What the numbers of the tables are, and what the signs mean that occur in them."""
    texts = [entry.text for table in made for _, row in table.rows for entry in row]
    spread = f", mean ± standard deviation over {results.seeds} seeds" if results.seeds > 1 else ""
    slash = "; after a slash the attack success rate" if any(" / " in text for text in texts) else ""
    sentences = [f"Test error{spread}{slash}."]
    if len(results.rules) > 1:
        sentences.append("Bold is the best rule of a row, italic the worst.")
    if len(results.real_attacks) > 1:
        sentences.append(f"The {WORST_CASE} is a rule's largest mean error over the attacks.")
    if any("†" in text for text in texts):
        sentences.append("† At least one seed diverged.")
    if any("‡" in text for text in texts):
        sentences.append("‡ Not everything behind the number is there yet.")
    return " ".join(sentences)


def remarks(results: Results) -> list[str]:
    """What is not shown, in a sentence each."""
    count = len(results.combinations())
    axes = ", ".join(results.further)
    if count <= MOST_TABLES:
        return []
    where = "in lines over the numeric axes" if results.numeric & set(results.further) else "in results.csv"
    shown = [f"The {count} combinations of {axes} are too many for figures of each; they are shown {where}."]
    if count > MOST_ROWS:
        shown.append("They are too many for tables as well; table.csv has every mean.")
    return shown
