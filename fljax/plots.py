"""Figures, drawn without a display and written in one step."""

import io
from collections.abc import Mapping, Sequence
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


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG and close it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130, bbox_inches="tight")
    plt.close(figure)
    write_atomically(path, buffer.getvalue())


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


def plot_comparison(
    rules: Sequence[str],
    attacks: Sequence[str],
    errors: np.ndarray,
    successes: np.ndarray,
    curves: Sequence[Sequence[np.ndarray]],
    rounds: np.ndarray,
    reference: tuple[float, np.ndarray],
    title: str,
    path: Path,
) -> None:
    """Final test error as bars, and its course over rounds, for every rule under every attack.

    Args:
        rules: names, one bar colour each.
        attacks: names, one group of bars and one panel each.
        errors: (attacks, rules, seeds) final test errors.
        successes: (attacks, rules, seeds) attack success rates, NaN without a trigger.
        curves: per attack and rule, (seeds, evaluations) test errors.
        rounds: (evaluations,).
        reference: FedAvg without attack: its final error, and its (evaluations,) course.
        title: what was run.
        path: the PNG to write.
    """
    columns = len(attacks)
    figure = plt.figure(figsize=(max(3.1 * columns, 8.0), 6.4), layout="constrained")
    grid = figure.add_gridspec(2, columns)
    bars: Any = figure.add_subplot(grid[0, :])
    width = 0.8 / len(rules)
    for i, rule in enumerate(rules):
        mean, low, high = errors[:, i].mean(-1), errors[:, i].min(-1), errors[:, i].max(-1)
        at = np.arange(columns) + (i - (len(rules) - 1) / 2) * width
        bars.bar(
            at,
            mean,
            width * 0.92,
            yerr=[mean - low, high - mean],
            error_kw={"lw": 0.8, "capsize": 2},
            color=COLORS[i % len(COLORS)],
            label=rule,
        )
        # Success rates exist for backdoors only; NaN draws nothing.
        bars.plot(
            at,
            successes[:, i].mean(-1),
            "kx",
            ms=6,
            clip_on=False,
            label="attack success rate" if i == 0 else None,
        )
    line: dict[str, Any] = {"color": "black", "ls": ":", "lw": 1.2}
    bars.axhline(reference[0], **line, label="FedAvg, no attack")
    bars.set(ylabel="test error", ylim=(0, 1), xticks=range(columns), xticklabels=attacks)
    bars.legend(
        frameon=False,
        ncols=min(len(rules) + 2, 3 + columns),
        fontsize=8,
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
    )
    axes = [bars]
    for j, attack in enumerate(attacks):
        axis = figure.add_subplot(grid[1, j])
        for i in range(len(rules)):
            runs = curves[j][i]
            axis.plot(rounds, runs.mean(0), color=COLORS[i % len(COLORS)], lw=1.3)
            axis.fill_between(
                rounds, runs.min(0), runs.max(0), color=COLORS[i % len(COLORS)], alpha=0.15, lw=0
            )
        axis.plot(rounds, reference[1], **line)
        axis.set(title=attack, xlabel="round", ylim=(0, 1))
        axis.title.set_fontsize(9)
        axes.append(axis)
    axes[1].set_ylabel("test error")
    _tidy(axes)
    figure.suptitle(title, fontsize=11)
    save(figure, path)


def _tidy(axes: Any) -> None:
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", lw=0.4, alpha=0.6)
