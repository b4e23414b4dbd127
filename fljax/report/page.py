"""One HTML page with everything in it: nothing is loaded from anywhere."""

import importlib.metadata
import json
import math
import re
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import itables.options
import jinja2
import pandas as pd
from markupsafe import Markup, escape

from fljax.config.titles import words
from fljax.host.installed import own_version
from fljax.report.comparison import Place, compare
from fljax.report.facts import facts, heading
from fljax.report.figures import Picture, before_tables
from fljax.report.leaderboard import all_sections
from fljax.report.outcomes import DERIVED
from fljax.report.panels import ERROR
from fljax.report.results import Results
from fljax.report.selection import Choice, choice_caption, choice_table
from fljax.report.summary import ENDS, STATISTICS, Table, ranked, remarks, state, summarize
from fljax.simulation.lines import EVALUATED, metric_of

# Not shown for every cell: long, or the same everywhere.
_HIDDEN = {"config", "versions", "group", "num_params", "aggregator_name", "attack_name"}
# Shown also where they are the same in all rows.
_ALWAYS = {"aggregator", "attack", "test_error", "test_error_mean"}
# Heads of columns; there is little room.
_SHORT = {"test_error": "error", "attack_success_rate": "success"}
_TITLES = {
    "attack_success_rate": "success rate",
    "rounds_per_second": "rounds/s",
    "cells_at_once": "cells at once",
    "num_malicious": "malicious",
    "seconds_compile": "seconds to compile",
    "seconds_run": "seconds",
}


class Column(NamedTuple):
    """A column of an interactive table."""

    name: str
    filter: str  # "list": choose among the values; "search": compare with a number or a text
    number: bool


class Grid(NamedTuple):
    """An interactive table: `rows` hold (text, value to sort by), `same` what is alike in all of them."""

    key: str
    title: str
    columns: list[Column]
    rows: list[list[tuple[str, Any]]]
    same: str


def page(
    results: Results,
    figures: Sequence[Picture],
    compared: Sequence[Place] = (),
    choices: Sequence[Choice] = (),
) -> str:
    """The page, as the content of an HTML file.

    Args:
        results: the sweep.
        figures: of `pictures`.
        compared: of `places`.
        choices: of `choose`.

    Returns:
        HTML whose script, styles and images are inside.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fljax.report"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["shown"] = _shown
    bundle = Path(itables.options.dt_bundle)
    pictured = [(figure, _base64(figure.png)) for figure in figures]
    first = before_tables(results, figures)
    return environment.get_template("report.html").render(
        name=results.name,
        heading=heading(results),
        facts=facts(results, results.frame).removeprefix(f"{results.name} · "),
        state=state(results),
        when=results.when,
        sections=[
            ("Beside published numbers", *compare(compared, results.when)),
            *([_chosen(results, choices)] if choices else []),
            *(("Tables" if k == 0 else "", *section) for k, section in enumerate(all_sections(results))),
        ],
        remarks=remarks(results),
        leading=pictured[:first],
        figures=pictured[first:],
        grids=_grids(results),
        config=json.dumps(results.config, indent=2, ensure_ascii=False) if results.config else "",
        versions=_versions(results.frame),
        version=own_version(),
        script=_base64(bundle.read_bytes()),
        style=bundle.with_suffix(".css").read_text(encoding="utf-8"),
        licence=importlib.metadata.distribution("itables").read_text("licenses/LICENSE") or "",
    )


def _chosen(results: Results, choices: Sequence[Choice]) -> tuple[str, list[Table], str]:
    table = choice_table(choices, results.value)
    return table.title, [table._replace(title="")], choice_caption(results)


def _grids(results: Results) -> list[Grid]:
    lists = {"aggregator", "attack", "data", "seed", "diverged", "broken", "device", *results.axes}
    grids = []
    if results.seeds > 1:
        summary = ranked(summarize(results), [*results.further, "attack"])
        front = ["aggregator", "attack", *results.further]
        # Of whole runs the means are enough here.
        hidden = {f"{name}_{end}" for name in results.derived for end in (*STATISTICS[1:], *ENDS)}
        rest = [name for name in summary if name not in hidden.union(front)]
        summary = summary[[*front, *rest]].sort_values(front)
        grids.append(_grid("means", "Means over the seeds", summary, lists - {"diverged"}))
    front = list(dict.fromkeys(["aggregator", "attack", *results.further, "data", "seed"]))
    hidden = {*front, "cell", *_HIDDEN, *results.lists}
    # The best values of other metrics are in results.csv.
    hidden |= {f"best_{name}{end}" for name in results.evaluated if name != ERROR for end in ("", "_round")}
    rest = [name for name in results.frame if name not in hidden]
    cells = results.frame[[*front, *rest, "cell"]].sort_values(front, kind="stable")
    cells = cells.assign(cell=cells["cell"].astype(str).str[:12])
    grids.append(_grid("cells", "The run" if results.is_run else "Cells", cells, lists))
    return grids


def _grid(key: str, title: str, frame: pd.DataFrame, lists: set[str]) -> Grid:
    """A table of the columns that vary; the values of the others are said once, which leaves room."""
    filled = frame.dropna(axis="columns", how="all")
    varying = {name for name in filled if len(filled) < 2 or filled[name].nunique(dropna=False) > 1}
    kept = [name for name in filled if name in _ALWAYS | varying]
    same = [f"{_heads(name)} {_entry(filled[name].tolist()[0])[0]}" for name in filled if name not in kept]
    columns = [
        Column(
            _heads(str(name)),
            "list" if name in lists else "search",
            pd.api.types.is_numeric_dtype(filled[name]) and not pd.api.types.is_bool_dtype(filled[name]),
        )
        for name in kept
    ]
    values = zip(*(filled[name].tolist() for name in kept), strict=True)
    return Grid(key, title, columns, [[_entry(value) for value in row] for row in values], ", ".join(same))


def _heads(name: str) -> str:
    """A column's title in words."""
    if name in _TITLES:
        return _TITLES[name]
    metric, _, end = name.rpartition("_")
    if end in (*STATISTICS, *ENDS):
        described = DERIVED.get(metric) or metric_of(metric)
        return f"{_SHORT.get(metric, described.short)}: {end}"
    if name in DERIVED:
        return DERIVED[name].short
    return metric_of(name).title if name in EVALUATED else words(name)


def _shown(text: str) -> Markup:
    """A mean with its deviation and interval in a line of their own, which leaves room for columns."""
    found = re.fullmatch(r"(\S+) (± \S+(?: \[[^]]*\])?)(.*)", text)
    return Markup("{}<small>{}</small>").format(found[1] + found[3], found[2]) if found else escape(text)


def _entry(value: Any) -> tuple[str, Any]:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "", ""
    if isinstance(value, bool):
        return ("yes" if value else "no"), ""
    if isinstance(value, float):
        return (f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"), repr(value)
    return str(value), ""


def _versions(frame: pd.DataFrame) -> list[str]:
    """The devices and versions that the cells ran with, each once."""
    found: dict[str, None] = {}
    for name in ("device", "versions"):
        if name in frame:
            found |= dict.fromkeys(str(value) for value in frame[name].dropna().unique())
    return list(found)


def _base64(content: bytes) -> str:
    return b64encode(content).decode("ascii")
