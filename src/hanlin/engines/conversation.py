"""Conversations as weights are told them: what is said in the caller's name, and calls that have been answered."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from hanlin.types import Message


def with_note(messages: Sequence[Message], note: str) -> tuple[Message, ...]:
    """Say something at the end of what the user says."""
    *before, last = messages
    if last.role == "user":
        return (*before, Message("user", last.text + note))
    return (*messages, Message("user", note.strip()))


def answered_calls(messages: Sequence[Message]) -> Mapping[tuple[str, bytes], str]:
    """Return the results of the calls since the user last spoke, by name and arguments."""
    turn = _since_the_user_spoke(messages)
    results = {message.tool_call_id: message.text for message in turn if message.role == "tool"}
    return {
        call_key(call.name, call.arguments): results[call.id]
        for message in turn
        for call in message.tool_calls
        if call.id in results
    }


def call_key(name: str, arguments: str) -> tuple[str, bytes]:
    """Return what is the same for the same call, however its arguments are spelled."""
    try:
        value: Any = msgspec.json.decode(arguments or "{}")
    except (msgspec.DecodeError, RecursionError):
        value = arguments
    return name, msgspec.json.encode(value, order="sorted")


def question(messages: Sequence[Message]) -> str:
    """Return what the user said last."""
    return next((message.text for message in reversed(messages) if message.role == "user"), "")


def with_results(messages: Sequence[Message], line: str) -> tuple[Message, ...]:
    """Put the results of the calls since the user last spoke into what the user said, and leave the calls out.

    In `line`, {results} stands for them.
    """
    turn = _since_the_user_spoke(messages)
    before = messages[: len(messages) - len(turn)]
    told = "\n".join(
        f"{name}({arguments.decode()}): {result}" for (name, arguments), result in answered_calls(messages).items()
    )
    return with_note(before, "\n" + line.replace("{results}", told))


def _since_the_user_spoke(messages: Sequence[Message]) -> Sequence[Message]:
    last = max((position for position, message in enumerate(messages) if message.role == "user"), default=-1)
    return messages[last + 1 :]
