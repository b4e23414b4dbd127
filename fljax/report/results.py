"""A sweep's folder, read: sweep.json and results.parquet."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow
from pyarrow import parquet

from fljax.errors import DataError

NO_ATTACK = "no attack"
BASELINE = "FedAvg"
# These always are columns; with seeds they are not axes of their own in a table.
MAIN_AXES = ("aggregator", "attack", "seed")
CURVES = (
    "test_error",
    "attack_success_rate",
    "loss",
    "update_norm",
    "trust_benign",
    "trust_malicious",
    "benign_accepted",
    "malicious_accepted",
)
LISTS = ("curve_round", *(f"curve_{name}" for name in CURVES))
NUMBERS = ("test_error", "attack_success_rate", "seconds_compile", "seconds_run", "rounds_per_second")
REQUIRED = ("cell", "aggregator", "attack", "data", "seed", *NUMBERS, "diverged", "rounds")


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
    """

    name: str
    axes: dict[str, list[str]]
    numeric: frozenset[str]
    total: int
    config: dict[str, Any]
    frame: pd.DataFrame

    @property
    def further(self) -> list[str]:
        """The axes besides rule, attack and seed."""
        return [axis for axis in self.axes if axis not in MAIN_AXES]

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
        """How many seeds there will be of everything."""
        return max(len(self.axes.get("seed", [])), 1)

    def combinations(self) -> list[tuple[dict[str, str], pd.DataFrame]]:
        """For each combination of the further axes that is there: its labels, and its cells."""
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


def load_results(folder: str | Path) -> Results:
    """Read a sweep's folder.

    Args:
        folder: with sweep.json and results.parquet; cells may be missing.

    Returns:
        The `Results`.

    Raises:
        DataError: if this is no sweep's folder, no cell is done, or a file is damaged.
    """
    folder = Path(folder)
    about = _read_about(folder / "sweep.json")
    path = folder / "results.parquet"
    if not path.is_file():
        raise DataError(f"{folder} has no results yet: results.parquet is missing")
    try:
        frame = parquet.ParquetFile(path).read().to_pandas()
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read as Parquet ({type(error).__name__})") from None
    missing = [name for name in (*REQUIRED, *LISTS, *about["axes"]) if name not in frame]
    if missing:
        raise DataError(f"{path} lacks the columns {', '.join(missing)}")
    if frame.empty:
        raise DataError(f"{folder} has no results yet: no cell is done")
    # A column of nulls alone comes without a number type.
    frame = frame.assign(**{name: frame[name].astype(float) for name in NUMBERS})
    given = about["axes"]
    axes = {name: [label(value) for value in values] for name, values in given.items()}
    for name in dict.fromkeys(["aggregator", "attack", *axes]):
        if name != "seed":
            texts = [label(value) for value in frame[name].tolist()]
            labels = list(dict.fromkeys([*axes.get(name, []), *texts]))
            frame[name] = pd.Categorical(texts, categories=labels, ordered=True)
            axes |= {name: labels} if name in axes else {}
    numeric = frozenset(name for name, values in given.items() if values and all(map(_is_number, values)))
    return Results(about["name"], axes, numeric, about["cells"], about.get("config", {}), frame)


def _read_about(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise DataError(f"{path.parent} is not a sweep's folder: it has no sweep.json")
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise DataError(f"{path} is damaged: it is not JSON") from None
    kinds = {"name": str, "axes": dict, "cells": int}
    if not isinstance(about, dict) or not all(isinstance(about.get(k), kind) for k, kind in kinds.items()):
        raise DataError(f"{path} is not of a sweep: it needs name, axes and cells")
    return about


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
