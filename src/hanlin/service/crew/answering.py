"""Engines of the main process answer the calls of its workers, and stop when these hang up."""

import asyncio
import contextlib
import logging

from hanlin.engines.embedding import Embedder
from hanlin.engines.engine import Engine
from hanlin.errors import EngineUnavailable, HanlinError, InternalError
from hanlin.service.crew.channel import Channel
from hanlin.service.crew.failures import failure_of
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
    Steps,
    Surface,
    Vectors,
    encode,
)
from hanlin.service.deployments import Deployment
from hanlin.service.embedding_planning import EmbeddingDeployment
from hanlin.service.studio import Studio
from hanlin.types import ChatRequest, Events, Texts, fold
from hanlin.words import say

log = logging.getLogger("hanlin.service")


async def serve_call(studio: Studio, call: EngineCall, channel: Channel) -> None:
    """Have an engine answer a call, and end that when the worker hangs up."""
    answering = asyncio.create_task(_answer(studio, call, channel))
    leaving = asyncio.create_task(channel.ended())
    try:
        await asyncio.wait((answering, leaving), return_when=asyncio.FIRST_COMPLETED)
    finally:
        answering.cancel()
        leaving.cancel()
        await asyncio.gather(answering, leaving, return_exceptions=True)


def deployment(studio: Studio, surface: Surface, name: str) -> Deployment | EmbeddingDeployment | None:
    """Return what the main process has by a name; None when it has none any more."""
    found = studio.deployments if surface == "chat" else studio.embedding_deployments
    return next((one for one in found if one.name == name), None)


def gone(name: str) -> EngineUnavailable:
    """Return what is said of a deployment that the settings no longer name."""
    return EngineUnavailable(say(f"{name} is served no longer", f"{name} 已不再提供"))


async def _answer(studio: Studio, call: EngineCall, channel: Channel) -> None:
    try:
        match call:
            case Chat(whole=True):
                await _whole(_engine(studio, call.deployment), call.request, channel)
            case Chat():
                await _stream(_engine(studio, call.deployment).generate(call.request), channel)
            case Fill():
                await _stream(_engine(studio, call.deployment).fill(call.request), channel)
            case Count():
                channel.send(encode(Counted(await _engine(studio, call.deployment).count(call.request))))
            case Embed():
                embedder = _embedder(studio, call.deployment)
                channel.send(encode(Vectors(await embedder.embed(call.request, call.limit_tokens))))
    except HanlinError as problem:
        channel.send(encode(Failed(failure_of(problem))))
    except Exception:  # the end of a call: its caller is told that it was our fault, and the log why
        log.exception("a call of an engine for a worker failed")
        channel.send(encode(Failed(failure_of(InternalError()))))
    await channel.sent()


async def _stream(bursts: Events, channel: Channel) -> None:
    """Send events as they come, and no faster than they are read."""
    async with contextlib.aclosing(bursts):
        async for burst in bursts:
            channel.send(encode(Pieces(burst.texts) if isinstance(burst, Texts) else Steps(list(burst))))
            await channel.sent()
    channel.send(encode(Over()))


async def _whole(engine: Engine, request: ChatRequest, channel: Channel) -> None:
    answer = engine.whole(request)
    if answer is not None:
        result = await answer
    else:  # another engine by now, which gives none
        async with contextlib.aclosing(engine.generate(request)) as bursts:
            result = fold([event async for burst in bursts for event in burst])
    channel.send(encode(Answer(result)))


def _engine(studio: Studio, name: str) -> Engine:
    found = deployment(studio, "chat", name)
    if not isinstance(found, Deployment):
        raise gone(name)
    return found.engine


def _embedder(studio: Studio, name: str) -> Embedder:
    found = deployment(studio, "vectors", name)
    if not isinstance(found, EmbeddingDeployment):
        raise gone(name)
    return found.engine
