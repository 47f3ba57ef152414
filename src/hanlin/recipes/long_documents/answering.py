"""Answer a question about documents: put everything into the prompt, or what was found, or notes of all of it.

The way is chosen by size and by question (`_prepared`), and each is a module of its own; the answer is told and checked
in the same way for all of them.
"""

import time
from collections.abc import Callable
from contextlib import aclosing

import msgspec

from hanlin.metering.estimate import text_tokens
from hanlin.recipes import attachments
from hanlin.recipes.attachments import Asked, Attachment, Opened
from hanlin.recipes.long_documents import counting, everything, lookup, partwise, reading
from hanlin.recipes.long_documents.reading import Notes
from hanlin.recipes.long_documents.report import Metered
from hanlin.recipes.long_documents.task import Prepared, Task
from hanlin.recipes.long_documents.telling import Telling
from hanlin.recipes.recipe import Desk
from hanlin.types import ChatRequest, Event, Events, Message, Usage


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
        task = Task(
            request,
            desk.model.name,
            base,
            asked,
            opened,
            desk.model.output_limit_tokens(),
            self._notes,
            self._most_calls,
            self._clock,
        )
        prepared = await _prepared(task)
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


async def _prepared(task: Task) -> Prepared:
    """Choose the way to an answer, and go it up to the last call."""
    prepared = await counting.prepared(task) or await everything.prepared(task)
    if prepared is not None:
        return prepared
    if task.kind == "lookup":
        return await lookup.prepared(task)
    return await partwise.prepared(task)


def _as_sent(asked: Asked) -> tuple[Message, ...]:
    """Return the messages as they were sent, without the text of documents: that is counted as theirs."""
    steps = (
        Message("system", ",".join(f"fileid://{name}" for name in step.ids)) if isinstance(step, Attachment) else step
        for step in asked.steps
    )
    return (*((Message("system", asked.role),) if asked.role else ()), *(step for step in steps if step.text))


def _within(text: str, limit_tokens: int | None) -> tuple[str, str]:
    """Return a text as far as a caller wants it, and the reason that it ends for."""
    size = text_tokens(text)
    if limit_tokens is None or size <= limit_tokens:
        return text, "stop"
    return text[: max(len(text) * limit_tokens // size, 1)], "length"


__all__ = ["Answerer"]
