"""Callers of a chat endpoint, as a process of its own: reads a `Spec` from standard input, prints an `Outcome`.

Three ways to call. `closed`: every connection asks again as soon as it has been answered. `open`: calls are due at a
fixed rate, whatever has become of the earlier ones, so that a slow server cannot slow its own load down; one that finds
no connection free waits for it, and its time counts from when it was due. Times have up to a nap on them that answers
wait to be seen. `paced`: every connection reads one stream, whose chunks say when they were sent.
"""

import asyncio
import contextlib
import gc
import statistics
import sys
import time
from array import array
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Literal, cast

import httptools
import msgspec
import uvloop

from bench.canned_upstream import STAMP, Wanted

_NAP_S = 0.0001  # of an open loop between two looks: the servers may have the same core
_HUNG_S = 10.0
_GRACE_S = 15.0  # how long paced streams may end after their time


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """What to call, how, and for how long; the first `warm_s` of it do not count."""

    port: int
    path: str
    headers: dict[str, str]
    mode: Literal["closed", "open", "paced"] = "closed"
    stream: bool = False
    connections: int = 32
    rate: float = 0.0
    seconds: float = 5.0
    warm_s: float = 1.0
    chunks: int = 50
    writes: str = "one"
    pace: int = 0
    body_bytes: int = 0


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it. Times are in milliseconds; `delay`: of chunks over their sending; `late`: of calls begun."""

    answered: int
    per_second: float
    chunks_per_second: float
    p50_ms: float
    p99_ms: float
    delay_p50_ms: float = 0.0
    delay_p99_ms: float = 0.0
    late_p99_ms: float = 0.0
    streams_begun: int = 0
    streams_ended: int = 0
    errors: dict[str, int] = {}


def request_of(spec: Spec) -> bytes:
    """Return the bytes of the call, the same every time."""
    mark = Wanted(spec.chunks, spec.writes, spec.pace).mark()
    padding = "many words " * (spec.body_bytes // 11)
    body: dict[str, object] = {
        "model": "qwen-plus",
        "messages": [
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": f"{padding}Who are you? {mark}"},
        ],
        "max_tokens": 512,
        "temperature": 0.7,
    }
    if spec.stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    data = msgspec.json.encode(body)
    headers = {"host": f"127.0.0.1:{spec.port}", **spec.headers, "content-type": "application/json"}
    lines = [f"POST {spec.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, f"content-length: {len(data)}", "", ""]).encode() + data


class Caller(asyncio.Protocol):
    """One connection with one call at a time; `over(caller, problem)` is told when it was answered, "" if well."""

    def __init__(self, spec: Spec, request: bytes, over: Callable[["Caller", str], None]) -> None:
        self._spec = spec
        self._request = request
        self._over = over
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._waiting = False
        self._complete = False
        self._keep_alive = True
        self._rest = b""
        self.began = 0.0
        self.chunks = 0
        self.body: list[bytes] = []
        self.delays = array("d")

    async def call(self, due: float) -> None:
        """Begin the next call, on a new connection if there is none."""
        if self._transport is None:
            try:
                await asyncio.get_running_loop().create_connection(lambda: self, "127.0.0.1", self._spec.port)
            except OSError as error:
                await asyncio.sleep(0.05)
                self._over(self, f"no connection: {error.strerror}")
                return
        self.ask(due)

    @property
    def connected(self) -> bool:
        return self._transport is not None

    @property
    def hung(self) -> bool:
        """Whether the call has been under way for longer than anybody would wait."""
        return self._waiting and time.perf_counter() - self.began > _HUNG_S

    def ask(self, due: float) -> None:
        """Begin the next call on the open connection; it was `due` then."""
        assert self._transport is not None
        self.body = []
        self._waiting = True
        self.began = due
        self._transport.write(self._request)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transports are not asyncio's subclasses
        self._parser = httptools.HttpResponseParser(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._lose(f"not HTTP: {error}")
            return
        if self._complete:
            self._complete = False
            self._waiting = False
            problem = self._problem()
            if not self._keep_alive and self._transport is not None:
                self._transport.abort()
                self._transport = None
            self._over(self, problem)

    def connection_lost(self, _error: Exception | None) -> None:
        self._transport = None
        if self._waiting:
            self._waiting = False
            self._over(self, "hung up on")

    def on_body(self, data: bytes) -> None:
        if self._spec.pace:
            self._note(data)
        self.body.append(data)

    def on_message_complete(self) -> None:
        self._complete = True
        self._keep_alive = self._parser.should_keep_alive()  # not to be known any more once this has returned

    def _note(self, data: bytes) -> None:
        """Note how long ago the chunks that have come were sent."""
        now_us = time.monotonic_ns() // 1000
        lines, newline, self._rest = (self._rest + data).rpartition(b"\n")
        if newline:
            self.delays.extend(now_us - int(stamp) for stamp in STAMP.findall(lines))

    def _problem(self) -> str:
        status = self._parser.get_status_code()
        if status != 200:
            return f"status {status}: {b''.join(self.body)[:80].decode('utf-8', 'replace')}"
        if self._spec.stream:
            body = b"".join(self.body)
            self.chunks = body.count(b"data:")
            if not body.rstrip().endswith(b"[DONE]"):
                return "a stream without its end"
            if self.chunks < self._spec.chunks:
                return f"a stream of {self.chunks} chunks"
        return ""

    def _lose(self, problem: str) -> None:
        if self._transport is not None:
            self._transport.abort()
        self._transport = None
        if self._waiting:
            self._waiting = False
            self._over(self, problem)


class Load:
    """The callers of one spec and what they saw."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._request = request_of(spec)
        self._callers: list[Caller] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle: deque[Caller] = deque()
        self._due: deque[float] = deque()  # when the calls were that wait for a connection
        self._errors: Counter[str] = Counter()
        self._times = array("d")
        self._late = array("d")
        self._chunks = 0
        self._ended = 0
        self._all_over = asyncio.Event()
        self._from = self._until = time.perf_counter()

    async def run(self) -> Outcome:
        self._from = time.perf_counter() + self._spec.warm_s
        self._until = self._from + self._spec.seconds
        if self._spec.mode == "closed":
            await self._closed()
        elif self._spec.mode == "open":
            await self._open()
        else:
            await self._paced()
        if hung := sum(caller.hung for caller in self._callers):
            self._errors["no end in time"] += hung
        return self._outcome()

    async def _closed(self) -> None:
        for _ in range(self._spec.connections):
            self._begin(self._new(self._again))
        await asyncio.sleep(self._until - time.perf_counter())

    def _again(self, caller: Caller, problem: str) -> None:
        now = time.perf_counter()
        self._count(caller, problem, now)
        if now < self._until:
            self._begin(caller)

    async def _open(self) -> None:
        began, sent = time.perf_counter(), 0
        while (now := time.perf_counter()) < self._until:
            while sent < (now - began) * self._spec.rate:
                due = began + sent / self._spec.rate
                sent += 1
                if self._idle:
                    self._begin(self._idle.popleft(), due)
                elif len(self._callers) < self._spec.connections:
                    self._begin(self._new(self._rest), due)
                else:
                    self._due.append(due)
            await asyncio.sleep(0)
            time.sleep(_NAP_S)  # noqa: ASYNC251 - the loop's own timers count milliseconds: calls would begin in heaps
        await asyncio.sleep(0.2)  # what has begun may still be answered well
        if self._due:
            self._errors["never begun"] += len(self._due)

    def _rest(self, caller: Caller, problem: str) -> None:
        self._count(caller, problem, time.perf_counter())
        if self._due:
            self._begin(caller, self._due.popleft())
        else:
            self._idle.append(caller)

    async def _paced(self) -> None:
        for _ in range(self._spec.connections):
            self._begin(self._new(self._end))
            await asyncio.sleep(self._spec.warm_s / self._spec.connections)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._until + _GRACE_S - time.perf_counter()):
                await self._all_over.wait()

    def _end(self, caller: Caller, problem: str) -> None:
        self._chunks += caller.chunks
        if problem:
            self._errors[problem] += 1
        else:
            self._ended += 1
        if self._ended + self._errors.total() == self._spec.connections:
            self._all_over.set()

    def _new(self, over: Callable[[Caller, str], None]) -> Caller:
        caller = Caller(self._spec, self._request, over)
        self._callers.append(caller)
        return caller

    def _begin(self, caller: Caller, due: float | None = None) -> None:
        now = time.perf_counter()
        due = now if due is None else due
        self._late.append(now - due)
        if caller.connected:
            caller.ask(due)
        else:
            task = asyncio.create_task(caller.call(due))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _count(self, caller: Caller, problem: str, now: float) -> None:
        if problem:
            self._errors[problem] += 1
        elif self._from <= caller.began and (now <= self._until or self._spec.mode == "open"):
            self._times.append(now - caller.began)
            self._chunks += caller.chunks

    def _outcome(self) -> Outcome:
        delays = array("d")
        for caller in self._callers:
            delays.extend(caller.delays)
        return Outcome(
            answered=len(self._times),
            per_second=len(self._times) / self._spec.seconds,
            chunks_per_second=self._chunks / self._spec.seconds,
            p50_ms=quantile(self._times, 0.5) * 1000,
            p99_ms=quantile(self._times, 0.99) * 1000,
            delay_p50_ms=quantile(delays, 0.5) / 1000,
            delay_p99_ms=quantile(delays, 0.99) / 1000,
            late_p99_ms=quantile(self._late, 0.99) * 1000,
            streams_begun=self._spec.connections if self._spec.mode == "paced" else 0,
            streams_ended=self._ended,
            errors=dict(self._errors.most_common(5)),
        )


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value below which `share` of the values lie, 0 when there are none."""
    if len(values) < 2:
        return values[0] if values else 0.0
    return statistics.quantiles(values, n=100, method="inclusive")[round(share * 100) - 1]


async def main() -> None:
    spec = msgspec.json.decode(sys.stdin.buffer.read(), type=Spec)
    gc.freeze()  # a long collection would be seen as somebody's delay
    sys.stdout.buffer.write(msgspec.json.encode(await Load(spec).run()))


if __name__ == "__main__":
    uvloop.run(main())
