"""Figures of a sweep: comparison, heat maps, curves, lines over an axis."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from fljax.plots import LINE, MOST_BARS, PER_ROW, plt, to_png
from fljax.report import panels
from fljax.report.results import BASELINE, NO_ATTACK, Results, label
from fljax.report.summary import MOST_TABLES, WORST_CASE, describe, select, summarize, worst_cases

SUCCESS = "attack_success_rate"
TITLES = {"test_error": "test error", SUCCESS: "attack success rate"}
# With more bars to a group than this they become a table of colours.
MOST_RULES = 10


class Picture(NamedTuple):
    """A drawn figure: file name without ending, what it shows, content of the PNG file."""

    name: str
    caption: str
    png: bytes


def pictures(results: Results) -> list[Picture]:
    """All figures of a sweep that have something to show."""
    # A dollar in a label is no formula.
    with plt.rc_context({"text.parse_math": False}):
        return list(_pictures(results))


def _pictures(results: Results) -> Iterator[Picture]:
    summary = summarize(results)
    combinations = results.combinations()
    if len(combinations) <= MOST_TABLES:
        yield from _comparisons(results, summary, combinations)
        yield _heat_maps(results, summary, combinations)
    yield from _lines(results, summary)


def facts(results: Results, cells: pd.DataFrame) -> str:
    """What was run, for a title."""
    words = [results.name]
    data = cells["data"].astype(str).unique()
    if len(data) == 1 and data[0] != results.name:
        words.append(data[0])
    for column, unit in (("num_clients", "clients"), ("num_malicious", "malicious")):
        if column in cells:
            numbers = sorted({int(number) for number in cells[column].dropna() if number})
            if numbers:
                words.append(f"{' or '.join(map(str, numbers))} {unit}")
    return ", ".join(words)


def _comparisons(
    results: Results, summary: pd.DataFrame, combinations: list[tuple[dict[str, str], pd.DataFrame]]
) -> Iterator[Picture]:
    for number, (labels, cells) in enumerate(combinations, 1):
        end = f"_{number}" if len(combinations) > 1 else ""
        for column, title in TITLES.items():
            courses = panels.courses(cells, column)
            if column == SUCCESS and not courses:
                continue
            parts = filter(None, [facts(results, cells), describe(labels)])
            mine = select(summary, labels) if column == "test_error" else None
            figure = _comparison(results, mine, courses, title, "\n".join(parts))
            name = "comparison" if column == "test_error" else "curves_attack_success_rate"
            text = f"{title.capitalize()} over rounds, a line per rule: mean and range of the seeds."
            if column == "test_error":
                text = f"Final test error on top; below {text[0].lower()}{text[1:]}"
            yield Picture(name + end, f"{describe(labels)}. {text}".removeprefix(". "), to_png(figure))


def _comparison(
    results: Results,
    summary: pd.DataFrame | None,
    courses: dict[tuple[str, str], pd.DataFrame],
    quantity: str,
    title: str,
) -> Figure:
    """Final errors as bars, or for many as colours, if a summary is given; below a panel per attack."""
    attacks = [a for a in results.attacks if any(attack == a for attack, _ in courses)] or results.attacks
    many = len(attacks) > MOST_BARS or len(results.rules) > MOST_RULES
    columns = min(PER_ROW, len(attacks)) if many else len(attacks)
    lines = -(-len(attacks) // columns)
    table = 0.0 if summary is None else 0.32 * len(attacks) + 1.6 if many else 3.2
    heights = [*([table] if table else []), *[2.5 if many else 3.2] * lines]
    width = max(3.1 * columns, 8.0, 0.9 * len(results.rules) + 2 if many else 0)
    figure = plt.figure(figsize=(width, sum(heights) + 0.8), layout="constrained")
    grid = figure.add_gridspec(len(heights), columns, height_ratios=heights)
    baseline = courses.get((NO_ATTACK, BASELINE))
    if summary is not None:
        top = figure.add_subplot(grid[0, :])
        means = [panels.matrix(summary, f"{name}_mean", attacks, results.rules) for name in TITLES]
        if many:
            panels.heat_map(top, results.rules, attacks, *means)
        else:
            low, high = (
                panels.matrix(summary, f"test_error_{end}", attacks, results.rules) for end in ("min", "max")
            )
            reference = summary[(summary["attack"] == NO_ATTACK) & (summary["aggregator"] == BASELINE)]
            panels.bars(top, results.rules, attacks, means[0], means[1], low, high)
            if len(reference):
                mean = float(reference["test_error_mean"].iloc[0])
                top.axhline(mean, **LINE, label=f"{BASELINE}, {NO_ATTACK}")
    drawn = []
    for k, attack in enumerate(attacks):
        axis = figure.add_subplot(grid[k // columns + bool(table), k % columns])
        for i, rule in enumerate(results.rules):
            course = courses.get((attack, rule))
            if course is not None:
                panels.band(axis, i, rule, course)
        if baseline is not None:
            axis.plot(baseline.index, baseline.mean(axis=1), **LINE, label=f"{BASELINE}, {NO_ATTACK}")
        axis.set_ylim(0, 1)
        axis.set_title(attack, fontsize=9)
        if k + columns >= len(attacks):
            axis.set_xlabel("round")
        if k % columns == 0:
            axis.set_ylabel(quantity)
        else:
            axis.tick_params(labelleft=False)
        drawn.append(axis)
    panels.tidy(drawn if many or summary is None else [top, *drawn])
    panels.legend(figure, drawn if summary is None or many else [top, *drawn], results.rules)
    figure.suptitle(title, fontsize=11)
    return figure


def _heat_maps(
    results: Results, summary: pd.DataFrame, combinations: list[tuple[dict[str, str], pd.DataFrame]]
) -> Picture:
    """A table of colours per combination, with the worst case."""
    worst = worst_cases(results, summary) if len(results.real_attacks) > 1 else None
    count = len(results.attacks) + (worst is not None)
    columns = 2 if len(combinations) > 2 else 1
    lines = -(-len(combinations) // columns)
    size = (max(0.95 * len(results.rules) + 2.4, 6.5) * columns, (0.36 * count + 1.5) * lines + 0.5)
    figure, grid = plt.subplots(lines, columns, figsize=size, squeeze=False, layout="constrained")
    for axis in grid.flat[len(combinations) :]:
        axis.set_visible(False)
    for axis, (labels, _) in zip(grid.flat, combinations, strict=False):
        names, mine = list(results.attacks), select(summary, labels)
        means = [panels.matrix(mine, f"{name}_mean", names, results.rules) for name in TITLES]
        if worst is not None:
            line = select(worst, labels).set_index("aggregator")["test_error_mean"]
            largest = np.array([line.get(rule, np.nan) for rule in results.rules])
            names.append(WORST_CASE)
            means = [np.vstack([means[0], largest]), np.vstack([means[1], np.full(len(largest), np.nan)])]
        panels.heat_map(axis, results.rules, names, *means)
        if worst is not None:
            axis.axhline(len(names) - 1.5, color="black", lw=1)
        if labels:
            axis.set_title(describe(labels), fontsize=9)
    figure.suptitle(facts(results, results.frame), fontsize=11)
    slash = ", after a slash the attack success rate" if summary[f"{SUCCESS}_mean"].notna().any() else ""
    return Picture("heat_map", f"Mean test error{slash}.", to_png(figure))


def _lines(results: Results, summary: pd.DataFrame) -> Iterator[Picture]:
    """For every numeric axis, and every combination of the others if they are few."""
    worst = worst_cases(results, summary) if len(results.real_attacks) > 1 else None
    for axis in results.further:
        others = [name for name in results.further if name != axis]
        if axis not in results.numeric or results.frame[axis].nunique() < 2:
            continue
        groups = results.frame.groupby(others, observed=True) if others else [((), results.frame)]
        chosen = [(dict(zip(others, map(str, key), strict=True)), cells) for key, cells in groups]
        if len(chosen) > MOST_TABLES:
            continue
        for number, (labels, cells) in enumerate(chosen, 1):
            for column, title in TITLES.items():
                mine = select(summary, labels)
                mine = mine[mine[f"{column}_mean"].notna()]
                if mine.empty:
                    continue
                largest = select(worst, labels) if worst is not None and column == "test_error" else None
                parts = filter(None, [facts(results, cells), describe(labels)])
                figure = _over_axis(results, mine, largest, axis, column, "\n".join(parts))
                pieces = ["lines", axis, str(number) * (len(chosen) > 1), SUCCESS * (column == SUCCESS)]
                text = f"{title.capitalize()} over {axis}: mean and range of the seeds."
                text = f"{describe(labels)}. {text}".removeprefix(". ")
                yield Picture("_".join(filter(None, pieces)), text, to_png(figure))


def _over_axis(
    results: Results,
    summary: pd.DataFrame,
    worst: pd.DataFrame | None,
    axis: str,
    column: str,
    title: str,
) -> Figure:
    shown = [(attack, summary[summary["attack"] == attack]) for attack in results.attacks]
    shown = [(attack, rows) for attack, rows in shown if len(rows)]
    # Without an attack at one place only: no course over the axis, but what the others are compared with.
    plain = summary[summary["attack"] == NO_ATTACK]
    is_reference = len(shown) > 1 and plain["aggregator"].tolist() == [BASELINE]
    if is_reference:
        shown = [(attack, rows) for attack, rows in shown if attack != NO_ATTACK]
    if worst is not None and len(worst):
        shown.append((f"{WORST_CASE} over the attacks", worst))
    columns = min(PER_ROW, len(shown))
    lines = -(-len(shown) // columns)
    size = (max(3.1 * columns, 5.5), 2.7 * lines + 1.1)
    options: Any = {"figsize": size, "squeeze": False, "sharey": True, "layout": "constrained"}
    figure, grid = plt.subplots(lines, columns, **options)
    drawn = list(grid.flat[: len(shown)])
    values = np.sort([float(text) for text in results.axes[axis]])
    for panel, (name, rows) in zip(drawn, shown, strict=True):
        for i, rule in enumerate(results.rules):
            mine = rows[rows["aggregator"] == rule]
            if mine.empty:
                continue
            at = mine[axis].astype(str).astype(float)
            table = pd.DataFrame({end: mine[f"{column}_{end}"] for end in ("mean", "min", "max")})
            # A missing value is a gap in the line.
            panels.band_of(panel, i, rule, table.set_index(at).reindex(values), points=True)
        if is_reference:
            panel.axhline(float(plain[f"{column}_mean"].iloc[0]), **LINE, label=f"{BASELINE}, {NO_ATTACK}")
        panel.set_title(name, fontsize=9)
        panel.set_xlabel(axis)
        if values.min() > 0 and values.max() / values.min() >= 20:
            panel.set_xscale("log")
            panel.set_xticks(values, map(label, values.tolist()), minor=False)
            panel.minorticks_off()
    drawn[0].set_ylim(0, 1)
    for panel in grid.flat[len(shown) :]:
        panel.set_visible(False)
    for panel in grid[:, 0]:
        panel.set_ylabel(TITLES[column])
    panels.tidy(drawn)
    panels.legend(figure, drawn, results.rules)
    figure.suptitle(title, fontsize=11)
    return figure
