"""A sweep's results in the layout of a published table, beside its numbers."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from fljax.config.schema import AttackConfig
from fljax.config.titles import attack_title
from fljax.errors import ConfigError, DataError
from fljax.report.ranking import CROSS, Outcome, explain
from fljax.report.results import Results
from fljax.report.summary import MOST_TABLES, Entry, Table, describe, statistics
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
    def outcome(self) -> Outcome:
        """The measured error and success rate, NaN where there is none."""
        values = (self.test_error, self.attack_success_rate)
        return Outcome(*(math.nan if value is None else value for value in values))

    @property
    def differs(self) -> bool | None:
        """True if error or success rate is more than `TOLERANCE` off the published one; None if unknown."""
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
        lines = {line["place"]: line for line in statistics(cells, ["place"]).to_dict("records")}
        lost = set(cells["place"][cells["test_error"].isna()])
        for attack, values in table.rows.items():
            for column, value in zip(table.columns, values, strict=True):
                measured = _measured(lines.get((attack, column)), (attack, column) in lost, results.seeds)
                place = Place(
                    table=table.name,
                    title=title,
                    attack=attack_title(AttackConfig(name=attack)),
                    column=column,
                    value=value,
                    **measured,
                )
                made.append(place)
    return made


def _measured(line: dict[str, Any] | None, lost: bool, seeds: int) -> dict[str, Any]:
    """The measured fields of a `Place` from its line of `statistics`; the error is NaN if a seed lost it."""
    if line is None:
        return {"test_error": None, "attack_success_rate": None, "seeds": 0, "notes": ""}
    success = line["attack_success_rate_mean"]
    return {
        "test_error": math.nan if lost else line["test_error_mean"],
        "attack_success_rate": None if math.isnan(success) else success,
        "seeds": line["seeds"],
        "notes": " †" * bool(line["diverged"]) + " ‡" * (line["seeds"] < seeds),
    }


class Comparison(NamedTuple):
    """The places in the layout of the published tables, and a caption."""

    tables: list[Table]
    caption: str


def compare(found: Sequence[Place], when: str = "after the last round") -> Comparison:
    """Lay out the places as tables.

    A published table that would be shown more than `MOST_TABLES` times, for as many combinations of other
    axes, is left out; the caption says so.
    """
    grouped: dict[str, dict[str, dict[str, list[Place]]]] = {}
    for place in found:
        titles = grouped.setdefault(place.table, {})
        titles.setdefault(place.title, {}).setdefault(place.attack, []).append(place)
    tables = [
        Table(
            title,
            "attack",
            [place.column for place in next(iter(rows.values()))],
            [(attack, [_entry(place) for place in row]) for attack, row in rows.items()],
        )
        for titles in grouped.values()
        if len(titles) <= MOST_TABLES
        for title, rows in titles.items()
    ]
    left_out = {name: len(titles) for name, titles in grouped.items() if len(titles) > MOST_TABLES}
    return Comparison(tables, _caption(found, left_out, when))


def _entry(place: Place) -> Entry:
    text = "–"
    if place.test_error is not None:
        text = "—" if math.isnan(place.test_error) else f"{place.test_error:.3f}"
    if place.attack_success_rate is not None:
        text += f" / {place.attack_success_rate:.2f}"
    broken = place.test_error is not None and place.outcome.broken
    text += f" {CROSS}" * broken + place.notes
    if place.value is not None:
        text += f" ({place.value.text.replace('/', ' / ')} {place.value.confidence})"
    return Entry(text + " ≠" * bool(place.differs), "differs" if place.differs else "", broken)


def _caption(found: Sequence[Place], left_out: Mapping[str, int], when: str) -> str:
    """The meaning of the numbers and signs, how many agree, and which tables are left out."""
    both = [(place.value.confidence, place.differs) for place in found if place.value and place.seeds]
    within = [
        f"{differ.count(False)} of {len(differ)} with {letter}"
        for letter in LETTERS
        if (differ := [differs for own, differs in both if own == letter])
    ]
    notes = "".join(place.notes for place in found)
    missing = sum(not place.seeds for place in found)
    sentences = [
        f"Mean test error {when} over the seeds, after a slash the attack success rate; in parentheses the",
        "published number and how well it is known: H from a primary source or two that agree, M from one",
        "secondary source or supported by a reproduction, L recollection, or sources disagree. Rules and",
        f"attacks are compared, not data, rounds or clients. ≠ differs by more than {TOLERANCE}.",
        f"Within {TOLERANCE}: {', '.join(within) if within else 'none'}.",
        *explain(False, any(place.seeds and place.outcome.broken for place in found)),
        *(["† At least one seed diverged."] if "†" in notes else []),
        *(["‡ Not all seeds are there yet."] if "‡" in notes else []),
        *([f"{missing} cells (–) are not there."] if missing else []),
        *(
            f"The {count} tables beside {name} are too many to be shown; published.csv has them."
            for name, count in left_out.items()
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
