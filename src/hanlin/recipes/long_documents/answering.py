"""Answer a question about documents: put everything into the prompt, or what was found, or notes of all of it.

The way is chosen by size and by question (`_prepared`); the answer is told and checked in the same way for all of them.
"""

import re
import time
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

import msgspec

from hanlin.documents.coverage import Judgement
from hanlin.documents.questions import asks_for_whole
from hanlin.documents.values import Document
from hanlin.errors import EngineError
from hanlin.metering.estimate import prompt_tokens, text_tokens
from hanlin.recipes import attachments
from hanlin.recipes.attachments import Asked, Attachment, Opened, has_pages
from hanlin.recipes.long_documents import finding, highlights, reading
from hanlin.recipes.long_documents.asking import Kind, asks, asks_for_something, derives, kind_of, looked_for, of_tables
from hanlin.recipes.long_documents.budget import Room, room
from hanlin.recipes.long_documents.claims import Supplied
from hanlin.recipes.long_documents.figures import Figures, figures
from hanlin.recipes.long_documents.joining import LINK_TOKENS, Round, joined, judged
from hanlin.recipes.long_documents.parts import Part, cut, evenly, pages_of, parts_of
from hanlin.recipes.long_documents.prompts import (
    Piece,
    Words,
    mark,
    marked,
    rules_for,
    with_documents,
    with_material,
    words_for,
)
from hanlin.recipes.long_documents.reading import Item, Note, Notes, Reader, merged
from hanlin.recipes.long_documents.report import Metered, Report
from hanlin.recipes.long_documents.report import pages_of as pages_named
from hanlin.recipes.long_documents.sources import line
from hanlin.recipes.long_documents.telling import Telling
from hanlin.recipes.recipe import Desk
from hanlin.recipes.texts import folded, is_chinese, terms
from hanlin.types import ChatRequest, Event, Events, Message, Sampling, Usage

_TEMPERATURE = 0.3
"""Of an answer whose caller sets none: what documents say leaves little to invention."""

_SAMPLE_CHARS = 2000
_LEAST_TURNS = 2
_ROUNDS = 3
_QUOTED = re.compile(r"[“\"「『《']([^”\"」』》']{1,60})[”\"」』》']")
_OCCURS = re.compile(r"出现|提到|提及|\btimes\b|\bmention|\bappear|\boccur", re.IGNORECASE)
_HOW_OFTEN = re.compile(r"[几多]少?次|\bhow (?:many times|often)\b", re.IGNORECASE)
_KEYWORDS = {
    True: "给出查找答案时可用的{language}关键词（同义词也可），用空格分开，只写关键词。\n\n问题：{question}",
    False: "Give {language} key words (synonyms too) to search documents for the answer, parted by blanks; only key "
    "words.\n\nQuestion: {question}",
}
_ABOUT_CHARS = 60
_MOST_LINK_READS = 3000


@dataclass(frozen=True)
class Prepared:
    """What is to be told: the messages of the last call, or the `text` that needs none; and what it rests on."""

    messages: tuple[Message, ...]
    supplied: Supplied
    report: Report
    pieces: tuple[Piece, ...] = ()
    items: tuple[Item, ...] = ()
    count: int | None = None
    asked: frozenset[str] | None = None
    text: str = ""


class Answerer:
    """Answers questions about documents. What was noted of parts is remembered from one question to the next."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        most_calls: int = reading.MOST_CALLS,
        notes: Notes | None = None,
    ) -> None:
        self._clock = clock
        self._most_calls = most_calls
        self._notes = notes or Notes()

    async def run(self, request: ChatRequest, desk: Desk) -> Events:
        """Yield an answer's events; see `Recipe.run`. A request without documents is a chat like any other."""
        asked = attachments.read(request.messages)
        if not asked.attachments:
            async with aclosing(desk.base.stream(request)) as bursts:
                async for burst in bursts:
                    yield burst
            return
        await attachments.check_question(asked, desk.base, request.model)
        opened = await attachments.opened(asked, desk.library)
        prompt = opened.tokens + await desk.base.count(request.changed(messages=_as_sent(asked)))
        attachments.check_total(prompt, desk.model.input_limit_tokens())
        async with aclosing(self.answer(request, desk, asked, opened, prompt)) as bursts:
            async for burst in bursts:
                yield burst

    async def answer(
        self, request: ChatRequest, desk: Desk, asked: Asked, opened: Opened, prompt_tokens: int
    ) -> Events:
        """Yield the answer to a request whose documents are open, and a usage with these tokens of the prompt."""
        base = Metered(desk.base)
        task = _Task(self, request, desk, base, asked, opened)
        prepared = await task.prepared()
        report = prepared.report
        if prepared.text:
            text, finish = _within(prepared.text, request.sampling.max_tokens)
            yield [Event(text=text)]
            usage = Usage(prompt_tokens, text_tokens(text), estimated=True)
        else:
            telling = Telling(
                base,
                await task.last_call(prepared.messages),
                prepared.supplied,
                task.words,
                prepared.pieces,
                prepared.items,
                prepared.count,
                prepared.asked,
            )
            async with aclosing(telling.events()) as bursts:
                async for burst in bursts:
                    yield burst
            finish = telling.finish_reason
            usage = Usage(prompt_tokens, telling.completion, estimated=telling.estimated)
            report = msgspec.structs.replace(
                report, asked_again=telling.asked_again, unbacked=tuple(dict.fromkeys(telling.unbacked))
            )
        report = msgspec.structs.replace(report, prompt_tokens=base.usage.prompt, calls=base.calls)
        yield [Event(report=report.raw), Event(finish_reason=finish)]
        yield [Event(usage=usage)]


def _as_sent(asked: Asked) -> tuple[Message, ...]:
    """Return the messages as they were sent, without the text of documents: that is counted as theirs."""
    steps = (
        Message("system", ",".join(f"fileid://{name}" for name in step.ids)) if isinstance(step, Attachment) else step
        for step in asked.steps
    )
    return (*((Message("system", asked.role),) if asked.role else ()), *(step for step in steps if step.text))


@dataclass
class _Task:
    """One question, and everything that is needed to answer it."""

    owner: Answerer
    request: ChatRequest
    desk: Desk
    base: Metered
    asked: Asked
    opened: Opened

    def __post_init__(self) -> None:
        self.question = self.asked.question
        self.chinese = is_chinese(self.question)
        self.words: Words = words_for(self.chinese)
        self.documents: Sequence[Document] = self.opened.documents
        self.kind: Kind = kind_of(self.question, len(self.documents))
        names = [document.name for document in self.documents]
        self.whole = self.kind == "summary" and asks_for_whole(self.question, names)
        self.derives = derives(self.question)
        sampling = self.request.sampling
        limit = sampling.max_tokens or sampling.max_completion_tokens or self.desk.model.output_limit_tokens()
        self.answer_limit = limit
        self.room: Room = room(self.base.context_tokens, limit, prompt_tokens(_dialogue(self.asked)))

    @property
    def is_small(self) -> bool:
        """Whether the base model is likely to be a small one. Asked to name a page, some name nothing else; what an
        answer does not name is found afterwards."""
        return self.room.window <= highlights.LARGEST_WINDOW

    # --- the ways

    async def prepared(self) -> Prepared:
        """Choose the way to an answer, and go it up to the last call."""
        worked = await self._worked_out()
        if worked is not None:
            return worked
        if self.opened.tokens <= self.room.documents:
            whole = await self._everything()
            if whole is not None:
                return whole
        if self.kind == "lookup":
            return await self._found()
        return await self._read()

    async def _everything(self) -> Prepared | None:
        """Put all documents into the prompt; None where they do not fit after all."""
        groups: list[list[Piece]] = []
        for documents in self.opened.at:
            groups.append([])
            for document in documents:
                async for page in pages_of(document):
                    if page.text.strip():
                        groups[-1].append(Piece(document, page.number, page.number, page.text, page.label))
        pieces = [piece for group in groups for piece in group]
        text = "\n\n".join(map(marked, groups))
        judgement: Judgement = "unsure"
        if self.kind == "lookup" and asks(self.question) and self.chinese == is_chinese(text[:_SAMPLE_CHARS]):
            judgement = (await self._search(self._looked_for()))[0].found.judgement
        may_fail = self.kind == "lookup" and asks(self.question) and self._may_fail(judgement)
        weak = judgement == "absent"
        rules = rules_for(self.documents, self.words, weak=weak, may_fail=may_fail, pages=not self.is_small)
        led = self._led(pieces, rules, [self._looked_for()])
        messages = with_documents(self.asked, [marked(group) for group in groups], led)
        if await self.base.count(self.request.changed(messages=messages)) + self.room.answer > self.room.window:
            return None
        report = Report("all", pages=pages_named(pieces))
        asked = self._must_rest_on_text(text)
        return Prepared(messages, self._supplied(text, pieces), report, tuple(pieces), asked=asked)

    async def _found(self) -> Prepared:
        """Look for the passages that may hold the answer."""
        first, by_meaning = await self._search(self._looked_for())
        rounds = [first]
        if first.found.judgement != "absent":
            rounds = await joined(first, self.question, self._further, self._link)
        elif asks(self.question):
            more = await self._keywords()
            again, _ = await self._search(f"{first.sought}\n{more}")
            rounds = [replace(again, found=await finding.covered(more, again.hits))]
        hits, judgement = finding.in_turns([one.hits for one in rounds]), judged(rounds)
        is_absent = judgement == "absent" and not (hits and by_meaning) and asks(self.question)
        if is_absent and self.request.shape is None:
            about = self.words.about.format(question=self.question.strip()[:_ABOUT_CHARS])
            return Prepared((), Supplied(""), Report("nothing"), text=self.words.absent.format(about=about))
        turns, room = self._turns()
        budget = room.searched(len(rounds))
        weak, may_fail = judgement == "absent", self._may_fail(judgement)
        rules = rules_for(self.documents, self.words, weak=weak, may_fail=may_fail, pages=not self.is_small)
        for _ in range(_ROUNDS):
            pieces = await (finding.chosen(hits, budget, self.documents) if hits else self._beginnings(budget))
            text = marked(pieces)
            material = f"{self.words.documents}\n\n{text}"
            messages = with_material(
                self.asked, turns, material, self._led(pieces, rules, [one.sought for one in rounds])
            )
            counted = await self.base.count(self.request.changed(messages=messages))
            over = counted + room.answer - room.window
            if over <= 0:
                break
            budget = max(int(budget * 0.9) - over, 64)
        searches = len(rounds) if len(rounds) > 1 else 0
        report = Report("passages", pages=pages_named(pieces), passages=len(pieces), searches=searches)
        supplied = self._supplied(text, pieces)
        return Prepared(messages, supplied, report, tuple(pieces), asked=self._must_rest_on_text(text))

    async def _read(self) -> Prepared:
        """Read everything part by part, and answer from what was noted."""
        turns, room = self._turns()
        parts = await parts_of(self.documents, room.part)
        chosen = await self._chosen(parts)
        owner = self.owner
        reader = Reader(
            self.base,
            self.desk.model.name,
            self._with_before(),
            self.kind,
            self.words,
            room,
            owner._notes,
            reading.STREAMED_S if self.request.stream else reading.UNSTREAMED_S,
            owner._clock,
            whole=self.whole,
        )
        pairs = await reader.read([parts[number] for number in chosen])
        read = [part for part, _ in pairs]
        report = Report(
            "parts",
            pages=pages_named(piece for part in read for piece in part.pieces),
            parts=len(parts),
            parts_read=len(read),
        )
        rules = rules_for(self.documents, self.words, may_fail=self.kind != "summary" and not any_items(pairs))
        if len(read) < len(parts):
            rules = f"{self.words.partly.format(read=len(read), total=len(parts))} {rules}"
        if self.kind in ("list", "count"):
            return self._listed([item for _, note in pairs for item in note.items], read, report, turns, rules)
        notes = [part.of(note.text) for part, note in pairs if note.text]
        texts = await reader.condensed(notes, room.documents) or [part.text[:800] for part in read[:1]]
        material = f"{self.words.parts}\n\n" + "\n\n".join(texts)
        messages = with_material(self.asked, turns, material, rules)
        pieces = [piece for part in read for piece in part.pieces]
        supplied = self._supplied("\n".join([marked(pieces), *texts]), pieces)
        return Prepared(messages, supplied, report, tuple(pieces))

    def _listed(
        self, found: Sequence[Item], read: Sequence[Part], report: Report, turns: Sequence[Message], rules: str
    ) -> Prepared:
        """Answer with the items that were found: told by the model, or as they are where they are too many for it."""
        items = merged(found, once=self.kind == "list")
        lines = "\n".join(line(item, self.words) for item in items)
        pieces = [piece for part in read for piece in part.pieces]
        if not items:
            rules = f"{self.words.weak} {rules}"
        told = self.words.items.format(count=len(items))
        if items and self.request.shape is None and text_tokens(lines) > 0.7 * min(self.room.answer, 2048):
            partly = self.words.partly_told.format(read=report.parts_read, total=report.parts)
            text = "".join(
                [
                    partly if report.parts_read < report.parts else "",
                    f"{self.words.found.format(count=len(items))}\n{lines}",
                ]
            )
            return Prepared((), Supplied(""), report, text=text)
        material = f"{told}\n{lines}" if items else marked(pieces[:1])
        messages = with_material(self.asked, turns, material, rules)
        supplied = self._supplied(f"{material}\n{marked(pieces)}", pieces, derives=False if items else None)
        count = len(items) if self.kind == "count" and items else None
        return Prepared(messages, supplied, report, tuple(pieces), tuple(items), count)

    async def _worked_out(self) -> Prepared | None:
        """Count and add up without reading, where the question and the documents allow it."""
        facts: list[str] = []
        made: list[Figures] = []
        quoted = _QUOTED.findall(self.question)
        pages: list[Piece] = []
        if quoted and _OCCURS.search(self.question) and _HOW_OFTEN.search(self.question):
            for word in quoted[:3]:
                fact, where = await self._occurrences(word)
                facts.append(fact)
                pages += where
        elif self.kind in ("count", "list") or of_tables(self.question):
            made = await figures(
                self.base, self.desk.model.name, self._with_before(), self.documents, chinese=self.chinese
            )
            facts = [figure.text for figure in made]
            pages = [Piece(figure.document, page, page, "") for figure in made for page in figure.pages]
        if not facts:
            return None
        items = [Item(text, page, figure.document.name) for figure in made for text, page in figure.values]
        report = Report("table", pages=pages_named(pages))
        if items:
            turns, _ = self._turns()
            return self._listed(items, [], report, turns, rules_for(self.documents, self.words, may_fail=False))
        turns, _ = self._turns()
        rules = rules_for(self.documents, self.words, may_fail=False)
        material = self.words.figures.format(facts="；".join(facts) if self.chinese else "; ".join(facts))
        supplied = self._supplied(material, pages, derives=False)
        counts = [figure.count for figure in made if figure.count is not None]
        messages = with_material(self.asked, turns, material, rules)
        return Prepared(messages, supplied, report, tuple(pages), count=counts[0] if len(counts) == 1 else None)

    # --- what they need

    async def _search(self, looked_for: str) -> tuple[Round, bool]:
        """Return what was found of the question, and whether it was looked for by meaning as well."""
        hits, by_meaning = await self._hits(looked_for)
        found = await finding.covered(self.question, hits)
        if found.judgement == "absent" and looked_for != self.question:
            found = await finding.covered(looked_for, hits)
        return Round(looked_for, hits, found), by_meaning

    async def _further(self, sought: str) -> Round:
        """Return what was found of something that only the documents name."""
        hits, _ = await self._hits(sought)
        return Round(sought, hits, await finding.covered(sought, hits))

    async def _hits(self, sought: str) -> tuple[list[finding.Hit], bool]:
        try:
            vectors = await self.base.vectors([sought], "query")
        except EngineError:  # words alone find most of it
            vectors = None
        hits = await finding.search(self.documents, sought, vector=vectors[0] if vectors else None)
        return hits, bool(vectors)

    async def _link(self, of: Round, known: Sequence[str]) -> tuple[str, str]:
        """Have the model say what passages tell of what a question does not name; return that, and what it read."""
        budget = min(self.room.lookup, _MOST_LINK_READS)
        pieces = await finding.chosen(of.hits, budget, self.documents)
        text = next(cut("\n".join([*known, marked(pieces)]), budget), "")
        order = self.words.link.format(question=self._with_before())
        sampling = Sampling(temperature=0, max_tokens=LINK_TOKENS)
        result = await self.base.answer(
            ChatRequest(self.desk.model.name, (Message("user", f"{text}\n\n{order}"),), sampling=sampling)
        )
        return result.choices[0].text.strip(), text

    def _may_fail(self, judgement: Judgement) -> bool:
        """Whether the model is told what to say where there is no answer.

        A small one says it then, whatever it has read: where the text speaks of all that is asked it is not told.
        """
        return judgement != "covered" or not self.is_small

    def _led(self, pieces: Sequence[Piece], rules: str, sought: Sequence[str]) -> str:
        """Return the rules with the sentences ahead of them that a small model would overlook."""
        if self.kind != "lookup" or not self.is_small:
            return rules
        sentences = highlights.told(sought, pieces, self.words)
        return f"{sentences}\n\n{rules}" if sentences else rules

    async def _beginnings(self, budget_tokens: int) -> list[Piece]:
        """Return how documents begin: something to go by where nothing was looked for."""
        share = max(budget_tokens // len(self.documents), 64)
        pieces: list[Piece] = []
        for document in self.documents:
            for page in await document.read(1, 1):
                text = next(cut(page.text, share), "")
                pieces.append(Piece(document, page.number, page.number, text, page.label))
        return pieces

    async def _keywords(self) -> str:
        """Ask for other words for what is looked for, in the documents' language."""
        sample = await self.documents[0].read(1, 1)
        language = "Chinese" if is_chinese("".join(page.text for page in sample)[:_SAMPLE_CHARS]) else "English"
        if self.chinese:
            language = {"Chinese": "中文", "English": "英文"}[language]
        text = _KEYWORDS[self.chinese].format(language=language, question=self.question)
        result = await self.base.answer(
            ChatRequest(self.desk.model.name, (Message("user", text),), sampling=Sampling(temperature=0, max_tokens=48))
        )
        return result.choices[0].text.strip()[:300]

    async def _occurrences(self, word: str) -> tuple[str, list[Piece]]:
        """Count a word in all documents, without a model."""
        total = 0
        pieces: list[Piece] = []
        wanted = folded(word)
        for document in self.documents:
            async for page in pages_of(document):
                if found := folded(page.text).count(wanted):
                    total += found
                    pieces.append(Piece(document, page.number, page.number, ""))
        where = "; ".join(
            f"{file.name} p.{', '.join(file.pages[:20])}"
            for file in pages_named(piece for piece in pieces if has_pages(piece.document))
        )
        fact = f"“{word}”共出现 {total} 次" if self.chinese else f'"{word}" occurs {total} times'
        return f"{fact} [{where}]" if where else fact, pieces

    async def _chosen(self, parts: Sequence[Part]) -> list[int]:
        """Return the parts that are read: all, or as many as may be; for a list, those with hits come first."""
        most = self.owner._most_calls
        if len(parts) <= most:
            return list(range(len(parts)))
        first: dict[int, None] = {}
        if self.kind in ("list", "count"):
            hits = await finding.search(self.documents, self._looked_for(), 4 * most)
            for hit in hits:
                for part in parts:
                    if part.document.id == hit.document.id and hit.passage.first_page in part.pages:
                        first[part.number] = None
                        break
        return evenly(len(parts), most, list(first)[: most // 2])

    def _supplied(self, text: str, pieces: Sequence[Piece], *, derives: bool | None = None) -> Supplied:
        """Return what the answer may rest on: what was read, and what was said before."""
        said = "\n".join([text, self.asked.role, *(turn.text for turn in self.asked.turns), *map(mark, pieces)])
        paged = frozenset(page for piece in pieces if has_pages(piece.document) for page in piece.pages)
        return Supplied(
            said,
            paged or None,
            derives=self.derives if derives is None else derives,
            translated=is_chinese(text[:_SAMPLE_CHARS]) != self.chinese,
        )

    def _must_rest_on_text(self, text: str) -> frozenset[str] | None:
        """Return the question's words where its answer has to show that it is from the text; None where it need not.

        It has to where the text lacks some of them: so do questions that it does not answer. What is to be decided,
        worked out or put into another language may well be said in words of its own.
        """
        if self.kind != "lookup" or self.derives or not asks_for_something(self.question):
            return None
        if is_chinese(text[:_SAMPLE_CHARS]) != self.chinese:
            return None
        asked = terms(self.question)
        return asked if asked - terms(text) else None

    def _looked_for(self) -> str:
        answers = [turn.text for turn in self.asked.turns if turn.role == "assistant"]
        if self.request.partial:
            answers = answers[:-1]
        return looked_for(self.asked.questions, answers)

    def _with_before(self) -> str:
        """Return the question as a part of a document can be read with it: with the one that it goes on from."""
        return self._looked_for() if len(self.asked.questions) > 1 else self.question

    def _turns(self) -> tuple[Sequence[Message], Room]:
        """Return the turns that a prompt gets, the oldest left out where they take more than a third of the window."""
        turns = list(self.asked.turns)
        while len(turns) > _LEAST_TURNS and prompt_tokens(turns) > self.room.window // 3:
            turns = turns[1:]
            while len(turns) > 1 and turns[0].role != "user":
                turns = turns[1:]
        return turns, room(self.base.context_tokens, self.answer_limit, prompt_tokens(turns))

    async def last_call(self, messages: tuple[Message, ...]) -> ChatRequest:
        """Return the call whose answer is told, held to what the window has left."""
        sampling = self.request.sampling
        counted = await self.base.count(self.request.changed(messages=messages))
        left = max(self.room.window - counted - 8, 16)
        limit = min(self.answer_limit or left, left)
        if sampling.temperature is None:
            sampling = msgspec.structs.replace(sampling, temperature=_TEMPERATURE)
        return self.request.changed(
            messages=messages, sampling=msgspec.structs.replace(sampling, max_tokens=limit), n=1, sent=None
        )


def _within(text: str, limit_tokens: int | None) -> tuple[str, str]:
    """Return a text as far as a caller wants it, and the reason that it ends for."""
    size = text_tokens(text)
    if limit_tokens is None or size <= limit_tokens:
        return text, "stop"
    return text[: max(len(text) * limit_tokens // size, 1)], "length"


def any_items(pairs: Sequence[tuple[Part, Note]]) -> bool:
    return any(note.items for _, note in pairs)


def _dialogue(asked: Asked) -> tuple[Message, ...]:
    return (*((Message("system", asked.role),) if asked.role else ()), *asked.turns)


__all__ = ["Answerer", "Prepared"]
