"""What a caller has in hand: a client of one address, and the response to a request."""

import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence

import msgspec

from hanlin.engines.wire.address import Address
from hanlin.engines.wire.connection import Buffer, Connection
from hanlin.engines.wire.deadlines import Deadlines
from hanlin.engines.wire.dialling import WANTS_PASSWORD, Dialler
from hanlin.engines.wire.heads import Heads
from hanlin.engines.wire.pool import Limits, Pool
from hanlin.engines.wire.proxies import Proxy
from hanlin.errors import EngineFailed, EngineUnreachable

_ONE_WRITE_BYTES = 64 * 1024
_DEADLINES = Deadlines()
_NO_HEADERS: Mapping[str, str] = {}


class Response(msgspec.Struct, eq=False):
    """A response whose headers have come. Read it to its end, or `close()` it: the connection goes with it then.

    Made for every call, hence a Struct.
    """

    status: int
    _raw_headers: list[tuple[bytes, bytes]]
    _pool: Pool
    _connection: Connection
    _silence_s: float
    _headers: Mapping[str, str] | None = None
    _settled: bool = False
    _ended: bool = False

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers, names in small letters; of one that was sent twice, the last."""
        if self._headers is None:
            self._headers = {
                name.decode("latin-1").lower(): value.decode("latin-1") for name, value in self._raw_headers
            }
        return self._headers

    async def read(self) -> bytes:
        """Return the next bytes of the body, everything that is there, as soon as there are any; b"" at its end.

        Raises EngineStalled when a deadline passes, EngineFailed when the body ends too early.
        """
        connection = self._connection
        while not self._settled:
            data = connection.take()
            if connection.complete:
                self._ended = True
                self.close()
                return data
            if data:
                return data
            if connection.closed:
                self.close()
                raise connection.problem("the engine's answer broke off")
            await self._change(self._silence_s)
        if not self._ended:
            raise EngineFailed("the engine's answer was closed before its end")
        return b""

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """Yield what `read` returns. A response that is left half-read is closed."""
        try:
            while data := await self.read():
                yield data
        finally:
            self.close()

    async def body(self, limit_bytes: int = 16 * 1024 * 1024) -> bytes:
        """Return the whole body; EngineFailed when it is larger than `limit_bytes`."""
        connection = self._connection
        if connection.complete and not self._settled:  # it came with the headers, as short ones do
            data = connection.take()
            self._settled = self._ended = True
            self._pool.release(connection)
            if len(data) > limit_bytes:
                raise EngineFailed(f"the engine's answer is larger than {limit_bytes} bytes")
            return data
        parts: list[bytes] = []
        size = 0
        while data := await self.read():
            parts.append(data)
            size += len(data)
            if size > limit_bytes:
                self.close()
                raise EngineFailed(f"the engine's answer is larger than {limit_bytes} bytes")
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def finish(self, within_s: float) -> None:
        """Read what is left of a body that should be over, so that its connection can be used again."""
        connection = self._connection
        by = self._pool.watch.loop.time() + within_s
        while not self._settled and not connection.complete and not connection.closed:
            connection.take()
            await self._change(within_s, by)
        self.close()

    def close(self) -> None:
        """Give the connection back. Closing an unfinished response tells the engine to stop."""
        if not self._settled:
            self._settled = True
            self._connection.take()
            self._pool.release(self._connection)

    async def _change(self, patience_s: float, by: float | None = None) -> None:
        try:
            at = by if by is not None else self._pool.watch.loop.time() + patience_s
            await self._connection.change(at, patience_s)
        except BaseException:
            self.close()
            raise


class Client:
    """Requests to one address. Connections are opened as needed and kept for the next call.

    `headers` go with every request. At most `connection_limit` connections are open; up to `idle_limit` are kept, for
    `idle_s`. `tls` replaces the context that trusts what the system trusts.
    """

    def __init__(
        self,
        address: Address,
        *,
        headers: Mapping[str, str] = _NO_HEADERS,
        proxy: Proxy | None = None,
        connection_limit: int = 256,
        idle_limit: int = 64,
        idle_s: float = 30.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.address = address
        self._heads = Heads(address, headers, proxy)
        self._dialler = Dialler(address, proxy, tls)
        self._pool = Pool(self._dialler, Limits(connection_limit, idle_limit, idle_s))
        self._plain_proxy = proxy is not None and not address.tls

    @property
    def open_connections(self) -> int:
        """How many connections there are: in use, idle, and being opened."""
        return self._pool.open

    @property
    def in_use(self) -> int:
        """How many connections belong to a call now, those being opened for one included."""
        return self._pool.in_use

    async def send(
        self,
        method: str,
        path: str,
        body: bytes | Sequence[Buffer] = b"",
        *,
        headers: Mapping[str, str] | None = None,
        deadlines: Deadlines = _DEADLINES,
        silence_s: float | None = None,
        ask: Callable[[], Awaitable[None]] | None = None,
    ) -> Response:
        """Send one request and return when the response's headers are there.

        A body may come in parts, which are sent one after the other. `headers` come after the client's own and must not
        repeat them. `silence_s` replaces both deadlines of silence. With `ask`, a response without headers is given up
        only once that raises a HanlinError, or is silent as well.
        Raises EngineUnreachable and EngineUnavailable when no connection comes about, EngineStalled and EngineFailed as
        in `Response.read`, ValueError for a header or path that cannot be sent.
        """
        if silence_s is not None:
            deadlines = deadlines.silent_for(silence_s)
        parts = (body,) if isinstance(body, bytes) else body
        size = sum(map(len, parts))
        head = self._heads.head(method, path, size, headers)
        loop = self._pool.watch.loop
        total_at = loop.time() + deadlines.total_s
        connection = self._pool.take() or await self._pool.get(deadlines.connect_s)
        while True:
            kept = connection.requests > 0
            try:
                connection.start(total_at, deadlines.total_s, ask)
                transport = connection.transport
                assert transport is not None
                if transport.is_closing():  # the peer's end has come already, and will be told in the loop's next turn
                    connection.close()
                elif size <= _ONE_WRITE_BYTES:
                    transport.write(b"".join((head, *parts)))
                else:
                    transport.write(head)
                    await connection.send_body(parts, deadlines.silence_s)
                by = loop.time() + deadlines.first_byte_s
                while not connection.headers_complete and not connection.closed:
                    await connection.change(by, deadlines.first_byte_s)
            except BaseException:
                connection.close()
                raise
            if connection.headers_complete:
                if self._plain_proxy and connection.status == 407:
                    connection.close()
                    raise EngineUnreachable(f"no connection to {self._dialler.where}: {WANTS_PASSWORD}")
                return Response(connection.status, connection.raw_headers, self._pool, connection, deadlines.silence_s)
            # A kept connection may have been closed by the peer just now, before it saw the request: a new one is safe.
            if not kept or connection.heard or connection.stalled_s is not None:
                raise connection.problem("the engine hung up before answering")
            connection = await self._pool.get(deadlines.connect_s, kept=False)

    def close(self) -> None:
        """Close every connection, also those in use. Later calls fail with EngineUnavailable."""
        self._pool.close()
