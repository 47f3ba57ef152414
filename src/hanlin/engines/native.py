"""Answer a call over OpenAI chat as a server speaks it: our request in its words, its frames as our events.

A server may have parsed thoughts and calls already, or leave them in its text as the model wrote them; either way they
come out the same. Calls are passed on whole, once their arguments are known to fit.
"""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import msgspec

from hanlin.engines.manner import Manner, lead, message_rows, offered, sampled, tool_rows
from hanlin.engines.markup import Called, Cut
from hanlin.engines.profiles import EngineProfile
from hanlin.engines.reading import Reading, with_logprobs
from hanlin.engines.stages import Stage, flattened
from hanlin.errors import AnswerUnfit, InvalidRequest
from hanlin.types import Burst, ChatRequest, Event, Events, Message, Sent, Thinking, ToolChoice, Usage

Send = Callable[[bytes], AsyncGenerator[Burst, None]]
"""Sends a body to the chat endpoint and yields its events as the server means them."""

REASONS = {
    "function_call": "tool_calls",
    "tool_use": "tool_calls",
    "eos": "stop",
    "end_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "sensitive": "content_filter",
    "safety": "content_filter",
}
"""The contract's words for what servers say why they stopped; those that say that they failed are read in `frames`."""

_SAYS_THINKING = frozenset(
    {"enable_thinking", "thinking", "thinking_budget", "reasoning_effort", "preserve_thinking", "clear_thinking"}
)
_FORCED = frozenset({"required", "named"})


_STREAMED: Mapping[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}


def around(request: ChatRequest, manner: Manner, *, stream: bool = True) -> tuple[bytes, bytes]:
    """Return what stands before and behind the messages in the body for the server: the same for all of a form."""
    nothing_said = Sent(request.messages, msgspec.Raw(b""))
    body = encode(msgspec.structs.replace(request, sent=nothing_said), manner, stream=stream)
    # The first of its kind: a quote within the model's name, which stands before it, would be escaped.
    before, name, behind = body.partition(b'"messages":')
    return before + name, behind


def encode(request: ChatRequest, manner: Manner, stop: Sequence[str] = (), *, stream: bool = True) -> bytes:
    """Return the body for the server. `stop` are further stop texts, beside the caller's own."""
    profile = manner.profile
    led = msgspec.structs.replace(request, messages=lead(request.messages, manner.weights))
    only = request.given if manner.leaves_defaults(request.model) else None
    body: dict[str, Any] = {
        "model": manner.there(request.model),
        "messages": _messages(led, profile),
        **(_STREAMED if stream and profile.stream_options else {"stream": stream}),
        **sampled(request.sampling, profile, only, repeatable=request.repeatable),
        **_limits(request, manner),
        **_thinking(request, manner),
    }
    if (stops := [*request.sampling.stop, *stop]) and profile.honours("stop"):
        body[profile.parameters["stop"]] = stops[: profile.stops_max or None]
    if request.logprobs and profile.logprobs:
        body["logprobs"] = True
        body["top_logprobs"] = max(request.top_logprobs, profile.top_logprobs_min)
    body.update(_tools(request, manner))
    if request.shape is not None:
        body["response_format"] = _response_format(request)
    if request.partial and profile.prefill is not None:
        body["messages"][-1].update(profile.prefill.message)
        body.update(profile.prefill.body)
    if request.asks and profile.as_asked:  # a scenario's own parameters, for the vendor itself
        body.update(request.asks)
    return msgspec.json.encode(body)


def _messages(request: ChatRequest, profile: EngineProfile) -> Any:
    """Return the messages' rows, or the bytes that they came in where the engine is to be told the very same."""
    sent = request.sent
    if sent is not None and sent.messages is request.messages and not request.partial:
        return sent.raw
    return message_rows(request, profile)


def _limits(request: ChatRequest, manner: Manner) -> dict[str, int]:
    """Return the limits in the server's words."""
    sampling, parameters = request.sampling, manner.profile.parameters
    answer, whole = sampling.max_tokens, sampling.max_completion_tokens
    if manner.profile.max_tokens_covers == "answer" and "max_completion_tokens" in parameters:
        limits = {"max_tokens": answer, "max_completion_tokens": whole}
        return {parameters[name]: limit for name, limit in limits.items() if limit is not None}
    if request.thinking.on and manner.profile.max_tokens_covers == "all":
        answer = None  # counted here, so that thoughts do not use it up
    limit = min((one for one in (answer, whole) if one is not None), default=None)
    return {} if limit is None else {parameters["max_tokens"]: limit}


def _thinking(request: ChatRequest, manner: Manner) -> dict[str, Any]:
    switch, thinking = manner.profile.switch_for(manner.there(request.model)), request.thinking
    nothing_said = not request.given & _SAYS_THINKING and not request.partial
    if switch is None or (nothing_said and manner.leaves_defaults(request.model)):
        return {}
    if not thinking.on:
        return switch.off
    told = dict(switch.on)
    if thinking.history:
        told.update(switch.history)
    if switch.budget and thinking.budget_tokens is not None:
        _put(told, switch.budget, thinking.budget_tokens)
    elif switch.effort and thinking.effort:
        _put(told, switch.effort, thinking.effort)
    return told


def _put(fields: dict[str, Any], path: str, value: Any) -> None:
    """Set the field that a path such as `reasoning.effort` names, in tables of its own."""
    name, _, rest = path.partition(".")
    if not rest:
        fields[name] = value
        return
    fields[name] = dict(fields.get(name, {}))
    _put(fields[name], rest, value)


def _tools(request: ChatRequest, manner: Manner) -> dict[str, Any]:
    """Return the tools and the choice among them.

    A choice that the server does not know becomes the nearest that it does, of the tools that count.
    """
    tools, choice, known = offered(request), request.tool_choice, manner.profile.tool_choices
    if not tools:
        return {}
    if choice.mode not in known:
        if choice.mode == "named":
            tools = tuple(tool for tool in tools if tool.name == choice.name)
        choice = ToolChoice("required" if choice.mode in _FORCED and "required" in known else "auto")
    parallel = {"parallel_tool_calls": request.parallel_tool_calls} if manner.profile.parallel_tool_calls else {}
    return {"tools": tool_rows(tools), "tool_choice": _tool_choice(choice), **parallel}


def _tool_choice(choice: ToolChoice) -> Any:
    if choice.mode == "named":
        return {"type": "function", "function": {"name": choice.name}}
    return choice.mode


def _response_format(request: ChatRequest) -> dict[str, Any]:
    shape = request.shape
    assert shape is not None
    if shape.kind == "json_object":
        return {"type": "json_object"}
    return {
        "type": "json_schema",
        "json_schema": {"name": shape.name or "answer", "strict": True, "schema": shape.schema},
    }


class _Suffixes:
    """What is new in pieces of a stream each of which holds the whole text so far."""

    def __init__(self) -> None:
        self._seen = ""

    def new(self, text: str) -> str:
        if not text.startswith(self._seen):
            self._seen += text  # after all, only what is new
            return text
        new, self._seen = text[len(self._seen) :], text
        return new


class _Unrepeated:
    """What is new in an answer that a server may begin with the prefix it was given, where it should go on behind it.

    One character may well come twice; it is never taken for a repetition.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix.rstrip()
        self._space = prefix[len(self._prefix) :]
        self._held = ""
        self._open = len(self._prefix.lstrip()) > 1

    def new(self, text: str) -> str:
        if not self._open:
            return text
        self._held += text
        whole = self._prefix + self._space
        if len(self._held) < len(whole) and whole.startswith(self._held):
            return ""
        text, self._held, self._open = self._held, "", False
        if not text.startswith(self._prefix):
            return text
        return text[len(self._prefix) :].removeprefix(self._space)

    def rest(self) -> str:
        """Return what was held back at the end of the answer: the prefix once more is nothing new, a part of it is."""
        rest, self._held, self._open = self._held, "", False
        return "" if rest.rstrip() == self._prefix else rest


@dataclass
class _Call:
    """A call as the server tells it, piece by piece."""

    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)


class NativeAnswer:
    """One choice of one call, read from a server's chat stream."""

    def __init__(self, request: ChatRequest, manner: Manner, send: Send, stop: Sequence[str] = ()) -> None:
        self._request = request
        self._manner = manner
        self._send = send
        self._stop = stop
        self._reading = Reading(request, "none" if request.partial else "possible")
        self._told: dict[int, _Call] = {}
        self._thoughts: list[str] = []
        self._over_budget = False
        self._answering = False  # words of the answer have come
        self._answer_pieces = 0
        self._reason: str | None = None
        self._usage: Usage | None = None  # of the calls that are over
        self._counted: Usage | None = None  # of the call that is under way, as it was last told
        repeats = manner.profile.repeats_itself(manner.there(request.model))
        self._suffixes = _Suffixes() if repeats else None
        self._unrepeated = _Unrepeated(request.messages[-1].text) if request.partial else None

    async def events(self) -> Events:
        """Yield the choice's events, then its usage where the server counts. Raises AnswerUnfit."""
        async with aclosing(flattened(self._stages())) as bursts:
            async for burst in bursts:
                yield burst

    async def _stages(self) -> Stage:
        yield self._leg(self._request)
        if self._over_budget:
            thoughts = len(self._thoughts)
            self._over_budget = False
            yield self._leg(self._with_thoughts_ended())
            self._settle()
            self._usage = self._usage and _with_thoughts(self._usage, thoughts)
        self._reading.limited = self._reason == "length"
        held = self._unrepeated.rest() if self._unrepeated is not None else ""
        yield [*(self._reading.feed(held) if held else ()), *self._reading.close(), *self._told_calls()]
        if self._reading.to_mend and not self._reading.limited:
            yield self._mended(self._reading.to_mend)
        reason = "tool_calls" if self._reading.calls and not self._reading.limited else self._reason
        yield [Event(finish_reason="stop" if reason == "tool_calls" and not self._reading.calls else reason)]
        self._settle()
        if self._usage is not None:
            yield [Event(usage=self._usage)]

    def _settle(self) -> None:
        """Count in what the last call came to. Some servers tell its usage again and again; the last time is right."""
        if self._counted is not None:
            self._usage = self._counted if self._usage is None else _together(self._usage, self._counted)
            self._counted = None

    async def _leg(self, request: ChatRequest) -> Stage:
        """Run one call of the server. It is left at a limit that only we keep: of its thoughts, or of the answer."""
        self._reason = None
        self._settle()
        async with aclosing(self._send(encode(request, self._manner, self._stop))) as bursts:
            async for burst in bursts:
                events: list[Event] = []
                left = False
                for event in burst:
                    if self._is_one_thought_too_many(event):
                        left = self._over_budget = True
                        break
                    if self._is_one_word_too_many(event):
                        left, self._reason = True, "length"
                        break
                    events += self._read(event)
                yield events
                if left:
                    return

    def _is_one_thought_too_many(self, event: Event) -> bool:
        """Whether thoughts go on beyond their budget, on a server that keeps none. A piece counts as a token."""
        profile, budget = self._manner.profile, self._request.thinking.budget_tokens
        switch, prefill = profile.thinking, profile.prefill
        kept_here = switch is not None and not switch.budget and prefill is not None and prefill.thoughts
        full = budget is not None and len(self._thoughts) >= budget and not self._answering
        return kept_here and full and bool(event.reasoning or event.text) and self._still_thinks(event)

    def _still_thinks(self, event: Event) -> bool:
        return bool(event.reasoning) or (self._reading.thinks and "</think>" not in event.text)

    def _is_one_word_too_many(self, event: Event) -> bool:
        """Whether the answer behind thoughts goes on beyond its limit, on a server whose limit would cover both."""
        limit = self._request.sampling.max_tokens
        counted_here = self._request.thinking.on and self._manner.profile.max_tokens_covers == "all"
        return counted_here and limit is not None and self._answer_pieces >= limit and bool(event.text)

    def _with_thoughts_ended(self) -> ChatRequest:
        """Return the call that goes on with the answer, behind the thoughts so far."""
        thoughts = f"<think>\n{''.join(self._thoughts).strip()}\n</think>\n\n"
        self._reading = Reading(self._request, "open")  # which passes over the space ahead of the answer
        self._reading.feed("</think>\n\n")
        self._answering = True
        return self._request.changed(
            messages=(*self._request.messages, Message("assistant", thoughts)),
            partial=True,
            thinking=Thinking(),
        )

    def _read(self, event: Event) -> list[Event]:
        if event.usage is not None:
            self._counted = event.usage
            return []
        if event.finish_reason is not None:
            self._reason = REASONS.get(event.finish_reason, event.finish_reason)
        events: list[Event] = []
        if event.reasoning:
            self._thoughts.append(event.reasoning)
            events.append(Event(reasoning=event.reasoning))
        text = self._suffixes.new(event.text) if self._suffixes is not None else event.text
        if self._unrepeated is not None:
            text = self._unrepeated.new(text)
        if text:
            read = self._reading.feed(text)
            self._thoughts += [one.reasoning for one in read if one.reasoning]
            self._answering = self._answering or any(one.text for one in read)
            self._answer_pieces += self._answering
            events += read
        if event.logprobs:
            events = with_logprobs(events, event.logprobs)
        if (piece := event.call) is not None:
            self._answering = True
            call = self._told.setdefault(piece.number, _Call())
            call.id, call.name = call.id or piece.id, call.name or piece.name
            call.arguments.append(piece.arguments)
        return events

    def _told_calls(self) -> list[Event]:
        """Pass on the calls that the server has parsed itself; the last one may have been cut."""
        events: list[Event] = []
        for number, call in sorted(self._told.items()):
            arguments = "".join(call.arguments)
            if self._reading.limited and number == max(self._told):
                events += self._reading.cut_call(Cut(call.name, arguments), call.id)
            else:
                events += self._reading.whole_call(Called(call.name, arguments), call.id)
        return events

    async def _mended(self, names: Sequence[str]) -> Stage:
        """Have a call that cannot be passed on made again: the server is told which tool to call, once."""
        again = self._request.changed(
            tools=tuple(tool for tool in self._request.tools if tool.name in names),
            tool_choice=ToolChoice("named", names[0]) if len(names) == 1 else ToolChoice(),
            thinking=Thinking(),
            given=self._request.given | {"enable_thinking"},  # said on the caller's behalf
        )
        calls = self._reading.calls
        self._told.clear()
        self._settle()
        yield self._silently(again)
        yield self._told_calls()
        if self._reading.calls == calls:
            raise AnswerUnfit(f"the model's call of {' or '.join(names)} has no arguments that fit")

    async def _silently(self, request: ChatRequest) -> Stage:
        try:
            async with aclosing(self._send(encode(request, self._manner, self._stop))) as bursts:
                async for burst in bursts:
                    for event in burst:
                        if event.call is not None or event.usage is not None:
                            self._read(event)
                    yield []
        except InvalidRequest as refusal:
            # The caller's own request was fine: it is this one that models refuse which always think, for instance.
            raise AnswerUnfit(f"the model's call has no arguments that fit, and {refusal.message}") from refusal


def _with_thoughts(usage: Usage, thoughts: int) -> Usage:
    """Return the usage of an answer whose thoughts, a piece a token, were sent back as a part of its prompt."""
    prompt = max(usage.prompt - thoughts, 0)
    return msgspec.structs.replace(
        usage,
        prompt=prompt,
        completion=usage.completion + thoughts,
        cached=min(usage.cached, prompt),
        reasoning=usage.reasoning + thoughts,
        estimated=True,
    )


def _together(first: Usage, second: Usage) -> Usage:
    """Return the usage of an answer that took two calls: the prompt is the first one's."""
    return msgspec.structs.replace(
        first,
        completion=first.completion + second.completion,
        reasoning=first.reasoning + second.reasoning,
        estimated=first.estimated or second.estimated,
    )
