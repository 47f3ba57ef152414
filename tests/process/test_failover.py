"""Replicas die, freeze and come back while calls run: every call is answered, and the pages say who is how."""

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
from openai import APIStatusError

from hanlin.testing import FakeEngine, Rule, free_port, wait_until
from tests.service import KEY, Service, ask, ask_streamed, toml_of

ANSWER = "春眠不觉晓，处处闻啼鸟。"
RULES = [Rule(text=ANSWER, chunk_delay_s=0.005)]
SECRET = "sk-of-the-upstream"

FAULTS_OF_A_CRASH = ("failed", "unreachable")

# What is too long for a frozen engine, and not for a healthy one on a busy machine.
SILENT_S = 1.0


@pytest.fixture
def replicas() -> Iterator[tuple[FakeEngine, FakeEngine]]:
    with ExitStack() as stack:
        one = stack.enter_context(FakeEngine(RULES, port=free_port()))
        two = stack.enter_context(FakeEngine(RULES, port=free_port()))
        yield one, two


def pair(one: FakeEngine, two: FakeEngine, choose: str, **settings: Any) -> str:
    """Return a `hanlin.toml` with two replicas; every failure is noticed soon, and every call may be tried again."""
    return toml_of(
        {"name": "one", "url": one.base_url, "model": "poet", "profile": "vllm", "key_env": "UPSTREAM_KEY"},
        {"name": "two", "url": two.base_url, "model": "poet", "profile": "vllm"},
        routes=[{"names": ["*"], "deployments": ["one", "two"], "choose": choose}],
        **{"first_byte_s": SILENT_S, "silence_s": SILENT_S, "stall_s": SILENT_S, "probe_s": 1, "retry_share": 10}
        | settings,
    )


def serve(home: Path, config: str) -> Service:
    return Service(home, config=config, environment={"UPSTREAM_KEY": SECRET})


def wait_state(service: Service, name: str, *words: str) -> dict[str, Any]:
    """Wait until GET /health has one of these words for a deployment, and return its row."""

    def row() -> dict[str, Any] | None:
        rows = service.get("/health").json()["deployments"]
        return next((each for each in rows if each["name"] == name and each["state"] in words), None)

    found: dict[str, Any] = wait_until(row, f"{name} to be {' or '.join(words)}", 30)
    return found


def test_every_call_is_answered_while_a_replica_is_killed_and_comes_back(
    replicas: tuple[FakeEngine, FakeEngine], tmp_path: Path
) -> None:
    """A crash takes the calls that run with it; their callers get the whole answer all the same, and only once."""
    one, two = replicas
    over = threading.Event()

    def call(stream: bool) -> list[str]:
        answers = []
        with service.client() as client:
            while not over.is_set():
                if stream:
                    chunks = ask_streamed(client)
                    answers.append("".join(each.delta.content or "" for chunk in chunks for each in chunk.choices))
                else:
                    answers.append(ask(client).choices[0].message.content or "")
        return answers

    with serve(tmp_path / "home", pair(one, two, "least-load")) as service, ThreadPoolExecutor() as pool:
        try:
            calling = [pool.submit(call, number % 2 == 0) for number in range(8)]
            one.wait_for(lambda requests: len(requests) > 20)
            one.kill()
            wait_state(service, "one", "resting")
            one.start()
            wait_state(service, "one", "ready")
            one.wait_for(lambda requests: len(requests) > 5)
        finally:
            over.set()
        answers = [answer for each in calling for answer in each.result()]
        faults = [service.metric("hanlin_attempts_total", deployment="one", fault=fault) for fault in FAULTS_OF_A_CRASH]
        assert sum(faults) >= 1
        assert service.metric("hanlin_attempts_total", deployment="two", fault="") > 0

    assert set(answers) == {ANSWER}
    assert not any(request.state == "running" for engine in (one, two) for request in engine.requests())


def test_a_frozen_replica_leaves_the_order_and_comes_back_by_its_probe(
    replicas: tuple[FakeEngine, FakeEngine], tmp_path: Path
) -> None:
    """It takes connections and says nothing: the worst kind of ill, for whoever waits for it."""
    one, two = replicas
    with serve(tmp_path / "home", pair(one, two, "listed")) as service, service.client(timeout=60) as client:
        assert ask(client).system_fingerprint == "one"
        one.forget_requests()
        one.freeze()

        with ThreadPoolExecutor(8) as pool:  # the calls that find out, each by itself
            first = list(pool.map(lambda _: ask(client).system_fingerprint, range(8)))
        row = wait_state(service, "one", "resting", "probing")
        began = time.monotonic()
        later = [ask(client).system_fingerprint for _ in range(30)]
        took_s = time.monotonic() - began
        ready = service.readiness()
        two.forget_requests()
        one.thaw()
        wait_state(service, "one", "ready")
        back = ask(client).system_fingerprint

        assert first == ["two"] * 8
        assert later == ["two"] * 30
        assert back == "one"
    assert "stalled" in row["reason"]
    assert ready == 200
    # 30 calls that waited for it would have taken a minute; the two are those that a caller may have made as its probe.
    assert took_s < 2 * SILENT_S + 5
    asked = [request for request in one.requests() if request.body["messages"][-1]["content"] != "1"]
    assert len(asked) <= 8 + 3 + 1


def test_an_idle_replica_that_freezes_is_found_by_its_probe(
    replicas: tuple[FakeEngine, FakeEngine], tmp_path: Path
) -> None:
    """Nobody calls at night; in the morning nobody should be the first to wait."""
    one, two = replicas
    with serve(tmp_path / "home", pair(one, two, "listed", stall_s=0.5)) as service, service.client() as client:
        one.freeze()

        row = wait_state(service, "one", "resting", "probing")
        answer = ask(client)

        assert answer.system_fingerprint == "two"
    assert "stalled" in row["reason"]
    asked = [request.body for request in two.requests()]
    assert {body["max_tokens"] for body in asked if body["messages"][-1]["content"] == "1"} == {1}


def test_a_service_whose_only_deployment_is_down_is_not_ready_and_says_why(
    replicas: tuple[FakeEngine, FakeEngine], tmp_path: Path
) -> None:
    """A balancer takes it out; the reason is for people, and tells nothing that strangers should not know."""
    one, _ = replicas
    row = {"name": "one", "url": one.base_url, "model": "poet", "key_env": "UPSTREAM_KEY"}
    with serve(tmp_path / "home", toml_of(row, probe_s=1, connect_s=2)) as service:
        one.kill()
        with service.client() as client, pytest.raises(APIStatusError, match="unavailable"):
            ask(client)  # two tries, and both in vain
        wait_until(lambda: service.readiness() == 503, "the end of readiness", 30)

        ready = httpx2.get(f"{service.url}/ready")
        health = httpx2.get(f"{service.url}/health")
        state = service.metric("hanlin_deployment_state", deployment="one", hanlin_deployment_state="resting")
        probing = service.metric("hanlin_deployment_state", deployment="one", hanlin_deployment_state="probing")
        one.start()
        wait_until(lambda: service.readiness() == 200, "readiness", 30)

    assert "unreachable" in ready.json()["reason"]
    assert ready.headers["retry-after"]
    assert health.json()["status"] == "degraded"
    assert state or probing
    port = one.url.rpartition(":")[2]
    assert not any(secret in page.text for page in (ready, health) for secret in (SECRET, KEY, port, "127.0.0.1"))


async def test_a_stream_whose_replica_freezes_amid_the_answer_is_continued(
    replicas: tuple[FakeEngine, FakeEngine], tmp_path: Path
) -> None:
    """The words that have left stay; the other replica goes on behind them."""
    one, two = replicas
    one.rules([Rule(text=ANSWER, chunk_delay_s=0.1)])
    service = serve(tmp_path / "home", pair(one, two, "listed", silence_s=0.5))
    await asyncio.to_thread(service.start)
    try:
        async with service.async_client() as client:
            stream = await client.chat.completions.create(
                model="qwen-plus", messages=[{"role": "user", "content": "背一首诗"}], stream=True
            )
            text, told = "", []
            async for chunk in stream:
                text += "".join(each.delta.content or "" for each in chunk.choices)
                told.append(chunk.system_fingerprint or "")
                if len(text) == 3:
                    one.freeze()
    finally:
        one.thaw()
        await asyncio.to_thread(service.close)

    assert text == ANSWER
    assert set(told) == {"one", "two"}
    assert told == sorted(told)
    [continued] = [request for request in two.requests() if request.body["messages"][-1]["role"] == "assistant"]
    assert ANSWER.startswith(continued.body["messages"][-1]["content"])
