"""One call on several deployments: which is asked first, what a failure leads to, and what the caller sees of it."""

import asyncio
from contextlib import aclosing

import pytest

from hanlin.errors import (
    AnswerUnfit,
    EngineBusy,
    EngineError,
    EngineFailed,
    EngineRefused,
    EngineStalled,
    EngineUnavailable,
    EngineUnreachable,
    InvalidRequest,
    UnsupportedHere,
)
from hanlin.routing import outcome
from hanlin.service.chat import ChatCall, collect, generate
from hanlin.testing import HANG, ScriptedEngine, says
from hanlin.testing.scripted import Step
from hanlin.types import Answering, ChatRequest, ChatResult, Event, Served, Shape, Usage, fold
from tests.values import (
    LIMIT_S,
    Clock,
    deployment,
    events_of,
    request,
    route_of,
    routed_call,
    router_of,
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


def text_of(result: ChatResult) -> str:
    return result.choices[0].text


def says_a() -> ScriptedEngine:
    return ScriptedEngine(says("a"))


def says_b() -> ScriptedEngine:
    return ScriptedEngine(says("b"))


def once(first: list[Step], *, then: list[Step]) -> ScriptedEngine:
    """Return an engine whose first call goes as `first`, every later one as `then`."""
    scripts = iter([first])
    return ScriptedEngine(lambda asked: next(scripts, then))


# --- who is asked ----------------------------------------------------------------------------------------------------


async def test_the_first_of_the_order_answers() -> None:
    """Whoever stands behind it learns nothing of the call."""
    first, second = says_a(), says_b()
    call = routed_call(route_of(server_of(first, "gpu-1"), server_of(second, "gpu-2")))

    result = await whole(call)

    assert text_of(result) == "a"
    assert (call.tried(), call.answering.deployment) == ("gpu-1", "gpu-1")
    assert second.requests == []


async def test_who_cannot_do_what_is_asked_is_passed_over() -> None:
    """A server without JSON must not spoil a call that the next one can answer."""
    cannot = server_of(says_a(), "plain", profile="minimax")
    call = routed_call(route_of(cannot, server_of(says_b(), "gpu-2")), request(shape=Shape("json_object")))

    assert text_of(await whole(call)) == "b"
    assert call.tried() == "gpu-2"


async def test_who_cannot_do_what_is_asked_does_not_take_over_either() -> None:
    """After a failure the same holds: a text is no JSON, however well it is meant."""
    plain, last = says_b(), ScriptedEngine(says("{}"))
    route = route_of(
        server_of(ScriptedEngine([EngineStalled(1)]), "gpu-1"),
        server_of(plain, "plain", profile="minimax"),
        server_of(last, "gpu-2"),
    )
    call = routed_call(route, request(shape=Shape("json_object")))

    assert text_of(await whole(call)) == "{}"
    assert (call.tried(), plain.requests) == ("gpu-1;fault=stalled, gpu-2", [])


def test_what_nobody_can_do_is_refused_in_the_words_of_the_first() -> None:
    """The operator named it first, so it is the one that callers know."""
    route = route_of(server_of(says_a(), "one", profile="minimax"), server_of(says_b(), "two", profile="minimax"))

    with pytest.raises(UnsupportedHere, match="answered here by one, which has no JSON") as problem:
        routed_call(route, request(shape=Shape("json_object")))

    assert problem.value.param == "response_format"


async def test_an_engine_that_is_still_loading_is_asked_after_the_others() -> None:
    """Its calls would wait for minutes in front of a server that answers at once."""
    loading = ScriptedEngine(says("a"), why="loading")
    call = routed_call(route_of(server_of(loading, "new"), server_of(says_b(), "old")))

    assert text_of(await whole(call)) == "b"
    assert loading.requests == []


async def test_a_deployment_that_rests_is_asked_when_there_is_nobody_else() -> None:
    """A try is better than a refusal."""
    clock = Clock()
    resting = server_of(says_a(), "gpu-1")
    resting.standing.failed(EngineRefused("wrong key"), clock())

    assert text_of(await whole(routed_call(route_of(resting), router=router_of(clock)))) == "a"


# --- another try -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [DIED, EngineUnreachable("no connection")])
async def test_alone_a_failure_that_may_pass_is_tried_again(error: EngineError) -> None:
    """A connection that broke says little about the next one."""
    engine = once([error], then=list(says("a")))
    call = routed_call(route_of(server_of(engine, "gpu-1")))

    assert text_of(await whole(call)) == "a"
    assert call.tried() == f"gpu-1;fault={error.fault}, gpu-1"


@pytest.mark.parametrize(
    "error", [EngineStalled(120), AnswerUnfit("no JSON"), EngineRefused("wrong key"), EngineUnavailable("loading")]
)
async def test_alone_a_failure_that_would_come_again_is_the_callers(error: EngineError) -> None:
    """Two minutes of silence are enough."""
    engine = ScriptedEngine([error])
    call = routed_call(route_of(server_of(engine, "gpu-1")))

    with pytest.raises(type(error)):
        await whole(call)

    assert (len(engine.requests), call.tried()) == (1, f"gpu-1;fault={error.fault}")


async def test_the_second_try_is_the_last_one() -> None:
    """Three failures are no bad luck."""
    engine = ScriptedEngine([DIED])

    with pytest.raises(EngineFailed):
        await whole(routed_call(route_of(server_of(engine, "gpu-1"))))

    assert len(engine.requests) == 2


async def test_without_a_budget_there_is_no_second_try() -> None:
    """A sick engine must not get twice the load of a sound one."""
    engine, other = ScriptedEngine([DIED]), says_b()
    route = route_of(server_of(engine, "gpu-1"), server_of(other, "gpu-2"))

    with pytest.raises(EngineFailed):
        await whole(routed_call(route, router=router_of(retry_share=0)))

    assert (len(engine.requests), other.requests) == (1, [])


async def test_what_no_engine_got_is_passed_on_without_a_budget() -> None:
    """It multiplies nobody's load."""
    route = route_of(server_of(ScriptedEngine([EngineUnreachable("no")]), "gpu-1"), server_of(says_b(), "gpu-2"))

    assert text_of(await whole(routed_call(route, router=router_of(retry_share=0)))) == "b"


async def test_the_budget_of_all_calls_is_one() -> None:
    """Ten calls a second may be tried again where there are few; the eleventh is told at once."""
    engine = ScriptedEngine([DIED])
    route, router = route_of(server_of(engine, "gpu-1")), router_of()

    for _ in range(20):
        with pytest.raises(EngineFailed):
            await whole(routed_call(route, router=router))

    assert len(engine.requests) == 20 + 12  # a second each for a tenth of the calls, and one for each of ten seconds


# --- another deployment ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        DIED,
        EngineStalled(120),
        AnswerUnfit("no JSON"),
        EngineRefused("key"),
        EngineUnreachable("no"),
        EngineBusy("429"),
    ],
)
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_before_the_first_word_another_deployment_takes_over(error: EngineError, *, stream: bool) -> None:
    """The caller sees a late answer, and nothing of the failure."""
    failing = ScriptedEngine([[], error])
    call = routed_call(route_of(server_of(failing, "gpu-1"), server_of(says_b(), "gpu-2")), request(stream=stream))

    result = fold(await events_of(call))

    assert (text_of(result), result.usage) == ("b", Usage(10, 1))
    assert call.tried() == f"gpu-1;fault={error.fault}, gpu-2"
    assert len(failing.requests) == 1


async def test_a_request_that_is_wrong_itself_is_not_passed_on() -> None:
    """The next one would refuse it as well, and the caller would wait for both."""
    other = says_b()
    refusing = server_of(ScriptedEngine([InvalidRequest("no such parameter")]), "gpu-1")
    call = routed_call(route_of(refusing, server_of(other, "gpu-2")))

    with pytest.raises(InvalidRequest, match="no such parameter"):
        await whole(call)

    assert (call.tried(), other.requests) == ("gpu-1;fault=declined", [])


async def test_the_failed_engine_is_closed_before_another_is_asked() -> None:
    """A call must not run in two places."""
    first = ScriptedEngine([[], DIED])
    running: list[int] = []

    def script(asked: ChatRequest) -> list[Step]:
        running.append(first.running)
        return list(says("b"))

    await whole(routed_call(route_of(server_of(first, "gpu-1"), server_of(ScriptedEngine(script), "gpu-2"))))

    assert running == [0]


async def test_an_answer_without_an_end_is_none() -> None:
    """An engine that just stops has failed, whatever it has said: a stream must not end in silence."""
    silent = server_of(ScriptedEngine([[Event(text="x")]]), "gpu-1")
    call = routed_call(route_of(silent, server_of(says_b(), "gpu-2")))

    assert text_of(await whole(call)) == "b"
    assert call.tried() == "gpu-1;fault=failed, gpu-2"


@pytest.mark.parametrize(
    "asked", [request(stream=True, logprobs=True), request(stream=True, shape=Shape("json_object"))]
)
async def test_nothing_is_tried_again_after_words_have_left(asked: ChatRequest) -> None:
    """A caller who has the beginning of one answer must not get the end of another."""
    other = says_b()
    broken = server_of(ScriptedEngine([[Event(text="{")], DIED]), "gpu-1")
    call = routed_call(route_of(broken, server_of(other, "gpu-2")), asked)

    with pytest.raises(EngineFailed):
        await events_of(call)

    assert (call.tried(), other.requests) == ("gpu-1;fault=failed", [])


async def test_what_nobody_has_seen_is_taken_back() -> None:
    """Without a stream half an answer is no answer: the whole one comes from the next, and its usage alone."""
    broken = ScriptedEngine(
        [[Event(text="x")], [Event(text="y", finish_reason="stop")], [Event(usage=Usage(9, 9))], DIED]
    )
    call = routed_call(route_of(server_of(broken, "gpu-1"), server_of(says_b(), "gpu-2")))

    events = await events_of(call)

    assert [event.restart for event in events] == [False, False, False, True, False, False, False]
    assert fold(events) == fold([event for burst in says("b") for event in burst])
    assert (call.usage, call.finish_reasons) == (Usage(10, 1), ("stop",))


async def test_what_was_taken_back_is_no_answer_when_time_runs_out() -> None:
    """A half that was given up must not come back as the whole."""
    route = route_of(
        server_of(ScriptedEngine([[Event(text="x")], DIED]), "gpu-1"), server_of(ScriptedEngine([HANG]), "gpu-2")
    )

    with pytest.raises(EngineError, match="timed out"):
        await collect(generate(routed_call(route)), 0.02)


# --- another model ---------------------------------------------------------------------------------------------------


def with_fallback(error: EngineError, context_tokens: int = 0) -> tuple[ChatCall, ScriptedEngine]:
    """Return a streamed call whose own deployment fails, and the engine of another model behind it."""
    other = says_b()
    fallback = deployment(other, name="small", fingerprint="small@1", context_tokens=context_tokens)
    own = server_of(ScriptedEngine([error]), "gpu-1")
    return routed_call(route_of(own, fallback=fallback), request(stream=True)), other


async def test_another_model_says_who_it_is_before_its_first_word() -> None:
    """The statement beside an answer must be true of the answer, and is made once."""
    call, _ = with_fallback(EngineStalled(120))
    stated: list[Answering] = []
    call.changed = stated.append

    async with asyncio.timeout(LIMIT_S), aclosing(generate(call)) as bursts:
        before = list(stated)
        first = await anext(bursts)
        by_then = list(stated)
        rest = [burst async for burst in bursts]

    assert [first, *rest] == says("b")
    assert (before, by_then) == ([], [Answering("qwen-plus", "small", "small@1", Served.STAND_IN)])
    assert stated == by_then
    assert call.answering.deployment == "small"
    assert call.tried() == "gpu-1;fault=stalled, small"


async def test_nobody_is_told_of_a_change_that_does_not_happen() -> None:
    """The first statement holds while the first one answers, at the second try as well."""
    call = routed_call(route_of(server_of(once([DIED], then=list(says("a"))), "gpu-1")), request(stream=True))
    changes: list[Answering] = []
    call.changed = changes.append

    await events_of(call)

    assert changes == []


@pytest.mark.parametrize("prompt", ["x" * 5000, pytest.param("长" * 1500, id="Chinese")])
async def test_another_model_that_the_prompt_does_not_fit_is_not_asked(prompt: str) -> None:
    """It would refuse it, in the name of a model that the caller did not ask for. About four bytes are a token."""
    other = says_b()
    own = server_of(ScriptedEngine([EngineStalled(120)]), "gpu-1")
    call = routed_call(route_of(own, fallback=deployment(other, context_tokens=1000)), request(prompt))

    with pytest.raises(EngineStalled):
        await whole(call)

    assert other.requests == []


async def test_another_model_that_the_prompt_fits_is_asked() -> None:
    """What its context holds, it may answer."""
    call, other = with_fallback(EngineStalled(120), context_tokens=1000)

    await events_of(call)

    assert len(other.requests) == 1
