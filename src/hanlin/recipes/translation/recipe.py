"""Translate a text: its pieces side by side, each only told once it is checked, in their order.

What is reported as usage is what one plain call would have used: the prompt with the whole text in it, and the tokens
of the translation that the caller gets, however often the base model was asked.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from itertools import islice

import msgspec

from hanlin.catalogue.models import Model
from hanlin.errors import InvalidRequest
from hanlin.recipes.recipe import Desk, Recipe
from hanlin.recipes.translation import languages, mending, options, prompts, protecting, segmenting, terms
from hanlin.recipes.translation.asking import Asking
from hanlin.recipes.translation.attempts import TIERS, USUAL, Outcome, Translator
from hanlin.recipes.translation.checking import Aim
from hanlin.recipes.translation.languages import Language
from hanlin.recipes.translation.memory import Memory
from hanlin.recipes.translation.options import FIELD, Options, Pair
from hanlin.recipes.translation.segmenting import Piece
from hanlin.types import ChatRequest, Event, Events, Message, Usage

SIDE_BY_SIDE = 4
"""Pieces in translation at once. A piece sees the one so many before it as its example: always the same one."""

_PIECE_TOKENS = 300.0  # small models lose their way in longer texts, and large ones have enough to see
_SURE_LETTERS = 20  # what is shorter is taken to be in the language of the whole text
_SURE_CHARACTERS = 4
_MOST_NOTES = 200
_BEGINNING = 4000
_LONG = 50_000
_COUNTED_TOKENS = 50_000  # a longer prompt is estimated: nobody has an engine count what no engine could read


class Note(msgspec.Struct, frozen=True):
    """What happened to one piece, for the report: `corrected` was put right, `left` was not."""

    segment: int
    way: str
    corrected: tuple[str, ...] = ()
    left: tuple[str, ...] = ()


class Report(msgspec.Struct, frozen=True):
    """What was done, for callers that ask (`hanlin.report`). `calls` are those of the base model."""

    source_lang: str
    segments: int
    from_memory: int
    unchanged: int
    calls: int
    notes: tuple[Note, ...]


@dataclass
class Told:
    """What of a translation has left so far, and how it came about."""

    tokens: int = 0
    finish_reason: str = "stop"
    segments: int = 0
    from_memory: int = 0
    unchanged: int = 0
    notes: list[Note] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        """Take down how a piece was translated."""
        self.segments += 1
        self.from_memory += outcome.way == "memory"
        self.unchanged += outcome.way == "unchanged"
        if (outcome.corrected or outcome.left) and len(self.notes) < _MOST_NOTES:
            corrected, left = (
                tuple(": ".join(filter(None, (fault.kind, fault.detail))) for fault in faults)
                for faults in (outcome.corrected, outcome.left)
            )
            self.notes.append(Note(self.segments, outcome.way, corrected, left))


async def run(request: ChatRequest, desk: Desk) -> Events:
    """Yield the translation piece by piece, then its finish reason and usage."""
    asked = options.parse(request, desk.model)
    text = request.messages[0].text
    asking = Asking(request, desk.base)
    if asked is None:
        async with aclosing(_own_prompt(text, asking, request, desk.model)) as bursts:
            async for burst in bursts:
                yield burst
        return
    prompt_tokens = await _prompt_tokens(asked, text, asking)
    limit = desk.model.input_limit_tokens()
    if limit is not None and prompt_tokens > limit and not asked.extras.split:
        raise InvalidRequest(f"Range of input length should be [1, {limit}]", param="messages")
    memory = Memory(asked.memory)
    cut = partial(_pieces, text, min(_PIECE_TOKENS, desk.base.context_tokens / 6), memory)
    # A book takes seconds, and others wait for the loop.
    pieces = await asyncio.to_thread(cut) if len(text) > _LONG else cut()
    work = _Work(asked, text, pieces, memory, asking, desk)
    told = Told()
    async with aclosing(work.translated(told)) as parts:
        async for part in parts:
            yield [Event(text=part)]
    if asked.extras.report:
        yield [Event(report=work.report(told))]
    yield [Event(finish_reason=told.finish_reason)]
    yield [Event(usage=Usage(prompt=prompt_tokens, completion=told.tokens))]


def _pieces(text: str, budget: float, memory: Memory) -> Sequence[Piece]:
    """Cut a text into its pieces; a sentence that was translated before is one of its own."""
    pieces = segmenting.pieces(text, budget)
    if not memory:
        return pieces

    def is_known(sentence: str) -> bool:
        return memory.known(sentence) is not None

    return [part for piece in pieces for part in (segmenting.apart(piece, is_known) if piece.text else (piece,))]


async def _prompt_tokens(asked: Options, text: str, asking: Asking) -> int:
    """Return the prompt tokens of one plain call with everything in it, as the contract counts."""
    if (estimate := segmenting.size(text)) > _COUNTED_TOKENS:
        return int(estimate)
    return await asking.prompt_tokens(
        prompts.translation(
            text,
            asked.source,
            asked.target,
            style=asked.domains,
            glossary=asked.terms,
            examples=asked.memory,
        )
    )


async def _own_prompt(text: str, asking: Asking, request: ChatRequest, model: Model) -> Events:
    """Answer a prompt that the caller wrote as a whole (spec/scenarios.md §1.4): only what surrounds the text goes."""
    messages = (Message("user", text),)
    prompt_tokens = await asking.prompt_tokens(messages)
    limit = model.input_limit_tokens()
    if limit is not None and prompt_tokens > limit:
        raise InvalidRequest(f"Range of input length should be [1, {limit}]", param="messages")
    most = _most_tokens(request)
    said = await asking.say(messages, text, None, limit=most)
    told = Told()
    output = await _cut(mending.without_wrapping(said.text), said.tokens, most, told)
    if said.cut:
        told.finish_reason = "length"
    if output:
        yield [Event(text=output)]
    yield [Event(finish_reason=told.finish_reason)]
    yield [Event(usage=Usage(prompt=prompt_tokens, completion=told.tokens))]


def _most_tokens(request: ChatRequest) -> int | None:
    """Return the caller's own limit: a translation has no reasoning, so both of them cap the same."""
    limits = (request.sampling.max_tokens, request.sampling.max_completion_tokens)
    return min((limit for limit in limits if limit is not None), default=None)


async def _cut(text: str, tokens: int, most: int | None, told: Told) -> str:
    """Return what of a text fits the tokens that are left, and count it."""
    left = tokens if most is None else most - told.tokens
    if tokens <= left:
        told.tokens += tokens
        return text
    told.tokens += left
    told.finish_reason = "length"
    return text[: len(text) * left // tokens]


@dataclass
class _Work:
    """One text on its way into another language."""

    asked: Options
    text: str
    pieces: Sequence[Piece]
    memory: Memory
    asking: Asking
    desk: Desk

    def __post_init__(self) -> None:
        # Its beginning tells: a detector need not read a book.
        self.source = self.asked.source or languages.likely(protecting.without_kept(self.text[:_BEGINNING]))
        tier = TIERS.get(self.desk.model.name, USUAL)
        self.translator = Translator(self.asking, self.asked, tier)

    async def translated(self, told: Told) -> AsyncGenerator[str, None]:
        """Yield the translation of each piece with what stands around it, until the caller's tokens are used up."""
        most = _most_tokens(self.asking.request)
        if most is None and not self.asked.extras.split:
            most = self.desk.model.output_limit_tokens()
        async with aclosing(in_order([self._task(piece) for piece in self.pieces], SIDE_BY_SIDE)) as outcomes:
            for piece in self.pieces:
                outcome = await anext(outcomes)
                part = f"{piece.before}{outcome.text}{self._between(piece)}"
                if piece.text:
                    told.add(outcome)
                tokens = outcome.tokens
                if tokens is None:
                    tokens = await self.asking.tokens_of(outcome.text)
                tokens += _tokens_around(piece)
                shown = await _cut(part, tokens, most, told)
                if shown:
                    yield shown
                if told.finish_reason == "length":
                    return

    def _between(self, piece: Piece) -> str:
        """Return the space behind a piece: between two sentences of a line, what the target puts there."""
        if not piece.joined:
            return piece.after
        if self.asked.target.spaced:
            return piece.after or " "
        return "" if piece.after == " " else piece.after

    def _task(self, piece: Piece) -> "Job":
        async def translate(earlier: tuple[str, Outcome] | None) -> tuple[str, Outcome]:
            return piece.text, await self._translate(piece.text, earlier)

        return translate

    async def _translate(self, text: str, earlier: tuple[str, Outcome] | None) -> Outcome:
        if not text:
            return Outcome("", "nothing", 0)  # what stands around it is counted where it is told
        if (known := self.memory.known(text)) is not None:
            return Outcome(known, "memory", None)
        if not any(character.isalpha() for character in protecting.without_kept(text)):
            return Outcome(text, "unchanged", None)
        source = self._language_of(text)
        target = self.asked.target
        wanted = terms.uses(text, self.asked.terms, source)
        if source is not None and not wanted and (same := _same_tongue(text, source, target)) is not None:
            return Outcome(same, "unchanged", None)
        examples = [*self._context(earlier, text), *self.memory.near(text)]
        aim = Aim(text, source, target, wanted)
        return await self.translator.translate(aim, examples)

    def _language_of(self, text: str) -> Language | None:
        """Return a piece's own language: texts mix them. What is too short to tell is as the whole text is."""
        bare = protecting.without_kept(text)
        named = self.asked.source
        if named is not None:
            return named if languages.written_in(bare, named) else self._stranger(bare)
        enough = _SURE_CHARACTERS if languages.is_unspaced(bare) else _SURE_LETTERS
        if sum(character.isalpha() for character in bare) >= enough:
            return languages.likely(bare) or self.source
        return self.source

    def _stranger(self, text: str) -> Language | None:
        """Return the language of a piece that has no letter of the language that the caller named."""
        target = self.asked.target
        if languages.written_in(text, target) and sum(map(str.isalpha, text)) < _SURE_LETTERS:
            return target
        return languages.likely(text)

    def _context(self, earlier: tuple[str, Outcome] | None, text: str) -> Sequence[Pair]:
        """Return the piece before, as an example of how names and words were translated; none for a lite model."""
        if earlier is None or not earlier[0] or earlier[1].left or options.is_lite(self.desk.model):
            return ()
        source, outcome = earlier
        if outcome.way == "unchanged" or not outcome.text or source == text:
            return ()
        return (Pair(source, outcome.text),)

    def report(self, told: Told) -> msgspec.Raw:
        """Return what was done, as the caller gets it."""
        made = Report(
            source_lang=self.source.name if self.source is not None else "",
            segments=told.segments,
            from_memory=told.from_memory,
            unchanged=told.unchanged,
            calls=self.asking.calls,
            notes=tuple(told.notes),
        )
        return msgspec.Raw(msgspec.json.encode({"translation": made}))


def _same_tongue(text: str, source: Language, target: Language) -> str | None:
    """Return a text that is in the target's language already; None where it has to be translated."""
    if source is target and not target.is_han:
        return text
    if {source.code, target.code} <= {"zh", "zh_tw"}:
        return mending.in_script(text, target)
    return None


def _tokens_around(piece: Piece) -> int:
    """Return about how many tokens that was kept to the letter around a piece has; blank space has none of its own."""
    return round(sum(map(segmenting.size, (*piece.before.split(), *piece.after.split()))))


Job = Callable[[tuple[str, Outcome] | None], Awaitable[tuple[str, Outcome]]]
"""A piece's translation, given the piece so many before it and its translation."""


async def in_order(jobs: Sequence[Job], width: int) -> AsyncGenerator[Outcome, None]:
    """Yield what some jobs give, in their order, `width` of them at work; closing it stops those that are.

    A job begins when the one `width` before it has been yielded, and is told of it.
    """
    waiting = iter(jobs)
    running: deque[asyncio.Task[tuple[str, Outcome]]] = deque()
    try:
        running.extend(asyncio.ensure_future(job(None)) for job in islice(waiting, width))
        while running:
            done = await running[0]
            running.popleft()
            running.extend(asyncio.ensure_future(job(done)) for job in islice(waiting, 1))
            yield done[1]
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


TRANSLATION = Recipe("translation", run, options.check, frozenset({FIELD}))

__all__ = ["SIDE_BY_SIDE", "TRANSLATION", "Note", "Report", "in_order"]
