"""Tools, how they are chosen, and the shape of the answer (spec/chat.md §7, §8). Schemas are checked elsewhere."""

import re
from typing import Any

from hanlin.dialects.compatible.fields import Fields, value
from hanlin.errors import InvalidRequest
from hanlin.types import Shape, Tool, ToolChoice

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_REFUSED_NAMES = frozenset({"search"})
# The vendor names no cap; every definition is read for every call.
_MOST_TOOLS = 1024

_CHOICE_REFUSAL = 'tool_choice is one of the strings that should be ["none", "auto"]'
_FORMAT_REFUSAL = (
    "Unknown format of response_format, response_format should be a dict, includes 'type' and an optional key "
    "'json_schema'. The response_format type from user is {found}."
)


def tools(fields: Fields) -> tuple[Tool, ...]:
    """Return the tools in order. Raises InvalidRequest naming the one that is wrong."""
    rows = value("tools", fields)
    if rows is None:
        return ()
    if not isinstance(rows, list):
        raise InvalidRequest("'tools' must be Array", param="tools")
    if len(rows) > _MOST_TOOLS:
        raise InvalidRequest(f"'tools' holds {len(rows)} tools, at most {_MOST_TOOLS} are taken", param="tools")
    found = tuple(_tool(row, f"tools.{number}") for number, row in enumerate(rows))
    names = [tool.name for tool in found]
    for number, name in enumerate(names):
        if name in names[:number]:
            raise InvalidRequest(f"There are two tools of the name {name!r}", param=f"tools.{number}.function.name")
    return found


def _tool(row: Any, where: str) -> Tool:
    if not isinstance(row, dict):
        raise InvalidRequest("A tool must be {'type': 'function', 'function': {…}}", param=where)
    if row.get("type", "function") != "function":
        raise InvalidRequest(f"{row['type']!r} is not one of ['function'] - '{where}.type'", param=f"{where}.type")
    function = row.get("function")
    if not isinstance(function, dict):
        raise InvalidRequest("A tool must be {'type': 'function', 'function': {…}}", param=f"{where}.function")
    name = function.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidRequest(
            f"{name!r} is no name of a tool: letters, digits, '_' and '-', at most 64", param=f"{where}.function.name"
        )
    if name in _REFUSED_NAMES:
        raise InvalidRequest(f"Tool names are not allowed to be [{name}]", param=f"{where}.function.name")
    description = function.get("description")
    if description is not None and not isinstance(description, str):
        raise InvalidRequest("'description' must be String", param=f"{where}.function.description")
    parameters = function.get("parameters")
    if parameters is not None and not isinstance(parameters, dict):
        raise InvalidRequest("'parameters' must be a JSON Schema object", param=f"{where}.function.parameters")
    return Tool(name, description or "", parameters or {})


def tool_choice(fields: Fields, known: tuple[Tool, ...]) -> ToolChoice:
    """Return which tools may be called. Whether a model takes `required` is decided elsewhere."""
    choice = value("tool_choice", fields)
    if choice is None or choice in ("auto", "none", "required"):
        return ToolChoice(choice or "auto")
    function = choice.get("function") if isinstance(choice, dict) and choice.get("type") == "function" else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str):
        raise InvalidRequest(_CHOICE_REFUSAL, param="tool_choice")
    if all(tool.name != name for tool in known):
        raise InvalidRequest(f"tool_choice names {name!r}, which is not among the tools", param="tool_choice")
    return ToolChoice("named", name)


def shape(fields: Fields) -> Shape | None:
    """Return what the answer must be, None for any text."""
    form = value("response_format", fields)
    if form is None:
        return None
    kind = form.get("type") if isinstance(form, dict) else form
    if not isinstance(form, dict) or kind not in ("text", "json_object", "json_schema"):
        raise InvalidRequest(_FORMAT_REFUSAL.format(found=kind), param="response_format")
    if kind == "text":
        return None
    if kind == "json_object":
        return Shape("json_object")
    wanted = form.get("json_schema")
    if not isinstance(wanted, dict) or not isinstance(wanted.get("schema"), dict):
        raise InvalidRequest(
            "response_format of type 'json_schema' needs json_schema: {'name', 'schema'}",
            param="response_format.json_schema",
        )
    name = wanted.get("name")
    if name is not None and not isinstance(name, str):
        raise InvalidRequest("'name' must be String", param="response_format.json_schema.name")
    return Shape("json_schema", name or "", wanted["schema"])
