"""Docstrings as pages: the library's docstrings are plain text, with formulas in Unicode.

`g_i` becomes a g with an index, a single letter a variable, text in backticks code or a link to its page.
"""

import html
import re
import textwrap
from typing import NamedTuple

from fljax.cli.docstrings import sections_of

_INDEX = r"\{[^}]*\}|\([^()]*\)|[^\W_]{1,6}(?:,[^\W_](?!\w))?"
_FORMULA = re.compile(
    # A short word or a closing bracket with an index, an exponent or both: g_i, Σ_{i ∈ S}, ‖x‖^2, w_(t−1).
    rf"(?P<base>(?<![\w/.])[^\W\d_]{{1,6}}['’]?|(?<![\w/.])[^\W\d_]{{7,12}}(?=\^)|(?<![\w.])\d+(?=\^)|(?<=[)\]}}‖|])(?=\^))"
    rf"(?:_(?P<below>{_INDEX}))?(?:\^(?P<above>−?(?:{_INDEX})))?(?![\w_(])"
)
_VARIABLE = re.compile(r"[b-zB-HJ-Zα-ωθφϕ]['’]?|a(?= ·)")
_ITEM = re.compile(r"(\*{0,2}\w[\w, *]*): (.*)")
_MARKDOWN = re.compile(r"([\\*_{}\[\]<>$|~#])")
# A sentence ends before the next one's capital, and not behind an abbreviation such as "et al.".
_SENTENCE = re.compile(r"(?<=[^.\s][^.])\. (?=[A-ZΑ-Ω`])")


class Parts(NamedTuple):
    """A docstring taken apart; blocks are (kind, text) with kind "text" or "indented"."""

    summary: str
    text: list[tuple[str, str]]
    sections: dict[str, str]
    notes: list[tuple[str, str]]


def read(documented):
    """The docstring of a function or a class, its own and not one it inherits from a built-in type."""
    sections = {} if documented is None else sections_of(documented)
    text = _blocks(sections.pop("text", []))
    summary = text.pop(0)[1] if text else ""
    notes = _blocks(sections.pop("notes", []))
    dedented = {name: textwrap.dedent("\n".join(lines)).strip() for name, lines in sections.items()}
    return Parts(summary, text, dedented, notes)


def _blocks(lines):
    """Paragraphs, and what is indented under them."""
    found = []
    for part in re.split(r"\n\s*\n", "\n".join(lines).strip("\n")):
        if not part.strip():
            continue
        if all(line.startswith("    ") or not line.strip() for line in part.splitlines()):
            found.append(("indented", textwrap.dedent(part)))
        else:
            found.append(("text", " ".join(part.split())))
    return found


def items(section):
    """`name: meaning` of a section, in pairs; what is indented below a line belongs to it."""
    found = []
    for line in section.splitlines():
        start = _ITEM.fullmatch(line)
        if start:
            found.append([start[1], start[2]])
        elif found:
            found[-1][1] = f"{found[-1][1]} {line.strip()}".strip()
    return found


def prose(text, link=None):
    """Markdown of a paragraph. `link(name)` gives the page of a name in backticks, or None."""
    out = []
    for number, piece in enumerate(re.split(r"`+([^`]+)`+", text)):
        if number % 2 == 0:
            out.append(_formulas(piece, _escape))
        elif link and (target := link(piece)):
            out.append(f"[`{piece}`]({target})")
        else:
            out.append(f"`{piece}`")
    made = "".join(out)
    return re.sub(r"^(\d+)([.)]) |^([-+=])", lambda m: f"{m[1]}\\{m[2]} " if m[1] else f"\\{m[3]}", made)


def formula(text):
    """An HTML block with a formula of its own."""

    def line(text):
        pieces = re.split(r"`+([^`]+)`+", text)
        return "".join(
            f"<code>{html.escape(piece)}</code>" if number % 2 else _formulas(piece, html.escape)
            for number, piece in enumerate(pieces)
        )

    lines = "<br>".join(line(each) for each in text.strip("\n").splitlines())
    return f'<div class="formula">{lines}</div>'


def leading_formula(blocks):
    """The first sentence behind the summary, if it is a formula, and the blocks without it."""
    if not blocks or blocks[0][0] != "text":
        return None, blocks
    first, *rest = _SENTENCE.split(blocks[0][1], maxsplit=1)
    if not re.search(r" = | ← ", first) or len(first) > 400:
        return None, blocks
    return first, [*(("text", each) for each in rest), *blocks[1:]]


def _escape(text):
    return _MARKDOWN.sub(r"\\\1", text)


def _formulas(text, escape):
    """Indices, exponents and variables of a plain text as HTML, the rest escaped."""
    out, at = [], 0
    for found in _FORMULA.finditer(text):
        if not (found["below"] or found["above"]) or not (found["base"] or found["above"]):
            continue
        out.append(_variables(text[at : found.start()], escape))
        out.append(_variables(found["base"], escape))
        for tag, part in (("sub", found["below"]), ("sup", found["above"])):
            if part:
                inner = part[1:-1] if part[0] in "{(" else part
                out.append(f"<{tag}>{_variables(inner, escape)}</{tag}>")
        at = found.end()
    out.append(_variables(text[at:], escape))
    return "".join(out)


def _variables(text, escape):
    """Single letters in italics."""
    pieces = re.split(r"(?<![^\W\d])(?<!['’.\-])([^\W\d_]['’]?)(?![\w’\-]|\.\w)", text)
    return "".join(
        f"<i>{escape(piece)}</i>" if number % 2 and _VARIABLE.fullmatch(piece) else escape(piece)
        for number, piece in enumerate(pieces)
    )
