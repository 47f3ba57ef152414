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
        if block is None:
            yield Page(number, "\n\n".join(held), label)
            number, held, filled = number + 1, [], 0
            continue
        if held and filled + len(block) > size:
            yield Page(number, "\n\n".join(held), label)
            number, held, filled = number + 1, [], 0
        for piece in pieces(block, MOST_CHARACTERS):
            if held and filled + len(piece) > MOST_CHARACTERS:
                yield Page(number, "\n\n".join(held), label)
                number, held, filled = number + 1, [], 0
            if piece.strip():
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


def tables(rows: Iterable[Sequence[str]], *, width: int = 0, size: int = SECTION_CHARACTERS) -> Iterator[str]:
    """Write rows as Markdown tables, the first of them as the header, which every further piece of the table repeats.

    `width` is the number of columns; 0 takes the header's. A header that fills half of a piece is not repeated.
    """
    header, held, filled = "", list[str](), 0
    for cells in rows:
        if not header:
            width = width or len(cells)
            header = f"{row(cells, width)}\n{'| --- ' * max(width, len(cells))}|"
            repeated = header if len(header) <= size // 2 else ""
            held, filled = [header], len(header)
            continue
        line = row(cells, width)
        if len(held) > 1 and filled + len(line) > size:
            yield "\n".join(held)
            held = [repeated] if repeated else []
            filled = len(repeated)
        held.append(line)
        filled += len(line) + 1
    if held:
        yield "\n".join(held)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return one Markdown table, however long; its columns are those of its widest row."""
    width = max(map(len, rows), default=0)
    return "\n".join(tables(rows, width=width, size=2**62))


__all__ = [
    "MOST_CHARACTERS",
    "SECTION_CHARACTERS",
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
