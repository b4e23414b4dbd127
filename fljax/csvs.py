"""CSV files that a spreadsheet shows as they are."""

from typing import Any

import pandas as pd

# A spreadsheet takes a cell that begins so for a formula.
_FORMULAS = ("=", "+", "-", "@", "\t", "\r")


def quoted(value: Any) -> Any:
    """A text that a spreadsheet would calculate, with an apostrophe before it; anything else as it is.

    Example:
        >>> [quoted(value) for value in ("=1+1", "@me", "-0.5 dB", "Krum", -0.5)]
        ["'=1+1", "'@me", "'-0.5 dB", 'Krum', -0.5]
    """
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULAS) else value


def to_csv(frame: pd.DataFrame) -> bytes:
    """A table as the content of a CSV file; texts that begin like a formula are quoted, numbers are not."""
    texts = {
        name: frame[name].astype(object).map(quoted)
        for name in frame
        if not (pd.api.types.is_numeric_dtype(frame[name]) or pd.api.types.is_bool_dtype(frame[name]))
    }
    safe = frame.assign(**texts) if texts else frame
    return safe.rename(columns=quoted).to_csv(index=False, lineterminator="\n").encode()
