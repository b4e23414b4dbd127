"""Texts in CSV files that a spreadsheet shows as they are."""

from typing import Any

# A spreadsheet takes a cell that begins so for a formula.
_FORMULAS = ("=", "+", "-", "@", "\t", "\r")


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
