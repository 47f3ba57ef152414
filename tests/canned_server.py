"""A server that answers with bytes of the test's choice, in the test's own event loop, and sees what its clients do."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from hanlin.engines.wire import Address

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


class CannedServer:
    """Answers every request by `answer`; `hung_up` is set when a client closes a connection."""

    def __init__(self, answer: Answer | bytes, socket: Path | None = None) -> None:
        self._answer = answer
        self._socket = socket
        self._tasks: set[asyncio.Task[None]] = set()
        self.connections = 0
        self.asked: list[Asked] = []
        self.hung_up = asyncio.Event()
        self.address = Address()

    async def __aenter__(self) -> Self:
        if self._socket is not None:
            self._server = await asyncio.start_unix_server(self._connected, self._socket)
            self.address = Address(socket=str(self._socket))
        else:
            self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
            self.address = Address("127.0.0.1", self._server.sockets[0].getsockname()[1])
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
