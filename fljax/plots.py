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
    """Final test error as bars, or for many attacks as colours, and its course over rounds.

    Args:
        rules: names, one colour each.
        attacks: names, one group of bars (or line of the table) and one panel each.
        errors: (attacks, rules, seeds) final test errors.
        successes: (attacks, rules, seeds) attack success rates, NaN without a trigger.
        curves: per attack and rule, (seeds, evaluations) test errors.
        rounds: (evaluations,).
        reference: FedAvg without attack: its final error, and its (evaluations,) course.
        title: what was run.
        path: the PNG to write.
    """
    many = len(attacks) > MOST_BARS
    columns = PER_ROW if many else len(attacks)
    lines = -(-len(attacks) // columns)
    table = 0.32 * len(attacks) + 1.2 if many else 3.2
    size = (max(3.1 * columns, 8.0), table + (2.5 if many else 3.2) * lines)
    figure = plt.figure(figsize=size, layout="constrained")
    grid = figure.add_gridspec(1 + lines, columns, height_ratios=[table, *[2.5 if many else 3.2] * lines])
    top: Any = figure.add_subplot(grid[0, :])
    if many:
        _heat_map(top, rules, attacks, errors.mean(-1), successes.mean(-1))
    else:
        _bars(top, rules, attacks, errors, successes, reference[0])
    axes = []
    for k, attack in enumerate(attacks):
        axis = figure.add_subplot(grid[1 + k // columns, k % columns])
        for i, rule in enumerate(rules):
            color, runs = COLORS[i % len(COLORS)], curves[k][i]
            axis.plot(rounds, runs.mean(0), color=color, lw=1.3, label=rule)
            axis.fill_between(rounds, runs.min(0), runs.max(0), color=color, alpha=0.15, lw=0)
        axis.plot(rounds, reference[1], **LINE, label="FedAvg, no attack")
        axis.set(title=attack, ylim=(0, 1))
        axis.title.set_fontsize(9)
        if k + columns >= len(attacks):
            axis.set_xlabel("round")
        if k % columns == 0:
            axis.set_ylabel("test error")
        axes.append(axis)
    if many:
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, frameon=False, ncols=5, fontsize=8, loc="outside lower center")
    _tidy(axes if many else [top, *axes])
    figure.suptitle(title, fontsize=11)
    save(figure, path)


def _bars(
    axis: Any,
    rules: Sequence[str],
    attacks: Sequence[str],
    errors: np.ndarray,
    successes: np.ndarray,
    reference: float,
) -> None:
    width = 0.8 / len(rules)
    for i, rule in enumerate(rules):
        mean, low, high = errors[:, i].mean(-1), errors[:, i].min(-1), errors[:, i].max(-1)
        at = np.arange(len(attacks)) + (i - (len(rules) - 1) / 2) * width
        axis.bar(
            at,
            mean,
            width * 0.92,
            yerr=[mean - low, high - mean],
            error_kw={"lw": 0.8, "capsize": 2},
            color=COLORS[i % len(COLORS)],
            label=rule,
        )
        # Success rates exist for backdoors only; NaN draws nothing.
        label = "attack success rate" if i == 0 else None
        axis.plot(at, successes[:, i].mean(-1), "kx", ms=6, clip_on=False, label=label)
    axis.axhline(reference, **LINE, label="FedAvg, no attack")
    axis.set(ylabel="test error", ylim=(0, 1), xticks=range(len(attacks)), xticklabels=attacks)
    axis.legend(
        frameon=False,
        ncols=min(len(rules) + 2, 3 + len(attacks)),
        fontsize=8,
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
    )


def _heat_map(
    axis: Any, rules: Sequence[str], attacks: Sequence[str], errors: np.ndarray, successes: np.ndarray
) -> None:
    """Errors as colours and numbers, after a slash the attack success rate."""
    axis.imshow(errors, cmap="Reds", vmin=0, vmax=1, aspect="auto")
    for j, i in np.ndindex(*errors.shape):
        success = "" if np.isnan(successes[j, i]) else f" / {successes[j, i]:.2f}"
        color = "white" if errors[j, i] > 0.6 else "black"
        axis.text(i, j, f"{errors[j, i]:.2f}{success}", ha="center", va="center", fontsize=8, color=color)
    axis.set_xticks(range(len(rules)), rules, fontsize=8)
    axis.set_yticks(range(len(attacks)), attacks, fontsize=8)
    axis.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False, length=0)
    axis.spines[:].set_visible(False)


def _tidy(axes: Any) -> None:
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", lw=0.4, alpha=0.6)
