"""The way of a question that a place or two answer: the passages that may hold it are looked for."""

from collections.abc import Sequence
from functools import partial

from hanlin.errors import EngineError
from hanlin.recipes.long_documents import finding
from hanlin.recipes.long_documents.asking import asks
from hanlin.recipes.long_documents.claims import Supplied
from hanlin.recipes.long_documents.joining import LINK_TOKENS, Round, joined, judged
from hanlin.recipes.long_documents.parts import cut
from hanlin.recipes.long_documents.prompts import Piece, marked, rules_for, with_material
from hanlin.recipes.long_documents.report import Report
from hanlin.recipes.long_documents.report import pages_of as pages_named
from hanlin.recipes.long_documents.task import SAMPLE_CHARS, Prepared, Task
from hanlin.recipes.texts import is_chinese

_MOST_FITTINGS = 3
_ABOUT_CHARS = 60
_MOST_LINK_READS = 3000
_KEYWORD_TOKENS, _KEYWORD_CHARS = 48, 300
_KEYWORDS = {
    True: "给出查找答案时可用的{language}关键词（同义词也可），用空格分开，只写关键词。\n\n问题：{question}",
    False: "Give {language} key words (synonyms too) to search documents for the answer, parted by blanks; only key "
    "words.\n\nQuestion: {question}",
}


async def prepared(task: Task) -> Prepared:
    """Look for the passages that may hold the answer; where there are none, say so without the model."""
    rounds, by_meaning = await _rounds(task)
    hits, judgement = finding.in_turns([one.hits for one in rounds]), judged(rounds)
    is_absent = judgement == "absent" and not (hits and by_meaning) and asks(task.question)
    if is_absent and task.request.shape is None:
        about = task.words.about.format(question=task.question.strip()[:_ABOUT_CHARS])
        return Prepared((), Supplied(""), Report("nothing"), text=task.words.absent.format(about=about))
    turns, room = task.turns()
    budget = room.searched(len(rounds))
    weak, may_fail = judgement == "absent", task.may_fail(judgement)
    rules = rules_for(task.documents, task.words, weak=weak, may_fail=may_fail, pages=not task.is_small)
    for _ in range(_MOST_FITTINGS):
        pieces = await (finding.chosen(hits, budget, task.documents) if hits else _beginnings(task, budget))
        text = marked(pieces)
        led = task.led(pieces, rules, [one.sought for one in rounds])
        messages = with_material(task.asked, turns, f"{task.words.documents}\n\n{text}", led)
        over = await task.counted(messages) + room.answer - room.window
        if over <= 0:
            break
        budget = max(int(budget * 0.9) - over, 64)
    searches = len(rounds) if len(rounds) > 1 else 0
    report = Report("passages", pages=pages_named(pieces), passages=len(pieces), searches=searches)
    supplied = task.supplied(text, pieces)
    return Prepared(messages, supplied, report, tuple(pieces), asked=task.must_rest_on_text(text))


async def search(task: Task, more: str = "") -> tuple[Round, bool]:
    """Return what was found of the question, and whether it was looked for by meaning as well.

    `more` are other words for what it asks: then what was found is judged by them.
    """
    sought = f"{task.looked_for()}\n{more}" if more else task.looked_for()
    hits, by_meaning = await _hits(task, sought)
    found = await finding.covered(more or task.question, hits)
    if found.judgement == "absent" and not more and sought != task.question:
        found = await finding.covered(sought, hits)
    return Round(sought, hits, found), by_meaning


async def _rounds(task: Task) -> tuple[list[Round], bool]:
    """Return the searches whose passages go into the prompt: those that follow from each other, or one with other words
    where the question's own find nothing.
    """
    first, by_meaning = await search(task)
    if first.found.judgement != "absent":
        return await joined(first, task.question, partial(_further, task), partial(_link, task)), by_meaning
    if asks(task.question):
        first = (await search(task, await _keywords(task)))[0]
    return [first], by_meaning


async def _further(task: Task, sought: str) -> Round:
    """Return what was found of something that only the documents name."""
    hits, _ = await _hits(task, sought)
    return Round(sought, hits, await finding.covered(sought, hits))


async def _hits(task: Task, sought: str) -> tuple[list[finding.Hit], bool]:
    try:
        vectors = await task.base.vectors([sought], "query")
    except EngineError:  # words alone find most of it
        vectors = None
    return await finding.search(task.documents, sought, vector=vectors[0] if vectors else None), bool(vectors)


async def _link(task: Task, of: Round, known: Sequence[str]) -> tuple[str, str]:
    """Have the model say what passages tell of what a question does not name; return that, and what it read."""
    budget = min(task.room.lookup, _MOST_LINK_READS)
    pieces = await finding.chosen(of.hits, budget, task.documents)
    text = next(cut("\n".join([*known, marked(pieces)]), budget), "")
    return await task.say(f"{text}\n\n{task.words.link.format(question=task.with_before())}", LINK_TOKENS), text


async def _keywords(task: Task) -> str:
    """Ask for other words for what is looked for, in the documents' language."""
    sample = await task.documents[0].read(1, 1)
    language = "Chinese" if is_chinese("".join(page.text for page in sample)[:SAMPLE_CHARS]) else "English"
    if task.chinese:
        language = {"Chinese": "中文", "English": "英文"}[language]
    order = _KEYWORDS[task.chinese].format(language=language, question=task.question)
    return (await task.say(order, _KEYWORD_TOKENS))[:_KEYWORD_CHARS]


async def _beginnings(task: Task, budget_tokens: int) -> list[Piece]:
    """Return how documents begin: something to go by where nothing was looked for."""
    share = max(budget_tokens // len(task.documents), 64)
    pieces: list[Piece] = []
    for document in task.documents:
        for page in await document.read(1, 1):
            text = next(cut(page.text, share), "")
            pieces.append(Piece(document, page.number, page.number, text, page.label))
    return pieces


__all__ = ["prepared", "search"]
