"""Find JSON within a text, as people and models write it: somewhere in it, in a fence, or as Python would print it."""

import ast
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

_MOST_STARTS = 200
_MOST_CHARACTERS = 200_000
_MOST_PRINTED = 20_000
_DECODER = json.JSONDecoder()
_CLOSES = {"{": "}", "[": "]"}


@dataclass(frozen=True)
class FoundJson:
    """A value, and the text that it was read from."""

    value: Any
    text: str


def first_json(text: str, wanted: Callable[[Any], bool] = lambda _value: True) -> FoundJson | None:
    """Return the first object or array of a text that is `wanted`, None where there is none.

    Single quotes, trailing commas and line ends that were written as `\\n` are read as they are meant.
    """
    text = text[:_MOST_CHARACTERS]
    for found in _values(text, _decoded):
        if wanted(found.value):
            return found
    for looser in dict.fromkeys((text, text.replace("\\n", "\n"))):
        for read in (_decoded, _literal):
            for found in _values(looser, read):
                if wanted(found.value):
                    return found
    return None


def _values(text: str, read: Callable[[str, int], FoundJson | None]) -> Iterator[FoundJson]:
    """Yield values from left to right, none of them within another."""
    at, starts = 0, 0
    while starts < _MOST_STARTS:
        opening = min((place for mark in "{[" if (place := text.find(mark, at)) >= 0), default=-1)
        if opening < 0:
            return
        starts += 1
        found = read(text, opening)
        if found is None:
            at = opening + 1
        else:
            yield found
            at = opening + len(found.text)


def _decoded(text: str, opening: int) -> FoundJson | None:
    try:
        value, end = _DECODER.raw_decode(text, opening)
    except (ValueError, RecursionError):
        return None
    return FoundJson(value, text[opening:end])


def _literal(text: str, opening: int) -> FoundJson | None:
    """Read what a program printed without thinking of JSON."""
    span = _balanced(text, opening)
    if span is None:
        return None
    try:
        value = ast.literal_eval(span)
        json.dumps(value)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
    return FoundJson(value, span) if isinstance(value, dict | list) else None


def _balanced(text: str, opening: int) -> str | None:
    """Return the text up to where its brackets are closed; brackets within strings are expected in pairs."""
    open_now: list[str] = []
    for at in range(opening, min(len(text), opening + _MOST_PRINTED)):
        mark = text[at]
        if mark in _CLOSES:
            open_now.append(_CLOSES[mark])
        elif mark in "}]":
            if not open_now or open_now.pop() != mark:
                return None
            if not open_now:
                return text[opening : at + 1]
    return None


__all__ = ["FoundJson", "first_json"]
