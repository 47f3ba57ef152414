"""What a call has used when somebody asks: of choices that are over, of those that are not, of answers nobody saw."""

import asyncio
from collections.abc import Coroutine
from contextlib import aclosing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanlin.errors import EngineFailed
from hanlin.metering.estimate import generated_tokens, text_tokens
from hanlin.metering.prices import checked_usage
from hanlin.routing.health import Standing
from hanlin.service.attempts import shared_prompt
from hanlin.service.chat import ChatCall, generate
from hanlin.testing import HANG, ScriptedEngine, says
from hanlin.types import ChatRequest, ChatResult, Choice, Event, Sampling, Usage
from tests.values import LIMIT_S, Clock, request, route_of, routed_call, router_of, server_of, whole

BROKEN = EngineFailed("it broke")
counts = st.integers(-100, 10_000)
usages = st.builds(Usage, counts, counts, counts, counts, counts, st.booleans(), st.booleans())


async def heard(call: ChatCall, events: int) -> None:
    """Run a call until so many events have come, and leave."""
    async with asyncio.timeout(LIMIT_S), aclosing(generate(call)) as bursts:
        async for burst in bursts:
            events -= len(burst)
            if events <= 0:
                return


async def test_choices_that_are_over_are_counted_and_those_under_way_are_guessed() -> None:
    """One of two was told in full; its caller left in the middle of the other."""

    def script(asked: ChatRequest) -> list[Any]:
        return says("春", "眠", "不") if asked.sampling.seed == 7 else [[Event(text="春"), Event(text="眠")], HANG]

    call = routed_call(
        route_of(server_of(ScriptedEngine(script), "gpu")), request(stream=True, n=2, sampling=Sampling(seed=7))
    )

    await heard(call, 6)

    assert call.spent() == Usage(10, 5, estimated=True)


async def test_nothing_has_been_used_before_the_first_word() -> None:
    """A prompt alone is on nobody's bill."""
    call = routed_call(route_of(server_of(ScriptedEngine([[], HANG]), "gpu")), request(stream=True))

    await heard(call, 0)

    assert call.spent() == Usage()


async def test_thoughts_are_a_part_of_what_is_guessed() -> None:
    """They have a price of their own."""
    script = [[Event(reasoning="想")] * 4, [Event(text="好")], HANG]
    call = routed_call(route_of(server_of(ScriptedEngine(script), "gpu")), request(stream=True))

    await heard(call, 5)

    assert call.spent() == Usage(call.prompt_tokens, 5, reasoning=4, estimated=True)


async def test_what_was_taken_back_is_on_nobodys_bill() -> None:
    """An answer that broke unseen is made anew, and then its caller leaves: the first one was never said."""
    first = server_of(ScriptedEngine([[Event(text="床前明月光")] * 50, BROKEN]), "gpu-1", "openai")
    second = server_of(ScriptedEngine([[Event(text="好")], HANG]), "gpu-2")
    call = routed_call(route_of(first, second), request())
    answer = asyncio.ensure_future(whole(call))
    async with asyncio.timeout(LIMIT_S):
        while not call.heard or call.plan.deployment is not second:  # noqa: ASYNC110 (nobody tells)
            await asyncio.sleep(0.001)

    answer.cancel()
    await asyncio.wait((answer,))

    assert call.spent() == Usage(call.prompt_tokens, 1, estimated=True)


class WholeEngine(ScriptedEngine):
    """Answers as a whole: at once, or never."""

    def __init__(self, clock: Clock, took_s: float | None) -> None:
        super().__init__()
        self._clock = clock
        self.took_s = took_s

    def whole(self, request: ChatRequest) -> Coroutine[Any, Any, ChatResult]:  # type: ignore[override]
        return self._answer(request)

    async def _answer(self, _request: ChatRequest) -> ChatResult:
        self.called.set()
        if self.took_s is None:
            await asyncio.get_running_loop().create_future()
        assert self.took_s is not None
        self._clock.now += self.took_s
        return ChatResult((Choice(0, "好", "stop"),), Usage(10, 100))


@pytest.mark.parametrize(
    ("learned_s", "left_after_s", "limit", "tokens"),
    [(None, 3.0, None, 60), (2.0, 3.0, None, 150), (2.0, 3.0, 40, 40), (0.1, 3.0, None, 60), (2.0, 0.0, None, 1)],
    ids=["unknown-pace", "known-pace", "callers-limit", "too-short-to-tell", "at-once"],
)
async def test_an_answer_that_nobody_saw_is_guessed_by_the_time_it_took(
    learned_s: float | None, left_after_s: float, limit: int | None, tokens: int
) -> None:
    """It would have come as a whole. The pace is that of the deployment's answers before it."""
    clock = Clock()
    engine = WholeEngine(clock, learned_s)
    deployment = server_of(engine, "gpu")
    router = router_of(clock)
    if learned_s is not None:
        await whole(routed_call(route_of(deployment), request(), router))
    engine.took_s = None
    engine.called.clear()
    call = routed_call(route_of(deployment), request(sampling=Sampling(max_tokens=limit)), router)
    answer = asyncio.ensure_future(whole(call))
    await asyncio.wait_for(engine.called.wait(), LIMIT_S)

    clock.now += left_after_s
    answer.cancel()
    await asyncio.wait((answer,))

    assert call.spent() == Usage(call.prompt_tokens, tokens, estimated=True)


def test_a_pace_follows_what_answers_show() -> None:
    """One odd answer does not make a deployment ten times as fast."""
    standing = Standing()
    for _ in range(50):
        standing.generated(100, 2.0)
    standing.generated(4_000, 2.0)

    assert 50 < standing.tokens_per_s < 300


@given(st.lists(usages, min_size=1, max_size=5))
def test_choices_added_up_count_the_prompt_once_and_forget_no_guess(several: list[Usage]) -> None:
    """Whatever the engine says of each; and what becomes a row adds up."""
    total = Usage()
    for one in several:
        total = shared_prompt(total, one)

    assert total.completion == sum(one.completion for one in several)
    assert total.prompt in {0, *(one.prompt for one in several)}
    assert total.estimated == any(one.estimated for one in several)
    row = checked_usage(total)
    assert 0 <= row.usage.cached + row.cache_created <= row.usage.prompt
    assert 0 <= row.usage.reasoning <= row.usage.completion
    assert row.usage.total == max(total.prompt, 0) + max(total.completion, 0)


@given(st.integers(0, 10_000), st.text(max_size=2_000))
def test_a_guess_is_at_least_a_token_a_piece_and_rather_too_low_than_too_high(pieces: int, text: str) -> None:
    """Nobody can look up what it was, so that it must not be more than it was."""
    guess = generated_tokens(pieces, text)

    assert guess >= pieces
    assert guess == pieces or guess <= text_tokens(text)
