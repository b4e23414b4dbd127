"""Maps of the numbers of whole runs: a panel for each number, a place for every attack and rule."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from fljax.engine.metrics import Metric
from fljax.report.facts import facts, heading
from fljax.report.outcomes import Study
from fljax.report.panels import Picture, longest, wrapped
from fljax.report.results import Results
from fljax.report.style import paper_width, sheet
from fljax.report.summary import FORMATS, MOST_TABLES, describe, select, studies

# Inches of panels side by side.
MOST_WIDTH = 10.0


def study_maps(
    results: Results, summary: pd.DataFrame, combinations: Sequence[dict[str, str]]
) -> Iterator[Picture]:
    """A picture for every study and combination of the further axes, if these are few."""
    if len(combinations) > MOST_TABLES:
        return
    for study in studies(results):
        for labels in combinations:
            mine = select(summary, labels)
            columns = [name for name in study.columns if mine.get(f"{name}_mean", _NONE).notna().any()]
            if len(mine) < 2 or not columns:
                continue
            text = f"{describe(labels)}. {study.caption}".removeprefix(". ")
            title = f"{study.title}: {describe(labels)}" if labels else study.title
            yield Picture(study.name, text, _figure(results, study, mine, columns, title))


_NONE = pd.Series(dtype=float)


def _figure(
    results: Results, study: Study, summary: pd.DataFrame, columns: Sequence[str], title: str
) -> Figure:
    means = {
        name: summary.pivot(index="aggregator", columns="attack", values=f"{name}_mean").dropna(
            how="all", axis="columns"
        )
        for name in columns
    }
    # Rules and attacks that have none of these numbers would be empty lines.
    rules = [rule for rule in next(iter(means.values())).index if _known(means, rule)]
    bounds = None
    if study.bound in results.derived:
        bounds = summary.pivot(index="aggregator", columns="attack", values=f"{study.bound}_max")
    page = paper_width()
    place = (0.8, 0.33) if page is None else (0.56, 0.24)
    margin = 0.07 * min(max(map(len, map(str, rules))), longest()) + 0.3
    across = place[0] * sum(table.shape[1] for table in means.values()) + 0.3 * len(columns)
    stacked = across + margin > (MOST_WIDTH if page is None else page)
    there = {attack for table in means.values() for attack in table.columns}
    attacks = [attack for attack in results.attacks if attack in there]
    if stacked:
        across = place[0] * len(attacks)
    shown = attacks if stacked else None
    means = {name: table.reindex(rules, columns=shown) for name, table in means.items()}
    lines = len(columns) if stacked else 1
    height = (place[1] * len(rules) + 0.32) * lines + (0.5 if page is None else 0.4)
    width = max(across + margin, 5.5 if page is None else page)
    figure, body = sheet(width, height, f"{title}: {heading(results)}", facts(results, results.frame))
    ratios = None if stacked else [table.shape[1] for table in means.values()]
    axes: Any = body.subplots(lines, len(columns) // lines, squeeze=False, width_ratios=ratios)
    for panel, (name, table) in zip(axes.flat, means.items(), strict=True):
        metric = results.derived.get(name) or results.evaluated[name]
        _fill(panel, table, metric, bounds if name == study.columns[0] else None)
        panel.set_title(wrapped(metric.short, 12 + 8 * table.shape[1]), fontsize=9)
        # Said once: the rules on the left, the attacks at the bottom.
        if stacked and panel is not axes.flat[-1]:
            panel.set_xticklabels([])
        if not stacked and panel is not axes.flat[0]:
            panel.set_yticklabels([])
    return figure


def _known(means: Mapping[str, pd.DataFrame], rule: Any) -> bool:
    return any(rule in table.index and table.loc[rule].notna().any() for table in means.values())


def _fill(panel: Any, table: pd.DataFrame, metric: Metric, bounds: pd.DataFrame | None) -> None:
    """The means of one number as colours and text."""
    values = table.to_numpy(float)
    most = max(float(np.nanmax(np.abs(values))), 1e-9)
    low, high = {"share": (0.0, 1.0), "rounds": (0.0, most)}.get(metric.kind, (-most, most))
    # Orange is what should be low.
    scale = "RdBu_r" if low < 0 else "Blues" if metric.better == "high" else "Oranges"
    colors = matplotlib.colormaps[scale].with_extremes(bad="#eeeeee")
    panel.imshow(values, cmap=colors, norm=Normalize(low, high), aspect="auto")
    for (j, i), value in np.ndenumerate(values):
        if math.isnan(value):
            continue
        bound = "≥ " * bool(bounds is not None and bounds.loc[table.index[j]].get(table.columns[i], 0) > 0)
        dark = abs(value) > 0.6 * high
        look: Any = {"ha": "center", "va": "center", "fontsize": 7.5, "color": "white" if dark else "black"}
        panel.text(i, j, bound + FORMATS[metric.kind](value), **look)
    letters = 12 if paper_width() is None else 9
    heads = [wrapped(str(name), letters) for name in table.columns]
    panel.set_xticks(range(len(heads)), heads, fontsize=8)
    names = [wrapped(str(name), longest()) for name in table.index]
    panel.set_yticks(range(len(names)), names, fontsize=8)
    panel.tick_params(length=0)
    panel.spines[:].set_visible(False)
    # White lines between the places.
    panel.hlines(np.arange(0.5, len(table.index) - 1), -0.5, len(table.columns) - 0.5, color="white", lw=1.2)
    panel.vlines(np.arange(0.5, len(table.columns) - 1), -0.5, len(table.index) - 0.5, color="white", lw=1.2)
