"""Choose the passages that a prompt gets: the best ones, their neighbours, within a budget, in the documents' order."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

from hanlin.documents import retrieval
from hanlin.documents.coverage import Coverage
from hanlin.documents.retrieval import search_all
from hanlin.documents.values import Document, Passage
from hanlin.metering.estimate import text_tokens
from hanlin.recipes.long_documents.prompts import Piece
from hanlin.types import Vector

MOST_FOUND = 50
NOTHING = Coverage("absent", 0.0, 0.0)
"""What nothing has of a question."""

_FEW_DOCUMENTS, _AMONG_THE_BEST = 6, 24
_WITH_NEIGHBOURS = 4  # passages whose neighbours come along: what they say often begins or ends there
_MARK_TOKENS = 24
_MOST_SHARED_CHARS = 800
_LEAST_SHARED_CHARS = 12


@dataclass(frozen=True)
class Hit:
    """A passage that was found, and where."""

    document: Document
    passage: Passage
    score: float

    @property
    def place(self) -> tuple[str, int]:
        return self.document.id, self.passage.number


async def search(
    documents: Sequence[Document], question: str, limit: int = MOST_FOUND, vector: Vector | None = None
) -> list[Hit]:
    """Return the best passages of several documents, best first.

    Of a few documents, each one's best passage comes ahead of the others, if it is among the best: an answer may need
    two files, and a long one would crowd a short one out.
    """
    found = await search_all(documents, question, limit, vector)
    hits = [Hit(document, row.passage, row.score) for document, row in found]
    if not 1 < len(documents) <= _FEW_DOCUMENTS:
        return hits
    firsts = {hit.document.id: hit for hit in reversed(hits[:_AMONG_THE_BEST])}
    first = sorted(firsts.values(), key=lambda hit: -hit.score)
    return [*first, *(hit for hit in hits if firsts.get(hit.document.id) is not hit)]


async def covered(question: str, hits: Sequence[Hit]) -> Coverage:
    """Return what the passages that were found have of a question, and whether they can hold its answer."""
    if not hits:
        return NOTHING
    documents = {hit.document.id: hit.document for hit in hits}
    return await retrieval.covered(list(documents.values()), question, [hit.passage for hit in hits])


def in_turns(rounds: Sequence[Sequence[Hit]]) -> list[Hit]:
    """Return the hits of several searches, best first: the best of each, then the second of each, each passage once."""
    first: dict[tuple[str, int], Hit] = {}
    for turn in zip_longest(*rounds):
        for hit in turn:
            if hit is not None:
                first.setdefault(hit.place, hit)
    return list(first.values())


class _Chosen:
    """Passages as they are taken, as long as the budget lasts; the first one fits always."""

    def __init__(self, budget_tokens: int) -> None:
        self.left = budget_tokens
        self.documents: dict[str, Document] = {}
        self.passages: dict[tuple[str, int], Passage] = {}

    def take(self, document: Document, passage: Passage) -> bool:
        """Take a passage unless there is no room for it; say whether it is there."""
        place = (document.id, passage.number)
        if place in self.passages:
            return True
        cost = text_tokens(passage.text) + _MARK_TOKENS
        if cost > self.left and self.passages:
            return False
        self.documents.setdefault(document.id, document)
        self.passages[place] = passage
        self.left -= cost
        return True

    def in_order(self, documents: Sequence[str]) -> list[tuple[Document, Passage]]:
        order = {name: at for at, name in enumerate(documents)}
        placed = sorted(self.passages.items(), key=lambda item: (order[item[0][0]], item[0][1]))
        return [(self.documents[name], passage) for (name, _), passage in placed]


async def chosen(hits: Sequence[Hit], budget_tokens: int, documents: Sequence[Document]) -> list[Piece]:
    """Return what fits of the hits and their neighbours, in the order of documents and pages.

    The best hits come with the passages beside them; passages that follow each other become one piece.
    """
    taken = _Chosen(budget_tokens * 3 // 4)
    for hit in hits:
        if not taken.take(hit.document, hit.passage):
            break
    taken.left += budget_tokens - budget_tokens * 3 // 4
    for hit in hits[:_WITH_NEIGHBOURS]:
        if hit.place not in taken.passages:
            break
        for beside in reversed(await hit.document.around(hit.passage)):
            taken.take(hit.document, beside)
    return joined(taken.in_order([document.id for document in documents]))


def joined(placed: Sequence[tuple[Document, Passage]]) -> list[Piece]:
    """Return passages as pieces; those that follow each other on one page are one, without what they both say."""
    pieces: list[Piece] = []
    last: tuple[str, int] | None = None
    for document, passage in placed:
        text = passage.text
        follows = last == (document.id, passage.number - 1)
        if follows:
            text = without_shared(pieces[-1].text, text)
        if follows and pieces[-1].first_page == passage.first_page == passage.last_page == pieces[-1].last_page:
            before = pieces[-1]
            pieces[-1] = Piece(
                document, before.first_page, before.last_page, f"{before.text}\n{text}", heading=before.heading
            )
        elif text.strip():
            pieces.append(Piece(document, passage.first_page, passage.last_page, text, heading=passage.heading))
        last = (document.id, passage.number)
    return pieces


def without_shared(before: str, text: str) -> str:
    """Return a text without its beginning where that is the end of the text before it."""
    for length in range(min(len(before), len(text), _MOST_SHARED_CHARS), _LEAST_SHARED_CHARS - 1, -1):
        if before.endswith(text[:length]):
            return text[length:].lstrip()
    return text


__all__ = ["MOST_FOUND", "NOTHING", "Hit", "chosen", "covered", "in_turns", "joined", "search", "without_shared"]
