"""The use case of a chat call: its choices, run by whoever can answer, as events or put together.

Everything that makes tokens goes through `generate`.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial

import msgspec

from hanlin.errors import ContextLengthExceeded, RequestTimedOut
from hanlin.service.attempts import Call
from hanlin.service.patience import Within
from hanlin.service.planning import Plan
from hanlin.types import Burst, ChatRequest, ChatResult, Event, Events, Usage, fold

_UNREAD_BURSTS = 8


def generate(call: Call) -> Events:
    """Yield a call's events as they come: every choice, then one usage for all. Closing the iterator stops it all.

    `n` choices are `n` calls of the engine with seeds counted up from the caller's: the prompt is billed once, every
    choice's answer is billed (spec/chat.md §3). Raises ContextLengthExceeded for a prompt beyond the catalogue's limit.
    """
    if call.plan.request.n > 1 or _may_be_too_long(call.plan):
        return _checked(call)
    return call.choice()


async def _checked(call: Call) -> Events:
    """Yield the events of a call with several choices, or whose prompt has to be counted first."""
    await _check_prompt(call.plan)
    count = call.plan.request.n
    if count == 1:
        async with aclosing(call.choice()) as events:
            async for burst in events:
                yield burst
        return
    choices = [call.choice(partial(_numbered, index=index)) for index in range(count)]
    async with aclosing(_merged(choices)) as merged:
        async for index, burst in merged:
            yield [msgspec.structs.replace(event, index=index) for event in burst if event.usage is None]
    yield [Event(usage=call.usage)]


async def complete(call: Call, limit_s: float) -> ChatResult:
    """Return a call's whole answer, or after `limit_s` what there is of it (spec/chat.md §4.4).

    Raises RequestTimedOut when there is nothing until then.
    """
    plan = call.plan
    if plan.request.n > 1 or (plan.deployment.profile.counts and _may_be_too_long(plan)):
        result = await collect(_checked(call), limit_s)
    else:
        try:
            with Within(call.router.watch, limit_s):
                return await call.answer()
        except TimeoutError:
            result = _so_far(call.heard, limit_s)
    return _estimated(call.plan, result) if result.cut_short else result


async def collect(bursts: Events, limit_s: float) -> ChatResult:
    """Put all events together, or after `limit_s` those that came. Raises RequestTimedOut when none said anything."""
    events: list[Event] = []
    try:
        async with asyncio.timeout(limit_s), aclosing(bursts):
            async for burst in bursts:
                events += burst
    except TimeoutError:
        return _so_far(events, limit_s)
    return fold(events)


def _so_far(events: Sequence[Event], limit_s: float) -> ChatResult:
    """Return what there is of an answer whose time is over. Raises RequestTimedOut when that is nothing."""
    result = fold(events)  # without what was taken back
    if not any(choice.text or choice.reasoning for choice in result.choices):
        raise RequestTimedOut(limit_s) from None
    return msgspec.structs.replace(result, cut_short=True)


def _estimated(plan: Plan, result: ChatResult) -> ChatResult:
    """Guess the usage of an answer that nobody has counted to its end, by its size."""
    if result.usage == Usage():
        prompt_bytes = sum(len(message.text.encode()) for message in plan.request.messages)
        thought = sum(len(choice.reasoning.encode()) for choice in result.choices)
        said = sum(len(choice.text.encode()) for choice in result.choices)
        usage = Usage(max(prompt_bytes // 4, 1), max((thought + said) // 4, 1), reasoning=thought // 4)
        return msgspec.structs.replace(result, usage=usage)
    return result


def _numbered(request: ChatRequest, index: int) -> ChatRequest:
    seed = ((request.sampling.seed or 0) + index) % 2**31
    return request.changed(n=1, sampling=msgspec.structs.replace(request.sampling, seed=seed))


def _may_be_too_long(plan: Plan) -> bool:
    """Whether a prompt may be beyond the catalogue's limit, where the deployment itself would take it.

    A token is at least one byte, so only a prompt with more bytes than the limit has tokens needs counting.
    """
    limit = plan.model.input_limit_tokens()
    if limit is None or not plan.deployment.profile.counts or 0 < plan.deployment.context_tokens <= limit:
        return False
    tools = len(msgspec.json.encode(plan.request.tools)) if plan.request.tools else 0
    # A character is at most four bytes; the exact number is only worth knowing near the limit.
    characters = sum(len(message.text) + 16 for message in plan.request.messages)
    if 4 * characters + tools <= limit:
        return False
    return sum(len(message.text.encode()) + 16 for message in plan.request.messages) + tools > limit


async def _check_prompt(plan: Plan) -> None:
    if not _may_be_too_long(plan):
        return
    limit = plan.model.input_limit_tokens()
    prompt = await plan.deployment.engine.count(plan.request)
    if limit is not None and prompt is not None and prompt > limit:
        raise ContextLengthExceeded(plan.request.model, prompt, limit)


async def _merged(streams: list[Events]) -> AsyncGenerator[tuple[int, Burst], None]:
    """Yield bursts of several streams as they come, each with its stream's index. The first failure ends all."""
    queue: asyncio.Queue[tuple[int, Burst | Exception | None]] = asyncio.Queue(_UNREAD_BURSTS)

    async def pump(index: int, stream: Events) -> None:
        try:
            async for burst in stream:
                await queue.put((index, burst))
        except Exception as error:  # not handled here but handed to the reader, who raises it
            await queue.put((index, error))
        else:
            await queue.put((index, None))

    tasks = [asyncio.create_task(pump(index, stream)) for index, stream in enumerate(streams)]
    running = len(tasks)
    try:
        while running:
            index, item = await queue.get()
            if isinstance(item, Exception):
                raise item
            if item is None:
                running -= 1
            else:
                yield index, item
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for stream in streams:
            await stream.aclose()
