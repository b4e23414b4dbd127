"""Docstrings taken apart: what they say of a function, and of each of its arguments."""

import inspect
import re
import textwrap
from collections.abc import Mapping
from typing import Any, NamedTuple

_SECTION = re.compile(r"(Args|Attributes|Returns|Yields|Raises|Example):")
_ARGUMENT = re.compile(r"(\*{0,2}\w[\w, *]*): (.*)")


class Doc(NamedTuple):
    """A docstring.

    Attributes:
        text: the paragraphs before its first section, each one line; the first is the summary.
        arguments: name to meaning, of `Args` or `Attributes`.
        example: the lines of the example, or "".
        notes: the paragraphs after its sections: sources, and where others differ.
    """

    text: list[str]
    arguments: Mapping[str, str]
    example: str
    notes: list[str]


def sections_of(documented: Any) -> dict[str, list[str]]:
    """The lines of a docstring by section, "text" before the first and "notes" after the last.

    Example:
        >>> list(sections_of(sections_of))
        ['text', 'Example']
    """
    sections: dict[str, list[str]] = {}
    section = "text"
    for line in (inspect.getdoc(documented) or "").splitlines():
        heading = _SECTION.fullmatch(line)
        if heading:
            section = heading[1]
            continue
        if line and not line.startswith(" ") and section != "text":
            section = "notes"
        sections.setdefault(section, []).append(line)
    return sections


def read_docstring(documented: Any) -> Doc:
    """The docstring of a function or a class; everything is empty where there is none.

    Example:
        >>> read_docstring(read_docstring).text
        ['The docstring of a function or a class; everything is empty where there is none.']
    """
    sections = sections_of(documented)

    def dedented(name: str) -> str:
        return textwrap.dedent("\n".join(sections.get(name, []))).strip()

    def paragraphs(name: str) -> list[str]:
        return [" ".join(part.split()) for part in dedented(name).split("\n\n") if part.strip()]

    arguments = dedented("Args") or dedented("Attributes")
    return Doc(paragraphs("text"), _arguments(arguments), dedented("Example"), paragraphs("notes"))


def _arguments(section: str) -> dict[str, str]:
    """`name: meaning` of a section, `x, y: meaning` for both; what is indented below belongs to it."""
    found: dict[str, str] = {}
    names: list[str] = []
    for line in section.splitlines():
        start = _ARGUMENT.fullmatch(line)
        if start:
            names = [name.strip(" *") for name in start[1].split(",")]
            found |= dict.fromkeys(names, start[2])
        else:
            found |= {name: f"{found[name]} {line.strip()}".strip() for name in names}
    return found
