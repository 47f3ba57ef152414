"""Read the OpenAI chat stream as engines speak it, however its bytes are cut, into our events.

Engines' frames do not conform, each in its own way: llama.cpp sends `content:null` first, its own id and path, timings,
and progress frames while it reads the prompt. Here they all become the same events.
"""

from collections.abc import Iterator
from typing import Any, Protocol, TypeVar

import msgspec

from hanlin.errors import EngineFailed
from hanlin.types import Event, TokenLogprob, ToolCallPiece, Usage

_FRAME_LIMIT_BYTES = 16 * 1024 * 1024


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _Call(msgspec.Struct):
    index: int | None = None
    id: str | None = None
    function: _Function = msgspec.field(default_factory=_Function)


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_Call] | None = None


class _Logprobs(msgspec.Struct):
    content: list[TokenLogprob] | None = None


class _Choice(msgspec.Struct):
    index: int = 0
    text: str | None = None
    delta: _Delta = msgspec.field(default_factory=_Delta)
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class _PromptDetails(msgspec.Struct):
    cached_tokens: int | None = None


class _CompletionDetails(msgspec.Struct):
    reasoning_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None


class _Frame(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: Any = None


_frame = msgspec.json.Decoder(_Frame)


class _MayFail(Protocol):
    """A frame that may hold an error in place of what it is about."""

    @property
    def error(self) -> Any: ...


Frame = TypeVar("Frame", bound=_MayFail)


class SSEReader:
    """Cut a byte stream into the `data` of its server-sent events. Comments and other fields are passed over."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._data_bytes = 0

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Yield the data of every event that `piece` completes. Raises EngineFailed beyond 16 MiB without an end."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in lines:
            line = line.removesuffix(b"\r")
            if line.startswith(b"data:"):
                self._data.append(line[6:] if line[5:6] == b" " else line[5:])
                self._data_bytes += len(line)
            elif not line and self._data:
                yield b"\n".join(self._data)
                self._data.clear()
                self._data_bytes = 0
        if self._data_bytes + len(self._rest) > _FRAME_LIMIT_BYTES:
            raise EngineFailed(f"a frame of the engine is larger than {_FRAME_LIMIT_BYTES} bytes")


class ChatFrames:
    """Turn the bytes of one chat stream into events.

    `done` becomes true at `[DONE]`, `finished` at a finish reason. `failure` is set by a frame that ends the stream
    badly when words came before it in the same piece: they are to be handed on first.
    """

    def __init__(self) -> None:
        self._reader = SSEReader()
        self.done = False
        self.finished = False
        self.failure: EngineFailed | None = None

    def feed(self, piece: bytes) -> list[Event]:
        """Return the events that `piece` completes. Raises EngineFailed for error frames and for what is no frame."""
        events: list[Event] = []
        try:
            for data in self._reader.feed(piece):
                if data.startswith(b"[DONE]"):
                    self.done = True
                    break
                events += self._events(decoded(data, _frame, "chat"))
        except EngineFailed as failure:
            if not events:
                raise
            self.failure = failure
        return events

    def _events(self, frame: _Frame) -> Iterator[Event]:
        for choice in frame.choices:
            delta = choice.delta
            text = delta.content or choice.text or ""
            # vLLM's name for it is the second one.
            reasoning = delta.reasoning_content or delta.reasoning or ""
            logprobs = tuple(choice.logprobs.content or ()) if choice.logprobs is not None else None
            for number, call in enumerate(delta.tool_calls or ()):
                yield Event(choice.index, call=_piece(call, number))
            if text or reasoning or choice.finish_reason or logprobs:
                self.finished = self.finished or choice.finish_reason is not None
                yield Event(choice.index, text, logprobs or None, choice.finish_reason, reasoning=reasoning)
        if (usage := frame.usage) is not None:
            prompt, completion = usage.prompt_tokens_details, usage.completion_tokens_details
            yield Event(
                usage=Usage(
                    prompt=usage.prompt_tokens,
                    completion=usage.completion_tokens,
                    cached=(prompt.cached_tokens or 0) if prompt is not None else 0,
                    reasoning=(completion.reasoning_tokens or 0) if completion is not None else 0,
                )
            )


def _piece(call: _Call, number: int) -> ToolCallPiece:
    function = call.function
    return ToolCallPiece(
        number if call.index is None else call.index, call.id or "", function.name or "", function.arguments or ""
    )


def decoded(data: bytes, decoder: msgspec.json.Decoder[Frame], what: str) -> Frame:
    """Return a frame of an engine's stream. Raises EngineFailed for what is none, and for one with an error."""
    try:
        frame = decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise EngineFailed(f"the engine sent something that is not a {what} frame: {error}") from error
    if frame.error is not None:
        said = msgspec.json.encode(frame.error)[:500].decode("utf-8", "replace")
        raise EngineFailed(f"the engine reports: {said}")
    return frame
