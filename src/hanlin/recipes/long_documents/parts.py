"""Cut whole documents into parts that fit a call each, and say which are read, and in which order.

No character is in two parts. Where not all can be read, those that are read are spread evenly.
"""

import re
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from dataclasses import dataclass

from hanlin.documents.values import Document, Page
from hanlin.metering.estimate import text_tokens
from hanlin.recipes.long_documents.prompts import Piece, marked

_PAGES_AT_ONCE = 64
_MARK_TOKENS = 16
_ENDS = re.compile(r"(?<=[。！？!?；;])|(?<=\.)\s|(?<=\n)")


@dataclass(frozen=True)
class Part:
    """What one call reads of a document. `number` counts from 0 over all documents of a request."""

    number: int
    document: Document
    pieces: tuple[Piece, ...]

    @property
    def text(self) -> str:
        return marked(self.pieces)

    @property
    def bare(self) -> str:
        """Its text with the marks of its pages, but not the name that somebody gave the file."""
        return marked(self.pieces, named=False)

    @property
    def pages(self) -> range:
        return range(self.pieces[0].first_page, self.pieces[-1].last_page + 1)

    def of(self, text: str) -> Piece:
        """Return a text that was made of the part as a piece of its pages."""
        first, last = self.pieces[0], self.pieces[-1]
        return Piece(self.document, first.first_page, last.last_page, text, first.label)

    def halves(self) -> tuple["Part", ...]:
        """Return the part as two, for an answer that was too long for one; itself where it cannot be cut."""
        pieces = self.pieces
        if len(pieces) == 1:
            whole = pieces[0]
            texts = list(cut(whole.text, max(text_tokens(whole.text) // 2, 1)))
            pieces = tuple(
                Piece(whole.document, whole.first_page, whole.last_page, text, whole.label) for text in texts
            )
        if len(pieces) < 2:
            return (self,)
        middle = len(pieces) // 2
        return tuple(Part(self.number, self.document, some) for some in (pieces[:middle], pieces[middle:]))


async def pages_of(document: Document) -> AsyncIterator[Page]:
    """Yield a document's pages, reading some of them at a time."""
    first = 1
    while first <= document.pages:
        last = min(first + _PAGES_AT_ONCE - 1, document.pages)
        for page in await document.read(first, last):
            yield page
        first = last + 1


async def parts_of(documents: Sequence[Document], budget_tokens: int) -> list[Part]:
    """Return documents as parts of at most so many tokens, pages whole where they fit."""
    found: list[Part] = []
    for document in documents:
        pieces: list[Piece] = []
        left = budget_tokens
        async for page in pages_of(document):
            for text in cut(page.text, budget_tokens - _MARK_TOKENS):
                cost = text_tokens(text) + _MARK_TOKENS
                if cost > left and pieces:
                    found.append(Part(len(found), document, tuple(pieces)))
                    pieces, left = [], budget_tokens
                pieces.append(Piece(document, page.number, page.number, text, page.label))
                left -= cost
        if pieces:
            found.append(Part(len(found), document, tuple(pieces)))
    return found


def cut(text: str, budget_tokens: int) -> Iterator[str]:
    """Yield a text in pieces of at most so many tokens, cut at the ends of sentences and lines; a blank one not at all.

    A piece without such an end is cut anywhere.
    """
    if text_tokens(text) <= budget_tokens:
        if text.strip():
            yield text
        return
    held, size = "", 0
    for sentence in _bounded(_ENDS.split(text), budget_tokens):
        cost = text_tokens(sentence)
        if held.strip() and size + cost > budget_tokens:
            yield held
            held, size = "", 0
        held += sentence
        size += cost
    if held.strip():
        yield held


def _bounded(sentences: Sequence[str], budget_tokens: int) -> Iterator[str]:
    for sentence in sentences:
        if not sentence:
            continue
        cost = text_tokens(sentence)
        if cost <= budget_tokens:
            yield sentence
            continue
        step = max(len(sentence) * budget_tokens // (cost + 1), 1)
        yield from (sentence[at : at + step] for at in range(0, len(sentence), step))


def evenly(count: int, most: int, first: Collection[int] = ()) -> list[int]:
    """Return at most so many of `count` numbers: those of `first`, then others spread evenly, both ends among them."""
    if count <= most:
        return list(range(count))
    chosen = dict.fromkeys(list(first)[: max(most - 2, 0)])
    wanted = most - len(chosen)
    others = [number for number in range(count) if number not in chosen]
    step = (len(others) - 1) / max(wanted - 1, 1)
    return sorted([*chosen, *(others[round(at * step)] for at in range(wanted))])


def spread(numbers: Sequence[int]) -> list[int]:
    """Return numbers so that however many of them are taken, these are spread about evenly: ends, middle, quarters …"""
    if len(numbers) <= 2:
        return list(numbers)
    order = [0, len(numbers) - 1]
    gaps = [(0, len(numbers) - 1)]
    while gaps:
        next_gaps: list[tuple[int, int]] = []
        for low, high in gaps:
            if high - low > 1:
                middle = (low + high) // 2
                order.append(middle)
                next_gaps += [(low, middle), (middle, high)]
        gaps = next_gaps
    return [numbers[at] for at in order]


__all__ = ["Part", "cut", "evenly", "pages_of", "parts_of", "spread"]
