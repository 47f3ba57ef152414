"""Facts at ten depths of long documents are found, and what is not there is said not to be.

A question asks in other words than the fact uses, and other sentences have some of its words. A fact counts as found
when one of the passages that go into a prompt holds it. Of the documents of 200 and 2,000 pages, PDF and DOCX included,
TEST_DRILLS=all runs all; otherwise it is a document of 200 pages for each language.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from hanlin.documents.coverage import Coverage
from hanlin.documents.indexing import index
from hanlin.documents.parsing import read
from hanlin.documents.retrieval import IndexedDocument, covered
from hanlin.documents.shelf import write_pages
from hanlin.documents.values import Page
from tests.big_documents import Language, pages_of, write_docx, write_pdf
from tests.needles import DOCUMENTS, Needle, needles_of, sentences_of, unanswerable

ALL = os.environ.get("TEST_DRILLS") == "all"

IN_PROMPT = 8
"""Passages: of 600 tokens each, they fit into the 8 K window of a small model with room for an answer."""

LEAST = 0.95

Maker = Callable[[Path, Language, int, int, dict[int, str]], Awaitable[None]]


async def as_text(folder: Path, language: Language, number: int, pages: int, sentences: dict[int, str]) -> None:
    texts = pages_of(pages=pages, language=language, needles=sentences, seed=number)
    write_pages(folder, [Page(number, text) for number, text in enumerate(texts, 1)])


async def as_pdf(folder: Path, language: Language, number: int, pages: int, sentences: dict[int, str]) -> None:
    path = folder / "long.pdf"
    write_pdf(path, pages=pages, language=language, needles=sentences, seed=number)
    await read(path, path.name, folder)


async def as_docx(folder: Path, language: Language, number: int, pages: int, sentences: dict[int, str]) -> None:
    path = folder / "long.docx"
    write_docx(path, pages=pages, language=language, needles=sentences, seed=number)
    await read(path, path.name, folder)


async def found_in(document: IndexedDocument, question: str) -> tuple[list[str], Coverage]:
    """Return the passages that a prompt would have, and what the question's words say of them."""
    passages = [found.passage for found in await document.search(question, IN_PROMPT)]
    judged = await covered([document], question, passages)
    return [passage.text for passage in passages], judged


def squeezed(text: str) -> str:
    """Return a text without blanks: a parser may break lines where it likes."""
    return "".join(text.split())


class Score:
    """How often something went as it should."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.good = self.all = 0
        self.bad: list[str] = []

    def note(self, good: bool, what: str) -> None:
        self.good += good
        self.all += 1
        if not good:
            self.bad.append(what)

    def __str__(self) -> str:
        return f"{self.name} {self.good}/{self.all}"


async def drill(
    tmp_path: Path, language: Language, numbers: range, pages: int, make: Maker
) -> tuple[Score, Score, Score, Score]:
    found, kept, refused, near = map(Score, ("found", "not refused", "refused", "refused of near misses"))
    for number in numbers:
        folder = tmp_path / str(number)
        folder.mkdir()
        needles: dict[int, Needle] = needles_of(language, number, pages)
        await make(folder, language, number, pages, sentences_of(language, number, pages, needles))
        await asyncio.to_thread(index, folder)
        document = IndexedDocument(folder, id="", name="", digest="", pages=pages, tokens=0)
        for page, needle in needles.items():
            texts, judged = await found_in(document, needle.question)
            is_there = any(squeezed(needle.fact) in squeezed(text) for text in texts)
            found.note(is_there, f"page {page}: {needle.question}")
            kept.note(judged.judgement != "absent", f"{judged.best:.2f} {needle.question}")
        for score, kind in ((refused, "absent"), (near, "near")):
            for question in unanswerable(language, kind):
                _texts, judged = await found_in(document, question)
                score.note(judged.judgement == "absent", f"{judged.best:.2f} {question}")
    print(language, pages, make.__name__, found, kept, refused, near, sep="; ")  # noqa: T201 - the figures of a drill
    return found, kept, refused, near


def hold(scores: tuple[Score, ...]) -> None:
    for score in scores:
        assert score.good >= LEAST * score.all, f"{score}: {score.bad}"


@pytest.mark.parametrize("language", ["zh", "en"])
async def test_facts_are_found_at_every_depth_and_absent_ones_are_known_to_be(
    tmp_path: Path, language: Language
) -> None:
    """A long document is worth nothing if an answer depends on where in it the fact stands."""
    *held, _near = await drill(tmp_path, language, range(1), 200, as_text)

    hold(tuple(held))


@pytest.mark.skipif(not ALL, reason="TEST_DRILLS=all runs it")
@pytest.mark.parametrize("make", [as_text, as_pdf, as_docx])
@pytest.mark.parametrize("pages", [200, 2000])
@pytest.mark.parametrize("language", ["zh", "en"])
async def test_all_facts_are_found_in_documents_of_every_length(
    tmp_path: Path, language: Language, pages: int, make: Maker
) -> None:
    """The same for all facts of the table, for documents of 2,000 pages, and for what parsers make of files."""
    *held, _near = await drill(tmp_path, language, range(DOCUMENTS), pages, make)

    hold(tuple(held))
