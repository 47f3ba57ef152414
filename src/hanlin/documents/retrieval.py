"""Find the passages of documents that may answer a question: by its words, and by its meaning where vectors exist.

Words are always there: they are indexed with the document. Vectors come later, if at all (`hanlin.documents.vectors`);
until then, and while they come, a search simply knows less. The two orders are put together by ranks, because neither
BM25 nor the cosine of a small model means anything by its size.
"""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from hanlin.documents import words
from hanlin.documents.coverage import Coverage, coverage
from hanlin.documents.indexing import INDEX, VECTORS, index
from hanlin.documents.notes import keep_note, note_of
from hanlin.documents.ranking import bm25, fused, rarity, reciprocal
from hanlin.documents.shelf import read_pages
from hanlin.documents.values import Document, Found, Page, Passage
from hanlin.documents.words import Term
from hanlin.store.passages import Indexes, IndexUnusable
from hanlin.store.vectors import there
from hanlin.types import Vector

_CANDIDATES = 50
"""Passages that each order names before they are put together."""

_LEADING_WORDS, _LEADING_VECTORS = 3, 2
"""Passages that each order is sure to bring into a prompt. One fact in a passage about other things is nothing that its
vector shows; it is found by its words alone."""

_COMMON, _FEW = 0.4, 20
"""A word of more than this share of a document's passages says nothing there, if there are more than a few of them."""

_MOST_SOUGHT = 64
"""Words of one question that are looked for, the rarest ones: a long one is looked for by what is special in it."""

_BLOCK = 4096
"""Vectors that are read at a time."""

Answer = TypeVar("Answer")

INDEXES = Indexes()
"""The indexes that this process reads. Their files are the documents' own; what is shared is how many are open."""


class IndexedDocument:
    """A document in a folder: its pages, its index, its vectors, what was noted of it.

    An index that is missing or unusable is made from the pages. Raises FileNotFoundError once the folder is gone.
    """

    def __init__(
        self,
        folder: Path,
        *,
        id: str,
        name: str,
        digest: str,
        pages: int,
        tokens: int,
        indexes: Indexes = INDEXES,
    ) -> None:
        self.folder = folder
        self.id = id
        self.name = name
        self.digest = digest
        self.pages = pages
        self.tokens = tokens
        self._indexes = indexes

    async def read(self, first: int = 1, last: int | None = None) -> Sequence[Page]:
        """Return pages in their order, by default all; both ends are included."""
        return await self.ask(lambda _index: list(read_pages(self.folder, first, last)))

    async def passages(self) -> Sequence[Passage]:
        """Return all passages in their order."""
        return await self.span(0, 2**62)

    async def span(self, first: int, last: int) -> Sequence[Passage]:
        """Return the passages from one number to another, both included."""
        rows = await self.ask(lambda path: self._indexes.span(path, first, last))
        return [Passage(*row) for row in rows]

    async def around(self, passage: Passage, before: int = 1, after: int = 1) -> Sequence[Passage]:
        """Return a passage with those before and after it, in the document's order."""
        return await self.span(max(passage.number - before, 0), passage.number + after)

    async def count(self) -> int:
        """Return how many passages there are."""
        return await self.ask(self._indexes.count)

    async def frequencies(self, terms: Sequence[str]) -> dict[str, int]:
        """Return in how many passages each of these words occurs, 0 included."""
        found = await self.ask(lambda path: self._indexes.frequencies(path, terms))
        return {term: found.get(term, 0) for term in terms}

    async def search(self, question: str, limit: int, vector: Vector | None = None) -> Sequence[Found]:
        """Return passages that share words with a question, or are near its `vector` where there are vectors.

        There are none when nothing fits: a question that is made of stop words alone finds nothing by them.
        """
        return await self.ask(lambda path: self._search(path, question, limit, vector))

    async def noted(self, key: str) -> str | None:
        """Return what was written down of this text under a key; None where nothing is, or no longer."""
        return await asyncio.to_thread(note_of, self.folder, key)

    async def note(self, key: str, text: str) -> None:
        """Keep what was made of this text beside its index; see `hanlin.documents.notes`."""
        await asyncio.to_thread(keep_note, self.folder, key, text)

    def _search(self, path: Path, question: str, limit: int, vector: Vector | None) -> list[Found]:
        count = self._indexes.count(path)
        if not count or limit < 1:
            return []
        many = max(limit, _CANDIDATES)
        sought = self._sought(path, words.terms(question), count)
        lexical = self._indexes.search(path, words.match(sought), many) if sought else []
        dense, share = ([], 0.0) if vector is None else self._nearest(vector, many, count)
        # Only what has a vector can be near: until all have, the order by nearness counts for as much as it has seen.
        leading = [_LEADING_WORDS, _LEADING_VECTORS if share == 1 else 0] if dense else [0, 0]
        scores = fused([[number for number, _weight in lexical], dense], [1.0, share], leading)
        best = list(scores)[:limit]
        return [Found(Passage(*row), scores[row.number]) for row in self._indexes.rows(path, best)]

    def _sought(self, path: Path, terms: Sequence[Term], count: int) -> list[Term]:
        """Return the terms that can tell passages of this document apart, the rarest first."""
        frequencies = self._indexes.frequencies(path, [term.text for term in terms if not term.is_prefix])
        there = [term for term in terms if term.is_prefix or term.text in frequencies]
        there.sort(key=lambda term: frequencies.get(term.text, count))
        telling = [term for term in there if frequencies.get(term.text, 0) <= _COMMON * count]
        return (telling if telling and count > _FEW else there)[:_MOST_SOUGHT]

    def _nearest(self, vector: Vector, limit: int, count: int) -> tuple[list[int], float]:
        """Return the passages nearest to a vector, and the share of all passages that could be."""
        found = there(self.folder / VECTORS)
        if found is None or found.head.passages != count or found.head.dimensions != len(vector) or not found.rows:
            return [], 0.0
        import numpy as np  # 30 MB and a tenth of a second, which a service without vectors need not spend

        wanted = np.asarray(vector, np.float32)
        parts = []
        # Read, not mapped: a file that is begun anew meanwhile ends early, and would end the process if it were mapped.
        with open(found.path, "rb") as file:
            file.seek(found.offset)
            for first in range(0, found.rows, _BLOCK):
                rows = np.fromfile(file, np.float32, min(_BLOCK, found.rows - first) * wanted.size)
                parts.append(rows[: rows.size // wanted.size * wanted.size].reshape(-1, wanted.size) @ wanted)
        nearness = np.concatenate(parts)
        best = np.argsort(-nearness, kind="stable")[:limit]
        return [int(number) for number in best], nearness.size / count

    async def ask(self, ask: Callable[[Path], Answer]) -> Answer:
        """Return what an index, given its path, says; what is asked runs in a thread, and again after a repair."""
        return await asyncio.to_thread(self._asked, ask)

    def _asked(self, ask: Callable[[Path], Answer]) -> Answer:
        path = self.folder / INDEX
        try:
            return ask(path)
        except IndexUnusable as damage:
            with _REPAIRS:  # one at a time: whoever waited finds the index that another made
                try:
                    return ask(path)
                except IndexUnusable:
                    try:
                        index(self.folder)
                    except OSError as error:
                        raise error from damage
            return ask(path)


_REPAIRS = threading.Lock()


async def covered(documents: Sequence[Document], question: str, passages: Sequence[Passage]) -> Coverage:
    """Return what passages, the best first, have of the question that they were found for in these documents."""
    sought = [term.text for term in words.terms(question) if not term.is_prefix]
    frequencies, count = Counter[str](), 0
    for document in documents:
        frequencies.update(await document.frequencies(sought))
        count += await document.count()
    return await asyncio.to_thread(coverage, question, passages, frequencies, count)


async def search_all(
    documents: Sequence[Document], question: str, limit: int, vector: Vector | None = None
) -> list[tuple[Document, Found]]:
    """Return passages of several documents that may answer a question, best first.

    What a document's own search says of its passages cannot be compared with another's: its first may be worth less
    than the tenth of the next. So the passages are weighed once more, by words that are rare among all that were found.
    """
    if len(documents) == 1:
        return [(documents[0], found) for found in await documents[0].search(question, limit, vector)]
    each = max(4, min(limit, 400 // max(len(documents), 1)))
    searched = [await document.search(question, each, vector) for document in documents]
    pairs = [(place, found) for place, founds in enumerate(searched) for found in founds]
    weights = await asyncio.to_thread(_weighed, question, [(documents[place].name, found) for place, found in pairs])
    by_weight = sorted(range(len(pairs)), key=lambda number: -weights[number])
    # All first passages of documents share the first place, all second ones the second: no document comes first.
    places = [place for founds in searched for place in range(1, len(founds) + 1)]
    scores = {number: 2 * reciprocal(rank) + reciprocal(places[number]) for rank, number in enumerate(by_weight, 1)}
    best = sorted(scores, key=lambda number: -scores[number])[:limit]
    return [(documents[pairs[number][0]], Found(pairs[number][1].passage, scores[number])) for number in best]


def _weighed(question: str, named: Sequence[tuple[str, Found]]) -> list[float]:
    """Return the BM25 weight of each passage among all of them; a document's name belongs to its passages."""
    wanted = {term.text for term in words.terms(question)}
    bags, lengths = [], []
    for name, found in named:
        cut = words.cut(f"{name}\n\n{found.passage.heading}\n\n{found.passage.text}").split()
        bags.append(Counter([word for word in cut if word in wanted]))
        lengths.append(len(cut))
    frequencies = Counter([word for bag in bags for word in bag])
    rarities = {word: rarity(times, len(bags)) for word, times in frequencies.items()}
    mean = sum(lengths) / max(len(lengths), 1)
    return [bm25(bag, length, rarities, mean) for bag, length in zip(bags, lengths, strict=True)]


__all__ = ["INDEXES", "Answer", "IndexedDocument", "covered", "search_all"]
