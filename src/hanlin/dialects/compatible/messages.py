"""The messages of a chat body: roles, order, parts, tool calls and what else they carry (spec/chat.md §2, §6, §7)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import msgspec

from hanlin.dialects.compatible.fields import Fields, value
from hanlin.errors import InvalidRequest, LastMessageNotUser
from hanlin.types import Body, MediaPart, Message, Part, TextPart, ToolCall

_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}

_MESSAGE_FIELDS = frozenset({"role", "content", "tool_calls", "tool_call_id", "partial", "reasoning_content"})
# What SDKs send back of an answer as they got it, and which says nothing to the model.
_ECHOES = frozenset({"refusal", "audio", "function_call", "annotations", "reasoning"})

_QUOTES_A_ROW = 8
_BACKSLASH = ord("\\")
_LONG_BYTES = 64 * 1024
_ESCAPED_QUOTES = 1000  # that one looks at before counting is the better way

_MEDIA = {
    "image_url": "image",
    "image": "image",
    "video_url": "video",
    "video": "video",
    "input_audio": "audio",
}


@dataclass
class Conversation:
    """The messages of a body. `marks` are wire names of what they carry and what is decided elsewhere, or by nobody."""

    messages: tuple[Message, ...] = ()
    partial: bool = False
    plain: bool = True  # nothing but roles and texts, as every engine takes them
    marks: set[str] = field(default_factory=set)


def read(fields: Fields) -> Conversation:
    """Return the conversation. Raises InvalidRequest in the vendor's words, and LastMessageNotUser."""
    rows = value("messages", fields)
    if rows is None:
        raise InvalidRequest('Either "prompt" or "messages" must exist and cannot both be none', param="messages")
    if not isinstance(rows, list):
        raise InvalidRequest("'messages' must be Array", param="messages")
    if not rows:
        raise InvalidRequest("[] is too short - 'messages'", param="messages")
    found = Conversation()
    found.messages = tuple(_message(row, position, rows, found) for position, row in enumerate(rows))
    found.plain = found.plain and says_each_once(fields["messages"], len(rows))
    if not any(message.role == "user" for message in found.messages):
        raise InvalidRequest("The input messages do not contain elements with the role of user.", param="messages")
    if found.messages[-1].role not in ("user", "tool") and not found.partial:
        raise LastMessageNotUser(found.messages[-1].role)
    return found


def says_each_once(text: Body, count: int, more: int = 0) -> bool:
    """Whether each row names its fields once: of two `content`s an engine might read the one that nobody here has.

    Rows that have a role and a content, both texts, have eight quotes, and one that repeats a name has more. `more`
    quotes are elsewhere in the text of `count` rows.
    """
    return quotes(text, _QUOTES_A_ROW * count + more) == _QUOTES_A_ROW * count + more


def quotes(text: Body, expected: int) -> int:
    """Return how many quotes begin or end a string in JSON text: all that have no backslash before them.

    Too few for a text with a string that ends with a backslash. Fast where there are about as many as expected.
    """
    if len(text) < _LONG_BYTES:
        return _counted(text[:])
    # In a long text they are far apart: looking for the next one is ten times as fast as counting.
    found, at = 0, text.find(b'"')
    for _ in range(expected + _ESCAPED_QUOTES):
        if at < 0:
            return found
        found += text[at - 1] != _BACKSLASH
        at = text.find(b'"', at + 1)
    return _counted(text[:])


def _counted(text: bytes) -> int:
    return text.count(b'"') - text.count(b'\\"')


def _message(row: Any, position: int, rows: Sequence[Any], found: Conversation) -> Message:
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
    calls = _tool_calls(row, role, position)
    if role == "tool":
        _check_answers_a_call(row, position, rows)
    if row.get("partial") is not None:
        found.partial = _partial(row, role, position, rows)
    known = _MESSAGE_FIELDS | _ECHOES if role == "assistant" else _MESSAGE_FIELDS
    found.marks.update(f"messages.{name}" for name, held in row.items() if name not in known and held is not None)
    content = row.get("content")
    found.plain = found.plain and len(row) == 2 and isinstance(content, str) and _ROLES[role] == role != "tool"
    if content is None and calls:
        content = ""
    if content is None:
        raise InvalidRequest("The content field is a required field.", param=f"messages.{position}.content")
    return Message(
        _ROLES[role],
        content if isinstance(content, str) else _parts(content, position, found),
        tool_calls=calls,
        tool_call_id=_text(row, "tool_call_id", position),
        reasoning=_text(row, "reasoning_content", position) if role == "assistant" else "",
    )


def _text(row: Mapping[str, Any], name: str, position: int) -> str:
    held = row.get(name)
    if held is not None and not isinstance(held, str):
        raise InvalidRequest(f"'{name}' must be String", param=f"messages.{position}.{name}")
    return held or ""


def _tool_calls(row: Mapping[str, Any], role: str, position: int) -> tuple[ToolCall, ...]:
    rows = row.get("tool_calls")
    if not rows or role != "assistant":
        return ()
    where = f"messages.{position}.tool_calls"
    if not isinstance(rows, list):
        raise InvalidRequest("'tool_calls' must be Array", param=where)
    return tuple(_tool_call(call, f"{where}.{number}") for number, call in enumerate(rows))


def _tool_call(call: Any, where: str) -> ToolCall:
    function = call.get("function") if isinstance(call, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(function, dict) or not isinstance(name, str) or not name:
        raise InvalidRequest("A tool call must be {'id', 'type', 'function': {'name', 'arguments'}}", param=where)
    arguments = function.get("arguments")
    if arguments is None:
        arguments = ""
    if not isinstance(arguments, str):
        raise InvalidRequest("'arguments' must be String", param=f"{where}.function.arguments")
    identity = call.get("id")
    return ToolCall(identity if isinstance(identity, str) else "", name, arguments)


def _check_answers_a_call(row: Mapping[str, Any], position: int, rows: Sequence[Any]) -> None:
    """Refuse a tool's message that follows no call, or none of its id; one without an id answers any call."""
    before = position - 1
    while before >= 0 and isinstance(rows[before], dict) and rows[before].get("role") == "tool":
        before -= 1
    calls = rows[before].get("tool_calls") if before >= 0 and isinstance(rows[before], dict) else None
    ids = [call.get("id") for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
    if not calls or (row.get("tool_call_id") and row["tool_call_id"] not in ids):
        raise InvalidRequest(
            'messages with role "tool" must be a response to a preceeding message with "tool_calls"',
            param=f"messages.{position}.role",
        )


def _partial(row: Mapping[str, Any], role: str, position: int, rows: Sequence[Any]) -> bool:
    where = f"messages.{position}.partial"
    if not isinstance(row["partial"], bool):
        raise InvalidRequest("'partial' must be Boolean", param=where)
    if row["partial"] and (role != "assistant" or position != len(rows) - 1):
        raise InvalidRequest(
            "partial is only allowed in the last message, and that must be from the assistant", param=where
        )
    return row["partial"]


def _parts(content: Any, position: int, found: Conversation) -> tuple[Part, ...]:
    where = f"messages.{position}.content"

    def refuse(why: str) -> NoReturn:
        raise InvalidRequest(why, param=where)

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
        if (marker := part.get("cache_control")) is not None:
            if not isinstance(marker, dict) or marker.get("type") != "ephemeral":
                refuse("cache_control must be {'type': 'ephemeral'}")
            found.marks.add("cache_control")
    return tuple(parts)
