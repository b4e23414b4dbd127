"""The command `fljax watch`: how far a sweep or a run is, read from the folder that a process writes."""

import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.text import Text

from fljax.errors import ConfigError, DataError
from fljax.files import read_table, reason
from fljax.host.locking import LOCK
from fljax.host.terminal import Table
from fljax.report.results import read_about
from fljax.report.run_folder import RUN_FILES, read_lines_of
from fljax.simulation.lines import EVALUATED, Line, evaluated_columns, metric_of
from fljax.simulation.progress import duration, per_second
from fljax.sweeps.display import SHOWN, SILENCE, fitting, latest_table
from fljax.sweeps.folder import Row
from fljax.sweeps.tables import parts_of, read_parquet
from fljax.sweeps.tally import Failed, Running, Status, read_status


class State(NamedTuple):
    """How far a folder is.

    Attributes:
        head: one line: what is there, and how much of it is done.
        done: of `total`; 0 of 0 where nothing is known.
        total: cells or rounds.
        facts: further lines.
        tables: what runs and what has failed.
        rows: the cells that are done, the latest last.
        axes: their columns.
        over: whether nothing more will come.
    """

    head: str
    done: int = 0
    total: int = 0
    facts: Sequence[str] = ()
    tables: Sequence[Table] = ()
    rows: Sequence[Row] = ()
    axes: Sequence[str] = ()
    over: bool = False


def watch(console: Console, folder: Path, once: bool, every: float) -> None:
    """Show a folder until it is finished; nothing in it is changed.

    Args:
        console: where to draw; on anything but a terminal a line is printed when something has changed.
        folder: a sweep's or a run's, finished, under way or empty.
        once: whether to show it once and leave.
        every: seconds between two looks.

    Raises:
        ConfigError: if there is no such folder, or it holds something else.
        DataError: if a file in it is damaged.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder")
    if not every > 0:
        raise ConfigError(f"--every must be above 0 seconds, got {every:g}")
    look = Look(folder)
    if once:
        console.print(_drawn(console, look(), whole=True))
    elif console.is_terminal:
        with Live(console=console, auto_refresh=False) as live:
            for state in _states(look, every):
                live.update(_drawn(console, state, whole=state.over), refresh=True)
    else:
        said, when = "", 0.0
        for state in _states(look, every):
            line = "  ".join([state.head, *state.facts])
            if state.head != said or state.over or time.monotonic() - when > SILENCE:
                console.print(line, markup=False, highlight=False, soft_wrap=True)
                said, when = state.head, time.monotonic()


def _states(look: "Look", every: float) -> Iterator[State]:
    while True:
        state = look()
        yield state
        if state.over:
            return
        time.sleep(every)


def _drawn(console: Console, state: State, whole: bool) -> Group:
    lines: list[Any] = [Text(state.head, "bold")]
    if state.total:
        bar = Table.grid()
        bar.add_row(ProgressBar(state.total, state.done, width=min(console.width, 60)))
        lines.append(bar)
    lines += [Text(fact) for fact in state.facts]
    lines += state.tables

    def with_rows(rows: Sequence[Row]) -> Group:
        return Group(*lines, latest_table(rows, state.axes))

    rows = state.rows[-SHOWN:]
    if not rows:
        return Group(*lines)
    return with_rows(rows) if whole else fitting(console, rows, with_rows, Group(*lines))


class Look:
    """Reads a folder, files that have not changed only once.

    Args:
        folder: a sweep's or a run's.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[Path, tuple[tuple[int, int], list[Row]]] = {}
        self._seen: dict[str, Row] = {}

    def __call__(self) -> State:
        folder = self._folder
        if (folder / "sweep.json").is_file():
            return self._sweep()
        if (folder / RUN_FILES[0]).is_file():
            return _run(folder)
        there = [path for path in folder.iterdir() if not path.name.startswith(".")]
        if there:
            raise ConfigError(f"{folder} is neither a sweep's folder nor a run's: it has no sweep.json")
        return State(f"{folder} is empty: waiting for a sweep or a run")

    def _sweep(self) -> State:
        folder = self._folder
        about = read_about(folder)
        for row in self._rows():
            self._seen.setdefault(str(row["cell"]), row)
        rows = list(self._seen.values())
        status = read_status(folder)
        total, done = about["cells"], len(rows)
        works = done < total and status is not None and not status.ended and _alive(status)
        running = status.running if works and status else []
        failed = status.failed if status and done < total else []
        counts = {
            "done": done,
            "running": sum(each.cells for each in running),
            "failed": sum(each.cells for each in failed),
        }
        counts["to do"] = total - sum(counts.values())
        diverged = sum(bool(row["diverged"]) for row in rows)
        head = f"{about['name']}: " + ", ".join(
            f"{count:,} {word}" if word != "done" else f"{count:,} of {total:,} cells done"
            for word, count in counts.items()
            if count or word == "done"
        )
        facts = [f"{diverged} diverged (†)"] * bool(diverged)
        if works and status:
            facts += _speed(status)
        elif done < total:
            facts.append(_how_to_go_on(folder, status))
        axes = [name for name, values in about["axes"].items() if len(values) > 1]
        known = [name for name in axes if rows and name in rows[0]]
        tables = [*_running_table(running), *_failed_table(failed)]
        return State(head, done, total, facts, tables, rows, known, over=done >= total or not works)

    def _rows(self) -> Iterator[Row]:
        """The rows that are there, those of the files that were written last at the end."""
        files = [self._folder / "results.parquet", *parts_of(self._folder)]
        found = []
        for path in files:
            try:
                status = path.stat()
                stamp = status.st_mtime_ns, status.st_size
                if self._read.get(path, (None,))[0] != stamp:
                    self._read[path] = stamp, _rows_of(path)
            except FileNotFoundError:
                continue
            except DataError:
                # The whole table takes the place of the parts while they are read.
                if path.exists():
                    raise
                continue
            except OSError as error:
                raise DataError(f"{path}: cannot be read ({reason(error)})") from None
            found.append((stamp, path))
        for _, path in sorted(found):
            yield from self._read[path][1]


def _rows_of(path: Path) -> list[Row]:
    table = read_parquet(path)
    missing = [name for name in ("cell", "diverged", *EVALUATED) if name not in table.column_names]
    if missing:
        raise DataError(f"{path} lacks the columns {', '.join(missing)}")
    return table.to_pylist()


def _alive(status: Status) -> bool:
    """True if the process is at work, as far as can be known: of another machine that it was lately."""
    if status.host == socket.gethostname():
        return psutil.pid_exists(status.process)
    return time.time() - status.written < 10 * SILENCE


def _speed(status: Status) -> list[str]:
    parts = [per_second(status.rounds_per_second)]
    if status.seconds_left is not None:
        # What it was when it was written.
        passed = time.time() - status.written
        parts.append(f"{duration(max(status.seconds_left - passed, 0))} left")
    done, programs = status.programs
    parts.append(f"program {done}/{programs}")
    lines = ["  ".join(parts)]
    lines += [f"compiling {text}" for text in status.compiling]
    since = duration(time.time() - status.started)
    return [*lines, f"running for {since} as process {status.process} on {status.host}"]


def _how_to_go_on(folder: Path, status: Status | None) -> str:
    what = "ended" if status is None or status.ended else "its process is gone"
    return f"nobody works on it: {what}; go on with: fljax sweep CONFIG --out {folder} --resume"


def _running_table(running: Sequence[Running]) -> list[Table]:
    table = Table(title="running", title_justify="left")
    table.add_column("rule, attack")
    table.add_column("cells", justify="right")
    table.add_column("rounds", justify="right")
    for each in running:
        table.add_row(Text(each.what), str(each.cells), f"{each.rounds}/{each.of}")
    return [table] * bool(running)


def _failed_table(failed: Sequence[Failed]) -> list[Table]:
    table = Table(title="failed", title_justify="left")
    table.add_column("rule, attack")
    table.add_column("cells", justify="right")
    table.add_column("why")
    for each in failed:
        table.add_row(Text(each.what), str(each.cells), Text(f"{each.error}: {each.reason}"))
    return [table] * bool(failed)


def _run(folder: Path) -> State:
    """A run's folder: its rounds, and what the last evaluation has measured."""
    total = read_table(folder / RUN_FILES[0]).get("rounds")
    if not isinstance(total, int):
        raise DataError(f"{folder / RUN_FILES[0]} is damaged: rounds = {total}")
    name = folder.resolve().name
    path = folder / RUN_FILES[1]
    lines = read_lines_of(folder) if path.exists() and path.stat().st_size else []
    last: Line = lines[-1] if lines else {}
    done = int(last.get("round") or 0)
    facts = [
        "  ".join(
            f"{metric_of(column).short} {value:.4f}"
            for column in evaluated_columns(last)
            if (value := last[column]) is not None
        )
    ] * bool(lines)
    over = (folder / "summary.json").exists()
    works = not over and _holder(folder)
    if works and lines:
        # Of the last evaluations: the machine may have had other work before.
        late = lines[-5:]
        seconds = sum(line["seconds"] or 0 for line in late)
        rate = len(late) * (done / len(lines)) / max(seconds, 1e-9)
        facts.append(f"{per_second(rate)}  {duration((total - done) / rate)} left")
    if not over and not works:
        facts.append(f"nobody works on it; go on with: fljax run CONFIG --out {folder} --resume")
    end = " (diverged)" if last.get("diverged") else ", finished" if over else ""
    return State(f"{name}: {done:,} of {total:,} rounds{end}", done, total, facts, over=over or not works)


def _holder(folder: Path) -> bool:
    """True if a process holds the folder, by what it has written into its lock."""
    try:
        process, host, *_ = (folder / LOCK).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return False
    return host != socket.gethostname() or (process.isdecimal() and psutil.pid_exists(int(process)))
