"""Read the OpenAI chat stream as engines speak it, however its bytes are cut, into our events.

Engines' frames do not conform, each in its own way: llama.cpp sends `content:null` first, its own id and path, timings,
and progress frames while it reads the prompt; others put thoughts, usage and errors where they please. Here they all
become the same events, and the same failures.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol, TypeVar

import msgspec

from hanlin.engines.alike import AlikeFrames
from hanlin.engines.profiles import Failing
from hanlin.errors import EngineBusy, EngineFailed, EngineRefused, EngineUnavailable, HanlinError, InvalidRequest
from hanlin.types import Burst, Event, Texts, TokenLogprob, ToolCallPiece, Usage

_FIRST_FRAMES = 3
_FRAME_LIMIT_BYTES = 16 * 1024 * 1024

_FAILED_REASONS: Mapping[str, Failing] = {
    "error": "failed",  # OpenRouter, vLLM
    "abort": "failed",  # vLLM, SGLang
    "network_error": "failed",  # Zhipu
    "insufficient_system_resource": "unavailable",  # DeepSeek
}
"""Finish reasons that end no answer: the engine gave up."""


class _Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: str | None = None


class _Call(msgspec.Struct, gc=False):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class _Detail(msgspec.Struct, gc=False):
    text: str | None = None
    summary: str | None = None


class _Delta(msgspec.Struct, gc=False):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    reasoning_details: list[_Detail] | None = None
    tool_calls: list[_Call] | None = None

    @property
    def is_more(self) -> bool:
        """Whether there is anything beside text."""
        return not (
            self.reasoning_content is None
            and self.reasoning is None
            and self.tool_calls is None
            and self.reasoning_details is None
        )

    @property
    def thoughts(self) -> str:
        """The thoughts, which some servers send under two names at once."""
        details = "".join(detail.text or detail.summary or "" for detail in self.reasoning_details or ())
        return self.reasoning_content or self.reasoning or details


class _Logprobs(msgspec.Struct, gc=False):
    content: list[TokenLogprob] | None = None


class _CacheCreation(msgspec.Struct, gc=False):
    ephemeral_5m_input_tokens: int | None = None


class _PromptDetails(msgspec.Struct, gc=False):
    cached_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_creation: _CacheCreation | None = None
    cache_type: str | None = None

    @property
    def created(self) -> int:
        """The tokens that were written to an explicit cache, in all or of the one class that there is."""
        by_class = self.cache_creation.ephemeral_5m_input_tokens if self.cache_creation is not None else None
        return self.cache_creation_input_tokens or by_class or 0


class _CompletionDetails(msgspec.Struct, gc=False):
    reasoning_tokens: int | None = None


class _Usage(msgspec.Struct, gc=False):
    """Counts, where OpenAI puts them and where others do: DeepSeek's hits, Moonshot's cached and SGLang's reasoning.

    What was written to an explicit cache is told as Model Studio tells it (spec/chat.md §4.6).
    """

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None
    prompt_cache_hit_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None

    @property
    def counted(self) -> Usage:
        prompt, completion = self.prompt_tokens_details, self.completion_tokens_details
        cached = (prompt.cached_tokens if prompt is not None else None) or self.cached_tokens
        reasoning = (completion.reasoning_tokens if completion is not None else None) or self.reasoning_tokens
        return Usage(
            prompt=self.prompt_tokens or 0,
            completion=self.completion_tokens or 0,
            cached=cached or self.prompt_cache_hit_tokens or 0,
            reasoning=reasoning or 0,
            cache_created=prompt.created if prompt is not None else 0,
            explicit=prompt is not None and prompt.cache_type == "ephemeral",
        )


class _Choice(msgspec.Struct, gc=False):
    index: int = 0
    text: str | None = None
    delta: _Delta | None = None
    message: _Delta | None = None  # of an answer that did not come as a stream
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None
    usage: _Usage | None = None  # Moonshot's place for it


class _BaseResponse(msgspec.Struct, gc=False):
    """MiniMax's verdict on a call, which comes with HTTP 200; 0 is success."""

    status_code: int | None = None
    status_msg: str | None = None


class _Frame(msgspec.Struct, gc=False):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: Any = None
    base_resp: _BaseResponse | None = None
    code: Any = None
    message: Any = None

    @property
    def only_text(self) -> str | None:
        """The text of a frame that holds a piece of one choice's text and nothing else; None for every other frame."""
        choices = self.choices
        if choices is None or len(choices) != 1 or self.usage is not None or self.error is not None:
            return None
        choice = choices[0]
        delta = choice.delta
        if choice.finish_reason is not None or choice.logprobs is not None or delta is None or delta.is_more:
            return None
        return None if choice.usage is not None or self.base_resp is not None else delta.content

    @property
    def trouble(self) -> Any:
        """The error that the frame holds in place of an answer, in whichever of four shapes; None for none."""
        if self.error is not None:
            return self.error
        if self.base_resp is not None and self.base_resp.status_code:
            return {"code": self.base_resp.status_code, "message": self.base_resp.status_msg}
        if self.code and self.message and not self.choices:  # Model Studio, SiliconFlow, SGLang
            return {"code": self.code, "message": self.message}
        return None


class Whole(msgspec.Struct, frozen=True, gc=False):
    """An answer that came as a whole and is nothing but text."""

    text: str
    reason: str
    usage: Usage


def whole_text(data: bytes) -> Whole | None:
    """Return a whole answer that ended as answers should, None for all others: those are read as frames are."""
    try:
        frame = _frame.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    choices = frame.choices
    if choices is None or len(choices) != 1 or frame.error is not None or frame.base_resp is not None:
        return None
    choice = choices[0]
    message, reason = choice.message, choice.finish_reason
    if message is None or message.reasoning_content or message.reasoning or message.tool_calls:
        return None
    if message.reasoning_details or not message.content or reason not in _PLAIN_REASONS or choice.logprobs:
        return None
    return Whole(message.content, reason, Usage() if frame.usage is None else frame.usage.counted)


_PLAIN_REASONS = frozenset({"stop", "length"})

_frame = msgspec.json.Decoder(_Frame)
_frames = msgspec.json.Decoder(list[_Frame])
_anything = msgspec.json.Decoder(msgspec.Raw)


class _MayFail(Protocol):
    """A frame that may hold an error in place of what it is about."""

    @property
    def error(self) -> Any: ...


Frame = TypeVar("Frame")
Failable = TypeVar("Failable", bound=_MayFail)


class SSEReader:
    """Cut a byte stream into the `data` of its server-sent events. Comments and other fields are passed over."""

    def __init__(self) -> None:
        self._rest = bytearray()  # of a line whose end has not come
        self._data: list[bytes] = []
        self._data_bytes = 0

    @property
    def between(self) -> bool:
        """Whether the next byte begins an event."""
        return not self._rest and not self._data

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Yield the data of every event that `piece` completes. Raises EngineFailed beyond 16 MiB without an end."""
        *lines, rest = piece.split(b"\n")
        if lines and self._rest:
            self._rest += lines[0]
            lines[0] = bytes(self._rest)
            self._rest.clear()
        self._rest += rest
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
    """Turn the bytes of one chat stream into events. `codes` says what the engine's own error codes mean.

    `done` becomes true at `[DONE]`, `finished` at a finish reason. `failure` is set by a frame that ends the stream
    badly when words came before it in the same piece: they are to be handed on first.
    """

    def __init__(self, codes: Mapping[str, Failing] | None = None) -> None:
        self._reader = SSEReader()
        self._codes = codes or {}
        self._whole: bytearray | None = None
        self._begun = False
        self._alike = AlikeFrames()
        self.done = False
        self.finished = False
        self.failure: HanlinError | None = None

    def bursts(self, piece: bytes) -> list[Burst]:
        """Return what `feed` returns, as bursts: texts that came in frames that are alike are one burst of them."""
        alike, texts = self._alike, list[str]()
        if self._whole is None and not alike.hopeless and self._reader.between and piece.endswith(b"\n\n"):
            if not alike.known:
                texts, piece = self._first(piece)
            if alike.known:
                more, piece = alike.take(piece)
                texts += more
        found: list[Burst] = [Texts(texts)] if texts else []
        if piece:
            try:
                found.append(self.feed(piece))
            except HanlinError as failure:
                if not found:
                    raise
                self.failure = failure
        return found

    def _first(self, piece: bytes) -> tuple[list[str], bytes]:
        """Learn from the first frame that holds text, if that comes soon; return its text and the rest of the piece."""
        for _ in range(_FIRST_FRAMES):
            part, end, rest = piece.partition(b"\n\n")
            if not end or not part.startswith(b"data: {"):
                break
            try:
                text = _frame.decode(part[6:]).only_text
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                break
            if text is None:
                break
            self._begun = True
            piece = rest
            if text:
                self._alike.learn(part[6:], text)
                return [text], piece
        return [], piece

    def feed(self, piece: bytes) -> list[Event]:
        """Return the events that `piece` completes. Raises EngineFailed for what is no frame, and what `meant` returns
        for a frame with an error."""
        events: list[Event] = []
        try:
            for frame in self._frames_of(piece):
                if (text := frame.only_text) is not None:
                    if text:
                        events.append(Event(frame.choices[0].index, text))  # type: ignore[index]  # it has one
                else:
                    for event in self._events(frame):
                        events.append(event)  # noqa: PERF402 (what came before a failure is kept)
        except HanlinError as failure:
            if not events:
                raise
            self.failure = failure
        return events

    def _frames_of(self, piece: bytes) -> Iterable[_Frame]:
        """Return the frames that `piece` completes: all of them read in one go where it holds nothing but frames.

        Most packets do, and reading them one by one costs twice as much.
        """
        if self._whole is None and self._reader.between and piece.endswith(b"\n\n"):
            parts = piece[:-2].split(b"\n\n")
            if done := parts[-1] == b"data: [DONE]":
                parts.pop()
            try:
                read = _frames.decode(b"[%b]" % b",".join([part[6:] for part in parts]))
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                read = []  # whichever it is, its turn comes when they are read one by one
            if len(read) == len(parts) and all(part.startswith(b"data: {") for part in parts):
                self._begun = True
                self.done = done
                return read
        return self._one_by_one(piece)

    def _one_by_one(self, piece: bytes) -> Iterator[_Frame]:
        for data in self._data(piece):
            if data.startswith(b"[DONE]"):
                self.done = True
                return
            yield _decoded(data, _frame, "chat")

    def _data(self, piece: bytes) -> Iterator[bytes]:
        """Yield the frames' data. An answer that is no stream, as errors may be in spite of HTTP 200, is one frame."""
        if not self._begun and piece.strip():
            self._begun = True
            self._whole = bytearray() if piece.lstrip().startswith(b"{") else None
        if self._whole is None:
            yield from self._reader.feed(piece)
            return
        self._whole += piece
        if len(self._whole) > _FRAME_LIMIT_BYTES:
            raise EngineFailed(f"the engine's answer is larger than {_FRAME_LIMIT_BYTES} bytes")
        # Cheap to ask: only what ends with a brace is read, and a part of an object is none.
        if piece.rstrip().endswith(b"}") and is_object(self._whole):
            yield bytes(self._whole)
            self.done = True

    def _events(self, frame: _Frame) -> Iterator[Event]:
        if (trouble := frame.trouble) is not None:
            raise meant(trouble, self._codes)
        for choice in frame.choices or ():
            delta = (choice.message if self._whole is not None else choice.delta) or _Delta()
            text, reasoning, reason = delta.content or choice.text or "", delta.thoughts, choice.finish_reason or None
            logprobs = tuple(choice.logprobs.content or ()) if choice.logprobs is not None else None
            for number, call in enumerate(delta.tool_calls or ()):
                yield Event(choice.index, call=_piece(call, number))
            failing = _FAILED_REASONS.get(reason or "")
            if text or reasoning or reason or logprobs:
                self.finished = self.finished or reason is not None
                if text or reasoning or logprobs or failing is None:
                    said = None if failing else reason
                    yield Event(choice.index, text, logprobs or None, said, reasoning=reasoning)
            if choice.usage is not None and frame.usage is None:
                yield Event(usage=choice.usage.counted)
            if failing is not None:
                raise _as_failure(failing, reason, f"that it gave up: {reason}")
        if frame.usage is not None:
            yield Event(usage=frame.usage.counted)


def is_object(text: bytes | bytearray) -> bool:
    """Whether JSON is complete."""
    try:
        _anything.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _piece(call: _Call, number: int) -> ToolCallPiece:
    function = call.function or _Function()
    return ToolCallPiece(
        number if call.index is None else call.index, call.id or "", function.name or "", function.arguments or ""
    )


class _Trouble(msgspec.Struct):
    code: Any = None
    type: Any = None
    message: Any = None


def meant(error: Any, codes: Mapping[str, Failing]) -> HanlinError:
    """Return what an engine's error means: by the engine's own `codes`, by a code that is an HTTP status, or a failure.

    `error` is whatever stands in the place of an error: an object with `code`, `type` and `message`, or text.
    """
    told = _told(error)
    said = msgspec.json.encode(error)[:500].decode("utf-8", "replace")
    return by_code(error, codes) or _as_failure(_of_status(told.code), told.code, said)


def by_code(error: Any, codes: Mapping[str, Failing]) -> HanlinError | None:
    """Return what an engine's error means by one of the engine's own `codes`, None when it has none of them."""
    told = _told(error)
    for word in (told.code, told.type):
        if (failing := codes.get(str(word))) is not None:
            return _as_failure(failing, word, f"{word}: {told.message}"[:500])
    return None


def _told(error: Any) -> _Trouble:
    try:
        return msgspec.convert(error, _Trouble)
    except msgspec.ValidationError:
        return _Trouble(message=error)


def _of_status(code: Any) -> Failing:
    status = int(code) if str(code).isdecimal() else 0
    if status in (401, 402, 403, 404):
        return "refused"
    if status == 429:
        return "busy"
    if status in (408, 502, 503, 504, 529):
        return "unavailable"
    return "invalid" if status in (400, 413, 422) else "failed"


def _as_failure(failing: Failing, code: Any, said: str) -> HanlinError:
    if failing == "refused":
        # What is wrong with our key or account is not for callers to read.
        return EngineRefused(f"the engine does not take the key of its deployment, or its model: it reports {code}")
    if failing == "invalid":
        return InvalidRequest(f"the engine refused the request: {said}")
    why = f"the engine reports {said}"
    if failing == "busy":
        return EngineBusy(why)
    return EngineUnavailable(why) if failing == "unavailable" else EngineFailed(why)


def decoded(data: bytes, decoder: msgspec.json.Decoder[Failable], what: str) -> Failable:
    """Return a frame of an engine's stream. Raises EngineFailed for what is none, and for one with an error."""
    frame = _decoded(data, decoder, what)
    if frame.error is not None:
        said = msgspec.json.encode(frame.error)[:500].decode("utf-8", "replace")
        raise EngineFailed(f"the engine reports: {said}")
    return frame


def _decoded(data: bytes, decoder: msgspec.json.Decoder[Frame], what: str) -> Frame:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise EngineFailed(f"the engine sent something that is not a {what} frame: {error}") from error
