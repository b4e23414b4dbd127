"""Figures, drawn without a display and written in one step."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from fljax.checkpoint import write_atomically

# Okabe and Ito's palette, which colour-blind readers can tell apart.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#F0E442", "#000000")


def to_png(figure: Figure) -> bytes:
    """A figure as the content of a PNG file; closes it."""
    buffer = io.BytesIO()
    # A layout engine leaves nothing to cut, and looking for it draws everything twice.
    box = None if figure.get_layout_engine() else "tight"
    figure.savefig(buffer, format="png", dpi=130, bbox_inches=box)
    plt.close(figure)
    return buffer.getvalue()


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG and close it."""
    write_atomically(path, to_png(figure))


def plot_run(metrics: Mapping[str, np.ndarray], title: str, path: Path) -> None:
    """Test error, and trust scores or acceptance where the rule has them, over rounds.

    Args:
        metrics: columns of metrics.jsonl.
        title: what was run.
        path: the PNG to write.
    """
    has_trust = bool(np.isfinite(metrics["trust_benign"]).any())
    kind, label = ("trust", "mean trust score") if has_trust else ("accepted", "share of clients accepted")
    names = ("trust_benign", "trust_malicious") if has_trust else ("benign_accepted", "malicious_accepted")
    shown = [name for name in names if np.isfinite(metrics[name]).any()]
    panels = 2 if shown else 1
    figure, axes = plt.subplots(1, panels, figsize=(5.2 * panels, 3.6), squeeze=False)
    rounds = metrics["round"]
    left = axes[0, 0]
    left.plot(rounds, metrics["test_error"], color=COLORS[0], label="test error")
    if np.isfinite(metrics["attack_success_rate"]).any():
        left.plot(
            rounds, metrics["attack_success_rate"], color=COLORS[4], ls="--", label="attack success rate"
        )
    left.set(xlabel="round", ylabel="share of test examples", ylim=(0, 1))
    left.legend(frameon=False)
    for name in shown:
        who, color = ("malicious", COLORS[4]) if "malicious" in name else ("benign", COLORS[2])
        axes[0, 1].plot(rounds, metrics[name], color=color, label=f"{who} clients")
    if shown:
        axes[0, 1].set(xlabel="round", ylabel=label)
        axes[0, 1].set_ylim(bottom=0, top=1 if kind == "accepted" else None)
        axes[0, 1].legend(frameon=False)
    _tidy(axes.ravel())
    figure.suptitle(title, fontsize=11)
    save(figure, path)


# With more attacks than this, bars become a table of colours and the panels take several lines.
MOST_BARS = 6
PER_ROW = 5
LINE: dict[str, Any] = {"color": "black", "ls": ":", "lw": 1.2}


def _tidy(axes: Any) -> None:
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", lw=0.4, alpha=0.6)
