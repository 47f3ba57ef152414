"""The use case of a chat call: find a place, run the engine, hand on the events.

Everything that makes tokens goes through `generate`.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec

from hanlin.errors import ContextLengthExceeded, RequestTimedOut
from hanlin.service.planning import Plan
from hanlin.types import Burst, ChatRequest, ChatResult, Event, Events, Usage, fold

_UNREAD_BURSTS = 8


async def generate(plan: Plan) -> Events:
    """Yield a plan's events as they come: every choice, then one usage for all. Closing the iterator stops it all.

    `n` choices are `n` calls of the engine with seeds counted up from the caller's: the prompt is billed once, every
    choice's answer is billed (spec/chat.md §3).
    """
    await _check_prompt(plan)
    request = plan.request
    if request.n == 1:
        async with aclosing(_choice(plan, request)) as events:
            async for burst in events:
                yield burst
        return
    usage = Usage()
    async with aclosing(_merged([_choice(plan, _numbered(request, index)) for index in range(request.n)])) as merged:
        async for index, burst in merged:
            shown = [msgspec.structs.replace(event, index=index) for event in burst if event.usage is None]
            for event in burst:
                if event.usage is not None:
                    usage = shared_prompt(usage, event.usage)
            yield shown
    yield [Event(usage=usage)]


async def complete(plan: Plan, limit_s: float) -> ChatResult:
    """Return a plan's whole answer, or after `limit_s` what there is of it (spec/chat.md §4.4).

    Raises RequestTimedOut when there is nothing until then.
    """
    result = await collect(generate(plan), limit_s)
    return _estimated(plan, result) if result.cut_short else result


async def collect(bursts: Events, limit_s: float) -> ChatResult:
    """Put all events together, or after `limit_s` those that came. Raises RequestTimedOut when none said anything."""
    events: list[Event] = []
    try:
        async with asyncio.timeout(limit_s), aclosing(bursts):
            async for burst in bursts:
                events += burst
    except TimeoutError:
        if not any(event.text or event.reasoning for event in events):
            raise RequestTimedOut(limit_s) from None
        return msgspec.structs.replace(fold(events), cut_short=True)
    return fold(events)


def _estimated(plan: Plan, result: ChatResult) -> ChatResult:
    """Guess the usage of an answer that nobody has counted to its end, by its size."""
    if result.usage == Usage():
        prompt_bytes = sum(len(message.text.encode()) for message in plan.request.messages)
        thought = sum(len(choice.reasoning.encode()) for choice in result.choices)
        said = sum(len(choice.text.encode()) for choice in result.choices)
        usage = Usage(max(prompt_bytes // 4, 1), max((thought + said) // 4, 1), reasoning=thought // 4)
        return msgspec.structs.replace(result, usage=usage)
    return result


def shared_prompt(total: Usage, choice: Usage) -> Usage:
    """Add one choice's usage to the total: the prompt and what of it was cached count once."""
    first = total if total.prompt else choice
    return msgspec.structs.replace(
        first, completion=total.completion + choice.completion, reasoning=total.reasoning + choice.reasoning
    )


def _numbered(request: ChatRequest, index: int) -> ChatRequest:
    seed = ((request.sampling.seed or 0) + index) % 2**31
    return msgspec.structs.replace(request, n=1, sampling=msgspec.structs.replace(request.sampling, seed=seed))


async def _choice(plan: Plan, request: ChatRequest) -> Events:
    async with plan.deployment.capacity.place(), aclosing(plan.deployment.engine.generate(request)) as events:
        async for burst in events:
            yield burst


async def _check_prompt(plan: Plan) -> None:
    """Refuse a prompt beyond the catalogue's limit where the deployment itself would take it.

    A token is at least one byte, so only a prompt with more bytes than the limit has tokens needs counting.
    """
    limit = plan.model.input_limit_tokens()
    if limit is None or 0 < plan.deployment.context_tokens <= limit:
        return
    tools = len(msgspec.json.encode(plan.request.tools))
    if sum(len(message.text.encode()) + 16 for message in plan.request.messages) + tools <= limit:
        return
    prompt = await plan.deployment.engine.count(plan.request)
    if prompt is not None and prompt > limit:
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
