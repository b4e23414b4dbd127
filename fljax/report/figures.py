"""All figures of a sweep, or a run's; here those of final values and their courses over the rounds."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from fljax.report import panels
from fljax.report.facts import facts, heading, look_of
from fljax.report.heat_maps import heat_maps
from fljax.report.leaderboard import leaderboard_pictures
from fljax.report.lines import lines
from fljax.report.outcomes import attack_ends
from fljax.report.panels import ERROR, SUCCESS, Panel, Picture
from fljax.report.ranking import BROKEN
from fljax.report.results import BASELINE, NO_ATTACK, Results
from fljax.report.run import run_figure
from fljax.report.study_maps import study_maps
from fljax.report.style import REFERENCE, Look, drawing, error_axis, paper_width, sheet, stacked, tidy
from fljax.report.summary import ENDS, MOST_TABLES, describe, outcome, select, summarize, worst_cases
from fljax.simulation.lines import EVALUATED

# With more rules to a group of points, or more groups, they are hard to follow; the heat map has the numbers.
MOST_RULES = 10
MOST_GROUPS = 7
# Inches that a group of points needs.
LEAST_SLOT = 0.8


def pictures(results: Results, page: float | None = None) -> list[Picture]:
    """All figures of a sweep that have something to show, the most telling first.

    Args:
        results: the sweep.
        page: the width in inches that they have on paper; None for a screen.
    """
    with drawing(page):
        return list(_run_picture(results) if results.is_run else _pictures(results))


def before_tables(results: Results, drawn: Sequence[Picture]) -> int:
    """The number of first figures that say more than the tables: lines of one attack over an axis."""
    if len(results.real_attacks) > 1:
        return 0
    return sum(picture.name.startswith("lines_") for picture in drawn)


def _run_picture(results: Results) -> Iterator[Picture]:
    row = results.frame.iloc[0]
    metrics = {name.removeprefix("curve_"): np.asarray(row[name], float) for name in results.lists}
    (end,) = attack_ends(results.frame).values() or (None,)
    figure = run_figure(metrics, heading(results), facts(results, results.frame), end)
    yield Picture("curves", "What was measured over the rounds.", figure)


def _pictures(results: Results) -> Iterator[Picture]:
    summary = summarize(results)
    worst = worst_cases(results, summary) if len(results.real_attacks) > 1 else None
    combinations = results.combinations()
    drawn = [lines(results, summary, worst)]
    # The values of one attack over several combinations are in its lines, and in one heat map.
    if len(combinations) <= MOST_TABLES and (len(results.real_attacks) > 1 or len(combinations) == 1):
        drawn.append(_comparisons(results, summary, combinations))
    drawn.append(heat_maps(results, summary, worst, [labels for labels, _ in combinations]))
    drawn.append(leaderboard_pictures(results))
    drawn.append(study_maps(results, summary, [labels for labels, _ in combinations]))
    names: set[str] = set()
    for each in drawn:
        for picture in each:
            name = _file_name(picture.name, names)
            names.add(name)
            yield replace(picture, name=name)


def _file_name(name: str, taken: set[str]) -> str:
    """A file name that no other figure has; the name of an axis may hold any character."""
    plain = re.sub(r"[^\w.+-]+", "_", name)[:100]
    made, number = plain, 2
    while made in taken:
        made, number = f"{plain}_{number}", number + 1
    return made


def _comparisons(
    results: Results, summary: pd.DataFrame, combinations: Sequence[tuple[dict[str, str], pd.DataFrame]]
) -> Iterator[Picture]:
    for number, (labels, cells) in enumerate(combinations, 1):
        mine = select(summary, labels)
        reference, attacks = _reference(results, mine)
        curves = _curve_panels(results, cells, attacks)
        # A single value is no comparison.
        points = len(mine[mine["attack"].isin(attacks)]) > 1
        points = points and mine["aggregator"].nunique() <= MOST_RULES and len(attacks) <= MOST_GROUPS
        if not (points or curves):
            continue
        title = f"{heading(results)}: {describe(labels)}" if labels else heading(results)
        end = f"_{number}" if len(combinations) > 1 else ""
        last = " at the end" if results.value == "last" else f" {results.when}"
        # On a page each is a figure of its own.
        split = paper_width() is not None and points and bool(curves)
        both = [("comparison", True, []), ("courses", False, curves)]
        for name, with_points, with_curves in both if split else [("comparison", points, curves)]:
            figure = _comparison(
                results,
                mine,
                cells,
                title=title,
                points=with_points,
                curves=with_curves,
                reference=reference,
                attacks=attacks,
            )
            where = [last] * with_points + [" over the rounds"] * bool(with_curves)
            text = f"{describe(labels)}. {results.around}{' and'.join(where)}.".removeprefix(". ")
            yield Picture(f"{name}{end}", text, figure)


def _comparison(
    results: Results,
    summary: pd.DataFrame,
    cells: pd.DataFrame,
    *,
    title: str,
    points: bool,
    curves: Sequence[Panel],
    reference: float | None,
    attacks: Sequence[str],
) -> Figure:
    """Final values as points, and a panel of curves per attack and backdoor."""
    look = look_of(results)
    looks = {rule: look[rule] for rule in look if rule in set(summary["aggregator"])}
    planted = _planted(summary, attacks) if points else []
    columns, rows = panels.shape(len(curves))
    width = paper_width() or max(2.9 * columns + 0.5, 8.5 if points else 5.5)
    shapes = "both" if curves and points else "lines" if curves else "points"
    others = [panels.reference_handle()] if reference is not None else []
    if points and (summary["diverged"] > 0).any():
        others.append(
            Line2D([], [], ls="", marker=f"${panels.DAGGER}$", color="#444444", ms=7, label="a seed diverged")
        )
    legend = panels.legend(width, looks, shapes, [*others, *_crosses(planted, summary)])
    slots = len(attacks) + len(planted)
    # Side by side as long as the names of the attacks can be read; else one below the other.
    beside = not planted or width / slots >= LEAST_SLOT
    height, lower = (3.1, 2.4) if paper_width() is None else (2.1, 1.6)
    of_points = [height] * (points + (points and not beside))
    heights = [legend.height, *of_points, *[lower * rows] * bool(curves)]
    figure, body = sheet(width, sum(heights), title, facts(results, cells))
    parts = stacked(body, heights)
    legend.draw(parts[0])
    if points:
        _points(parts[1:3], width, looks, attacks, planted, summary, reference, beside, results.ends)
    if curves:
        baseline = panels.courses(cells, "test_error").get((NO_ATTACK, BASELINE))
        level = None if reference is None or baseline is None else panels.spread(baseline)["mean"]
        panels.draw(parts[-1], curves, look, level, "round", intervals=bool(results.interval))
    return figure


def _reference(results: Results, summary: pd.DataFrame) -> tuple[float | None, list[str]]:
    """FedAvg's error without attack, and the attacks that have groups and panels of their own.

    Without an attack there is a group, too, if more than that one rule was run so.
    """
    plain = summary[summary["attack"] == NO_ATTACK]
    known = plain[plain["aggregator"] == BASELINE]["test_error_mean"].dropna()
    there = set(summary["attack"])
    attacks = [attack for attack in results.attacks if attack in there]
    if not len(known) or attacks == [NO_ATTACK]:
        return None, attacks
    if len(plain) == 1:
        attacks.remove(NO_ATTACK)
    return float(known.iloc[0]), attacks


def _planted(summary: pd.DataFrame, attacks: Sequence[str]) -> list[str]:
    """The attacks whose backdoors have a success rate."""
    with_rate = set(summary[summary[f"{SUCCESS}_mean"].notna()]["attack"])
    return [attack for attack in attacks if attack in with_rate]


def _crosses(planted: Sequence[str], summary: pd.DataFrame) -> list[Line2D]:
    """The legend's entry for a cross, if there is one."""
    mine = summary[summary["attack"].isin(planted)]
    if not any(outcome(line).broken for line in mine.to_dict("records")):
        return []
    text = f"backdoor succeeds (≥ {BROKEN})"
    return [Line2D([], [], color="black", marker="x", ls="", ms=8, mew=1.3, label=text)]


def _points(
    parts: Sequence[Any],
    width: float,
    looks: dict[str, Look],
    attacks: Sequence[str],
    planted: Sequence[str],
    summary: pd.DataFrame,
    reference: float | None,
    beside: bool,
    ends: tuple[str, str],
) -> None:
    """Errors of all attacks; beside them, or below, on an axis of their own, the backdoors' success rates."""
    if beside:
        ratios = [len(attacks), len(planted) + 0.2] if planted else [1]
        axes = list(parts[0].subplots(1, len(ratios), width_ratios=ratios, squeeze=False)[0])
    else:
        axes = [part.subplots() for part in parts]
    letters = max(int(15 * width / (len(attacks) + len(planted) * beside)), 8)
    letters = min(letters, 18)
    panels.dots(axes[0], looks, attacks, summary, "test_error", ends, letters)
    mine = summary[summary["attack"].isin(attacks)]
    mean, low, high = (mine[f"test_error_{end}"] for end in ("mean", *ends))
    shown = panels.in_view((mean, low, high), intervals=ends == ENDS)
    error_axis([axes[0]], [*shown, [np.nan if reference is None else reference]])
    if reference is not None:
        axes[0].axhline(reference, **REFERENCE)
    axes[0].set_ylabel(EVALUATED[ERROR].title, fontsize=9)
    if planted:
        panels.dots(axes[1], looks, planted, summary, SUCCESS, ends, letters if beside else 18)
        panels.success_axis(axes[1])
        axes[1].set_ylabel(EVALUATED[SUCCESS].title, fontsize=9)
    tidy(axes)


def _curve_panels(results: Results, cells: pd.DataFrame, attacks: Sequence[str]) -> list[Panel]:
    """Errors over the rounds for every attack, then success rates for every backdoor."""
    made, ends = [], attack_ends(cells)
    for column in results.shown:
        courses = panels.courses(cells, column)
        for attack in attacks:
            mine = {rule: courses[attack, rule] for rule in results.rules if (attack, rule) in courses}
            # A single evaluation is a point: it is among the final values.
            if any(len(course) > 1 for course in mine.values()):
                lines = {rule: panels.spread(each, results.interval) for rule, each in mine.items()}
                made.append(Panel(attack, column, lines, ends.get(attack)))
    return made
