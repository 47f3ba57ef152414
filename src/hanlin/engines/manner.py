"""How to speak to one deployment, and what a conversation looks like to its engine."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from hanlin.engines.profiles import EngineProfile, WeightsProfile
from hanlin.types import ChatRequest, Message, Sampling, Tool


@dataclass(frozen=True)
class Manner:
    """How to speak to one deployment.

    `names`, where there is one, says what a caller's name is there; "" leaves it to `model`, and that to the caller's.
    `unbilled_tokens` are the prompt tokens of the identity line. `silence_s` is how long the engine may be silent while
    it answers.
    """

    profile: EngineProfile
    model: str = ""
    weights: WeightsProfile = field(default_factory=WeightsProfile)
    unbilled_tokens: int = 0
    silence_s: float = 60.0
    headers: Mapping[str, str] = field(default_factory=dict)
    names: Callable[[str], str] | None = None

    def there(self, name: str) -> str:
        """Return what the engine calls the model that a caller names."""
        return (self.names(name) if self.names is not None else "") or self.model or name

    def leaves_defaults(self, name: str) -> bool:
        """Whether what the caller leaves open is left to the engine: it knows its own models, and this is one of them.

        Under another name there may be another model, with other defaults than the name promises.
        """
        return self.profile.as_asked and self.there(name) == name


def lead(messages: Sequence[Message], weights: WeightsProfile) -> tuple[Message, ...]:
    """Put what the weights need said ahead of the caller's messages: their identity line, and a system message.

    The line ends with a newline, so that it is the same tokens whatever follows.
    """
    if not weights.leads:
        return tuple(messages)
    first, rest = (messages[0], messages[1:]) if messages[0].role == "system" else (None, messages)
    system = first.text if first is not None else weights.default_system
    return (Message("system", f"{weights.identity}\n{system}" if weights.identity else system), *rest)


def message_rows(request: ChatRequest, profile: EngineProfile | None = None) -> list[dict[str, Any]]:
    """Return the messages as OpenAI chat spells them; reasoning of earlier turns where the call wants it read.

    `profile` says where a server looks for that reasoning; templates look for `reasoning_content`.
    """
    return [_message(message, request, profile) for message in request.messages]


def _message(message: Message, request: ChatRequest, profile: EngineProfile | None) -> dict[str, Any]:
    row: dict[str, Any] = {"role": message.role, "content": message.text}
    if reasoning := _earlier_thoughts(message, request, profile):
        place = profile.thoughts if profile is not None else "reasoning_content"
        if place == "content":
            row["content"] = f"<think>\n{reasoning}\n</think>\n\n{message.text}"
        else:
            row[place] = reasoning
    if message.tool_calls:
        row["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": _object_text(call.arguments)},
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id:
        row["tool_call_id"] = message.tool_call_id
    return row


def _earlier_thoughts(message: Message, request: ChatRequest, profile: EngineProfile | None) -> str:
    if request.thinking.history and message.reasoning:
        return message.reasoning
    if request.thinking.on and message.tool_calls and profile is not None and profile.thoughts_with_calls:
        # For callers who did not keep them: an empty text counts as missing (earendil-works/pi#4178).
        return message.reasoning or " "
    return ""


def _object_text(arguments: str) -> str:
    """Return arguments that chat templates can read: they fail on what is no JSON object, which histories may hold."""
    try:
        readable = isinstance(msgspec.json.decode(arguments or "{}"), dict)
    except (msgspec.DecodeError, RecursionError):
        readable = False
    if readable:
        return arguments or "{}"
    return msgspec.json.encode({"arguments": arguments}).decode()


def tool_rows(tools: Sequence[Tool]) -> list[dict[str, Any]]:
    return [
        {
            "type": "function",
            "function": {"name": tool.name, "description": tool.description, "parameters": _parameters(tool)},
        }
        for tool in tools
    ]


def _parameters(tool: Tool) -> Mapping[str, Any]:
    """Return a tool's parameters as templates and engines expect them: an object with properties."""
    return tool.parameters if "type" in tool.parameters else {"type": "object", "properties": {}, **tool.parameters}


def offered(request: ChatRequest) -> tuple[Tool, ...]:
    """Return the tools that the model is told of: with the choice `none` there are none."""
    return () if request.tool_choice.mode == "none" else request.tools


def has_markup(request: ChatRequest) -> bool:
    """Whether the model may write calls: it is told of tools, or sees calls of earlier turns."""
    return bool(offered(request)) or any(message.tool_calls for message in request.messages)


_SENT_APART = frozenset({"max_tokens", "max_completion_tokens", "stop"})


def sampled(
    sampling: Sampling, profile: EngineProfile, only: Collection[str] | None = None, *, repeatable: bool = False
) -> dict[str, Any]:
    """Return what is sent with every call and its sampling, in the engine's own names; no limits, no stop texts.

    `only` leaves out the parameters that it does not name.
    """
    sent = {**profile.fixed, **profile.repeatable} if repeatable else dict(profile.fixed)
    for ours, theirs in profile.parameters.items():
        if ours not in _SENT_APART and (only is None or ours in only) and (value := _value(sampling, ours)) is not None:
            sent[theirs] = _within(profile, ours, value)
    return sent


def _within(profile: EngineProfile, name: str, value: Any) -> Any:
    """Return the value nearest to `value` that the engine takes."""
    if name not in profile.ranges:
        return value
    least, most = profile.ranges[name]
    return min(max(value, least), most)


def _value(sampling: Sampling, name: str) -> Any:
    if name == "logit_bias":
        return {str(token): bias for token, bias in sampling.logit_bias} or None
    return getattr(sampling, name)
