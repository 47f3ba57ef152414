"""One HTTP request and its response: reading the body within a limit, answering, streaming, noticing a hang-up."""

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Mapping, MutableMapping
from typing import Any, TypeVar

from hanlin.errors import BodyTooLarge, HanlinError

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

Result = TypeVar("Result")

JSON = "application/json"
EVENT_STREAM = "text/event-stream;charset=UTF-8"

PROBES = ("/ready", "/health")

log = logging.getLogger("hanlin.http")


class Gone(Exception):
    """The client hung up; there is nobody to answer."""


class Exchange:
    """A request as ASGI hands it over, and the one response to it."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.headers: Mapping[bytes, bytes] = dict(scope["headers"])
        self.id = str(uuid.uuid4())
        self.began = time.monotonic()
        self.created = int(time.time())
        self.status = 0
        self.extra_headers: dict[str, str] = {}
        self.problem: HanlinError | None = None
        self._receive = receive
        self._send = send

    @property
    def started(self) -> bool:
        """Whether the response's status has left."""
        return self.status != 0

    def header(self, name: str) -> str | None:
        """Return a request header; `name` in lower case."""
        value = self.headers.get(name.encode())
        return value.decode("latin-1") if value is not None else None

    def bearer(self) -> str | None:
        """Return the key of the request, None when there is none."""
        scheme, _, key = (self.header("authorization") or "").partition(" ")
        return key.strip() or None if scheme.lower() == "bearer" else None

    async def body(self, limit_bytes: int) -> bytes:
        """Return the request's body. Raises BodyTooLarge as soon as it is, and Gone when the client leaves."""
        length = self.header("content-length") or ""
        if length.isdecimal() and int(length) > limit_bytes:
            raise BodyTooLarge(limit_bytes)
        parts: list[bytes] = []
        size = 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise Gone
            part = message.get("body", b"")
            size += len(part)
            if size > limit_bytes:
                raise BodyTooLarge(limit_bytes)
            parts.append(part)
            if not message.get("more_body", False):
                return b"".join(parts)

    async def unless_gone(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run `work` and return its result; when the client hangs up first, cancel it and raise Gone."""
        task = asyncio.create_task(work)
        leaving = asyncio.create_task(self._left())
        try:
            await asyncio.wait((task, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise Gone
            return task.result()
        finally:
            task.cancel()
            leaving.cancel()
            await asyncio.wait((task, leaving))

    async def _left(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def start(self, status: int, content_type: str) -> None:
        """Send the status and the headers; `extra_headers` go with them."""
        self.status = status
        headers = {"content-type": content_type, "x-request-id": self.id, **self.extra_headers}
        await self._send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [(name.encode(), _header_value(value)) for name, value in headers.items()],
            }
        )

    async def write(self, data: bytes) -> None:
        """Send a piece of the body; returns once it is taken, so a slow reader slows its writer."""
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self) -> None:
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def answer(self, status: int, body: bytes, content_type: str = JSON) -> None:
        """Send a whole response."""
        self.extra_headers["content-length"] = str(len(body))
        await self.start(status, content_type)
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    def log(self) -> None:
        """Write the request's line: what came, what went, how long it took. Never a key, a prompt or an answer."""
        took_ms = round((time.monotonic() - self.began) * 1000)
        what = f"{self.method} {self.path[:200]!r} {self.status} {took_ms} ms {self.id}"
        if served := self.extra_headers.get("x-hanlin-served-by"):
            what += f" by {served}"
        if self.problem is not None:
            what += f" {self.problem.code or self.problem.type}"
        log.log(self._importance(), what)

    def _importance(self) -> int:
        """Probes come every few seconds and say nothing new; failures of the service are what one looks for."""
        if self.path in PROBES:
            return logging.DEBUG
        return logging.WARNING if self.status >= 500 else logging.INFO


def _header_value(value: str) -> bytes:
    """Encode a header's value; what a header cannot carry (line ends, Chinese) is percent-encoded as UTF-8."""
    return "".join(
        character if " " <= character <= "~" else "".join(f"%{byte:02X}" for byte in character.encode())
        for character in value
    ).encode()
