"""One HTML page with everything in it: nothing is loaded from anywhere."""

import importlib.metadata
import json
import math
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import itables.options
import jinja2
import pandas as pd

from fljax import __version__
from fljax.report.comparison import Place, comparison_caption, comparison_tables
from fljax.report.facts import facts
from fljax.report.figures import Picture
from fljax.report.results import LISTS, Results
from fljax.report.summary import caption, remarks, state, summarize, tables

# Not shown for every cell: long, or the same everywhere.
_HIDDEN = {*LISTS, "config", "versions", "group", "num_params"}


class Column(NamedTuple):
    """A column of an interactive table."""

    name: str
    filter: str  # "list": choose among the values; "search": compare with a number or a text
    number: bool


class Grid(NamedTuple):
    """An interactive table: `rows` hold (text, value to sort by)."""

    key: str
    title: str
    columns: list[Column]
    rows: list[list[tuple[str, Any]]]


def page(results: Results, figures: Sequence[Picture], compared: Sequence[Place] = ()) -> str:
    """The page, as the content of an HTML file.

    Args:
        results: the sweep.
        figures: of `pictures`.
        compared: of `places`.

    Returns:
        HTML whose script, styles and images are inside.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fljax.report"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    bundle = Path(itables.options.dt_bundle)
    made = tables(results)
    return environment.get_template("report.html").render(
        name=results.name,
        facts=facts(results, results.frame),
        state=state(results),
        sections=[
            ("Beside published numbers", comparison_tables(compared), comparison_caption(compared)),
            ("Tables", made, caption(results, made)),
        ],
        remarks=remarks(results),
        figures=[(figure, _base64(figure.png)) for figure in figures],
        grids=_grids(results),
        config=json.dumps(results.config, indent=2, ensure_ascii=False) if results.config else "",
        versions=_versions(results.frame),
        version=__version__,
        script=_base64(bundle.read_bytes()),
        style=bundle.with_suffix(".css").read_text(encoding="utf-8"),
        licence=importlib.metadata.distribution("itables").read_text("licenses/LICENSE") or "",
    )


def _grids(results: Results) -> list[Grid]:
    lists = {"aggregator", "attack", "data", "seed", "diverged", "device", *results.axes}
    grids = []
    if results.seeds > 1:
        summary = summarize(results)
        front = ["aggregator", "attack", *results.further]
        summary = summary[[*front, *(name for name in summary if name not in front)]]
        grids.append(_grid("means", "Means over the seeds", summary, lists - {"diverged"}))
    front = list(dict.fromkeys(["aggregator", "attack", *results.further, "data", "seed"]))
    rest = [name for name in results.frame if name not in {*front, "cell", *_HIDDEN}]
    cells = results.frame[[*front, *rest, "cell"]].sort_values(front, kind="stable")
    grids.append(_grid("cells", "Cells", cells.assign(cell=cells["cell"].astype(str).str[:12]), lists))
    return grids


def _grid(key: str, title: str, frame: pd.DataFrame, lists: set[str]) -> Grid:
    filled = frame.dropna(axis="columns", how="all")
    columns = [
        Column(
            str(name),
            "list" if name in lists else "search",
            pd.api.types.is_numeric_dtype(filled[name]) and not pd.api.types.is_bool_dtype(filled[name]),
        )
        for name in filled
    ]
    values = zip(*(filled[name].tolist() for name in filled), strict=True)
    return Grid(key, title, columns, [[_entry(value) for value in row] for row in values])


def _entry(value: Any) -> tuple[str, Any]:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "", ""
    if isinstance(value, bool):
        return ("yes" if value else "no"), ""
    if isinstance(value, float):
        return (f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"), repr(value)
    return str(value), ""


def _versions(frame: pd.DataFrame) -> list[str]:
    """What the cells ran on and with, each once."""
    found: dict[str, None] = {}
    for name in ("device", "versions"):
        if name in frame:
            found |= dict.fromkeys(str(value) for value in frame[name].dropna().unique())
    return list(found)


def _base64(content: bytes) -> str:
    return b64encode(content).decode("ascii")
