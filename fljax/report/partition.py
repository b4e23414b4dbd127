"""The picture of a partition: which client holds how many examples of which class."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from fljax.report.style import BENIGN, MALICIOUS, ROOT, save, sheet
from fljax.simulation.holdings import Holdings

# Up to these, every cell shows its number and every client its own.
MOST_CLIENTS, MOST_CLASSES = 30, 12


def plot_partition(holdings: Holdings, title: str, notes: Sequence[str], path: Path) -> None:
    """Clients × classes as colours, sizes beside them, the root dataset above them.

    Malicious clients have a mark at the left and bars of another colour. Colours go by the square root of the
    number, so that small holdings can be told from none.

    Args:
        holdings: who holds what.
        title: what was dealt out.
        notes: what has to be said about the data set.
        path: the PNG to write.
    """
    counts = holdings.clients
    n, classes = counts.shape
    detailed = n <= MOST_CLIENTS and classes <= MOST_CLASSES
    height = float(np.clip((0.26 if detailed else 0.07) * n, 2.4, 9.0))
    width = float(np.clip(0.52 * classes, 4.2, 9.0))
    top, side = 0.6, 2.2
    facts = "\n".join([title, *notes])
    figure, body = sheet(width + side + 1.6, height + top + 1.0, "Who holds which examples", facts)
    grid = body.add_gridspec(2, 3, width_ratios=[width, side, 0.16], height_ratios=[top, height])
    heat = body.add_subplot(grid[1, 0])
    root = body.add_subplot(grid[0, 0], sharex=heat)
    sizes = body.add_subplot(grid[1, 1], sharey=heat)

    norm = PowerNorm(0.5, vmin=0, vmax=max(int(counts.max()), 1))
    image = heat.imshow(counts, cmap="Blues", norm=norm, aspect="auto", interpolation="nearest")
    if detailed:
        for i, c in np.argwhere(counts > 0):
            color = "white" if norm(counts[i, c]) > 0.6 else "#303030"
            heat.text(c, i, f"{counts[i, c]}", ha="center", va="center", fontsize=7, color=color)
        heat.set_yticks(range(n))
    else:
        heat.yaxis.set_major_locator(MaxNLocator(12, integer=True))
    heat.xaxis.set_major_locator(MaxNLocator(classes if classes <= MOST_CLASSES else 12, integer=True))
    kind = "class" if holdings.by_class else "all examples"
    heat.set(xlabel=kind, ylabel="client", ylim=(n - 0.5, -0.5), xlim=(-0.5, classes - 0.5))
    if not holdings.by_class:
        heat.set_xticks([])
    heat.tick_params(length=0, pad=13 if holdings.malicious.any() else 3, axis="y")
    heat.tick_params(length=0, axis="x")
    heat.spines[:].set_visible(False)
    bad = np.flatnonzero(holdings.malicious)
    # In the margin: x counts in widths of the axes, y in clients.
    margin = heat.get_yaxis_transform()
    marker = float(np.clip(72 * height / n * 0.7, 2.0, 6.0))
    at = np.full(len(bad), -0.015)
    heat.plot(at, bad, ">", color=MALICIOUS, ms=marker, transform=margin, clip_on=False)

    total = counts.sum(1)
    colors = np.where(holdings.malicious, MALICIOUS, BENIGN)
    sizes.barh(range(n), total, height=0.8 if detailed else 1.0, color=colors)
    sizes.axvline(total.mean(), color="black", ls=":", lw=1.2)
    sizes.set(xlabel="examples", xlim=(0, total.max() * 1.05))
    sizes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    sizes.tick_params(labelleft=False, length=0, axis="y")
    sizes.spines[["top", "right", "left"]].set_visible(False)
    sizes.grid(axis="x", lw=0.4, alpha=0.6)
    sizes.set_axisbelow(True)

    bars = root.bar(range(classes), holdings.root, width=0.8, color=ROOT)
    if classes <= MOST_CLASSES:
        root.bar_label(bars, fontsize=7, padding=1)
    root.set(ylabel="root", yticks=[], ylim=(0, holdings.root.max() * 1.25))
    root.tick_params(labelbottom=False, length=0)
    root.spines[["top", "right", "left"]].set_visible(False)

    bar = body.colorbar(image, cax=body.add_subplot(grid[1, 2]))
    bar.set_label("examples of a class at a client" if holdings.by_class else "examples at a client")
    bar.outline.set_visible(False)
    handles: list[Patch | Line2D] = [Patch(color=ROOT, label=f"root dataset ({holdings.root.sum():,})")]
    handles.append(Patch(color=BENIGN, label="benign" if len(bad) else "client"))
    if len(bad):
        label = f"malicious ({len(bad)} of {n})"
        handles.append(Line2D([], [], color=MALICIOUS, marker=">", ls="", label=label))
    handles.append(Line2D([], [], color="black", ls=":", lw=1.2, label=f"mean size ({total.mean():,.0f})"))
    body.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=8)
    save(figure, path)
