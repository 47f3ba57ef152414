"""A server that answers with bytes of the test's choice, in the test's own event loop, and sees what its clients do."""

import asyncio
import contextlib
import ssl
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from hanlin.engines.wire import Address, Proxy

READ_BYTES = 65536


@dataclass(frozen=True)
class Asked:
    """A request as it came."""

    path: str
    head: str
    body: bytes


Answer = Callable[[Asked, asyncio.StreamWriter], Awaitable[None]]


def whole(status: int, body: bytes, *headers: str) -> bytes:
    """Return a response with a length, on a connection that may be kept."""
    lines = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def chunked(*pieces: bytes) -> bytes:
    """Return a response in chunks."""
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"


class _Listener:
    """A server of the streams' kind whose handlers end with it."""

    def __init__(self, socket: Path | None = None, tls: ssl.SSLContext | None = None) -> None:
        self._socket = socket
        self._tls = tls
        self._tasks: set[asyncio.Task[None]] = set()
        self.connections = 0
        self.address = Address()

    async def __aenter__(self) -> Self:
        if self._socket is not None:
            self._server = await asyncio.start_unix_server(self._connected, self._socket)
            self.address = Address(socket=str(self._socket))
        else:
            self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, ssl=self._tls)
            port = self._server.sockets[0].getsockname()[1]
            self.address = Address("127.0.0.1", port, tls=self._tls is not None)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            # Cancelled at the end of the test only, where a streams' server would report a task that ends so.
            with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                await self._serve(reader, writer)
        finally:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise NotImplementedError


class CannedServer(_Listener):
    """Answers every request by `answer`; `hung_up` is set when a client closes a connection."""

    def __init__(self, answer: Answer | bytes, socket: Path | None = None, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(socket, tls)
        self._answer = answer
        self.asked: list[Asked] = []
        self.hung_up = asyncio.Event()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not writer.is_closing():
            try:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
            except (asyncio.IncompleteReadError, ConnectionError):
                self.hung_up.set()
                return
            length = next((int(line[15:]) for line in head.split("\r\n") if line.startswith("Content-Length:")), 0)
            asked = Asked(head.split(" ")[1], head, await reader.readexactly(length))
            self.asked.append(asked)
            if isinstance(self._answer, bytes):
                writer.write(self._answer)
            else:
                await self._answer(asked, writer)


class RawServer(_Listener):
    """Leaves each connection to `serve`, and closes it afterwards."""

    def __init__(self, serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> None:
        super().__init__()
        self._answer = serve

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            await self._answer(reader, writer)


class CannedProxy(_Listener):
    """A proxy whose tunnels all lead to `target`, whatever they are asked for; with `refusal` they lead nowhere."""

    def __init__(self, target: Address, refusal: bytes = b"") -> None:
        super().__init__()
        self._target = target
        self._refusal = refusal
        self.heads: list[str] = []

    def proxy(self, authorization: str = "") -> Proxy:
        return Proxy(self.address.host, self.address.port, authorization)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        if self._refusal:
            writer.write(self._refusal)
            return
        onwards, back = await asyncio.open_connection(self._target.host, self._target.port)
        writer.write(b"HTTP/1.1 200 Connection established\r\nVia: canned\r\n\r\n")
        await asyncio.gather(_pour(reader, back), _pour(onwards, writer))


async def _pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(READ_BYTES):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


# --- TLS -------------------------------------------------------------------------------------------------------------

# Made for these tests and trusted by nothing else: of localhost, 127.0.0.1 and engine.test, from 2020 to 2120.
CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBpjCCAUygAwIBAgIBATAKBggqhkjOPQQDAjAaMRgwFgYDVQQDDA9UZXN0cyBv
ZiBIYW5saW4wIBcNMjAwMTAxMDAwMDAwWhgPMjEyMDAxMDEwMDAwMDBaMBoxGDAW
BgNVBAMMD1Rlc3RzIG9mIEhhbmxpbjBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IA
BLfNhygdIHhOOD6W0q0osu9cyA9P3rhn0/AUFu/wvS8NMsxtaMXPIZtfd3pBKj69
7c8qy5yIVlzgVYTtPQBL36+jgYAwfjAPBgNVHRMBAf8EBTADAQH/MA4GA1UdDwEB
/wQEAwIChDATBgNVHSUEDDAKBggrBgEFBQcDATAdBgNVHQ4EFgQUJbOg/lBoNzUU
N6pZaWsLxl+dEAUwJwYDVR0RBCAwHoIJbG9jYWxob3N0ggtlbmdpbmUudGVzdIcE
fwAAATAKBggqhkjOPQQDAgNIADBFAiEAkvnv/vO6mLmQ0sRATqQeiXF8Rq21abrg
PJszYsTCf3YCIFwTbvzrPCM2rxE05vJ4xVCUZfcCywOLqy/7VA+FcGJG
-----END CERTIFICATE-----
"""
_KEY = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgCk1t3zLhEXBpJlWX
gYO0ctHZLpqMpNNWwizaOeVL0ZuhRANCAAS3zYcoHSB4Tjg+ltKtKLLvXMgPT964
Z9PwFBbv8L0vDTLMbWjFzyGbX3d6QSo+ve3PKsuciFZc4FWE7T0AS9+v
-----END PRIVATE KEY-----
"""


def serving() -> ssl.SSLContext:
    """Return what a server needs to speak TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["h2", "http/1.1"])
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:  # ssl reads a key from files only
        file.write(CERTIFICATE + _KEY)
        file.flush()
        context.load_cert_chain(file.name)
    return context


def trusting_it() -> ssl.SSLContext:
    """Return what a client needs to trust that server."""
    return ssl.create_default_context(cadata=CERTIFICATE)
