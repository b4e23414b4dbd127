"""Lines over a numeric axis of a sweep."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from fljax.config.titles import axis_number, axis_title, axis_value, words
from fljax.report import panels
from fljax.report.facts import facts, heading, look_of
from fljax.report.panels import SUCCESS, Panel, Picture
from fljax.report.results import BASELINE, NO_ATTACK, Results, label
from fljax.report.style import paper_width, sheet, stacked
from fljax.report.summary import MOST_TABLES, WORST_CASE, describe, select


def lines(results: Results, summary: pd.DataFrame, worst: pd.DataFrame | None) -> Iterator[Picture]:
    """A picture for every numeric axis, and for every combination of the others if they are few."""
    for axis in results.further:
        others = [name for name in results.further if name != axis]
        if axis not in results.numeric or results.frame[axis].nunique() < 2:
            continue
        groups = results.frame.groupby(others, observed=True) if others else [((), results.frame)]
        chosen = [(dict(zip(others, map(str, key), strict=True)), cells) for key, cells in groups]
        if len(chosen) > MOST_TABLES:
            continue
        for number, (labels, cells) in enumerate(chosen, 1):
            largest = None if worst is None else select(worst, labels)
            title = f"{heading(results)}, by {words(axis)}" + (f": {describe(labels)}" if labels else "")
            figure = over_axis(results, select(summary, labels), largest, axis, title, facts(results, cells))
            end = f"_{number}" if len(chosen) > 1 else ""
            text = f"{describe(labels)}. {results.around} {results.when} over {axis_title(axis)}."
            text = text.removeprefix(". ")
            if summary["test_error_mean"].isna().any():
                text += " A gap in a line: every seed diverged."
            yield Picture(f"lines_{axis}{end}", text, figure)


def over_axis(
    results: Results,
    summary: pd.DataFrame,
    worst: pd.DataFrame | None,
    axis: str,
    title: str,
    said: str,
) -> Figure:
    """Lines over a numeric axis, a panel per attack and quantity.

    Args:
        results: the sweep.
        summary: of `summarize`, for one combination of the other axes.
        worst: of `worst_cases`, alike, or None.
        axis: the axis.
        title: the heading.
        said: the line of facts.

    Returns:
        The figure.
    """
    plain = summary[summary["attack"] == NO_ATTACK]
    # FedAvg without an attack, run at one value of the axis, is the reference of the other lines.
    is_reference = len(plain) < len(summary) and plain["aggregator"].tolist() == [BASELINE]
    values = np.sort([float(text) for text in results.axes[axis]])
    shown = []
    for column in results.shown:
        for attack in results.attacks:
            rows = summary[summary["attack"] == attack]
            if not (is_reference and attack == NO_ATTACK):
                shown.append(Panel(attack, column, _over(results, rows, axis, values, column)))
        if worst is not None:
            over = _over(results, worst, axis, values, column)
            shown.append(Panel(f"{WORST_CASE} over the attacks", column, over))
    shown = [panel for panel in shown if panel.lines]
    # The worst of the only backdoor is that backdoor's.
    if sum(panel.column == SUCCESS for panel in shown) == 2 and worst is not None:
        del shown[-1]
    columns, rows = panels.shape(len(shown))
    width = paper_width() or max(2.9 * columns + 0.5, 5.5)
    at = np.array([axis_number(axis, value) for value in values])
    reference = pd.Series(plain["test_error_mean"].iloc[0], index=at) if is_reference else None
    look = look_of(results)
    found = {rule: look[rule] for rule in results.rules if any(rule in panel.lines for panel in shown)}
    legend = panels.legend(width, found, "both", [panels.reference_handle()] if is_reference else [])
    heights = [legend.height, (2.5 if paper_width() is None else 1.7) * rows]
    figure, body = sheet(width, sum(heights), title, said)
    top, rest = stacked(body, heights)
    legend.draw(top)
    is_log = at[0] > 0 and at[-1] / at[0] >= 20
    marked = _apart(np.log(at) if is_log else at)
    texts = [axis_value(axis, label(values[k].item())) for k in marked]
    title, intervals = axis_title(axis), bool(results.interval)
    for panel in panels.draw(rest, shown, look, reference, title, points=True, intervals=intervals):
        if is_log:
            panel.set_xscale("log")
            panel.minorticks_off()
        panel.set_xticks(at[marked], texts)
    return figure


def _over(
    results: Results, rows: pd.DataFrame, axis: str, values: np.ndarray, column: str
) -> dict[str, pd.DataFrame]:
    """Mean, low and high over an axis for every rule that has any; a missing value is a gap in the line."""
    found = {}
    for rule in results.rules:
        mine = rows[(rows["aggregator"] == rule) & rows[f"{column}_mean"].notna()]
        if len(mine):
            at = mine[axis].astype(str).astype(float)
            ends = zip(("mean", "low", "high"), ("mean", *results.ends), strict=True)
            table = pd.DataFrame({name: mine[f"{column}_{end}"] for name, end in ends})
            table = table.set_index(at).reindex(values)
            found[rule] = table.set_axis([axis_number(axis, value) for value in values])
    return found


def _apart(at: np.ndarray) -> list[int]:
    """The values that have room for a number of their own, first and last among them."""
    gap = (at[-1] - at[0]) / 12
    kept = [0]
    for k in range(1, len(at) - 1):
        if at[k] - at[kept[-1]] >= gap and at[-1] - at[k] >= gap:
            kept.append(k)
    return [*kept, len(at) - 1] if len(at) > 1 else kept
