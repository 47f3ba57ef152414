"""A client's connection: its bytes become requests, which are answered one after the other.

While a call is under way, the connection goes on reading, because that is how a hang-up is noticed; what a client sends
ahead is kept until its turn, and beyond a limit it is not read. TLS and HTTP/2 are left to a proxy in front.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, cast

import httptools

from hanlin.errors import HanlinError
from hanlin.http import heap
from hanlin.http.channel import Channel
from hanlin.http.exchange import Exchange, log, malformed, refuse
from hanlin.http.heads import fault, path_of
from hanlin.http.limits import Limits

Handler = Callable[[Exchange], Coroutine[Any, Any, None]]

# A head, or whatever else comes in without a byte of a body: trailers, extensions of chunks.
_HEAD_BYTES = 64 * 1024
# What is parsed at once where a request may end: all requests that end in it are taken in.
_SLICE_BYTES = 4096
# What a client may send ahead while it waits for an answer; beyond it a hang-up is noticed later.
_HELD_BYTES = 64 * 1024
# What is thrown away of a request that was refused, so that the refusal can be read.
_DISCARDED_BYTES = 64 * 1024 * 1024


class Owner(Protocol):
    """Who keeps connections and ends those that are overdue."""

    @property
    def app(self) -> Handler: ...

    limits: Limits
    draining: bool

    def joined(self, connection: "Connection") -> HanlinError | None:
        """Learn of a new connection; return why it is refused, if it is."""
        ...

    def lost(self, connection: "Connection") -> None: ...


class _Refused(Exception):
    """Raised in a callback of the parser's to end it; the reason is kept beside it."""


class Connection(asyncio.Protocol):
    """One connection. `due_at` is when it is overdue: a time of the loop's clock, or infinity."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self.due_at = math.inf
        self.write_paused = False
        self._url = b""
        self._lines: list[tuple[bytes, bytes]] = []
        self._incoming: Channel | None = None  # whose body is coming in
        self._current: Channel | None = None  # which is being answered
        self._waiting: deque[Channel] = deque()  # which came in one packet with it
        self._task: asyncio.Task[None] | None = None
        self._held: list[bytes] = []
        self._held_bytes = self._barren_bytes = self._discarded_bytes = 0
        self._head_at = 0.0  # when the first byte of the head that is coming in came; 0 while there is none
        self._refusal: HanlinError | None = None  # what is answered to what could not be read, when its turn comes
        self._deaf = False  # what comes cannot be read as requests any more
        self._lingering = False  # the last answer was written
        self._ended = self._reading_paused = self._upgrading = False
        self._drained: asyncio.Future[None] | None = None
        self._leaving: asyncio.TimerHandle | None = None

    # asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transports are not asyncio's subclasses
        self.due_at = self._loop.time() + self._owner.limits.idle_s
        if (problem := self._owner.joined(self)) is not None and not transport.is_closing():
            self._refuse(problem)

    def data_received(self, data: bytes) -> None:
        current = self._current
        if self._deaf or self._lingering:
            self._discard(len(data))
        elif self.write_paused if current is None else current.complete:
            self._hold(data)
        elif current is None and len(data) <= _SLICE_BYTES:
            self._parse(data)
        else:
            self._parse_in_slices(data)
        if self._current is None or not self._current.complete:
            self._expect_more()
        else:  # it is here as a whole now
            self.due_at = math.inf

    def eof_received(self) -> bool:
        """A client that sends no more has left, unless it only waits for its answer: see `Limits`."""
        self._ended = True
        current = self._current
        if current is None or not current.complete:
            return False
        self._leaving = self._loop.call_later(self._owner.limits.leaving_s, self.abort)
        return True

    def connection_lost(self, _error: Exception | None) -> None:
        self._transport = None
        self.due_at = math.inf
        self._owner.lost(self)
        if self._leaving is not None:
            self._leaving.cancel()
        self._waiting.clear()
        self._held.clear()
        if self._current is not None:
            self._current.lose()
        self.resume_writing()

    def pause_writing(self) -> None:
        self.write_paused = True

    def resume_writing(self) -> None:
        self.write_paused = False
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        if self._current is None and self._transport is not None:
            self._go_on()

    # httptools' callbacks

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._lines.append((name, value))

    def on_headers_complete(self) -> None:
        lines, url = self._lines, self._url
        self._lines, self._url = [], b""
        if self._upgrading:  # this head stands in for one that is known already
            self._upgrading = False
            return
        self._barren_bytes = 0
        parser = self._parser
        headers = {name.lower(): value for name, value in lines}
        version = parser.get_http_version()
        method = parser.get_method().decode("ascii")
        if why := fault(version, method, lines, headers):
            self._refusal = malformed(why)
            raise _Refused
        keeps = parser.should_keep_alive()
        channel = Channel(self, method, path_of(url), headers, target=url, keeps=keeps, chunks=version != "1.0")
        self._incoming = channel
        self._upgrading = b"upgrade" in headers and parser.should_upgrade()
        if self._current is None:
            self._start(channel)
        else:
            self._waiting.append(channel)

    def on_body(self, body: bytes) -> None:
        self._barren_bytes = 0
        if self._incoming is not None:
            self._incoming.feed(body)

    def on_message_complete(self) -> None:
        if self._upgrading:  # its body, if it has one, is still to come
            return
        self._barren_bytes = 0
        if self._lines:  # trailers, which nobody reads
            self._lines = []
        if self._incoming is not None:
            self._incoming.finish()
            self._incoming = None

    # what a channel asks for

    @property
    def peer(self) -> str:
        """The address of the client, "" where it has none that means anything."""
        name = None if self._transport is None else self._transport.get_extra_info("peername")
        return str(name[0]) if isinstance(name, tuple) and name else ""

    @property
    def ending(self) -> bool:
        """Whether no other request is taken after the one that is being answered."""
        return self._owner.draining

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def pause_reading(self) -> None:
        if not self._reading_paused and self._transport is not None:
            self._reading_paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._reading_paused and self._transport is not None:
            self._reading_paused = False
            self._transport.resume_reading()

    async def drained(self) -> None:
        while self.write_paused:
            self._drained = self._loop.create_future()
            await self._drained

    # what its owner asks for

    def drain(self) -> None:
        """Close it if nobody waits for anything; else it is closed after the answer."""
        if self._incoming is not None and self._current is None:
            self._linger()
        elif self._current is None and not self._head_at:
            self._close()

    def stop(self) -> None:
        """End it now. What has been answered is still sent."""
        if self._current is not None:
            self.abort()
        else:
            self._close()

    def abort(self) -> None:
        """End it at once; a call that is under way is cancelled."""
        self.due_at = math.inf
        if self._transport is not None:
            self._transport.abort()

    # bytes to requests

    def _parse(self, data: bytes | memoryview) -> None:
        self._barren_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._do_not_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            self._fail(self._refusal or malformed(str(error)))
        else:
            if self._barren_bytes > _HEAD_BYTES:
                self._fail(malformed(f"its headers are larger than {_HEAD_BYTES} bytes"))

    def _parse_in_slices(self, data: bytes) -> None:
        """Parse until a request is here as a whole, and keep the rest for later."""
        view = memoryview(data)
        at = 0
        while at < len(data) and not self._deaf:
            if self._current is not None and self._current.complete:
                self._hold(bytes(view[at:]))
                return
            size = (self._incoming.missing() if self._incoming is not None else 0) or _SLICE_BYTES
            self._parse(view[at : at + size])
            at += size

    def _do_not_upgrade(self, rest: bytes | memoryview) -> None:
        """Read on as if nothing but HTTP/1.1 had been offered, which is a server's right (RFC 9110 §7.8).

        Java's client offers h2c with every request. httptools takes what follows such a head for another protocol, so a
        parser that has seen a head without the offer goes on with the body.
        """
        assert self._incoming is not None
        headers = self._incoming.headers
        framing = [(name, headers[name]) for name in (b"content-length", b"transfer-encoding") if name in headers]
        self._parser = httptools.HttpRequestParser(self)
        self._parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n" % b"".join(b"%b: %b\r\n" % line for line in framing))
        self._parse_in_slices(bytes(rest))

    def _hold(self, data: bytes) -> None:
        self._held.append(data)
        self._held_bytes += len(data)
        if self._held_bytes > _HELD_BYTES:
            self.pause_reading()

    def _discard(self, size: int) -> None:
        self._discarded_bytes += size
        if self._discarded_bytes > _DISCARDED_BYTES:
            self.abort()

    def _fail(self, problem: HanlinError) -> None:
        """Read no further, because nobody knows where the next request begins; answer so when it is its turn."""
        self._deaf = True
        incoming, self._incoming = self._incoming, None
        if incoming is not None:
            incoming.fail(problem)
            return
        self._refusal = problem
        if self._current is None:
            self._refuse(problem)

    def _expect_more(self) -> None:
        """Set the time by which more of a request must have come."""
        if self._lingering or self.write_paused or self._transport is None:
            return
        now = self._loop.time()
        limits = self._owner.limits
        self.due_at = now + limits.progress_s
        if self._current is None and self._incoming is None:
            if not self._barren_bytes:  # the rest of what was answered already, and nothing behind it
                self._rest()
                return
            self._head_at = self._head_at or now
            self.due_at = min(self.due_at, self._head_at + limits.head_s)

    # requests to answers

    def _start(self, channel: Channel) -> None:
        self._current = channel
        self._head_at = 0.0
        self.due_at = math.inf
        exchange = Exchange.of(channel, self._loop)
        self._task = exchange.task = self._loop.create_task(self._serve(channel, exchange))

    async def _serve(self, channel: Channel, exchange: Exchange) -> None:
        try:
            await self._owner.app(exchange)
        except Exception:  # the end of a request: whatever it was, the connections of others must not suffer
            log.exception("%s: the call failed, and so did its refusal", exchange.id)
        finally:
            if not exchange.held:
                self.over(channel)

    def over(self, channel: Channel) -> None:
        """Go on with what comes after a request whose handling is over."""
        self._current = self._task = None
        if channel.size >= heap.LARGE_BYTES:
            self._loop.call_later(heap.SOON_S, heap.give_back)
        if self._transport is None:
            return
        if not channel.ended:  # the client must not take what it has for the whole
            self.abort()
        elif channel.keeps:
            # Nearly always nothing was sent ahead, and nothing is in the way of the next request.
            waits = self._held or self._waiting or self._lingering or self.write_paused or self._refusal is not None
            if waits or self._reading_paused or self._ended or self._incoming is not None or self._owner.draining:
                self._go_on()
            else:
                self.due_at = self._loop.time() + self._owner.limits.idle_s
        elif channel.complete and not (self._held or self._waiting or self._deaf):
            self._close()
        else:
            self._linger()

    def _go_on(self) -> None:
        """Begin with what was sent ahead, or wait for the next request."""
        if self._lingering:
            return
        if self.write_paused:  # what nobody reads must not pile up
            self.due_at = self._loop.time() + self._owner.limits.flush_s
            return
        while self._current is None or not self._current.complete:
            if self._current is None and self._waiting:
                self._start(self._waiting.popleft())
            elif self._held and not self._deaf:
                data = b"".join(self._held)
                self._held.clear()
                self._held_bytes = 0
                self._parse_in_slices(data)
            else:
                break
        if self._held_bytes <= _HELD_BYTES:
            self.resume_reading()
        if self._current is None:
            self._rest()
        elif self._current.complete:
            self.due_at = math.inf
        else:
            self._expect_more()

    def _rest(self) -> None:
        """Wait for the next request, if there may be one."""
        if self._refusal is not None:
            self._refuse(self._refusal)
        elif self._ended or self._owner.draining:
            self._close()
        elif not self._lingering:
            limits = self._owner.limits
            self.due_at = self._loop.time() + (limits.idle_s if self._incoming is None else limits.progress_s)

    def _refuse(self, problem: HanlinError) -> None:
        """Answer what never was a request, and take nothing more."""
        self._refusal = None
        refuse(Channel(self, "", "", {}, keeps=False, chunks=True), problem)
        self._linger()

    def _linger(self) -> None:
        """Say that nothing more comes and wait for the client to see it.

        A connection that is closed while its client still sends is reset, and the client may lose the answer.
        """
        self._lingering = True
        self._waiting.clear()
        self._held.clear()
        self.due_at = self._loop.time() + self._owner.limits.linger_s
        if self._transport is None:
            return
        if self._ended:
            self._close()
        else:
            self._transport.write_eof()
            self.resume_reading()

    def _close(self) -> None:
        """Close it when everything is written that is to be."""
        self._lingering = True
        self.due_at = self._loop.time() + self._owner.limits.flush_s
        if self._leaving is not None:
            self._leaving.cancel()
        if self._transport is not None:
            self._transport.close()
