"""Find JSON within a text, as people and models write it: somewhere in it, in a fence, or as Python would print it."""

import ast
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

_MOST_STARTS = 200
_MOST_CHARACTERS = 200_000
_MOST_PRINTED = 20_000
_MOST_IN_VAIN = 100_000  # characters of what looked like a printed value, and was none
_DEEPEST = 64  # a value that is nested deeper is nobody's, and keeps every function that walks it busy
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


def _finite(figures: str) -> float:
    """Return a number that JSON has. Raises ValueError for what only Python's JSON takes: NaN, Infinity, 1e999."""
    number = float(figures)
    if not math.isfinite(number):
        raise ValueError(figures)
    return number


_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=_finite)


def _is_shallow(value: Any, left: int = _DEEPEST) -> bool:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return left > 0 and all(_is_shallow(part, left - 1) for part in parts)


def _values(text: str, read: Callable[[str, int], tuple[FoundJson | None, int]]) -> Iterator[FoundJson]:
    """Yield values from left to right, none of them within another.

    `read` returns the value that begins at a place, and how many characters it has read for nothing.
    """
    at = starts = in_vain = 0
    while starts < _MOST_STARTS and in_vain < _MOST_IN_VAIN:
        opening = min((place for mark in "{[" if (place := text.find(mark, at)) >= 0), default=-1)
        if opening < 0:
            return
        starts += 1
        found, lost = read(text, opening)
        in_vain += lost
        if found is None:
            at = opening + 1
        else:
            yield found
            at = opening + len(found.text)


def _decoded(text: str, opening: int) -> tuple[FoundJson | None, int]:
    try:
        value, end = _DECODER.raw_decode(text, opening)
    except (ValueError, RecursionError):
        return None, 0  # its decoder is fast
    return (FoundJson(value, text[opening:end]) if _is_shallow(value) else None), 0


def _literal(text: str, opening: int) -> tuple[FoundJson | None, int]:
    """Read what a program printed without thinking of JSON."""
    span = _balanced(text, opening)
    if span is None:
        return None, 0
    try:
        value = ast.literal_eval(span)
        json.dumps(value, allow_nan=False)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None, len(span)
    fits = isinstance(value, dict | list) and _is_shallow(value)
    return (FoundJson(value, span), 0) if fits else (None, len(span))


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
