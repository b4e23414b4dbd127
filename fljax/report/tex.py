r"""The tables and figures in LaTeX, to be read by `\input` in a paper."""

import re
from collections.abc import Iterable, Sequence

from fljax.report.comparison import Place, compare
from fljax.report.facts import facts
from fljax.report.leaderboard import all_sections
from fljax.report.panels import Picture
from fljax.report.results import Results
from fljax.report.selection import Choice, choice_caption, choice_table
from fljax.report.style import PAPER_WIDTHS
from fljax.report.summary import Entry, Table

_SPECIAL = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "[": "{[}",
    "<": r"\ensuremath{<}",
    ">": r"\ensuremath{>}",
    "|": r"\textbar{}",
    "±": r"\ensuremath{\pm}",
    "×": r"\ensuremath{\times}",
    "≥": r"\ensuremath{\geq}",
    "≤": r"\ensuremath{\leq}",
    "≠": r"\ensuremath{\neq}",
    "≈": r"\ensuremath{\approx}",
    "→": r"\ensuremath{\to}",
    "∞": r"\ensuremath{\infty}",
    "−": r"\ensuremath{-}",
    "·": r"\ensuremath{\cdot}",
    "√": r"\ensuremath{\surd}",
    "✗": r"\ensuremath{\boldsymbol{\times}}",
    "†": r"\dag{}",
    "‡": r"\ddag{}",
    "–": "--",
    "—": "---",
    "…": r"\dots{}",
    "⌈": r"\ensuremath{\lceil}",
    "⌉": r"\ensuremath{\rceil}",
    **{
        letter: rf"\ensuremath{{\{name}}}"
        for letter, name in zip(
            "αβγδεθλμρστφ",
            (
                "alpha",
                "beta",
                "gamma",
                "delta",
                "epsilon",
                "theta",
                "lambda",
                "mu",
                "rho",
                "sigma",
                "tau",
                "phi",
            ),
            strict=True,
        )
    },
}
_MARKS = {"best": r"\textbf{{{}}}", "worst": r"\textit{{{}}}", "differs": r"\textbf{{{}}}", "": "{}"}
# Tables of more columns are set over both columns of a page.
NARROW = 4
HEAD = r"""% Made by fljax report; put \usepackage{booktabs,graphicx,amsmath,amssymb} into the preamble.
"""


def escape_tex(text: str) -> str:
    r"""Text that LaTeX shows as it is, also at the beginning of a row, where [ would begin an option.

    Example:
        >>> escape_tex("num_malicious = 20 %")
        'num\\_malicious = 20 \\%'
    """
    return "".join(_SPECIAL.get(letter, letter) for letter in " ".join(text.split()))


def tex_table(table: Table, caption: str, label: str) -> str:
    """One table, as a float."""
    wide = "*" * (len(table.columns) > NARROW)
    lines = [" & ".join(map(escape_tex, (table.corner, *table.columns)))]
    rows = [" & ".join([escape_tex(name), *map(_entry, row)]) for name, row in table.rows]
    body = [rf"{lines[0]} \\", r"\midrule", *(rf"{row} \\" for row in rows)]
    whole = f"{table.title}. {caption}" if table.title else caption
    return "\n".join(
        [
            rf"\begin{{table{wide}}}[t]",
            r"\centering\small",
            rf"\caption{{{escape_tex(whole)}}}",
            rf"\label{{tab:{label}}}",
            # No wider than its column.
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{@{{}}l{'r' * len(table.columns)}@{{}}}}",
            r"\toprule",
            *body,
            r"\bottomrule",
            r"\end{tabular}}",
            rf"\end{{table{wide}}}",
        ]
    )


def _entry(entry: Entry) -> str:
    return _MARKS[entry.mark].format(escape_tex(entry.text)) if entry.text else ""


def tex_tables(results: Results, compared: Sequence[Place] = (), choices: Sequence[Choice] = ()) -> str:
    """All tables with their captions; their labels are tab:NAME-1, tab:NAME-2, and so on."""
    found: list[tuple[Table, str]] = []
    if compared:
        beside = compare(compared, results.when)
        found += [(table, beside.caption) for table in beside.tables]
    if choices:
        found.append((choice_table(choices, results.value), choice_caption(results)))
    found += [(table, section.caption) for section in all_sections(results) for table in section.tables]
    where = _where(results)
    made = [
        tex_table(table, f"{caption} {where}", f"{label(results.name)}-{number}")
        for number, (table, caption) in enumerate(found, 1)
    ]
    return HEAD + "\n\n".join(made) + "\n"


def tex_figures(results: Results, shown: Iterable[Picture], page: float) -> str:
    """The figures' PDF files as floats, over both columns of a page if they are drawn wider than one."""
    made = []
    wide = "*" * (page > 1.2 * PAPER_WIDTHS["column"])
    for picture in shown:
        made.append(
            "\n".join(
                [
                    rf"\begin{{figure{wide}}}[t]",
                    r"\centering",
                    rf"\includegraphics[width=\linewidth]{{{picture.name}.pdf}}",
                    rf"\caption{{{escape_tex(f'{picture.caption} {_where(results)}')}}}",
                    rf"\label{{fig:{label(results.name)}-{label(picture.name)}}}",
                    rf"\end{{figure{wide}}}",
                ]
            )
        )
    return HEAD + "\n\n".join(made) + "\n"


def _where(results: Results) -> str:
    """What it was measured on, which figures and tables elsewhere have in their headings."""
    return f"Measured on {facts(results, results.frame).replace(' · ', ', ')}."


def label(name: str) -> str:
    r"""A name as a part of a label, of letters, digits and dashes.

    Example:
        >>> label("table3 (uci_har)")
        'table3-uci-har'
    """
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-") or "sweep"
