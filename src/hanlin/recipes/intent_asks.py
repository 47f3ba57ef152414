"""Read what a caller of an intent model asks for: which of its three behaviours, with which tools or tags.

Only the system message says so (spec/scenarios.md §4.1). It is read as leniently as can be: programs paste their lists
into it in many ways.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from hanlin import schemas
from hanlin.errors import InvalidRequest
from hanlin.recipes.jsontext import first_json
from hanlin.types import Message, Schema

_MARKERS = re.compile(r"(intent|normal)_mode", re.IGNORECASE)
_MOST_OFFERED = 512
_LONGEST_NAME = 256


class Mode(StrEnum):
    """How the reply is to be written. `CHAT`: another system prompt, which is answered like any."""

    INTENT_AND_CALL = "intent and call"
    CALL = "call"
    TAG = "tag"
    CHAT = "chat"


@dataclass(frozen=True)
class OfferedTool:
    """A tool as the prompt states it; `parameters` is a schema of an object that can be worked with."""

    name: str
    description: str = ""
    parameters: Schema = field(default_factory=dict)

    @property
    def properties(self) -> Mapping[str, Any]:
        properties: Mapping[str, Any] = self.parameters.get("properties", {})
        return properties

    @property
    def required(self) -> tuple[str, ...]:
        return tuple(self.parameters.get("required", ()))

    @property
    def words(self) -> str:
        """Everything that the tool says of itself."""
        described = [str(one.get("description", "")) for one in self.properties.values() if isinstance(one, Mapping)]
        return " ".join((self.name.replace("_", " "), self.description, *self.properties, *described))


@dataclass(frozen=True)
class Wish:
    """What a conversation asks for. Where its list cannot be read, `tools` and `tags` are both empty."""

    mode: Mode
    tools: tuple[OfferedTool, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)


def wish_of(messages: Sequence[Message]) -> Wish:
    """Return what the system message asks for."""
    system = "\n".join(message.text for message in messages if message.role == "system")
    marks = _MARKERS.findall(system)
    if marks:
        mode = Mode.INTENT_AND_CALL if marks[-1].lower() == "intent" else Mode.CALL
        return Wish(mode, tools=_tools_in(system))
    lower = system.lower()
    if "tag list" in lower and "chosen tag" in lower:
        return Wish(Mode.TAG, tags=_tags_in(system))
    return Wish(Mode.CHAT)


def _tags_in(system: str) -> dict[str, str]:
    found = first_json(system, _is_tags)
    if found is None:
        return {}
    if isinstance(found.value, dict):
        pairs = [(key, value if isinstance(value, str) else _shown(value)) for key, value in found.value.items()]
    else:
        pairs = [(_tag_of(one), one.get("description", "") if isinstance(one, dict) else "") for one in found.value]
    return {str(key): str(value) for key, value in pairs[:_MOST_OFFERED] if str(key)}


def _is_tags(value: Any) -> bool:
    return bool(value) and (isinstance(value, dict) or all(_tag_of(one) for one in value))


def _tag_of(one: Any) -> str:
    if isinstance(one, dict):
        one = one.get("tag") or one.get("name") or one.get("label")
    return one if isinstance(one, str) else ""


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _tools_in(system: str) -> tuple[OfferedTool, ...]:
    found = first_json(system, lambda value: bool(_rows(value)))
    rows = _rows(found.value) if found is not None else []
    tools = {row["name"]: _tool(row) for row in rows[:_MOST_OFFERED]}
    return tuple(tools.values())


def _rows(value: Any) -> list[dict[str, Any]]:
    """Return the tools of a list, of a list in the form of `tools`, or of an object around either."""
    if isinstance(value, dict):
        value = [value] if "name" in value or "function" in value else value.get("tools")
    if not isinstance(value, list):
        return []
    rows = [
        one["function"] if isinstance(one, dict) and isinstance(one.get("function"), dict) else one for one in value
    ]
    named = [one for one in rows if isinstance(one, dict) and isinstance(one.get("name"), str)]
    return [one for one in named if 0 < len(one["name"]) <= _LONGEST_NAME]


def _tool(row: Mapping[str, Any]) -> OfferedTool:
    return OfferedTool(row["name"], str(row.get("description") or ""), _usable(row.get("parameters")))


def _usable(parameters: Any) -> dict[str, Any]:
    """Return the schema of a tool's arguments, without what nobody could work with."""
    if not isinstance(parameters, dict):
        return {"type": "object", "properties": {}, "required": []}
    properties = parameters.get("properties")
    properties = properties if isinstance(properties, dict) else {}
    required = parameters.get("required")
    required = [one for one in required if one in properties] if isinstance(required, list) else []
    whole = {**parameters, "type": "object", "properties": properties, "required": required}
    if _is_usable(whole):
        return whole
    plain = {name: part if _is_usable(part) else _described(part) for name, part in properties.items()}
    return {"type": "object", "properties": plain, "required": required}


def _is_usable(schema: Any) -> bool:
    try:
        schemas.check(schema, "messages")
    except InvalidRequest:
        return False
    return True


def _described(part: Any) -> dict[str, Any]:
    """Return what is left of a parameter whose schema is none: a text that is described."""
    description = part.get("description") if isinstance(part, dict) else part
    return {"type": "string", "description": str(description or "")}


__all__ = ["Mode", "OfferedTool", "Wish", "wish_of"]
