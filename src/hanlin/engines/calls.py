"""Judge the calls that a model makes: a tool that exists, arguments that fit its schema, mended where that is safe.

What cannot be mended is never passed on: whoever asked the model asks it again, or says so.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from hanlin import schemas
from hanlin.engines.markup import Called, coerced, repaired
from hanlin.types import Tool

_ID_BYTES = 11


def call_id() -> str:
    """Return an id as the vendor makes them (spec/chat.md §4.1)."""
    return f"call_{secrets.token_hex(_ID_BYTES)}"


@dataclass(frozen=True)
class Verdict:
    """`arguments` is JSON text that fits the tool's schema, None where `problem` says why there is none."""

    arguments: str | None
    problem: str = ""


def tool_named(name: str, tools: Sequence[Tool]) -> Tool | None:
    return next((tool for tool in tools if tool.name == name), None)


def judge(call: Called, tools: Sequence[Tool]) -> Verdict:
    """Return the arguments of a call as they may be passed on: unchanged where they fit as they are."""
    name, arguments = call.name, call.arguments
    tool = tool_named(name, tools)
    if tool is None:
        return Verdict(None, f"there is no tool {name!r}")
    try:
        value = msgspec.json.decode(arguments or "{}")
    except (msgspec.DecodeError, RecursionError):
        value = repaired(arguments)
        arguments = ""
    if not isinstance(value, dict):
        return Verdict(None, f"the arguments of {name!r} are no JSON object")
    if call.texts:
        value = coerced(value, tool.parameters)
        arguments = ""
    fitted = schemas.fitted(value, tool.parameters)
    if (problem := schemas.problem(fitted, tool.parameters)) is not None:
        return Verdict(None, f"the arguments of {name!r} do not fit its schema: {problem}")
    if arguments and fitted is value:
        return Verdict(arguments)
    return Verdict(msgspec.json.encode(fitted).decode())
