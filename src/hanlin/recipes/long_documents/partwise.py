"""The way of a question about everything: all parts are read with it in mind, and the answer is made of the notes."""

from collections.abc import Sequence

from hanlin.recipes.long_documents import finding, reading
from hanlin.recipes.long_documents.listing import listed
from hanlin.recipes.long_documents.parts import Part, evenly, parts_of
from hanlin.recipes.long_documents.prompts import marked, rules_for, with_material
from hanlin.recipes.long_documents.reading import Reader
from hanlin.recipes.long_documents.report import Report
from hanlin.recipes.long_documents.report import pages_of as pages_named
from hanlin.recipes.long_documents.task import Prepared, Task

_SHOWN_CHARS = 800


async def prepared(task: Task) -> Prepared:
    """Read everything part by part, and answer from what was noted."""
    turns, room = task.turns()
    parts = await parts_of(task.documents, room.part)
    reader = Reader(
        task.base,
        task.model,
        task.with_before(),
        task.kind,
        task.words,
        room,
        task.notes,
        reading.STREAMED_S if task.request.stream else reading.UNSTREAMED_S,
        task.clock,
        whole=task.whole,
    )
    pairs = await reader.read([parts[number] for number in await _chosen(task, parts)])
    read = [part for part, _ in pairs]
    pieces = [piece for part in read for piece in part.pieces]
    items = [item for _, note in pairs for item in note.items]
    report = Report("parts", pages=pages_named(pieces), parts=len(parts), parts_read=len(read))
    rules = rules_for(task.documents, task.words, may_fail=task.kind != "summary" and not items)
    if len(read) < len(parts):
        rules = f"{task.words.partly.format(read=len(read), total=len(parts))} {rules}"
    if task.kind in ("list", "count"):
        return listed(task, items, pieces, report, rules)
    notes = [part.of(note.text) for part, note in pairs if note.text]
    texts = await reader.condensed(notes, room.documents) or [part.text[:_SHOWN_CHARS] for part in read[:1]]
    messages = with_material(task.asked, turns, "\n\n".join([task.words.parts, *texts]), rules)
    supplied = task.supplied("\n".join([marked(pieces), *texts]), pieces)
    return Prepared(messages, supplied, report, tuple(pieces))


async def _chosen(task: Task, parts: Sequence[Part]) -> list[int]:
    """Return the parts that are read: all, or as many as may be; for a list, those with hits come first."""
    if len(parts) <= task.most_calls:
        return list(range(len(parts)))
    first: dict[int, None] = {}
    if task.kind in ("list", "count"):
        for hit in await finding.search(task.documents, task.looked_for(), 4 * task.most_calls):
            for part in parts:
                if part.document.id == hit.document.id and hit.passage.first_page in part.pages:
                    first[part.number] = None
                    break
    return evenly(len(parts), task.most_calls, list(first)[: task.most_calls // 2])


__all__ = ["prepared"]
