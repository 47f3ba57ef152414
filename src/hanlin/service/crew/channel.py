"""Messages over a Unix socket: each is its length in four bytes, and then so many bytes."""

import asyncio
import contextlib
from pathlib import Path

LIMIT_BYTES = 256 * 1024 * 1024
"""The longest message. A request's body is bounded where it comes in, what is made of it is a few times as long."""

_HEAD_BYTES = 4
_READ_BYTES = 256 * 1024
_UNSENT_BYTES = 64 * 1024


class Channel:
    """One connection that carries messages both ways. A connection that breaks is one that has ended."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._read = bytearray()
        writer.transport.set_write_buffer_limits(high=_UNSENT_BYTES)

    @property
    def unsent_bytes(self) -> int:
        """How much waits for the other side to read."""
        return self._writer.transport.get_write_buffer_size()

    def send(self, message: bytes) -> None:
        """Send a message; never waits. What nobody is there to read is lost."""
        if not self._writer.transport.is_closing():
            self._writer.write(len(message).to_bytes(_HEAD_BYTES, "big") + message)

    async def sent(self) -> None:
        """Wait until the other side has read nearly all of it, or is gone."""
        with contextlib.suppress(OSError):
            await self._writer.drain()

    async def receive(self) -> bytes | None:
        """Return the next message; None once the other side has hung up."""
        read = self._read
        while True:
            if len(read) >= _HEAD_BYTES:
                end = _HEAD_BYTES + int.from_bytes(read[:_HEAD_BYTES], "big")
                if len(read) >= end:
                    message = bytes(read[_HEAD_BYTES:end])
                    del read[:end]
                    return message
                if end > LIMIT_BYTES:
                    return None
            piece = await self._more()
            if not piece:
                return None
            read += piece

    async def ended(self) -> None:
        """Return when the other side hangs up, whatever it says until then."""
        while await self._more():
            pass

    async def _more(self) -> bytes:
        try:
            return await self._reader.read(_READ_BYTES)
        except OSError:
            return b""

    def close(self) -> None:
        """Hang up; what was sent still leaves."""
        self._writer.close()


async def connect(path: Path) -> Channel:
    """Return a connection to whoever listens at a path. Raises OSError."""
    return Channel(*await asyncio.open_unix_connection(path))
