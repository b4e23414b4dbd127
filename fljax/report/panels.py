"""The parts of figures; cells that are missing leave gaps in them."""

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from fljax.report.ranking import BROKEN
from fljax.report.results import BASELINE, NO_ATTACK
from fljax.report.style import END, REFERENCE, Look, error_axis, paper_width, tidy, to_png
from fljax.report.summary import outcome
from fljax.report.uncertainty import interval
from fljax.simulation.lines import metric_of

ERROR, SUCCESS = "test_error", "attack_success_rate"
DAGGER = "†"
# Inches of a panel on a page.
NARROWEST = 1.65


@dataclass(frozen=True)
class Picture:
    """A drawn figure: file name without ending, what it shows, and the figure."""

    name: str
    caption: str
    figure: Figure

    @cached_property
    def png(self) -> bytes:
        """Content of the PNG file."""
        return to_png(self.figure)


def courses(cells: pd.DataFrame, column: str) -> dict[tuple[str, str], pd.DataFrame]:
    """For every attack and rule the curves of its seeds: a row per round, a column per seed.

    A seed that diverged keeps its last value to the end of the others.
    """
    names = ["attack", "aggregator", "curve_round", f"curve_{column}"]
    found: dict[tuple[str, str], list[pd.Series]] = {}
    for attack, rule, rounds, values in cells[names].itertuples(index=False, name=None):
        if rounds is not None and values is not None:
            curve = pd.Series(np.asarray(values, float), index=np.asarray(rounds, int))
            if curve.notna().any():
                found.setdefault((attack, rule), []).append(curve)
    return {key: pd.concat(curves, axis=1).sort_index().ffill() for key, curves in found.items()}


def spread(course: pd.DataFrame, kind: str = "") -> pd.DataFrame:
    """Mean, and low and high end: of the seeds, or of the interval of this kind."""
    mean, low, high = course.mean(axis=1), course.min(axis=1), course.max(axis=1)
    if kind:
        ends = [interval(values, kind) for values in course.to_numpy()]
        low, high = (pd.Series([pair[k] for pair in ends], course.index) for k in range(2))
    return pd.DataFrame({"mean": mean, "low": low, "high": high})


def band(panel: Any, look: Look, rule: str, table: pd.DataFrame, points: bool = False) -> None:
    """A line from the column mean over the index, and a band from low to high."""
    shape: dict[str, Any] = {"marker": look.marker, "ms": 4, "mew": 0} if points else {}
    panel.plot(table.index, table["mean"], color=look.color, ls=look.style, lw=1.4, label=rule, **shape)
    if (table["low"] < table["high"]).any():
        panel.fill_between(table.index, table["low"], table["high"], color=look.color, alpha=0.13, lw=0)


def dots(
    panel: Any,
    looks: dict[str, Look],
    attacks: Sequence[str],
    summary: pd.DataFrame,
    column: str,
    ends: tuple[str, str],
    letters: int = 18,
) -> None:
    """For every attack a group of one marker per rule, on a line from end to end; broken ones are hollow.

    Args:
        panel: where to draw.
        looks: of all rules, in order.
        attacks: the groups.
        summary: of `summarize`.
        column: which quantity.
        ends: of the line: `Results.ends`.
        letters: of an attack's name that fit on a line.
    """
    for j in range(1, len(attacks), 2):
        panel.axvspan(j - 0.5, j + 0.5, color="#f3f3f3", lw=0, zorder=0)
    groups = {attack: j for j, attack in enumerate(attacks)}
    step = 0.76 / max(len(looks), 3)
    for i, (rule, look) in enumerate(looks.items()):
        mine = summary[(summary["aggregator"] == rule) & summary["attack"].isin(attacks)]
        place = np.array([groups[attack] for attack in mine["attack"]], float)
        place += (i - (len(looks) - 1) / 2) * step
        lost = (mine["diverged"] > 0).to_numpy()
        for x, y in zip(place[lost], mine[f"{column}_mean"][lost], strict=True):
            # Without any value it is at the upper end.
            at_end: Any = {"xy": (x, 0.93), "xycoords": ("data", "axes fraction")}
            where = at_end if np.isnan(y) else {"xy": (x, y)}
            panel.annotate(DAGGER, xytext=(3, 3), textcoords="offset points", color=look.color, **where)
        known = mine[f"{column}_mean"].notna().to_numpy()
        mine, at = mine[known], place[known]
        if mine.empty:
            continue
        mean, low, high = (mine[f"{column}_{end}"].to_numpy(float) for end in ("mean", *ends))
        broken = np.array([outcome(line).broken for line in mine.to_dict("records")], bool)
        gap = np.full(len(at), np.nan)
        reach = np.stack([at, at, gap]).T.ravel(), np.stack([low, high, gap]).T.ravel()
        panel.plot(*reach, color=look.color, lw=1.2, alpha=0.75, zorder=2)
        shape: dict[str, Any] = {"marker": look.marker, "mec": look.color, "ls": "", "clip_on": False}
        # An empty line has no place, and a layout none with it.
        if not broken.all():
            panel.plot(at[~broken], mean[~broken], ms=6.5, mew=0.5, mfc=look.color, zorder=3, **shape)
        if broken.any():
            panel.plot(at[broken], mean[broken], ms=6.5, mew=1.3, mfc="white", zorder=3, **shape)
            panel.plot(at[broken], mean[broken], "kx", ms=9, mew=1.3, zorder=4, clip_on=False)
    panel.set_xlim(-0.5, len(attacks) - 0.5)
    panel.set_xticks(range(len(attacks)), [wrapped(attack, letters) for attack in attacks])
    panel.tick_params(axis="x", length=0)


def in_view(drawn: tuple[Any, Any, Any], intervals: bool) -> list[Any]:
    """The errors that an axis has room for, of mean, low and high; lower ends of intervals may reach to 0."""
    mean, low, high = drawn
    return [mean, mean / 2 if intervals else low, high]


def success_axis(panel: Any) -> None:
    """Limits and the line above which a backdoor has succeeded."""
    panel.set_ylim(-0.02, 1.02)
    panel.axhline(BROKEN, color="#999999", lw=0.8, ls=(0, (4, 3)), zorder=1)


def longest() -> int:
    """The letters of a name in front of a row that fit on a line."""
    return 34 if paper_width() is None else 16


def wrapped(name: str, width: int) -> str:
    """A long name in several lines."""
    return "\n".join(textwrap.wrap(name, width)) or name


class Legend(NamedTuple):
    """One legend for a figure, above its panels: rules, then what else is drawn."""

    handles: list[Line2D]
    columns: int

    @property
    def height(self) -> float:
        """In inches."""
        return 0.19 * -(-len(self.handles) // self.columns) + 0.1

    def draw(self, part: Any) -> None:
        """Fill the part of a figure that is for it."""
        left = 0.08 * part.figure.dpi / part.bbox.width
        place: Any = {"loc": "upper left", "bbox_to_anchor": (left, 1), "borderaxespad": 0, "frameon": False}
        part.legend(handles=self.handles, ncols=self.columns, fontsize=8, handlelength=2.6, **place)


def legend(width: float, looks: dict[str, Look], shapes: str, others: Iterable[Line2D] = ()) -> Legend:
    """The legend of a figure.

    Args:
        width: of the figure, in inches.
        looks: of the rules that occur.
        shapes: "lines", "points" or "both".
        others: further handles.
    """
    handles = []
    for rule, look in looks.items():
        style: Any = {"ls": "" if shapes == "points" else look.style}
        style |= {"marker": "" if shapes == "lines" else look.marker, "ms": 6, "mew": 0.5, "lw": 1.6}
        handles.append(Line2D([], [], color=look.color, label=rule, **style))
    handles += others
    # A typeface like Times is narrow.
    letter = 0.068 if paper_width() is None else 0.055
    widths = [letter * len(str(each.get_label())) + 0.62 for each in handles]
    return Legend(handles, _fitting(widths, width - 0.2))


def _fitting(widths: Sequence[float], width: float) -> int:
    """The largest number of columns that a list, filled column by column, fits into."""
    for columns in range(len(widths), 1, -1):
        lines = -(-len(widths) // columns)
        if sum(max(widths[k : k + lines]) for k in range(0, len(widths), lines)) <= width:
            # No more columns than that many lines need, so that they are of one length.
            return -(-len(widths) // lines)
    return 1


class Panel(NamedTuple):
    """One panel of lines: its title, which quantity, and a table of mean, low and high for each rule.

    `end` is where the attack ends.
    """

    title: str
    column: str
    lines: dict[str, pd.DataFrame]
    end: float | None = None


def shape(count: int) -> tuple[int, int]:
    """Columns and lines for panels: few columns, to be read on a narrow screen or to fit a page."""
    columns = count if count <= 3 else 2 if count == 4 else 3 if count <= 9 else 4
    page = paper_width()
    columns = columns if page is None else min(columns, int(page / NARROWEST))
    return max(columns, 1), -(-count // max(columns, 1))


def draw(
    part: Any,
    shown: Sequence[Panel],
    looks: dict[str, Look],
    reference: pd.Series | None,
    xlabel: str,
    points: bool = False,
    intervals: bool = False,
) -> list[Any]:
    """Panels of lines; those of errors share their axis, those of success rates theirs.

    Args:
        part: of a figure.
        shown: the panels.
        looks: of the rules.
        reference: what errors are compared with, over the index.
        xlabel: what the index is.
        points: whether each value is marked.
        intervals: whether the bands are intervals of confidence.

    Returns:
        The panels' axes.
    """
    columns, lines = shape(len(shown))
    axes = part.subplots(lines, columns, squeeze=False)
    flat = list(axes.flat[: len(shown)])
    for panel in axes.flat[len(shown) :]:
        panel.set_visible(False)
    errors: list[Any] = [] if reference is None else [reference]
    with_errors = []
    for k, (panel, each) in enumerate(zip(flat, shown, strict=True)):
        for rule, table in each.lines.items():
            band(panel, looks[rule], rule, table, points)
        if each.end is not None:
            panel.axvline(each.end, **END)
        metric = metric_of(each.column)
        what = (
            ""
            if each.column == ERROR
            else ", success rate"
            if each.column == SUCCESS
            else f", {metric.short}"
        )
        panel.set_title(wrapped(each.title + what, 38 if paper_width() is None else 26), fontsize=9)
        panel.set_ylabel(metric.title, fontsize=9)
        if k + columns >= len(shown):
            panel.set_xlabel(xlabel, fontsize=9)
        if each.column == SUCCESS:
            success_axis(panel)
        elif each.column == ERROR:
            with_errors.append(panel)
            for table in each.lines.values():
                errors += in_view((table["mean"], table["low"], table["high"]), intervals)
            if reference is not None:
                panel.plot(reference.index, reference, **REFERENCE)
        elif metric.kind != "number":
            panel.set_ylim(-0.02, 1.02)
    error_axis(with_errors, errors)
    tidy(flat)
    return flat


def reference_handle() -> Line2D:
    """The dotted line's entry in a legend."""
    return Line2D([], [], **REFERENCE, label=f"{BASELINE}, {NO_ATTACK}")
