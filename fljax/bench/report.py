"""Results of a benchmark: rows as they are measured, a table, CSV, JSON and figures."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD

from fljax.aggregators import PRE_AGGREGATORS, RULES
from fljax.bench.measure import COLUMNS, Row
from fljax.files import write_atomically
from fljax.host.csvs import to_csv
from fljax.host.terminal import Table
from fljax.simulation.lines import plain_number, to_json

FLOORS = ("read", "copy", "fresh_copy")
CAPTION = (
    "ms: median of the blocked calls after a warm-up; ±: half the distance of its quartiles. GB/s: bytes of "
    "the matrix over that time. of copy, of read: that GB/s over the GB/s of copying the matrix once, into a "
    "buffer that exists, and of reading it once. memory: arguments, result and temporaries of the compiled "
    "program, in matrices."
)
PEER_CAPTION = (
    " peer/ours: times with the same data and threads, in turns. diff: largest difference of the two results "
    "over the norm of the peer's. donated: our input may be overwritten."
)


def collect(
    measured: Iterable[tuple[int, list[Row]]],
    facts: Mapping[str, Any],
    folder: Path,
    show: Callable[[int, Row], None],
    write: Callable[[Sequence[Row], Mapping[str, Any], Path], None] | None = None,
) -> None:
    """Append every row to rows.jsonl when it is measured; at the end, or if interrupted, write the results.

    Args:
        measured: numbers of cells or jobs and their rows.
        facts: what they were measured on and with.
        folder: where to write; created.
        show: called with that number and each row.
        write: writes the results; `write_results` by default.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    finished = False
    try:
        for number, found in measured:
            for row in found:
                rows.append({name: plain_number(value) for name, value in row.items()})
                with (folder / "rows.jsonl").open("a", encoding="utf-8") as file:
                    file.write(to_json(rows[-1]) + "\n")
                show(number, rows[-1])
        finished = True
    finally:
        (write or write_results)(rows, {**facts, "finished": finished}, folder)


def write_results(rows: Sequence[Row], facts: Mapping[str, Any], folder: Path) -> None:
    """Write results.csv, results.json, and a figure for each axis that varies or one for the only size."""
    write_tables(COLUMNS, rows, facts, folder)
    done = [row for row in rows if row["status"] == "ok"]
    places = dict.fromkeys((row["dtype"], row["device"]) for row in done)
    for dtype, device in places:
        place = [row for row in done if (row["dtype"], row["device"]) == (dtype, device)]
        end = f"_{dtype}_{device.replace(':', '_')}.png" if len(places) > 1 else ".png"
        lines = {axis: _lines(place, axis) for axis in ("d", "n")}
        for axis in lines:
            if lines[axis]:
                _plot_lines(lines[axis], axis, folder / f"times_by_{axis}{end}")
        if not any(lines.values()):
            _plot_points(place, folder / f"times{end}")


def write_tables(columns: Sequence[str], rows: Sequence[Row], facts: Mapping[str, Any], folder: Path) -> None:
    """Write results.csv with these columns, and results.json with everything."""
    content = to_csv(columns, ([row.get(name) for name in columns] for row in rows))
    write_atomically(folder / "results.csv", content)
    write_atomically(folder / "results.json", (to_json({**facts, "rows": rows}, indent=1) + "\n").encode())


def title(row: Row) -> str:
    """The rule and what was set."""
    return ", ".join(filter(None, (row["rule"], row["variant"])))


def _words(row: Row) -> str:
    """As `title`, with the rule's name in the literature."""
    entry = {**RULES, **PRE_AGGREGATORS}.get(row["rule"])
    return title({**row, "rule": row["rule"] if entry is None else entry.title})


def line(row: Row) -> str:
    """A row for a log file."""
    where = f"{title(row)} ({row['n']:,} × {row['d']:,}, {row['dtype']}, {row['device']})"
    if row["status"] != "ok":
        return f"{where} {row['status']}: {row['reason']}"
    peer = f", {row['peer']} {1e3 * row['peer_seconds_median']:.3g} ms" if row["ratio"] else ""
    return f"{where} {1e3 * row['seconds_median']:.3g} ms{peer}"


def remarks(rows: Sequence[Row]) -> list[str]:
    """The meaning of the columns, the floors, the rows without a figure, and notes on the comparisons."""
    notes: dict[str, list[str]] = {}
    floors: dict[str, None] = {}
    for row in rows:
        if row["status"] == "ok":
            size = f"{row['n']:,} × {row['d']:,}, {row['dtype']}, {row['device']}"
            speeds = [row["matrix_bytes"] / row[f"{floor}_seconds"] / 1e9 for floor in FLOORS]
            speeds = [f"{floor.replace('_', ' ')} {text(s)}" for floor, s in zip(FLOORS, speeds, strict=True)]
            floors[f"GB/s of {size}: {', '.join(speeds)}"] = None
        if row["peer_note"]:
            notes.setdefault(row["peer_note"], []).append(title(row))
    shown = [f"{note}: {'; '.join(dict.fromkeys(names))}" for note, names in notes.items()]
    caption = CAPTION + PEER_CAPTION * any(row["peer"] for row in rows)
    return [caption, *floors, *(line(row) for row in rows if row["status"] != "ok"), *shown]


def tables(rows: Sequence[Row]) -> list[Table]:
    """For a terminal, one per type and device."""
    by_place: dict[str, list[Row]] = {}
    for row in rows:
        if row["status"] == "ok":
            by_place.setdefault(f"{row['dtype']}, {row['device']}", []).append(row)
    return [_table(place, found) for place, found in by_place.items()]


def _table(place: str, rows: Sequence[Row]) -> Table:
    compared = any(row["peer"] for row in rows)
    table = Table(title=place, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("rule")
    header = ["n", "d", "f", "compile s", "ms", "±", "calls", "GB/s", "of copy", "of read", "memory"]
    for name in header + ["peer ms", "peer/ours", "diff"] * compared:
        table.add_column(name, justify="right")
    plain = ("calls", "gb_per_s", "of_copy", "of_read", "memory_multiple")
    for row in rows:
        times = [1e3 * row["seconds_median"], 500 * (row["seconds_q3"] - row["seconds_q1"])]
        values = [row["n"], row["d"], row["num_malicious"], row["seconds_compile"], *times]
        values += [row[name] for name in plain]
        if compared:
            peer = row["peer_seconds_median"]
            values += [peer and 1e3 * peer, row["ratio"], row["difference"]]
        table.add_row(title(row), *map(text, values))
    return table


def text(value: Any) -> str:
    """A figure with as many digits as a reader needs."""
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 100 else f"{value:.0e}" if 0 < value < 1e-3 else f"{value:.2g}"
    return "" if value is None else f"{value:,}" if isinstance(value, int) else value


def _lines(rows: Sequence[Row], axis: str) -> dict[str, dict[int, list[Row]]]:
    """By rule and by the other one of n and d: the rows along `axis`, where there are several."""
    lines: dict[str, dict[int, list[Row]]] = {}
    for row in sorted(rows, key=lambda row: (row["n"], row["d"])):
        lines.setdefault(title(row), {}).setdefault(row["d" if axis == "n" else "n"], []).append(row)
    long = {rule: {at: run for at, run in runs.items() if len(run) > 1} for rule, runs in lines.items()}
    return {rule: runs for rule, runs in long.items() if runs}


def _plot_lines(lines: Mapping[str, Mapping[int, list[Row]]], axis: str, path: Path) -> None:
    """A panel per rule, log-log: time over `axis`, a shade for each value of the other one of n and d."""
    import matplotlib
    from matplotlib.lines import Line2D

    from fljax.report.style import save, sheet, stacked, tidy

    others = sorted({at for runs in lines.values() for at in runs})
    shades = matplotlib.colormaps["viridis"](np.linspace(0.05, 0.8, len(others)))
    columns = min(4, len(lines))
    rows = -(-len(lines) // columns)
    names = {"d": "parameters (d)", "n": "clients (n)"}
    first = next(iter(next(iter(lines.values())).values()))[0]
    facts = "{dtype}, {device}".format(**first)
    heights = [0.4, 2.0 * rows]
    figure, body = sheet(
        max(2.5 * columns + 0.5, 7.0), sum(heights), f"Time of a call by {names[axis]}", facts
    )
    top, rest = stacked(body, heights)
    axes = rest.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for panel in axes.flat[len(lines) :]:
        panel.set_visible(False)
    kinds: dict[str, str] = {}
    for i, runs in enumerate(lines.values()):
        panel = axes.flat[i]
        for at, run in runs.items():
            for label, column, style in (
                ("fljax", "seconds_median", "o-"),
                (run[0]["peer"], "peer_seconds_median", "s--"),
                ("copy the matrix", "copy_seconds", ":"),
            ):
                points = [(row[axis], row[column]) for row in run if row[column]]
                if points:
                    color = shades[others.index(at)]
                    panel.plot(*zip(*points, strict=True), style, ms=3, lw=1.1, color=color)
                    kinds[label] = style
        panel.set(xscale="log", yscale="log")
        panel.set_title(_words(next(iter(runs.values()))[0]), fontsize=8)
        if i >= len(lines) - columns:
            panel.set_xlabel(names[axis], fontsize=8)
            panel.tick_params(labelbottom=True)
        if i % columns == 0:
            panel.set_ylabel("seconds", fontsize=8)
    tidy(axes.flat, "both")
    other = "n" if axis == "d" else "d"
    handles = [
        Line2D([], [], color=shade, lw=3, label=f"{other} = {at:,}")
        for at, shade in zip(others, shades, strict=True)
    ]
    handles += [
        Line2D([], [], color="#333333", marker=style[0].strip(":"), ls=style.lstrip("os"), ms=4, label=kind)
        for kind, style in kinds.items()
    ]
    top.legend(handles=handles, loc="upper left", ncols=4, fontsize=8, frameon=False)
    save(figure, path)


def _plot_points(rows: Sequence[Row], path: Path) -> None:
    """Every rule at its only size, the fastest on top, with the floors of that size."""
    from fljax.report.style import COLORS, save, sheet, tidy

    rows = sorted(rows, key=lambda row: -row["seconds_median"])
    size = "{n:,} × {d:,}"
    one = len({size.format(**row) for row in rows}) == 1
    facts = (f"{size} (clients × parameters), " * one + "{dtype}, {device}").format(**rows[0])
    figure, body = sheet(7.5, 0.21 * len(rows) + 1.3, "Time of a call", facts)
    panel = body.subplots()
    peer = next((row["peer"] for row in rows if row["ratio"]), None)
    for label, column, style, color in (
        ("read the matrix", "read_seconds", "|", COLORS[2]),
        ("copy the matrix", "copy_seconds", "|", COLORS[4]),
        (peer, "peer_seconds_median", "D", COLORS[5]),
        ("fljax", "seconds_median", "o", COLORS[0]),
    ):
        points = [(row[column], i) for i, row in enumerate(rows) if row[column]]
        if points:
            panel.plot(*zip(*points, strict=True), style, color=color, label=label, ms=5)
    names = [_words(row) + ("" if one else f"  {size.format(**row)}") for row in rows]
    panel.set_yticks(range(len(rows)), names)
    panel.set(xscale="log", xlabel="seconds", ylim=(-0.7, len(rows) - 0.3))
    tidy([panel], "x")
    panel.tick_params(axis="y", length=0, labelsize=7)
    body.legend(loc="outside upper left", ncols=4, frameon=False, fontsize=8)
    save(figure, path)
