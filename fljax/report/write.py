"""A sweep's report as files: Markdown, CSV, PNG and one HTML page; for a paper LaTeX and PDF."""

import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from fljax.errors import ConfigError, unknown_name
from fljax.files import write_atomically
from fljax.host.csvs import to_csv
from fljax.report.comparison import Place, comparison_frame, places
from fljax.report.facts import facts, heading
from fljax.report.figures import Picture, before_tables, pictures
from fljax.report.leaderboard import leaderboard_frame
from fljax.report.page import page
from fljax.report.results import Results, load_results
from fljax.report.selection import Choice, choice_frame, choose, declared
from fljax.report.style import PAPER_WIDTHS, to_pdf
from fljax.report.summary import WORST_CASE, p_values, ranked, state, summarize, worst_cases
from fljax.report.tex import tex_figures, tex_tables
from fljax.report.text import escape, markdown_tables
from fljax.report.uncertainty import FEWEST

FORMATS = ("md", "csv", "png", "html")
# Written where they are asked for.
PAPER_FORMATS = ("tex", "pdf")


def write_report(
    folder: str | Path,
    out: str | Path | None = None,
    formats: Sequence[str] = FORMATS,
    published: str | Sequence[str] | None = None,
    value: str = "last",
    select: Sequence[str] | None = None,
    interval: str = "",
    width: str | float = "column",
) -> list[Path]:
    """Write the report of a sweep, finished or under way.

    Args:
        folder: the sweep's folder, with sweep.json and results.parquet.
        out: where to write; default the folder `report` in it. Files of an earlier report are replaced.
        formats: of "md" (report.md, table.md), "csv" (results.csv, table.csv, curves.csv), "png" (figures)
            and "html" (report.html, with everything in it); for a paper "tex" (tables.tex, which needs the
            package booktabs) and "pdf" (figures for a page, and figures.tex, which shows them).
        published: names of published tables to compare with (then "csv" also writes published.csv); None for
            what the sweep's configuration names as `sweep.published`.
        value: "last" for the numbers after the last round, "best" for those of each run's round with the
            lowest test error.
        select: axes along which `choose` takes the values with the smallest worst validation error (then
            "csv" also writes choices.csv); None for what the configuration names as `sweep.select`.
        interval: "student" or "bootstrap" for confidence intervals beside standard deviations, as
            `fljax.report.uncertainty.interval` says; "" for none.
        width: of "pdf" figures: "column" or "page" of a two-column style (3.33 and 7 inches), or inches. A
            heat map of many rules is wider; LaTeX shrinks it.

    Returns:
        The files' paths.

    Raises:
        ConfigError: if a format, a value, an interval, a width, an axis or a published table is unknown,
            nothing can be chosen, or `out` cannot be a folder.
        DataError: if the folder holds no sweep, or a file in it is damaged.
    """
    for name in formats:
        if name not in (*FORMATS, *PAPER_FORMATS):
            raise ConfigError(unknown_name("format", name, (*FORMATS, *PAPER_FORMATS)))
    inches = _inches(width)
    results, choices = load_chosen(folder, value, select, interval)
    compared = places(results, published)
    out = Path(folder) / "report" if out is None else Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot use {out} as a folder: {error.strerror}") from None
    drawn = pictures(results) if {"png", "html"} & set(formats) else []
    contents: dict[str, bytes] = {}
    if "md" in formats:
        shown = drawn if "png" in formats else []
        contents["report.md"] = markdown_report(results, shown, compared, choices).encode()
        contents["table.md"] = markdown_tables(results, compared, choices).encode()
    if "csv" in formats:
        contents["results.csv"] = frame_to_csv(
            results.frame.drop(columns=[*results.lists, "config"], errors="ignore")
        )
        contents["table.csv"] = frame_to_csv(means(results))
        contents["curves.csv"] = frame_to_csv(long_curves(results))
        further = {
            "leaderboard.csv": leaderboard_frame(results),
            "published.csv": comparison_frame(compared),
            "choices.csv": choice_frame(choices),
        }
        for name, frame in further.items():
            if frame.size:
                contents[name] = frame_to_csv(frame)
            else:  # one of an earlier report, with other cells
                (out / name).unlink(missing_ok=True)
    if "png" in formats:
        contents |= {f"{picture.name}.png": picture.png for picture in drawn}
    if "html" in formats:
        contents["report.html"] = page(results, drawn, compared, choices).encode()
    if "tex" in formats:
        contents["tables.tex"] = tex_tables(results, compared, choices).encode()
    if "pdf" in formats:
        on_paper = pictures(results, inches)
        contents |= {f"{picture.name}.pdf": to_pdf(picture.figure) for picture in on_paper}
        contents["figures.tex"] = tex_figures(results, on_paper, inches).encode()
    for name, content in contents.items():
        write_atomically(out / name, content)
    return [out / name for name in contents]


def _inches(width: str | float) -> float:
    """The width of figures on a page."""
    if width in PAPER_WIDTHS:
        return PAPER_WIDTHS[str(width)]
    try:
        inches = float(width)
    except ValueError:
        inches = math.nan
    if not 2 <= inches <= 20:
        raise ConfigError(f"width {width!r} must be {' or '.join(PAPER_WIDTHS)}, or from 2 to 20 inches")
    return inches


def load_chosen(
    folder: str | Path,
    value: str = "last",
    select: Sequence[str] | None = None,
    interval: str = "",
) -> tuple[Results, list[Choice]]:
    """The results of a folder, those that were chosen alone where there is something to choose."""
    results = load_results(folder, value, interval)
    axes = declared(results) if select is None else select
    return choose(results, axes) if axes else (results, [])


def markdown_report(
    results: Results,
    shown: Sequence[Picture],
    compared: Sequence[Place] = (),
    choices: Sequence[Choice] = (),
) -> str:
    """Title, facts, state, tables and figures."""
    images = [f"![{escape(figure.caption)}]({figure.name}.png)" for figure in shown]
    first = before_tables(results, shown)
    about = f"{heading(results)}. {facts(results, results.frame)}."
    parts = [f"# {escape(results.name)}", escape(about)]
    parts += [f"{state(results)}.", *images[:first], markdown_tables(results, compared, choices).rstrip()]
    parts += images[first:]
    return "\n\n".join(parts) + "\n"


def means(results: Results) -> pd.DataFrame:
    """The tables' numbers, a row per place; the worst cases are further rows.

    `rank` is a rule's in its row, from 1 and equals alike; `broken` says that a backdoor succeeds; `p_value`,
    where there are seeds enough, is that of the difference from the best rule of its row.
    """
    summary = summarize(results)
    within = [*results.further, "attack"]
    plain = ranked(summary, within).astype({"attack": str})
    plain = plain.assign(p_value=_p_values(results, summary, within)) if results.seeds >= FEWEST else plain
    if len(results.real_attacks) < 2:
        return plain
    # The attacks that are the worst keep their names in columns of their own.
    worst = worst_cases(results, summary).drop(columns="complete").assign(attack=WORST_CASE)
    return pd.concat([plain, ranked(worst, within)], ignore_index=True)


def _p_values(results: Results, summary: pd.DataFrame, within: Sequence[str]) -> pd.Series:
    """Those of `p_values` for every line, NaN for the best ones."""
    found = pd.Series(math.nan, summary.index)
    for _, row in summary.groupby(list(within), observed=True):
        values = p_values(results, row)
        found.update(row["aggregator"].astype(str).map(values).astype(float))
    return found


def long_curves(results: Results) -> pd.DataFrame:
    """The curves, a row per cell and evaluation."""
    lists = list(results.lists)
    keys = list(dict.fromkeys(["cell", "aggregator", "attack", "data", *results.axes, "seed"]))
    frame = results.frame[[*keys, *lists]].dropna(subset="curve_round")
    lengths = frame["curve_round"].map(len)
    # A cell without such a curve has a gap for each of its rounds.
    whole = {
        name: [
            [None] * length if values is None else values
            for values, length in zip(frame[name], lengths, strict=True)
        ]
        for name in lists
    }
    long = frame.assign(**whole).explode(lists, ignore_index=True)
    long = long.rename(columns={name: name.removeprefix("curve_") for name in lists})
    return long.dropna(subset="round")


def frame_to_csv(frame: pd.DataFrame) -> bytes:
    """A table as the content of a CSV file."""
    return to_csv([*map(str, frame)], frame.astype(object).itertuples(index=False, name=None))
