"""The other side of an ASGI call, in the test's own process: a client that sends, reads, stops reading and hangs up."""

import asyncio
import json
from collections.abc import Mapping, MutableMapping
from typing import Any

from hanlin.http.exchange import Exchange

Sent = MutableMapping[str, Any]


class Peer:
    """One request and what came back for it.

    The body arrives in the given pieces; `finish_body=False` leaves the rest to come. While `reading` is cleared, every
    send waits; `hang_up` makes the next `receive` say that the client is gone.
    """

    def __init__(
        self,
        *pieces: bytes,
        method: str = "POST",
        path: str = "/",
        headers: Mapping[str, str] | None = None,
        finish_body: bool = True,
    ) -> None:
        self.scope: dict[str, Any] = {
            "type": "http",
            "method": method,
            "path": path,
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in (headers or {}).items()],
        }
        parts = pieces or (b"",)
        self._incoming: list[Sent] = [
            {"type": "http.request", "body": part, "more_body": not (finish_body and number == len(parts))}
            for number, part in enumerate(parts, 1)
        ]
        self._hung_up = asyncio.Event()
        self.reading = asyncio.Event()
        self.reading.set()
        self.sent: list[Sent] = []
        self._something_sent = asyncio.Event()

    def hang_up(self) -> None:
        self._hung_up.set()

    async def receive(self) -> Sent:
        if self._incoming:
            return self._incoming.pop(0)
        await self._hung_up.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Sent) -> None:
        await self.reading.wait()
        self.sent.append(message)
        self._something_sent.set()

    async def until(self, piece: bytes) -> None:
        """Wait until the body so far holds `piece`."""
        async with asyncio.timeout(10):
            while piece not in self.body:
                self._something_sent.clear()
                await self._something_sent.wait()

    def exchange(self) -> Exchange:
        return Exchange(self.scope, self.receive, self.send)

    @property
    def status(self) -> int:
        """The status that was sent; fails unless it was sent first, and once."""
        starts = [message for message in self.sent if message["type"] == "http.response.start"]
        assert starts == self.sent[:1], self.sent
        return int(starts[0]["status"])

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.sent[0]["headers"]}

    @property
    def pieces(self) -> list[bytes]:
        """The pieces of the body, each one a send; the empty one that only ends it is left out."""
        return [message["body"] for message in self.sent[1:] if message["body"]]

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def ended(self) -> bool:
        return bool(self.sent) and self.sent[-1].get("more_body") is False
