"""The other side of an HTTP connection, in the test's own process: a client that sends, reads, stops reading, leaves.

`Line` is the network: bytes go straight into a `Connection`, and what it writes is kept, once the client reads it.
`Peer` is a client with one request on a line of its own.
"""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import httptools

from hanlin.errors import HanlinError
from hanlin.http.connection import Connection, Handler
from hanlin.http.exchange import Exchange
from hanlin.http.limits import Limits

AHEAD_BYTES = 64 * 1024


class Line(asyncio.Transport):
    """A connection to the server's side, and the network under it. `pieces` are the writes that have arrived.

    While `reading` is cleared, what is written stays under way, and the writer is told to pause. `high_bytes` is how
    much may be under way before that.
    """

    def __init__(self, app: Handler, limits: Limits | None = None, *, high_bytes: int = AHEAD_BYTES) -> None:
        super().__init__()
        self.app = app
        self.limits = limits or Limits()
        self.draining = False
        self.refusal: HanlinError | None = None
        self.reading = asyncio.Event()
        self.reading.set()
        self.pieces: list[bytes] = []
        self.unread: list[bytes] = []
        self.paused = self.closed = self.aborted = self.half_closed = False
        self.changed = asyncio.Event()
        self.gone = asyncio.Event()
        self.over = asyncio.Event()
        self._high_bytes = high_bytes
        self._write_paused = False
        self.connection = Connection(self)
        self.connection.connection_made(self)

    # the client

    @property
    def arrived(self) -> bytes:
        return b"".join(self.pieces)

    def send(self, data: bytes) -> None:
        """Send bytes, in one packet."""
        self.connection.data_received(data)

    def read_on(self) -> None:
        """Read everything that is under way."""
        self.reading.set()
        self.pieces += self.unread
        self.unread.clear()
        if self._write_paused:
            self._write_paused = False
            self.connection.resume_writing()
        self.changed.set()

    def end(self) -> None:
        """Send no more: close, or shut down the sending side, which look the same from afar."""
        if not self.connection.eof_received():
            self.close()

    def hang_up(self) -> None:
        """Be gone, as a reset tells it."""
        self._lose()

    async def until(self, piece: bytes) -> None:
        """Wait until what has arrived holds `piece`."""
        async with asyncio.timeout(10):
            while piece not in self.arrived:
                self.changed.clear()
                await self.changed.wait()

    async def until_closed(self) -> None:
        async with asyncio.timeout(10):
            await self.gone.wait()

    # the owner

    def joined(self, _connection: Connection) -> HanlinError | None:
        return self.refusal

    def lost(self, _connection: Connection) -> None:
        self.gone.set()

    # the transport

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.closed, "written to after the end"
        assert not self.half_closed, "written to after its writer's last word"
        if self.reading.is_set():
            self.pieces.append(bytes(data))
        else:
            self.unread.append(bytes(data))
            if sum(map(len, self.unread)) > self._high_bytes and not self._write_paused:
                self._write_paused = True
                self.connection.pause_writing()
        self.changed.set()

    def pause_reading(self) -> None:
        assert not self.paused
        self.paused = True

    def resume_reading(self) -> None:
        assert self.paused
        self.paused = False

    def write_eof(self) -> None:
        self.half_closed = True
        self.changed.set()

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True
        self._loop().call_soon(self._lose)

    def abort(self) -> None:
        self.aborted = self.closed = True
        self._loop().call_soon(self._lose)

    def _lose(self) -> None:
        if not self.gone.is_set():
            self.closed = True
            self.connection.connection_lost(None)

    def _loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()


class Answer:
    """One response, as a client's parser has read it."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.pieces: list[bytes] = []
        self.ended = False

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Reader:
    """Reads responses, one after the other; interim ones are kept apart, by their status."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.interim: list[int] = []
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self.answers.append(Answer())

    def on_header(self, name: bytes, value: bytes) -> None:
        assert name.decode() not in self.answers[-1].headers, f"{name!r} twice"
        self.answers[-1].headers[name.decode()] = value.decode()

    def on_headers_complete(self) -> None:
        self.answers[-1].status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self.answers[-1].pieces.append(body)

    def on_message_complete(self) -> None:
        if self.answers[-1].status < 200:
            self.interim.append(self.answers.pop().status)
        else:
            self.answers[-1].ended = True


def read(data: bytes) -> list[Answer]:
    """Return the responses in bytes; the last one may not have ended."""
    reader = Reader()
    reader.feed(data)
    return reader.answers


class Peer:
    """One request and what came back for it.

    The body arrives in the given pieces; `finish_body=False` leaves the rest to come. While `reading` is cleared, every
    write waits; `hang_up` ends the connection.
    """

    def __init__(
        self,
        *pieces: bytes,
        method: str = "POST",
        path: str = "/",
        headers: Mapping[str, str] | None = None,
        finish_body: bool = True,
    ) -> None:
        self._head = f"{method} {path} HTTP/1.1\r\nhost: hanlin\r\n"
        self._head += "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        self._says_length = "content-length" in (headers or {})
        self._body = pieces
        self._finish_body = finish_body
        self.reading = asyncio.Event()
        self.reading.set()
        self._changed = asyncio.Event()
        self._line: Line | None = None
        self._reader = Reader()
        self._fed = 0
        self._leaves = False
        self._over = asyncio.Event()

    async def call(self, app: Handler) -> None:
        """Send the request to an application and return when it is done with it."""

        async def served(exchange: Exchange) -> None:
            try:
                await app(exchange)
            finally:
                self._over.set()

        self._send(served)
        await self._over.wait()
        await asyncio.sleep(0)

    async def exchange(self) -> Exchange:
        """Send the request, and return the server's side of it."""
        given: asyncio.Future[Exchange] = asyncio.get_running_loop().create_future()

        async def keep(exchange: Exchange) -> None:
            given.set_result(exchange)
            await asyncio.get_running_loop().create_future()

        self._send(keep)
        async with asyncio.timeout(10):
            return await given

    def _send(self, app: Handler) -> None:
        self._line = line = Line(app, high_bytes=0)
        line.reading, line.changed = self.reading, self._changed
        if self._says_length or not (self._body or not self._finish_body):
            line.send(self._head.encode("latin-1") + b"\r\n")
            parts = list(self._body)
        else:
            line.send(self._head.encode("latin-1") + b"transfer-encoding: chunked\r\n\r\n")
            parts = [b"%x\r\n%b\r\n" % (len(part), part) for part in self._body if part]
            if self._finish_body:
                parts.append(b"0\r\n\r\n")
        for part in parts:
            if part:
                line.send(part)
        if self._leaves:
            line.hang_up()

    @property
    def line(self) -> Line:
        assert self._line is not None, "nothing was sent yet"
        return self._line

    def hang_up(self) -> None:
        """Leave: at once, or right after the request when it is still to be sent."""
        self._leaves = True
        if self._line is not None:
            self._line.hang_up()

    async def until(self, piece: bytes) -> None:
        """Wait until the body so far holds `piece`."""
        async with asyncio.timeout(10):
            while piece not in self.body:
                self._changed.clear()
                await self._changed.wait()

    @property
    def sent(self) -> bytes:
        """Everything that has come back."""
        return self._line.arrived if self._line is not None else b""

    @property
    def answer(self) -> Answer:
        sent = self.sent
        self._reader.feed(sent[self._fed :])
        self._fed = len(sent)
        assert len(self._reader.answers) <= 1, sent
        return self._reader.answers[0] if self._reader.answers else Answer()

    @property
    def status(self) -> int:
        return self.answer.status

    @property
    def headers(self) -> dict[str, str]:
        return self.answer.headers

    @property
    def pieces(self) -> list[bytes]:
        """The pieces of the body, each one a chunk."""
        return self.answer.pieces

    @property
    def body(self) -> bytes:
        return self.answer.body

    @property
    def json(self) -> Any:
        return self.answer.json

    @property
    def ended(self) -> bool:
        return self.answer.ended
