"""Plain text and Markdown: both are what they say, cut into pages at paragraphs. A form feed is a page's end."""

from collections.abc import Iterator

from hanlin.documents.parsers import encodings, flow
from hanlin.documents.parsers.work import Work
from hanlin.documents.unreadable import DocumentUnreadable
from hanlin.documents.values import Page


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
            held = held[cut:]
    yield from _paragraphs(held)


def _cut(text: str) -> int:
    """Return where a long text can be divided: after its last paragraph, else its last line, else anywhere."""
    for mark in ("\n\n", "\n"):
        if (found := text.rfind(mark)) > 0:
            return found + len(mark)
    return len(text)


def _paragraphs(text: str) -> Iterator[str]:
    yield from (paragraph for paragraph in text.split("\n\n") if paragraph.strip())


__all__ = ["blocks", "pages", "text"]
