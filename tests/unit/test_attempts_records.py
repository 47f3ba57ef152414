"""What is remembered of a call: which beginnings were read where, each attempt with its times, and what was used."""

import asyncio
from contextlib import aclosing

import pytest

from hanlin.errors import (
    EngineFailed,
    EngineStalled,
)
from hanlin.routing import outcome
from hanlin.routing.capacity import Capacity
from hanlin.service.chat import generate
from hanlin.service.records import Attempt
from hanlin.testing import HANG, ScriptedEngine, says
from hanlin.testing.scripted import Step
from hanlin.types import ChatRequest, Event, Usage
from tests.values import LIMIT_S, Clock, events_of, request, route_of, routed_call, router_of, server_of, whole

DIED = EngineFailed("it died")
PROMPT = "春眠不觉晓，处处闻啼鸟。" * 500
"""Long enough to have a beginning that is worth something."""


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait before another try on the same deployment is decided elsewhere, and tested there."""
    monkeypatch.setattr(outcome, "_SHORTEST_WAIT_S", 0.0)
    monkeypatch.setattr(outcome, "_LONGEST_WAIT_S", 0.0)
    monkeypatch.setenv("HANLIN_LANG", "en")


def says_a() -> ScriptedEngine:
    return ScriptedEngine(says("a"))


def says_b() -> ScriptedEngine:
    return ScriptedEngine(says("b"))


# --- known beginnings ------------------------------------------------------------------------------------------------


async def test_a_long_beginning_goes_where_it_was_read_and_elsewhere_when_that_is_loaded() -> None:
    """The prompt need not be read again, as long as that is quicker."""
    first, second = ScriptedEngine(says("a")), ScriptedEngine(says("b"))
    servers = [server_of(first, "gpu-1"), server_of(second, "gpu-2")]
    router = router_of()

    async def ask(draw: float) -> str:
        router.draw = lambda: draw
        call = routed_call(route_of(*servers, choose="prefix"), request(PROMPT), router)
        return (await whole(call)).choices[0].text

    assert [await ask(0.0), await ask(0.9)] == ["a", "a"]  # the second draw would have chosen the other one

    servers[0].standing.call_begins(100_000, router.clock())
    assert [await ask(0.0), await ask(0.9)] == ["b", "b"]


async def test_only_a_call_that_has_a_place_makes_a_beginning_known() -> None:
    """What waits in a line, or was refused there, has not been read."""
    full = server_of(says_a(), "gpu-1", capacity=Capacity(1, 0))
    router = router_of()
    call = routed_call(route_of(full, server_of(says_b(), "gpu-2"), choose="prefix"), request(PROMPT), router)

    async with full.capacity.place():
        await whole(call)

    assert {one.name: one.prefix_tokens > 0 for one in call.candidates()} == {"gpu-1": False, "gpu-2": True}


# --- records ---------------------------------------------------------------------------------------------------------


async def test_every_attempt_is_recorded_with_its_times() -> None:
    """In seconds since the call came: what metrics and traces are made of."""
    clock = Clock()

    def takes(wait_s: float, *then: Step) -> ScriptedEngine:
        def script(asked: ChatRequest) -> list[Step]:
            clock.now += wait_s
            return list(then)

        return ScriptedEngine(script)

    route = route_of(
        server_of(takes(2, EngineStalled(2)), "gpu-1"), server_of(takes(3, *says("b", usage=Usage(10, 2, 5))), "gpu-2")
    )
    ends_s: dict[str, float] = {}
    call = routed_call(route, router=router_of(clock), ends_s=ends_s)
    clock.now += 1

    await whole(call)

    assert call.attempts == [Attempt("gpu-1", "stalled", 1, 3), Attempt("gpu-2", "", 3, 6)]
    assert (call.usage, call.finish_reasons) == (Usage(10, 2, 5), ("stop",))
    assert ends_s == {"queue": 1, "first": 6}


async def test_an_attempt_under_way_is_named_before_it_is_over() -> None:
    """The header leaves with the first word."""
    server = server_of(ScriptedEngine([[Event(text="a")], HANG]), "gpu-2")
    call = routed_call(route_of(server_of(ScriptedEngine([EngineStalled(1)]), "gpu-1"), server), request(stream=True))

    async with asyncio.timeout(LIMIT_S), aclosing(generate(call)) as bursts:
        await anext(bursts)
        assert call.tried() == "gpu-1;fault=stalled, gpu-2"

    assert call.tried() == "gpu-1;fault=stalled, gpu-2;fault=left"


async def test_the_usage_of_an_answer_that_broke_off_is_not_made_up() -> None:
    """Nobody has counted it."""
    server = server_of(ScriptedEngine([[Event(text="a")], EngineStalled(1)]), "gpu-1")
    call = routed_call(route_of(server), request(stream=True))

    with pytest.raises(EngineStalled):
        await events_of(call)

    assert (call.usage, call.finish_reasons) == (Usage(), ())
