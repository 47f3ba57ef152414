"""One request and the answer to it, between the connection that carries them and the exchange that handles them."""

import asyncio
import contextlib
import mmap as mmap_module
from collections.abc import AsyncIterator, Mapping
from mmap import mmap
from typing import Protocol

import msgspec

from hanlin.errors import BodyTooLarge, HanlinError
from hanlin.types import Body

# How much of a body is taken in before anybody asks for it.
_AHEAD_BYTES = 64 * 1024
# How much of a body is taken in while somebody works on what came before.
_PIECE_BYTES = 256 * 1024
# From which on a body is put together as it comes.
_LARGE_BYTES = 256 * 1024
# Beyond it a copy costs more than a second write.
_ONE_WRITE_BYTES = 128 * 1024


def _memory(size: int) -> mmap:
    """Return memory that is given back as soon as nobody uses it any more.

    The first touch of each page is a trip to the kernel, and of ten megabytes a fifth of what a call may cost: in large
    pages, where there are such, it is few trips.
    """
    memory = mmap(-1, size)
    if hasattr(mmap_module, "MADV_HUGEPAGE"):  # Linux
        with contextlib.suppress(OSError):  # a kernel without them
            memory.madvise(mmap_module.MADV_HUGEPAGE)
    return memory


class Gone(Exception):
    """The client hung up; there is nobody to answer."""


class Wire(Protocol):
    """What a channel asks of its connection."""

    write_paused: bool

    @property
    def peer(self) -> str:
        """The address of whoever is connected, "" when nobody knows."""
        ...

    @property
    def ending(self) -> bool:
        """Whether no other request is taken after the one that is being answered."""
        ...

    def write(self, data: bytes) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    async def drained(self) -> None: ...
    def over(self, channel: "Channel") -> None:
        """Go on with what comes after a request whose handling is over."""


class Channel(msgspec.Struct, eq=False):
    """A request that is coming in or is here, and its answer, which is written once.

    `keeps` says whether another request may follow on the connection. `watched` is the task that is cancelled when the
    client hangs up; while there is none, `gone` has to be looked at. Writing to a client that is gone does nothing.
    `chunks` says whether the client can read a body in chunks: HTTP/1.0 cannot. `target` is what was asked for, as it
    was sent; `path` is a part of it. Made for every call, hence a Struct.
    """

    wire: Wire
    method: str
    path: str
    headers: Mapping[bytes, bytes]
    keeps: bool
    chunks: bool
    target: bytes = b""
    complete: bool = False
    gone: bool = False
    ended: bool = False
    size: int = 0
    problem: HanlinError | None = None
    watched: asyncio.Task[object] | None = None
    _chunked: bool = False
    _head: bytes = b""
    _room: int = _AHEAD_BYTES
    _parts: list[bytes] = []
    _whole: mmap | None = None  # of a large body whose length is known
    _waiter: asyncio.Future[None] | None = None

    # what the connection tells

    def feed(self, part: bytes) -> None:
        """Take in a piece of the body. Reading pauses when there is more than somebody has asked for."""
        self.size += len(part)
        if self.ended:
            return
        whole = self._whole
        if whole is None:
            self._parts.append(part)
        else:  # within it: the parser sees to it that no more comes than the length says
            whole[self.size - len(part) : self.size] = part
        if self.size > self._room:
            self.wire.pause_reading()
            self._wake()

    def finish(self) -> None:
        """Know that the request is here as a whole."""
        self.complete = True
        if self._waiter is not None:
            self._wake()

    def fail(self, problem: HanlinError) -> None:
        """Know that its body breaks off in what is not HTTP."""
        self.problem = problem
        self.keeps = False
        self._wake()

    def lose(self) -> None:
        """Know that the client is gone."""
        self.gone = True
        self._wake()
        if self.watched is not None:
            self.watched.cancel()

    def missing(self) -> int:
        """Return how many bytes of the body are still to come, 0 when it does not say."""
        return max(self._length() - self.size, 0)

    # what the exchange does

    @property
    def peer(self) -> str:
        """The address of whoever is connected, "" when nobody knows."""
        return self.wire.peer

    @property
    def write_paused(self) -> bool:
        """Whether the client reads more slowly than it is written to."""
        return self.wire.write_paused and not self.gone

    async def body(self, limit_bytes: int) -> Body:
        """Return the whole body, once. Raises BodyTooLarge as soon as it is, Gone, and what the body itself broke."""
        if not self.complete:
            await self._rest(limit_bytes)
        return self.taken(limit_bytes)

    def taken(self, limit_bytes: int) -> Body:
        """Return the body of a request that is here as a whole, once. Raises BodyTooLarge."""
        if self.size > limit_bytes:
            raise BodyTooLarge(limit_bytes)
        if self._whole is not None:
            whole, self._whole = self._whole, None
            return whole
        parts, self._parts = self._parts, []
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def pieces(self, limit_bytes: int) -> AsyncIterator[bytes]:
        """Yield the whole body as it comes, once: no more of it is here than one piece and what comes meanwhile.

        Raises as `body` does.
        """
        self._begin_reading(limit_bytes)
        while True:
            if self.size > limit_bytes:
                raise BodyTooLarge(limit_bytes)
            if self._parts:
                parts, self._parts = self._parts, []
                yield b"".join(parts)
            elif self.complete:
                return
            else:
                self._room = self.size + _PIECE_BYTES
                await self._more()

    async def _rest(self, limit_bytes: int) -> None:
        self._begin_reading(limit_bytes)
        self._room = limit_bytes
        if self._length() >= _LARGE_BYTES and self._whole is None:
            # Put together as it comes: joined at its end, it would be there twice.
            self._whole = _memory(self._length())
            self._whole[: self.size] = b"".join(self._parts)
            self._parts.clear()
        while not self.complete and self.size <= limit_bytes:
            await self._more()

    def _begin_reading(self, limit_bytes: int) -> None:
        if self._length() > limit_bytes:
            raise BodyTooLarge(limit_bytes)
        if not self.size and self.chunks and self.headers.get(b"expect", b"").strip().lower() == b"100-continue":
            self.wire.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    async def _more(self) -> None:
        """Wait until there is more than there was room for, or the end. Raises Gone, and what the body itself broke."""
        if self.gone:
            raise Gone
        if self.problem is not None:
            raise self.problem
        self.wire.resume_reading()
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter

    def _nearly(self) -> bool:
        """Whether the rest of the request is sure to come, and little: then throwing it away beats a new connection."""
        return 0 < self.missing() <= _AHEAD_BYTES and b"expect" not in self.headers and self.problem is None

    def _length(self) -> int:
        return int(self.headers.get(b"content-length", 0))

    def begin(self, head: str, length: int | None) -> None:
        """Begin the answer, of `length` bytes or of as many as will come. Its head leaves with the first of them."""
        self.keeps = self.keeps and not self.wire.ending and (self.complete or self._nearly())
        if length is not None:
            head += f"content-length: {length}\r\n"
        elif self.chunks:
            head += "transfer-encoding: chunked\r\n"
            self._chunked = True
        else:
            self.keeps = False
        if not self.keeps:
            head += "connection: close\r\n"
        elif not self.chunks:
            head += "connection: keep-alive\r\n"
        self._head = f"{head}\r\n".encode("ascii")

    def push(self, data: bytes) -> None:
        """Write a piece of the body, now, however slowly the client reads."""
        if self.method == "HEAD":
            data = b""
        elif data and self._chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        self._send(data)

    def end(self, data: bytes = b"") -> None:
        """Write the last piece of the body and its end, in one."""
        if self._chunked and self.method != "HEAD":
            data = b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data) if data else b"0\r\n\r\n"
        elif self.method == "HEAD":
            data = b""
        self._send(data)
        self.ended = True
        self._parts.clear()
        self._whole = None

    def _send(self, data: bytes) -> None:
        if self.gone or self.ended:
            return
        if self._head:
            if len(data) <= _ONE_WRITE_BYTES:
                data = self._head + data
            else:
                self.wire.write(self._head)
            self._head = b""
        if data:
            self.wire.write(data)

    async def drained(self) -> None:
        """Return when the client has read so much that writing is sensible again, or is gone."""
        if self.write_paused:
            await self.wire.drained()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
