"""The way without reading: words are counted in the text, rows in the table, where question and documents allow it."""

import re
from collections.abc import Sequence

from hanlin.recipes.attachments import has_pages
from hanlin.recipes.long_documents.asking import of_tables
from hanlin.recipes.long_documents.figures import figures
from hanlin.recipes.long_documents.listing import listed
from hanlin.recipes.long_documents.parts import pages_of
from hanlin.recipes.long_documents.prompts import Piece, rules_for, with_material
from hanlin.recipes.long_documents.reading import Item
from hanlin.recipes.long_documents.report import Report
from hanlin.recipes.long_documents.report import pages_of as pages_named
from hanlin.recipes.long_documents.task import Prepared, Task
from hanlin.recipes.texts import folded

_QUOTED = re.compile(r"[“\"「『《']([^”\"」』》']{1,60})[”\"」』》']")
_OCCURS = re.compile(r"出现|提到|提及|\btimes\b|\bmention|\bappear|\boccur", re.IGNORECASE)
_HOW_OFTEN = re.compile(r"[几多]少?次|\bhow (?:many times|often)\b", re.IGNORECASE)
_MOST_WORDS = 3
_MOST_PAGES = 20


async def prepared(task: Task) -> Prepared | None:
    """Count and add up; None where that does not answer the question."""
    quoted = _QUOTED.findall(task.question)
    if quoted and _OCCURS.search(task.question) and _HOW_OFTEN.search(task.question):
        counted = [await _occurrences(task, word) for word in quoted[:_MOST_WORDS]]
        return _told(task, [fact for fact, _ in counted], [piece for _, pieces in counted for piece in pieces])
    if task.kind not in ("count", "list") and not of_tables(task.question):
        return None
    made = await figures(task.base, task.model, task.with_before(), task.documents, chinese=task.chinese)
    if not made:
        return None
    pages = [Piece(figure.document, page, page, "") for figure in made for page in figure.pages]
    items = [Item(text, page, figure.document.name) for figure in made for text, page in figure.values]
    if items:
        report = Report("table", pages=pages_named(pages))
        return listed(task, items, [], report, rules_for(task.documents, task.words, may_fail=False))
    counts = [figure.count for figure in made if figure.count is not None]
    return _told(task, [figure.text for figure in made], pages, counts[0] if len(counts) == 1 else None)


def _told(task: Task, facts: Sequence[str], pages: Sequence[Piece], count: int | None = None) -> Prepared:
    """Prepare an answer that tells what was counted on these pages."""
    material = task.words.figures.format(facts="；".join(facts) if task.chinese else "; ".join(facts))
    rules = rules_for(task.documents, task.words, may_fail=False)
    messages = with_material(task.asked, task.turns()[0], material, rules)
    supplied = task.supplied(material, pages, derives=False)
    return Prepared(messages, supplied, Report("table", pages=pages_named(pages)), tuple(pages), count=count)


async def _occurrences(task: Task, word: str) -> tuple[str, list[Piece]]:
    """Count a word in all documents, without a model; return what to say of it, and the pages that it stands on."""
    total = 0
    pieces: list[Piece] = []
    wanted = folded(word)
    for document in task.documents:
        async for page in pages_of(document):
            if found := folded(page.text).count(wanted):
                total += found
                pieces.append(Piece(document, page.number, page.number, ""))
    where = "; ".join(
        f"{file.name} p.{', '.join(file.pages[:_MOST_PAGES])}"
        for file in pages_named(piece for piece in pieces if has_pages(piece.document))
    )
    fact = f"“{word}”共出现 {total} 次" if task.chinese else f'"{word}" occurs {total} times'
    return f"{fact} [{where}]" if where else fact, pieces


__all__ = ["prepared"]
