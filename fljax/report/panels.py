"""The parts figures are made of; they take gaps for cells that are missing."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from fljax.plots import COLORS

STYLES = ("-", "--", "-.", ":")


def style(number: int) -> dict[str, Any]:
    """Colour and dashes of the rule with this number."""
    return {"color": COLORS[number % len(COLORS)], "ls": STYLES[number // len(COLORS) % len(STYLES)]}


def matrix(summary: pd.DataFrame, column: str, attacks: Sequence[str], rules: Sequence[str]) -> np.ndarray:
    """(attacks, rules) values of a summary's column, NaN where there is none."""
    wide = summary.pivot(index="attack", columns="aggregator", values=column)
    return wide.reindex(index=list(attacks), columns=list(rules)).to_numpy(float)


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


def band(axis: Any, number: int, rule: str, course: pd.DataFrame) -> None:
    """Mean of the seeds as a line, their range as a band."""
    ends = {"mean": course.mean(axis=1), "min": course.min(axis=1), "max": course.max(axis=1)}
    band_of(axis, number, rule, pd.DataFrame(ends))


def band_of(axis: Any, number: int, rule: str, table: pd.DataFrame, points: bool = False) -> None:
    """A line and a band from columns mean, min and max over the index."""
    look = style(number)
    axis.plot(table.index, table["mean"], **look, lw=1.3, marker="o" if points else "", ms=3, label=rule)
    if (table["min"] < table["max"]).any():
        axis.fill_between(table.index, table["min"], table["max"], color=look["color"], alpha=0.15, lw=0)


def bars(
    axis: Any,
    rules: Sequence[str],
    attacks: Sequence[str],
    errors: np.ndarray,
    successes: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
) -> None:
    """A group of bars per attack, with the range of the seeds and crosses at the attack success rates."""
    width = min(0.8 / len(rules), 0.25)
    for i, rule in enumerate(rules):
        at = np.arange(len(attacks)) + (i - (len(rules) - 1) / 2) * width
        reach = np.nan_to_num([errors[:, i] - low[:, i], high[:, i] - errors[:, i]]).clip(min=0)
        look: Any = {"error_kw": {"lw": 0.8, "capsize": 2}, "color": COLORS[i % len(COLORS)]}
        if i >= len(COLORS):
            look["hatch"] = "//"
        if reach.any():
            look["yerr"] = reach
        axis.bar(at, errors[:, i], width * 0.92, label=rule, **look)
        # Success rates exist for backdoors only; NaN draws nothing.
        if np.isfinite(successes[:, i]).any():
            axis.plot(at, successes[:, i], "kx", ms=6, clip_on=False, label="attack success rate")
    axis.set(ylabel="test error", ylim=(0, 1), xlim=(-0.5, len(attacks) - 0.5))
    axis.set_xticks(range(len(attacks)), attacks)


def heat_map(
    axis: Any, rules: Sequence[str], attacks: Sequence[str], errors: np.ndarray, successes: np.ndarray
) -> None:
    """Errors as colours and numbers, after a slash the attack success rate."""
    axis.imshow(errors, cmap="Reds", vmin=0, vmax=1, aspect="auto")
    for j, i in np.ndindex(*errors.shape):
        if np.isfinite(errors[j, i]):
            success = "" if np.isnan(successes[j, i]) else f" / {successes[j, i]:.2f}"
            look: Any = {"ha": "center", "va": "center", "fontsize": 8}
            look["color"] = "white" if errors[j, i] > 0.6 else "black"
            axis.text(i, j, f"{errors[j, i]:.2f}{success}", **look)
    crowded = any(len(rule) > 14 for rule in rules) and len(rules) > 2
    turned: Any = {"rotation": 25, "ha": "left", "rotation_mode": "anchor"} if crowded else {}
    axis.set_xticks(range(len(rules)), rules, fontsize=8, **turned)
    axis.set_yticks(range(len(attacks)), attacks, fontsize=8)
    axis.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False, length=0)
    axis.spines[:].set_visible(False)


def legend(figure: Figure, axes: Iterable[Any], rules: Sequence[str]) -> None:
    """One legend below the figure with every label once, rules first."""
    handles: dict[str, Any] = {}
    for axis in axes:
        for handle, name in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(name, handle)
    names = sorted(handles, key=lambda name: rules.index(name) if name in rules else len(rules))
    columns = max(1, int(figure.get_size_inches()[0] // 2))
    place: Any = {"loc": "outside lower center", "ncols": columns, "fontsize": 8, "frameon": False}
    figure.legend([handles[name] for name in names], names, **place)


def tidy(axes: Iterable[Any]) -> None:
    """Fewer frames, a light grid."""
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", lw=0.4, alpha=0.6)
