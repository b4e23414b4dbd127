"""Plain values as JSON holds them, and back."""

import json
import math
from typing import Any

# What `jsonable` writes for numbers that JSON has not.
NUMBERS = {str(number): number for number in (math.inf, -math.inf, math.nan)}


def jsonable(value: Any) -> Any:
    """Values with non-finite numbers as strings, since JSON has none."""
    if isinstance(value, dict):
        return {key: jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def finite_or_not(value: Any) -> Any:
    """Values with the strings of `jsonable` as numbers again.

    Example:
        >>> finite_or_not(jsonable({"name": "constant", "value": math.inf}))
        {'name': 'constant', 'value': inf}
    """
    if isinstance(value, dict):
        return {key: finite_or_not(item) for key, item in value.items()}
    if isinstance(value, list):
        return [finite_or_not(item) for item in value]
    return NUMBERS.get(value, value) if isinstance(value, str) else value


def parse_table(text: str) -> dict[str, Any]:
    """A table that was written as JSON.

    Raises:
        ValueError: if it is no JSON, or no table.
    """
    try:
        values = finite_or_not(json.loads(text))
    except RecursionError:
        raise ValueError("its tables or lists are too deep") from None
    if not isinstance(values, dict):
        raise ValueError(f"it holds no table, but {text.strip()[:40]!r}")
    return values
