"""The figure of one run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from fljax.report.style import BENIGN, END, MALICIOUS, drawing, error_axis, paper_width, save, sheet, tidy
from fljax.simulation.lines import EVALUATED, MEASURED, evaluated_columns, metric_of

COLOR_OF = {"benign": BENIGN, "malicious": MALICIOUS, "attacker": MALICIOUS, "": "#333333"}


def plot_run(
    metrics: Mapping[str, np.ndarray], heading: str, facts: str, path: Path, end: int | None = None
) -> None:
    """Write a picture of the metrics that have a panel, over rounds.

    Args:
        metrics: columns of metrics.jsonl.
        heading: what was run.
        facts: on what.
        path: the PNG to write.
        end: the round in which the attack ends; None if it does not.
    """
    with drawing():
        save(run_figure(metrics, heading, facts, end), path)


def run_figure(metrics: Mapping[str, np.ndarray], heading: str, facts: str, end: int | None = None) -> Figure:
    """The figure of `plot_run`."""
    panels = _panels(metrics)
    page = paper_width()
    columns = len(panels) if page is None else min(len(panels), max(int(page / 2.2), 1))
    rows = -(-len(panels) // columns)
    figure, body = sheet(
        page or max(3.6 * columns, 5.0), (3.1 if page is None else 2.0) * rows, heading, facts
    )
    grid = body.subplots(rows, columns, squeeze=False).ravel()
    axes = grid[: len(panels)]
    for panel in grid[len(panels) :]:
        panel.set_visible(False)
    for panel, (title, names) in zip(axes, panels.items(), strict=True):
        for name in names:
            metric = metric_of(name)
            who = metric.who
            few = np.isfinite(metrics[name]).sum() <= 25
            look: Any = {"color": COLOR_OF[who], "ls": "--" if who == "malicious" else "-"}
            look |= {"marker": ".", "ms": 4} if few else {}
            if len(names) > 1 and not who:
                look |= {"color": f"C{names.index(name) % 10}"}
            label = f"{who} clients" if who else metric.title.removeprefix(f"{title}: ")
            panel.plot(metrics["round"], metrics[name], **look, label=label)
        if end is not None:
            panel.axvline(end, **END)
        panel.set_xlabel("round", fontsize=9)
        panel.set_ylabel(title, fontsize=9)
        if len(names) > 1:
            panel.legend(frameon=False, fontsize=8, ncols=1 + len(names) // 6)
        kind = metric_of(names[0]).kind
        if kind == "error":
            error_axis([panel], [metrics[name] for name in names])
        else:
            panel.set_ylim(bottom=0, top=1.02 if kind == "share" else None)
    tidy(axes)
    return figure


def _panels(metrics: Mapping[str, np.ndarray]) -> dict[str, list[str]]:
    """The metrics of every panel, by its title; an error has a panel even where it is not known."""
    panels: dict[str, list[str]] = {}
    unless = {}
    for name in dict.fromkeys([*EVALUATED, *evaluated_columns(metrics), *MEASURED]):
        metric = metric_of(name)
        known = name in metrics and np.isfinite(metrics[name]).any()
        if metric.panel and (known or metric.kind == "error"):
            panels.setdefault(metric.panel, []).append(name)
            unless[metric.panel] = metric.unless
    return {title: names for title, names in panels.items() if unless[title] not in panels}
