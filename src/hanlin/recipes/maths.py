"""qwen-math: a solution step by step with one boxed result at its end (spec/scenarios.md §8).

The smaller names give the base's likeliest solution as it comes. The better ones make several and give the first of
those that most agree with, so nothing of theirs is shown before the vote is over. A solution with a sum that is wrong
has no vote.
"""

import asyncio
import re
from collections import Counter
from collections.abc import Sequence
from contextlib import aclosing

import msgspec

from hanlin.recipes.arithmetic import wrong_sums
from hanlin.recipes.boxes import OPENING, OneBox, boxed, closing, same_form
from hanlin.recipes.languages import CHINESE, language_of
from hanlin.recipes.recipe import Base, Desk, Recipe
from hanlin.recipes.saying import answer_limit, prompt_within
from hanlin.recipes.shaped import greedy, with_system
from hanlin.types import ChatRequest, ChatResult, Event, Events, Message, Usage

VOTERS = 5
"""Solutions of one vote at most; it is over as soon as more than half of them agree."""

VOTING_GRADE = 3
"""Names of this grade and above vote: of the hosted ones, `qwen-math-plus`."""

_MAJORITY = VOTERS // 2 + 1
_ANSWER_TOKENS = 64
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:/\d+)?")
_LINES = re.compile(r"[^\n]*\n+|[^\n]+")


async def _run(request: ChatRequest, desk: Desk) -> Events:
    base = desk.base
    prompt_tokens = await prompt_within(base, request, desk.model)
    if request.shape is not None or request.logprobs:
        solution = base.stream(_decided(request))  # JSON, or every token's likelihood: a box has no place there
    else:
        told = _told(request)
        made = _voted(told, base) if desk.model.grade >= VOTING_GRADE else base.stream(told)
        solution = _with_one_box(made, told, base)
    async with aclosing(solution) as bursts:
        async for burst in bursts:
            yield [_billed(event, prompt_tokens) for event in burst]


def _billed(event: Event, prompt_tokens: int) -> Event:
    """Count the caller's own prompt, not what was added to it."""
    if event.usage is None:
        return event
    cached = min(event.usage.cached, prompt_tokens)
    return Event(usage=msgspec.structs.replace(event.usage, prompt=prompt_tokens, cached=cached))


def _told(request: ChatRequest) -> ChatRequest:
    """Return the request with what a solution is to be like."""
    chinese = language_of(_question(request)) == CHINESE
    note = (
        r"请逐步推理，写出每一步，并把最终答案放在 \boxed{} 中。"
        if chinese
        else r"Please reason step by step, and put your final answer within \boxed{}."
    )
    return _decided(request.changed(messages=with_system(request.messages, note)))


def _decided(request: ChatRequest) -> ChatRequest:
    """Return the request with the likeliest tokens, where the caller does not say otherwise."""
    sampling = request.sampling
    if sampling.temperature is None:
        sampling = msgspec.structs.replace(sampling, temperature=0.0)
    return request.changed(sampling=sampling, repeatable=True)


def _question(request: ChatRequest) -> str:
    return next((message.text for message in reversed(request.messages) if message.role == "user"), "")


def _prefix(request: ChatRequest) -> str:
    return request.messages[-1].text if request.partial else ""


# --- one box


async def _with_one_box(solution: Events, request: ChatRequest, base: Base) -> Events:
    """Yield a solution in which the last result alone is boxed; without one, the base is asked for it once."""
    box = OneBox(_prefix(request))
    text: list[str] = []
    reason: str | None = None
    usage = Usage()
    async with aclosing(solution) as bursts:
        async for burst in bursts:
            shown = ""
            for event in burst:
                if event.restart:
                    box, text = OneBox(_prefix(request)), []
                    yield [event]
                text.append(event.text)
                shown += box.feed(event.text) if event.text else ""
                reason = event.finish_reason or reason
                usage = event.usage or usage
            yield [Event(text=shown)] if shown else []
    rest = box.close(cut=reason == "length")
    written = 0
    # What the caller's own stop texts have ended is over.
    if box.value is None and reason == "stop" and not request.sampling.stop:
        more, written = await _result(request, "".join(text), base, _left(request, usage))
        rest += more
    if rest:
        yield [Event(text=rest)]
    yield [Event(finish_reason=reason)]
    yield [Event(usage=msgspec.structs.replace(usage, completion=usage.completion + written))]


def _left(request: ChatRequest, usage: Usage) -> int:
    limit = answer_limit(request)
    return _ANSWER_TOKENS if limit is None else min(limit - usage.completion, _ANSWER_TOKENS)


async def _result(request: ChatRequest, text: str, base: Base, limit: int) -> tuple[str, int]:
    """Return a last line with the result of a solution, and its tokens; nothing where none can be told."""
    if limit <= 0:
        return "", 0
    lead = "最终答案：" if language_of(_question(request)) == CHINESE else "Final Answer: "
    whole = _prefix(request) + text
    before = request.messages[:-1] if request.partial else request.messages
    if base.can_continue:
        begun = f"{whole.rstrip()}\n\n{lead}${OPENING}"
        messages = (*before, Message("assistant", begun))
    else:
        ask = rf"Write the final answer of this, and nothing else, as {OPENING}}}."
        messages = (*before, Message("assistant", whole), Message("user", ask))
    asked = request.changed(
        messages=messages, partial=base.can_continue, sampling=greedy(limit, request.sampling.seed), stream=False
    )
    result = await base.answer(asked)
    value = _value(result.choices[0].text, continues=base.can_continue)
    numbers = _NUMBER.findall(whole)
    box = boxed(value) or (boxed(numbers[-1]) if numbers else None)
    return (f"\n\n{lead}${box}$" if box else ""), result.usage.completion


def _value(text: str, *, continues: bool) -> str:
    """Return the value that a base wrote: what goes on within a box, or a box of its own, or a first line."""
    whole = f"{OPENING}{text}" if continues and OPENING not in text else text
    opening = whole.find(OPENING)
    if opening >= 0 and (end := closing(whole, opening)) is not None:
        return whole[opening + len(OPENING) : end]
    return text.strip().split("\n")[0].rstrip("}$ ")


# --- several solutions


async def _voted(request: ChatRequest, base: Base) -> Events:
    """Yield the first of the solutions that most agree with, once that is known."""
    results = await _solutions([request, *(_varied(request, number) for number in range(1, _MAJORITY))], base)
    if _agreeing(_sound(results)) < _MAJORITY:
        results += await _solutions([_varied(request, number) for number in range(_MAJORITY, VOTERS)], base)
    winner = _winner(_sound(results) or results)
    choice = winner.choices[0]
    for line in _LINES.findall(choice.text):
        yield [Event(text=line)]
    yield [Event(finish_reason=choice.finish_reason)]
    yield [Event(usage=winner.usage)]


def _sound(results: Sequence[ChatResult]) -> list[ChatResult]:
    """Return the solutions in which no sum is wrong."""
    return [result for result in results if not wrong_sums(result.choices[0].text)]


def _varied(request: ChatRequest, number: int) -> ChatRequest:
    """Return the request for another way to the result."""
    sampling = request.sampling
    drawn = msgspec.structs.replace(
        sampling,
        temperature=max(sampling.temperature or 0.0, 0.7),
        top_p=0.9 if sampling.top_p is None else sampling.top_p,
        top_k=20,
        seed=((sampling.seed or 0) + number) % 2**31,
    )
    return request.changed(sampling=drawn)


async def _solutions(requests: Sequence[ChatRequest], base: Base) -> list[ChatResult]:
    """Return solutions made at the same time. One that fails has no vote; when all fail, the first error counts."""
    made = await asyncio.gather(*(base.answer(request) for request in requests), return_exceptions=True)
    results = [one for one in made if isinstance(one, ChatResult)]
    failed = [one for one in made if isinstance(one, BaseException)]
    if failed and (not results or not isinstance(failed[0], Exception)):
        raise failed[0]
    return results


def _votes(results: Sequence[ChatResult]) -> list[str | None]:
    """Return the result of each solution in the form that equal ones share, None where there is none."""
    votes: list[str | None] = []
    for result in results:
        box = OneBox()
        box.feed(result.choices[0].text)
        box.close(cut=result.choices[0].finish_reason == "length")
        votes.append(None if box.value is None else same_form(box.value))
    return votes


def _agreeing(results: Sequence[ChatResult]) -> int:
    counted = Counter(vote for vote in _votes(results) if vote is not None)
    return max(counted.values(), default=0)


def _winner(results: Sequence[ChatResult]) -> ChatResult:
    """Return the first solution with the commonest result; of two as common, the one that came up first."""
    votes = _votes(results)
    counted = Counter(vote for vote in votes if vote is not None)
    best = max(counted.values(), default=0)
    return next(
        (result for result, vote in zip(results, votes, strict=True) if vote is not None and counted[vote] == best),
        results[0],
    )


MATHS = Recipe("maths", _run)

__all__ = ["MATHS", "VOTERS", "VOTING_GRADE"]
