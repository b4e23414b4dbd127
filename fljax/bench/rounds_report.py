"""Results of a benchmark of rounds: a table, CSV and JSON."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD

from fljax.bench.measure import Row
from fljax.bench.report import text, write_tables
from fljax.bench.rounds import COLUMNS, exponents
from fljax.host.terminal import Table

CAPTION = (
    "ms: median of a round, evaluation apart; ±: half the distance of the quartiles; CPU: of all cores. "
    "Shares: gradients are a round of FedAvg without an attack, attack and rule what a round takes more "
    "with them; evaluation is one of the whole test set. floor: share of the time in which the machine's "
    "large matrix products do the operations of all clients' gradients. MB: arguments, results and "
    "temporaries of the compiled rounds. times: the peer's median over fljax's, in turns. Compiling is not "
    "part of a round."
)
HEADER = (
    *("who", "ms", "±", "CPU ms", "rounds/s", "examples/s", "times"),
    *("gradients", "attack", "rule", "evaluation", "floor", "compile s", "MB"),
)


def write_results(rows: Sequence[Row], facts: Mapping[str, Any], folder: Path) -> None:
    """Write results.csv and results.json."""
    write_tables(COLUMNS, rows, {**facts, "exponents": exponents(rows)}, folder)


def title(row: Row) -> str:
    """The job and who does it."""
    return f"{row['job']}: {row['who']}"


def line(row: Row) -> str:
    """A row for a log file."""
    if row["status"] != "ok":
        return f"{title(row)} {row['status']}: {row['reason']}"
    times = "" if row["ratio"] is None else f", {row['ratio']:.2f} times"
    return f"{title(row)} {1e3 * row['seconds_median']:.3g} ms{times}"


def _cells(row: Row) -> list[str]:
    ms = [1e3 * row["seconds_median"], 500 * (row["seconds_q3"] - row["seconds_q1"])]
    figures = [*ms, 1e3 * row["cpu_seconds_median"]]
    figures += [row["rounds_per_second"], row["examples_per_second"], row["ratio"]]
    shares = [row[name] for name in ("gradients", "attack", "rule", "evaluation", "of_floor")]
    size = row["program_bytes"]
    cells = [*figures, *(share if share is None else f"{100 * share:.0f} %" for share in shares)]
    return [row["who"], *map(text, [*cells, row["seconds_compile"], size and size / 1e6])]


def tables(rows: Sequence[Row]) -> list[Table]:
    """For a terminal, one per job."""
    by_job: dict[str, list[Row]] = {}
    for row in rows:
        if row["status"] == "ok":
            by_job.setdefault(row["job"], []).append(row)
    found = []
    for job, own in by_job.items():
        first = own[0]
        sizes = [("n", "clients"), ("d", "num_params"), ("b", "batch"), ("R", "steps")]
        work = ", ".join(f"{symbol} = {first[name]:,g}" for symbol, name in sizes)
        table = Table(title=f"{job} ({work})", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for name in HEADER:
            table.add_column(name, justify="left" if name == "who" else "right")
        for row in own:
            table.add_row(*_cells(row))
        found.append(table)
    return found


def remarks(rows: Sequence[Row]) -> list[str]:
    """The meaning of the columns, fitted exponents, and the rows without a figure."""
    fitted = [
        f"seconds ~ {key.replace(', ', '^p of ', 1)}: p = {p:.2f}" for key, p in exponents(rows).items()
    ]
    loads = [row["load_average"] for row in rows if row["load_average"] is not None]
    loaded = [f"load average: {min(loads):.1f} to {max(loads):.1f}"] if loads else []
    return [CAPTION, *loaded, *fitted, *(line(row) for row in rows if row["status"] != "ok")]
