"""Several choices of one call: each has attempts of its own, and what they come to is one answer."""

from collections.abc import Callable

import pytest

from hanlin.errors import (
    EngineFailed,
    EngineStalled,
)
from hanlin.routing import outcome
from hanlin.testing import ScriptedEngine, says
from hanlin.testing.scripted import Step
from hanlin.types import ChatRequest, Event, Sampling, Usage
from tests.values import (
    deployment,
    events_of,
    request,
    route_of,
    routed_call,
    server_of,
    whole,
)

DIED = EngineFailed("it died")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait before another try on the same deployment is decided elsewhere, and tested there."""
    monkeypatch.setattr(outcome, "_SHORTEST_WAIT_S", 0.0)
    monkeypatch.setattr(outcome, "_LONGEST_WAIT_S", 0.0)
    monkeypatch.setenv("HANLIN_LANG", "en")


def says_b() -> ScriptedEngine:
    return ScriptedEngine(says("b"))


def by_seed(**scripts: list[Step]) -> Callable[[ChatRequest], list[Step]]:
    """Return a script by the seed that a choice has: `seed_7=…`; every other choice says who it is."""
    return lambda asked: scripts.get(f"seed_{asked.sampling.seed}", list(says(f"{asked.sampling.seed}")))


def three(*, stream: bool = False) -> ChatRequest:
    return request(n=3, sampling=Sampling(seed=7), stream=stream)


async def test_each_choice_has_attempts_of_its_own() -> None:
    """One that fails goes elsewhere; the others stay, and the prompt counts once."""
    first, second = ScriptedEngine(by_seed(seed_8=[[Event(text="half")], DIED])), says_b()
    call = routed_call(route_of(server_of(first, "gpu-1"), server_of(second, "gpu-2")), three())

    result = await whole(call)

    assert [choice.text for choice in result.choices] == ["7", "b", "9"]
    assert result.usage == call.usage == Usage(10, 3)
    assert sorted(call.tried().split(", ")) == ["gpu-1", "gpu-1", "gpu-1;fault=failed", "gpu-2"]
    assert [asked.sampling.seed for asked in second.requests] == [8]


async def test_a_choice_that_fails_after_its_usage_is_counted_once() -> None:
    """What was taken back is not billed."""
    broken: list[Step] = [*says("x", usage=Usage(10, 5)), DIED]
    first = ScriptedEngine(by_seed(seed_8=broken))
    call = routed_call(route_of(server_of(first, "gpu-1"), server_of(says_b(), "gpu-2")), three())

    result = await whole(call)

    assert result.usage == call.usage == Usage(10, 3)


async def test_a_choice_does_not_ask_twice_whom_another_one_went_to() -> None:
    """Choices begin one after the other, and the first may have moved on when the second begins."""
    nowhere = ScriptedEngine([EngineStalled(1)])
    second = ScriptedEngine(by_seed(seed_8=[EngineStalled(1)]))
    route = route_of(server_of(nowhere, "gpu-1"), server_of(second, "gpu-2"), server_of(says_b(), "gpu-3"))
    call = routed_call(route, three())

    result = await whole(call)

    assert [choice.text for choice in result.choices] == ["7", "b", "9"]
    assert sorted(asked.sampling.seed or 0 for asked in nowhere.requests) == [7, 8, 9]
    assert sorted(asked.sampling.seed or 0 for asked in second.requests) == [7, 8, 9]


async def test_one_change_is_told_once_for_all_choices() -> None:
    """Whoever puts the statement on every piece would make it anew for each of them."""
    fallback = deployment(ScriptedEngine(says("b", "c", "d")), name="small")
    own = server_of(ScriptedEngine([EngineStalled(120)]), "gpu-1")
    call = routed_call(route_of(own, fallback=fallback), three(stream=True))
    stated: list[str] = []
    call.changed = lambda answering: stated.append(answering.deployment)

    await events_of(call)

    assert stated == ["small"]
