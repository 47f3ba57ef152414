"""Prompts and answers of workspaces that keep them: taken while a call runs, written behind its response.

They are no part of the journal, which every call waits for and which would grow a hundredfold: what a killed process
had not written yet, of the latest second or so, is gone, while its rows of the ledger are not.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Any, Protocol

import msgspec

from hanlin.errors import HanlinError
from hanlin.store.rows import Content
from hanlin.types import ChatRequest, Choice, CompletionRequest, Event, Events, Message, TextPart, fold

_MOST_BYTES = 256 * 1024
"""What is kept of a prompt, and of an answer; what is longer ends there, and says so."""

_WAITING_BYTES = 64 * 1024 * 1024
"""What may wait for a database that is away. Beyond it the newest are lost: bills are not, and come first."""

_BATCH = 64
_EVERY_S = 0.5
_AGAIN_S = 2.0

log = logging.getLogger("hanlin.service")


class Conversation:
    """What one call says and is told, while it runs. `row` is what is stored of it."""

    __slots__ = ("_choices", "_events", "_prompt", "_room_bytes")

    def __init__(self) -> None:
        self._prompt = b"{}"
        self._events: list[Event] = []
        self._choices: tuple[Choice, ...] = ()
        self._room_bytes = _MOST_BYTES

    def asked_chat(self, request: ChatRequest) -> None:
        """Take the messages, in the very bytes that they came in where those are at hand."""
        sent = request.sent
        if sent is not None and sent.messages is request.messages:
            self._prompt = b'{"messages":%b}' % bytes(sent.raw)
        else:
            self._prompt = msgspec.json.encode({"messages": list(map(_message, request.messages))})

    def asked_completion(self, request: CompletionRequest) -> None:
        gap = {} if request.suffix is None else {"suffix": request.suffix}
        self._prompt = msgspec.json.encode({"prompt": request.prompt, **gap})

    def asked_vectors(self, texts: Sequence[str]) -> None:
        self._prompt = msgspec.json.encode({"input": texts})

    async def hearing(self, events: Events) -> Events:
        """Yield events as they come, and remember them."""
        async with aclosing(events) as bursts:
            async for burst in bursts:
                for event in burst:
                    if event.usage is None:
                        self._hear(event)
                yield burst

    def answered(self, choices: Sequence[Choice]) -> None:
        """Take an answer that is there as a whole."""
        self._choices = tuple(choices)

    def row(self, call_id: str, began_at: datetime, workspace_id: str) -> Content:
        """Return what is to be stored."""
        choices = self._choices or fold(self._events).choices
        answer = msgspec.json.encode({"choices": list(map(_choice, choices))})
        # Events that came beyond the bound were dropped one by one: then the mark stands beside what is left.
        is_cut = self._room_bytes < 0
        return Content(
            call_id=call_id,
            began_at=began_at,
            workspace_id=workspace_id,
            prompt=_bounded(self._prompt),
            answer=_bounded(answer[:-1] + b',"truncated":true}') if is_cut else _bounded(answer),
        )

    def _hear(self, event: Event) -> None:
        self._room_bytes -= len(event.text) + len(event.reasoning)
        if event.call is not None:
            self._room_bytes -= len(event.call.arguments) + len(event.call.name)
        if self._room_bytes >= 0 or event.finish_reason is not None or event.restart:
            self._events.append(event)


def _message(message: Message) -> dict[str, Any]:
    row: dict[str, Any] = {"role": message.role, "content": message.content}
    if not isinstance(message.content, str):
        row["content"] = [
            {"type": "text", "text": part.text} if isinstance(part, TextPart) else part.raw for part in message.content
        ]
    if message.reasoning:
        row["reasoning_content"] = message.reasoning
    if message.tool_calls:
        row["tool_calls"] = message.tool_calls
    if message.tool_call_id:
        row["tool_call_id"] = message.tool_call_id
    return row


def _choice(choice: Choice) -> dict[str, Any]:
    row: dict[str, Any] = {"index": choice.index, "text": choice.text, "finish_reason": choice.finish_reason}
    if choice.reasoning:
        row["reasoning"] = choice.reasoning
    if choice.calls:
        row["tool_calls"] = choice.calls
    return row


def _bounded(json: bytes) -> str:
    """Return JSON text within the bound: what is longer becomes an object with its beginning and its size."""
    if len(json) > _MOST_BYTES:
        beginning = json[:_MOST_BYTES].decode("utf-8", "ignore")
        json = msgspec.json.encode({"truncated": True, "size_bytes": len(json), "beginning": beginning})
    return json.decode("utf-8", "replace").replace("\0", "\ufffd")


class Sink(Protocol):
    async def append(self, rows: Sequence[Content]) -> object: ...


class Keeper:
    """Owns what waits to be written. `run` it while calls are served, then `close` it. `lost` counts what never was."""

    def __init__(self, sink: Sink, sleep: Callable[[float], Any] = asyncio.sleep) -> None:
        self._sink = sink
        self._sleep = sleep
        self._waiting: deque[Content] = deque()
        self._bytes = 0
        self._failing = False
        self.lost = 0

    def put(self, row: Content) -> None:
        """Have a call's content written soon."""
        size = len(row.prompt) + len(row.answer)
        if self._bytes + size > _WAITING_BYTES:
            if not self.lost:
                log.error(
                    "contents of calls are lost: the database does not take them, and memory has its bound of them"
                )
            self.lost += 1
            return
        self._bytes += size
        self._waiting.append(row)

    async def run(self) -> None:
        """Write what comes, until cancelled."""
        while True:
            written = await self.step()
            await self._sleep(_EVERY_S if written else _AGAIN_S)

    async def close(self, within_s: float) -> None:
        """Write what is left, as far as the database takes it now."""
        try:
            async with asyncio.timeout(within_s):
                while self._waiting and await self.step():
                    pass
        except TimeoutError:
            pass
        if self._waiting:
            log.error("contents of %d calls are lost: the database does not take them", len(self._waiting))

    async def step(self) -> bool:
        """Write all that waits; False when the database does not take it now."""
        while self._waiting:
            batch = list(self._waiting)[:_BATCH]
            try:
                await self._sink.append(batch)
            except HanlinError as error:
                if not self._failing:
                    log.warning("contents of calls wait for the database: %s", error)
                self._failing = True
                return False
            except Exception:  # a mistake of ours in one of them must not keep all that come after it
                log.exception("contents of %d calls are lost", len(batch))
                self.lost += len(batch)
            self._failing = False
            for row in batch:
                self._waiting.popleft()
                self._bytes -= len(row.prompt) + len(row.answer)
        return True


__all__ = ["Conversation", "Keeper"]
