"""Text that flows: lines become paragraphs, blocks become pages of a readable size."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from hanlin.documents.values import Page

SECTION_CHARACTERS = 3_000
"""About how long a page is in a document that has none of its own."""

MOST_CHARACTERS = 20_000
"""How long a page is at most, whatever the document says: people find nothing in longer ones."""

_HAN = (
    "\u2e80-\u303f\u3041-\u30ff\u3105-\u312f\u31a0-\u31bf\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\ufe30-\ufe4f"
    "\uff01-\uff60\uffe0-\uffe6\U00020000-\U0003ffff“”‘’…—"
)
_HAN_FIRST = re.compile(f"[{_HAN}]")
_WORD = re.compile(rf"[^\s{_HAN}]+|.")
_BARE_NUMBER = re.compile(r"[^\w\s]*\s*[\d,]+(?:\.\d+)?\s*[^\w\s]*")
_LABEL_CHARACTERS = 100
_TITLED_COLUMNS = 3  # of two columns, one may well have no name
_MOST_TITLES = 3
_CUTS = ("\n\n", "\n", "。", ". ", "；", " ")


def joined(lines: Iterable[str]) -> str:
    """Put the lines of a paragraph together: without a space beside a Han character, with one between words.

    A word that was divided with a soft hyphen is whole again.
    """
    told: list[str] = []
    for line in filter(None, (line.strip() for line in lines)):
        before = told[-1] if told else ""
        if before.endswith(("\u00ad", "\ufffe", "\x02")):
            told[-1] = before[:-1]
        elif before and not (before.endswith("-") or _HAN_FIRST.match(before[-1]) or _HAN_FIRST.match(line)):
            told.append(" ")
        told.append(line)
    return "".join(told)


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


def repeated(text: str) -> str:
    """Return what a cell that goes over several rows says in those below the first: its text, where that is a label.

    Each row can be read by itself then. A bare number stands once: whoever adds a column up must not count it again.
    """
    return "" if len(text) > _LABEL_CHARACTERS or _BARE_NUMBER.fullmatch(text) else text


def is_title(cells: Sequence[str]) -> bool:
    """Whether the first row of a table is its title: it says one thing, at its beginning, above several columns."""
    return len(cells) >= _TITLED_COLUMNS and bool(cells[0].strip()) and not any(map(str.strip, cells[1:]))


def with_second(header: Mapping[int, str], row: Mapping[int, str]) -> dict[int, str] | None:
    """Return a header, by column, with a second row of it; None where the row is none.

    It is one where it says again what goes over both rows, and names columns below a group (`价格` above `含税` and
    `不含税` makes `价格 含税` and `价格 不含税`), or names every column where the header has nothing but groups.
    """
    says_again = any(text.strip() and row.get(at) == text for at, text in header.items())
    names_more = any(text.strip() and not header.get(at, "").strip() for at, text in row.items())
    if not names_more or not (says_again or _is_of_groups(header, row)):
        return None
    made, group = dict[int, str](), ""
    for at in sorted({*header, *row}):
        above, below = header.get(at, "").strip(), row.get(at, "").strip()
        group = above or group
        made[at] = f"{group} {below}" if below and below != above else above
    return made


def _is_of_groups(header: Mapping[int, str], row: Mapping[int, str]) -> bool:
    """Whether a header names several groups, each over columns that it has no names for, and a row names them all."""
    groups = [at for at, text in header.items() if text.strip()]
    return (
        len(groups) > 1
        and all(not header.get(at + 1, "").strip() and row.get(at + 1, "").strip() for at in groups)
        and all(row.get(at, "").strip() for at in {*header, *row})
        and not any(character.isdigit() for text in row.values() for character in text)
    )


class Rows:
    """A Markdown table that is written while its rows come, in pieces of about `size` characters.

    The first row is the header, which every further piece repeats, unless it fills half of a piece; titles above it
    are pieces of their own. `width` is the number of columns; 0 takes the header's.
    """

    def __init__(self, width: int = 0, size: int = SECTION_CHARACTERS) -> None:
        self._width = width
        self._size = size
        self._header = ""
        self._lines: list[str] = []
        self._filled = 0
        self._titles = 0
        self._head: list[str] = []
        self._begun = False
        self._news = False  # whether the lines hold more than a repeated header

    def add(self, cells: Sequence[str]) -> str | None:
        """Take a row; return the piece before it when that is full."""
        if not self._begun:
            if not self._head and is_title(cells) and self._titles < _MOST_TITLES:
                self._titles += 1
                return " ".join(cells[0].split())
            if not self._head:  # nobody knows yet whether it goes on
                self._head = list(cells)
                return None
            more = with_second(dict(enumerate(self._head)), dict(enumerate(cells)))
            self._head = list(more.values()) if more is not None else self._head
            self._begin()
            if more is not None:
                return None
        line, piece = row(cells, self._width), None
        if self._filled + len(line) > self._size and len(self._lines) > 1:
            piece = self.cut()
        self._lines.append(line)
        self._filled += len(line) + 1
        self._news = True
        return piece

    def _begin(self) -> None:
        """Write the header."""
        self._width = self._width or len(self._head)
        header = f"{row(self._head, self._width)}\n{'| --- ' * max(self._width, len(self._head))}|"
        self._header = header if len(header) <= self._size // 2 else ""
        self._lines, self._filled, self._news, self._begun = [header], len(header), True, True

    def cut(self) -> str | None:
        """Return what has been written since the last piece, None when that is nothing."""
        if self._head and not self._begun:
            self._begin()
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
    """Return one Markdown table, however long; its columns are those of its widest row. Titles stand above it."""
    width = max(map(len, rows), default=0)
    return "\n\n".join(tables(rows, width=width, size=2**62))


__all__ = [
    "MOST_CHARACTERS",
    "SECTION_CHARACTERS",
    "Rows",
    "cell",
    "first_word",
    "heading",
    "is_title",
    "joined",
    "paged",
    "pieces",
    "repeated",
    "row",
    "table",
    "tables",
    "with_second",
]
