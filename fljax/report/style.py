"""The common look of figures: colours, the axis of errors, a heading with facts; and writing them."""

import io
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from PIL import Image

from fljax.aggregators import RULES
from fljax.files import write_atomically

# Okabe and Ito's colours but yellow, which is faint on white, and two dark ones: colour-blind readers too
# can tell any two apart.
COLORS = (
    *("#0072B2", "#56B4E9", "#009E73", "#CC79A7", "#000000"),
    *("#E69F00", "#4020C0", "#D55E00", "#882255"),
)
# The rules that have these colours, which papers compare most; the others follow as they are registered.
FIRST = (
    *("mean", "multi_krum", "trimmed_mean", "median", "geometric_median"),
    *("krum", "bulyan", "fltrust", "centered_clipping"),
)
BENIGN, MALICIOUS, ROOT = COLORS[0], COLORS[7], COLORS[2]
STYLES = (
    *("-", (0, (5, 1.5)), (0, (6, 1.5, 1, 1.5)), (0, (2, 1)), (0, (8, 1.5, 1, 1, 1, 1.5))),
    *((0, (12, 2)), (0, (9, 1.5, 3, 1.5))),
)
MARKERS = "os^DvP<X>p"
REFERENCE: dict[str, Any] = {"color": "#555555", "ls": ":", "lw": 1.3}
# The line at the end of an attack.
END: dict[str, Any] = {"color": "#999999", "lw": 1.0, "ls": (0, (1, 2)), "zorder": 1}
# Errors of a wider range than this are on a logarithmic axis: 0.04 and 0.07 are to be told apart beside 0.90.
WIDE = 6.0
# Colours of a picture that is written; lines and letters have few.
MOST_COLORS = 255


# Inches of a column and of a page of the two-column styles of IEEE, ACM and USENIX, which differ by a tenth.
PAPER_WIDTHS = {"column": 3.33, "page": 7.0}
# A typeface like Times, as these styles have; letters that it lacks come from the next.
_PAPER_STYLE: Any = {
    "font.family": ["STIXGeneral", "DejaVu Sans"],
    "pdf.fonttype": 42,  # TrueType: publishers refuse Type 3
    "axes.linewidth": 0.6,
}
_paper: ContextVar[float | None] = ContextVar("paper", default=None)


@contextmanager
def drawing(page: float | None = None) -> Iterator[None]:
    """Figures drawn meanwhile are for a screen, or for a page of this width in inches: without headings."""
    # A dollar in a label is no formula.
    style: Any = {"text.parse_math": False, **(_PAPER_STYLE if page is not None else {})}
    token = _paper.set(page)
    try:
        with matplotlib.rc_context(style):
            yield
    finally:
        _paper.reset(token)


def paper_width() -> float | None:
    """The inches that a figure may be wide on the page it is drawn for; None on a screen."""
    return _paper.get()


class Look(NamedTuple):
    """The look of a rule: colour and marker are its own, dashes tell apart labels that share a colour."""

    color: str
    style: Any
    marker: str


def looks(rules: Mapping[str, str]) -> dict[str, Look]:
    """A look for every label of a figure.

    A rule's colour is the same in all figures: the best known have one each, the others follow from their
    place in the registry.
    Labels of one colour, variants of a rule say, differ in dashes and markers.

    Args:
        rules: labels to names in the registry; other names come after those of the registry.

    Returns:
        Labels to looks.

    Example:
        >>> looks({"FedAvg": "mean"})["FedAvg"] == looks({"Krum": "krum", "FedAvg": "mean"})["FedAvg"]
        True
    """
    order = {name: place for place, name in enumerate(dict.fromkeys([*FIRST, *RULES, *rules.values()]))}
    found: dict[str, Look] = {}
    for label, name in rules.items():
        place = order[name]
        color = COLORS[place % len(COLORS)]
        alike = sum(look.color == color for look in found.values())
        variant = sum(rules[other] == name for other in found)
        marker = MARKERS[(place + variant) % len(MARKERS)]
        found[label] = Look(color, STYLES[alike % len(STYLES)], marker)
    return found


def error_axis(axes: Sequence[Any], values: Iterable[Any], which: str = "y") -> None:
    """Scale, limits and ticks for errors: linear from 0 if they are close to each other, else logarithmic.

    Args:
        axes: the panels, which all get the same axis.
        values: arrays of all errors that are drawn; NaN counts as none.
        which: "x" or "y".
    """
    pieces = [np.ravel(np.asarray(each, float)) for each in values]
    shown = np.concatenate([*pieces, np.empty(0)])
    shown = shown[np.isfinite(shown)]
    high = float(shown.max(initial=0.0))
    positive = shown[shown > 0]
    low = float(positive.min(initial=high))
    for panel in axes:
        axis = getattr(panel, f"{which}axis")
        limits = getattr(panel, f"set_{which}lim")
        if high <= WIDE * low:
            limits(0, 1.08 * high or 1.0)
            continue
        scale = getattr(panel, f"set_{which}scale")
        with_zero = bool((shown == 0).any())
        if with_zero:
            scale("symlog", linthresh=low, linscale=0.3)
        else:
            scale("log")
        ticks = _ticks(low / 1.45, 1.45 * high)
        axis.set_major_locator(FixedLocator([0.0, *ticks] if with_zero else ticks))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        limits(0 if with_zero else min([low / 1.1, *ticks]), max([1.1 * high, *ticks]))


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers in a range, 1, 2 and 5 of every power of ten, or fewer if it is long."""
    powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    digits = (1, 2, 5) if len(powers) <= 5 else (1,)
    ticks = [float(f"{digit}e{power}") for power in powers for digit in digits]
    return [tick for tick in ticks if low <= tick <= high]


def sheet(width: float, height: float, heading: str, facts: str) -> tuple[Figure, SubFigure]:
    """An empty figure under a heading and a line of facts.

    Args:
        width: in inches.
        height: of what is below the heading, in inches.
        heading: what is shown, in a few words.
        facts: what it was measured on; wrapped.

    Returns:
        The figure, and the part to draw in. On paper heading and facts are the caption's business.
    """
    if paper_width() is not None:
        figure = Figure(figsize=(width, height), layout="constrained")
        return figure, stacked(figure, [height])[0]
    # Lines end between facts, not within one.
    lines = []
    for line in facts.splitlines() or [""]:
        whole = line.replace(" ", "\N{NO-BREAK SPACE}") if " · " in line else line
        whole = whole.replace("\N{NO-BREAK SPACE}·\N{NO-BREAK SPACE}", " · ")
        lines += textwrap.wrap(whole, int(width * 15.5)) or [""]
    top = 0.36 + 0.17 * len(lines)
    figure = Figure(figsize=(width, top + height), layout="constrained")
    head, body = stacked(figure, [top, height])
    head.text(0.12 / width, 1 - 0.08 / top, heading, fontsize=12, fontweight="bold", va="top")
    head.text(
        0.12 / width,
        1 - 0.34 / top,
        "\n".join(lines),
        fontsize=8.5,
        color="#444444",
        va="top",
        linespacing=1.3,
    )
    return figure, body


def stacked(figure: Figure | SubFigure, heights: Sequence[float]) -> list[Any]:
    """The parts of a figure, one below the other."""
    return list(np.ravel(np.asarray(figure.subfigures(len(heights), 1, height_ratios=heights))))


def tidy(panels: Iterable[Any], grid: str = "y") -> None:
    """Fewer frames, a light grid below what is drawn."""
    for panel in panels:
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(axis=grid, lw=0.4, alpha=0.6)
        panel.set_axisbelow(True)
        panel.tick_params(labelsize=8)


def to_png(figure: Figure) -> bytes:
    """A figure as the content of a PNG file, with few colours so that it is small."""
    figure.set_dpi(144)
    canvas = FigureCanvasAgg(figure)
    # Fitted to the pixels, small bold letters would lose their weight.
    with matplotlib.rc_context({"text.hinting": "no_hinting"}):
        canvas.draw()  # not savefig, which draws twice to find a layout
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    small = io.BytesIO()
    picture.quantize(MOST_COLORS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(
        small, "png"
    )
    return small.getvalue()


def to_pdf(figure: Figure) -> bytes:
    """A figure as the content of a PDF file, the same bytes for the same figure."""
    content = io.BytesIO()
    with matplotlib.rc_context(_PAPER_STYLE):
        figure.savefig(content, format="pdf", metadata={"CreationDate": None})
    return content.getvalue()


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG."""
    write_atomically(path, to_png(figure))
