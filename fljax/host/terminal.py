"""Tables and bars that stay readable on a terminal of any width."""

import copy
import dataclasses
import re
from collections.abc import Iterable, Sequence

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, SpinnerColumn, TextColumn
from rich.table import Column
from rich.table import Table as RichTable
from rich.text import Text

# Wide enough for any table, to ask what it would like to have.
UNBOUNDED = 100_000
# Between the numbers of a cell.
_BREAKS = re.compile(r" (?=/ |\[)")


class Table(RichTable):
    """A table where the console is wide enough for its words, else a list of its rows.

    In the list a row is its first cell, and below it the others that hold something, each behind its column's
    name. Either way no word is broken as long as one fits into a line, and nothing is cut off. A cell of a
    column that is justified to the right holds a number, which is not broken at its spaces either; several
    with slashes between them may stand below each other. The caption has the width of the console.

    Example:
        >>> table = Table("rule", "test error")
        >>> table.add_row("geometric_median", "0.123")
        >>> Console(width=40).print(table)
        ┏━━━━━━━━━━━━━━━━━━┳━━━━━━━━━━━━┓
        ┃ rule             ┃ test error ┃
        ┡━━━━━━━━━━━━━━━━━━╇━━━━━━━━━━━━┩
        │ geometric_median │ 0.123      │
        └──────────────────┴────────────┘
        >>> Console(width=24).print(table)
        geometric_median
          test error  0.123
    """

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        # Without lines between the columns, if that makes room for every cell to stay on one line; then with
        # the numbers of a cell below each other; last with names in several lines beside the numbers.
        slashed = self._slashed(console)
        tries = [(self, False), (self._lean(1), True), (slashed, False), (slashed._lean(1), True)]
        if any(column.justify == "right" for column in self.columns):
            tries.append((slashed._lean(0), False))
        for table, whole in tries:
            least, natural = table._widths(console, whole)
            borders = Measurement.get(console, options.update_width(UNBOUNDED), table).maximum - sum(natural)
            room = options.max_width - borders
            if not self.show_header or sum(least) <= room:
                yield from table._with_columns(shared(room, least, natural))._rendered(console, options)
                break
        else:
            yield from self._as_list(console, options.max_width)
        if self.caption:
            yield _text(console, self.caption, "table.caption")

    def _lean(self, gap: int) -> "Table":
        """The table without lines between its columns, but with so many further spaces."""
        lean = copy.copy(self)
        lean.box, lean.padding, lean.pad_edge = SIMPLE_HEAD, (0, gap, 0, 0), False
        return lean

    def _slashed(self, console: Console) -> "Table":
        """The table with every number behind a slash, and an interval, on a line of its own."""
        made = copy.copy(self)
        made.columns = [copy.copy(column) for column in self.columns]
        for column in made.columns:
            if column.justify == "right":
                cells = (_text(console, cell) for cell in column.cells)
                column._cells = [Text(_BREAKS.sub("\n", cell.plain), cell.style) for cell in cells]
        return made

    def _with_columns(self, widths: Sequence[int]) -> "Table":
        fixed = copy.copy(self)
        fixed.caption = None  # it would be as narrow as the table
        pairs = zip(self.columns, widths, strict=True)
        fixed.columns = [dataclasses.replace(c, width=width, overflow="fold") for c, width in pairs]
        return fixed

    def _rendered(self, console: Console, options: ConsoleOptions) -> RenderResult:
        return super().__rich_console__(console, options)

    def _widths(self, console: Console, whole: bool) -> tuple[list[int], list[int]]:
        """How wide every column must be to break no word (or with `whole` no cell), and to break nothing."""
        least, natural = [], []
        for column in self.columns:
            if column.width is not None:
                least.append(column.width)
                natural.append(column.width)
                continue
            header = [_plain(console, column.header)] * self.show_header
            cells = [_plain(console, cell) for cell in column.cells]
            lines = [line for text in header + cells for line in text.splitlines()]
            kept = header * column.no_wrap + cells * (whole or column.no_wrap or column.justify == "right")
            words = [word for line in lines for word in line.split()]
            words += [line for text in kept for line in text.splitlines()]
            least.append(max(map(cell_len, words), default=1))
            natural.append(max(map(cell_len, lines), default=1))
        return least, natural

    def _as_list(self, console: Console, width: int) -> RenderResult:
        if self.title:
            yield _text(console, self.title, "table.title")
        first, *others = (_text(console, column.header) for column in self.columns)
        labels = min(max((label.cell_len for label in others), default=1), width // 2)
        for row in zip(*(column.cells for column in self.columns), strict=True):
            name, *cells = (_text(console, cell) for cell in row)
            # A number alone does not say of what.
            head = Text.assemble(first, " ", name) if name.plain.isdecimal() else name.copy()
            head.stylize("bold")
            yield head
            grid = Table.grid(Column(width=labels), "", padding=(0, 2, 0, 0))
            for label, cell in zip(others, cells, strict=True):
                if cell.plain:
                    grid.add_row(label, cell)
            yield Padding(grid, (0, 0, 0, 2), expand=False)


def shared(room: int, least: Sequence[int], natural: Sequence[int]) -> list[int]:
    """The widths of columns in a table: what they must have, and of the rest in proportion to what they lack.

    Args:
        room: for all of them.
        least: what each must have.
        natural: what each would like to have.

    Example:
        >>> shared(30, [5, 5], [5, 45]), shared(99, [5, 5], [5, 45]), shared(9, [12, 6], [20, 6])
        ([5, 25], [5, 45], [6, 3])
    """
    if sum(least) > room:
        return [max(1, width * room // sum(least)) for width in least]
    lacking = sum(natural) - sum(least)
    share = min(1.0, (room - sum(least)) / lacking) if lacking else 0.0
    return [must + int((would - must) * share) for must, would in zip(least, natural, strict=True)]


def _text(console: Console, content: RenderableType | str, style: str = "") -> Text:
    return console.render_str(str(content), style=style) if not isinstance(content, Text) else content


def _plain(console: Console, content: RenderableType) -> str:
    return _text(console, content).plain


class Bar(Progress):
    """A progress bar, and below it its task's description, in as many lines as the console needs.

    Args:
        console: where to draw; nothing is drawn on anything but a terminal.
        unit: what is counted.
        *columns: further columns of the first line.
    """

    def __init__(self, console: Console, unit: str, *columns: ProgressColumn) -> None:
        first = (SpinnerColumn(), BarColumn(), MofNCompleteColumn(), TextColumn(unit))
        super().__init__(*first, *columns, console=console, disable=not console.is_terminal)

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        yield from (Text(task.description) for task in self.tasks)
