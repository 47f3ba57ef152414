"""Text completions and vectors over HTTP: passed on, refused, counted and told as chat is."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from hanlin.home import Home
from hanlin.store.database import open_store
from hanlin.store.rows import LedgerRow, Outcome
from hanlin.testing import FakeEngine, Rule, free_port, wait_until
from tests.service import KEY, Service, toml_of

TEXT, VECTORS, CHAT = "/v1/completions", "/v1/embeddings", "/v1/chat/completions"
BODIES: dict[str, dict[str, Any]] = {
    TEXT: {"model": "qwen-coder-turbo", "prompt": "def f("},
    VECTORS: {"model": "text-embedding-v4", "input": "你好", "dimensions": 1024},
}
NARROW: dict[str, dict[str, Any]] = {
    TEXT: {"model": "qwen2.5-coder-7b-instruct", "prompt": "def f("},
    VECTORS: {"model": "text-embedding-v1", "input": "你好", "dimensions": 1536},
}
BUSY: dict[str, dict[str, Any]] = {
    TEXT: {"model": "qwen2.5-coder-32b-instruct", "prompt": "def f("},
    VECTORS: {"model": "text-embedding-v2", "input": "你好", "dimensions": 1536},
}
SPARED: dict[str, dict[str, Any]] = {
    TEXT: {"model": "qwen2.5-coder-14b-instruct", "prompt": "def f("},
    VECTORS: {"model": "text-embedding-v3", "input": "你好", "dimensions": 1024},
}
ROUTES = [TEXT, VECTORS]


@pytest.fixture(scope="module")
def engine() -> Iterator[FakeEngine]:
    slow = Rule(contains="slowly", text="慢" * 2000, chunk_delay_s=0.02)
    busy = Rule(model="busy", status=429, headers={"retry-after": "30"})
    with FakeEngine([slow, busy, Rule(text="x): pass")]) as engine:
        yield engine


@pytest.fixture(scope="module")
def service(engine: FakeEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    nobody = f"http://127.0.0.1:{free_port()}/v1"
    both = [BODIES[TEXT]["model"], BODIES[VECTORS]["model"]]
    config = toml_of(
        {"name": "bad", "url": nobody, "serves": both},
        {"name": "good", "url": engine.base_url, "serves": both},
        {"name": "narrow", "url": engine.base_url, "serves": ["qwen-max", *_names(NARROW)], "slots": 1},
        {"name": "busy", "url": engine.base_url, "model": "busy", "serves": _names(BUSY)},
        {"name": "gone", "url": nobody, "serves": _names(SPARED)},
        {"name": "spare", "url": engine.base_url, "serves": _names(SPARED)},
        routes=[{"names": _names(SPARED), "deployments": ["gone"], "fallbacks": ["spare"]}],
        queue_limit=1,
        probe_s=3600,
    )
    with Service(tmp_path_factory.mktemp("home"), config=config) as service:
        yield service


def _names(bodies: dict[str, dict[str, Any]]) -> list[str]:
    return [body["model"] for body in bodies.values()]


def post(service: Service, path: str, body: dict[str, Any], **headers: str) -> httpx2.Response:
    sent = {"authorization": f"Bearer {KEY}", **headers}
    return httpx2.post(service.url + path, json=body, headers=sent, timeout=30)


def row_of(service: Service, answer: httpx2.Response) -> LedgerRow:
    """Wait for a call's row."""

    async def find() -> LedgerRow | None:
        async with await open_store(Home(service.home).database) as store:
            return await store.ledger.find(answer.headers["x-request-id"])

    found: LedgerRow = wait_until(lambda: asyncio.run(find()), "the row of a call")
    return found


@pytest.mark.parametrize("path", ROUTES)
def test_a_call_is_passed_on_and_what_failed_rests(service: Service, path: str) -> None:
    """The caller gets an answer and is told who was tried; so are the pages; and later calls do not try it again."""
    told: list[str] = []
    while not told or "bad" in told[-1]:
        answer = post(service, path, BODIES[path], **{"x-hanlin-timings": "1"})
        told.append(answer.headers["x-hanlin-attempts"])
        assert answer.status_code == 200
        assert len(told) < 5

    phases = [part.partition(";")[0] for part in answer.headers["server-timing"].split(", ")]
    assert phases == ["key", "body", "plan", "queue", "first"]
    assert told[-1] == "good"
    assert service.metric("hanlin_attempts_total", deployment="bad", fault="unreachable") >= 2
    rows = service.get("/health").json()["embeddings" if path == VECTORS else "deployments"]
    reasons = {row["name"]: row["reason"] for row in rows}
    assert "unreachable" in reasons["bad"]
    assert reasons["good"] is None
    row = row_of(service, answer)
    assert (row.outcome, row.deployment, row.estimated) == (Outcome.ANSWERED, "good", False)
    assert row.usage.prompt == answer.json()["usage"]["prompt_tokens"]
    assert row.queue_ms is not None
    assert row.first_token_ms is not None


@pytest.mark.parametrize("path", ROUTES)
def test_a_busy_servers_wait_is_passed_on_and_kept(service: Service, engine: FakeEngine, path: str) -> None:
    """The second call is told so without a word to the server, which asked to be left alone."""
    engine.forget_requests()

    first, second = (post(service, path, BUSY[path]) for _ in range(2))

    for refusal in (first, second):
        assert (refusal.status_code, refusal.json()["error"]["code"]) == (429, "limit_requests")
        assert 1 <= int(refusal.headers["retry-after"]) <= 30
    assert len(engine.requests()) <= 1


@pytest.mark.parametrize("path", ROUTES)
def test_a_full_line_refuses_and_says_when_to_come_back(service: Service, engine: FakeEngine, path: str) -> None:
    """One is answered, one waits, and the next one is told so: whatever they ask for, it is one server."""
    engine.forget_requests()
    slow = {"model": "qwen-max", "messages": [{"role": "user", "content": "slowly"}], "stream": True}
    answers: list[httpx2.Response] = []

    def wait_in_line() -> None:
        answers.append(post(service, path, NARROW[path]))

    with contextlib.ExitStack() as stack:
        stack.enter_context(
            httpx2.stream("POST", service.url + CHAT, json=slow, headers={"authorization": f"Bearer {KEY}"}, timeout=30)
        )
        engine.wait_for(lambda requests: len(requests) == 1)
        waiting = threading.Thread(target=wait_in_line)
        waiting.start()
        wait_until(lambda: _waiting(service) == 1, "one in line")
        refusal = post(service, path, NARROW[path])
    waiting.join()

    assert (refusal.status_code, refusal.json()["error"]["code"]) == (503, "ModelServingError")
    assert int(refusal.headers["retry-after"]) >= 1
    assert [answer.status_code for answer in answers] == [200]


def _waiting(service: Service) -> int:
    waiting: dict[str, int] = {row["name"]: row["waiting"] for row in service.get("/health").json()["deployments"]}
    return waiting["narrow"]


def test_another_model_completes_a_text_where_the_operator_says_so(service: Service) -> None:
    """As for chat; the answer says who gave it."""
    answer = post(service, TEXT, SPARED[TEXT])

    assert answer.status_code == 200
    assert answer.json()["system_fingerprint"] == "spare"
    assert answer.headers["x-hanlin-attempts"].startswith("gone;fault=unreachable")
    assert row_of(service, answer).deployment == "spare"


def test_another_model_makes_no_vectors_whatever_the_operator_says_of_chat(service: Service) -> None:
    """They would be found in no index that was built with the right ones."""
    answer = post(service, VECTORS, SPARED[VECTORS])

    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "ModelUnavailable")
    assert "spare" not in answer.headers["x-hanlin-attempts"]


async def test_a_text_completion_goes_on_where_another_broke_off(tmp_path: Path) -> None:
    """Two engines, one text: the caller sees the whole of it once, and who went on in the chunks' fingerprint."""
    with (
        FakeEngine([Rule(chunks=("one ", "two "), cut_after_chunks=2)]) as breaking,
        FakeEngine([Rule(contains="count: one two ", chunks=("three ", "four")), Rule(status=500)]) as going_on,
    ):
        config = toml_of(
            *({"name": name, "url": one.base_url} for name, one in (("first", breaking), ("second", going_on))),
            probe_s=3600,
        )
        service = Service(tmp_path / "home", config=config)
        await asyncio.to_thread(service.start)
        try:
            async with service.async_client() as client:
                stream = await client.completions.create(model="qwen-coder-turbo", prompt="count: ", stream=True)
                chunks = [chunk async for chunk in stream]
        finally:
            await asyncio.to_thread(service.close)

    assert "".join(chunk.choices[0].text for chunk in chunks) == "one two three four"
    assert [chunk.system_fingerprint for chunk in chunks if chunk.choices[0].text] == ["first"] * 2 + ["second"] * 2
