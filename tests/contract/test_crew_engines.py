"""Engines and places of the main process, as workers reach them: over a socket everything is as it would be here."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from hanlin import errors
from hanlin.engines.profiles import profiles
from hanlin.errors import (
    ContextLengthExceeded,
    EngineBusy,
    EngineFailed,
    EngineUnavailable,
    HanlinError,
    InternalError,
    Overloaded,
    TokensExceeded,
)
from hanlin.routing.capacity import Capacity
from hanlin.service.crew.channel import Channel
from hanlin.service.crew.coordinator import Desk
from hanlin.service.crew.engines import Remote, RemoteEmbedder, RemoteEngine
from hanlin.service.crew.failures import error_of, failure_of
from hanlin.service.crew.line import Line
from hanlin.service.crew.messages import Chat, Failed, Place, Shown, decode_first, decode_said, encode, encode_first
from hanlin.service.crew.places import SharedCapacity
from hanlin.service.crew.roster import share
from hanlin.service.deployments import Deployment
from hanlin.service.embedding_planning import EmbeddingDeployment
from hanlin.testing.scripted import HANG, ScriptedEngine, Step, says
from hanlin.types import (
    ChatRequest,
    ChatResult,
    Choice,
    CompletionRequest,
    EmbeddingRequest,
    EmbeddingResult,
    Event,
    MediaPart,
    Message,
    Sampling,
    Sent,
    Shape,
    TextPart,
    Texts,
    Thinking,
    Tool,
    ToolCall,
    ToolCallPiece,
    ToolChoice,
    Usage,
)
from tests.crew import Main, Stage, main_process, until

PROFILE = profiles().engine["vllm"]
QUESTION = ChatRequest("qwen-plus", (Message("user", "你好"),), stream=True)

MESSAGES = (
    Message("system", "s"),
    Message("user", (TextPart("look: \u2028"), MediaPart("image", msgspec.Raw(b'{"url":"x"}')))),
    Message("assistant", "", (ToolCall("1", "f", '{"a":1}'),), reasoning="hm"),
    Message("tool", "42", tool_call_id="1"),
)
FULL = ChatRequest(
    "qwen-plus",
    MESSAGES,
    Sampling(temperature=0.1, stop=("a",), stop_tokens=((1, 2),), logit_bias=((5, -1.5),), max_tokens=7),
    stream=True,
    tools=(Tool("f", "does", {"type": "object", "properties": {"a": {"type": "integer"}}}),),
    tool_choice=ToolChoice("named", "f"),
    shape=Shape("json_schema", "n", {"type": "object"}),
    thinking=Thinking(on=True, budget_tokens=5),
    given=frozenset({"temperature", "tools"}),
    asks={"enable_search": msgspec.Raw(b"false")},
)


def deployment(engine: Any, slots: int = 2, queue_limit: int = 2) -> Deployment:
    return Deployment(
        name="own",
        title="own",
        fingerprint="own@1",
        engine=engine,
        profile=PROFILE,
        capacity=Capacity(slots, queue_limit),
        embedded=True,
    )


def remote(main: Main, name: str = "own", line: Line | None = None) -> RemoteEngine:
    alive = cast(Line, SimpleNamespace(is_silent=False, calls=set()))
    return RemoteEngine(Remote(line or alive, main.socket, name, lambda: None), PROFILE)


async def events(engine: RemoteEngine, request: ChatRequest = QUESTION) -> list[Event]:
    return [event async for burst in engine.generate(request) for event in burst]


# --- what travels


def kinds(kind: type[HanlinError] = HanlinError) -> list[type[HanlinError]]:
    return [kind, *(one for below in kind.__subclasses__() for one in kinds(below))]


@pytest.mark.parametrize("kind", [one for one in kinds() if one.__module__ == errors.__name__])
def test_every_error_arrives_as_what_it_was(kind: type[HanlinError]) -> None:
    """Whether a call is tried elsewhere, and what its caller is told, hangs on the class and on all of its fields."""
    error = kind.__new__(kind)
    HanlinError.__init__(error, "went wrong", param="messages")
    error.retry_after_s = 7
    error.headers = {"x-ratelimit-limit-requests": "3"}

    came = error_of(decode_said(encode(Failed(failure_of(error)))).failure)  # type: ignore[union-attr]

    assert type(came) is kind
    assert (str(came), came.param, came.retry_after_s) == ("went wrong", "messages", 7)
    assert dict(came.headers) == {"x-ratelimit-limit-requests": "3"}
    assert [(one.status, one.code, one.type, one.retryable, one.should_retry) for one in (came,)] == [
        (error.status, error.code, error.type, error.retryable, error.should_retry)
    ]


@pytest.mark.parametrize(
    "error",
    [
        Overloaded(12, 9),
        TokensExceeded("of the key k", retry_after_s=4, headers={"a": "b"}),
        ContextLengthExceeded("m", 10, 5),
        EngineBusy("full", 3),
        EngineUnavailable("loading", 2),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_says_what_it_said(error: HanlinError) -> None:
    """Numbers in messages and in headers are what programs and people act on."""
    came = error_of(decode_said(encode(Failed(failure_of(error)))).failure)  # type: ignore[union-attr]

    assert vars(came) == vars(error)
    assert str(came) == str(error)


def test_an_error_of_a_class_that_nobody_knows_is_ours() -> None:
    """It cannot happen between processes of one release; a caller gets an answer all the same."""
    assert isinstance(error_of(msgspec.structs.replace(failure_of(Overloaded(1)), name="Stranger")), InternalError)


def test_a_request_arrives_with_everything_that_an_engine_reads() -> None:
    """Parts that nobody here looks into stay as they were sent."""
    came = decode_first(encode_first(Chat("own", FULL)))

    assert isinstance(came, Chat)
    raw, came_raw = FULL.messages[1].media[0].raw, came.request.messages[1].media[0].raw
    assert bytes(raw) == bytes(came_raw)
    assert bytes(came.request.asks["enable_search"]) == b"false"
    without_raw: dict[str, Any] = {"messages": (), "asks": {}}
    assert msgspec.structs.replace(came.request, **without_raw) == msgspec.structs.replace(FULL, **without_raw)
    assert came.request.messages[2:] == FULL.messages[2:]
    assert came.request.messages[1].text == FULL.messages[1].text


# --- answers


async def test_events_come_as_the_engine_yields_them() -> None:
    """Bursts stay bursts, and pieces of text stay the cheap kind."""
    bursts: list[Step] = [
        [],
        Texts(["你", "好"]),
        [Event(reasoning="hm"), Event(call=ToolCallPiece(0, "1", "f", "{}"))],
        [Event(finish_reason="tool_calls")],
        [Event(usage=Usage(3, 4, 1, 2))],
    ]
    engine = ScriptedEngine(bursts)
    async with main_process(Stage([deployment(engine)])) as main:
        came = [burst async for burst in remote(main).generate(QUESTION)]

    assert [isinstance(burst, Texts) for burst in came] == [False, True, False, False, False]
    assert [list(burst) for burst in came] == [list(burst) for burst in bursts]  # type: ignore[arg-type]
    assert engine.requests == [QUESTION]


async def test_what_only_makes_sense_in_a_process_stays_there() -> None:
    """Messages as they were sent, and the form that decisions are remembered by."""
    engine = ScriptedEngine(says("好"))
    request = msgspec.structs.replace(
        QUESTION, sent=Sent(QUESTION.messages, msgspec.Raw(b"[]")), given=frozenset({"stream"})
    )
    async with main_process(Stage([deployment(engine)])) as main:
        await events(remote(main), request)

    assert engine.requests == [msgspec.structs.replace(request, sent=None)]


async def test_a_failure_in_the_middle_comes_behind_what_was_said() -> None:
    """Routing decides by it what becomes of the call."""
    engine = ScriptedEngine([[Event(text="一")], EngineFailed("it died")])
    async with main_process(Stage([deployment(engine)])) as main:
        bursts = remote(main).generate(QUESTION)
        first = await anext(bursts)
        with pytest.raises(EngineFailed, match="it died"):
            await anext(bursts)

    assert [event.text for event in first] == ["一"]


async def test_a_mistake_of_ours_is_told_as_one(caplog: pytest.LogCaptureFixture) -> None:
    """The caller gets no traceback, the log does."""
    engine = ScriptedEngine([ValueError("oops")])
    async with main_process(Stage([deployment(engine)])) as main:
        with pytest.raises(InternalError):
            await events(remote(main))

    assert "oops" in caplog.text


async def test_hanging_up_stops_the_engine() -> None:
    """A place is a scarce thing, and a caller who has left needs none."""
    engine = ScriptedEngine([[Event(text="一")], HANG])
    async with main_process(Stage([deployment(engine)])) as main:
        async with aclosing(remote(main).generate(QUESTION)) as bursts:
            await anext(bursts)
            assert engine.running == 1

        await until(lambda: engine.ended == 1, "the engine is stopped")


async def test_an_engine_is_asked_no_faster_than_its_caller_reads() -> None:
    """Or a reader who stands still would have a whole answer pile up in two processes."""
    made = 0

    def endless(_request: ChatRequest) -> Any:
        nonlocal made
        for _ in range(20_000):
            made += 1
            yield [Event(text="喋" * 1000, reasoning="x")]

    stage = Stage([deployment(ScriptedEngine(endless))])
    async with main_process(stage) as main, aclosing(remote(main).generate(QUESTION)) as bursts:
        await anext(bursts)
        before = -1
        while made != before:
            before = made
            await asyncio.sleep(0.1)

    assert made < 1000


async def test_an_engine_that_left_with_the_settings_is_unavailable() -> None:
    """A call may be on its way while the file changes; another deployment then takes it."""
    async with main_process() as main:
        with pytest.raises(EngineUnavailable, match="own"):
            await events(remote(main))


async def test_without_a_main_process_nothing_answers() -> None:
    """It is said at once."""
    async with main_process() as main:
        engine = remote(main)

    with pytest.raises(EngineUnavailable):
        await events(engine)


async def test_prompts_are_counted_and_gaps_filled() -> None:
    """The other things that an engine does."""
    engine = ScriptedEngine(says("b"), prompt_tokens=42)
    async with main_process(Stage([deployment(engine)])) as main:
        assert await remote(main).count(QUESTION) == 42
        filled = [event async for burst in remote(main).fill(CompletionRequest("m", "a", "c")) for event in burst]

    assert filled[0].text == "b"


class WholeEngine(ScriptedEngine):
    """Gives answers as a whole."""

    def __init__(self, result: ChatResult | Exception) -> None:
        super().__init__(says("in pieces"))
        self.result = result

    def whole(self, request: ChatRequest) -> Any:
        async def answer() -> ChatResult:
            self.requests.append(request)
            if isinstance(self.result, Exception):
                raise self.result
            return self.result

        return answer()


async def test_a_whole_answer_comes_at_once_where_its_engine_gives_one() -> None:
    """By the profile, as the engine itself decides: a stream, or tools, come in pieces."""
    result = ChatResult((Choice(0, "好", "stop"),), Usage(1, 1))
    unstreamed = msgspec.structs.replace(QUESTION, stream=False)
    async with main_process(Stage([deployment(WholeEngine(result))])) as main:
        whole = remote(main).whole(unstreamed)
        assert whole is not None
        assert await whole == result

    assert remote(main).whole(QUESTION) is None
    assert remote(main).whole(FULL) is None


async def test_a_whole_answer_that_fails_is_a_failure() -> None:
    """As it would be of an engine in the worker."""
    async with main_process(Stage([deployment(WholeEngine(EngineFailed("no")))])) as main:
        whole = remote(main).whole(msgspec.structs.replace(QUESTION, stream=False))
        assert whole is not None
        with pytest.raises(EngineFailed, match="no"):
            await whole


async def test_an_engine_that_gives_no_whole_answers_any_more_is_put_together() -> None:
    """The settings may have changed between the two processes' looks at them."""
    async with main_process(Stage([deployment(ScriptedEngine(says("你", "好")))])) as main:
        whole = remote(main).whole(msgspec.structs.replace(QUESTION, stream=False))
        assert whole is not None
        result = await whole

    assert result.choices[0].text == "你好"


async def test_vectors_come_to_the_last_digit() -> None:
    """An index that was built by one process is asked by another."""

    class Embedder(ScriptedEngine):
        async def embed(self, request: EmbeddingRequest, limit_tokens: int | None) -> EmbeddingResult:
            assert limit_tokens == 512
            return EmbeddingResult(tuple([0.1, 1 / 3] for _ in request.texts), Usage(7))

    vectors = SimpleNamespace(name="own", engine=Embedder(), capacity=Capacity(1, 1), embedded=True)
    stage = Stage(embedding_deployments=[EmbeddingDeployment(**vars(vectors), title="", fingerprint="")])
    async with main_process(stage) as main:
        embedder = RemoteEmbedder(Remote(await main.join(), main.socket, "own", lambda: None))
        result = await embedder.embed(EmbeddingRequest("m", ("a", "b")), 512)

    assert result == EmbeddingResult(([0.1, 1 / 3], [0.1, 1 / 3]), Usage(7))


async def test_calls_of_a_main_process_that_stands_still_are_given_up() -> None:
    """It may stand for ever: callers are told, as they are when an engine falls silent."""
    engine = ScriptedEngine([[Event(text="一")], HANG])
    async with main_process(Stage([deployment(engine, slots=1)])) as main:
        line = await main.join(beat_s=0.2)
        main.stands_still()
        await until(lambda: line.is_silent, "its silence is noticed")
        with pytest.raises(EngineUnavailable):
            await events(remote(main, line=line))
        with pytest.raises(EngineUnavailable):
            await places(line).acquire("a")

        main.goes_on()
        await until(lambda: not line.is_silent, "its voice is heard again")
        bursts = remote(main, line=line).generate(QUESTION)
        await anext(bursts)
        main.stands_still()
        with pytest.raises(EngineFailed):
            await anext(bursts)


# --- places


def places(line: Any, shown: Callable[[], Shown | None] = lambda: None) -> SharedCapacity:
    return SharedCapacity(line, "chat", "own", shown, lambda total: share(total, 1, 2))


async def test_workers_share_the_places_of_a_deployment() -> None:
    """Two workers, two places: they are neither two each nor one each."""
    own = deployment(ScriptedEngine(), slots=2)
    async with main_process(Stage([own]), workers=2) as main:
        one, other = places(await main.join()), places(await main.join())
        await one.acquire("a")
        await one.acquire("a")
        third = asyncio.create_task(other.acquire("b"))
        await until(lambda: own.capacity.waiting == 1, "the third waits")

        one.release()
        await third

        assert (own.capacity.running, one.here()[0], other.here()[0]) == (2, 1, 1)
        one.release()
        other.release()
        await until(lambda: own.capacity.running == 0, "all are given back")


async def test_a_full_line_refuses_with_the_numbers_of_all_workers() -> None:
    """How many wait, and when to come back, is known where they wait."""
    own = deployment(ScriptedEngine(), slots=1, queue_limit=1)
    async with main_process(Stage([own])) as main:
        one, other = places(await main.join()), places(await main.join())
        await one.acquire("a")
        waiting = asyncio.create_task(other.acquire("a"))
        await until(lambda: own.capacity.waiting == 1, "one waits")

        with pytest.raises(Overloaded, match="1 calls are waiting"):
            await other.acquire("a")
        waiting.cancel()
        await until(lambda: own.capacity.waiting == 0, "who leaves does not wait")


async def test_a_place_that_comes_when_its_caller_has_left_is_for_the_next_one() -> None:
    """The news of both may cross each other on the way."""
    own = deployment(ScriptedEngine(), slots=1)
    async with main_process(Stage([own])) as main:
        one = places(await main.join())
        asking = asyncio.create_task(one.acquire("a"))
        await asyncio.sleep(0)  # asked, and not answered
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)

        await one.acquire("b")

        assert own.capacity.running == 1


@pytest.mark.parametrize("turns", range(5))
async def test_a_place_is_given_back_whenever_its_caller_leaves(turns: int) -> None:
    """Just before it comes, in the moment in which it comes, or just after."""
    capacity = Capacity(1, 5)
    desk = Desk(1, 1, cast(Channel, SimpleNamespace(send=lambda _: None, close=lambda: None)))
    desk.place(Place(1, "chat", "own", "a"), capacity)
    desk.place(Place(2, "chat", "own", "a"), capacity)
    await asyncio.sleep(0)

    desk.leave(1)
    for _ in range(turns):
        await asyncio.sleep(0)
    desk.leave(2)
    for _ in range(5):
        await asyncio.sleep(0)

    assert (capacity.running, capacity.waiting) == (0, 0)


async def test_the_places_of_a_dead_worker_are_for_the_others() -> None:
    """Those that its calls had as well as those that they waited for."""
    own = deployment(ScriptedEngine(), slots=1, queue_limit=5)
    async with main_process(Stage([own])) as main:
        dying = await main.join()
        one, other = places(dying), places(await main.join())
        await one.acquire("a")
        waiting = asyncio.create_task(one.acquire("a"))
        await until(lambda: own.capacity.waiting == 1, "a further call of the dying one waits")
        next_one = asyncio.create_task(other.acquire("b"))
        await until(lambda: own.capacity.waiting == 2, "one of the other's waits")

        main.hangs_up(dying)
        await next_one

        assert (own.capacity.running, own.capacity.waiting) == (1, 0)
        with pytest.raises(EngineUnavailable):
            await waiting


def test_parts_of_a_number_add_up_to_it() -> None:
    """Of servers elsewhere each worker has its part of the places."""
    for total in range(30):
        for workers in range(1, 9):
            assert sum(share(total, worker, workers) for worker in range(1, workers + 1)) == total
