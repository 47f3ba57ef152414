"""An answer that broke off and is taken up elsewhere: what may be continued, by whom, with which request and usage."""

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from hanlin.errors import EngineError, EngineFailed, EngineStalled
from hanlin.routing import outcome
from hanlin.service.chat import generate
from hanlin.service.continuing import Said, continued
from hanlin.service.deployments import Deployment, Route
from hanlin.service.planning import Asked
from hanlin.testing import HANG, ScriptedEngine, says
from hanlin.testing.scripted import Step
from hanlin.types import (
    Answering,
    ChatRequest,
    Event,
    Message,
    Sampling,
    Served,
    Shape,
    Thinking,
    Tool,
    ToolCallPiece,
    Usage,
    fold,
)
from tests.values import (
    LIMIT_S,
    catalogue_of,
    deployment,
    events_of,
    model,
    request,
    route_of,
    routed_call,
    router_of,
    server_of,
    whole,
)

DIED, STALLED = EngineFailed("it died"), EngineStalled(120)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcome, "_SHORTEST_WAIT_S", 0.0)
    monkeypatch.setattr(outcome, "_LONGEST_WAIT_S", 0.0)


def broken(*texts: str, error: EngineError = DIED) -> ScriptedEngine:
    """Return an engine that says texts and then fails, at every call."""
    return ScriptedEngine([*([Event(text=text)] for text in texts), error])


def streamed(**fields: Any) -> ChatRequest:
    return request("背一首诗", **{"stream": True, **fields})


def said_of(asked: ChatRequest, thinking: Thinking | None = None) -> Said:
    limits = model()
    return Asked(asked, limits, catalogue_of(limits), thinking or Thinking(), route_of()).says()


# --- the request that goes on ----------------------------------------------------------------------------------------


def test_what_was_said_becomes_the_beginning_of_the_answer() -> None:
    """The assistant's turn stands behind the conversation, to be continued; what it cost of the limits is gone."""
    said = said_of(streamed())
    said.noted([Event(text="春眠"), Event(text="不觉")])
    asked = streamed(sampling=Sampling(max_tokens=100, max_completion_tokens=200, temperature=0.5, stop=("。",)))

    found = continued(asked, *said.taken_up())

    assert found.messages == (*asked.messages, Message("assistant", "春眠不觉"))
    assert found.partial
    assert found.sampling == Sampling(max_tokens=98, max_completion_tokens=198, temperature=0.5, stop=("。",))


def test_a_beginning_that_the_caller_gave_stays_in_front() -> None:
    """Partial mode: two turns of the assistant in a row are no conversation."""
    said = said_of(streamed())
    said.noted([Event(text="晓，")])
    asked = streamed(messages=(Message("user", "背"), Message("assistant", "春眠不觉")), partial=True)

    assert continued(asked, *said.taken_up()).messages == (Message("user", "背"), Message("assistant", "春眠不觉晓，"))


def test_at_least_one_token_is_asked_for() -> None:
    """A limit of none would be refused."""
    said = said_of(streamed())
    said.noted([Event(text="a"), Event(text="b"), Event(text="c")])

    assert continued(streamed(sampling=Sampling(max_tokens=2)), *said.taken_up()).sampling.max_tokens == 1


def test_what_has_no_limit_gets_none() -> None:
    """The engine's own holds."""
    said = said_of(streamed())
    said.noted([Event(text="a")])

    assert continued(streamed(), *said.taken_up()).sampling == Sampling()


def test_the_usage_is_that_of_the_whole_answer() -> None:
    """What was said before was read as a prompt there, and is an answer to the caller."""
    said = said_of(streamed())
    said.noted([Event(text="a"), Event(text="b")])
    said.taken_up()

    [event] = said.noted([Event(usage=Usage(prompt=12, completion=3, cached=11, reasoning=0))])

    assert event.usage == said.usage == Usage(prompt=10, completion=5, cached=10, estimated=True)


@pytest.mark.parametrize(
    ("asked", "events", "expected"),
    [
        pytest.param(streamed(), [Event(text="a")], True, id="text"),
        pytest.param(streamed(), [], False, id="nothing yet"),
        pytest.param(streamed(), [Event(text="")], False, id="no word yet"),
        pytest.param(streamed(), [Event(text="a", finish_reason="stop")], False, id="over"),
        pytest.param(streamed(), [Event(reasoning="hm"), Event(text="a")], False, id="thoughts"),
        pytest.param(streamed(), [Event(text="a"), Event(call=ToolCallPiece(0))], False, id="a call"),
        pytest.param(streamed(tools=(Tool("weather"),)), [Event(text="a")], False, id="tools"),
        pytest.param(streamed(shape=Shape("json_object")), [Event(text="{")], False, id="JSON"),
        pytest.param(streamed(logprobs=True), [Event(text="a")], False, id="logprobs"),
    ],
)
def test_only_plain_text_that_is_not_over_can_be_continued(
    asked: ChatRequest, events: list[Event], *, expected: bool
) -> None:
    """Thoughts, calls and JSON are in a state that no prompt can restore."""
    said = said_of(asked)
    said.noted(events)

    assert said.can_continue == expected


def test_an_answer_with_thoughts_is_not_continued() -> None:
    """Also before the first thought has come."""
    said = said_of(streamed(), Thinking(on=True))
    said.noted([Event(text="a")])

    assert not said.can_continue


# --- the call that goes on -------------------------------------------------------------------------------------------


async def test_a_broken_stream_is_taken_up_by_the_next_deployment() -> None:
    """The caller reads one text, once, with one usage; who ends it is said before its first word."""
    other = ScriptedEngine(says("晓，", "处处", usage=Usage(prompt=14, completion=2)))
    call = routed_call(
        route_of(server_of(broken("春眠", "不觉"), "gpu-1"), server_of(other, "gpu-2")),
        streamed(sampling=Sampling(max_tokens=100)),
    )
    stated: list[Answering] = []
    call.changed = stated.append

    result = fold(events := await events_of(call))

    assert (result.choices[0].text, result.choices[0].finish_reason) == ("春眠不觉晓，处处", "stop")
    assert result.usage == call.usage == Usage(prompt=12, completion=4, estimated=True)
    assert not any(event.restart for event in events)
    [asked] = other.requests
    assert (asked.messages[-1], asked.partial) == (Message("assistant", "春眠不觉"), True)
    assert asked.sampling.max_tokens == 98
    assert stated == [Answering("qwen-plus", "gpu-2", "gpu-2", Served.UPSTREAM)]
    assert [(one.deployment, one.fault, one.continued) for one in call.attempts] == [
        ("gpu-1", "failed", False),
        ("gpu-2", "", True),
    ]


async def test_alone_the_same_deployment_takes_its_answer_up() -> None:
    """Once, where a second try can help."""
    scripts: list[list[Step]] = [[[Event(text="a")], DIED], list(says("b"))]
    engine = ScriptedEngine(lambda asked: scripts.pop(0))

    result = fold(await events_of(routed_call(route_of(server_of(engine, "gpu-1")), streamed())))

    assert result.choices[0].text == "ab"


async def test_an_answer_may_break_twice() -> None:
    """Each goes on where the last one stopped, and the counts add up."""
    last = ScriptedEngine(says("c", usage=Usage(prompt=12, completion=1)))
    route = route_of(
        server_of(broken("a", error=STALLED), "gpu-1"),
        server_of(broken("b", error=STALLED), "gpu-2"),
        server_of(last, "gpu-3"),
    )
    call = routed_call(route, streamed(sampling=Sampling(max_tokens=9)))

    result = fold(await events_of(call))

    assert (result.choices[0].text, result.usage) == ("abc", Usage(prompt=10, completion=3, estimated=True))
    assert (last.requests[0].messages[-1].text, last.requests[0].sampling.max_tokens) == ("ab", 7)


async def test_who_takes_up_and_says_nothing_changes_nothing() -> None:
    """The next one begins at the same place."""
    last = ScriptedEngine(says("b"))
    route = route_of(
        server_of(broken("a", error=STALLED), "gpu-1"),
        server_of(broken(error=STALLED), "gpu-2"),
        server_of(last, "gpu-3"),
    )

    result = fold(await events_of(routed_call(route, streamed())))

    assert (result.choices[0].text, last.requests[0].messages[-1].text) == ("ab", "a")


async def refused(route: Route[Deployment], asked: ChatRequest, *, thinking: Thinking | None = None) -> list[Event]:
    """Read a stream that ends with an error, and return what came before it."""
    events: list[Event] = []

    async def read() -> None:
        async for burst in generate(routed_call(route, asked, thinking=thinking)):
            events.extend(burst)

    with pytest.raises(EngineError):
        await asyncio.wait_for(read(), LIMIT_S)
    return events


@pytest.mark.parametrize(
    ("fields", "thinking"),
    [
        ({"tools": (Tool("weather"),)}, Thinking()),
        ({"shape": Shape("json_object")}, Thinking()),
        ({"logprobs": True}, Thinking()),
        ({}, Thinking(on=True)),
    ],
    ids=["tools", "JSON", "logprobs", "thinking"],
)
async def test_what_cannot_be_continued_ends_with_the_error(fields: dict[str, Any], thinking: Thinking) -> None:
    """One typed error, after what there was."""
    other = ScriptedEngine(says("b"))
    route = route_of(server_of(broken("a"), "gpu-1"), server_of(other, "gpu-2"))

    events = await refused(route, streamed(**fields), thinking=thinking)

    assert ([event.text for event in events], other.requests) == (["a"], [])


async def test_another_model_continues_nothing() -> None:
    """Half an answer of one model and half of another is nobody's answer."""
    other = ScriptedEngine(says("b"))
    route = route_of(server_of(broken("a", error=STALLED), "gpu-1"), fallback=deployment(other))

    await refused(route, streamed())

    assert other.requests == []


async def test_who_cannot_continue_is_not_asked_to() -> None:
    """It would begin the answer anew, in the middle of it."""
    other = ScriptedEngine(says("b"))
    route = route_of(server_of(broken("a"), "gpu-1", "openai"), server_of(other, "gpu-2", "openai"))

    await refused(route, streamed())

    assert other.requests == []


async def test_an_answer_that_is_over_is_not_continued() -> None:
    """Its last word has left; only its usage is missing."""
    other = ScriptedEngine(says("b"))
    over = ScriptedEngine([[Event(text="a", finish_reason="stop")], STALLED])

    await refused(route_of(server_of(over, "gpu-1"), server_of(other, "gpu-2")), streamed())

    assert other.requests == []


async def test_without_a_budget_nothing_is_continued() -> None:
    """It is one more attempt like any other."""
    other = ScriptedEngine(says("b"))
    route = route_of(server_of(broken("a"), "gpu-1"), server_of(other, "gpu-2"))

    with pytest.raises(EngineFailed):
        await events_of(routed_call(route, streamed(), router_of(retry_share=0)))

    assert other.requests == []


async def test_without_a_stream_the_answer_is_made_anew() -> None:
    """Nobody has seen the first half: a whole from one place is better than two halves."""
    other = ScriptedEngine(says("b"))
    call = routed_call(route_of(server_of(broken("a"), "gpu-1"), server_of(other, "gpu-2")), streamed(stream=False))

    result = await whole(call)

    assert (result.choices[0].text, result.usage) == ("b", Usage(10, 1))
    assert not other.requests[0].partial
    assert [one.continued for one in call.attempts] == [False, False]


async def test_each_of_several_choices_is_continued_for_itself() -> None:
    """With its own words, its own seed and its own count."""
    first = ScriptedEngine(lambda asked: [[Event(text=f"{asked.sampling.seed}")], DIED])
    other = ScriptedEngine(lambda asked: says(f"+{asked.messages[-1].text}", usage=Usage(11, 1)))
    call = routed_call(
        route_of(server_of(first, "gpu-1"), server_of(other, "gpu-2")), streamed(n=2, sampling=Sampling(seed=7))
    )

    result = fold(await events_of(call))

    assert [choice.text for choice in result.choices] == ["7+7", "8+8"]
    assert result.usage == call.usage == Usage(10, 4, estimated=True)
    assert [asked.sampling.seed for asked in other.requests] == [7, 8]


async def test_a_caller_who_leaves_a_continued_stream_stops_it() -> None:
    """Wherever it runs by then."""
    other = ScriptedEngine([[Event(text="b")], HANG])
    servers = [server_of(broken("a"), "gpu-1"), server_of(other, "gpu-2")]
    call = routed_call(route_of(*servers), streamed())

    async with asyncio.timeout(LIMIT_S), aclosing(generate(call)) as bursts:
        assert [(await anext(bursts))[0].text, (await anext(bursts))[0].text] == ["a", "b"]

    assert (other.running, [server.standing.open_calls for server in servers]) == (0, [0, 0])
    assert call.tried() == "gpu-1;fault=failed, gpu-2;fault=left"


def test_what_is_taken_back_counts_no_more() -> None:
    """Whoever waits for a whole answer is not billed for the attempts that came to nothing before it."""
    said = said_of(request("背一首诗"))
    said.noted([Event(text="春"), Event(text="眠")])

    said.take_back()
    said.noted([Event(text="春")])

    assert said.pieces == 1
