"""A sweep's folder, read: sweep.json and results.parquet; or a run's, as a sweep of one cell."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
from pyarrow import compute

from fljax.config.plugins import load_recorded
from fljax.config.titles import NO_ATTACK
from fljax.engine.evaluate import NATURAL
from fljax.engine.metrics import Metric
from fljax.errors import ConfigError, DataError, unknown_name
from fljax.files import read_json
from fljax.report.outcomes import with_outcomes
from fljax.report.run_folder import RUN_FILES, read_run
from fljax.report.uncertainty import INTERVALS, SHORT
from fljax.simulation.lines import EVALUATED, MEASURED, evaluated_columns, metric_of
from fljax.sweeps.tables import parts_of, read_parquet

BASELINE = "FedAvg"
VALUES = ("last", "best")
# A metric of more columns than this, such as one of each class, has them in CSV files and the run's figure.
MOST_OF_ONE = 2
# These always are columns; with seeds they are not axes of their own in a table.
MAIN_AXES = ("aggregator", "attack", "seed")
LISTS = ("curve_round", *(f"curve_{name}" for name in MEASURED))
NUMBERS = (*EVALUATED, "seconds_compile", "seconds_run", "rounds_per_second")
REQUIRED = (
    *("cell", "aggregator", "attack", "data", "seed", *NUMBERS, "diverged", "rounds"),
    *("curve_round", *(f"curve_{name}" for name in EVALUATED)),
)


@dataclass(frozen=True)
class Results:
    """The cells of a sweep that are there.

    Attributes:
        name: the sweep's.
        axes: names to labels in their order, as text.
        numeric: the axes whose labels all are numbers.
        total: how many cells there will be.
        config: what all cells share.
        frame: a row per cell; `aggregator`, `attack` and the axes but seed are ordered categories.
        progress: of a run, how far it is; of a sweep nothing.
        evaluated: what every evaluation measured, by column: configured metrics, too.
        derived: the numbers of whole runs that cells have, by column.
        value: "last" where numbers are those after the last round, "best" where they are those of each cell's
            round with the lowest test error.
        interval: the confidence intervals that tables have beside standard deviations, of
            `fljax.report.uncertainty.INTERVALS`; "" for none.
    """

    name: str
    axes: dict[str, list[str]]
    numeric: frozenset[str]
    total: int
    config: dict[str, Any]
    frame: pd.DataFrame
    progress: str = ""
    evaluated: Mapping[str, Metric] = field(default_factory=lambda: EVALUATED)
    derived: Mapping[str, Metric] = field(default_factory=dict)
    value: str = "last"
    interval: str = ""

    @property
    def when(self) -> str:
        """The round that numbers are of, in words."""
        return "after the last round" if self.value == "last" else "in the best round of each run"

    @property
    def ends(self) -> tuple[str, str]:
        """The columns of a summary with the ends of what figures draw around a mean."""
        return ("low", "high") if self.interval else ("min", "max")

    @property
    def around(self) -> str:
        """A mean and what figures draw around it, in words."""
        if self.seeds < 2:
            return "Values"
        return f"Mean and {SHORT[self.interval] if self.interval else 'range of the seeds'}"

    def at_best(self) -> "Results":
        """The same with the numbers of each cell's round with the lowest test error, by its curves."""
        names = [name for name in self.evaluated if f"curve_{name}" in self.frame]
        columns: dict[str, list[float]] = {name: [] for name in names}
        for row in self.frame.to_dict("records"):
            errors = _curve(row, "test_error")
            place = int(np.nanargmin(errors)) if np.isfinite(errors).any() else -1
            for name in names:
                curve = _curve(row, name)
                columns[name].append(float(curve[place]) if place < len(curve) else math.nan)
        return replace(self, frame=self.frame.assign(**columns), value="best")

    @property
    def lists(self) -> tuple[str, ...]:
        """The columns of curves."""
        further = (f"curve_{name}" for name in self.evaluated)
        return tuple(dict.fromkeys((*LISTS, *further)))

    @property
    def shown(self) -> list[str]:
        """The metrics of an evaluation that have tables and panels: those of few columns.

        The natural success of a trigger is shown beside the attack's.
        """
        counts = Counter(metric.panel for metric in self.evaluated.values())
        few = [name for name, metric in self.evaluated.items() if counts[metric.panel] <= MOST_OF_ONE]
        return [name for name in few if not name.startswith(NATURAL)]

    @property
    def is_run(self) -> bool:
        """True if this is a single run's folder."""
        return bool(self.progress)

    @property
    def further(self) -> list[str]:
        """The axes besides rule, attack and seed that have several values."""
        return [axis for axis, labels in self.axes.items() if axis not in MAIN_AXES and len(labels) > 1]

    @property
    def rules(self) -> list[str]:
        """All labels of rules, in order."""
        return list(self.frame["aggregator"].cat.categories)

    @property
    def attacks(self) -> list[str]:
        """All labels of attacks, in order."""
        return list(self.frame["attack"].cat.categories)

    @property
    def real_attacks(self) -> list[str]:
        """The attacks without "no attack"."""
        return [attack for attack in self.attacks if attack != NO_ATTACK]

    @property
    def seeds(self) -> int:
        """The number of seeds of every combination when the sweep is finished."""
        return max(len(self.axes.get("seed", [])), 1)

    def combinations(self) -> list[tuple[dict[str, str], pd.DataFrame]]:
        """Labels and cells of every combination of the further axes that is there."""
        if not self.further:
            return [({}, self.frame)]
        groups = self.frame.groupby(self.further, observed=True)
        return [(dict(zip(self.further, map(str, key), strict=True)), cells) for key, cells in groups]


def label(value: Any) -> str:
    """An axis' value as text, the same from JSON and from Parquet.

    Example:
        >>> [label(value) for value in (0.1, 5, 5.0, True, None, "Krum")]
        ['0.1', '5', '5', 'true', 'none', 'Krum']
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.12g}" if isinstance(value, int | float) else str(value)


def _curve(row: Mapping[str, Any], name: str) -> np.ndarray:
    """A cell's curve, a gap where it has none."""
    values = row[f"curve_{name}"]
    return np.asarray([math.nan] if values is None else values, float)


def load_results(folder: str | Path, value: str = "last", interval: str = "") -> Results:
    """Read a sweep's folder, or a run's.

    Args:
        folder: with sweep.json and results.parquet, of which cells may be missing; or with a run's
            config.json and metrics.jsonl.
        value: "last" for the numbers after the last round, "best" for those of each cell's round with the
            lowest test error.
        interval: "student" or "bootstrap" for confidence intervals of the means; "" for none.

    Returns:
        The `Results`; a run's are those of a sweep of one cell.

    Raises:
        ConfigError: if there is no such value or interval.
        DataError: if this is no such folder, no cell is done, or a file is damaged.
    """
    if value not in VALUES:
        raise ConfigError(unknown_name("value", value, VALUES))
    if interval and interval not in INTERVALS:
        raise ConfigError(unknown_name("interval", interval, INTERVALS))
    results = _load(Path(folder))
    results = results.at_best() if value == "best" else results
    frame, derived = with_outcomes(results.frame)
    return replace(results, frame=frame, derived=derived, interval=interval)


def _load(folder: Path) -> Results:
    if not (folder / "sweep.json").exists() and all((folder / name).is_file() for name in RUN_FILES):
        name, row, config, progress = read_run(folder)
        lists = [name for name in row if name.startswith("curve_")]
        frame = pd.DataFrame([row]).assign(**{name: [row[name]] for name in lists})
        frame = _categories(_numbers(frame, folder), {})[0]
        return Results(
            name=name,
            axes={},
            numeric=frozenset(),
            total=1,
            config=config,
            frame=frame,
            progress=progress,
            evaluated=_evaluated(frame),
        )
    about = read_about(folder)
    load_recorded(about["config"])
    path = folder / "results.parquet"
    if not path.is_file():
        raise DataError(f"{folder} has no results yet: results.parquet is missing")
    table = _read_tables(path, parts_of(folder))
    frame = table.to_pandas()
    if "cell" in frame:
        frame = frame.drop_duplicates("cell", ignore_index=True)
    given = about["axes"]
    missing = [name for name in (*REQUIRED, *given) if name not in frame]
    if missing:
        raise DataError(f"{path} lacks the columns {', '.join(missing)}")
    if frame.empty:
        raise DataError(f"{folder} has no results yet: no cell is done")
    _check_curves(table, path)
    # An earlier version measured fewer numbers of a round.
    frame = frame.assign(**{name: None for name in LISTS if name not in frame})
    frame, axes = _categories(_numbers(frame, path), given)
    numeric = frozenset(name for name, values in given.items() if values and all(map(_is_number, values)))
    return Results(
        name=about["name"],
        axes=axes,
        numeric=numeric,
        total=about["cells"],
        config=about["config"],
        frame=frame,
        evaluated=_evaluated(frame),
    )


def _evaluated(frame: Iterable[str]) -> dict[str, Metric]:
    """The metrics of the cells' evaluations, by the columns of a table."""
    curves = [name.removeprefix("curve_") for name in frame if name.startswith("curve_")]
    return EVALUATED | {name: metric_of(name) for name in evaluated_columns(curves) if name in set(frame)}


def _numbers(frame: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Give the numeric columns their types, which a column of nulls alone does not have."""
    kinds = {
        **dict.fromkeys((*NUMBERS, *_evaluated(frame)), float),
        "seed": int,
        "rounds": int,
        "diverged": bool,
    }
    for name, kind in kinds.items():
        try:
            frame = frame.assign(**{name: frame[name].astype(kind)})
        except (ValueError, TypeError):
            what = "yes or no" if kind is bool else "numbers"
            raise DataError(f"{path} is damaged: the column {name} does not hold {what}") from None
    return frame


def _check_curves(table: pyarrow.Table, path: Path) -> None:
    """Raise unless the curves are lists of numbers, each as long as its cell's rounds."""
    wanted = None
    for name in dict.fromkeys([*LISTS, *(f"curve_{each}" for each in _evaluated(table.column_names))]):
        if name not in table.column_names:
            continue
        column = table[name]
        kind = column.type
        if pyarrow.types.is_null(kind):
            continue
        is_list = pyarrow.types.is_list(kind) or pyarrow.types.is_large_list(kind)
        item = kind.value_type if is_list else pyarrow.string()
        checks = pyarrow.types.is_integer, pyarrow.types.is_floating, pyarrow.types.is_null
        if not any(check(item) for check in checks):
            raise DataError(f"{path} is damaged: the column {name} does not hold lists of numbers")
        lengths = compute.list_value_length(column).to_pandas()
        wanted = lengths if wanted is None else wanted
        if ((lengths != wanted) & lengths.notna() & wanted.notna()).any():
            raise DataError(f"{path} is damaged: the lists in {name} are not as long as those in {LISTS[0]}")


def _categories(
    frame: pd.DataFrame, given: dict[str, list[Any]]
) -> tuple[pd.DataFrame, dict[str, list[str]]]:
    """Axes as ordered categories, and their labels: in the order given, numbers by size."""
    axes = {}
    for name, values in given.items():
        ordered = sorted(values) if values and all(map(_is_number, values)) else values
        axes[name] = [label(value) for value in ordered]
    for name in dict.fromkeys(["aggregator", "attack", *axes]):
        if name != "seed":
            texts = [label(value) for value in frame[name].tolist()]
            labels = list(dict.fromkeys([*axes.get(name, []), *texts]))
            frame = frame.assign(**{name: pd.Categorical(texts, categories=labels, ordered=True)})
            axes |= {name: labels} if name in axes else {}
    return frame, axes


def _read_tables(whole: Path, parts: Sequence[Path]) -> pyarrow.Table:
    """The whole table, and the latest rows of a sweep under way, which are in files of their own."""
    read = []
    for part in parts:
        try:
            read.append(read_parquet(part))
        except DataError:
            if part.exists():  # else it is in the whole table by now
                raise
    table = read_parquet(whole)
    # Cells of other metrics may have other columns.
    return pyarrow.concat_tables([table, *read], promote_options="permissive")


def read_about(folder: Path) -> dict[str, Any]:
    """A sweep's sweep.json: its name, axes to their values, the number of cells, the config that they share.

    Raises:
        DataError: if there is none, or it is damaged.
    """
    path = folder / "sweep.json"
    if not path.is_file():
        raise DataError(_what_else(folder))
    about = read_json(path)
    kinds = {"name": str, "axes": dict, "cells": int}
    if not isinstance(about, dict) or not all(isinstance(about.get(k), kind) for k, kind in kinds.items()):
        raise DataError(f"{path} is not of a sweep: it needs name, axes and cells")
    wrong = [name for name, values in about["axes"].items() if not _are_labels(values)]
    if wrong:
        raise DataError(f"{path} is damaged: axes.{wrong[0]} is no list of numbers and names")
    if isinstance(about["cells"], bool) or about["cells"] < 1:
        raise DataError(f"{path} is damaged: cells = {about['cells']}, but a sweep has at least one")
    config = about.get("config", {})
    return about | {"config": config if isinstance(config, dict) else {}}


def _are_labels(values: Any) -> bool:
    return isinstance(values, list) and all(
        value is None or isinstance(value, str | int | float) for value in values
    )


def _what_else(folder: Path) -> str:
    """The message for a folder that is neither a sweep's nor a run's, with one inside that is."""
    if (folder / RUN_FILES[0]).is_file():
        return f"{folder} is a run's folder without results yet: it has no {RUN_FILES[1]}"
    try:
        inside = sorted(each for each in folder.iterdir() if each.is_dir()) if folder.is_dir() else []
    except OSError:
        inside = []
    found = [each for each in inside if (each / "sweep.json").is_file() or (each / RUN_FILES[1]).is_file()]
    hint = f"; {found[0]} is one" if found else ""
    return f"{folder} is neither a sweep's folder nor a run's: it has no sweep.json{hint}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
