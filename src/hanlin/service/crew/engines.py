"""Engines in the main process, as its workers see them: each call is a connection, and hanging up ends it there."""

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from hanlin.engines.engine import Counters
from hanlin.engines.plain import is_plain
from hanlin.engines.profiles import EngineProfile
from hanlin.errors import EngineFailed
from hanlin.service.crew.channel import Channel, connect
from hanlin.service.crew.failures import error_of
from hanlin.service.crew.line import Line
from hanlin.service.crew.messages import (
    Answer,
    Chat,
    Count,
    Counted,
    Embed,
    EngineCall,
    Failed,
    Fill,
    Over,
    Pieces,
    Said,
    Shown,
    Steps,
    Vectors,
    decode_said,
    encode_first,
)
from hanlin.service.crew.places import main_is_away
from hanlin.types import ChatRequest, ChatResult, CompletionRequest, EmbeddingRequest, EmbeddingResult, Events, Texts
from hanlin.words import say


class Remote:
    """Where an engine of the main process is: the socket, its deployment's name, and how it was shown last.

    `line` knows whether the main process lives.
    """

    def __init__(self, line: Line, socket: Path, name: str, shown: Callable[[], Shown | None]) -> None:
        self.name = name
        self._line = line
        self._socket = socket
        self._shown = shown

    def why_not_ready(self) -> str | None:
        shown = self._shown()
        return say("starting", "正在启动") if shown is None else shown.why_not_ready

    def trouble(self) -> str | None:
        shown = self._shown()
        return None if shown is None else shown.trouble

    def counters(self) -> Counters:
        shown = self._shown()
        return Counters() if shown is None else Counters(shown.restarts, shown.connections)

    @asynccontextmanager
    async def called(self, call: EngineCall) -> AsyncIterator[Channel]:
        """Yield a connection on which the answer to a call comes. Raises EngineUnavailable."""
        if self._line.is_silent:
            raise main_is_away()
        try:
            channel = await connect(self._socket)
        except OSError as error:
            raise main_is_away() from error
        self._line.calls.add(channel)
        try:
            channel.send(encode_first(call))
            yield channel
        finally:
            self._line.calls.discard(channel)
            channel.close()

    async def ask(self, call: EngineCall) -> Said:
        """Return the one answer to a call. Raises what the engine raises."""
        async with self.called(call) as channel:
            return await heard(channel)


async def heard(channel: Channel) -> Said:
    """Return what comes next. Raises the error that the engine raised, EngineFailed where nothing comes."""
    data = await channel.receive()
    if data is None:
        raise EngineFailed("the main process hung up")
    said = decode_said(data)
    if isinstance(said, Failed):
        raise error_of(said.failure)
    return said


class RemoteEngine:
    """An `Engine` in the main process."""

    def __init__(self, remote: Remote, profile: EngineProfile) -> None:
        self._remote = remote
        self._profile = profile

    def generate(self, request: ChatRequest) -> Events:
        return self._events(Chat(self._remote.name, _bare(request)))

    def whole(self, request: ChatRequest) -> Coroutine[Any, Any, ChatResult] | None:
        """As `ChatEngine.whole` decides."""
        if request.stream or not self._profile.whole or not is_plain(request, self._profile):
            return None
        return self._whole(Chat(self._remote.name, _bare(request), whole=True))

    async def _whole(self, call: Chat) -> ChatResult:
        said = await self._remote.ask(call)
        assert isinstance(said, Answer)
        return said.result

    def fill(self, request: CompletionRequest) -> Events:
        return self._events(Fill(self._remote.name, request))

    async def _events(self, call: EngineCall) -> Events:
        async with self._remote.called(call) as channel:
            while not isinstance(said := await heard(channel), Over):
                if isinstance(said, Pieces):
                    yield Texts(said.texts)
                else:
                    assert isinstance(said, Steps)
                    yield said.events

    async def count(self, request: ChatRequest) -> int | None:
        said = await self._remote.ask(Count(self._remote.name, _bare(request)))
        assert isinstance(said, Counted)
        return said.tokens

    def why_not_ready(self) -> str | None:
        return self._remote.why_not_ready()

    def trouble(self) -> str | None:
        return self._remote.trouble()

    def counters(self) -> Counters:
        return self._remote.counters()

    async def close(self) -> None:
        """Nothing of it is here: it is the main process' to end."""


class RemoteEmbedder:
    """An `Embedder` in the main process."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    async def embed(self, request: EmbeddingRequest, limit_tokens: int | None) -> EmbeddingResult:
        said = await self._remote.ask(Embed(self._remote.name, request, limit_tokens))
        assert isinstance(said, Vectors)
        return said.result

    def why_not_ready(self) -> str | None:
        return self._remote.why_not_ready()

    def trouble(self) -> str | None:
        return self._remote.trouble()

    async def close(self) -> None:
        """Nothing of it is here: it is the main process' to end."""


def _bare(request: ChatRequest) -> ChatRequest:
    """Return a request without what only makes sense in this process: it means the same."""
    return msgspec.structs.replace(request, sent=None, form=None)
