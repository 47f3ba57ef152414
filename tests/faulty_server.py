"""An HTTP file server that fails on demand: it drops, truncates, corrupts, stalls, redirects and refuses.

Every path has its content and a queue of faults: each request takes the next one; with none left the server behaves.
What it was asked and what it sent is kept, so that a test can say what was fetched twice.
"""

import re
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Fault:
    """One answer that goes wrong. Offsets count within the bytes of this answer; None: not this way.

    | field | what happens |
    | --- | --- |
    | `drop_after` | the connection is cut after so many bytes |
    | `stall_after` | nothing comes any more after so many bytes, the connection stays open |
    | `lie_length` | Content-Length says this and no more is sent |
    | `no_length` | the end of the connection is the end of the body |
    | `corrupt_at` | this byte is another one |
    | `whole` | the range asked for is not honoured |
    | `wrong_range` | the answer begins one byte later than was asked |
    | `status`, `headers` | this status with these headers and an empty body |
    | `redirect` | 302 to this address |
    | `pause_s` | so long between blocks of 64 KiB |
    """

    drop_after: int | None = None
    stall_after: int | None = None
    lie_length: int | None = None
    no_length: bool = False
    corrupt_at: int | None = None
    whole: bool = False
    wrong_range: bool = False
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    redirect: str = ""
    pause_s: float = 0.0


@dataclass
class Served:
    """What there is under one path."""

    body: bytes
    content_type: str = "application/octet-stream"
    etag: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    faults: deque[Fault] = field(default_factory=deque)
    always: Fault | None = None


@dataclass
class Request:
    """What was asked, and how many bytes of a body went out."""

    path: str
    headers: Mapping[str, str]
    sent_bytes: int = 0


class FaultyServer:
    """A running server. `serve` adds a path; `requests` grows with every request."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        self.paths: dict[str, Served] = {}
        self.requests: list[Request] = []
        self.closing = threading.Event()

    def serve(self, path: str, body: bytes, *faults: Fault, etag: str = "", always: Fault | None = None) -> str:
        """Put a body under a path, with the faults of its first answers, and return its address."""
        self.paths[path] = Served(body, etag=etag, faults=deque(faults), always=always)
        return f"{self.url}{path}"

    def asked(self, path: str) -> list[Request]:
        """Return the requests for a path; the query is part of the path."""
        return [request for request in self.requests if request.path == path]

    def sent_bytes(self, path: str) -> int:
        """Return how much of a path's content went out in all."""
        return sum(request.sent_bytes for request in self.asked(path))


@contextmanager
def faulty_server() -> Iterator[FaultyServer]:
    """Run a server on a free port of the loopback until the block is left."""

    class Handler(_Handler):
        pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        faulty = FaultyServer(server)
        Handler.faulty = faulty
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield faulty
        finally:
            faulty.closing.set()
            server.shutdown()
            thread.join()


_BLOCK_BYTES = 64 * 1024
_NO_FAULT = Fault()


class _Handler(BaseHTTPRequestHandler):
    faulty: FaultyServer
    protocol_version = "HTTP/1.1"

    def handle(self) -> None:
        # A client that is killed resets its connection.
        with suppress(ConnectionError):
            super().handle()

    def log_message(self, format: str, *arguments: object) -> None:
        """Stay silent: what was asked is in `requests`."""

    def do_GET(self) -> None:
        request = Request(self.path, {name.lower(): value for name, value in self.headers.items()})
        self.faulty.requests.append(request)
        served = self.faulty.paths.get(self.path)
        if served is None:
            return self._empty(404, {})
        fault = served.faults.popleft() if served.faults else served.always or _NO_FAULT
        if fault.redirect:
            return self._empty(302, {"Location": fault.redirect, **fault.headers})
        if fault.status is not None:
            return self._empty(fault.status, fault.headers)
        return self._body(served, fault, request)

    def _empty(self, status: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _body(self, served: Served, fault: Fault, request: Request) -> None:
        start = self._start(served, fault, request)
        if start is not None and start >= len(served.body):
            return self._empty(416, {"Content-Range": f"bytes */{len(served.body)}"})
        body = bytearray(served.body[start or 0 :])
        if fault.corrupt_at is not None:
            body[fault.corrupt_at] ^= 0xFF
        self.send_response(200 if start is None else 206)
        if start is not None:
            self.send_header("Content-Range", f"bytes {start}-{len(served.body) - 1}/{len(served.body)}")
        self.send_header("Content-Type", served.content_type)
        if served.etag:
            self.send_header("ETag", served.etag)
        for name, value in served.headers.items():
            self.send_header(name, value)
        if fault.lie_length is not None:
            body = body[: fault.lie_length]
        if fault.no_length:
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        return self._send(bytes(body), fault, request)

    def _start(self, served: Served, fault: Fault, request: Request) -> int | None:
        """Return where the answer begins, or None for all of it."""
        match = re.fullmatch(r"bytes=(\d+)-", request.headers.get("range", ""))
        if match is None or fault.whole:
            return None
        if request.headers.get("if-range", served.etag) != served.etag:
            return None
        return int(match[1]) + (1 if fault.wrong_range else 0)

    def _send(self, body: bytes, fault: Fault, request: Request) -> None:
        stop = min(
            len(body),
            *(offset for offset in (fault.drop_after, fault.stall_after) if offset is not None),
            len(body),
        )
        try:
            for begin in range(0, stop, _BLOCK_BYTES):
                block = body[begin : min(begin + _BLOCK_BYTES, stop)]
                self.wfile.write(block)
                request.sent_bytes += len(block)
                if fault.pause_s and self.faulty.closing.wait(fault.pause_s):
                    break
            self.wfile.flush()
        except OSError:
            self.close_connection = True
            return
        if fault.stall_after is not None:
            self.faulty.closing.wait()
        if fault.drop_after is not None or fault.stall_after is not None or fault.no_length or fault.pause_s:
            self.close_connection = True
