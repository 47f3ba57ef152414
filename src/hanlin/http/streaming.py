"""Send a stream of events to a client: the first bytes, silence, slow readers, failures, the end.

A stream always ends: with its dialect's end, or with one typed error. While it is silent it carries a comment now and
then, so that nobody on the way takes it for dead. What is here at once leaves at once: in one piece, before anything is
waited for.
"""

import asyncio
import math
from collections.abc import Callable, Generator
from typing import Any, Protocol

from hanlin.errors import HanlinError, InternalError
from hanlin.http.exchange import EVENT_STREAM, Exchange, Gone, log
from hanlin.types import Burst, Events

KEEP_ALIVE = b": keep-alive\n\n"

_MOST_UNSENT = 16  # bursts, of an engine that never lets anybody wait


class Frames(Protocol):
    """What a dialect's stream offers: every method returns bytes to send, whole frames of them."""

    def open(self) -> bytes: ...
    def frames(self, burst: Burst) -> bytes: ...
    def close(self) -> bytes: ...
    def error(self, problem: HanlinError, request_id: str) -> bytes: ...


class _Coming:
    """The bursts of events, one each time that this is awaited; raises StopAsyncIteration behind the last.

    `waits` is called before anything is waited for, and not for a burst that is here already.
    """

    __slots__ = ("_events", "_waits")

    def __init__(self, events: Events, waits: Callable[[], None]) -> None:
        self._events = events
        self._waits = waits

    def __await__(self) -> Generator[Any, Any, Burst]:
        coming = self._events.__anext__().__await__()
        try:
            waited_for = coming.send(None)
            self._waits()
            while True:
                try:
                    sent = yield waited_for
                except BaseException as error:  # whoever cancels this means what it waits for
                    waited_for = coming.throw(error)
                else:
                    waited_for = coming.send(sent)
        except StopIteration as come:
            return come.value  # type: ignore[no-any-return]  # what an iterator of bursts returns


class StreamedAnswer:
    """One response as server-sent events.

    The headers wait for the first event, at most `keepalive_s`, so that an early failure gets its true status: until
    then `run` raises it, afterwards it becomes the stream's last frame.
    """

    __slots__ = (
        "_blocked_at",
        "_cut",
        "_exchange",
        "_frames",
        "_keepalive_s",
        "_last_write",
        "_loop",
        "_opened",
        "_reader_stall_s",
        "_task",
        "_timer",
        "_unsent",
    )

    def __init__(self, exchange: Exchange, frames: Frames, *, keepalive_s: float, reader_stall_s: float) -> None:
        self._exchange = exchange
        self._frames = frames
        self._keepalive_s = keepalive_s
        self._reader_stall_s = reader_stall_s
        self._loop = exchange.loop
        self._unsent: list[bytes] = []  # frames of bursts that were here at once
        self._last_write = self._loop.time()
        self._opened = False  # the dialect's first frames have left, which say who answers
        self._blocked_at = math.inf  # since when the reader has not taken what was written
        self._cut = False
        self._task: asyncio.Task[object] | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def run(self, events: Events) -> None:
        """Send everything. Raises Gone for a reader that stopped reading, and early failures as they are."""
        self._task = asyncio.current_task(self._loop)
        # Set once, and again only when it goes off: events only note when they came.
        self._timer = self._loop.call_later(self._keepalive_s, self._look_after)
        try:
            await self._send_all(events)
        except asyncio.CancelledError:
            if self._cut and self._task is not None and not self._task.uncancel():
                raise Gone from None
            raise
        finally:
            self._timer.cancel()
            self._task = None

    async def _send_all(self, events: Events) -> None:
        exchange = self._exchange
        try:
            await self._forward(events)
        except HanlinError as problem:
            if not exchange.started:
                raise
            # Never its message: an engine may quote what its caller wrote.
            log.warning(
                "%s: failed mid-stream: %s %s", exchange.id, type(problem).__name__, problem.code or problem.type
            )
            self._fail(problem)
        except Gone:
            raise
        except Exception:  # the end of a request: whatever it was, a stream that has begun must end with an error
            if not exchange.started:
                raise
            log.exception("%s: failed mid-stream", exchange.id)
            self._fail(InternalError())
        else:
            exchange.finish(self._with_opening(b"".join([*self._unsent, self._frames.close()])))

    async def _forward(self, events: Events) -> None:
        """Send what comes but the last of it, which leaves with the end."""
        exchange, frames, unsent = self._exchange, self._frames.frames, self._unsent
        coming = _Coming(events, self._send_unsent)
        try:
            while True:
                burst = await coming
                if data := frames(burst):
                    unsent.append(data)
                    if exchange.write_paused or len(unsent) == _MOST_UNSENT:
                        self._send_unsent()
                        await self._caught_up()
                if exchange.gone:
                    raise Gone
        except StopAsyncIteration:
            pass
        except BaseException:
            self._send_unsent()  # it came before what is wrong
            raise
        finally:
            await events.aclose()

    def _fail(self, problem: HanlinError) -> None:
        self._exchange.problem = problem
        self._exchange.finish(self._frames.error(problem, self._exchange.id))

    def _send_unsent(self) -> None:
        if self._unsent:
            data = b"".join(self._unsent)
            self._unsent.clear()
            self._push(self._with_opening(data))

    def _push(self, data: bytes) -> None:
        if not self._exchange.started:
            self._exchange.begin(200, EVENT_STREAM)
        self._exchange.push(data)
        self._last_write = self._loop.time()

    def _with_opening(self, data: bytes) -> bytes:
        if not self._exchange.started:
            self._exchange.begin(200, EVENT_STREAM)
        if self._opened:
            return data
        self._opened = True
        return self._frames.open() + data

    async def _caught_up(self) -> None:
        """Wait until a slow reader has read on."""
        if not self._exchange.write_paused:
            return
        self._block(self._loop.time())
        await self._exchange.drained()
        self._blocked_at = math.inf
        self._last_write = self._loop.time()
        self._set(self._keepalive_s)

    def _block(self, now: float) -> None:
        """Note that the reader does not read; the timer goes off when it has not for too long."""
        if self._blocked_at > now:
            self._blocked_at = now
            self._set(self._reader_stall_s)

    def _look_after(self) -> None:
        """Do what the silence asks for: a comment for a silent engine, an end for a reader that reads no more."""
        now = self._loop.time()
        if not self._exchange.write_paused:
            self._blocked_at = math.inf
            if now - self._last_write >= self._keepalive_s:
                # Without the dialect's opening: who answers is known with the first event.
                self._push(KEEP_ALIVE)
        if self._exchange.write_paused:
            self._block(now)
            if now - self._blocked_at >= self._reader_stall_s:
                self._cut_off()
                return
            self._set(self._blocked_at + self._reader_stall_s - now)
        else:
            self._set(self._last_write + self._keepalive_s - now)

    def _set(self, after_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(max(after_s, 0.001), self._look_after)

    def _cut_off(self) -> None:
        log.warning("%s: the client stopped reading and was cut off", self._exchange.id)
        self._cut = True
        if self._task is not None:
            self._task.cancel()
