"""Probes: who is due for one, what its outcome says of a deployment, and that they never get in each other's way."""

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hanlin.errors import EngineBusy, EngineError, EngineFailed, EngineRefused, InvalidRequest
from hanlin.routing.health import PROBE_LIMIT_S, STALL_S, Standing
from hanlin.service import probing
from hanlin.service.deployments import Deployment
from hanlin.service.fleet import Fleet, Member
from hanlin.service.probing import Prober, is_due, patience_s
from hanlin.service.studio import Studio
from hanlin.settings import DeploymentRow, Settings
from hanlin.store.database import open_store
from hanlin.testing import HANG, ScriptedEngine, says
from hanlin.testing.scripted import Step
from hanlin.types import Event, Message
from tests.values import LIMIT_S, Clock, catalogue_of, model, router_of, server_of

PROBE_S = 60.0
DIED = EngineFailed("it died")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def studio(tmp_path: Path, clock: Clock) -> AsyncIterator[Studio]:
    """A service without deployments, at a time that stands still."""
    settings = Settings(probe_s=PROBE_S, stall_s=0.02)
    studio = Studio(settings, catalogue_of(model()), await open_store(tmp_path / "hanlin.db"), b"secret")
    studio.router = router_of(clock)
    yield studio
    await studio.close()


def probed(*script: Step, name: str = "gpu-1") -> tuple[Deployment, ScriptedEngine]:
    engine = ScriptedEngine(script)
    return server_of(engine, name, probe_model="qwen-plus"), engine


async def settle(prober: Prober) -> None:
    """Wait until every probe that is under way is over."""
    async with asyncio.timeout(LIMIT_S):
        while prober._asking:
            await asyncio.wait(list(prober._asking.values()))
            await asyncio.sleep(0)


# --- who is due ------------------------------------------------------------------------------------------------------

NOW = 1000.0


def standing(
    *, last: float = NOW, open_calls: int = 0, failed: float | None = None, probe: float | None = None
) -> Standing:
    found = Standing()
    for _ in range(open_calls):
        found.call_begins(10, last)
    found.last_sign = last
    if failed is not None:
        found.failed(EngineRefused("key"), failed)
    if probe is not None:
        assert found.probe_begins(probe)
    return found


def asked_to_wait() -> Standing:
    busy = EngineBusy("429")
    busy.asked_wait_s = 30
    found = standing(last=0)
    found.failed(busy, NOW)
    return found


@pytest.mark.parametrize(
    ("found", "due"),
    [
        pytest.param(standing(last=NOW - PROBE_S), True, id="idle for long enough"),
        pytest.param(standing(last=NOW - PROBE_S + 0.1), False, id="idle for a while"),
        pytest.param(standing(last=NOW - PROBE_S, open_calls=1), True, id="silent under load"),
        pytest.param(standing(last=NOW - STALL_S, open_calls=1), True, id="suspected"),
        pytest.param(standing(last=NOW - STALL_S + 0.1, open_calls=1), False, id="busy"),
        pytest.param(standing(failed=NOW - 0.9), False, id="resting"),
        pytest.param(standing(failed=NOW - 1), True, id="its rest is over"),
        pytest.param(standing(failed=NOW - 9, probe=NOW - 5), False, id="a call probes it"),
        pytest.param(
            standing(failed=NOW - 999, probe=NOW - PROBE_LIMIT_S), True, id="a call probed it and never came back"
        ),
        pytest.param(asked_to_wait(), False, id="it asked to be left alone"),
    ],
)
def test_who_is_asked_for_a_token(found: Standing, *, due: bool) -> None:
    """Live calls prove more than probes do: only who is idle, suspected, or back from a rest is asked."""
    assert is_due(found, NOW, PROBE_S) == due


def test_a_deployment_that_has_just_come_is_given_time() -> None:
    """A start must not begin with a token from everybody."""
    assert not is_due(standing(last=0), NOW, PROBE_S, known_since=NOW - PROBE_S + 0.1)
    assert is_due(standing(last=0), NOW, PROBE_S, known_since=NOW - PROBE_S)


@pytest.mark.parametrize(("open_calls", "expected"), [(0, 8.0), (1, 120.0)])
def test_a_probe_beside_calls_has_their_patience(open_calls: int, expected: float) -> None:
    """It waits behind their prompts; who is idle has nothing to wait for."""
    server, _ = probed()
    for _ in range(open_calls):
        server.standing.call_begins(10, NOW)

    assert patience_s(server, Settings()) == expected


# --- what the outcome says -------------------------------------------------------------------------------------------


async def test_one_token_is_asked_for_and_no_more_is_read(studio: Studio) -> None:
    """By a name that its server knows, with the shortest of prompts; the rest of an answer is not waited for."""
    server, engine = probed([], [Event(text="x")], HANG)

    await Prober(studio).ask(server, LIMIT_S)

    [asked] = engine.requests
    assert (asked.model, asked.messages, asked.sampling.max_tokens) == ("qwen-plus", (Message("user", "1"),), 1)
    assert (engine.running, engine.ended) == (0, 1)


@pytest.mark.parametrize(
    ("script", "failures"),
    [
        pytest.param(says("x"), 0, id="a token"),
        pytest.param([[Event(finish_reason="stop")]], 0, id="an end without a word"),
        pytest.param([InvalidRequest("400")], 0, id="it declines, so it lives"),
        pytest.param([DIED], 3, id="an error"),
        pytest.param([[], [], HANG], 3, id="signs of life, and no token"),
        pytest.param([HANG], 3, id="silence"),
        pytest.param([], 3, id="nothing at all"),
    ],
)
async def test_a_token_proves_that_it_generates_and_nothing_else_does(
    studio: Studio, clock: Clock, script: list[Step], failures: int
) -> None:
    """A page that says that all is well is no proof."""
    server, _ = probed(*script)
    for _ in range(2):
        server.standing.failed(DIED, clock())

    await Prober(studio).ask(server, 0.01)

    assert server.standing.health.failures == failures
    assert server.standing.state(clock()) == ("resting" if failures else "well")
    assert server.standing.health.last_success_s == (None if failures else clock())


async def test_a_server_that_asks_to_be_left_alone_is(studio: Studio, clock: Clock) -> None:
    """It is busy, and not sick."""
    busy = EngineBusy("429")
    busy.asked_wait_s = 30
    server, _ = probed(busy)

    await Prober(studio).ask(server, LIMIT_S)

    assert server.standing.health.failures == 0
    assert [server.standing.state(clock() + after_s) for after_s in (29, 30)] == ["resting", "well"]


def rested(server: Deployment, clock: Clock) -> Standing:
    """Open a deployment's breaker and let its rest pass."""
    server.standing.failed(EngineRefused("key"), clock())
    clock.now += 1
    return server.standing


@pytest.mark.parametrize(("script", "state"), [(says("x"), "well"), ([DIED], "resting")])
async def test_a_rest_ends_with_the_probe_that_succeeds(
    studio: Studio, clock: Clock, script: list[Step], state: str
) -> None:
    """No caller has to find out."""
    server, _ = probed(*script)

    rested(server, clock)
    await Prober(studio).ask(server, LIMIT_S)

    assert server.standing.state(clock()) == state


async def test_no_call_probes_beside_a_probe(studio: Studio, clock: Clock) -> None:
    """One is enough to know."""
    server, engine = probed([], HANG)
    found = rested(server, clock)

    asking = asyncio.create_task(Prober(studio).ask(server, LIMIT_S))
    await engine.called.wait()
    assert found.state(clock()) == "probing"
    asking.cancel()
    await asyncio.wait((asking,))

    assert found.state(clock()) == "to_probe"
    assert engine.running == 0


async def test_no_probe_disturbs_a_call_that_probes(studio: Studio, clock: Clock) -> None:
    """A live call may have been quicker; its verdict counts, and its probe is not given up by ours."""
    server, engine = probed(*says("x"))
    found = rested(server, clock)
    assert found.probe_begins(clock())

    await Prober(studio).ask(server, LIMIT_S)

    assert (engine.requests, found.state(clock())) == ([], "probing")


async def test_a_probe_of_somebody_idle_leaves_the_probes_of_calls_alone(studio: Studio, clock: Clock) -> None:
    """Its breaker may open, and a call may probe it, while a slow probe is still under way."""
    goes_on = asyncio.Event()
    server, engine = probed(goes_on, EngineBusy("429"))
    asking = asyncio.create_task(Prober(studio).ask(server, LIMIT_S))
    await engine.called.wait()
    found = rested(server, clock)
    assert found.probe_begins(clock())

    goes_on.set()
    await asyncio.wait_for(asking, LIMIT_S)

    assert found.state(clock()) == "probing"


# --- the rounds ------------------------------------------------------------------------------------------------------


def serve(studio: Studio, *deployments: Deployment) -> None:
    members = tuple(Member(DeploymentRow(one.name), "", one) for one in deployments)
    studio.adopt(Fleet(members))


async def test_each_round_asks_those_who_are_due_once(studio: Studio, clock: Clock) -> None:
    """A slow one is not asked again while it is being asked, and costs the others nothing."""
    slow, slow_engine = probed([], HANG, name="slow")
    quick, quick_engine = probed(*says("x"), name="quick")
    rented_engine = ScriptedEngine(says("x"))
    serve(studio, slow, quick, server_of(rented_engine, "rented"))
    studio.settings = Settings(probe_s=PROBE_S, stall_s=LIMIT_S)
    prober = Prober(studio)

    prober.look()
    await asyncio.sleep(0)
    assert (slow_engine.requests, quick_engine.requests) == ([], [])  # they are new

    for _ in range(3):
        clock.now += PROBE_S
        prober.look()
        for _ in range(5):
            await asyncio.sleep(0)

    assert (len(slow_engine.requests), len(quick_engine.requests), len(rented_engine.requests)) == (1, 3, 0)
    for task in prober._asking.values():
        task.cancel()
    await settle(prober)


async def test_one_that_is_silent_rests_after_three_rounds(studio: Studio, clock: Clock) -> None:
    """Nobody had to call it to find out."""
    server, engine = probed([], HANG)
    serve(studio, server)
    prober = Prober(studio)
    prober.look()
    clock.now += PROBE_S

    for _ in range(5):
        prober.look()
        await settle(prober)

    assert len(engine.requests) == 3
    assert (server.standing.state(clock()), server.standing.health.fault) == ("resting", "stalled")


async def test_a_deployment_that_is_gone_is_not_asked(studio: Studio, clock: Clock) -> None:
    """Its settings were taken back, or replaced."""
    server, engine = probed(*says("x"))
    serve(studio, server)
    prober = Prober(studio)
    prober.look()
    serve(studio)
    clock.now += PROBE_S

    prober.look()
    await settle(prober)

    assert engine.requests == []


async def test_the_end_of_the_service_ends_the_probes(
    studio: Studio, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Engines must not go on for nobody."""
    monkeypatch.setattr(probing, "_LOOK_EVERY_S", 0.001)
    server, engine = probed([], HANG)
    rested(server, clock)
    serve(studio, server)
    studio.settings = Settings(probe_s=PROBE_S, stall_s=LIMIT_S)

    running = asyncio.create_task(Prober(studio).run())
    await asyncio.wait_for(engine.called.wait(), LIMIT_S)
    running.cancel()
    await asyncio.wait((running,))

    assert (engine.running, engine.ended) == (0, 1)


@pytest.mark.parametrize("problem", [ZeroDivisionError("ours")])
async def test_what_nobody_foresaw_is_logged_and_asked_again(
    studio: Studio, clock: Clock, problem: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """The rounds go on whatever happens in one of them."""
    server, engine = probed(problem)
    serve(studio, server)
    prober = Prober(studio)
    prober.look()
    clock.now += PROBE_S

    with caplog.at_level(logging.ERROR):
        for _ in range(2):
            prober.look()
            await settle(prober)

    assert len(engine.requests) == 2
    assert "deployment gpu-1 could not be probed" in caplog.text
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("error", [DIED, EngineRefused("key")])
async def test_a_failed_probe_is_in_the_log(
    studio: Studio, error: EngineError, caplog: pytest.LogCaptureFixture
) -> None:
    """Which deployment, and why: an operator has no caller who would tell."""
    server, _ = probed(error)

    with caplog.at_level(logging.WARNING):
        await Prober(studio).ask(server, LIMIT_S)

    assert f"deployment gpu-1 did not generate a token: {error}" in caplog.text
