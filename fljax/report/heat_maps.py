"""Heat maps: the harm of every attack to every rule."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter

from fljax.config.titles import axis_title
from fljax.report import panels
from fljax.report.facts import facts, heading
from fljax.report.panels import SUCCESS, Picture, longest, wrapped
from fljax.report.ranking import BROKEN, CROSS, Outcome, marks
from fljax.report.results import Results
from fljax.report.style import paper_width, sheet
from fljax.report.summary import (
    MOST_COLUMNS,
    MOST_ROWS,
    MOST_TABLES,
    WORST_CASE,
    describe,
    outcome,
    select,
    values_of,
)

# Harm as colours: by the square root, so that small errors differ too.
HARM = PowerNorm(0.5, vmin=0, vmax=1)
HARM_TICKS = (0, 0.02, 0.1, 0.2, 0.4, 0.6, 0.8, 1)


class Place(NamedTuple):
    """One place of a heat map: None where there is nothing; `mark` as in tables."""

    outcome: Outcome | None
    mark: str
    diverged: bool


def _fill(panel: Any, columns: Sequence[str], rows: Sequence[tuple[str, Sequence[Place]]]) -> Any:
    """Harm as colours, error and success rate as numbers; the best is bold, broken ones have a frame.

    Returns:
        What a colour bar is made of.
    """
    harm = [
        [math.nan if each.outcome is None else min(each.outcome.harm, 1.0) for each in row] for _, row in rows
    ]
    colors = matplotlib.colormaps["YlOrRd"].with_extremes(bad="#eeeeee")
    # On a page one number is below the other.
    between = " / " if paper_width() is None else "\n/ "
    image = panel.imshow(np.array(harm), cmap=colors, norm=HARM, aspect="auto")
    for j, (_, row) in enumerate(rows):
        for i, (each, mark, diverged) in enumerate(row):
            if each is None:
                continue
            text = "—" if math.isnan(each.test_error) else f"{each.test_error:.3f}"
            if not math.isnan(each.attack_success_rate):
                text += f"{between}{each.success:.2f}" + f" {CROSS}" * each.broken
            text += f" {panels.DAGGER}" * diverged
            look: Any = {"ha": "center", "va": "center", "fontsize": 7.5}
            look |= {"color": "white" if min(each.harm, 1.0) > 0.45 else "black"}
            panel.text(i, j, text, fontweight="bold" if mark == "best" else "normal", **look)
            if each.broken:
                panel.add_patch(Rectangle((i - 0.47, j - 0.44), 0.94, 0.88, fill=False, ec="black", lw=1.4))
    panel.set_xticks(range(len(columns)), [wrapped(name, 14) for name in columns], fontsize=8)
    panel.set_yticks(range(len(rows)), [wrapped(name, longest()) for name, _ in rows], fontsize=8)
    panel.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False, length=0)
    panel.spines[:].set_visible(False)
    # White lines between the cells.
    panel.hlines(np.arange(0.5, len(rows) - 1), -0.5, len(columns) - 0.5, color="white", lw=1.2)
    panel.vlines(np.arange(0.5, len(columns) - 1), -0.5, len(rows) - 0.5, color="white", lw=1.2)
    return image


class Map(NamedTuple):
    """A heat map: a row per attack, or per combination of axes, whose names then are `corner`."""

    title: str
    corner: str
    rows: list[tuple[str, list[Place]]]
    with_worst: bool


def heat_maps(
    results: Results,
    summary: pd.DataFrame,
    worst: pd.DataFrame | None,
    combinations: Sequence[dict[str, str]],
) -> Iterator[Picture]:
    """Heat maps as one picture: a map per combination of the further axes, or for one attack a row each."""
    by_axes = len(combinations) > 1 and len(results.real_attacks) < 2
    if len(summary) < 2 or len(combinations) > (MOST_ROWS if by_axes else MOST_TABLES):
        return

    def row(found: pd.DataFrame) -> list[Place]:
        lines = {line["aggregator"]: outcome(line) for line in found.to_dict("records")}
        outcomes = [lines.get(rule) for rule in results.rules]
        lost = set(found[found["diverged"] > 0]["aggregator"])
        return [
            Place(each, mark, rule in lost)
            for rule, each, mark in zip(results.rules, outcomes, marks(outcomes), strict=True)
        ]

    maps = []
    if by_axes:
        corner = ", ".join(map(axis_title, results.further))
        for attack in results.attacks:
            mine = summary[summary["attack"] == attack]
            rows = [
                (values_of(labels), row(found))
                for labels in combinations
                if len(found := select(mine, labels))
            ]
            if rows:
                maps.append(Map(attack if len(results.attacks) > 1 else "", corner, rows, False))
    else:
        for labels in combinations:
            mine = select(summary, labels)
            there = [attack for attack in results.attacks if attack in set(mine["attack"])]
            rows = [(attack, row(mine[mine["attack"] == attack])) for attack in there]
            if worst is not None:
                rows.append((WORST_CASE, row(select(worst, labels))))
            maps.append(Map(describe(labels), "", rows, worst is not None))
    slash = ", after a slash the attack success rate" if summary[f"{SUCCESS}_mean"].notna().any() else ""
    broken = any(each.outcome and each.outcome.broken for one in maps for _, row in one.rows for each in row)
    text = f"Mean test error {results.when}{slash}"
    text += "; colours by the larger of the two." if slash else "."
    text += " The best rule is bold." * (len(results.rules) > 1)
    text += f" {CROSS} and a frame: the backdoor succeeds (rate ≥ {BROKEN})." * broken
    text += f" {panels.DAGGER} At least one seed diverged." * bool((summary["diverged"] > 0).any())
    yield Picture("heat_map", text, _heat_map(results, maps, bool(slash)))


def _heat_map(results: Results, maps: Sequence[Map], slash: bool) -> Figure:
    # As in tables, many rules are rows.
    turned = len(results.rules) > MOST_COLUMNS and max(len(one.rows) for one in maps) < len(results.rules)
    names = results.rules if turned else [name for one in maps for name, _ in one.rows]
    across = max(len(one.rows) for one in maps) if turned else len(results.rules)
    down = len(results.rules) if turned else max(len(one.rows) for one in maps)
    columns = 2 if len(maps) > 2 and across <= 6 else 1
    lines = -(-len(maps) // columns)
    margin = 0.07 * min(max(map(len, names)), longest()) + (0.5 if maps[0].corner else 0.2)
    page, place = paper_width(), (0.98 if slash else 0.72, 0.33)
    if page is None:
        width = max((place[0] * across + margin) * columns + 0.9, 5.5)
    else:
        place = 0.48, 0.34 if slash else 0.24
        columns, lines = 1, len(maps)
        width = max(place[0] * across + margin, page)
    height = (place[1] * down + 0.75) * lines
    figure, body = sheet(width, height, heading(results), facts(results, results.frame))
    axes = body.subplots(lines, columns, squeeze=False)
    for panel in axes.flat[len(maps) :]:
        panel.set_visible(False)
    for panel, one in zip(axes.flat, maps, strict=False):
        heads, rows = results.rules, one.rows
        if turned:
            heads = [name for name, _ in one.rows]
            rows = [(rule, [row[i] for _, row in one.rows]) for i, rule in enumerate(results.rules)]
        image = _fill(panel, heads, rows)
        if one.with_worst:
            (panel.axvline if turned else panel.axhline)(len(one.rows) - 1.5, color="black", lw=1)
        if one.corner:
            (panel.set_xlabel if turned else panel.set_ylabel)(one.corner, fontsize=9)
        if one.title:
            panel.set_title(one.title, fontsize=9)
    if page is not None:
        return figure  # the numbers are in their places
    bar = body.colorbar(image, ax=axes, aspect=30, pad=0.01, ticks=HARM_TICKS)
    bar.set_label("larger of test error\nand success rate" if slash else "test error", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    bar.outline.set_visible(False)
    return figure
