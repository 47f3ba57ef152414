"""One connection and the response that is read from it: bytes in, headers and pieces of a body out."""

import asyncio
import math
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, cast

import httptools
import msgspec

from hanlin.engines.wire.deadlines import Watch
from hanlin.errors import EngineError, EngineFailed, EngineStalled, HanlinError

_READ_AHEAD_BYTES = 256 * 1024
_SLICE_BYTES = 256 * 1024
_HEAD_LIMIT_BYTES = 64 * 1024
_HEADER_LIMIT = 256
# A peer that vanished without a word is noticed after about a minute, also where nobody waits for it.
_KEEP_ALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)


Buffer = bytes | msgspec.Raw
"""A part of a body."""


class Owner(Protocol):
    """Who keeps connections."""

    watch: Watch

    def lost(self, connection: "Connection") -> None:
        """Learn that a connection was closed. May be called more than once."""


class _SecondAnswer(Exception):
    """Raised in a callback of the parser's to end it: nothing more belongs to what was asked."""


class Connection(asyncio.Protocol):
    """A connection. `start` begins a response; `status` and `raw_headers` are its own once `headers_complete`.

    `on_body` takes the parser's pieces of a body: an engine sends one for every token.
    """

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._pieces: list[bytes] = []
        self.on_body = self._pieces.append
        self._parser = httptools.HttpResponseParser(self)
        self._waiter: asyncio.Future[None] | None = None
        self._write_paused = False
        self.transport: asyncio.Transport | None = None
        self.closed = False
        self.idle = False
        self.requests = 0
        self.due_at = math.inf
        self._ask: Callable[[], Awaitable[None]] | None = None
        self._asking: asyncio.Task[None] | None = None
        self.start(math.inf, math.inf)
        self.requests = 0

    def start(self, total_at: float, total_s: float, ask: Callable[[], Awaitable[None]] | None = None) -> None:
        """Make ready for a request and its response, which may last until `total_at`.

        `ask` is called when no headers come for too long, and again each time that it stays so: as long as the answers
        come in the same time, the wait goes on.
        """
        self.requests += 1
        if self._ask is not None:  # of a response that is over
            self._ask_no_more()
        self._ask = ask
        self.due_at = self._total_at = total_at
        self._due_s = self._total_s = total_s
        self.stalled_s: float | None = None
        self.status = 0
        self.raw_headers: list[tuple[bytes, bytes]] = []
        self.headers_complete = self.complete = False
        self._failure = ""
        self._keeps = self._interim = self._paused = self._sending = False
        self._barren_bytes = self._buffered_bytes = 0
        self._pieces.clear()

    # asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's transports are not asyncio's subclasses
        raw = transport.get_extra_info("socket")
        if raw is not None and raw.family != socket.AF_UNIX:
            for level, option, value in _KEEP_ALIVE:
                raw.setsockopt(level, option, value)

    def data_received(self, data: bytes) -> None:
        if self.idle:  # nobody has asked: it says good-bye, or it is confused
            self.close()
            return
        in_head, pieces = not self.headers_complete, len(self._pieces)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(f"it is not HTTP as it should be: {error}")
        self._buffered_bytes += len(data)  # with what stands around the pieces: it is a bound, and no count
        if in_head or len(self._pieces) == pieces:
            self._barren_bytes += len(data)
            if self._barren_bytes > _HEAD_LIMIT_BYTES:
                self._measure(in_head=in_head)
        else:
            self._barren_bytes = 0
        # Only with pieces there: whoever takes them goes on reading.
        if self._buffered_bytes > _READ_AHEAD_BYTES and self._pieces and not (self._paused or self.closed):
            assert self.transport is not None
            self.transport.pause_reading()
            self._paused = True
        self._wake()

    def eof_received(self) -> None:
        if self.idle:
            self.close()

    def connection_lost(self, error: Exception | None) -> None:
        # A body without a length ends with its connection; httptools has no other way of knowing.
        if self.headers_complete and not self.closed and error is None and not self._has_length():
            self.complete = True
        self._failure = self._failure or (str(error) if error is not None else "")
        self.closed = True
        self._ask_no_more()
        self._owner.lost(self)
        self._wake()

    def pause_writing(self) -> None:
        self._write_paused = True

    def resume_writing(self) -> None:
        self._write_paused = False
        self._wake()

    # httptools' callbacks

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.headers_complete:  # else it is a trailer, which nobody reads
            self.raw_headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self.complete:
            raise _SecondAnswer
        status = self._parser.get_status_code()
        if len(self.raw_headers) > _HEADER_LIMIT:
            self._fail(f"it has more than {_HEADER_LIMIT} headers")
        elif status >= 200:
            self.status = status
            self.headers_complete = True
        elif status == 101:
            self._fail("it changes to a protocol that nobody asked for")
        else:  # 100 Continue and its like announce the answer and are not it
            self._interim = True
            self.raw_headers.clear()

    def on_message_complete(self) -> None:
        if self._interim:
            self._interim = False
        elif not self.complete and self.headers_complete:
            self.complete = True
            self._keeps = self._parser.should_keep_alive()

    # what a call does

    async def send_body(self, parts: Sequence[Buffer], silence_s: float) -> None:
        """Write a large body no faster than the peer takes it, until it answers.

        The peer that answers before the end, because it refuses what it has seen, is not sent the rest.
        """
        assert self.transport is not None
        self._sending = True
        for part in parts:
            view = memoryview(part)
            for start in range(0, len(view), _SLICE_BYTES):
                self.transport.write(view[start : start + _SLICE_BYTES])
                while self._write_paused and not self.closed and not self.headers_complete:
                    await self.change(self._loop.time() + silence_s, silence_s)
                if self.closed or self.headers_complete:
                    return
        self._sending = False

    def change(self, by: float, patience_s: float) -> asyncio.Future[None]:
        """Return what is done when something has changed: headers, body bytes, the end, the loss of the connection.

        When `by` passes first, the connection is closed and `stalled_s` is `patience_s`.
        """
        if by < self._total_at:
            self.due_at, self._due_s = by, patience_s
        else:
            self.due_at, self._due_s = self._total_at, self._total_s
        if self.due_at < self._owner.watch.next_at:
            self._owner.watch.by(self.due_at)
        self._waiter = waiter = self._loop.create_future()
        return waiter

    def take(self) -> bytes:
        """Return all body bytes that are here, possibly none."""
        pieces = self._pieces
        if not pieces:
            return b""
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self._buffered_bytes = 0
        if self._paused and not self.closed:
            assert self.transport is not None
            self.transport.resume_reading()
            self._paused = False
        return data

    @property
    def reusable(self) -> bool:
        """Whether the response is over and another request may follow it."""
        return self.complete and self._keeps and not self._sending and not self.closed

    @property
    def heard(self) -> bool:
        """Whether a byte of the response has come."""
        return self.headers_complete or self._barren_bytes > 0

    def problem(self, what: str) -> EngineError:
        """Return the error for a response that will not be whole, in which `what` happened."""
        if self.stalled_s is not None:
            return EngineStalled(self.stalled_s)
        return EngineFailed(f"{what}: {self._failure or 'the connection was closed'}")

    def rest(self, for_s: float) -> None:
        """Be idle: closed after a while, or as soon as the peer says anything."""
        self.idle = True
        self._ask = None
        if self._asking is not None:
            self._ask_no_more()
        self.due_at = self._loop.time() + for_s
        if self.due_at < self._owner.watch.next_at:
            self._owner.watch.by(self.due_at)

    def expire(self) -> None:
        """End it, because a deadline has passed; or first ask whether there is still somebody."""
        may_ask = not (self.idle or self.headers_complete) and self._loop.time() < self._total_at
        if self._ask is not None and may_ask:
            patience_s = self._due_s
            self.due_at, self._due_s = self._total_at, self._total_s
            self._asking = self._loop.create_task(self._ask_on(self._ask, patience_s))
            return
        if not self.idle:
            self.stalled_s = self._due_s
        self.close()

    async def _ask_on(self, ask: Callable[[], Awaitable[None]], patience_s: float) -> None:
        try:
            async with asyncio.timeout(patience_s):
                await ask()
        except (HanlinError, TimeoutError):
            self._asking = None
            self.stalled_s = patience_s
            self.close()
        else:
            self.due_at, self._due_s = min(self._loop.time() + patience_s, self._total_at), patience_s
            self._owner.watch.by(self.due_at)

    def _ask_no_more(self) -> None:
        self._ask = None
        if self._asking is not None:
            self._asking.cancel()
            self._asking = None

    def close(self) -> None:
        """Close at once. What was not sent is not sent, what was not read is lost."""
        self.due_at = math.inf
        self._ask_no_more()
        if self.closed:
            return
        self.closed = True
        if self.transport is not None:
            self.transport.abort()
        self._owner.lost(self)
        self._wake()

    def _measure(self, *, in_head: bool) -> None:
        """Give up on a peer that sends headers or trailers without end: httptools keeps what is not yet a line."""
        if in_head and self.headers_complete:  # much of it may be the body that came with them
            self._barren_bytes = sum(len(name) + len(value) for name, value in self.raw_headers)
        if self._barren_bytes > _HEAD_LIMIT_BYTES and (in_head or not self.complete):
            self.headers_complete = self.complete = False
            self._fail(f"its headers are larger than {_HEAD_LIMIT_BYTES} bytes")

    def _has_length(self) -> bool:
        return any(
            name.lower() == b"content-length" or (name.lower() == b"transfer-encoding" and b"chunked" in value.lower())
            for name, value in self.raw_headers
        )

    def _fail(self, why: str) -> None:
        if not self.complete:
            self._failure = self._failure or why
        self.close()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            self.due_at = math.inf if self.closed else self._total_at
            self._due_s = self._total_s
            if not waiter.done():
                waiter.set_result(None)
