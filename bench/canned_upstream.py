"""A server that speaks OpenAI chat and has every answer ready, so that what is measured is the gateway before it.

What to answer stands in the prompt, because that is what every gateway hands on unchanged: `canned(50,one,0)` asks for
50 chunks, in one write (or `each` in its own), without pauses (or that many chunks a second). A chunk of a paced stream
carries the time at which it was sent, in microseconds of the machine's monotonic clock, as `@0000001234567890`.

    python -m bench.canned_upstream 9001 9002
"""

import asyncio
import gc
import json
import re
import signal
import sys
import time
from collections import deque
from functools import lru_cache
from typing import NamedTuple, cast

import httptools
import uvloop

CONTENT_BYTES = 300
STAMP = re.compile(rb"@(\d{16})")

_MARK = re.compile(rb"canned\((\d+),(one|each),(\d+)\)")
_STREAM = re.compile(rb'"stream"\s*:\s*true')
_USAGE = re.compile(rb'"include_usage"\s*:\s*true')
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\n%s\r\n\r\n"
_STREAM_HEAD = _HEAD % (b"text/event-stream; charset=utf-8", b"transfer-encoding: chunked")
_NO_STAMP = b"@0000000000000000"


class Wanted(NamedTuple):
    """What a prompt asks for; `pace` is in chunks a second, 0 for no pauses."""

    chunks: int = 50
    writes: str = "one"
    pace: int = 0

    def mark(self) -> str:
        """Return the words that ask for it."""
        return f"canned({self.chunks},{self.writes},{self.pace})"


def wanted(body: bytes) -> Wanted:
    """Return what a request's body asks for: its last mark, or what is usual without one."""
    mark = _MARK.match(body, max(body.rfind(b"canned("), 0))
    return Wanted(int(mark[1]), mark[2].decode(), int(mark[3])) if mark else Wanted()


@lru_cache
def whole(chunks: int) -> bytes:
    """Return the response of an unstreamed call."""
    message = {"role": "assistant", "content": _text(chunks) * chunks}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    return _json({**_about("chat.completion"), "choices": [choice], "usage": _usage(chunks)})


@lru_cache
def frames(chunks: int, *, usage: bool) -> tuple[bytes, ...]:
    """Return a stream as HTTP chunks: the head with the first frame, a frame each, and the end."""
    first = _STREAM_HEAD + _frame({"role": "assistant", "content": ""})
    texts = [_frame({"content": _text(chunks)})] * chunks
    return (first, *texts, _end(chunks, usage=usage))


@lru_cache
def stamped_frame() -> tuple[bytes, bytes]:
    """Return what stands before and behind the time in a chunk of a paced stream."""
    before, after = _frame({"content": _NO_STAMP.decode() + " "}).split(_NO_STAMP)
    return before + b"@", after


def _end(chunks: int, *, usage: bool) -> bytes:
    counted = _event({**_about("chat.completion.chunk"), "choices": [], "usage": _usage(chunks)}) if usage else b""
    return _frame({}, "stop") + counted + _chunked(b"data: [DONE]\n\n") + b"0\r\n\r\n"


def _text(chunks: int) -> str:
    """Return a chunk's text: together they are about `CONTENT_BYTES` long, at least a byte each."""
    size = max(CONTENT_BYTES // chunks, 1)
    return ("token " * (size // 6 + 1))[:size]


def _usage(chunks: int) -> dict[str, int]:
    return {"prompt_tokens": 20, "completion_tokens": chunks, "total_tokens": 20 + chunks}


def _about(kind: str) -> dict[str, object]:
    return {"id": "chatcmpl-0123456789abcdef0123456789abcdef", "object": kind, "created": 1760000000, "model": "canned"}


def _frame(delta: dict[str, str], finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    return _event({**_about("chat.completion.chunk"), "choices": [choice]})


def _event(body: dict[str, object]) -> bytes:
    return _chunked(b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n")


def _chunked(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def _json(body: dict[str, object]) -> bytes:
    data = json.dumps(body, separators=(",", ":")).encode()
    return _HEAD % (b"application/json", b"content-length: %d" % len(data)) + data


_MODELS = _json(
    {"object": "list", "data": [{"id": "qwen-plus", "object": "model", "created": 1, "owned_by": "canned"}]}
)
_WELL = _json({"status": "ok"})


class _Connection(asyncio.Protocol):
    """One connection; its requests are answered one after the other. No header is read: nothing depends on one."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._parser = httptools.HttpRequestParser(self)
        self._path = b""
        self._body: list[bytes] = []
        self._next: asyncio.Handle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transports are not asyncio's subclasses

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.abort()

    def connection_lost(self, _error: Exception | None) -> None:
        if self._next is not None:
            self._next.cancel()

    def on_url(self, url: bytes) -> None:
        self._path += url

    def on_body(self, data: bytes) -> None:
        self._body.append(data)

    def on_message_complete(self) -> None:
        path, self._path = self._path, b""
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body.clear()
        if not path.endswith(b"/chat/completions"):
            self._transport.write(_MODELS if path.endswith(b"/models") else _WELL)
            return
        what = wanted(body)
        if _STREAM.search(body) is None:
            self._transport.write(whole(what.chunks))
        elif what.pace:
            self._pace(what, usage=_USAGE.search(body) is not None)
        else:
            self._stream(what, usage=_USAGE.search(body) is not None)

    def _stream(self, what: Wanted, *, usage: bool) -> None:
        pieces = frames(what.chunks, usage=usage)
        if what.writes == "one":
            self._transport.write(_joined(pieces))
        else:
            self._write_each(deque(pieces))

    def _write_each(self, pieces: deque[bytes]) -> None:
        # Writes of one turn of the loop leave as one: a turn each.
        self._transport.write(pieces.popleft())
        self._next = self._loop.call_soon(self._write_each, pieces) if pieces else None

    def _pace(self, what: Wanted, *, usage: bool) -> None:
        self._transport.write(frames(what.chunks, usage=usage)[0])
        began = self._loop.time()
        before, after = stamped_frame()
        last = _end(what.chunks, usage=usage)

        def step(number: int) -> None:
            stamp = time.monotonic_ns() // 1000
            if number == what.chunks:
                self._transport.write(last)
                return
            self._transport.write(b"%s%016d%s" % (before, stamp, after))
            self._next = self._loop.call_at(began + (number + 1) / what.pace, step, number + 1)

        self._next = self._loop.call_at(began + 1 / what.pace, step, 0)


@lru_cache
def _joined(pieces: tuple[bytes, ...]) -> bytes:
    return b"".join(pieces)


async def serve(ports: list[int]) -> None:
    """Serve on ports of the loopback address until SIGTERM."""
    loop = asyncio.get_running_loop()
    for port in ports:
        await loop.create_server(lambda: _Connection(loop), "127.0.0.1", port, backlog=4096)
    over = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, over.set)
    gc.freeze()  # a long collection would be seen as the gateway's delay
    await over.wait()


if __name__ == "__main__":
    uvloop.run(serve([int(port) for port in sys.argv[1:]]))
