"""The errors a user of fljax can make; each carries one sentence: what was given, what is allowed."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches


class ConfigError(ValueError):
    """A configuration that cannot be run."""


class DataError(ValueError):
    """A data file that is missing, truncated or not what its name says."""


def unknown_name(kind: str, given: str, allowed: Iterable[str], also: Mapping[str, str] | None = None) -> str:
    """The sentence for a misspelt name, with the nearest match first, whatever its case and hyphens.

    Args:
        kind: of what.
        given: the name.
        allowed: the names that there are.
        also: what else one of them is called, to its name.

    Example:
        >>> unknown_name("rule", "medain", ["mean", "median"])
        "unknown rule 'medain'; did you mean 'median'? (choose from mean, median)"
        >>> unknown_name("rule", "fedavg", ["mean", "median"], {"FedAvg": "mean"})
        "unknown rule 'fedavg'; did you mean 'mean'? (choose from mean, median)"
    """
    names = list(allowed)
    known = {_plain(word): name for word, name in [*(also or {}).items(), *zip(names, names, strict=True)]}
    near = get_close_matches(_plain(given), known, n=1)
    hint = f"; did you mean {known[near[0]]!r}?" if near else ""
    return f"unknown {kind} {given!r}{hint} (choose from {', '.join(names)})"


def _plain(name: str) -> str:
    return name.casefold().replace("-", "_").replace(" ", "_")


def listed(names: Iterable[str]) -> str:
    """Names from a file as a list for a message: on one line, and not too long.

    Example:
        >>> listed(["x", chr(10)]) == "x, " + repr(chr(10))
        True
    """
    text = ", ".join(name if name.isprintable() else repr(name) for name in names) or "nothing"
    return text if len(text) <= 200 else f"{text[:200]} …"


_UNDER_WAY = "while it was running"


@contextmanager
def under_way() -> Iterator[None]:
    """What escapes from here is the run's failure, not its input's: the command line's status tells."""
    try:
        yield
    except Exception as error:
        error.add_note(_UNDER_WAY)
        raise


def unforeseen(error: Exception) -> tuple[str, int]:
    """The sentence and the exit status for an error that nothing above it had a sentence for.

    Example:
        >>> unforeseen(IndexError("list index out of range"))[1]
        2
    """
    text = (str(error).strip().splitlines() or ["no further words"])[0][:300]
    running = _UNDER_WAY in getattr(error, "__notes__", ())
    sentence = (
        f"an error fljax has no sentence for, {type(error).__name__}: {text} (FLJAX_TRACEBACK=1 shows where)"
    )
    return sentence, 1 if running else 2


class SweepError(Exception):
    """Cells of a sweep failed while they ran; what the others gave is kept."""


class JobError(Exception):
    """Another process of the same job is gone, or was told to stop."""


class OutOfMemoryError(Exception):
    """Memory ran out while something ran."""


def first_line(error: BaseException) -> str:
    """The first line of an error's text."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
