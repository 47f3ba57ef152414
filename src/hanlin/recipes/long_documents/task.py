"""One question about documents, and what every way to its answer needs: parts of prompts, what they may rest on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from hanlin.documents.coverage import Judgement
from hanlin.documents.questions import asks_for_whole
from hanlin.documents.values import Document
from hanlin.metering.estimate import prompt_tokens
from hanlin.recipes.attachments import Asked, Opened, has_pages
from hanlin.recipes.long_documents import highlights
from hanlin.recipes.long_documents.asking import Kind, asks_for_something, derives, kind_of, looked_for
from hanlin.recipes.long_documents.budget import Room, room
from hanlin.recipes.long_documents.claims import Supplied
from hanlin.recipes.long_documents.prompts import Piece, Words, mark, words_for
from hanlin.recipes.long_documents.reading import Item, Notes
from hanlin.recipes.long_documents.report import Metered, Report
from hanlin.recipes.texts import is_chinese, terms
from hanlin.types import ChatRequest, Message, Sampling

SAMPLE_CHARS = 2000
"""Of a text, to tell its language by."""

_TEMPERATURE = 0.3
"""Of an answer whose caller sets none: what documents say leaves little to invention."""

_LEAST_TURNS = 2


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


@dataclass
class Task:
    """A question with its documents, open. `most_calls` are the parts that may be read for it, `notes` those known."""

    request: ChatRequest
    model: str
    base: Metered
    asked: Asked
    opened: Opened
    output_limit_tokens: int | None
    notes: Notes
    most_calls: int
    clock: Callable[[], float]

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
        self.answer_limit = sampling.max_tokens or sampling.max_completion_tokens or self.output_limit_tokens
        self.room: Room = room(self.base.context_tokens, self.answer_limit, prompt_tokens(self._dialogue()))

    @property
    def is_small(self) -> bool:
        """Whether the base model is likely to be a small one. Asked to name a page, some name nothing else; what an
        answer does not name is found afterwards."""
        return self.room.window <= highlights.LARGEST_WINDOW

    def may_fail(self, judgement: Judgement) -> bool:
        """Whether the model is told what to say where there is no answer.

        A small one says it then, whatever it has read: where the text speaks of all that is asked it is not told.
        """
        return judgement != "covered" or not self.is_small

    def led(self, pieces: Sequence[Piece], rules: str, sought: Sequence[str]) -> str:
        """Return the rules with the sentences ahead of them that a small model would overlook."""
        if self.kind != "lookup" or not self.is_small:
            return rules
        sentences = highlights.told(sought, pieces, self.words)
        return f"{sentences}\n\n{rules}" if sentences else rules

    def supplied(self, text: str, pieces: Sequence[Piece], *, derives: bool | None = None) -> Supplied:
        """Return what the answer may rest on: what was read, and what was said before."""
        said = "\n".join([text, self.asked.role, *(turn.text for turn in self.asked.turns), *map(mark, pieces)])
        paged = frozenset(page for piece in pieces if has_pages(piece.document) for page in piece.pages)
        return Supplied(
            said,
            paged or None,
            derives=self.derives if derives is None else derives,
            translated=not self.speaks_as(text),
        )

    def speaks_as(self, text: str) -> bool:
        """Whether a text is in the language of the question."""
        return is_chinese(text[:SAMPLE_CHARS]) == self.chinese

    def must_rest_on_text(self, text: str) -> frozenset[str] | None:
        """Return the question's words where its answer has to show that it is from the text; None where it need not.

        It has to where the text lacks some of them: so do questions that it does not answer. What is to be decided,
        worked out or put into another language may well be said in words of its own.
        """
        if self.kind != "lookup" or self.derives or not asks_for_something(self.question):
            return None
        if not self.speaks_as(text):
            return None
        asked = terms(self.question)
        return asked if asked - terms(text) else None

    def looked_for(self) -> str:
        """Return what to search for: the question, with the turns that it goes on from."""
        answers = [turn.text for turn in self.asked.turns if turn.role == "assistant"]
        if self.request.partial:
            answers = answers[:-1]
        return looked_for(self.asked.questions, answers)

    def with_before(self) -> str:
        """Return the question as a part of a document can be read with it: with the one that it goes on from."""
        return self.looked_for() if len(self.asked.questions) > 1 else self.question

    def turns(self) -> tuple[Sequence[Message], Room]:
        """Return the turns that a prompt gets, the oldest left out where they take more than a third of the window."""
        turns = list(self.asked.turns)
        while len(turns) > _LEAST_TURNS and prompt_tokens(turns) > self.room.window // 3:
            turns = turns[1:]
            while len(turns) > 1 and turns[0].role != "user":
                turns = turns[1:]
        return turns, room(self.base.context_tokens, self.answer_limit, prompt_tokens(turns))

    async def counted(self, messages: tuple[Message, ...]) -> int:
        """Return the tokens of the last call's prompt, were it these messages."""
        return await self.base.count(self.request.changed(messages=messages))

    async def say(self, order: str, most_tokens: int) -> str:
        """Return what the model says to an order of the recipe's own."""
        sampling = Sampling(temperature=0, max_tokens=most_tokens)
        result = await self.base.answer(ChatRequest(self.model, (Message("user", order),), sampling=sampling))
        return result.choices[0].text.strip()

    async def last_call(self, messages: tuple[Message, ...]) -> ChatRequest:
        """Return the call whose answer is told, held to what the window has left."""
        sampling = self.request.sampling
        left = max(self.room.window - await self.counted(messages) - 8, 16)
        limit = min(self.answer_limit or left, left)
        if sampling.temperature is None:
            sampling = msgspec.structs.replace(sampling, temperature=_TEMPERATURE)
        return self.request.changed(
            messages=messages, sampling=msgspec.structs.replace(sampling, max_tokens=limit), n=1, sent=None
        )

    def _dialogue(self) -> tuple[Message, ...]:
        role = (Message("system", self.asked.role),) if self.asked.role else ()
        return (*role, *self.asked.turns)


__all__ = ["SAMPLE_CHARS", "Prepared", "Task"]
