"""The service is told to end while calls are open: they are finished, or they are told."""

import asyncio
import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from openai import APIConnectionError, APIStatusError, AsyncOpenAI

from hanlin.testing import FakeEngine, Rule, wait_until
from tests.service import KEY, Service, toml_of

STREAMS = 200
CHUNKS = tuple(f"{number} " for number in range(30))
QUESTION: list[Any] = [{"role": "user", "content": "count"}]
FAR_TOO_LONG = Rule(text="长" * 20_000, chunk_delay_s=0.05)


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    with FakeEngine([Rule(chunks=CHUNKS, chunk_delay_s=0.1)]) as engine:
        yield engine


def config(engine: FakeEngine, **settings: Any) -> str:
    return toml_of({"name": "fake", "url": engine.base_url, "slots": 2 * STREAMS}, **settings)


async def ended(service: Service) -> int:
    assert service.process is not None
    return await asyncio.wait_for(asyncio.to_thread(service.process.wait), 40)


class Opened:
    """Counts streams whose first chunk has come, and says when all have."""

    def __init__(self, wanted: int) -> None:
        self.all = asyncio.Event()
        self._left = wanted

    def another(self) -> None:
        self._left -= 1
        if not self._left:
            self.all.set()


async def read(client: AsyncOpenAI, opened: Opened) -> tuple[str, str | None]:
    """Read a stream to its end, and return its text and why it ended."""
    stream = await client.chat.completions.create(model="qwen-plus", messages=QUESTION, stream=True)
    text, reason, first = "", None, True
    async for chunk in stream:
        if first:
            opened.another()
            first = False
        for choice in chunk.choices:
            text += choice.delta.content or ""
            reason = choice.finish_reason or reason
    return text, reason


async def test_200_streams_that_are_open_at_sigterm_end_whole(engine: FakeEngine, tmp_path: Path) -> None:
    """A deployment of a new version happens at the busiest hour as well, and nobody may notice it."""
    with Service(tmp_path / "home", config=config(engine)) as service:
        async with service.async_client(timeout=60) as client, service.async_client(timeout=10) as newcomer:
            opened = Opened(STREAMS)
            reading = [asyncio.create_task(read(client, opened)) for _ in range(STREAMS)]
            await opened.all.wait()

            service.process.send_signal(signal.SIGTERM)  # type: ignore[union-attr]
            await asyncio.to_thread(wait_until, lambda: service.readiness() != 200, "the end of readiness")
            refusal = await refused(newcomer)
            found = await asyncio.gather(*reading)
            code = await ended(service)

        assert set(found) == {("".join(CHUNKS), "stop")}
        assert code == 0
        assert refusal in (None, (503, "ModelUnavailable"))
        assert re.search(r"finishing 20\d open calls", service.output())
    assert len(engine.requests()) == STREAMS


async def refused(client: AsyncOpenAI) -> tuple[int, str | None] | None:
    """Make a call that must be refused; return status and code, None where nobody listens any more."""
    try:
        await client.chat.completions.create(model="qwen-plus", messages=QUESTION)
    except APIStatusError as problem:
        return problem.status_code, problem.code
    except APIConnectionError:
        return None
    raise AssertionError("it was answered")


async def test_who_outlasts_the_limit_is_told_once(engine: FakeEngine, tmp_path: Path) -> None:
    """A stream that just stops looks like an answer; each that is cut says so, in one frame that clients know."""
    engine.rules([FAR_TOO_LONG])
    with Service(tmp_path / "home", config=config(engine, shutdown_s=0.5)) as service:
        limits = httpx2.Limits(max_connections=None)
        headers = {"authorization": f"Bearer {KEY}"}
        async with httpx2.AsyncClient(base_url=service.base_url, headers=headers, limits=limits, timeout=60) as client:
            body = {"model": "qwen-plus", "messages": QUESTION}
            streams = [
                asyncio.create_task(client.post("/chat/completions", json={**body, "stream": True})) for _ in range(20)
            ]
            wholes = [asyncio.create_task(client.post("/chat/completions", json=body)) for _ in range(5)]
            await engine.wait_for_async(
                lambda requests: len(requests) == 25 and all(each.tokens_made > 2 for each in requests)
            )

            service.process.send_signal(signal.SIGTERM)  # type: ignore[union-attr]
            cut = await asyncio.gather(*streams)
            untold = await asyncio.gather(*wholes)
            code = await ended(service)

    assert code == 0
    for response in cut:
        frames = [line.removeprefix("data: ") for line in response.text.splitlines() if line.startswith("data: ")]
        errors = [frame for frame in frames if '"error"' in frame]
        assert errors == frames[-1:]
        assert json.loads(errors[0])["error"]["code"] == "ModelUnavailable"
    assert {(response.status_code, response.json()["error"]["code"]) for response in untold} == {
        (503, "ModelUnavailable")
    }
    assert {request.state for request in engine.requests()} == {"cancelled"}


async def test_who_waits_in_line_is_served_before_the_end(engine: FakeEngine, tmp_path: Path) -> None:
    """They were taken on: to wait is no reason to be sent away."""
    engine.rules([Rule(text="好", first_delay_s=0.2)])
    row = {"name": "fake", "url": engine.base_url, "slots": 1}
    with Service(tmp_path / "home", config=toml_of(row)) as service:
        async with service.async_client(timeout=60) as client:
            asking = [
                asyncio.create_task(client.chat.completions.create(model="qwen-plus", messages=QUESTION))
                for _ in range(5)
            ]
            while service.metric("hanlin_deployment_calls_waiting", deployment="fake") < 4:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

            service.process.send_signal(signal.SIGTERM)  # type: ignore[union-attr]
            answers = await asyncio.gather(*asking)
            code = await ended(service)

    assert [answer.choices[0].message.content for answer in answers] == ["好"] * 5
    assert code == 0
