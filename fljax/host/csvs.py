"""CSV files whose texts a spreadsheet shows as they are."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

# A spreadsheet takes a cell that begins so for a formula.
_FORMULAS = ("=", "+", "-", "@", "\t", "\r")


def to_csv(names: Sequence[str], rows: Iterable[Iterable[Any]]) -> bytes:
    r"""The content of a CSV file: a line of names, then a line a row; None and NaN are empty.

    Example:
        >>> to_csv(["rule", "error"], [("=1+1", 0.25), ("Krum", None)])
        b"rule,error\n'=1+1,0.25\nKrum,\n"
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(quoted, names))
    for row in rows:
        writer.writerow(None if value is None or value != value else quoted(value) for value in row)
    return text.getvalue().encode()


def quoted(value: Any) -> Any:
    """A text that a spreadsheet would calculate, with an apostrophe before it; numbers as they are.

    Example:
        >>> [quoted(value) for value in ("=1+1", "@me", "-1 dB", "Krum", "-0.5", -0.5)]
        ["'=1+1", "'@me", "'-1 dB", 'Krum', '-0.5', -0.5]
    """
    if not (isinstance(value, str) and value.startswith(_FORMULAS)):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value
