"""Sentences on a terminal: wrapped between words, and between Chinese characters, which have no spaces.

Rich takes a whole Chinese clause for one word and leaves ragged lines around it.
"""

import re
from collections.abc import Iterator

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.text import Text

_WIDE = "\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef"
_OPENING = "（《「『【“"
_CLOSING = "，。；：！？、）》」』】”…"

# What stays together: a word or one Chinese character, the brackets before it, the punctuation and spaces behind it.
_UNIT = re.compile(rf"[{_OPENING}]*(?:[^\s{_WIDE}]+|[{_WIDE}])[{_CLOSING}]*\s*")


class Prose:
    """A renderable of plain sentences; line ends are kept, lines that are too long are wrapped."""

    def __init__(self, text: str, style: str = "") -> None:
        self._text = text
        self._style = style

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = (wrapped for line in self._text.split("\n") for wrapped in wrap(line, options.max_width))
        yield Text("\n".join(lines), style=self._style, overflow="fold")

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        widest = max(map(cell_len, self._text.split("\n")))
        least = max((cell_len(unit.rstrip()) for unit in _UNIT.findall(self._text)), default=0)
        return Measurement(least, widest).clamp(max_width=options.max_width)


def wrap(line: str, columns: int) -> Iterator[str]:
    """Yield a line as lines of at most `columns` cells; only what cannot be broken is longer. Indents are kept."""
    indent = line[: len(line) - len(line.lstrip())]
    current = indent
    for unit in _UNIT.findall(line):
        if current.strip() and cell_len(current) + cell_len(unit.rstrip()) > columns:
            yield current.rstrip()
            current = indent
        current += unit
    yield current.rstrip()
