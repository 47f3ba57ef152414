"""The embedded embedding model: its windows and counts, and the process that comes and goes between calls."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from hanlin.engines.embedding_child import ChildEmbedder
from hanlin.engines.llama import Machine, Orders, embedding_orders
from hanlin.engines.profiles import EmbeddingProfile
from hanlin.errors import ContextLengthExceeded, EngineUnavailable
from hanlin.types import EmbeddingRequest, EmbeddingResult
from tests.canned_server import Asked, CannedServer, whole

READY = "import sys; sys.stdin.readline(); print('{\"ready\": 1}', flush=True); sys.stdin.read()"
DEAD = "raise SystemExit(3)"
BEGIN, END = 0, 2
WINDOW_TOKENS = 12
WAIT_S = 20.0


class Program(Orders):
    """Orders that start a small program in place of llama.cpp; the test itself answers on the socket."""

    program = READY

    def command(self) -> list[str]:
        return [sys.executable, "-I", "-S", "-c", self.program]


class Dying(Program):
    program = DEAD


async def llama(asked: Asked, writer: asyncio.StreamWriter) -> None:
    """Answer as llama.cpp does. A token is a character's number; a vector says how long its window was."""
    answer: Any = {}
    body = msgspec.json.decode(asked.body) if asked.body else {}
    if asked.path == "/tokenize":
        tokens = [ord(character) for character in body["content"]]
        answer = {"tokens": [BEGIN, *tokens, END] if body["add_special"] else tokens}
    elif asked.path == "/v1/embeddings":
        (window,) = body["input"]
        assert len(window) <= WINDOW_TOKENS
        assert (window[0], window[-1], body["embd_normalize"]) == (BEGIN, END, -1)
        answer = {"data": [{"embedding": [float(len(window) - 2), 1.0], "index": 0}]}
    writer.write(whole(200, msgspec.json.encode(answer)))


New = Callable[..., ChildEmbedder]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[CannedServer]:
    async with CannedServer(llama, tmp_path / "e5.sock") as server:
        yield server


@pytest.fixture
async def new(tmp_path: Path, server: CannedServer) -> AsyncIterator[New]:
    """Make embedders; whatever a test leaves running ends with it."""
    made: list[ChildEmbedder] = []

    def make(kind: type[Program] = Program, **options: Any) -> ChildEmbedder:
        told = embedding_orders(
            "e5", tmp_path / "e5.gguf", tmp_path / "e5.sock", Machine(0, 1), window_tokens=WINDOW_TOKENS
        )
        profile = EmbeddingProfile(document="d: ", query="query: ")
        limits = {"stall_s": 60.0, "load_wait_s": 10.0, **options}
        embedder = ChildEmbedder(kind(**asdict(told)), profile, **limits)
        made.append(embedder)
        return embedder

    yield make
    for embedder in made:
        await embedder.close()


def request(*texts: str, **fields: Any) -> EmbeddingRequest:
    return EmbeddingRequest("text-embedding-v4", texts, **fields)


async def embed(
    embedder: ChildEmbedder, *texts: str, limit_tokens: int | None = None, **fields: Any
) -> EmbeddingResult:
    async with asyncio.timeout(WAIT_S):
        return await embedder.embed(request(*texts, **fields), limit_tokens)


def read(server: CannedServer) -> list[str]:
    """Return the texts of the windows that were read."""
    bodies = [msgspec.json.decode(asked.body) for asked in server.asked if asked.path == "/v1/embeddings"]
    return ["".join(map(chr, body["input"][0][1:-1])) for body in bodies]


async def test_texts_get_their_prefix_and_are_normalised(new: New, server: CannedServer) -> None:
    """What the model was trained with, and nothing that the caller has to know."""
    embedder = new()

    await embed(embedder, "ＡＢ\n", "c")
    await embed(embedder, "c", purpose="query")

    assert read(server) == ["d: AB", "d: c", "query: c"]


async def test_a_long_text_is_read_in_windows_that_count_by_their_tokens(new: New, server: CannedServer) -> None:
    """Thirteen tokens in windows of ten: 10/13 of the first and 3/13 of the second, with the length 1."""
    result = await embed(new(), "0123456789")

    assert read(server) == ["d: 0123456", "789"]
    first = (10 * 10 + 3 * 3) / 13
    length = (first**2 + 1) ** 0.5
    assert result.vectors[0] == pytest.approx([first / length, 1 / length])


async def test_only_the_callers_own_tokens_are_counted(new: New) -> None:
    """Neither the prefix nor the tokens around a window are the caller's."""
    result = await embed(new(), "abc", "0123456789")

    assert result.usage.prompt == 13


async def test_a_text_above_the_limit_is_refused_before_anything_is_read(new: New, server: CannedServer) -> None:
    """One text that is too long must not cost the time of the nine before it."""
    with pytest.raises(ContextLengthExceeded) as refused:
        await embed(new(), "a", "abcdef", limit_tokens=5)

    assert refused.value.message.startswith("Range of input length should be [1, 5]")
    assert "got 6" in refused.value.message
    assert refused.value.param == "input"
    assert read(server) == []


async def test_the_process_exists_only_while_it_is_wanted(new: New) -> None:
    """It takes hundreds of megabytes, and most services are never asked for a vector."""
    embedder = new(idle_s=0.2)
    assert embedder.pid is None
    assert embedder.why_not_ready() is None

    await embed(embedder, "a")
    pid = embedder.pid

    assert pid is not None
    assert psutil.pid_exists(pid)
    async with asyncio.timeout(WAIT_S):
        while not embedder.asleep:  # noqa: ASYNC110 (what a process does sets no event)
            await asyncio.sleep(0.01)
    assert not psutil.pid_exists(pid)
    await embed(embedder, "a")
    assert embedder.pid not in (None, pid)


async def test_a_call_puts_the_end_of_the_process_off(new: New) -> None:
    """Somebody who asks every few seconds must not wait for a start each time."""
    embedder = new(idle_s=0.4)
    await embed(embedder, "a")
    pid = embedder.pid

    for _ in range(5):
        await asyncio.sleep(0.15)
        await embed(embedder, "a")

    assert embedder.pid == pid


async def test_calls_at_once_share_one_process(new: New, server: CannedServer) -> None:
    """The first one starts it, the others wait for it."""
    embedder = new()

    await asyncio.gather(*(embed(embedder, "a") for _ in range(8)))

    assert read(server) == ["d: a"] * 8
    assert server.asked[0].path == "/tokenize"
    assert [asked.path for asked in server.asked].count("/metrics") == 0


async def test_a_process_that_cannot_start_is_said(new: New) -> None:
    """With what is going on, so that a caller comes back and an operator knows why."""
    embedder = new(Dying, load_wait_s=1.0)

    with pytest.raises(EngineUnavailable, match="e5: exited with code 3"):
        await embed(embedder, "a")

    assert "exited with code 3" in (embedder.why_not_ready() or "")
    assert "exited with code 3" in (embedder.trouble() or "")
