"""Write a conversation as a prompt, and read a prompt back into turns and tools: chat templates, both ways.

All templates here mark turns as Qwen's do. `default` is the fake's own, `qwen3` what the models of that name have.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from hanlin.testing import tokens
from hanlin.testing.rules import Template

OPENING = "<|im_start|>assistant\n"
NO_THOUGHT = "<think>\n\n</think>\n\n"

_TURN = re.compile(r"<\|im_start\|>(\w+)\n(.*?)<\|im_end\|>", re.DOTALL)
_TOOLS = re.compile(r"<tools>\s*([\[{].*?)\s*</tools>", re.DOTALL)
_RESULT = re.compile(r"<tool_response>\n?(.*?)\n?</tool_response>", re.DOTALL)
_TOOLS_BEFORE = (
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>\n"
)
_TOOLS_AFTER = (
    "\n</tools>\n\nFor each function call, return a json object with function name and arguments within "
    "<tool_call></tool_call> XML tags:\n<tool_call>\n"
    '{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>'
)


class Conversation(msgspec.Struct, frozen=True):
    """What a prompt holds. `written` is what stands behind the last opening of an assistant's turn."""

    head: str
    written: str
    messages: list[dict[str, Any]]
    tools: list[Any]


def prompt(
    template: Template,
    messages: Sequence[Mapping[str, Any]],
    tools: Sequence[Any] = (),
    *,
    thinks: bool | None = None,
    continued: bool = False,
) -> str:
    """Return the prompt of a conversation, open for an answer; `continued` leaves the last message itself open."""
    turns, written = (messages[:-1], tokens.text_of(messages[-1].get("content"))) if continued else (messages, "")
    if template == "default":
        return tokens.prompt_of(turns, tools) + written
    no_thought = NO_THOUGHT if thinks is False and not continued else ""
    return f"{''.join(_qwen_turns(turns, tools))}{OPENING}{no_thought}{written}"


def read(prompt: str) -> Conversation:
    """Return the conversation of a prompt; without any turns all of it is what the user says."""
    head, opening, written = prompt.rpartition(OPENING)
    if not opening:
        return Conversation(prompt, "", [{"role": "user", "content": prompt}], [])
    messages: list[dict[str, Any]] = []
    for role, content in _TURN.findall(head):
        results = _RESULT.findall(content) if role == "user" else []
        messages += [{"role": "tool", "content": result} for result in results] or [{"role": role, "content": content}]
    return Conversation(head + opening, written, messages, _tools_in(head))


def call(name: str, arguments: str) -> str:
    """Return a tool call as Qwen's models write it."""
    return f'<tool_call>\n{{"name": {json.dumps(name, ensure_ascii=False)}, "arguments": {arguments}}}\n</tool_call>'


def _qwen_turns(messages: Sequence[Mapping[str, Any]], tools: Sequence[Any]) -> list[str]:
    system = ""
    if messages and messages[0].get("role") == "system":
        system, messages = tokens.text_of(messages[0].get("content")), messages[1:]
    if tools:
        lines = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
        system = f"{system}{system and chr(10) * 2}{_TOOLS_BEFORE}{lines}{_TOOLS_AFTER}"
    turns = [("system", system)] if system else []
    for message in messages:
        text = tokens.text_of(message.get("content"))
        if message.get("role") == "tool":
            result = f"<tool_response>\n{text}\n</tool_response>"
            if turns and turns[-1][0] == "user" and turns[-1][1].endswith("</tool_response>"):
                turns[-1] = ("user", f"{turns[-1][1]}\n{result}")
            else:
                turns.append(("user", result))
        else:
            calls = [_written_call(one) for one in message.get("tool_calls") or []]
            turns.append((str(message.get("role", "")), "\n".join([text, *calls] if text else calls)))
    return [f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in turns]


def _written_call(made: Any) -> str:
    function = made.get("function", {}) if isinstance(made, Mapping) else {}
    arguments = function.get("arguments", "{}")
    return call(str(function.get("name", "")), arguments if isinstance(arguments, str) else json.dumps(arguments))


def _tools_in(head: str) -> list[Any]:
    """Return the tools that a prompt defines: one JSON array of them, or one object a line."""
    if (found := _TOOLS.search(head)) is None:
        return []
    try:
        if found[1].startswith("["):
            return msgspec.json.decode(found[1], type=list[Any])
        return [msgspec.json.decode(line) for line in found[1].splitlines()]
    except msgspec.DecodeError:
        return []
