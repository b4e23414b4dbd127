"""A sweep's folder: sweep.json, results.parquet with one row per finished cell, batches/ under way."""

import copy
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from fljax.config import keys
from fljax.config.plugins import without_folders
from fljax.errors import ConfigError, DataError
from fljax.files import read_json, write_atomically
from fljax.host.locking import FolderLock, check_free
from fljax.simulation.endings import best_values, stopped
from fljax.simulation.environment import environment
from fljax.simulation.lines import EVALUATED, MEASURED, PER_ROUND, Line, evaluated_columns, to_json
from fljax.simulation.run_folder import check_folder, is_empty
from fljax.sweeps.axes import Sweep
from fljax.sweeps.batch import CellResult
from fljax.sweeps.cells import Cell
from fljax.sweeps.plan import Group
from fljax.sweeps.tables import PARTS, parts_of, read_parquet

Row = dict[str, Any]
# Share of the time that writing the whole table may take; what has come since the last time is in parts/.
WHOLE_SHARE = 0.05
# The columns `curve_NAME`: values of all evaluations, a list a cell; configured metrics have further ones.
CURVES = ("round", *MEASURED)
# Columns that tables of earlier versions may not have.
_LATER: dict[str, pa.DataType] = {
    "aggregator_name": pa.string(),
    "attack_name": pa.string(),
    **{f"curve_{name}": pa.list_(pa.float64()) for name in PER_ROUND},
    "rounds_done": pa.int32(),
    "stopped": pa.string(),
    **{f"best_{name}": pa.float64() for name in EVALUATED},
    **{f"best_{name}_round": pa.int32() for name in EVALUATED},
}
_TYPES: dict[str, pa.DataType] = {
    "cell": pa.string(),
    "seed": pa.int64(),
    **dict.fromkeys(EVALUATED, pa.float64()),
    "diverged": pa.bool_(),
    "rounds": pa.int32(),
    **dict.fromkeys(("seconds_compile", "seconds_run", "rounds_per_second"), pa.float64()),
    "device": pa.string(),
    "versions": pa.string(),
    **dict.fromkeys(("num_clients", "num_malicious", "num_params", "group", "cells_at_once"), pa.int32()),
    "config": pa.string(),
    "curve_round": pa.list_(pa.int32()),
    **{f"curve_{name}": pa.list_(pa.float64()) for name in EVALUATED},
}


def make_rows(
    group: Group,
    cells: Sequence[Cell],
    results: Sequence[CellResult],
    seconds_compile: float,
    here: Mapping[str, Any] | None = None,
) -> list[Row]:
    """The rows of a finished batch.

    Args:
        group: of the batch.
        cells: its cells.
        results: what came out of each.
        seconds_compile: of the group's program, which all its cells share.
        here: device and versions; None for this process's.

    Returns:
        One row per cell, plain values.
    """
    here = environment() if here is None else here
    rows = []
    for cell, result in zip(cells, results, strict=True):
        last, part = result.lines[-1], group.parts[group.places[cell.id]]
        rounds = int(last["round"] or 0)
        rows.append(
            {
                "cell": cell.id,
                **{key: value for key, value in cell.axes.items() if key != "seed"},
                "aggregator_name": cell.config.aggregator.name,
                "attack_name": cell.config.attack.name,
                "seed": cell.config.seed,
                **{name: last[name] for name in evaluated_columns(last)},
                **_best(result.lines),
                "diverged": bool(last["diverged"]),
                "stopped": None if last["diverged"] else stopped(result.lines, cell.config.stop),
                # As an axis it is the cell's place in the table.
                "rounds": cell.axes.get("rounds", rounds),
                "rounds_done": rounds,
                "seconds_compile": round(seconds_compile, 3),
                "seconds_run": result.seconds,
                "rounds_per_second": round(rounds / max(result.seconds, 1e-9), 3),
                "device": here["device"],
                "versions": json.dumps(
                    here["versions"] | ({"changes": list(result.changes)} if result.changes else {})
                ),
                "num_clients": part.num_clients,
                "num_malicious": part.num_malicious,
                "num_params": group.num_params,
                "group": group.number,
                "cells_at_once": min(group.size, len(cells)),
                "config": to_json(cell.config.resolved()),
                **{
                    # Lines of an earlier version may not have it.
                    f"curve_{name}": [line.get(name) for line in result.lines]
                    for name in dict.fromkeys([*CURVES, *evaluated_columns(last)])
                },
            }
        )
    return rows


def _best(lines: Sequence[Line]) -> Row:
    """The best value of every metric, and the round that it was measured in."""
    columns: Row = {}
    for name, best in best_values(lines).items():
        columns |= {f"best_{name}": best.value, f"best_{name}_round": best.round}
    return columns


class SweepFolder:
    """The results of a sweep, whole at every moment; within a `with` no other process writes them.

    The rows of a batch are in a file of their own until the whole table is written again, which would
    otherwise take longer with every batch.

    Args:
        path: new or empty, or with `resume` the folder of the same sweep.
        sweep: the sweep.
        resume: whether to continue.

    Raises:
        ConfigError: if the folder holds something else, or another sweep, whose difference the message shows;
            if another process uses it.
    """

    def __init__(self, path: Path, sweep: Sweep, resume: bool) -> None:
        self.path, self._sweep = path, sweep
        self._resume = resume
        self._lock: FolderLock | None = None
        self._order = {cell.id: cell.number for cell in sweep.cells}
        self._known: set[str] = set()
        self._next_whole = 0.0
        check_sweep_folder(path, sweep, resume)
        self._read()

    def _read(self) -> None:
        self._rows = read_rows(self.path) if self._resume else []
        if any(row["cell"] not in self._order for row in self._rows):
            raise DataError(f"{self.path}/results.parquet holds cells that this sweep does not have")

    def __enter__(self) -> Self:
        """Hold the folder, if it is there: from now on nobody else writes it."""
        if self._resume and self.path.is_dir():
            self._lock = FolderLock(self.path)
            with ExitStack() as undo:
                undo.callback(self._lock.release)
                self._read()  # another process may have been at work until now
                undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            self._lock.release()

    @property
    def finished(self) -> set[str]:
        """Ids of the cells whose results are there."""
        if len(self._known) != len(self._rows):
            self._known = {row["cell"] for row in self._rows}
        return self._known

    @property
    def varying(self) -> list[str]:
        """The axes with more than one value."""
        return [name for name, values in self._sweep.axes.items() if len(values) > 1]

    @property
    def rows(self) -> list[Row]:
        """All rows, in the order of the sweep."""
        self._rows.sort(key=lambda row: self._order[row["cell"]])
        return self._rows

    def start(self) -> None:
        """Make the folder, hold it, and write sweep.json, if it is not there."""
        self.path.mkdir(parents=True, exist_ok=True)
        if self._lock is None:
            self._lock = FolderLock(self.path)
            if not is_empty(self.path):  # another process was faster
                raise ConfigError(f"{self.path} holds files already; use --resume or another folder")
        if not (self.path / "sweep.json").exists():
            write_atomically(self.path / "sweep.json", to_json(description(self._sweep), indent=1).encode())

    def add(self, rows: Sequence[Row]) -> None:
        """Add the rows of a batch: afterwards all of them are on the disk, or none if this fails."""
        known = self.finished
        new = [row for row in rows if row["cell"] not in known]
        if time.monotonic() >= self._next_whole:
            self._write([*self._rows, *new])
        elif new:
            (self.path / PARTS).mkdir(exist_ok=True)
            write_rows(self.path / PARTS / f"{new[0]['cell']}.parquet", new, self._sweep)
        self._rows += new
        known |= {row["cell"] for row in new}

    @property
    def merged(self) -> bool:
        """True if results.parquet holds all rows."""
        return not (self.path / PARTS).exists()

    def merge(self) -> None:
        """Have all rows in results.parquet."""
        if not self.merged:
            self._write(self._rows)

    def _write(self, rows: list[Row]) -> None:
        begin = time.monotonic()
        rows = sorted(rows, key=lambda row: self._order[row["cell"]])
        write_rows(self.path / "results.parquet", rows, self._sweep)
        shutil.rmtree(self.path / PARTS, ignore_errors=True)
        now = time.monotonic()
        self._next_whole = now + (now - begin) / WHOLE_SHARE

    def batch(self, identity: str) -> Path:
        """The folder of a batch under way."""
        return self.path / "batches" / identity

    @property
    def saved(self) -> set[str]:
        """Identities of the batches that have saved something."""
        return {file.parent.name for file in self.path.glob("batches/*/round_*")}

    def forget(self, identity: str | None = None) -> None:
        """Remove the folder of a batch whose rows are there, or of all batches."""
        gone = self.path / "batches" if identity is None else self.batch(identity)
        shutil.rmtree(gone, ignore_errors=True)

    def frame(self) -> pd.DataFrame:
        """The table."""
        return to_table(self.rows, self._sweep).to_pandas()


def description(sweep: Sweep) -> dict[str, Any]:
    """The content of sweep.json; its axes are those with several values, and rules, attacks and seeds."""
    always = {"aggregator", "attack", "seed"}
    axes = {name: values for name, values in sweep.axes.items() if len(values) > 1 or name in always}
    return {"name": sweep.name, "axes": axes, "cells": len(sweep.cells), "config": sweep.given}


def check_sweep_folder(path: Path, sweep: Sweep, resume: bool) -> None:
    """Raise unless the sweep can start, or continue, in `path`; writes nothing."""
    check_free(path)
    if not resume:
        check_folder(path)
        return
    if not (path / "sweep.json").is_file():
        if path.is_dir() and not is_empty(path):
            raise ConfigError(f"{path} holds no sweep to resume (no sweep.json)")
        if not path.is_dir():
            check_folder(path)
        return
    about = read_json(path / "sweep.json")
    if not isinstance(about, dict) or not isinstance(known := about.get("config"), dict):
        raise DataError(f"{path}/sweep.json is damaged: it holds no configuration")
    changes = differences(_identity(known), _identity(json.loads(to_json(sweep.given))))
    if changes:
        shown = "; ".join(changes[:5]) + (f"; and {len(changes) - 5} more" if len(changes) > 5 else "")
        raise ConfigError(f"{path} holds another sweep: {shown}")


def _identity(config: dict[str, Any]) -> dict[str, Any]:
    """A sweep's configuration without what its cells do not depend on."""
    config = copy.deepcopy(without_folders(config))
    for shown in ("sweep.published", "sweep.select"):  # what a report makes of them
        keys.delete(config, shown)
    return config


def differences(before: Any, after: Any, where: str = "") -> list[str]:
    """The differences of two nested values, one phrase each.

    Example:
        >>> differences({"rounds": 10, "sweep": {"seeds": 2}}, {"rounds": 20, "sweep": {"seeds": 2}})
        ['rounds was 10 and is 20']
    """
    if isinstance(before, dict) and isinstance(after, dict):
        found = []
        for key in dict.fromkeys([*before, *after]):
            place = f"{where}.{key}" if where else key
            if key not in after:
                found.append(f"{place} was {before[key]!r} and is not given")
            elif key not in before:
                found.append(f"{place} was not given and is {after[key]!r}")
            else:
                found += differences(before[key], after[key], place)
        return found
    return [] if before == after else [f"{where} was {before!r} and is {after!r}"]


def _schema(rows: Sequence[Row], sweep: Sweep) -> pa.Schema:
    names = dict.fromkeys(name for row in rows for name in row) or [*sweep.axes, *_TYPES, *_LATER]
    # A configured metric has a column of its own beside its curve; cells of other ones have none.
    further = {name.removeprefix("curve_") for name in names if name.startswith("curve_")} - {"round"}
    types = (
        dict.fromkeys(further, pa.float64())
        | {f"best_{name}": pa.float64() for name in further}
        | {f"best_{name}_round": pa.int32() for name in further}
        | {f"curve_{name}": pa.list_(pa.float64()) for name in further}
        | _LATER
        | _TYPES
    )
    fields = []
    for name in names:
        kind = types.get(name)
        if kind is None:
            values = [value for value in sweep.axes.get(name, []) if value is not None]
            # An axis of mixed kinds ("full" and 32) is text; whole numbers beside others are numbers.
            kinds = {type(value) for value in values}
            if kinds <= {int, float} and kinds:
                kind = pa.int64() if kinds == {int} else pa.float64()
            else:
                kind = pa.bool_() if kinds == {bool} else pa.string()
        fields.append(pa.field(name, kind))
    return pa.schema(fields)


def to_table(rows: Sequence[Row], sweep: Sweep) -> pa.Table:
    """The rows as an Arrow table."""
    schema = _schema(rows, sweep)

    def column(field: pa.Field) -> list[Any]:
        values = [row.get(field.name) for row in rows]
        if pa.types.is_string(field.type):
            return [
                value if value is None or isinstance(value, str) else json.dumps(value) for value in values
            ]
        return [float(v) if v is not None and pa.types.is_float64(field.type) else v for v in values]

    return pa.table({field.name: column(field) for field in schema}, schema=schema)


def write_rows(path: Path, rows: Sequence[Row], sweep: Sweep) -> None:
    """Write the table under another name, then rename."""
    sink = pa.BufferOutputStream()
    pq.write_table(to_table(rows, sweep), sink, compression="zstd")
    write_atomically(path, sink.getvalue().to_pybytes())


def read_rows(path: Path) -> list[Row]:
    """The rows of a folder's results.parquet, and those that are not in it yet.

    Raises:
        DataError: if a file is no such table.
    """
    files = [*path.glob("results.parquet"), *parts_of(path)]
    rows = {row["cell"]: row for file in files for row in _read_table(file)}
    return list(rows.values())


def _read_table(file: Path) -> list[Row]:
    rows = read_parquet(file).to_pylist()
    if rows and not rows[0].keys() >= _TYPES.keys():
        raise DataError(f"{file} is not a table of this version's sweeps; restore it, or use another folder")
    return rows
