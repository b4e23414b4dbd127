"""A sweep's report as files: Markdown, CSV, PNG and one HTML page."""

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
from fljax.report.summary import WORST_CASE, ranked, state, summarize, worst_cases
from fljax.report.text import escape, markdown_tables

FORMATS = ("md", "csv", "png", "html")


def write_report(
    folder: str | Path,
    out: str | Path | None = None,
    formats: Sequence[str] = FORMATS,
    published: str | Sequence[str] | None = None,
    value: str = "last",
    select: Sequence[str] | None = None,
) -> list[Path]:
    """Write the report of a sweep, finished or under way.

    Args:
        folder: the sweep's folder, with sweep.json and results.parquet.
        out: where to write; default the folder `report` in it. Files of an earlier report are replaced.
        formats: of "md" (report.md, table.md), "csv" (results.csv, table.csv, curves.csv), "png" (figures)
            and "html" (report.html, with everything in it).
        published: names of published tables to compare with (then "csv" also writes published.csv); None for
            what the sweep's configuration names as `sweep.published`.
        value: "last" for the numbers after the last round, "best" for those of each run's round with the
            lowest test error.
        select: axes along which `choose` takes the values with the smallest worst validation error (then
            "csv" also writes choices.csv); None for what the configuration names as `sweep.select`.

    Returns:
        The files' paths.

    Raises:
        ConfigError: if a format, a value, an axis or a published table is unknown, nothing can be chosen, or
            `out` cannot be a folder.
        DataError: if the folder holds no sweep, or a file in it is damaged.
    """
    for name in formats:
        if name not in FORMATS:
            raise ConfigError(unknown_name("format", name, FORMATS))
    results, choices = load_chosen(folder, value, select)
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
        if (board := leaderboard_frame(results)).size:
            contents["leaderboard.csv"] = frame_to_csv(board)
        contents["curves.csv"] = frame_to_csv(long_curves(results))
        if compared:
            contents["published.csv"] = frame_to_csv(comparison_frame(compared))
        else:
            (out / "published.csv").unlink(missing_ok=True)
        if choices:
            contents["choices.csv"] = frame_to_csv(choice_frame(choices))
        else:
            (out / "choices.csv").unlink(missing_ok=True)
    if "png" in formats:
        contents |= {f"{picture.name}.png": picture.png for picture in drawn}
    if "html" in formats:
        contents["report.html"] = page(results, drawn, compared, choices).encode()
    for name, content in contents.items():
        write_atomically(out / name, content)
    return [out / name for name in contents]


def load_chosen(
    folder: str | Path, value: str = "last", select: Sequence[str] | None = None
) -> tuple[Results, list[Choice]]:
    """The results of a folder, those that were chosen alone where there is something to choose."""
    results = load_results(folder, value)
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
    parts = [f"# {escape(results.name)}", f"{heading(results)}. {facts(results, results.frame)}."]
    parts += [f"{state(results)}.", *images[:first], markdown_tables(results, compared, choices).rstrip()]
    parts += images[first:]
    return "\n\n".join(parts) + "\n"


def means(results: Results) -> pd.DataFrame:
    """The tables' numbers, a row per place; the worst cases are further rows.

    `rank` is a rule's in its row, from 1 and equals alike; `broken` says that a backdoor succeeds.
    """
    summary = summarize(results)
    within = [*results.further, "attack"]
    plain = ranked(summary, within).astype({"attack": str})
    if len(results.real_attacks) < 2:
        return plain
    # The attacks that are the worst keep their names in columns of their own.
    worst = worst_cases(results, summary).drop(columns="complete").assign(attack=WORST_CASE)
    return pd.concat([plain, ranked(worst, within)], ignore_index=True)


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
