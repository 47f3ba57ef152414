"""Facts that share no word with their question (spec §2.8): the embedded embedding model, without a chat model."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from hanlin.catalogue import Weights
from hanlin.documents.indexing import index
from hanlin.documents.retrieval import IndexedDocument
from hanlin.documents.shelf import write_pages
from hanlin.documents.values import Page
from hanlin.documents.vectors import embed
from hanlin.engines.embedding import Embedder
from hanlin.home import Home, prepare
from hanlin.service import embedding_start, start
from hanlin.service.passage_vectors import wanted
from hanlin.settings import Settings
from hanlin.types import Vector
from tests.big_documents import Language
from tests.conftest import home_with_vectors
from tests.documents import filler, needles
from tests.needles import table

pytestmark = pytest.mark.embedded

PAGES = 100
IN_PROMPT = 8
"""Passages, of about fifty."""


@pytest.fixture
async def embedder(tmp_path: Path) -> AsyncIterator[Embedder]:
    home = Home(home_with_vectors(tmp_path / "home"))
    prepare(home)
    weights = embedding_start.row(Settings())
    assert isinstance(weights, Weights)
    (path,) = [path for path in (home.path / "models").iterdir() if path.name == weights.sha256]
    engine = embedding_start.embedded(home, Settings(), weights, path, start.machine()).engine
    yield engine
    await engine.close()


@pytest.mark.parametrize("language", ["zh", "en"])
async def test_facts_that_share_no_word_with_their_question_are_found_by_meaning(
    tmp_path: Path, embedder: Embedder, language: Language
) -> None:
    """Four in five are among the passages that a prompt gets; by their words none of them is."""
    facts = [needle for needle in table().unlike if needle.lang == language]
    folder = tmp_path / "document"
    await asyncio.to_thread(folder.mkdir)
    placed = [(3 + 9 * at, needle.fact) for at, needle in enumerate(facts)]
    pages = needles(filler(PAGES, chinese=language == "zh"), *placed)
    write_pages(folder, [Page(number, text) for number, text in enumerate(pages, 1)])
    await asyncio.to_thread(index, folder)
    document = IndexedDocument(folder, id="", name="", digest="", pages=PAGES, tokens=0)

    async def vectors(texts: Sequence[str]) -> Sequence[Vector]:
        return (await embedder.embed(wanted(texts, "document"), None)).vectors

    await embed(folder, vectors, "e5")
    by_words = by_meaning = 0
    for needle in facts:
        vector = (await embedder.embed(wanted([needle.question], "query"), None)).vectors[0]
        for found in await document.search(needle.question, IN_PROMPT):
            by_words += needle.fact in found.passage.text
        for found in await document.search(needle.question, IN_PROMPT, vector):
            by_meaning += needle.fact in found.passage.text

    count = await document.count()
    figures = f"{by_words} by words, {by_meaning} by meaning of {len(facts)}, among {IN_PROMPT} of {count} passages"
    print(f"{language}: {figures}")  # noqa: T201 (figures of a drill)
    assert by_meaning >= 0.8 * len(facts)
