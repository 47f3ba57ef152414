"""Text that flows: lines become paragraphs, blocks become pages of a readable size."""

import re
from collections.abc import Iterable, Iterator, Sequence

from hanlin.documents.values import Page

SECTION_CHARACTERS = 3_000
"""About how long a page is in a document that has none of its own."""

MOST_CHARACTERS = 20_000
"""How long a page is at most, whatever the document says: people find nothing in longer ones."""

_HAN = (
    "\u2e80-\u303f\u3041-\u30ff\u3105-\u312f\u31a0-\u31bf\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\ufe30-\ufe4f"
    "\uff01-\uff60\uffe0-\uffe6\U00020000-\U0003ffff“”‘’…—"
)
_ENDS_HAN = re.compile(f"[{_HAN}]$")
_BEGINS_HAN = re.compile(f"[{_HAN}]")
_WORD = re.compile(rf"[^\s{_HAN}]+|.")
_CUTS = ("\n\n", "\n", "。", ". ", "；", " ")


def joined(lines: Iterable[str]) -> str:
    """Put the lines of a paragraph together: without a space beside a Han character, with one between words.

    A word that was divided with a soft hyphen is whole again.
    """
    text = ""
    for line in filter(None, (line.strip() for line in lines)):
        if text.endswith(("\u00ad", "\ufffe", "\x02")):
            text = text[:-1] + line
        elif not text or _ENDS_HAN.search(text) or _BEGINS_HAN.match(line) or text.endswith("-"):
            text += line
        else:
            text = f"{text} {line}"
    return text


def first_word(text: str) -> str:
    """Return what may not be divided at the beginning of a line: a word, or one Han character."""
    found = _WORD.match(text)
    return found[0] if found else ""


def pieces(text: str, most: int) -> Iterator[str]:
    """Cut a text into pieces of at most `most` characters: at paragraphs, else at lines, sentences, words, anywhere."""
    start = 0
    while len(text) - start > most:
        end = start + most
        for mark in _CUTS:
            found = text.rfind(mark, start + most // 2, end)
            if found >= 0:
                end = found + len(mark)
                break
        yield text[start:end]
        start = end
    yield text[start:]


def paged(
    blocks: Iterable[str | None], *, size: int = SECTION_CHARACTERS, first: int = 1, label: str = ""
) -> Iterator[Page]:
    """Put blocks of Markdown onto pages. None turns the page; one that is full (`size`) is turned as well.

    Numbers count from `first`. A page that was turned empty keeps its number, and is told as an empty one.
    """
    number, held, filled = first, list[str](), 0
    for block in blocks:
        for piece in [None] if block is None else pieces(block, size):
            if piece is None or (held and filled + len(piece) > size):
                yield Page(number, "\n\n".join(held), label)
                number, held, filled = number + 1, [], 0
            if piece is not None and piece.strip():
                held.append(piece.strip("\n"))
                filled += len(piece)
    if held:
        yield Page(number, "\n\n".join(held), label)


def heading(text: str, level: int) -> str:
    """Return a Markdown heading of one line; levels beyond the sixth are the sixth."""
    return f"{'#' * min(max(level, 1), 6)} {' '.join(text.split())}"


def cell(text: str) -> str:
    """Return a text as it can stand in a cell of a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|")


def row(cells: Sequence[str], width: int) -> str:
    return f"| {' | '.join([*map(cell, cells), *[''] * (width - len(cells))])} |"


class Rows:
    """A Markdown table that is written while its rows come, in pieces of about `size` characters.

    The first row is the header, which every further piece repeats, unless it fills half of a piece. `width` is the
    number of columns; 0 takes the header's.
    """

    def __init__(self, width: int = 0, size: int = SECTION_CHARACTERS) -> None:
        self._width = width
        self._size = size
        self._header = ""
        self._lines: list[str] = []
        self._filled = 0
        self._news = False  # whether the lines hold more than a repeated header

    def add(self, cells: Sequence[str]) -> str | None:
        """Take a row; return the piece before it when that is full."""
        if not self._lines and not self._header:
            self._width = self._width or len(cells)
            header = f"{row(cells, self._width)}\n{'| --- ' * max(self._width, len(cells))}|"
            self._header = header if len(header) <= self._size // 2 else ""
            self._lines, self._filled, self._news = [header], len(header), True
            return None
        line, piece = row(cells, self._width), None
        if self._filled + len(line) > self._size and len(self._lines) > 1:
            piece = self.cut()
        self._lines.append(line)
        self._filled += len(line) + 1
        self._news = True
        return piece

    def cut(self) -> str | None:
        """Return what has been written since the last piece, None when that is nothing."""
        piece = "\n".join(self._lines) if self._news else None
        self._lines = [self._header] if self._header else []
        self._filled, self._news = len(self._header), False
        return piece


def tables(rows: Iterable[Sequence[str]], *, width: int = 0, size: int = SECTION_CHARACTERS) -> Iterator[str]:
    """Write rows as Markdown tables of about `size` characters; see `Rows`."""
    written = Rows(width, size)
    for cells in rows:
        if (piece := written.add(cells)) is not None:
            yield piece
    if (piece := written.cut()) is not None:
        yield piece


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return one Markdown table, however long; its columns are those of its widest row."""
    width = max(map(len, rows), default=0)
    return "\n".join(tables(rows, width=width, size=2**62))


__all__ = [
    "MOST_CHARACTERS",
    "SECTION_CHARACTERS",
    "Rows",
    "cell",
    "first_word",
    "heading",
    "joined",
    "paged",
    "pieces",
    "row",
    "table",
    "tables",
]
