"""Servers that speak OpenAI embeddings: what they are asked, and what their answers are taken for."""

from typing import Any

import msgspec
import pytest

from hanlin.engines.embedding import ServerEmbedder, read
from hanlin.errors import EngineBusy, EngineFailed, EngineRefused, EngineUnavailable, InvalidRequest
from hanlin.types import EmbeddingRequest
from tests.canned_server import CannedServer, whole

ROWS = [{"index": 1, "embedding": [0.0, 1.0]}, {"index": 0, "embedding": [1.0, 0.0]}]


def body(rows: Any = None, **fields: Any) -> bytes:
    return msgspec.json.encode({"object": "list", "data": ROWS if rows is None else rows, **fields})


def test_vectors_come_in_the_order_of_their_texts() -> None:
    """A server may answer in any order: each row has its index."""
    result = read(body(usage={"prompt_tokens": 7, "total_tokens": 7}), ("a", "b"))

    assert result.vectors == ([1.0, 0.0], [0.0, 1.0])
    assert result.usage.prompt == 7


def test_tokens_that_a_server_does_not_count_are_guessed() -> None:
    """About four bytes a token; SDKs expect the field."""
    assert read(body(), ("12345678", "")).usage.prompt == 4


@pytest.mark.parametrize(
    "answer",
    [
        b"<html>",
        b'{"data": "none"}',
        body([]),
        body(ROWS[:1]),
        body([*ROWS, {"index": 2, "embedding": [1.0, 1.0]}]),
        body([ROWS[0], {"index": 0, "embedding": [1.0]}]),
        body([{"index": 0, "embedding": []}, {"index": 1, "embedding": []}]),
        body([ROWS[0], {"index": 0, "embedding": [None, 1.0]}]),
    ],
)
def test_an_answer_that_is_none_is_the_engines_failure(answer: bytes) -> None:
    """A wrong vector would go into an index and stay there."""
    with pytest.raises(EngineFailed):
        read(answer, ("a", "b"))


@pytest.mark.parametrize(
    ("options", "fields", "wanted"),
    [
        ({}, {}, {"model": "text-embedding-v4", "input": ["a"], "encoding_format": "float"}),
        ({"model": "bge-m3"}, {}, {"model": "bge-m3", "input": ["a"], "encoding_format": "float"}),
        (
            {},
            {"dimensions": 256, "encoding": "base64"},
            {"model": "text-embedding-v4", "input": ["a"], "encoding_format": "float", "dimensions": 256},
        ),
    ],
)
async def test_what_a_server_is_asked(options: dict[str, Any], fields: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Its own name for the model, floats whatever the caller wants, and a length only where the caller said one."""
    async with CannedServer(whole(200, body(ROWS[1:]))) as server:
        embedder = ServerEmbedder(f"http://127.0.0.1:{server.address.port}/v1", key="sk-1", **options)
        await embedder.embed(EmbeddingRequest("text-embedding-v4", ("a",), **fields), None)
        await embedder.close()

    (asked,) = server.asked
    assert asked.path == "/v1/embeddings"
    assert msgspec.json.decode(asked.body) == wanted
    assert "Authorization: Bearer sk-1" in asked.head


@pytest.mark.parametrize(
    ("status", "answer", "kind", "words"),
    [
        (400, b'{"error": {"message": "too long"}}', InvalidRequest, "the engine refused the request: too long"),
        (404, b"no such model", EngineRefused, "no such model"),
        (429, b'{"error": {"message": "slow down"}}', EngineBusy, "slow down"),
        (503, b"", EngineUnavailable, "503"),
        (500, b'{"error": {"message": "oops"}}', EngineFailed, "the engine answered 500: oops"),
        (401, b'{"error": {"message": "sk-1 is wrong"}}', EngineRefused, r"key of its deployment: it answered 401"),
    ],
)
async def test_a_refusal_is_told_by_its_status_first(
    status: int, answer: bytes, kind: type[Exception], words: str
) -> None:
    """What is wrong with the request is the caller's business, what is wrong with the server the operator's."""
    async with CannedServer(whole(status, answer)) as server:
        embedder = ServerEmbedder(f"http://127.0.0.1:{server.address.port}/v1")
        with pytest.raises(kind, match=words):
            await embedder.embed(EmbeddingRequest("text-embedding-v4", ("a",)), None)
        await embedder.close()


async def test_a_server_that_quotes_our_key_is_not_quoted() -> None:
    """It is the operator's, and no caller's to read."""
    async with CannedServer(whole(500, b'{"error": {"message": "no good: sk-upstream-1"}}')) as server:
        embedder = ServerEmbedder(f"http://127.0.0.1:{server.address.port}/v1", key="sk-upstream-1")
        with pytest.raises(EngineFailed) as failure:
            await embedder.embed(EmbeddingRequest("text-embedding-v4", ("a",)), None)
        await embedder.close()

    assert failure.value.message.endswith("no good: ••••)")
    assert "sk-upstream-1" not in str(failure.value)
