"""Means over seeds, and the tables of them."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import pandas as pd

from fljax.config.titles import axis_text, axis_title, axis_value
from fljax.engine.metrics import Metric
from fljax.report.outcomes import DERIVED, STUDIES, Study
from fljax.report.ranking import CROSS, Outcome, explain, marks
from fljax.report.results import NO_ATTACK, Results
from fljax.report.uncertainty import (
    ALIKE,
    FEWEST,
    against,
    alike,
    explain_alike,
    explain_interval,
    interval_columns,
)
from fljax.simulation.lines import EVALUATED, metric_of

WORST_CASE = "worst case"
# Up to this many combinations of further axes have a table and a figure each, rows of attacks.
MOST_TABLES = 8
# Up to this many are the rows of a table per attack.
MOST_ROWS = 60
# More columns than this become rows, if there are fewer rows.
MOST_COLUMNS = 10
# Of the seeds, in the order of their columns, and the ends of confidence intervals where there are any.
STATISTICS = ("mean", "std", "min", "max")
ENDS = ("low", "high")


class Entry(NamedTuple):
    """The text in one place of a table; `mark` is "best", "worst" or nothing."""

    text: str
    mark: str = ""
    broken: bool = False


# The entries of one row of a table, one per rule, from the lines of a summary.
Row = Callable[[pd.DataFrame], list[Entry]]


class Table(NamedTuple):
    """Rows of entries; a column per rule, or a row per rule where rules are many."""

    title: str
    corner: str
    columns: list[str]
    rows: list[tuple[str, list[Entry]]]


def outcome(line: Any) -> Outcome:
    """The `Outcome` of a line of `summarize` or `worst_cases`."""
    return Outcome(float(line["test_error_mean"]), float(line["attack_success_rate_mean"]))


def summarize(results: Results) -> pd.DataFrame:
    """Statistics over the seeds of everything that is there.

    The standard deviation is that of the seeds themselves (divided by their number).

    Args:
        results: the sweep.

    Returns:
        A row per combination of the further axes, attack and rule: seeds, diverged (how many), and mean, std,
        min and max (with `results.interval` also low and high) of every metric of an evaluation and of every
        number of a whole run; NaN where there is no such quantity.
    """
    names = [*results.evaluated, *results.derived]
    by = [*results.further, "attack", "aggregator"]
    return statistics(results.frame, by, names, results.interval)


def statistics(
    cells: pd.DataFrame, by: Sequence[str], names: Iterable[str] = EVALUATED, interval: str = ""
) -> pd.DataFrame:
    """The columns of `summarize` for some metrics, a row for each combination of values of some columns."""
    groups = cells.groupby(list(by), observed=True)
    columns: dict[str, pd.Series] = {"seeds": groups.size(), "diverged": groups["diverged"].sum()}
    for name in names:
        values = groups[name]
        columns |= zip(
            (f"{name}_{end}" for end in STATISTICS),
            (values.mean(), values.std(ddof=0), values.min(), values.max()),
            strict=True,
        )
        columns |= interval_columns(groups, name, interval) if interval else {}
    return pd.DataFrame(columns).reset_index()


def worst_cases(results: Results, summary: pd.DataFrame) -> pd.DataFrame:
    """For every rule the largest mean error and the largest mean success rate over the attacks.

    The two may be of different attacks: a rule that one attack makes useless and another one backdoors has
    both in its worst case. "no attack" does not count.

    Args:
        results: the sweep.
        summary: of `summarize`.

    Returns:
        A row per combination of the further axes and rule with the columns of `summary`, `worst_attack` and
        `worst_backdoor` (the attacks with the two; none without a backdoor) and `complete`: whether all seeds
        of all attacks are there. A mean error that is missing because every seed diverged is the largest.
    """
    real = summary[summary["attack"] != NO_ATTACK]
    real = real.assign(size=real["test_error_mean"].fillna(math.inf), full=real["seeds"] >= results.seeds)
    keys = [*results.further, "aggregator"]
    groups = real.groupby(keys, observed=True)
    worst = real.loc[groups["size"].idxmax()].set_index(keys)
    planted = real[real["attack_success_rate_mean"].notna()]
    largest = planted.groupby(keys, observed=True)["attack_success_rate_mean"].idxmax()
    backdoor = planted.loc[largest].set_index(keys).reindex(worst.index)
    # The signs of both attacks that the numbers come from.
    columns = {
        "seeds": pd.concat([worst["seeds"], backdoor["seeds"]], axis=1).min(axis=1).astype(int),
        "diverged": pd.concat([worst["diverged"], backdoor["diverged"]], axis=1).max(axis=1).astype(int),
        **{
            f"{name}_{end}": (backdoor if name == "attack_success_rate" else worst)[f"{name}_{end}"]
            for name in results.evaluated
            for end in (*STATISTICS, *ENDS)
            if f"{name}_{end}" in real
        },
        "worst_attack": worst["attack"].astype(str),
        "worst_backdoor": backdoor["attack"].astype(object),
        "complete": groups["full"].sum() == len(results.real_attacks),
    }
    return pd.DataFrame(columns).reset_index().sort_values(keys, ignore_index=True)


def ranked(summary: pd.DataFrame, within: Sequence[str]) -> pd.DataFrame:
    """A summary with the columns `rank`, from 1 among the rules of a row (equals alike), and `broken`."""
    outcomes = [outcome(line) for line in summary.to_dict("records")]
    harm = pd.Series([each.harm for each in outcomes], index=summary.index)
    order = harm.groupby([summary[name] for name in within], observed=True).rank("min").astype(int)
    return summary.assign(rank=order, broken=[each.broken for each in outcomes])


def tables(
    results: Results, worst_case: bool = True, study: Study | None = None, better: str = "low"
) -> list[Table]:
    """The sweep as tables, never averaged over anything but seeds.

    One attack: one table, a row per combination of the further axes. Few combinations: one table each, a row
    per attack. More: one table per attack, a row per combination. Too many: none.

    Args:
        results: the sweep.
        worst_case: whether there is a row of the worst case.
        study: numbers that are shown in place of error and success rate, without worst cases.
        better: whether the "low" or the "high" values are the best.
    """
    summary = summarize(results)
    with_worst = worst_case and study is None and len(results.real_attacks) > 1
    worst = worst_cases(results, summary) if with_worst else None
    combinations = [labels for labels, _ in results.combinations()]
    row = partial(_row, results, study=study, better=better)
    if len(combinations) > MOST_ROWS:
        return []
    if len(combinations) > 1 and len(results.real_attacks) < 2:
        made = [_of_one_attack(results, summary, combinations, row)]
    elif len(combinations) <= MOST_TABLES:
        made = [_by_attack(results, summary, worst, labels, row) for labels in combinations]
    else:
        pieces = [(attack, summary[summary["attack"] == attack]) for attack in results.attacks]
        made = [_by_axes(results, attack, rows, combinations, row) for attack, rows in pieces if len(rows)]
        if worst is not None:
            made.append(_by_axes(results, f"{WORST_CASE} over the attacks", worst, combinations, row))
    return [_turned(table) for table in made]


def describe(labels: dict[str, str]) -> str:
    """A combination of further axes as text: malicious clients 20 %, data digits."""
    return ", ".join(axis_text(axis, value) for axis, value in labels.items())


def select(frame: pd.DataFrame, labels: dict[str, str]) -> pd.DataFrame:
    """The rows with these values."""
    for axis, value in labels.items():
        frame = frame[frame[axis] == value]
    return frame


def _of_one_attack(
    results: Results, summary: pd.DataFrame, combinations: Sequence[dict[str, str]], row: Row
) -> Table:
    rows = []
    for attack in results.attacks:
        for labels in combinations:
            mine = select(summary[summary["attack"] == attack], labels)
            if len(mine):
                before = f"{attack}, " if len(results.attacks) > 1 else ""
                rows.append((before + values_of(labels), row(mine)))
    corner = ", ".join(map(axis_title, results.further))
    if len(results.attacks) > 1:
        return Table("", f"attack, {corner}", results.rules, rows)
    return Table(results.attacks[0], corner, results.rules, rows)


def _by_attack(
    results: Results, summary: pd.DataFrame, worst: pd.DataFrame | None, labels: dict[str, str], row: Row
) -> Table:
    mine = select(summary, labels)
    rows = [(attack, row(mine[mine["attack"] == attack])) for attack in results.attacks]
    if worst is not None:
        rows.append((WORST_CASE, row(select(worst, labels))))
    return Table(describe(labels), "attack", results.rules, rows)


def _by_axes(
    results: Results, title: str, summary: pd.DataFrame, combinations: Sequence[dict[str, str]], row: Row
) -> Table:
    rows = [(values_of(labels), row(select(summary, labels))) for labels in combinations]
    return Table(title, ", ".join(map(axis_title, results.further)), results.rules, rows)


def values_of(labels: dict[str, str]) -> str:
    """The values of a combination alone, where a title names the axes."""
    return ", ".join(axis_value(axis, value) for axis, value in labels.items())


def _turned(table: Table) -> Table:
    """Rules as rows if they are too many to stand beside each other."""
    if len(table.columns) <= MOST_COLUMNS or len(table.rows) >= len(table.columns):
        return table
    columns = [name for name, _ in table.rows]
    rows = [(rule, [row[i] for _, row in table.rows]) for i, rule in enumerate(table.columns)]
    corner = "rule" if table.corner == "attack" else f"rule by {table.corner}"
    return Table(table.title, corner, columns, rows)


def _row(
    results: Results, found: pd.DataFrame, study: Study | None = None, better: str = "low"
) -> list[Entry]:
    """An entry per rule from at most one line of the summary for each."""
    lines = {line["aggregator"]: line for line in found.to_dict("records")}
    if study is not None:
        return [Entry(_of_study(study, lines.get(rule), results)) for rule in results.rules]
    outcomes = [outcome(lines[rule]) if rule in lines else None for rule in results.rules]
    marked = marks(outcomes)
    same = alike(p_values(results, found, better))
    return [
        Entry(_text(lines.get(rule), results, rule in same), mark, each is not None and each.broken)
        for rule, mark, each in zip(results.rules, marked, outcomes, strict=True)
    ]


def p_values(results: Results, found: pd.DataFrame, better: str = "low") -> dict[str, float]:
    """p-values of the difference from the best rule in one row of a table, by rule.

    Args:
        results: the sweep.
        found: the lines of `summarize` in the row.
        better: as for `tables`.

    Returns:
        Those of `against`; none of the worst cases, where no rule is the best, and with too few seeds.
    """
    if results.seeds < FEWEST or "complete" in found or len(found) < 2:
        return {}
    lines = found.to_dict("records")
    wanted = "best" if better == "low" else "worst"
    marked = marks([outcome(line) for line in lines])
    best = next((line for line, mark in zip(lines, marked, strict=True) if mark == wanted), None)
    if best is None:
        return {}
    cells = select(results.frame, {axis: best[axis] for axis in (*results.further, "attack")})
    return against(str(best["aggregator"]), cells)


def _text(line: dict[str, Any] | None, results: Results, same: bool = False) -> str:
    if line is None:
        return ""
    mean, success = line["test_error_mean"], line["attack_success_rate_mean"]
    text = "—" if math.isnan(mean) else f"{mean:.3f}"
    is_worst_case = "complete" in line
    if line["seeds"] > 1 and not math.isnan(mean) and not is_worst_case:
        text += f" ± {line['test_error_std']:.3f}"
        if not math.isnan(line.get("test_error_low", math.nan)):
            least = -math.inf if results.evaluated["test_error"].kind == "number" else 0.0
            text += f" [{max(line['test_error_low'], least):.3f}, {line['test_error_high']:.3f}]"
    if not math.isnan(success):
        text += f" / {success:.2f}" + f" {CROSS}" * outcome(line).broken
    complete = line["complete"] if is_worst_case else line["seeds"] >= results.seeds
    return text + f" {ALIKE}" * same + _signs(line, complete)


def _signs(line: dict[str, Any], complete: bool) -> str:
    return " †" * bool(line["diverged"]) + " ‡" * (not complete)


def _of_study(study: Study, line: dict[str, Any] | None, results: Results) -> str:
    """The means of a study's numbers, with slashes between them; nothing if there is none."""
    if line is None:
        return ""
    metrics = {name: DERIVED.get(name) or metric_of(name) for name in study.columns}
    # A number that no cell has is a gap like any other.
    means = {name: float(line.get(f"{name}_mean", math.nan)) for name in metrics}
    if all(math.isnan(mean) for name, mean in means.items() if name in results.derived):
        return ""
    texts = ["–" if math.isnan(mean) else FORMATS[metrics[name].kind](mean) for name, mean in means.items()]
    bound = "≥ " * bool(study.bound in results.derived and line[f"{study.bound}_max"] > 0)
    return bound + " / ".join(texts) + _signs(line, line["seeds"] >= results.seeds)


FORMATS: dict[str, Callable[[float], str]] = {
    "share": "{:.2f}".format,
    "rounds": "{:.0f}".format,
    "number": "{:+.3f}".format,
}


def state(results: Results) -> str:
    """The share of the sweep that is there, in words."""
    if results.is_run:
        return results.progress
    done = len(results.frame)
    rest = "" if done >= results.total else "; the others are missing so far"
    return f"{done:,} of {results.total:,} cells{rest}"


class Section(NamedTuple):
    """The tables of one metric, and a caption."""

    tables: list[Table]
    caption: str


def sections(results: Results) -> list[Section]:
    """The tables of the test error, then of the other metrics that have few columns."""
    made = tables(results)
    found = [Section(made, caption(results, made))] if made else []
    for name in results.shown:
        if name in ("test_error", "attack_success_rate") or results.frame[name].isna().all():
            continue
        metric = results.evaluated[name]
        frame = results.frame.assign(test_error=results.frame[name], attack_success_rate=math.nan)
        own = replace(results, frame=frame, evaluated={**results.evaluated, "test_error": metric})
        made = [_named(table, metric) for table in tables(own, metric.better == "low", better=metric.better)]
        if made:
            found.append(Section(made, caption(own, made, metric)))
    for study in studies(results):
        made = [_titled(_filled(table), study.title) for table in tables(results, study=study)]
        made = [table for table in made if table.rows]
        if made:
            spread = [f"Means over {results.seeds} seeds."] * (results.seeds > 1)
            found.append(Section(made, " ".join([study.caption, *spread, *_explained(made)])))
    return found


def _filled(table: Table) -> Table:
    """A table without the rows and the columns that hold nothing."""
    kept = [k for k in range(len(table.columns)) if any(row[k].text for _, row in table.rows)]
    rows = [(name, [row[k] for k in kept]) for name, row in table.rows if any(entry.text for entry in row)]
    return table._replace(columns=[table.columns[k] for k in kept], rows=rows)


def studies(results: Results) -> list[Study]:
    """The studies of which there is a number."""
    return [study for study in STUDIES if any(name in results.derived for name in study.columns)]


def _named(table: Table, metric: Metric) -> Table:
    """A table with its metric in the title; of what should be high the largest is the best."""
    swapped = {"best": "worst", "worst": "best"} if metric.better == "high" else {}
    rows = [
        (name, [entry._replace(mark=swapped.get(entry.mark, entry.mark), broken=False) for entry in row])
        for name, row in table.rows
    ]
    return _titled(table, metric.title)._replace(rows=rows)


def _titled(table: Table, title: str) -> Table:
    title = f"{title}: {table.title}" if table.title else title
    return table._replace(title=title[:1].upper() + title[1:])


def caption(results: Results, made: Iterable[Table], metric: Metric | None = None) -> str:
    """The meaning of the numbers in the tables, and of the signs that occur in them."""
    texts = [entry.text for table in made for _, row in table.rows for entry in row]
    spread = f", mean ± standard deviation over {results.seeds} seeds" if results.seeds > 1 else ""
    slash = "; after a slash the attack success rate" if any(" / " in text for text in texts) else ""
    what = "Test error" if metric is None else metric.title[:1].upper() + metric.title[1:]
    sentences = [f"{what} {results.when}{spread}{slash}."]
    if metric is None:
        sentences += explain(len(results.rules) > 1, any(CROSS in text for text in texts))
    elif len(results.rules) > 1:
        sentences.append("Bold is the best rule, italic the worst.")
    if len(results.real_attacks) > 1 and (metric is None or metric.better == "low"):
        both = " and the largest mean success rate" if slash else ""
        largest = "error" if metric is None else "value"
        sentences.append(f"The {WORST_CASE} is a rule's largest mean {largest}{both} over the attacks.")
    if results.interval:
        groups = results.frame.groupby([*results.further, "attack", "aggregator"], observed=True)
        # A seed that diverged has no number.
        counts = groups["test_error"].count()
        sentences.append(explain_interval(results.interval, counts.tolist()))
        sentences += ["It is cut at 0."] * any("[0.000" in text for text in texts)
    return " ".join([*sentences, *_explained(made)])


def _explained(made: Iterable[Table]) -> list[str]:
    """The meaning of the signs that occur in tables."""
    texts = [entry.text for table in made for _, row in table.rows for entry in row]
    signs = {
        ALIKE: explain_alike(),
        "†": "† At least one seed diverged.",
        "‡": "‡ Not everything behind the number is there yet.",
    }
    return [text for sign, text in signs.items() if any(sign in each for each in texts)]


def remarks(results: Results) -> list[str]:
    """The figures and tables that are left out, in a sentence each."""
    count = len(results.combinations())
    axes = ", ".join(map(axis_title, results.further))
    if count <= MOST_TABLES or (count <= MOST_ROWS and len(results.real_attacks) < 2):
        return []
    where = "in lines over the numeric axes" if results.numeric & set(results.further) else "in results.csv"
    shown = [f"The {count} combinations of {axes} are too many for figures of each; they are shown {where}."]
    if count > MOST_ROWS:
        shown.append("They are too many for tables as well; table.csv has every mean.")
    return shown
