"""Answer with things that were found one by one: none of them may be lost on the way into words."""

from collections.abc import Sequence

from hanlin.metering.estimate import text_tokens
from hanlin.recipes.long_documents.claims import Supplied
from hanlin.recipes.long_documents.prompts import Piece, marked, with_material
from hanlin.recipes.long_documents.reading import Item, merged
from hanlin.recipes.long_documents.report import Report
from hanlin.recipes.long_documents.sources import line
from hanlin.recipes.long_documents.task import Prepared, Task

_MOST_TOLD_TOKENS = 2048
_MOST_SHARE = 0.7  # of an answer, for a list that the model is to tell


def listed(task: Task, found: Sequence[Item], pieces: Sequence[Piece], report: Report, rules: str) -> Prepared:
    """Prepare an answer with items: told by the model, or as they are where they are too many for it.

    `pieces` are what they were found in.
    """
    turns, _ = task.turns()
    items = merged(found, once=task.kind == "list")
    lines = "\n".join(line(item, task.words) for item in items)
    most_tokens = _MOST_SHARE * min(task.room.answer, _MOST_TOLD_TOKENS)
    if items and task.request.shape is None and text_tokens(lines) > most_tokens:
        partly = task.words.partly_told.format(read=report.parts_read, total=report.parts)
        head = partly if report.parts_read < report.parts else ""
        text = f"{head}{task.words.found.format(count=len(items))}\n{lines}"
        return Prepared((), Supplied(""), report, text=text)
    if items:
        material = f"{task.words.items.format(count=len(items))}\n{lines}"
    else:
        material, rules = marked(pieces[:1]), f"{task.words.weak} {rules}"
    messages = with_material(task.asked, turns, material, rules)
    supplied = task.supplied(f"{material}\n{marked(pieces)}", pieces, derives=False if items else None)
    count = len(items) if task.kind == "count" and items else None
    return Prepared(messages, supplied, report, tuple(pieces), tuple(items), count)


__all__ = ["listed"]
