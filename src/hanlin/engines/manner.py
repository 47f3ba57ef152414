"""How to speak to one deployment, and what a conversation looks like to its engine."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from hanlin.engines.profiles import EngineProfile, WeightsProfile
from hanlin.types import ChatRequest, Message, Sampling, Tool


@dataclass(frozen=True)
class Manner:
    """How to speak to one deployment.

    `model` is the name sent; "" sends the caller's. `unbilled_tokens` are the prompt tokens of the identity line.
    `silence_s` is how long the engine may be silent while it answers.
    """

    profile: EngineProfile
    model: str = ""
    weights: WeightsProfile = field(default_factory=WeightsProfile)
    unbilled_tokens: int = 0
    silence_s: float = 60.0
    headers: Mapping[str, str] = field(default_factory=dict)


def lead(messages: Sequence[Message], weights: WeightsProfile) -> tuple[Message, ...]:
    """Put what the weights need said ahead of the caller's messages: their identity line, and a system message.

    The line ends with a newline, so that it is the same tokens whatever follows.
    """
    if not weights.identity and not weights.default_system:
        return tuple(messages)
    first, rest = (messages[0], messages[1:]) if messages[0].role == "system" else (None, messages)
    system = first.text if first is not None else weights.default_system
    return (Message("system", f"{weights.identity}\n{system}" if weights.identity else system), *rest)


def message_rows(request: ChatRequest) -> list[dict[str, Any]]:
    """Return the messages as OpenAI chat spells them; reasoning of earlier turns where the call wants it read."""
    return [_message(message, reasoning=request.thinking.history) for message in request.messages]


def _message(message: Message, *, reasoning: bool) -> dict[str, Any]:
    row: dict[str, Any] = {"role": message.role, "content": message.text}
    if reasoning and message.reasoning:
        row["reasoning_content"] = message.reasoning
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


def sampled(sampling: Sampling, profile: EngineProfile) -> dict[str, Any]:
    """Return what is sent with every call and its sampling, in the engine's own names; no limits, no stop texts."""
    values = {
        theirs: _value(sampling, ours)
        for ours, theirs in profile.parameters.items()
        if ours not in ("max_tokens", "max_completion_tokens", "stop")
    }
    return {**profile.fixed, **{name: value for name, value in values.items() if value is not None}}


def _value(sampling: Sampling, name: str) -> Any:
    if name == "logit_bias":
        return {str(token): bias for token, bias in sampling.logit_bias} or None
    return getattr(sampling, name)
