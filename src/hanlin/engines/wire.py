"""An HTTP/1.1 client for engines: one request at a time on a connection, a bounded pool a peer, separate deadlines.

Written for one job, reading token streams with the least delay: bytes go from the socket through httptools to whoever
iterates, several frames of one packet in one piece. A slow reader stops the socket (back-pressure), an abandoned
response closes its connection, because that is the only signal that makes an engine stop generating.
"""

import asyncio
import contextlib
import ssl
from collections import deque
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

import httptools

from hanlin.errors import EngineFailed, EngineStalled, EngineUnavailable

_READ_AHEAD_BYTES = 256 * 1024


@dataclass(frozen=True)
class Address:
    """Where an engine listens: a Unix socket, or host and port. `base` is put before every path."""

    host: str = ""
    port: int = 0
    socket: str = ""
    base: str = ""
    tls: bool = False

    @classmethod
    def of_url(cls, url: str) -> "Address":
        """Read `http(s)://host[:port][/base]`. Raises ValueError for anything else."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is not an http(s) address")
        tls = parts.scheme == "https"
        return cls(parts.hostname, parts.port or (443 if tls else 80), "", parts.path.rstrip("/"), tls)

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        if self.socket:
            return "localhost"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"


class _Connection(asyncio.Protocol):
    """One connection and the response that is being read from it."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.closed = False
        self._failure: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self.start_response()

    def start_response(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self.headers: dict[str, str] = {}
        self.headers_complete = False
        self.complete = False
        self.keep_alive = False
        self._pieces: deque[bytes] = deque()
        self._buffered_bytes = 0
        self._paused = False

    # asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's transports are not asyncio's subclasses

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._failure = error
            self.close()
        if self._buffered_bytes > _READ_AHEAD_BYTES and self.transport is not None and not self._paused:
            self.transport.pause_reading()
            self._paused = True
        self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        # A body without a length ends with its connection; httptools has no other way of knowing.
        if self.headers_complete and not self.complete and not self._has_length():
            self.complete = True
        self._failure = self._failure or error
        self._wake()

    # httptools' callbacks

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self.headers_complete = True

    def on_body(self, body: bytes) -> None:
        self._pieces.append(body)
        self._buffered_bytes += len(body)

    def on_message_complete(self) -> None:
        self.complete = True
        self.keep_alive = self._parser.should_keep_alive()

    # what a response does

    @property
    def status(self) -> int:
        return int(self._parser.get_status_code())

    async def wait(self) -> None:
        """Return when something has changed: headers, body bytes, the end, or the loss of the connection."""
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def take(self) -> bytes:
        """Return all body bytes that are here, possibly none."""
        if not self._pieces:
            return b""
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._buffered_bytes = 0
        if self._paused and self.transport is not None and not self.closed:
            self.transport.resume_reading()
            self._paused = False
        return data

    def close(self) -> None:
        if self.transport is not None:
            self.transport.abort()
        self.closed = True

    def failure(self) -> str:
        return str(self._failure) if self._failure is not None else "the connection was closed"

    def _has_length(self) -> bool:
        return "content-length" in self.headers or "chunked" in self.headers.get("transfer-encoding", "")

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Response:
    """A response whose headers have come. Read it to its end, or `close()` it: the connection goes with it then."""

    def __init__(self, client: "Client", connection: _Connection, silence_s: float) -> None:
        self._client = client
        self._connection = connection
        self._silence_s = silence_s
        self._settled = False
        self.status = connection.status
        self.headers: Mapping[str, str] = connection.headers

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield body bytes as they arrive, everything that is there in one piece.

        Raises EngineStalled after `silence_s` without a byte, EngineFailed when the body ends too early.
        """
        connection = self._connection
        try:
            while True:
                if data := connection.take():
                    yield data
                elif connection.complete:
                    self._settle(reusable=connection.keep_alive)
                    return
                elif connection.closed:
                    raise EngineFailed(f"the engine's answer broke off: {connection.failure()}")
                else:
                    await _within(self._silence_s, connection)
        finally:
            self._settle(reusable=False)

    async def body(self, limit_bytes: int = 16 * 1024 * 1024) -> bytes:
        """Return the whole body; EngineFailed when it is larger than `limit_bytes`."""
        parts: list[bytes] = []
        size = 0
        async for piece in self.pieces():
            parts.append(piece)
            size += len(piece)
            if size > limit_bytes:
                self.close()
                raise EngineFailed(f"the engine's answer is larger than {limit_bytes} bytes")
        return b"".join(parts)

    async def finish(self, within_s: float) -> None:
        """Read what is left of a body that should be over, so that its connection can be used again."""
        connection = self._connection
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while not connection.complete and not connection.closed:
                    await connection.wait()
        connection.take()
        self._settle(reusable=connection.complete and connection.keep_alive)

    def close(self) -> None:
        """Give the connection up. Closing an unfinished response tells the engine to stop."""
        self._settle(reusable=False)

    def _settle(self, *, reusable: bool) -> None:
        if not self._settled:
            self._settled = True
            self._client.release(self._connection, reusable=reusable)


class Client:
    """Requests to one address. Idle connections are kept, at most `idle_limit`; the others are opened as needed."""

    def __init__(self, address: Address, *, idle_limit: int = 64, connect_s: float = 5.0) -> None:
        self.address = address
        self._idle: list[_Connection] = []
        self._busy: set[_Connection] = set()
        self._idle_limit = idle_limit
        self._connect_s = connect_s
        self._tls = ssl.create_default_context() if address.tls else None

    async def send(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        headers: Mapping[str, str] | None = None,
        silence_s: float = 60.0,
    ) -> Response:
        """Send one request and return when the response's headers are there.

        Raises EngineUnavailable when no connection comes about, EngineStalled and EngineFailed as in `Response.pieces`.
        """
        request = self._encode(method, path, body, headers or {})
        while True:
            connection, fresh = await self._connection()
            self._busy.add(connection)
            try:
                connection.start_response()
                assert connection.transport is not None
                connection.transport.write(request)
                while not connection.headers_complete and not connection.closed:
                    await _within(silence_s, connection)
            except BaseException:
                self.release(connection, reusable=False)
                raise
            if connection.headers_complete:
                return Response(self, connection, silence_s)
            self.release(connection, reusable=False)
            # A kept connection may have been closed by the peer just now, before it saw the request: a new one is safe.
            if fresh:
                raise EngineFailed(f"the engine hung up before answering: {connection.failure()}")

    def close(self) -> None:
        """Close every connection, also those in use."""
        for connection in (*self._idle, *self._busy):
            connection.close()
        self._idle.clear()
        self._busy.clear()

    def release(self, connection: _Connection, *, reusable: bool) -> None:
        """Take back a connection whose response is over."""
        self._busy.discard(connection)
        if reusable and not connection.closed and len(self._idle) < self._idle_limit:
            self._idle.append(connection)
        else:
            connection.close()

    async def _connection(self) -> tuple[_Connection, bool]:
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed:
                return connection, False
        loop = asyncio.get_running_loop()
        address = self.address
        try:
            async with asyncio.timeout(self._connect_s):
                if address.socket:
                    _, connection = await loop.create_unix_connection(_Connection, address.socket)
                else:
                    _, connection = await loop.create_connection(_Connection, address.host, address.port, ssl=self._tls)
        except (OSError, TimeoutError) as error:
            where = "its socket" if address.socket else f"{address.host}:{address.port}"
            raise EngineUnavailable(f"no connection to the engine at {where}: {error or 'timed out'}") from error
        return connection, True

    def _encode(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
        lines = [f"{method} {self.address.base}{path} HTTP/1.1", f"Host: {self.address.authority}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if body:
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


async def _within(silence_s: float, connection: _Connection) -> None:
    try:
        async with asyncio.timeout(silence_s):
            await connection.wait()
    except TimeoutError:
        raise EngineStalled(silence_s) from None
