"""What a call needs of its deployments and leaves on them: places, load, verdicts, probes."""

import asyncio
from contextlib import aclosing

import pytest

from hanlin.errors import (
    EngineBusy,
    EngineError,
    EngineFailed,
    EngineNotReady,
    EngineRefused,
    EngineStalled,
    EngineUnavailable,
    HanlinError,
    InvalidRequest,
    Overloaded,
)
from hanlin.routing import outcome
from hanlin.routing.capacity import Capacity
from hanlin.routing.order import Choose
from hanlin.service.chat import generate
from hanlin.service.deployments import Deployment
from hanlin.testing import HANG, ScriptedEngine, says
from hanlin.types import Answering, Event, Sampling
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


def left_on(one: Deployment) -> tuple[int, int, int, int]:
    """Return what is held there: places, waiting callers, calls, tokens."""
    return one.capacity.running, one.capacity.waiting, one.standing.open_calls, one.standing.outstanding_tokens


NOTHING = (0, 0, 0, 0)

# --- full and busy ---------------------------------------------------------------------------------------------------


async def test_a_full_deployment_is_passed_over() -> None:
    """Its line has an end, and behind it the next one begins."""
    full = server_of(says_a(), "gpu-1", capacity=Capacity(1, 0))

    async with full.capacity.place():
        call = routed_call(route_of(full, server_of(says_b(), "gpu-2")))
        assert (await whole(call)).choices[0].text == "b"

    assert call.tried() == "gpu-1;fault=full, gpu-2"


@pytest.mark.parametrize("choose", ["least-load", "prefix"])
async def test_where_load_decides_nobody_waits_while_a_place_is_free(choose: Choose) -> None:
    """Replicas are there to share the load."""
    taken = server_of(says_a(), "gpu-1", capacity=Capacity(1, 9))

    async with taken.capacity.place():
        call = routed_call(route_of(taken, server_of(says_b(), "gpu-2"), choose=choose))
        assert (await whole(call)).choices[0].text == "b"

    assert call.tried() == "gpu-2"


async def test_when_all_are_full_the_caller_is_told_when_to_come_back() -> None:
    """503 with Retry-After: honest, and what SDKs obey."""
    servers = [server_of(says_a(), name, capacity=Capacity(1, 0)) for name in ("gpu-1", "gpu-2")]

    async with servers[0].capacity.place(), servers[1].capacity.place():
        with pytest.raises(Overloaded) as problem:
            await whole(routed_call(route_of(*servers)))

    assert problem.value.status == 503
    assert problem.value.retry_after_s is not None


def asking_to_wait(error: EngineError, wait_s: float) -> EngineError:
    error.asked_wait_s = wait_s
    return error


@pytest.mark.parametrize(
    ("second", "kind"),
    [(EngineBusy("429"), EngineBusy), (EngineUnavailable("503"), EngineUnavailable)],
    ids=["all are busy", "one is away"],
)
def test_when_all_asked_to_wait_the_soonest_time_is_told(second: EngineError, kind: type[EngineError]) -> None:
    """Nobody is asked before: not as a first attempt, not as another one."""
    clock = Clock()
    servers = [server_of(says_a(), name) for name in ("gpu-1", "gpu-2")]
    servers[0].standing.failed(asking_to_wait(EngineBusy("429"), 30), clock())
    servers[1].standing.failed(asking_to_wait(second, 7), clock())
    clock.now += 2

    with pytest.raises(kind, match="gpu-2") as problem:
        routed_call(route_of(*servers), router=router_of(clock))

    assert problem.value.retry_after_s == 5


async def test_who_asked_to_wait_is_not_asked_after_a_failure_either() -> None:
    """It said when; another try before is of no use."""
    clock, waiting = Clock(), says_b()
    servers = [server_of(ScriptedEngine([EngineStalled(1)]), "gpu-1"), server_of(waiting, "gpu-2")]
    servers[1].standing.failed(asking_to_wait(EngineBusy("429"), 30), clock())

    with pytest.raises(EngineStalled):
        await whole(routed_call(route_of(*servers), router=router_of(clock)))

    assert waiting.requests == []


async def test_when_all_turn_out_to_be_busy_the_soonest_time_is_told() -> None:
    """The first one's wait is as good as the last one's."""
    servers = [
        server_of(ScriptedEngine([asking_to_wait(EngineBusy("429", wait_s), wait_s)]), f"after-{wait_s}")
        for wait_s in (7, 30)
    ]

    with pytest.raises(EngineBusy) as problem:
        await whole(routed_call(route_of(*servers)))

    assert problem.value.retry_after_s == 7


# --- callers who leave -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_a_caller_who_leaves_leaves_nothing_behind(*, stream: bool) -> None:
    """The engine stops, and what was held for the call is free again. The deployment is neither better nor worse."""
    engine = ScriptedEngine([[], [Event(text="a")], HANG])
    server = server_of(engine, "gpu-1")
    before = server.standing.health
    call = routed_call(route_of(server), request(stream=stream))

    async with asyncio.timeout(LIMIT_S), aclosing(generate(call)) as bursts:
        await anext(bursts)
        await anext(bursts)
        assert left_on(server) == (1, 0, 1, call.tokens)

    assert (engine.running, left_on(server)) == (0, NOTHING)
    assert [attempt.fault for attempt in call.attempts] == ["left"]
    assert server.standing.health == before


async def test_a_caller_who_leaves_the_line_leaves_nothing_behind() -> None:
    """Who waits counts as load, and is no load any more when gone."""
    engine = says_a()
    server = server_of(engine, "gpu-1", capacity=Capacity(1, 9))
    call = routed_call(route_of(server))

    async with server.capacity.place():
        waiting = asyncio.create_task(whole(call))
        for _ in range(3):
            await asyncio.sleep(0)
        assert left_on(server) == (1, 1, 1, call.tokens)
        waiting.cancel()
        await asyncio.wait((waiting,))
        assert left_on(server) == (1, 0, 0, 0)

    assert (engine.requests, left_on(server)) == ([], NOTHING)
    assert call.tried() == "gpu-1;fault=left"


async def test_choices_of_a_caller_who_leaves_leave_nothing_behind() -> None:
    """On two deployments, running and waiting."""
    first = ScriptedEngine(lambda asked: [DIED] if asked.sampling.seed == 8 else [[Event(text="a")], HANG])
    second = ScriptedEngine([[Event(text="b")], HANG])
    servers = [
        server_of(first, "gpu-1", capacity=Capacity(1, 9)),
        server_of(second, "gpu-2", capacity=Capacity(1, 9)),
    ]
    call = routed_call(route_of(*servers), request(n=4, stream=True, sampling=Sampling(seed=7)))

    async with asyncio.timeout(LIMIT_S), aclosing(generate(call)) as bursts:
        await anext(bursts)

    assert (first.running, second.running) == (0, 0)
    assert [left_on(server) for server in servers] == [NOTHING, NOTHING]


async def test_a_statement_that_fails_leaves_nothing_behind() -> None:
    """Whatever breaks above, below it everything is given back."""

    def fails(_answering: Answering) -> None:
        raise RuntimeError("no statement")

    servers = [server_of(ScriptedEngine([EngineStalled(1)]), "gpu-1"), server_of(says_b(), "gpu-2")]
    call = routed_call(route_of(*servers), request(stream=True))
    call.changed = fails

    with pytest.raises(RuntimeError, match="no statement"):
        await events_of(call)

    assert [left_on(server) for server in servers] == [NOTHING, NOTHING]


async def test_an_error_that_nobody_foresaw_leaves_nothing_behind() -> None:
    """It is ours, no engine's: it goes up as it is, and is tried nowhere else."""
    other = says_b()
    server = server_of(ScriptedEngine([[Event(text="a")], ZeroDivisionError()]), "gpu-1")

    with pytest.raises(ZeroDivisionError):
        await whole(routed_call(route_of(server, server_of(other, "gpu-2"))))

    assert (left_on(server), other.requests) == (NOTHING, [])


# --- verdicts --------------------------------------------------------------------------------------------------------


async def fate(server: Deployment, clock: Clock) -> None:
    with pytest.raises(HanlinError):
        await whole(routed_call(route_of(server), router=router_of(clock, retry_share=0)))


@pytest.mark.parametrize(
    ("error", "failures"),
    [
        (DIED, 1),
        (EngineStalled(120), 1),
        (EngineRefused("key"), 1),
        (InvalidRequest("no"), 0),
        (EngineBusy("429"), 0),
        (Overloaded(9), 0),
    ],
)
async def test_what_is_a_deployments_fault_counts_against_it(error: HanlinError, failures: int) -> None:
    """A wrong request is its caller's fault, and a full line nobody's."""
    server = server_of(ScriptedEngine([error]), "gpu-1")

    await fate(server, Clock())

    assert (server.standing.health.failures, left_on(server)) == (failures, NOTHING)


async def test_three_failures_in_a_row_and_it_rests_until_a_call_succeeds() -> None:
    """The next calls go elsewhere at once; after its rest a single one tests it."""
    clock = Clock()
    engine = ScriptedEngine([EngineStalled(1)])
    server = server_of(engine, "gpu-1")
    for _ in range(3):
        await fate(server, clock)
    assert server.standing.state(clock()) == "resting"
    route = route_of(server, server_of(says_b(), "gpu-2"))

    await whole(routed_call(route, router=router_of(clock)))
    assert len(engine.requests) == 3

    clock.now += 1
    engine._script = says("a")
    call = routed_call(route, router=router_of(clock))
    assert (await whole(call)).choices[0].text == "a"
    assert (server.standing.state(clock()), server.standing.health.failures) == ("well", 0)


def to_probe(engine: ScriptedEngine, clock: Clock) -> Deployment:
    """Return a deployment whose rest is just over."""
    server = server_of(engine, "gpu-1")
    server.standing.failed(EngineRefused("key"), clock())
    clock.now += 1
    assert server.standing.state(clock()) == "to_probe"
    return server


async def test_a_probe_succeeds_with_its_first_token() -> None:
    """An answer may take minutes, in which everybody else would wait for the verdict."""
    clock = Clock()
    server = to_probe(ScriptedEngine([[], [Event(text="a")], HANG]), clock)
    call = routed_call(route_of(server), request(stream=True), router_of(clock))

    async with asyncio.timeout(LIMIT_S), aclosing(generate(call)) as bursts:
        await anext(bursts)
        assert server.standing.state(clock()) == "probing"
        await anext(bursts)
        assert server.standing.state(clock()) == "well"


async def test_a_probe_whose_caller_leaves_is_for_another_call() -> None:
    """Nobody must wait two minutes for a verdict that will not come."""
    clock = Clock()
    server = to_probe(ScriptedEngine([[], HANG]), clock)

    async with (
        asyncio.timeout(LIMIT_S),
        aclosing(generate(routed_call(route_of(server), None, router_of(clock)))) as own,
    ):
        await anext(own)

    assert (server.standing.state(clock()), left_on(server)) == ("to_probe", NOTHING)


@pytest.mark.parametrize("error", [InvalidRequest("no"), Overloaded(9), EngineNotReady("loading")])
async def test_a_probe_that_says_nothing_of_the_deployment_is_for_another_call(error: HanlinError) -> None:
    """A wrong request, a full line: the next call may be the one that finds out."""
    clock = Clock()
    server = to_probe(ScriptedEngine([error]), clock)

    await fate(server, clock)

    assert server.standing.state(clock()) == "to_probe"


async def test_a_probe_that_fails_rests_longer_and_its_call_is_answered_elsewhere() -> None:
    """Without a budget, too: a call that probes must not pay for it."""
    clock = Clock()
    server = to_probe(ScriptedEngine([EngineStalled(1)]), clock)
    call = routed_call(route_of(server, server_of(says_b(), "gpu-2")), router=router_of(clock, retry_share=0))

    assert (await whole(call)).choices[0].text == "b"
    assert call.tried() == "gpu-1;fault=stalled, gpu-2"
    assert server.standing.state(clock() + 1.9) == "resting"
    assert server.standing.state(clock() + 2) == "to_probe"


async def test_of_several_choices_one_probes_and_the_others_go_where_it_is_safe() -> None:
    """A deployment that may be sick gets one call, not eight."""
    clock = Clock()
    engine = ScriptedEngine([EngineStalled(1)])
    server = to_probe(engine, clock)
    call = routed_call(
        route_of(server, server_of(says_b(), "gpu-2")), request(n=3, sampling=Sampling(seed=7)), router_of(clock)
    )

    assert [choice.text for choice in (await whole(call)).choices] == ["b", "b", "b"]
    assert len(engine.requests) == 1
