"""A sweep's results in the layout of a published table, beside its numbers."""

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import pandas as pd

from fljax.errors import DataError
from fljax.published import Published, Value, attack_title, published
from fljax.report.results import Results
from fljax.report.summary import Entry, Table, describe

# A cell that differs from the published one by more than this, in error or success rate, is marked.
TOLERANCE = 0.03
LETTERS = ("H", "M", "L")


class Place(NamedTuple):
    """One cell of a published table: what was measured, means over the seeds, and what was published."""

    title: str
    attack: str
    column: str
    test_error: float | None
    attack_success_rate: float | None
    seeds: int
    value: Value | None

    @property
    def differs(self) -> bool:
        """Whether error or success rate is further than `TOLERANCE` from the published one."""
        if self.value is None or self.test_error is None:
            return False
        pairs = [(self.test_error, self.value.test_error)]
        if self.attack_success_rate is not None and self.value.attack_success_rate is not None:
            pairs.append((self.attack_success_rate, self.value.attack_success_rate))
        # Half a unit of the digits that are shown on top: 0.05 and 0.080 are 0.03 apart. Also True of NaN.
        return not all(abs(mine - theirs) <= TOLERANCE + 0.0005 for mine, theirs in pairs)


def places(results: Results, names: Sequence[str] | None = None) -> list[Place]:
    """Every cell of the published tables a sweep is compared with.

    Args:
        results: the sweep.
        names: of published tables; None for those its configuration names as `sweep.published`.

    Returns:
        The cells table by table; where other axes vary, for each of their combinations.

    Raises:
        ConfigError: if there is no table of this name.
        DataError: if the results do not hold the cells' configurations.
    """
    if names is None:
        names = results.config.get("sweep", {}).get("published", [])
        names = [names] if isinstance(names, str) else names
    tables = [published(name) for name in names]
    if not tables:
        return []
    if "config" not in results.frame:
        raise DataError(f"{results.name}: the results hold no configurations, so none can be compared")
    configs = [json.loads(text) for text in results.frame["config"]]
    return [place for table in tables for place in _places(results, table, configs)]


def _places(results: Results, table: Published, configs: list[dict[str, Any]]) -> list[Place]:
    frame = results.frame.assign(row=[*map(table.row, configs)], column=[*map(table.column, configs)])
    frame = frame.dropna(subset=["row", "column"])
    told = {key for wanted in table.columns.values() for key in wanted}
    others = [axis for axis in results.further if axis not in told]
    groups = frame.groupby(others, observed=True) if others else [((), frame)]
    found = []
    for key, cells in groups:
        labels = describe(dict(zip(others, map(str, key), strict=True)))
        title = f"{table.title}; {labels}" if labels else table.title
        means = cells.groupby(["row", "column"])[["test_error", "attack_success_rate"]].mean()
        counts = cells.groupby(["row", "column"]).size()
        for attack, values in table.rows.items():
            for column, value in zip(table.columns, values, strict=True):
                there = (attack, column) in means.index
                error, success = means.loc[(attack, column)] if there else (None, None)
                success = None if success is None or math.isnan(success) else success
                seeds = int(counts[(attack, column)]) if there else 0
                found.append(Place(title, attack_title(attack), column, error, success, seeds, value))
    return found


def comparison_tables(found: Iterable[Place]) -> list[Table]:
    """The places as tables of the paper's layout."""
    grouped: dict[str, dict[str, list[Place]]] = {}
    for place in found:
        grouped.setdefault(place.title, {}).setdefault(place.attack, []).append(place)
    return [
        Table(
            title,
            "attack",
            [place.column for place in next(iter(rows.values()))],
            [(attack, [_entry(place) for place in row]) for attack, row in rows.items()],
        )
        for title, rows in grouped.items()
    ]


def _entry(place: Place) -> Entry:
    text = _numbers(place.test_error, place.attack_success_rate, 3) if place.seeds else "–"
    if place.value is not None:
        theirs = _numbers(place.value.test_error, place.value.attack_success_rate, 2)
        text += f" ({theirs} {place.value.confidence})"
    return Entry(text + " ≠" * place.differs, "differs" if place.differs else "")


def _numbers(error: float | None, success: float | None, digits: int) -> str:
    text = "—" if error is None or math.isnan(error) else f"{error:.{digits}f}"
    return text if success is None else f"{text} / {success:.2f}"


def comparison_caption(found: Sequence[Place]) -> str:
    """What the comparison's numbers are, and how many agree."""
    both = [place for place in found if place.value is not None and place.seeds]
    within = [
        f"{sum(not p.differs for p in mine)} of {len(mine)} with {letter}"
        for letter in LETTERS
        if (mine := [p for p in both if p.value is not None and p.value.confidence == letter])
    ]
    missing = sum(not place.seeds for place in found)
    sentences = [
        "Mean test error over the seeds, after a slash the attack success rate; in parentheses the published",
        "number and how well it is known: H from a source, M supported by a second one, L recollection only.",
        f"≠ differs by more than {TOLERANCE}. Within {TOLERANCE}: {', '.join(within) if within else 'none'}.",
        *([f"{missing} cells (–) were not run."] if missing else []),
    ]
    return " ".join(sentences)


def comparison_frame(found: Iterable[Place]) -> pd.DataFrame:
    """The places as a table of numbers, a row each."""
    rows = []
    for place in found:
        row = place._asdict() | {"differs": place.differs}
        value = row.pop("value") or Value(math.nan, None, "")
        rows.append(row | {f"published_{key}": item for key, item in value._asdict().items()})
    return pd.DataFrame(rows)
