"""One HTTP request and its response: reading the body within a limit, answering, streaming, noticing a hang-up."""

import asyncio
import logging
import os
import re
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from typing import Any, Protocol, TypeVar

import msgspec

from hanlin.dialects.compatible.errors import error
from hanlin.errors import HanlinError, InvalidRequest
from hanlin.http import timings
from hanlin.http.accounts import Account
from hanlin.http.channel import Channel, Gone
from hanlin.http.heads import head, query_of
from hanlin.service.records import CallRecord
from hanlin.types import Body

Result = TypeVar("Result")


class Endings(Protocol):
    """Where the ends of answers wait for the others of the same turn of the loop."""

    def hold(self, exchange: "Exchange", body: bytes) -> None: ...


JSON = "application/json"
EVENT_STREAM = "text/event-stream;charset=UTF-8"

PROBES = ("/ready", "/health", "/metrics")

log = logging.getLogger("hanlin.http")

_DRAWN_AT_ONCE = 256
_SHOWN_PATH = 200
_KEY = re.compile(r"sk-[\w-]+")


def _ids() -> Iterator[str]:
    """Yield UUIDs that grow with time (RFC 9562 §5.7): a ledger stores such rows four times as fast as random ones."""
    variants = str.maketrans({f"{digit:x}": "89ab"[digit & 3] for digit in range(16)})
    last, begins = 0, ""
    while True:
        drawn = os.urandom(10 * _DRAWN_AT_ONCE).hex()
        varied = drawn.translate(variants)
        for at in range(0, len(drawn), 20):
            ms = int(time.time() * 1000)
            if ms != last:
                last, digits = ms, f"{ms:012x}"
                begins = f"{digits[:8]}-{digits[8:]}-7"
            yield f"{begins}{drawn[at : at + 3]}-{varied[at + 3]}{drawn[at + 4 : at + 7]}-{drawn[at + 7 : at + 19]}"


new_id = _ids().__next__
"""Return an id that finds the log lines of one request."""


class Exchange(msgspec.Struct, eq=False):
    """A request as its connection hands it over, and the one response to it. Made for every call, hence a Struct.

    `extra_headers` go with the response, as do `lines`, which are such already, and those of `statement`, which are
    known only when it begins. `ends_s` are the ends of its phases, in seconds since it began. `account` is there for
    requests that are counted; `task` handles it. Where an answer is `held`, it waits with others in `endings`.
    Everything of it runs on `loop`: asking for that takes a system call.
    """

    channel: Channel
    loop: asyncio.AbstractEventLoop
    method: str
    path: str
    headers: Mapping[bytes, bytes]
    id: str
    began: float
    began_unix_s: float
    status: int = 0
    extra_headers: dict[str, str] = {}
    lines: str = ""
    statement: Callable[[], str] = str
    ends_s: dict[str, float] = {}
    problem: HanlinError | None = None
    account: Account | None = None
    task: asyncio.Task[Any] | None = None
    endings: Endings | None = None
    held: bool = False

    @classmethod
    def of(cls, channel: Channel, loop: asyncio.AbstractEventLoop) -> "Exchange":
        """Return the exchange of a request that has just come."""
        now, wall = time.monotonic(), time.time()
        return cls(channel, loop, channel.method, channel.path, channel.headers, new_id(), now, wall)

    def __repr__(self) -> str:
        return f"Exchange({self.id})"  # without its headers: a key stands there

    @property
    def created(self) -> int:
        """When it began, as answers say it: whole seconds since 1970."""
        return int(self.began_unix_s)

    @property
    def started(self) -> bool:
        """Whether the response's status has left."""
        return self.status != 0

    @property
    def gone(self) -> bool:
        """Whether the client has hung up. What is written to it from then on is dropped."""
        return self.channel.gone

    def peer(self) -> str:
        """Return the address that the request came from, "" when nobody knows."""
        return self.channel.peer

    def shown_path(self) -> str:
        """Return the path as others may read it: not endless, and without a key that was taken for a part of it."""
        path = self.path[:_SHOWN_PATH]
        return _KEY.sub("sk-…", path) if "sk-" in path else path

    @property
    def query(self) -> str:
        """The part of the target behind its path, as it was sent."""
        return query_of(self.channel.target)

    @property
    def write_paused(self) -> bool:
        """Whether the client reads more slowly than it is written to, so that `write` would wait."""
        return self.channel.write_paused

    def header(self, name: str) -> str | None:
        """Return a request header; `name` in lower case."""
        value = self.headers.get(name.encode())
        return value.decode("latin-1").rstrip() if value is not None else None

    def bearer(self) -> str | None:
        """Return the key of the request, None when there is none."""
        scheme, _, key = (self.header("authorization") or "").partition(" ")
        return key.strip() or None if scheme.lower() == "bearer" else None

    async def body(self, limit_bytes: int) -> Body:
        """Return the request's body, once. Raises BodyTooLarge as soon as it is, and Gone when the client leaves."""
        return await self.channel.body(limit_bytes)

    def pieces(self, limit_bytes: int) -> AsyncIterator[bytes]:
        """Yield the request's body as it comes, once, without ever having much of it. Raises as `body` does."""
        return self.channel.pieces(limit_bytes)

    async def unless_gone(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run `work` and return its result; when the client hangs up first, cancel it and raise Gone."""
        channel = self.channel
        if channel.gone:
            work.close()
            raise Gone
        task = channel.watched = self.task or asyncio.current_task(self.loop)
        try:
            return await work
        except asyncio.CancelledError:
            # Whoever else cancels the call, as a service that ends does, means more than this work.
            if channel.gone and task is not None and not task.uncancel():
                raise Gone from None
            raise
        finally:
            channel.watched = None

    def begin(self, status: int, content_type: str, length: int | None = None) -> None:
        """Begin the response: `extra_headers` go with it, and its head leaves with the first bytes of its body."""
        self.status = status
        headers = self.extra_headers
        if timings.ASKED_BY in self.headers and timings.asked(self.headers[timings.ASKED_BY]):
            headers[timings.HEADER] = timings.header(self.ends_s)
        written = self.lines + self.statement()
        self.channel.begin(head(status, content_type, self.id, int(time.time()), headers, written), length)

    def push(self, data: bytes) -> None:
        """Send a piece of the body at once, also to a reader that is slow."""
        self.channel.push(data)

    def finish(self, data: bytes = b"") -> None:
        """Send the last piece of the body and its end. That of a billed call leaves with those of the same turn: its
        handler does nothing more after this, and does not wait."""
        if self.endings is not None and self.account is not None and self.account.bill is not None:
            self.ends_s["end"] = time.monotonic() - self.began
            self.held = True
            self.endings.hold(self, data)
        else:
            self.settle()
            self.channel.end(data)

    async def start(self, status: int, content_type: str) -> None:
        """Begin a response of many pieces."""
        self.begin(status, content_type)

    async def write(self, data: bytes) -> None:
        """Send a piece of the body; returns once it is taken, so a slow reader slows its writer."""
        self.channel.push(data)
        if self.channel.write_paused:
            await self.channel.drained()

    async def drained(self) -> None:
        """Return when a slow reader has caught up, or is gone."""
        await self.channel.drained()

    async def end(self) -> None:
        self.channel.end()

    async def answer(self, status: int, body: bytes, content_type: str = JSON) -> None:
        """Send a whole response."""
        self.begin(status, content_type, len(body))
        self.finish(body)

    def settle(self) -> None:
        """Settle the bill of the call, if it has one, once: before its last bytes leave."""
        account = self.account
        if account is not None and (bill := account.bill) is not None:
            try:
                if bill.row is None:
                    if "end" not in self.ends_s:
                        self.ends_s["end"] = time.monotonic() - self.began
                    left = self.channel.gone and not self.channel.ended
                    account.settle(self.ends_s, 0 if left else self.status, self.problem)
            finally:  # whatever is wrong with its row, what it held comes back
                if bill.reservation is not None:
                    bill.settle()

    def record(self, account: Account) -> CallRecord:
        """Return what became of this request, whose account is given."""
        if "end" not in self.ends_s:
            self.ends_s["end"] = time.monotonic() - self.began
        return account.record(
            request_id=self.id,
            began_unix_s=self.began_unix_s,
            phases_s=self.ends_s,
            status=self.status,
            problem=self.problem,
        )

    def log(self) -> None:
        """Write the request's line: what came, what went, how long it took. Never a key, a prompt or an answer."""
        importance = logging.WARNING if self.status >= 500 else logging.INFO
        if self.path in PROBES:  # they come every few seconds and say nothing new
            importance = logging.DEBUG
        if not log.isEnabledFor(importance):
            return
        took_ms = round((time.monotonic() - self.began) * 1000)
        what = f"{self.method} {self.shown_path()!r} {self.status} {took_ms} ms {self.id}"
        if self.account is not None and (served := self.account.by):
            what += f" by {served}"
        if self.problem is not None:
            what += f" {self.problem.code or self.problem.type}"
        log.log(importance, what)


def refuse(channel: Channel, problem: HanlinError) -> None:
    """Answer what never became a request that could be handled."""
    request_id = new_id()
    body = error(problem, request_id)
    more = {} if problem.retry_after_s is None else {"retry-after": str(problem.retry_after_s)}
    channel.begin(head(problem.status, JSON, request_id, int(time.time()), more), len(body))
    channel.end(body)
    log.info("%s: refused: %s", request_id, problem)


def malformed(why: str) -> HanlinError:
    """Return the error for bytes that are no request."""
    return InvalidRequest(f"The request is not HTTP as it should be: {why}")


__all__ = ["EVENT_STREAM", "JSON", "Exchange", "Gone", "log", "malformed", "new_id", "refuse"]
