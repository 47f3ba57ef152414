"""Hold one client's connection: read requests, play the scripts of their answers, and notice a hang-up at once.

A plain `asyncio.Protocol`, because a test has to own every byte and its moment. What is answered is not known here.
Requests of one connection are answered in turn; a client that sends more without reading is hung up on.
"""

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterator
from typing import cast

import httptools
import msgspec

from hanlin.testing import script
from hanlin.testing.records import Record, State
from hanlin.testing.script import End, Step

MAX_BODY_BYTES = 64 * 1024 * 1024
_WRITE_BYTES = 64 * 1024
_MAX_WAITING = 100
_RESET_AFTER_S = 0.02  # the loop sends what was written at its next turn; a reset before that would swallow it

_STATES: dict[End, State] = {"whole": "done", "failed": "failed", "cut": "cut", "reset": "cut"}


class Request(msgspec.Struct, frozen=True):
    """A request as it came; header names are lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    keep_alive: bool = True


class Totals(msgspec.Struct):
    """What the engine did since its start, over all requests."""

    requests: int = 0
    prompt_tokens: int = 0
    tokens_made: int = 0


class Answer(msgspec.Struct):
    """An answer while it is given: the rest of its script, and where its progress is noted, if anywhere."""

    steps: Iterator[Step]
    record: Record | None = None
    totals: Totals | None = None

    def note(self, step: Step) -> None:
        if self.record is not None:
            self.record.tokens_made += step.tokens
            self.record.chunks_sent += step.chunks
        if self.totals is not None:
            self.totals.tokens_made += step.tokens

    def end(self, state: State) -> None:
        if self.record is not None:
            self.record.end(state)


class Connection(asyncio.Protocol):
    """One client. Lives from `connection_made` to `connection_lost`; `respond` makes the answer to a request."""

    def __init__(self, respond: Callable[[Request], Answer]) -> None:
        self._respond = respond
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[Request] = deque()
        self._answer: Answer | None = None
        self._keep_alive = True
        self._resting = False  # a step waits for its time, or the script says to be silent
        self._full = False  # the client reads more slowly than we write
        self._timer: asyncio.TimerHandle | None = None
        self._outgoing: list[bytes] = []
        self._outgoing_bytes = 0
        self._begin()

    # What the transport tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's do not inherit from it

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._refuse(400, f"not HTTP/1.1 as it is understood here: {error}")
            return
        self._play()

    def eof_received(self) -> bool:
        if self._answer is not None:
            self._hung_up()
            self._transport.abort()
        return False

    def connection_lost(self, _error: Exception | None) -> None:
        self._hung_up()

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._play()

    # What the parser tells

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        if int(self._headers.get("content-length", 0)) > MAX_BODY_BYTES:
            self._refuse(413, f"the body has more than {MAX_BODY_BYTES} bytes")
        elif self._headers.get("expect", "").lower() == "100-continue":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, data: bytes) -> None:
        self._body_bytes += len(data)
        if self._body_bytes <= MAX_BODY_BYTES:
            self._body.append(data)
        else:
            self._refuse(413, f"the body has more than {MAX_BODY_BYTES} bytes")

    def on_message_complete(self) -> None:
        if self._transport.is_closing():
            return
        if len(self._waiting) == _MAX_WAITING:
            self._transport.abort()
            return
        self._waiting.append(
            Request(
                method=self._parser.get_method().decode("latin-1"),
                path=self._url.partition(b"?")[0].decode("latin-1"),
                headers=self._headers,
                body=b"".join(self._body),
                keep_alive=self._parser.should_keep_alive(),
            )
        )
        self._begin()

    def _begin(self) -> None:
        self._url = b""
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._body_bytes = 0

    # The play

    def _play(self) -> None:
        """Go on with the script until it rests, all requests are answered, or the client has to read first."""
        while not self._resting and not self._full and not self._transport.is_closing():
            if self._answer is None:
                if not self._waiting:
                    break
                request = self._waiting.popleft()
                self._keep_alive = request.keep_alive
                self._answer = self._respond(request)
            step = next(self._answer.steps)
            if step.wait_s > 0:
                self._rest(step.wait_s, step)
            else:
                self._take(self._answer, step)
        self._flush()

    def _rest(self, wait_s: float, step: Step | None) -> None:
        self._resting = True
        self._timer = self._loop.call_later(wait_s, self._rested, step)

    def _rested(self, step: Step | None) -> None:
        self._resting = False
        if step is not None and self._answer is not None:
            self._take(self._answer, step)
        self._play()

    def _take(self, answer: Answer, step: Step) -> None:
        answer.note(step)
        self._outgoing.append(step.data)
        self._outgoing_bytes += len(step.data)
        if step.alone or self._outgoing_bytes > _WRITE_BYTES:
            self._flush()
        if step.alone:
            self._rest(0.0, None)
        if step.end is not None:
            self._end(answer, step.end)

    def _end(self, answer: Answer, end: End) -> None:
        self._flush()
        if end == "stall":
            self._resting = True
            return
        answer.end(_STATES[end])
        self._answer = None
        if end == "reset":
            self._resting = True
            self._timer = self._loop.call_later(_RESET_AFTER_S, self._reset)
        elif end == "cut" or not self._keep_alive:
            self._transport.close()

    def _reset(self) -> None:
        # A linger time of zero turns the close into a TCP reset.
        connected = self._transport.get_extra_info("socket")
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    def _flush(self) -> None:
        if self._outgoing_bytes:
            self._transport.write(b"".join(self._outgoing))
        self._outgoing.clear()
        self._outgoing_bytes = 0

    def _hung_up(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._answer is not None:
            self._answer.end("cancelled")
        self._answer = None
        self._waiting.clear()
        self._resting = True

    def _refuse(self, status: int, why: str) -> None:
        if self._transport.is_closing():
            return
        if self._answer is not None:  # an answer is on its way, and nothing may come into it
            self._transport.abort()
            return
        body = msgspec.json.encode({"error": {"message": why, "type": "invalid_request_error"}})
        self._transport.write(script.answer(status, body, {"connection": "close"}))
        self._transport.close()
