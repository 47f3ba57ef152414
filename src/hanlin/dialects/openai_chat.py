"""OpenAI chat completions as Model Studio's compatible mode speaks them (spec/chat.md §2–§4, §12).

Pure translation: bytes to `ChatRequest`, events to frames, errors to bodies. What a model may do is decided elsewhere.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import msgspec

from hanlin.errors import (
    HanlinError,
    InvalidRequest,
    InvalidValue,
    LastMessageNotUser,
    MalformedBody,
    MissingModel,
)
from hanlin.types import (
    Answering,
    Burst,
    ChatRequest,
    ChatResult,
    MediaPart,
    Message,
    Part,
    Sampling,
    StopTokens,
    TextPart,
    TokenLogprob,
    Usage,
)

# --- parameters: a row each -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Number:
    """A numeric parameter: its bounds, and the vendor's words for a value outside them or of another type."""

    refusal: str
    low: float = float("-inf")
    high: float = float("inf")
    low_open: bool = False
    high_open: bool = False
    integer: bool = False

    def fits(self, value: float) -> bool:
        above = value > self.low if self.low_open else value >= self.low
        below = value < self.high if self.high_open else value <= self.high
        return above and below


FLOAT_MAX = sys.float_info.max

NUMBERS: Mapping[str, Number] = {
    "temperature": Number("Temperature should be in [0.0, 2.0)", 0, 2, high_open=True),
    "top_p": Number("Range of top_p should be (0.0, 1.0]", 0, 1, low_open=True),
    "top_k": Number("Parameter top_k be greater than or equal to 0", 0, integer=True),
    "presence_penalty": Number("Presence_penalty should be in [-2.0, 2.0]", -2, 2),
    "frequency_penalty": Number("Frequency_penalty should be in [-2.0, 2.0]", -2, 2),
    "repetition_penalty": Number("Repetition_penalty should be greater than 0.0", 0, FLOAT_MAX, low_open=True),
    "n": Number("Range of n should be [1, 4]", 1, 4, integer=True),
    "top_logprobs": Number("Range of top_logprobs should be [0, 5]", 0, 5, integer=True),
    # Their upper bounds are the model's, so `service` checks the ranges of these two.
    "max_tokens": Number("", integer=True),
    "max_completion_tokens": Number("", integer=True),
}

SEED_MAX = 2**31 - 1

# Fields that this dialect decodes; every other field of a body is kept raw and named, and `service` decides about it.
_DECODED = frozenset(
    {
        *NUMBERS,
        "model",
        "messages",
        "seed",
        "stop",
        "logit_bias",
        "stream",
        "stream_options",
        "logprobs",
        "enable_thinking",
    }
)

_TOP_K_OFF_ABOVE = 100


def parse(body: bytes) -> ChatRequest:
    """Read a request body. Raises InvalidRequest with the vendor's text, and LastMessageNotUser."""
    fields = _fields(body)
    given = frozenset(name for name, raw in fields.items() if raw != b"null")
    model = _model(fields)
    numbers = {name: _number(name, row, fields[name]) for name, row in NUMBERS.items() if name in given}
    stream = _boolean("stream", fields) or False
    messages, marks = _messages(fields)
    stop, stop_tokens = _stop(fields)
    logprobs = _boolean("logprobs", fields) or False
    if numbers.get("top_logprobs") and not logprobs:
        raise InvalidRequest("top_logprobs needs logprobs to be true", param="top_logprobs")
    top_k = numbers.get("top_k", 0 if fields.get("top_k") == b"null" else None)
    asks = {name: msgspec.Raw(raw) for name, raw in fields.items() if name in given and name not in _DECODED}
    return ChatRequest(
        model=model,
        messages=messages,
        sampling=Sampling(
            temperature=numbers.get("temperature"),
            top_p=numbers.get("top_p"),
            top_k=0 if top_k is not None and top_k > _TOP_K_OFF_ABOVE else top_k,
            presence_penalty=numbers.get("presence_penalty"),
            frequency_penalty=numbers.get("frequency_penalty"),
            repetition_penalty=numbers.get("repetition_penalty"),
            seed=_seed(fields),
            max_tokens=numbers.get("max_tokens"),
            max_completion_tokens=numbers.get("max_completion_tokens"),
            stop=stop,
            stop_tokens=stop_tokens,
            logit_bias=_logit_bias(fields),
        ),
        stream=stream,
        include_usage=_include_usage(fields, stream=stream),
        n=numbers.get("n", 1),
        logprobs=logprobs,
        top_logprobs=numbers.get("top_logprobs", 0),
        enable_thinking=_boolean("enable_thinking", fields),
        given=given | marks,
        asks={**asks, **dict.fromkeys(marks & _CAPABILITIES, msgspec.Raw(b"true"))},
    )


_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def _fields(body: bytes) -> dict[str, bytes]:
    try:
        body.decode()  # what stays raw is not looked into here, and must not fail later
        return {name: bytes(raw) for name, raw in _object.decode(body).items()}
    except _UNREADABLE as error:
        raise MalformedBody(str(error)) from error


def _value(raw: bytes) -> Any:
    try:
        return msgspec.json.decode(raw)
    except _UNREADABLE as error:
        raise MalformedBody(str(error)) from error


def _model(fields: Mapping[str, bytes]) -> str:
    model = _value(fields.get("model", b"null"))
    if model is None or model == "":
        raise MissingModel
    if not isinstance(model, str):
        raise InvalidRequest("'model' must be String", param="model")
    return model


def _number(name: str, row: Number, raw: bytes) -> Any:
    value = _value(raw)
    wanted = "Integer" if row.integer else "Float"
    if isinstance(value, bool) or not isinstance(value, (int, float)) or (row.integer and value != int(value)):
        raise InvalidRequest(f"'{name}' must be {wanted}", param=name)
    if not row.fits(value):
        raise InvalidRequest(row.refusal, param=name)
    return int(value) if row.integer else float(value)


def _boolean(name: str, fields: Mapping[str, bytes]) -> bool | None:
    value = _value(fields.get(name, b"null"))
    if value is None or isinstance(value, bool):
        return value
    raise InvalidRequest(f"'{name}' must be Boolean", param=name)


def _seed(fields: Mapping[str, bytes]) -> int | None:
    value = _value(fields.get("seed", b"null"))
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidValue("'seed' must be Integer", param="seed")
    if value < 0:
        raise InvalidValue(f"{value} is lesser than the minimum of 0 - 'seed'", param="seed")
    if value > SEED_MAX:
        raise InvalidValue(f"{value} is greater than the maximum of {SEED_MAX} - 'seed'", param="seed")
    return value


_STOP_REFUSAL = (
    'The "stop" parameter must be of type "str", "list[str]", "list[int]", or "list[list[int]]", '
    "and all elements within the list must be of the same type."
)


# Every token that is generated is compared with all of them.
_MOST_STOPS = 64
_MOST_BIASES = 1024


def _stop(fields: Mapping[str, bytes]) -> tuple[tuple[str, ...], StopTokens]:
    """Return stop texts and stop token sequences; a list of ids is one sequence an id."""
    value = _value(fields.get("stop", b"null"))
    values = value if isinstance(value, list) else [] if value is None else [value]
    if len(values) > _MOST_STOPS:
        raise InvalidRequest(f"'stop' holds {len(values)} sequences, at most {_MOST_STOPS} are taken", param="stop")
    if all(isinstance(item, str) for item in values):
        return tuple(item for item in values if item), ()
    if isinstance(value, list) and all(_is_token(item) for item in value):
        return (), tuple((item,) for item in value)
    if isinstance(value, list) and all(isinstance(item, list) and all(map(_is_token, item)) for item in value):
        return (), tuple(tuple(item) for item in value if item)
    raise InvalidRequest(_STOP_REFUSAL, param="stop")


def _is_token(item: Any) -> bool:
    return isinstance(item, int) and not isinstance(item, bool) and 0 <= item < 2**31


def _is_token_id(text: str) -> bool:
    return text.isdecimal() and len(text) <= 10


def _logit_bias(fields: Mapping[str, bytes]) -> tuple[tuple[int, float], ...]:
    value = _value(fields.get("logit_bias", b"null"))
    if value is None:
        return ()
    if (
        isinstance(value, dict)
        and len(value) <= _MOST_BIASES
        and all(
            _is_token_id(token)
            and isinstance(bias, (int, float))
            and not isinstance(bias, bool)
            and -100 <= bias <= 100
            for token, bias in value.items()
        )
    ):
        return tuple((int(token), float(bias)) for token, bias in value.items())
    raise InvalidRequest(
        f"'logit_bias' must map at most {_MOST_BIASES} token ids to numbers in [-100, 100]", param="logit_bias"
    )


def _include_usage(fields: Mapping[str, bytes], *, stream: bool) -> bool:
    value = _value(fields.get("stream_options", b"null"))
    if value is None:
        return False
    if not isinstance(value, dict) or not isinstance(value.get("include_usage", False), bool | None):
        raise InvalidRequest("'stream_options' must be an object with a Boolean include_usage", param="stream_options")
    if not stream:
        raise InvalidRequest(
            "The 'stream_options' parameter is only allowed when 'stream' is true", param="stream_options"
        )
    return bool(value.get("include_usage"))


# --- messages --------------------------------------------------------------------------------------------------------

_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}

# What messages can ask for beside their text; the other fields that a message may carry are read or have no effect
# (spec/chat.md §5.4: reasoning of earlier turns is not put into the prompt).
_CAPABILITIES = frozenset({"tool_calls", "partial", "cache_control"})
_MESSAGE_FIELDS = frozenset({"role", "content", "tool_calls", "tool_call_id", "partial", "reasoning_content"})

_MEDIA = {
    "image_url": "image",
    "image": "image",
    "video_url": "video",
    "video": "video",
    "input_audio": "audio",
}


def _messages(fields: Mapping[str, bytes]) -> tuple[tuple[Message, ...], frozenset[str]]:
    """Return the messages and the marks found in them: what a message asks for, and fields nobody here reads."""
    rows = _value(fields.get("messages", b"null"))
    if rows is None:
        raise InvalidRequest('Either "prompt" or "messages" must exist and cannot both be none', param="messages")
    if not isinstance(rows, list):
        raise InvalidRequest("'messages' must be Array", param="messages")
    if not rows:
        raise InvalidRequest("[] is too short - 'messages'", param="messages")
    marks: set[str] = set()
    messages = tuple(_message(row, position, rows, marks) for position, row in enumerate(rows))
    if not any(message.role == "user" for message in messages):
        raise InvalidRequest("The input messages do not contain elements with the role of user.", param="messages")
    if messages[-1].role not in ("user", "tool") and "partial" not in marks:
        raise LastMessageNotUser(messages[-1].role)
    return messages, frozenset(marks)


def _message(row: Any, position: int, rows: Sequence[Any], marks: set[str]) -> Message:
    if not isinstance(row, dict):
        raise InvalidRequest(
            "Input should be a valid dictionary or instance of GPT3Message", param=f"messages.{position}"
        )
    role = row.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise InvalidRequest(
            f"{role!r} is not one of ['system', 'user', 'assistant', 'tool'] - 'messages.{position}.role'",
            param=f"messages.{position}.role",
        )
    content = row.get("content")
    if row.get("tool_calls"):
        marks.add("tool_calls")
        content = content if content is not None else ""
    if role == "tool":
        marks.add("tool_calls")
        _follows_tool_calls(position, rows)
    if row.get("partial"):
        marks.add("partial")
    marks.update(f"messages.{name}" for name, value in row.items() if name not in _MESSAGE_FIELDS and value is not None)
    if content is None:
        raise InvalidRequest("The content field is a required field.", param=f"messages.{position}.content")
    return Message(_ROLES[role], content if isinstance(content, str) else _parts(content, position, marks))


def _follows_tool_calls(position: int, rows: Sequence[Any]) -> None:
    before = position - 1
    while before >= 0 and isinstance(rows[before], dict) and rows[before].get("role") == "tool":
        before -= 1
    if before < 0 or not isinstance(rows[before], dict) or not rows[before].get("tool_calls"):
        raise InvalidRequest(
            'messages with role "tool" must be a response to a preceeding message with "tool_calls"',
            param=f"messages.{position}.role",
        )


def _parts(content: Any, position: int, marks: set[str]) -> tuple[Part, ...]:
    def refuse(why: str) -> NoReturn:
        raise InvalidRequest(why, param=f"messages.{position}.content")

    if not isinstance(content, list) or not content:
        refuse("The content field is a required field." if content == [] else "input content must be a string.")
    parts: list[Part] = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text" and isinstance(part.get("text"), str):
            parts.append(TextPart(part["text"]))
        elif isinstance(kind, str) and kind in _MEDIA:
            parts.append(MediaPart(_MEDIA[kind], msgspec.Raw(msgspec.json.encode(part))))
        else:
            refuse(f"{kind!r} is not a valid type of content part, or its fields are missing")
        if part.get("cache_control") is not None:
            marks.add("cache_control")
    return tuple(parts)


# --- answers ---------------------------------------------------------------------------------------------------------


def answer(result: ChatResult, answering: Answering, *, id: str, created: int) -> bytes:
    """Return the body of an unstreamed answer (spec/chat.md §4.1)."""
    return msgspec.json.encode(
        {
            "id": id,
            "object": "chat.completion",
            "created": created,
            "model": answering.model,
            "system_fingerprint": answering.fingerprint,
            "choices": [
                {
                    "index": choice.index,
                    "finish_reason": choice.finish_reason,
                    "logprobs": _logprobs(choice.logprobs),
                    "message": {"role": "assistant", "content": choice.text},
                }
                for choice in result.choices
            ],
            "usage": _usage(result.usage),
        }
    )


class Stream:
    """The same answer as it comes (spec/chat.md §4.2). One object a response; every method returns bytes to send."""

    def __init__(self, answering: Answering, *, id: str, created: int, n: int = 1, include_usage: bool = False) -> None:
        self._n = n
        self._include_usage = include_usage
        self._usage: Usage | None = None
        shared = {
            "created": created,
            "system_fingerprint": answering.fingerprint,
            "model": answering.model,
            "id": id,
        }
        # What is the same in every chunk is encoded once: only the text of a chunk is left to encode.
        tail = msgspec.json.encode(shared)[1:]
        self._after_choice = b'],"object":"chat.completion.chunk","usage":null,' + tail + b"\n\n"
        self._usage_tail = b"," + tail + b"\n\n"
        self._encode: Callable[[Any], bytes] = msgspec.json.Encoder().encode

    def open(self) -> bytes:
        """The first chunk of every choice: the role, once."""
        return b"".join(
            b'data: {"choices":[{"delta":{"content":"","role":"assistant"},"index":%d,"logprobs":null,'
            b'"finish_reason":null}%b' % (index, self._after_choice)
            for index in range(self._n)
        )

    def frames(self, burst: Burst) -> bytes:
        """The chunks of events that arrived together; empty when they say nothing to the caller."""
        frames: list[bytes] = []
        for event in burst:
            if event.usage is not None:
                self._usage = event.usage
                continue
            if event.text or event.logprobs:
                logprobs = b"null" if event.logprobs is None else self._encode(_logprobs(event.logprobs))
                frames.append(
                    b'data: {"choices":[{"delta":{"content":%b},"index":%d,"logprobs":%b,"finish_reason":null}%b'
                    % (self._encode(event.text), event.index, logprobs, self._after_choice)
                )
            if event.finish_reason is not None:
                frames.append(
                    b'data: {"choices":[{"delta":{"content":""},"finish_reason":%b,"index":%d,"logprobs":null}%b'
                    % (self._encode(event.finish_reason), event.index, self._after_choice)
                )
        return b"".join(frames)

    def close(self) -> bytes:
        """The end: the usage chunk where it was asked for, and `[DONE]`."""
        usage = b""
        if self._include_usage and self._usage is not None:
            usage = (
                b'data: {"choices":[],"object":"chat.completion.chunk","usage":'
                + self._encode(_usage(self._usage))
                + self._usage_tail
            )
        return usage + b"data: [DONE]\n\n"

    def error(self, problem: HanlinError, request_id: str) -> bytes:
        """One typed error in place of the rest of the answer; nothing follows it."""
        return error_frame(problem, request_id)


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.total,
        "prompt_tokens_details": {"cached_tokens": usage.cached},
    }


def _logprobs(tokens: Sequence[TokenLogprob] | None) -> dict[str, Any] | None:
    return None if tokens is None else {"content": list(tokens)}


def error(problem: HanlinError, request_id: str) -> bytes:
    """Return the body of an error (spec/chat.md §12): `id` and `request_id` stand beside `error`."""
    return msgspec.json.encode(
        {
            "error": {
                "message": problem.message,
                "type": problem.type,
                "param": problem.param,
                "code": problem.code,
            },
            "id": f"chatcmpl-{request_id}",
            "request_id": request_id,
        }
    )


def error_frame(problem: HanlinError, request_id: str) -> bytes:
    """Return an error as the last frame of a stream that has begun."""
    return b"data: " + error(problem, request_id) + b"\n\n"
