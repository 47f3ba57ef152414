"""Tables that fit the screen: of several forms of one table, the richest for which there is room."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from hanlin.cli.show import plain

_ANY_WIDTH = 10_000


class Column(NamedTuple):
    """A column's title, and how it is set. `whole`: nothing in it is ever broken, as in ids that people copy."""

    title: str
    right: bool = False
    whole: bool = False


def table(columns: Iterable[Column], rows: Iterable[Sequence[str | Text]], last: Sequence[Sequence[str]] = ()) -> Table:
    """Return a table; `last` are rows below a line, for totals. No text in it is obeyed by a terminal."""
    made = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for column in columns:
        justify = "right" if column.right else "left"
        whole = column.whole or column.right
        made.add_column(column.title, justify=justify, no_wrap=whole, overflow="fold")  # type: ignore[arg-type]
    for row in rows:
        made.add_row(*(Text(plain(cell)) if isinstance(cell, str) else cell for cell in row))
    if last:
        made.add_row(*(_Line() for _ in made.columns))
    for row in last:
        made.add_row(*(Text(plain(cell), "bold") for cell in row))
    return made


class _Line:
    """A line across a column, however wide that is."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text("─" * options.max_width, "dim")

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(1, 1)


class Fitting:
    """The first of several tables that fits the width; where none does, the last one, broken into lines and not cut: a
    number without its last digits is another number."""

    def __init__(self, *forms: Table) -> None:
        self._forms = forms

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        room = options.update(max_width=_ANY_WIDTH)
        for form in self._forms:
            if form.__rich_measure__(console, room).maximum <= options.max_width:
                yield form
                return
        last = self._forms[-1]
        if last.__rich_measure__(console, room).minimum > options.max_width:
            for column in last.columns:
                column.no_wrap = False
        yield last
