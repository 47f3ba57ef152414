"""Stream the answer of a base model, and see to it that it rests on what the model was given.

Text leaves as it comes; what it claims is held until it is whole (`claims`). The first claim that nothing backs ends
the generation: the model goes on once more from there, or begins anew where nothing has left, and is told what is
wrong. A second one is said so at the end of the answer; a page that was not read is left out.
"""

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from hanlin.metering.estimate import text_tokens
from hanlin.recipes.long_documents import sources
from hanlin.recipes.long_documents.claims import Fault, Gate, Supplied
from hanlin.recipes.long_documents.prompts import Piece, Words, noted
from hanlin.recipes.long_documents.reading import Item
from hanlin.recipes.long_documents.report import Metered
from hanlin.recipes.texts import numbers, shared, squeezed, terms
from hanlin.types import ChatRequest, Event, Events, Message, Usage

_MOST_ADDED = 200  # items that the model left out and that are added behind its answer
_LEAST_SAID = 0.8
_MOST_SHOWN = 60


@dataclass
class Telling:
    """One answer while it is told. `request` has its messages; `pieces` are what it may name as its source.

    `asked` are the words of a question whose answer may not be there (`Gate`). `items` and `count` are what the answer
    has to hold, because they were found; what of them the model does not say is added. After `events` has ended,
    `finish_reason` says why, `completion` are the tokens of the visible answer and `unbacked` the claims that stand
    nowhere.
    """

    base: Metered
    request: ChatRequest
    supplied: Supplied
    words: Words
    pieces: Sequence[Piece] = ()
    items: Sequence[Item] = ()
    count: int | None = None
    asked: frozenset[str] | None = None
    finish_reason: str = "stop"
    completion: int = 0
    estimated: bool = False
    asked_again: bool = False
    unbacked: list[str] = field(default_factory=list)

    async def events(self) -> Events:
        """Yield the text as it comes, checked; finish reason and usage are left to whoever reports them."""
        if self.request.shape is not None or self.request.tools:
            async with aclosing(self._as_it_comes()) as bursts:
                async for burst in bursts:
                    yield burst
            return
        gate = Gate(self.supplied, self.asked)
        request = self.request
        while True:
            async with aclosing(self._generated(request, gate)) as bursts:
                async for burst in bursts:
                    yield burst
            if gate.fault is None:
                break
            self.asked_again = True
            request = self._again(gate.fault, gate.passed)
            gate.drop()
        added = await self._rest(gate) if self.finish_reason != "length" else ""
        if added:
            yield [Event(text=added)]
        if self.asked_again or not self.completion:  # what was generated is not what was seen
            self.completion, self.estimated = text_tokens(gate.passed + added), True
        elif added:
            self.completion, self.estimated = self.completion + text_tokens(added), True

    async def _generated(self, request: ChatRequest, gate: Gate) -> Events:
        """Yield one generation, to its end or to the claim that has it asked again."""
        usage: Usage | None = None
        async with aclosing(self.base.stream(request)) as bursts:
            async for burst in bursts:
                out: list[Event] = []
                for event in burst:
                    usage = event.usage or usage
                    self.finish_reason = event.finish_reason or self.finish_reason
                    if event.reasoning:
                        out.append(Event(reasoning=event.reasoning))
                    if event.text and (text := self._let(gate, gate.feed(event.text))):
                        out.append(Event(text=text))
                yield out
                if gate.fault is not None or gate.muted:
                    break
        self._spend(usage)
        if gate.fault is None and (text := self._let(gate, gate.close())):
            yield [Event(text=text)]

    async def _as_it_comes(self) -> Events:
        """Yield an answer that has a form of its own: nothing is held, nothing is added."""
        async with aclosing(self.base.stream(self.request)) as bursts:
            async for burst in bursts:
                out: list[Event] = []
                for event in burst:
                    if event.usage is not None:
                        self._spend(event.usage)
                    elif event.finish_reason is not None:
                        self.finish_reason = event.finish_reason
                    else:
                        out.append(event)
                yield out

    def _spend(self, usage: Usage | None) -> None:
        if usage is not None:
            self.base.spent(usage)
            self.completion += usage.completion
        else:
            self.estimated = True

    def _let(self, gate: Gate, text: str) -> str:
        """Return what may leave; once the model was asked again, also what nothing backs."""
        while gate.fault is not None and not self._may_ask_again(gate):
            fault = gate.fault
            if fault.kind == "answer":
                return text + gate.mute(self.words.nothing_found)
            if fault.kind != "page":
                self.unbacked.append(fault.shown)
            text += gate.go_on(without=fault.kind == "page")
        return text

    def _may_ask_again(self, gate: Gate) -> bool:
        return not self.asked_again and (self.base.can_continue or not gate.passed.strip())

    def _again(self, fault: Fault, passed: str) -> ChatRequest:
        """Return the request that goes on behind what has left, with a remark on what must not follow."""
        messages = noted(self.request.messages, self.words.not_backed.format(claim=fault.shown[:_MOST_SHOWN]))
        if not passed.strip():
            return self.request.changed(messages=messages)
        if self.request.partial:
            passed = messages[-1].text + passed
            messages = messages[:-1]
        return self.request.changed(messages=(*messages, Message("assistant", passed)), partial=True)

    async def _rest(self, gate: Gate) -> str:
        """Return what belongs behind the answer: items that it left out, claims to beware of, its source."""
        answer = gate.passed
        added = ""
        said, said_terms = squeezed(answer), terms(answer)
        missing = [
            item
            for item in self.items
            if squeezed(item.text) not in said and shared(terms(item.text), said_terms) < _LEAST_SAID
        ]
        if missing:
            lines = [sources.line(item, self.words) for item in missing[:_MOST_ADDED]]
            added += self.words.more_items.format(items="\n".join(lines))
        if self.count is not None and str(self.count) not in numbers(answer):
            added += self.words.counted.format(count=self.count)
        if self.unbacked:
            added += self.words.beware.format(claims="、".join(dict.fromkeys(self.unbacked)))
        if not gate.pages and not missing and answer.strip():
            added += await sources.named(answer, self.pieces, self.words)
        return added


__all__ = ["Telling"]
