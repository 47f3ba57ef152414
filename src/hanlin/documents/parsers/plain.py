"""Plain text and Markdown: both are what they say, cut into pages at paragraphs. A form feed is a page's end.

A table that goes over several pages has its head on each: rows without it say nothing.
"""

import re
from collections.abc import Iterator, Sequence

from hanlin.documents.parsers import encodings, flow
from hanlin.documents.parsers.work import Work
from hanlin.documents.unreadable import DocumentUnreadable
from hanlin.documents.values import Page

_BORDER = re.compile(r"\s*+\|?\s*+:?-+:?\s*+(?:\|\s*+:?-+:?\s*+)*\|?\s*+")
_LONGEST_HEAD = flow.SECTION_CHARACTERS // 4


def pages(work: Work) -> Iterator[Page]:
    yield from flow.paged(blocks(text(work)))


def text(work: Work, declared: str = "") -> Iterator[str]:
    """Yield the text of the file in pieces. Raises DocumentUnreadable when it is no text.

    `declared` is the encoding that the file says it has.
    """
    codec = encodings.encoding_of(work.path, declared)
    if codec is None:
        raise DocumentUnreadable("format")
    size = work.path.stat().st_size
    for number, piece in enumerate(encodings.text_of(work.path, codec), start=1):
        work.tick(min(number * encodings.CHUNK_BYTES, size), size)
        yield piece


def blocks(texts: Iterator[str]) -> Iterator[str | None]:
    """Yield the paragraphs of a text, None at a form feed. A paragraph is never held beyond what fits on a page."""
    held = ""
    for piece in texts:
        held += piece
        *whole, held = held.replace("\n\x0c", "\x0c").split("\x0c") if "\x0c" in held else [held]
        for sheet in whole:
            yield from _paragraphs(sheet)
            yield None
        if len(held) > flow.MOST_CHARACTERS:
            cut = _cut(held)
            yield from _paragraphs(held[:cut])
            held = _open_head(held[:cut]) + held[cut:]
    yield from _paragraphs(held)


def _cut(text: str) -> int:
    """Return where a long text can be divided: after its last paragraph, else its last line, else anywhere."""
    for mark in ("\n\n", "\n"):
        if (found := text.rfind(mark)) > 0:
            return found + len(mark)
    return len(text)


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in text.split("\n\n"):
        if len(paragraph) > flow.SECTION_CHARACTERS:
            yield from _portions(paragraph.split("\n"))
        elif paragraph.strip():
            yield paragraph


def _portions(lines: Sequence[str]) -> Iterator[str]:
    """Yield a long paragraph: what is a table in portions of a page that have its head each, the rest as it is."""
    held, filled, head = list[str](), 0, list[str]()
    for at, line in enumerate(lines):
        begins = at + 1 < len(lines) and not head and _is_head(line, lines[at + 1])
        ends = bool(head) and "|" not in line
        full = bool(head) and filled + len(line) > flow.SECTION_CHARACTERS
        if begins or ends or full:
            if any(map(str.strip, held)):
                yield "\n".join(held)
            head = [line, lines[at + 1]] if begins else [] if ends else head
            held = list(head) if full and not ends else []
            filled = sum(map(len, held))
        held.append(line)
        filled += len(line) + 1
    if any(map(str.strip, held)):
        yield "\n".join(held)


def _open_head(text: str) -> str:
    """Return the head of the table that a text breaks off in, with a line end; "" where it ends otherwise."""
    lines = text[text.rfind("\n\n") + 1 :].split("\n")
    if lines.pop():  # in the middle of a line
        return ""
    for at in range(len(lines) - 1, 0, -1):
        if "|" not in lines[at]:
            break
        if _is_head(lines[at - 1], lines[at]) and at + 1 < len(lines):  # a head without rows is none that was told
            return f"{lines[at - 1]}\n{lines[at]}\n"
    return ""


def _is_head(line: str, below: str) -> bool:
    return (
        "|" in line
        and "-" in below
        and len(line) + len(below) <= _LONGEST_HEAD
        and _BORDER.fullmatch(below) is not None
    )


__all__ = ["blocks", "pages", "text"]
