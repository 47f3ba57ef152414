"""The way of documents that fit: all of them are in the prompt, in the places where they were said."""

from hanlin.documents.coverage import Judgement
from hanlin.recipes.long_documents import lookup
from hanlin.recipes.long_documents.asking import asks
from hanlin.recipes.long_documents.parts import pages_of
from hanlin.recipes.long_documents.prompts import Piece, marked, rules_for, with_documents
from hanlin.recipes.long_documents.report import Report
from hanlin.recipes.long_documents.report import pages_of as pages_named
from hanlin.recipes.long_documents.task import Prepared, Task


async def prepared(task: Task) -> Prepared | None:
    """Put all documents into the prompt; None where they do not fit."""
    if task.opened.tokens > task.room.documents:
        return None
    groups: list[list[Piece]] = []
    for documents in task.opened.at:
        groups.append([])
        for document in documents:
            async for page in pages_of(document):
                if page.text.strip():
                    groups[-1].append(Piece(document, page.number, page.number, page.text, page.label))
    pieces = [piece for group in groups for piece in group]
    text = "\n\n".join(map(marked, groups))
    is_asked = task.kind == "lookup" and asks(task.question)
    judgement: Judgement = "unsure"
    if is_asked and task.speaks_as(text):
        judgement = (await lookup.search(task))[0].found.judgement
    may_fail = is_asked and task.may_fail(judgement)
    rules = rules_for(
        task.documents, task.words, weak=judgement == "absent", may_fail=may_fail, pages=not task.is_small
    )
    led = task.led(pieces, rules, [task.looked_for()])
    messages = with_documents(task.asked, [marked(group) for group in groups], led)
    if await task.counted(messages) + task.room.answer > task.room.window:
        return None
    report = Report("all", pages=pages_named(pieces))
    supplied = task.supplied(text, pieces)
    return Prepared(messages, supplied, report, tuple(pieces), asked=task.must_rest_on_text(text))


__all__ = ["prepared"]
