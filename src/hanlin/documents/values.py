"""What a document is once it has been read: pages, passages, and what may be asked of it."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from hanlin.types import Vector


class Page(msgspec.Struct, frozen=True, gc=False):
    """A page, sheet, slide or chapter, as Markdown: headings, lists and tables are kept.

    `number` counts from 1; `label` is what people call it where that is not its number (a sheet's name).
    """

    number: int
    text: str
    label: str = ""


class Passage(msgspec.Struct, frozen=True, gc=False):
    """A piece of a document that can be read by itself. `number` counts from 0 in the document's order.

    `heading` are the headings above it, outermost first, joined by ` › `; "" where there are none.
    """

    number: int
    first_page: int
    last_page: int
    heading: str
    text: str


class Found(msgspec.Struct, frozen=True, gc=False):
    """A passage that may answer a question. A higher `score` is better; scores of one search can be compared."""

    passage: Passage
    score: float


class Document(Protocol):
    """Something that was read and indexed. `tokens` is an estimate for the whole text, `digest` names its bytes."""

    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def digest(self) -> str: ...
    @property
    def pages(self) -> int: ...
    @property
    def tokens(self) -> int: ...

    async def read(self, first: int = 1, last: int | None = None) -> Sequence[Page]:
        """Return pages in their order, by default all; both ends are included."""

    async def passages(self) -> Sequence[Passage]:
        """Return all passages in their order."""

    async def around(self, passage: Passage, before: int = 1, after: int = 1) -> Sequence[Passage]:
        """Return a passage with those before and after it, in their order."""

    async def count(self) -> int:
        """Return how many passages there are."""

    async def frequencies(self, terms: Sequence[str]) -> Mapping[str, int]:
        """Return in how many passages each of these words (`hanlin.documents.words`) occurs, 0 included."""

    async def search(self, question: str, limit: int, vector: Vector | None = None) -> Sequence[Found]:
        """Return passages that share words with a question, or are near its `vector` where there are vectors."""

    async def noted(self, key: str) -> str | None:
        """Return what was written down of this text under a key; None where nothing is, or no longer."""

    async def note(self, key: str, text: str) -> None:
        """Keep something that was made of this text, and of nothing that a caller said, for whoever has the same text.

        The key is a digest of what it was made of, in hexadecimal digits. It is there as long as the document at most.
        """


class Library(Protocol):
    """The documents that one caller may read."""

    async def open(self, ids: Sequence[str]) -> Sequence[Document]:
        """Return the documents of these file ids, in order. Raises the contract's errors (spec/scenarios.md §2.5)."""

    async def hold(self, text: str, name: str) -> Document:
        """Return a document whose text stands in the request itself; the same text is indexed once."""


__all__ = ["Document", "Found", "Library", "Page", "Passage"]
