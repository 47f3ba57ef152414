"""Send a stream of events to a client: the first bytes, silence, slow readers, failures, the end.

A stream always ends: with its dialect's end, or with one typed error. While it is silent it carries a comment now and
then, so that nobody on the way takes it for dead.
"""

import asyncio
import time
from contextlib import aclosing
from typing import NoReturn, Protocol

from hanlin.errors import HanlinError, InternalError
from hanlin.http.exchange import EVENT_STREAM, Exchange, Gone, log
from hanlin.types import Burst, Events

KEEP_ALIVE = b": keep-alive\n\n"


class Frames(Protocol):
    """What a dialect's stream offers: every method returns bytes to send."""

    def open(self) -> bytes: ...
    def frames(self, burst: Burst) -> bytes: ...
    def close(self) -> bytes: ...
    def error(self, problem: HanlinError, request_id: str) -> bytes: ...


class StreamedAnswer:
    """One response as server-sent events.

    The headers wait for the first event, at most `keepalive_s`, so that an early failure gets its true status: until
    then `run` raises it, afterwards it becomes the stream's last frame.
    """

    def __init__(self, exchange: Exchange, frames: Frames, *, keepalive_s: float, reader_stall_s: float) -> None:
        self._exchange = exchange
        self._frames = frames
        self._keepalive_s = keepalive_s
        self._reader_stall_s = reader_stall_s
        self._writing = asyncio.Lock()
        self._writing_since: float | None = None
        self._last_write = time.monotonic()

    async def run(self, events: Events) -> None:
        """Send everything. Raises Gone for a reader that stopped reading, and early failures as they are."""
        sending = asyncio.create_task(self._send_all(events))
        try:
            while not sending.done():
                await asyncio.wait((sending,), timeout=self._pause_s())
                await self._look_after(sending)
            await sending
        finally:
            sending.cancel()
            await asyncio.wait((sending,))

    async def _send_all(self, events: Events) -> None:
        try:
            async with aclosing(events) as bursts:
                async for burst in bursts:
                    if data := self._frames.frames(burst):
                        await self._write(data)
        except HanlinError as problem:
            if not self._exchange.started:
                raise
            self._exchange.problem = problem
            log.warning("%s: failed mid-stream: %s", self._exchange.id, problem)
            await self._write(self._frames.error(problem, self._exchange.id))
        except Exception:  # the end of a request: whatever it was, a stream that has begun must end with an error
            if not self._exchange.started:
                raise
            log.exception("%s: failed mid-stream", self._exchange.id)
            self._exchange.problem = InternalError()
            await self._write(self._frames.error(self._exchange.problem, self._exchange.id))
        else:
            await self._write(self._frames.close())
        await self._exchange.end()

    def _cut_off(self) -> NoReturn:
        log.warning("%s: the client stopped reading and was cut off", self._exchange.id)
        raise Gone

    async def _write(self, data: bytes) -> None:
        async with self._writing:
            self._writing_since = time.monotonic()
            if not self._exchange.started:
                await self._exchange.start(200, EVENT_STREAM)
                data = self._frames.open() + data
            await self._exchange.write(data)
            self._writing_since = None
            self._last_write = time.monotonic()

    def _pause_s(self) -> float:
        now = time.monotonic()
        if self._writing_since is not None:
            pause_s = self._writing_since + self._reader_stall_s - now
        else:
            # A write may begin and block at any time from now: its limit must not be noticed late.
            pause_s = min(self._last_write + self._keepalive_s - now, self._reader_stall_s)
        return max(pause_s, 0.01)

    async def _look_after(self, sending: "asyncio.Task[None]") -> None:
        """Do what the silence asks for: a comment for a silent engine, an end for a reader that reads no more."""
        now = time.monotonic()
        if sending.done():
            return
        if self._writing_since is not None:
            if now - self._writing_since >= self._reader_stall_s:
                self._cut_off()
        elif now - self._last_write >= self._keepalive_s:
            try:
                async with asyncio.timeout(self._reader_stall_s):
                    await self._write(KEEP_ALIVE)
            except TimeoutError:
                self._cut_off()
