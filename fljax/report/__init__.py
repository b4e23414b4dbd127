"""Tables, figures and a page of a sweep's folder, finished or under way."""

from fljax.report.comparison import places
from fljax.report.results import Results, load_results
from fljax.report.selection import Choice, choose
from fljax.report.text import rich_tables
from fljax.report.write import FORMATS, PAPER_FORMATS, load_chosen, write_report

__all__ = [
    "FORMATS",
    "PAPER_FORMATS",
    "Choice",
    "Results",
    "choose",
    "load_chosen",
    "load_results",
    "places",
    "rich_tables",
    "write_report",
]
