"""The command `fljax compare`."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from fljax.config.titles import axis_title
from fljax.host.terminal import Table
from fljax.report.contrast import SPEED, Contrast, Difference, as_json, contrast, title_of
from fljax.report.uncertainty import ALIKE, ALPHA, FEWEST
from fljax.simulation.lines import to_json

# Keys of two configurations that are shown; the JSON has all.
MOST_KEYS = 40


def show_comparison(console: Console, a: Path, b: Path, value: str, raw: bool) -> None:
    """Print what differs between two runs or two sweeps, as tables or as JSON.

    Args:
        console: where to print.
        a, b: the folders.
        value: "last" or "best".
        raw: whether to print JSON.
    """
    found = contrast(a, b, value)
    if raw:
        print(to_json(as_json(found) | {"a": str(a), "b": str(b)}, indent=1))
        return
    console.print(f"A: {a}\nB: {b}", markup=False, highlight=False, soft_wrap=True)
    console.print(_configurations(found) if found.config else "The configurations are the same.")
    for table in _metrics(found):
        console.print(table)
    for remark in _remarks(found):
        console.print(remark, markup=False, highlight=False, soft_wrap=True)


def _configurations(found: Contrast) -> Table:
    table = Table(title="configuration", title_justify="left", caption_justify="left")
    for name in ("key", "A", "B"):
        table.add_column(name)
    for key, values in list(found.config.items())[:MOST_KEYS]:
        cells = (json.dumps(values[side], ensure_ascii=False) if side in values else "–" for side in "ab")
        table.add_row(Text(key), *map(Text, cells))
    if len(found.config) > MOST_KEYS:
        table.caption = f"and {len(found.config) - MOST_KEYS} more; --json has all"
    return table


def _metrics(found: Contrast) -> list[Table]:
    """Of runs one table, a row per metric; of sweeps a table per metric, a row per place."""
    if found.a.is_run:
        table = _table(f"metrics {found.a.when}", ["metric"], tested=False)
        for each in found.differences[0]:
            table.add_row(Text(title_of(each.metric)), *_numbers(each, found, tested=False))
        return [table]
    axes = _varying(found)
    made = []
    for metric in found.a.shown:
        rows = [
            (place, each)
            for place, row in zip(found.places, found.differences, strict=True)
            for each in row
            if each.metric == metric
        ]
        if not rows:
            continue
        tested = any(not math.isnan(each.p_value) for _, each in rows)
        table = _table(f"{title_of(metric)} {found.a.when}", list(map(axis_title, axes)), tested)
        for place, each in rows:
            table.add_row(*(Text(place[axis]) for axis in axes), *_numbers(each, found, tested))
        made.append(table)
    return made


def _varying(found: Contrast) -> list[str]:
    every = [*found.places, *found.only_a, *found.only_b]
    axes = list(every[0]) if every else []
    several = {axis for axis in axes if len({place[axis] for place in every}) > 1}
    return [axis for axis in axes if axis in several or axis in ("aggregator", "attack")]


def _table(title: str, first: Sequence[str], tested: bool) -> Table:
    table = Table(title=Text(title), title_justify="left")
    for name in first:
        table.add_column(Text(name))
    for name in ("A", "B", "B − A"):
        table.add_column(name, justify="right")
    if tested:
        table.add_column("p", justify="right")
    return table


def _numbers(each: Difference, found: Contrast, tested: bool) -> list[Any]:
    digits = "{:.3g}" if each.metric == SPEED else "{:.4f}"
    a, b = ("–" if math.isnan(value) else digits.format(value) for value in (each.a, each.b))
    plus = "+" * (each.difference > 0)
    apart = "–" if math.isnan(each.difference) else f"{plus}{digits.format(each.difference)}"
    if not math.isnan(each.spread):
        apart += f" ± {digits.format(each.spread)}"
    if not found.a.is_run and 0 < each.seeds < found.a.seeds:
        apart += f" ({each.seeds})"
    p = ["" if math.isnan(each.p_value) else f"{each.p_value:.2g}{f' {ALIKE}' * (each.p_value >= ALPHA)}"]
    return [a, b, apart, *p * tested]


def _remarks(found: Contrast) -> list[str]:
    remarks = ["Every number that was measured is the same in both."] * found.equal
    if not found.a.is_run:
        spread = found.a.seeds > 1 and any(row for row in found.differences)
        remarks += [
            "Means over the seeds that both have, and of the difference its standard deviation over them; in "
            "parentheses their number where it is not that of A."
        ] * bool(spread)
        if any(not math.isnan(each.p_value) for row in found.differences for each in row):
            remarks.append(
                f"p: paired t-test over the seeds (at least {FEWEST}), Holm's over the rows; "
                f"{ALIKE} the seeds may make the difference."
            )
        for side, places in (("A", found.only_a), ("B", found.only_b)):
            if places:
                axes = _varying(found)
                first = ", ".join(places[0][axis] for axis in axes)
                remarks.append(f"{len(places)} places are only in {side}, first {first}.")
        if not found.places:
            remarks.append("No cell is in both.")
    return remarks
