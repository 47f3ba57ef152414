"""OpenAI chat completions as Model Studio's compatible mode speaks them (spec/chat.md §2–§8).

Pure translation: bytes to `ChatRequest`, events to frames. What a model may do is decided elsewhere.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec

from hanlin.dialects.compatible import fields as reading
from hanlin.dialects.compatible import messages as conversation
from hanlin.dialects.compatible import tools as tooling
from hanlin.dialects.compatible.answers import usage_object
from hanlin.dialects.compatible.errors import error_frame
from hanlin.dialects.compatible.fields import Fields
from hanlin.errors import HanlinError, InvalidRequest
from hanlin.types import (
    Answering,
    Body,
    Burst,
    ChatRequest,
    ChatResult,
    Form,
    Message,
    Sent,
    Shape,
    Texts,
    ThinkingAsked,
    TokenLogprob,
    ToolCall,
    ToolCallPiece,
    Usage,
)

# Fields that this dialect decodes; every other field of a body is kept raw and named, and `service` decides about it.
_DECODED = frozenset(
    {
        *reading.NUMBERS,
        *("model", "messages", "seed", "stop", "logit_bias", "stream", "stream_options", "logprobs"),
        *("tools", "tool_choice", "parallel_tool_calls", "response_format"),
        *("enable_thinking", "reasoning_effort", "thinking", "preserve_thinking", "clear_thinking"),
    }
)


def parse(body: Body) -> ChatRequest:
    """Read a request body. Raises InvalidRequest with the vendor's text, and LastMessageNotUser."""
    fields = reading.read(body)
    given = reading.given(fields)
    model = reading.model(fields)
    numbers = reading.numbers(fields)
    stream = reading.boolean("stream", fields) or False
    talk = conversation.read(fields)
    logprobs = reading.boolean("logprobs", fields) or False
    if numbers.get("top_logprobs") and not logprobs:
        raise InvalidRequest("top_logprobs needs logprobs to be true", param="top_logprobs")
    tools = tooling.tools(fields)
    shape = tooling.shape(fields)
    if shape is not None:
        _check_keyword(shape, talk.messages)
    return ChatRequest(
        model=model,
        messages=talk.messages,
        sent=Sent(talk.messages, msgspec.Raw(fields["messages"])) if talk.plain else None,
        sampling=reading.sampling(fields, numbers),
        stream=stream,
        include_usage=reading.include_usage(fields, stream=stream),
        n=numbers.get("n", 1),
        logprobs=logprobs,
        top_logprobs=numbers.get("top_logprobs", 0),
        tools=tools,
        tool_choice=tooling.tool_choice(fields, tools),
        parallel_tool_calls=reading.boolean("parallel_tool_calls", fields) or False,
        shape=shape,
        partial=talk.partial,
        thinking_asked=ThinkingAsked(
            enable=reading.boolean("enable_thinking", fields),
            budget_tokens=numbers.get("thinking_budget"),
            effort=reading.text("reasoning_effort", fields),
            mode=_thinking_mode(fields),
            preserve=reading.boolean("preserve_thinking", fields),
            clear=reading.boolean("clear_thinking", fields),
        ),
        given=given | talk.marks,
        asks={name: msgspec.Raw(raw) for name, raw in fields.items() if name in given and name not in _DECODED},
    )


class _Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    role: Literal["system", "user", "assistant"]
    content: str


_rows = msgspec.json.Decoder(list[_Row])
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError)
_ANY_MESSAGES = msgspec.Raw(b'[{"role":"user","content":"hi"}]')
_FORMS = 512
_FORM_BYTES = 4096


Key = tuple[str | bytes, ...]
"""The names of a body's fields but its messages, then the JSON text of each."""


class Reader:
    """Reads bodies as `parse` does, and remembers what they say beside plain messages: it is decoded once.

    What it remembers is bounded: 512 forms of at most 4 KB.
    """

    def __init__(self) -> None:
        self._known: dict[Key, tuple[ChatRequest, int]] = {}

    def read(self, body: Body) -> ChatRequest:
        """Return the request of a body. Raises as `parse`."""
        try:
            fields = reading.decoded(body)
            raw = fields.pop("messages")
            rows = _rows.decode(raw)
        except _UNREADABLE:
            return parse(body)
        key: Key = (*fields, *map(bytes, fields.values()))
        known, more = self._known.get(key) or self._learn(key, fields)
        if known is None or not rows or rows[-1].role != "user":
            return parse(body)
        if not conversation.says_each_once(body, len(rows), more):
            return parse(body)
        messages = tuple([Message(row.role, row.content) for row in rows])
        return msgspec.structs.replace(known, messages=messages, sent=Sent(messages, raw))

    def _learn(self, key: Key, fields: dict[str, msgspec.Raw]) -> tuple[ChatRequest | None, int]:
        """Return a request of this form without its messages, and how many quotes there are beside them.

        None where calls like it are not remembered: whether JSON may be asked for depends on the words of the messages.
        Others do for all the same, so they are read with a message of two letters.
        """
        if "response_format" in fields or sum(map(len, key)) > _FORM_BYTES:
            return None, 0
        beside = msgspec.json.encode({**fields, "messages": _ANY_MESSAGES})
        request = parse(beside)
        if len(self._known) >= _FORMS:
            self._known.clear()
        more = conversation.quotes(beside, 0) - conversation.quotes(bytes(_ANY_MESSAGES), 0)
        known = self._known[key] = msgspec.structs.replace(request, messages=(), sent=None, form=Form()), more
        return known


def _thinking_mode(fields: Fields) -> str | None:
    """Return the `type` of a `thinking` object: MiniMax's switch, which other vendors' clients send too."""
    switch = reading.value("thinking", fields)
    if switch is None:
        return None
    mode = switch.get("type") if isinstance(switch, dict) else None
    if mode not in ("adaptive", "enabled", "disabled"):
        raise InvalidRequest("'thinking' must be {'type': 'adaptive'} or {'type': 'disabled'}", param="thinking")
    return str(mode)


def _check_keyword(shape: Shape, messages: Sequence[Message]) -> None:
    """The vendor wants the word in the prompt, so that no model is held to JSON without knowing it (§8.1)."""
    if shape.kind == "json_object" and not any(
        "json" in message.text.lower() for message in messages if message.role in ("system", "user")
    ):
        raise InvalidRequest(
            "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'.",
            param="messages",
        )


# --- answers ---------------------------------------------------------------------------------------------------------


class _Message(msgspec.Struct, omit_defaults=True, gc=False):
    role: str
    content: str
    reasoning_content: str = ""
    tool_calls: list[dict[str, Any]] = []


class _Choice(msgspec.Struct, gc=False):
    index: int
    finish_reason: str | None
    logprobs: dict[str, Any] | None
    message: _Message


class _Answer(msgspec.Struct, gc=False, omit_defaults=True):
    id: str
    object: str
    created: int
    model: str
    system_fingerprint: str
    choices: list[_Choice]
    usage: dict[str, Any]
    hanlin: msgspec.Raw | None = None


_encode_answer = msgspec.json.Encoder().encode


def answer(result: ChatResult, answering: Answering, *, id: str, created: int) -> bytes:
    """Return the body of an unstreamed answer (spec/chat.md §4.1)."""
    choices = []
    for choice in result.choices:
        logprobs = None if choice.logprobs is None else _logprobs(choice.logprobs)
        calls = [_call(call, number) for number, call in enumerate(choice.calls)] if choice.calls else []
        message = _Message("assistant", choice.text, choice.reasoning, calls)
        choices.append(_Choice(choice.index, choice.finish_reason, logprobs, message))
    return _encode_answer(
        _Answer(
            id,
            "chat.completion",
            created,
            answering.model,
            answering.fingerprint,
            choices,
            usage_object(result.usage),
            result.report,
        )
    )


def _call(call: ToolCall, number: int) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "index": number, "function": function}


class Stream:
    """The same answer as it comes (spec/chat.md §4.2–§4.4). One object a response; every method returns bytes to send.

    `thinks` says that the model is to think first: then the field that a chunk does not use is an explicit null.
    `end_chunks` is how many chunks state the end.
    """

    def __init__(
        self,
        answering: Answering,
        *,
        id: str,
        created: int,
        n: int = 1,
        include_usage: bool = False,
        thinks: bool = False,
        end_chunks: int = 1,
    ) -> None:
        self._end_chunks = end_chunks
        self._report: msgspec.Raw | None = None
        self._before_text = b'data: {"choices":[{"delta":{"content":'
        self._afters_text: dict[int, bytes] = {}
        self._unused = b""
        self._id = id
        self._created = created
        self._n = n
        self._include_usage = include_usage
        self._thinks = False
        self._calling: set[int] = set()  # choices that have made a call
        self._usage: Usage | None = None
        self.answered_by(answering)
        if thinks:
            self._think()
        self._encode: Callable[[Any], bytes] = msgspec.json.Encoder().encode

    def answered_by(self, answering: Answering) -> None:
        """From now on somebody else answers: what is the same in every chunk is encoded once, its text is left."""
        shared = {
            "created": self._created,
            "system_fingerprint": answering.fingerprint,
            "model": answering.model,
            "id": self._id,
        }
        tail = msgspec.json.encode(shared)[1:]
        self._afters_text.clear()
        self._after_choice = b'],"object":"chat.completion.chunk","usage":null,' + tail + b"\n\n"
        self._usage_tail = b"," + tail + b"\n\n"

    def _think(self) -> None:
        """From now on the field that a chunk does not use is named; thoughts may come without having been asked for."""
        self._thinks, self._unused = True, b',"reasoning_content":null'
        self._afters_text.clear()

    def _after_text(self, index: int) -> bytes:
        """Return what follows the text in a chunk that holds nothing else."""
        after = self._afters_text.get(index)
        if after is None:
            whole = self._chunk(index, b'{"content":""%b}' % self._unused)
            after = self._afters_text[index] = whole.removeprefix(self._before_text + b'""')
        return after

    def open(self) -> bytes:
        """The first chunk of every choice: the role, once. Asked for when the first chunks are there."""
        delta = (
            b'{"content":null,"role":"assistant","reasoning_content":""}'
            if self._thinks
            else b'{"content":"","role":"assistant"}'
        )
        return b"".join(self._chunk(index, delta) for index in range(self._n))

    def frames(self, burst: Burst) -> bytes:
        """The chunks of events that arrived together; empty when they say nothing to the caller."""
        if type(burst) is Texts:
            # Nearly all of a stream: what is the same in every such chunk is not put together anew.
            before, after = self._before_text, self._after_text(0)
            return b"%b%b%b" % (before, (after + before).join(map(self._encode, burst.texts)), after)
        frames: list[bytes] = []
        for event in burst:
            if event.is_text:
                frames += (self._before_text, self._encode(event.text), self._after_text(event.index))
                continue
            if event.usage is not None:
                self._usage = event.usage
                continue
            if event.report is not None:
                self._report = event.report
            if event.reasoning:
                self._think()
                delta = b'{"content":null,"reasoning_content":%b}' % self._encode(event.reasoning)
                frames.append(self._chunk(event.index, delta))
            if event.text or event.logprobs:
                delta = b'{"content":%b%b}' % (self._encode(event.text), self._unused)
                frames.append(self._chunk(event.index, delta, event.logprobs))
            if event.call is not None:
                self._calling.add(event.index)
                frames.append(self._chunk(event.index, self._call_delta(event.call)))
            if event.finish_reason is not None:
                frames.append(self._finished(event.index, event.finish_reason))
        return b"".join(frames)

    def _finished(self, index: int, reason: str) -> bytes:
        """The chunks that state a choice's end; the last one has what a recipe reports of it."""
        unused = self._unused + (b',"tool_calls":null' if index in self._calling else b"")
        end = b'data: {"choices":[{"delta":{"content":""%b},"finish_reason":%b,"index":%d,"logprobs":null}' % (
            unused,
            self._encode(reason),
            index,
        )
        after = self._after_choice
        reported = after if self._report is None else b'],"hanlin":%b%b' % (bytes(self._report), after[1:])
        return (end + after) * (self._end_chunks - 1) + end + reported

    def _chunk(self, index: int, delta: bytes, logprobs: Sequence[TokenLogprob] | None = None) -> bytes:
        return b'data: {"choices":[{"delta":%b,"index":%d,"logprobs":%b,"finish_reason":null}%b' % (
            delta,
            index,
            b"null" if logprobs is None else self._encode(_logprobs(logprobs)),
            self._after_choice,
        )

    def _call_delta(self, piece: ToolCallPiece) -> bytes:
        """A fragment of a call: the first one has id and name, which clients join and must get once (§4.4)."""
        function = {"name": piece.name or None, "arguments": piece.arguments}
        call = {"index": piece.number, "id": piece.id, "type": "function", "function": function}
        return (b'{"content":null,"tool_calls":[%b]}' if piece.name else b'{"tool_calls":[%b]}') % self._encode(call)

    def close(self) -> bytes:
        """The end: the usage chunk where it was asked for, and `[DONE]`."""
        usage = b""
        if self._include_usage and self._usage is not None:
            usage = (
                b'data: {"choices":[],"object":"chat.completion.chunk","usage":'
                + self._encode(usage_object(self._usage))
                + self._usage_tail
            )
        return usage + b"data: [DONE]\n\n"

    def error(self, problem: HanlinError, request_id: str) -> bytes:
        """One typed error in place of the rest of the answer; nothing follows it."""
        return error_frame(problem, request_id)


class CumulativeStream(Stream):
    """A stream each of whose chunks holds the whole text so far, of the one choice that its models give
    (spec/scenarios.md §1.3).
    """

    _so_far = ""

    def frames(self, burst: Burst) -> bytes:
        whole = []
        for event in burst:
            if event.text:
                self._so_far += event.text
                event = msgspec.structs.replace(event, text=self._so_far)
            whole.append(event)
        return super().frames(whole)


def _logprobs(tokens: Sequence[TokenLogprob] | None) -> dict[str, Any] | None:
    return None if tokens is None else {"content": list(tokens)}
