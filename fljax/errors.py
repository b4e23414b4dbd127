"""The errors a user of fljax can make; each carries one sentence: what was given, what is allowed."""

from collections.abc import Iterable
from difflib import get_close_matches


class ConfigError(ValueError):
    """A configuration that cannot be run."""


class DataError(ValueError):
    """A data file that is missing, truncated or not what its name says."""


def unknown_name(kind: str, given: str, allowed: Iterable[str]) -> str:
    """The sentence for a misspelt name, with the nearest match first.

    Example:
        >>> unknown_name("rule", "medain", ["mean", "median"])
        "unknown rule 'medain'; did you mean 'median'? (choose from mean, median)"
    """
    names = list(allowed)
    near = get_close_matches(given, names, n=1)
    hint = f" did you mean {near[0]!r}?" if near else ""
    return f"unknown {kind} {given!r};{hint} (choose from {', '.join(names)})"


def listed(names: Iterable[str]) -> str:
    """Names from a file as a list for a message: on one line, and not too long.

    Example:
        >>> listed(["x", chr(10)]) == "x, " + repr(chr(10))
        True
    """
    text = ", ".join(name if name.isprintable() else repr(name) for name in names) or "nothing"
    return text if len(text) <= 200 else f"{text[:200]} …"


class SweepError(Exception):
    """Cells of a sweep failed while they ran; what the others gave is kept."""


class OutOfMemoryError(Exception):
    """Memory ran out while something ran."""
