"""Tables, figures and a page of a sweep's folder, finished or under way."""

from fljax.report.comparison import places
from fljax.report.results import Results, load_results
from fljax.report.text import rich_tables
from fljax.report.write import FORMATS, write_report

__all__ = ["FORMATS", "Results", "load_results", "places", "rich_tables", "write_report"]
