"""The tables as Markdown and for a terminal."""

import re
from collections.abc import Sequence

from rich.text import Text

from fljax.host.terminal import Table as RichTable
from fljax.report.comparison import Place, compare
from fljax.report.leaderboard import all_sections
from fljax.report.results import Results
from fljax.report.selection import Choice, choice_caption, choice_table
from fljax.report.summary import Entry, Table, remarks, state

MARKDOWN = {"best": "**{}**", "worst": "*{}*", "differs": "**{}**", "": "{}"}
STYLES = {"best": "bold green", "worst": "italic red", "differs": "bold yellow", "": ""}
BROKEN_STYLE = "bold magenta"
# Underscores within words mean nothing in Markdown.
_SPECIAL = re.compile(r"[\\`*\[\]<>|~$&]|(?<!\w)_|_(?!\w)")


def escape(text: str) -> str:
    r"""Text that Markdown shows as it is, in a table too.

    Example:
        >>> escape("a|b <i> num_malicious")
        'a\\|b \\<i\\> num_malicious'
    """
    return _SPECIAL.sub(r"\\\g<0>", " ".join(text.split()))


def markdown_table(table: Table) -> str:
    """One table, its title above."""
    lines = [
        [escape(name) for name in (table.corner, *table.columns)],
        ["---", *["---:"] * len(table.columns)],
        *([escape(name), *map(_entry, row)] for name, row in table.rows),
    ]
    body = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"**{escape(table.title)}**\n\n{body}" if table.title else body


def _entry(entry: Entry) -> str:
    return MARKDOWN[entry.mark].format(escape(entry.text)) if entry.text else ""


def markdown_tables(results: Results, compared: Sequence[Place] = (), choices: Sequence[Choice] = ()) -> str:
    """All tables and their captions, those beside published numbers and of what was chosen first."""
    beside = compare(compared, results.when)
    parts = [*map(markdown_table, beside.tables), *([beside.caption] if compared else [])]
    if choices:
        parts += [markdown_table(choice_table(choices, results.value)), choice_caption(results)]
    for made, text in all_sections(results):
        parts += [*map(markdown_table, made), text]
    parts += remarks(results)
    return "\n\n".join(parts) + "\n"


def rich_tables(
    results: Results, compared: Sequence[Place] = (), choices: Sequence[Choice] = ()
) -> list[RichTable]:
    """The tables for a terminal; the last one of a kind carries the caption.

    Args:
        results: of `load_results`.
        compared: of `places`.
        choices: of `choose`.

    Returns:
        One or several tables; none if there are too many combinations of axes for tables.
    """
    beside, shown = compare(compared, results.when), []
    if choices:
        shown += _rich([choice_table(choices, results.value)], choice_caption(results))
    made = all_sections(results)
    for tables, text in made:
        shown += _rich(tables, f"{text} {state(results)}." if tables is made[-1].tables else text)
    return shown + (_rich(beside.tables, beside.caption) if beside.tables else [])


def _rich(made: Sequence[Table], note: str) -> list[RichTable]:
    shown = []
    for table in made:
        rich = RichTable(
            title=Text(table.title) if table.title else None,
            caption=Text(note) if table is made[-1] else None,
            title_justify="left",
            caption_justify="left",
        )
        rich.add_column(Text(table.corner))
        for name in table.columns:
            rich.add_column(Text(name), justify="right")
        for name, row in table.rows:
            rich.add_row(Text(name), *(Text(entry.text, _style(entry)) for entry in row))
        shown.append(rich)
    return shown


def _style(entry: Entry) -> str:
    italic = "italic " if entry.mark == "worst" else ""
    return italic + BROKEN_STYLE if entry.broken else STYLES[entry.mark]
