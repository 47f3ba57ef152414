"""What spec/scenarios.md §2.8 asks of answers about long documents: real passages and indexes, a model that can read.

The model knows nothing but what a prompt holds, so that what it says right was found, and what it denies was not.
"""

import asyncio
from pathlib import Path

import msgspec
import pytest

from hanlin.documents import words
from hanlin.documents.indexing import index
from hanlin.documents.retrieval import IndexedDocument
from hanlin.documents.shelf import write_pages
from hanlin.documents.values import Page
from hanlin.recipes.long_documents.answering import Answerer
from hanlin.recipes.long_documents.claims import says_nothing
from hanlin.recipes.long_documents.report import Report
from hanlin.recipes.recipe import Recipe
from hanlin.types import ChatRequest, fold
from tests.big_documents import Language, pages_of
from tests.documents import MemoryLibrary, Scholar, asked, events_of, filler, needles
from tests.needles import Needle, needles_of, sentences_of, table, unanswerable

DEPTHS = range(0, 101, 10)
WINDOWS = (8192, 65_536)
NOTHING = {"zh": "文件中没有提到。", "en": "The documents do not mention it."}
MAY_FAIL = ("文件中没有答案时", "do not contain the answer")


async def indexed(folder: Path, pages: list[str]) -> IndexedDocument:
    """Return a document of these pages as it is after an upload."""

    def make() -> None:
        folder.mkdir()
        write_pages(folder, [Page(number, text) for number, text in enumerate(pages, 1)])
        index(folder)

    await asyncio.to_thread(make)
    return IndexedDocument(folder, id="file-fe-1", name="long.pdf", digest="", pages=len(pages), tokens=10**6)


def pages_in(said: str) -> range:
    """Return the pages that `3` or `7-9` names."""
    first, _, last = said.partition("-")
    return range(int(first), int(last or first) + 1)


async def told(question: str, document: IndexedDocument, base: Scholar) -> tuple[str, Report]:
    """Return an answer about a document, and what is reported of it."""
    library = MemoryLibrary({document.id: document})
    request = asked(("system", "r"), ("system", f"fileid://{document.id}"), ("user", question))
    result = fold(await events_of(Recipe("long-documents", Answerer().run), request, base, library))
    assert result.report is not None
    return result.choices[0].text, msgspec.json.decode(result.report, type=Report)


@pytest.mark.parametrize("pages", [20, 50, 200, 1000])
async def test_a_needle_is_answered_exactly_at_every_depth_of_every_size(tmp_path: Path, pages: int) -> None:
    """At least 98 %: eleven facts that look alike, from beginning to end, from a window that holds ten pages."""
    places = {depth: 1 + depth * (pages - 1) // 100 for depth in DEPTHS}
    facts = [(page, f"云杉{depth + 100}号项目的启动口令是蓝鲸{7000 + depth}。") for depth, page in places.items()]
    document = await indexed(tmp_path / "document", needles(filler(pages), *facts))
    right = 0

    for depth, page in places.items():
        text, report = await told(f"云杉{depth + 100}号项目的启动口令是什么？", document, Scholar(context_tokens=4096))
        right += f"蓝鲸{7000 + depth}" in text and any(page in pages_in(said) for said in report.pages[0].pages)
        assert report.calls == 1

    assert right >= 0.98 * len(places)


@pytest.mark.parametrize("language", ["zh", "en"])
async def test_a_fact_that_shares_no_word_with_its_question_is_found_by_other_words(
    tmp_path: Path, language: Language
) -> None:
    """Without vectors it takes a model that knows what else a thing may be called; it is asked for that once."""
    facts = {needle.question: needle for needle in table().unlike if needle.lang == language}
    placed = [(3 + 9 * at, needle.fact) for at, needle in enumerate(facts.values())]
    document = await indexed(tmp_path / "document", needles(filler(100, chinese=language == "zh"), *placed))
    found = 0

    for question, needle in facts.items():
        assert not {term.text for term in words.terms(question)} & set(words.cut(needle.fact).split()), question

        def knows(request: ChatRequest, needle: Needle = needle) -> str | None:
            last = request.messages[-1].text
            return needle.fact[-8:] if "关键词" in last or "key words" in last else None

        base = Scholar(context_tokens=4096, replies=[knows])
        _, report = await told(question, document, base)
        found += needle.fact in base.prompts[-1]
        assert report.calls <= 2

    assert found >= 0.8 * len(facts)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("chinese", [True, False])
async def test_nearly_all_of_what_is_to_be_listed_and_counted_is_found(
    tmp_path: Path, chinese: bool, window: int
) -> None:
    """At least 95 % of forty things on two hundred pages, each with its page."""
    facts = [
        (
            2 + 5 * at,
            f"安全事故：{at + 101}号仓库在{1950 + at}年起火。"
            if chinese
            else f"Safety accident: warehouse {at + 101} burnt down in {1950 + at}.",
        )
        for at in range(40)
    ]
    document = await indexed(tmp_path / "document", needles(filler(200, chinese=chinese), *facts))
    to_list = "列出文件中提到的所有安全事故" if chinese else "List all safety accidents mentioned in the document"
    to_count = (
        "文件中一共提到多少次安全事故？" if chinese else "How many safety accidents are mentioned in the document?"
    )

    listed, report = await told(to_list, document, Scholar(context_tokens=window))
    counted, _ = await told(to_count, document, Scholar(context_tokens=window))

    found = [
        (f"{at + 101}" in line and f"{1950 + at}" in line and (f"第{page}页" if chinese else f"p. {page})") in line)
        for at, (page, _) in enumerate(facts)
        for line in [next((line for line in listed.splitlines() if f"{1950 + at}" in line), "")]
    ]
    assert sum(found) >= 0.95 * len(facts), listed
    assert report.parts_read == report.parts
    assert "40" in counted


@pytest.mark.parametrize(("window", "least"), [(65_536, 0.95), (8192, 0.9)])
@pytest.mark.parametrize("language", ["zh", "en"])
async def test_what_is_not_there_is_said_not_to_be(
    tmp_path: Path, language: Language, window: int, least: float
) -> None:
    """At least 95 %, near misses among them, with a model that says so where it may and makes something up otherwise.

    A small one is not told that it may where the text speaks of all that is asked, and is held to a little less.
    """
    pages = 200
    facts = needles_of(language, 0, pages)
    texts = pages_of(pages=pages, language=language, needles=sentences_of(language, 0, pages, facts), seed=0)
    document = await indexed(tmp_path / "document", texts)
    questions = [question for kind in ("absent", "near") for question in unanswerable(language, kind)]
    denied: list[str] = []

    def honest(request: ChatRequest) -> str | None:
        last = request.messages[-1].text
        if "关键词" in last or "key words" in last:
            return None
        return (
            NOTHING[language] if any(told in last for told in MAY_FAIL) else "沈青禾。" if language == "zh" else "Ivo."
        )

    for question in questions:
        text, _ = await told(question, document, Scholar(context_tokens=window, replies=[honest]))
        if says_nothing(text):
            denied.append(question)

    assert len(questions) >= 20
    missed = sorted(set(questions) - set(denied))
    assert len(denied) >= least * len(questions), missed
