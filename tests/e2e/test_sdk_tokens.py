"""Temporary keys as front ends use them: a server fetches one, and the official SDK calls with it."""

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx2
import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from hanlin.testing import FakeEngine, Rule
from tests.service import KEY, Service

QUESTION: list[Any] = [{"role": "user", "content": "你是谁？"}]


@pytest.fixture
def token(service: Service) -> str:
    answer = httpx2.post(
        f"{service.url}/api/v1/tokens?expire_in_seconds=300", headers={"Authorization": f"Bearer {KEY}"}, timeout=30
    )
    assert answer.status_code == 200
    return str(answer.json()["token"])


@pytest.fixture
def visitor(service: Service, token: str) -> Iterator[OpenAI]:
    """Somebody who was given a temporary key."""
    with service.client(api_key=token, timeout=60) as client:
        yield client


def test_a_visitor_asks_and_streams(visitor: OpenAI, engine: FakeEngine) -> None:
    """The SDK sees a key like any other."""
    engine.rules([Rule(text="你好")])

    answer = visitor.chat.completions.create(model="qwen-plus", messages=QUESTION)
    chunks = list(visitor.chat.completions.create(model="qwen-plus", messages=QUESTION, stream=True))

    assert answer.choices[0].message.content == "你好"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "你好"
    assert "qwen-plus" in [model.id for model in visitor.models.list()]


async def test_many_visitors_ask_at_once(service: Service, engine: FakeEngine, token: str) -> None:
    """One key for a page, fifty pages open."""
    engine.rules([Rule(text="你好")])
    async with service.async_client(api_key=token, timeout=60) as client:
        answers = await asyncio.gather(*(ask(client) for _ in range(50)))

    assert set(answers) == {"你好"}


async def ask(client: AsyncOpenAI) -> str | None:
    answer = await client.chat.completions.create(model="qwen-plus", messages=QUESTION)
    return answer.choices[0].message.content


def test_a_key_that_was_tampered_with_is_no_key(service: Service, token: str) -> None:
    """The SDK raises what it raises for a wrong key, and does not try again."""
    with (
        service.client(api_key=token[:-1] + ("A" if token[-1] != "A" else "B"), timeout=60) as client,
        pytest.raises(openai.AuthenticationError) as error,
    ):
        client.chat.completions.create(model="qwen-plus", messages=QUESTION)

    assert error.value.code == "invalid_api_key"


def test_the_sdk_reads_the_flat_refusal_of_a_wrong_key(service: Service) -> None:
    """Whoever fetches temporary keys through the SDK's own client is told the code and the words."""
    with (
        service.client(api_key="sk-nobodys", base_url=f"{service.url}/api/v1") as client,
        pytest.raises(openai.AuthenticationError) as error,
    ):
        client.post("/tokens", cast_to=object)

    assert error.value.code == "InvalidApiKey"
    assert error.value.status_code == 401
