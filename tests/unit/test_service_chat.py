"""A chat call from its plan to its last event: choices, usage, long prompts, time limits, and what ends with what."""

import asyncio
from contextlib import aclosing

import pytest

from hanlin.errors import ContextLengthExceeded, EngineFailed, Overloaded, RequestTimedOut
from hanlin.routing.capacity import Capacity
from hanlin.service.attempts import shared_prompt
from hanlin.service.chat import complete, generate
from hanlin.service.planning import Plan
from hanlin.testing import HANG, ScriptedEngine, says
from hanlin.types import Burst, ChatRequest, Event, Message, Sampling, Usage, fold
from tests.values import call_of, model, plan_of, request


async def all_of(plan: Plan) -> list[Event]:
    return [event async for burst in generate(call_of(plan)) for event in burst]


def several(n: int, seed: int = 7) -> ChatRequest:
    return request(n=n, sampling=Sampling(seed=seed))


# --- one choice ------------------------------------------------------------------------------------------------------


async def test_one_choice_is_handed_on_as_it_comes() -> None:
    """Bursts keep their shape: what arrived together leaves together, and empty ones stay signs of life."""
    script: list[Burst] = [[], [Event(text="a"), Event(text="b")], *says()]
    engine = ScriptedEngine(script)

    bursts = [burst async for burst in generate(call_of(plan_of(engine)))]

    assert bursts == script
    assert engine.ended == 1


async def test_the_engine_gets_the_planned_request() -> None:
    """What was filled in by the plan is what runs."""
    engine = ScriptedEngine(says("a"))
    asked = request(sampling=Sampling(temperature=0.3, seed=5))

    await all_of(plan_of(engine, asked))

    assert engine.requests == [asked]


async def test_closing_the_answer_closes_the_engines_and_gives_the_place_back() -> None:
    """A caller that hangs up must cost nothing from then on; waiting for garbage collection would be too late."""
    engine = ScriptedEngine([[Event(text="a")], HANG])
    plan = plan_of(engine)

    async with aclosing(generate(call_of(plan))) as events:
        await anext(events)
        assert (engine.running, plan.deployment.capacity.running) == (1, 1)

    assert (engine.running, engine.ended, plan.deployment.capacity.running) == (0, 1, 0)


async def test_an_engines_failure_reaches_the_caller_and_frees_the_place() -> None:
    """A failed call must not hold its slot for ever."""
    plan = plan_of(ScriptedEngine([[Event(text="a")], EngineFailed("died")]))

    with pytest.raises(EngineFailed, match="died"):
        await all_of(plan)

    assert plan.deployment.capacity.running == 0


async def test_a_full_deployment_refuses_before_its_engine_is_asked() -> None:
    """A call that nobody can take must not reach the engine."""
    capacity = Capacity(1, 0)
    engine = ScriptedEngine(says("a"))

    async with capacity.place():
        with pytest.raises(Overloaded):
            await all_of(plan_of(engine, capacity=capacity))

    assert engine.requests == []


# --- several choices -------------------------------------------------------------------------------------------------


async def test_choices_are_calls_of_their_own_with_seeds_counted_up() -> None:
    """Equal seeds would give n equal answers; the last seed counts on from 0."""
    engine = ScriptedEngine(lambda asked: says(f"seed {asked.sampling.seed}"))

    result = fold(await all_of(plan_of(engine, several(3, seed=2**31 - 2))))

    assert [choice.text for choice in result.choices] == ["seed 2147483646", "seed 2147483647", "seed 0"]
    assert [choice.index for choice in result.choices] == [0, 1, 2]
    assert [asked.n for asked in engine.requests] == [1, 1, 1]


async def test_choices_run_at_the_same_time_and_are_merged_as_they_come() -> None:
    """One after the other would take n times as long: here the first choice waits for the second to finish."""
    second_is_over = asyncio.Event()

    def script(asked: ChatRequest) -> list[Burst | asyncio.Event]:
        if asked.sampling.seed == 7:
            return [
                [Event(text="a")],
                second_is_over,
                [Event(text="A", finish_reason="stop")],
                [Event(usage=Usage(9, 2))],
            ]
        return [[Event(text="b", finish_reason="stop")], [Event(usage=Usage(9, 1))]]

    events: list[Event] = []
    async with asyncio.timeout(10), aclosing(generate(call_of(plan_of(ScriptedEngine(script), several(2))))) as bursts:
        async for burst in bursts:
            events += burst
            if any(event.index == 1 and event.finish_reason for event in burst):
                second_is_over.set()

    assert [event.text for event in events if event.index == 0 and event.text] == ["a", "A"]
    assert [event.text for event in events if event.index == 1] == ["b"]


async def test_the_prompt_of_several_choices_is_counted_once_and_every_answer_is() -> None:
    """Spec §3: the input is billed once, every choice's output is billed. The usage comes once, at the end."""
    engine = ScriptedEngine(lambda asked: says("x", usage=Usage(100, 5, cached=40, reasoning=2)))

    events = await all_of(plan_of(engine, several(3)))

    assert [event.usage for event in events if event.usage is not None] == [Usage(100, 15, cached=40, reasoning=6)]
    assert events[-1].usage is not None


def test_the_first_choice_decides_what_the_prompt_cost() -> None:
    """Later choices find the prompt in the engine's cache, which is not the caller's saving."""
    assert shared_prompt(Usage(), Usage(100, 5)) == Usage(100, 5)
    assert shared_prompt(Usage(100, 5), Usage(100, 7, cached=99, reasoning=1)) == Usage(100, 12, reasoning=1)


async def test_the_failure_of_one_choice_ends_all_of_them() -> None:
    """Half of the choices is no answer, and what still runs would run for nobody."""
    engine = ScriptedEngine(lambda asked: [EngineFailed("died")] if asked.sampling.seed == 8 else [[], HANG])
    plan = plan_of(engine, several(3))

    with pytest.raises(EngineFailed, match="died"):
        async with asyncio.timeout(10):
            await all_of(plan)

    assert (engine.running, plan.deployment.capacity.running, plan.deployment.capacity.waiting) == (0, 0, 0)


async def test_closing_the_answer_closes_every_choice() -> None:
    """Those that wait for a place included: here two run and one waits."""
    engine = ScriptedEngine([[Event(text="a")], HANG])
    plan = plan_of(engine, several(3), capacity=Capacity(2, 4))

    async with asyncio.timeout(10), aclosing(generate(call_of(plan))) as events:
        await anext(events)

    assert (engine.running, plan.deployment.capacity.running, plan.deployment.capacity.waiting) == (0, 0, 0)
    assert engine.ended == len(engine.requests)


async def test_choices_that_nobody_reads_are_held_up() -> None:
    """A slow reader slows the engines down: what is produced ahead of it has a bound."""
    produced = 0

    def script(asked: ChatRequest) -> "Endless":
        return Endless()

    class Endless(list[Burst]):
        def __iter__(self):  # type: ignore[no-untyped-def]
            nonlocal produced
            while True:
                produced += 1
                yield [Event(text="x")]

    async with aclosing(generate(call_of(plan_of(ScriptedEngine(script), several(2))))) as events:
        await anext(events)
        for _ in range(1000):
            await asyncio.sleep(0)

    assert produced < 200


# --- prompts beyond the limit ----------------------------------------------------------------------------------------

LONG = "长" * 200  # 600 bytes: more than the limit of the tests below, so it is counted


@pytest.mark.parametrize(("prompt_tokens", "limit"), [(101, 100), (10_000, 100)])
async def test_a_prompt_beyond_the_catalogues_limit_is_refused_with_both_numbers(
    prompt_tokens: int, limit: int
) -> None:
    """The name's promise ends there, also where the deployment itself would take more (spec §12)."""
    engine = ScriptedEngine(says("a"), prompt_tokens=prompt_tokens)

    with pytest.raises(ContextLengthExceeded) as problem:
        await all_of(plan_of(engine, request(LONG), limits=model(max_input_tokens=limit)))

    assert problem.value.message.startswith("Range of input length should be [1, 100]")
    assert f"got {prompt_tokens}" in problem.value.message
    assert engine.requests == []


@pytest.mark.parametrize("prompt_tokens", [100, 1, None], ids=["at the limit", "short", "the engine cannot tell"])
async def test_a_prompt_within_the_limit_runs(prompt_tokens: int | None) -> None:
    """An engine that cannot count is asked to answer: it refuses what it cannot take by itself."""
    engine = ScriptedEngine(says("a"), prompt_tokens=prompt_tokens)

    await all_of(plan_of(engine, request(LONG), limits=model(max_input_tokens=100)))

    assert len(engine.requests) == len(engine.counted) == 1


@pytest.mark.parametrize(
    ("content", "limit", "context_tokens"),
    [("short", 100, 0), (LONG, None, 0), (LONG, 100, 100), (LONG, 100, 50)],
    ids=["few bytes", "no limit", "the deployment's own limit is the same", "the deployment's own limit is smaller"],
)
async def test_a_prompt_is_counted_only_when_it_could_be_too_long(
    content: str, limit: int | None, context_tokens: int
) -> None:
    """Counting costs two calls of the engine: a token is at least one byte, and the engine knows its own context."""
    engine = ScriptedEngine(says("a"), prompt_tokens=1_000_000)

    await all_of(plan_of(engine, request(content), limits=model(max_input_tokens=limit), context_tokens=context_tokens))

    assert engine.counted == []


async def test_all_messages_count_towards_the_length() -> None:
    """A long conversation of short messages is long too."""
    engine = ScriptedEngine(says("a"), prompt_tokens=101)
    asked = request(messages=tuple(Message("user", "x") for _ in range(10)))

    with pytest.raises(ContextLengthExceeded):
        await all_of(plan_of(engine, asked, limits=model(max_input_tokens=100)))


# --- whole answers ---------------------------------------------------------------------------------------------------


async def test_a_whole_answer_is_the_streamed_one_put_together() -> None:
    """One path: what is streamed and what is not cannot differ."""
    plan = plan_of(ScriptedEngine(says("Hel", "lo", finish_reason="length", usage=Usage(4, 2))))

    result = await complete(call_of(plan), limit_s=60)

    assert result == fold(await all_of(plan))
    assert [(choice.text, choice.finish_reason) for choice in result.choices] == [("Hello", "length")]
    assert result.usage == Usage(4, 2)


@pytest.mark.parametrize("n", [1, 2])
async def test_an_answer_that_takes_too_long_is_ended_and_said_to_be(n: int) -> None:
    """Without a stream nobody sees that something still happens, so there is a limit; the engine stops with it."""
    engine = ScriptedEngine([[], HANG])
    plan = plan_of(engine, several(n))

    with pytest.raises(RequestTimedOut, match=r"limit 0\.05 s"):
        await complete(call_of(plan), limit_s=0.05)

    assert (engine.running, plan.deployment.capacity.running) == (0, 0)


async def test_what_there_is_when_time_runs_out_is_the_answer() -> None:
    """Spec §4.4: the finish reason stays open, so that a program can go on from there. The usage is a guess."""
    engine = ScriptedEngine([[Event(reasoning="想" * 8)], [Event(text="好" * 4)], HANG])
    plan = plan_of(engine, request("你好你好"))

    result = await complete(call_of(plan), limit_s=0.05)

    assert result.cut_short
    [choice] = result.choices
    assert (choice.reasoning, choice.text, choice.finish_reason) == ("想" * 8, "好" * 4, None)
    assert result.usage == Usage(prompt=3, completion=9, reasoning=6, estimated=True)
    assert (engine.running, plan.deployment.capacity.running) == (0, 0)
