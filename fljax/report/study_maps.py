"""Maps of the numbers of whole runs: a panel for each number, a place for every attack and rule."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from fljax.engine.metrics import Metric
from fljax.report.facts import facts, heading
from fljax.report.outcomes import Study
from fljax.report.panels import Picture, wrapped
from fljax.report.results import Results
from fljax.report.style import sheet, to_png
from fljax.report.summary import FORMATS, MOST_TABLES, describe, select, studies


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
            yield Picture(study.name, text, to_png(_figure(results, study, mine, columns, title)))


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
    bounds = None
    if study.bound in results.derived:
        bounds = summary.pivot(index="aggregator", columns="attack", values=f"{study.bound}_max")
    across = sum(table.shape[1] for table in means.values())
    rules = next(iter(means.values())).index
    margin = 0.07 * min(max(map(len, map(str, rules))), 34) + 0.3
    size = max(0.72 * across + margin + 0.3 * len(columns), 5.5), 0.33 * len(rules) + 1.1
    figure, body = sheet(*size, f"{title}: {heading(results)}", facts(results, results.frame))
    ratios = [table.shape[1] for table in means.values()]
    axes = body.subplots(1, len(columns), squeeze=False, width_ratios=ratios)[0]
    for panel, (name, table) in zip(axes, means.items(), strict=True):
        metric = results.derived.get(name) or results.evaluated[name]
        _fill(panel, table, metric, bounds if name == study.columns[0] else None)
        panel.set_title(wrapped(metric.short, 12 + 8 * table.shape[1]), fontsize=9)
        if panel is not axes[0]:
            panel.set_yticklabels([])
    return figure


def _fill(panel: Any, table: pd.DataFrame, metric: Metric, bounds: pd.DataFrame | None) -> None:
    """The means of one number as colours and text."""
    values = table.to_numpy(float)
    most = max(float(np.nanmax(np.abs(values))), 1e-9)
    low, high = {"share": (0.0, 1.0), "rounds": (0.0, most)}.get(metric.kind, (-most, most))
    colors = matplotlib.colormaps["RdBu_r" if low < 0 else "Blues"].with_extremes(bad="#eeeeee")
    panel.imshow(values, cmap=colors, norm=Normalize(low, high), aspect="auto")
    for (j, i), value in np.ndenumerate(values):
        if math.isnan(value):
            continue
        bound = "≥ " * bool(bounds is not None and bounds.loc[table.index[j], table.columns[i]] > 0)
        dark = abs(value) > 0.6 * high
        look: Any = {"ha": "center", "va": "center", "fontsize": 7.5, "color": "white" if dark else "black"}
        panel.text(i, j, bound + FORMATS[metric.kind](value), **look)
    panel.set_xticks(
        range(len(table.columns)), [wrapped(str(name), 14) for name in table.columns], fontsize=8
    )
    panel.set_yticks(range(len(table.index)), [wrapped(str(name), 34) for name in table.index], fontsize=8)
    panel.tick_params(length=0)
    panel.spines[:].set_visible(False)
