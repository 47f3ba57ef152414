"""What passes through Hanlin, and through Hanlin in front of Hanlin: hang-ups on their way in, large bodies.

The milliseconds of every hang-up are printed: `pytest -s tests/process/test_hops.py` shows them.
"""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import psutil
import pytest

from hanlin.testing import FakeEngine, Record, Rule, wait_until
from tests.service import KEY, Service, ask, toml_of

NEVER = Rule(contains="wait", stall_after_chunks=0)
ENDLESS = Rule(text="长" * 20_000, chunk_delay_s=0.02)

GENEROUS_S = 2.0  # the aim is 0.25; this machine may be busy

BODY_BYTES = 10_000_000
ROOM_BYTES = 2 * BODY_BYTES
PASSING_BYTES = 6 * BODY_BYTES  # while it passes: read, decoded, and on its way out


@pytest.fixture(scope="module")
def running() -> Iterator[FakeEngine]:
    with FakeEngine([NEVER, ENDLESS]) as engine:
        yield engine


@pytest.fixture
def engine(running: FakeEngine) -> FakeEngine:
    running.rules([NEVER, ENDLESS])
    running.forget_requests()
    return running


@pytest.fixture(scope="module")
def inner(running: FakeEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with Service(tmp_path_factory.mktemp("inner"), config=toml_of({"name": "fake", "url": running.base_url})) as inner:
        yield inner


@pytest.fixture(scope="module")
def outer(running: FakeEngine, inner: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with a name for each way to the engine: straight, through another Hanlin, and by a single place."""
    config = toml_of(
        {"name": "straight", "url": running.base_url, "serves": ["qwen-plus"]},
        {
            "name": "hanlin",
            "url": inner.base_url,
            "profile": "modelstudio",
            "key_env": "INNER_KEY",
            "serves": ["qwen-max"],
        },
        {"name": "narrow", "url": running.base_url, "slots": 1, "serves": ["qwen-turbo"]},
    )
    with Service(tmp_path_factory.mktemp("outer"), config=config, environment={"INNER_KEY": KEY}) as outer:
        yield outer


WAYS = {"one hop": "qwen-plus", "two hops": "qwen-max"}


class Caller:
    """A client that can hang up at any moment: a request on a socket of its own."""

    def __init__(self, service: Service, model: str, question: str, *, stream: bool) -> None:
        messages = [{"role": "user", "content": question}]
        body = json.dumps({"model": model, "messages": messages, "stream": stream}).encode()
        head = (
            "POST /compatible-mode/v1/chat/completions HTTP/1.1\r\nhost: hanlin\r\n"
            f"authorization: Bearer {KEY}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        self._socket = socket.create_connection(("127.0.0.1", service.port))
        self._socket.sendall(head.encode() + body)

    def hang_up(self) -> float:
        """Close the connection and return when, in seconds since the epoch."""
        now = time.time()
        self._socket.close()
        return now


def cancelled_ms(engine: FakeEngine, left_at: float) -> float:
    """Wait until the engine's only request is cancelled, and return how long after the caller had left it was."""
    [request] = engine.wait_for(lambda requests: requests[0].state == "cancelled", GENEROUS_S)
    assert request.ended_at is not None
    return (request.ended_at - left_at) * 1000


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("when", ["before the first token", "amid the answer"])
@pytest.mark.parametrize("way", WAYS)
def test_a_hang_up_reaches_the_engine(outer: Service, engine: FakeEngine, way: str, when: str, stream: bool) -> None:
    """Tokens that nobody reads cost somebody else's time: at most a quarter of a second of it."""
    caller = Caller(outer, WAYS[way], "wait" if when == "before the first token" else "go", stream=stream)

    def reached(requests: list[Record]) -> bool:
        return len(requests) == 1 and (when == "before the first token" or requests[0].tokens_made > 3)

    engine.wait_for(reached)  # type: ignore[arg-type]
    took_ms = cancelled_ms(engine, caller.hang_up())

    print(f"{way}, {when}, {'streamed' if stream else 'whole'}: {took_ms:.1f} ms")  # noqa: T201
    assert took_ms < GENEROUS_S * 1000
    names = {"straight", "hanlin"}
    wait_until(
        lambda: not any(outer.metric("hanlin_deployment_calls_running", deployment=name) for name in names),
        "the places to be free",
    )


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_who_leaves_the_line_is_never_sent_to_the_engine(outer: Service, engine: FakeEngine, stream: bool) -> None:
    """The longer the line, the more of those in it have left: to serve them would make it longer."""

    def waiting(count: int) -> None:
        wait_until(
            lambda: outer.metric("hanlin_deployment_calls_waiting", deployment="narrow") == count, f"{count} in line"
        )

    holder = Caller(outer, "qwen-turbo", "wait", stream=True)
    engine.wait_for(lambda requests: len(requests) == 1)
    leaver = Caller(outer, "qwen-turbo", "I have left", stream=stream)
    waiting(1)
    stayer = Caller(outer, "qwen-turbo", "I have stayed", stream=stream)
    waiting(2)

    leaver.hang_up()
    waiting(1)
    holder.hang_up()

    engine.wait_for(lambda requests: len(requests) == 2)
    stayer.hang_up()
    requests = engine.wait_for(lambda requests: requests[-1].state == "cancelled")
    assert [request.body["messages"][-1]["content"] for request in requests] == ["wait", "I have stayed"]


def test_through_two_hops_an_answer_is_whole_and_says_who_gave_it(outer: Service, engine: FakeEngine) -> None:
    """Each hop believes its own key, and passes on what its server said."""
    engine.rules([Rule(text="好", cached_tokens=1)])

    with outer.client() as client:
        answer = ask(client, model="qwen-max")

    assert answer.choices[0].message.content == "好"
    assert answer.system_fingerprint == "hanlin"
    assert answer.usage is not None
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 1


# --- large bodies ----------------------------------------------------------------------------------------------------


def test_ten_megabytes_pass_without_being_kept_several_times(engine: FakeEngine, tmp_path: Path) -> None:
    """Long documents are sent whole, by several callers at once: a copy too many is memory that somebody must buy."""
    engine.rules([Rule(text="好")])
    document = json.dumps(
        {"model": "qwen-long", "messages": [{"role": "user", "content": "a" * BODY_BYTES}], "max_tokens": 1}
    ).encode()
    row = {"name": "fake", "url": engine.base_url, "model": "any"}
    # On a busy machine the fake takes longer for it than engines may be silent, and is then asked whether it is there.
    with Service(tmp_path / "home", config=toml_of(row, max_body_bytes=2 * BODY_BYTES, first_byte_s=60)) as service:
        process = psutil.Process(service.pid)
        idle = process.memory_info().rss
        cold = highest(process, lambda: sent(service, document))
        before = process.memory_info().rss

        peak = highest(process, lambda: sent(service, document))

        # The answer is there a moment before the question is forgotten.
        wait_until(lambda: process.memory_info().rss - before <= ROOM_BYTES, "the memory to be given back")
        after = process.memory_info().rss
        megabytes = [f"{size / 1e6:.1f}" for size in (idle, cold, before, peak, after)]
        print("resident MB idle, peak of the first, after it, peak of the second, after it:", *megabytes)  # noqa: T201
        assert peak - before <= PASSING_BYTES
    assert [len(request.body["messages"][0]["content"]) for request in engine.requests()] == [BODY_BYTES] * 2


def sent(service: Service, body: bytes) -> None:
    began = time.monotonic()
    response = httpx2.post(
        f"{service.base_url}/chat/completions",
        content=body,
        headers={"authorization": f"Bearer {KEY}", "content-type": "application/json"},
        timeout=60,
    )
    assert response.status_code == 200, response.text
    print(f"10 MB took {(time.monotonic() - began) * 1000:.0f} ms")  # noqa: T201


def highest(process: psutil.Process, act: Callable[[], None]) -> int:
    """Do something and return the most memory that was seen resident meanwhile."""
    seen = [process.memory_info().rss]
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.002):
            seen.append(process.memory_info().rss)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        act()
    finally:
        over.set()
        looking.join()
    return int(max(seen))
