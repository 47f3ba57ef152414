"""Calls, engines and callers by chance: whatever fails, and whenever somebody leaves, nothing stays behind."""

import asyncio
import random
from contextlib import aclosing

import pytest

from hanlin.errors import (
    EngineBusy,
    EngineFailed,
    EngineNotReady,
    EngineRefused,
    EngineStalled,
    EngineUnreachable,
    HanlinError,
    InvalidRequest,
    Overloaded,
)
from hanlin.routing import outcome
from hanlin.routing.capacity import Capacity
from hanlin.service.chat import ChatCall, generate
from hanlin.service.deployments import Deployment, Route
from hanlin.testing import ScriptedEngine
from hanlin.testing.scripted import Step
from hanlin.types import Event, Sampling, Usage, fold
from tests.values import LIMIT_S, Clock, request, route_of, routed_call, router_of, server_of


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcome, "_SHORTEST_WAIT_S", 0.0)
    monkeypatch.setattr(outcome, "_LONGEST_WAIT_S", 0.0)


class Chance:
    """Everything that chance decides in one house of deployments."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.clock = Clock()
        self.engines: list[ScriptedEngine] = []
        self.servers = [self._server(f"gpu-{number}") for number in range(self._random.randint(1, 3))]
        self.fallback = self._server("other") if self._random.random() < 0.4 else None
        self.router = router_of(self.clock, retry_share=self._random.choice([0, 10]))
        self.router.draw = self._random.random

    def _server(self, name: str) -> Deployment:
        self.engines.append(ScriptedEngine(lambda asked: self._script()))
        capacity = Capacity(self._random.randint(1, 2), self._random.randint(0, 2))
        return server_of(self.engines[-1], name, self._random.choice(["vllm", "openai"]), capacity=capacity)

    def _script(self) -> list[Step]:
        words = self._random.choices([[], [Event(text="a")], [Event(text="b"), Event(text="c")]], k=3)
        end: list[Step] = [[Event(finish_reason="stop")], [Event(usage=Usage(10, 3))]]
        how = self._random.random()
        if how < 0.5:
            return [*words, *end]
        return [*words, *(end if how < 0.6 else []), *([self._error()] if how < 0.95 else [])]

    def _error(self) -> Exception:
        busy = EngineBusy("429")
        busy.asked_wait_s = 1
        errors = [EngineFailed("x"), EngineStalled(1), EngineUnreachable("x"), EngineRefused("x"), EngineNotReady("x")]
        return self._random.choice([*errors, busy, InvalidRequest("x"), Overloaded(1), ValueError("ours")])

    def call(self) -> ChatCall:
        asked = request(
            "x" * self._random.choice([3, 3000]),
            stream=self._random.random() < 0.6,
            n=self._random.choice([1, 1, 2, 3]),
            sampling=Sampling(seed=1),
        )
        return routed_call(self.route, asked, self.router)

    @property
    def route(self) -> Route[Deployment]:
        return route_of(*self.servers, fallback=self.fallback, choose=self._random.choice(["listed", "prefix"]))

    def leaves(self) -> bool:
        return self._random.random() < 0.1

    async def passes(self) -> None:
        """Let time pass, and sometimes others come first."""
        self.clock.now += self._random.choice([0, 0, 0.5, 9])
        if self._random.random() < 0.3:
            await asyncio.sleep(0)


async def caller(chance: Chance, calls: list[ChatCall]) -> None:
    """Make a call and read its answer, or a part of it."""
    try:
        call = chance.call()
    except HanlinError:
        return
    calls.append(call)
    events: list[Event] = []
    try:
        async with aclosing(generate(call)) as bursts:
            async for burst in bursts:
                events += burst
                await chance.passes()
                if chance.leaves():
                    return
    except (HanlinError, ValueError):
        return
    result = fold(events)
    assert [choice.finish_reason for choice in result.choices] == ["stop"] * call.plan.request.n
    assert result.usage == call.usage


@pytest.mark.parametrize("hundred", range(5))
async def test_whatever_happens_nothing_stays_behind(hundred: int) -> None:
    """No place, no load, no probe, no running engine; and an answer that came to its end is whole and counted once."""
    for seed in range(hundred * 100, hundred * 100 + 100):
        chance, calls = Chance(seed), list[ChatCall]()

        async with asyncio.timeout(LIMIT_S):
            await asyncio.gather(*(caller(chance, calls) for _ in range(4)))

        for server in (*chance.servers, *([chance.fallback] if chance.fallback else [])):
            capacity, standing = server.capacity, server.standing
            held = capacity.running, capacity.waiting, standing.open_calls, standing.outstanding_tokens
            assert (seed, held, standing.health.probe_since) == (seed, (0, 0, 0, 0), None)
        assert (seed, [engine.running for engine in chance.engines]) == (seed, [0] * len(chance.engines))
        assert (seed, sum(engine.ended for engine in chance.engines)) == (seed, asked_of(chance))
        assert all(not call.under_way and call.attempts for call in calls)


def asked_of(chance: Chance) -> int:
    return sum(len(engine.requests) for engine in chance.engines)
