"""A sweep's results in the layout of a published table, beside its numbers."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import pandas as pd

from fljax.config.schema import AttackConfig
from fljax.config.titles import attack_title
from fljax.errors import ConfigError, DataError
from fljax.report.ranking import CROSS, Outcome, explain
from fljax.report.results import Results
from fljax.report.summary import MOST_TABLES, Entry, Table, describe
from fljax.sweeps.published import Published, Value, published_tables

# A cell that differs from the published one by more than this, in error or success rate, is marked.
TOLERANCE = 0.03
LETTERS = ("H", "M", "L")
Settings = dict[str, Any]


class Place(NamedTuple):
    """One cell of a published table: what was measured, means over the seeds, and what was published.

    Attributes:
        table: the published table's name.
        title: its title, with the other axes' values where there are any.
        attack: row.
        column: column.
        test_error: NaN or None where there is none.
        attack_success_rate: or None.
        seeds: how many seeds are there, 0 if none was run.
        notes: signs for what is missing or diverged.
        value: the published numbers, or None.
    """

    table: str
    title: str
    attack: str
    column: str
    test_error: float | None
    attack_success_rate: float | None
    seeds: int
    notes: str
    value: Value | None

    @property
    def differs(self) -> bool | None:
        """Whether error or success rate is more than `TOLERANCE` off the published one; None if unknown."""
        if self.value is None or self.test_error is None:
            return None
        pairs = [(self.test_error, self.value.test_error)]
        if self.attack_success_rate is not None and self.value.attack_success_rate is not None:
            pairs.append((self.attack_success_rate, self.value.attack_success_rate))
        # Half a unit of the digits that are shown on top: 0.05 and 0.080 are 0.03 apart. Also True of NaN.
        return not all(abs(mine - theirs) <= TOLERANCE + 0.0005 for mine, theirs in pairs)


def places(results: Results, names: str | Sequence[str] | None = None) -> list[Place]:
    """Every cell of the published tables a sweep is compared with.

    Args:
        results: the sweep.
        names: of published tables; None for those its configuration names as `sweep.published`.

    Returns:
        The cells table by table; where other axes vary, for each of their combinations.

    Raises:
        ConfigError: if there is no table of this name, or two variants of a rule have the same place in it.
        DataError: if the results do not hold the cells' configurations.
    """
    if names is None:
        table = results.config.get("sweep") if isinstance(results.config, dict) else None
        names = table.get("published", ()) if isinstance(table, dict) else ()
        if not (isinstance(names, str) or (isinstance(names, list | tuple) and all(map(_is_text, names)))):
            raise DataError(f"{results.name}: sweep.published in sweep.json is no list of names: {names!r}")
    tables = published_tables(names)
    if not tables:
        return []
    configs = _configs(results)
    return [place for table in tables for place in _places(results, table, configs)]


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _configs(results: Results) -> list[Settings]:
    wrong = DataError(
        f"{results.name}: the results do not hold their configurations, so none can be compared"
    )
    if "config" not in results.frame:
        raise wrong
    try:
        configs = [json.loads(text) for text in results.frame["config"]]
    except (TypeError, ValueError):
        raise wrong from None
    if not all(isinstance(config, dict) for config in configs):
        raise wrong
    return configs


def _places(results: Results, table: Published, configs: list[Settings]) -> list[Place]:
    found = [table.place(config) for config in configs]
    frame = results.frame.assign(place=found)[[place is not None for place in found]]
    for (_, column), cells in frame.groupby("place"):
        for axis in ("aggregator", "attack"):
            labels = cells[axis].astype(str).unique()
            if len(labels) > 1:
                several = " and ".join(labels)
                raise ConfigError(f"{table.name}: {several} would both be in the column {column}")
    told = {key for wanted in table.columns.values() for key in wanted}
    others = [axis for axis in results.further if axis not in told and axis != "attack.fraction"]
    groups: Iterable[tuple[Any, pd.DataFrame]] = [((), frame)]
    if others and len(frame):
        groups = frame.groupby(others, observed=True)
    made = []
    for key, cells in groups:
        labels = describe(dict(zip(others, map(str, key), strict=bool(key))))
        title = f"{table.title}; {labels}" if labels else table.title
        by_place = dict(iter(cells.groupby("place")))
        for attack, values in table.rows.items():
            for column, value in zip(table.columns, values, strict=True):
                mine = by_place.get((attack, column))
                error, success, seeds, notes = _measured(mine, results.seeds)
                where = (table.name, title, attack_title(AttackConfig(name=attack)), column)
                made.append(Place(*where, error, success, seeds, notes, value))
    return made


def _measured(cells: pd.DataFrame | None, seeds: int) -> tuple[float | None, float | None, int, str]:
    if cells is None:
        return None, None, 0, ""
    success = cells["attack_success_rate"].mean()
    notes = " †" * bool(cells["diverged"].any()) + " ‡" * (len(cells) < seeds)
    # A seed that has no error any more makes the mean NaN.
    error = float(cells["test_error"].mean(skipna=False))
    return error, None if math.isnan(success) else float(success), len(cells), notes


def comparison_tables(found: Iterable[Place]) -> list[Table]:
    """The places as tables of the paper's layout, where a published table has not too many of them."""
    found = list(found)
    left_out = _too_many(found)
    grouped: dict[str, dict[str, list[Place]]] = {}
    for place in found:
        if place.table in left_out:
            continue
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


def _too_many(found: Iterable[Place]) -> dict[str, int]:
    """The published tables that more combinations of other axes are beside than are shown, and how many."""
    counts = Counter(table for table, _ in {(place.table, place.title) for place in found})
    return {table: count for table, count in counts.items() if count > MOST_TABLES}


def _entry(place: Place) -> Entry:
    text = "–"
    if place.test_error is not None:
        text = "—" if math.isnan(place.test_error) else f"{place.test_error:.3f}"
    if place.attack_success_rate is not None:
        text += f" / {place.attack_success_rate:.2f}"
    broken = place.test_error is not None and measured(place).broken
    text += f" {CROSS}" * broken + place.notes
    if place.value is not None:
        text += f" ({place.value.text.replace('/', ' / ')} {place.value.confidence})"
    return Entry(text + " ≠" * bool(place.differs), "differs" if place.differs else "", broken)


def measured(place: Place) -> Outcome:
    """The `Outcome` of what was measured, which must be there."""
    none = math.nan
    success = none if place.attack_success_rate is None else place.attack_success_rate
    return Outcome(none if place.test_error is None else place.test_error, success)


def comparison_caption(found: Sequence[Place]) -> str:
    """What the comparison's numbers are, and how many agree."""
    both = [(place.value.confidence, place.differs) for place in found if place.value and place.seeds]
    within = [
        f"{differ.count(False)} of {len(differ)} with {letter}"
        for letter in LETTERS
        if (differ := [differs for own, differs in both if own == letter])
    ]
    notes = "".join(place.notes for place in found)
    missing = sum(not place.seeds for place in found)
    sentences = [
        "Mean test error over the seeds, after a slash the attack success rate; in parentheses the published",
        "number and how well it is known: H from a primary source or two that agree, M from one secondary",
        "source or supported by a reproduction, L recollection, or sources disagree. Rules and attacks are",
        f"compared, not data, rounds or clients. ≠ differs by more than {TOLERANCE}.",
        f"Within {TOLERANCE}: {', '.join(within) if within else 'none'}.",
        *explain(False, any(place.seeds and measured(place).broken for place in found)),
        *(["† At least one seed diverged."] if "†" in notes else []),
        *(["‡ Not all seeds are there yet."] if "‡" in notes else []),
        *([f"{missing} cells (–) are not there."] if missing else []),
        *(
            f"The {count} tables beside {name} are too many to be shown; published.csv has them."
            for name, count in _too_many(found).items()
        ),
    ]
    return " ".join(sentences)


def comparison_frame(found: Iterable[Place]) -> pd.DataFrame:
    """The places as a table of numbers, a row each."""
    rows = []
    for place in found:
        row = place._asdict() | {"differs": place.differs}
        value = row.pop("value") or Value("", math.nan, None, "")
        theirs = value._asdict()
        del theirs["text"]
        rows.append(row | {f"published_{key}": item for key, item in theirs.items()})
    return pd.DataFrame(rows)
