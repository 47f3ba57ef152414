"""Give the values of a call the types of the tool's schema, where the form of the call wrote every value as a text."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from hanlin.engines.markup.repair import repaired
from hanlin.types import Schema

_INTEGER = re.compile(r"[+-]?\d+")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?")
_REFERENCES_LIMIT = 8


class _No(Exception):
    """The text is no value of that type."""


def coerced(arguments: Mapping[str, Any], schema: Schema | None) -> dict[str, Any]:
    """Return `arguments` with every text turned into the value that the schema of its parameter asks for.

    The types of a parameter are tried in order, null before all others. A text that is of none of them stays as it is:
    whoever checks the call shall see what the model wrote. Without a schema, what reads as JSON is JSON. Values that
    are not texts are kept.
    """
    root = schema if isinstance(schema, Mapping) else {}
    properties = root.get("properties")
    known = properties if isinstance(properties, Mapping) else {}
    return {
        name: _value(text, known.get(name), root) if isinstance(text, str) else text for name, text in arguments.items()
    }


def _value(text: str, schema: object, root: Schema) -> Any:
    options = list(_options(schema, root))
    if not options:
        return _guessed(text)
    for option in sorted(options, key=lambda option: option != "null"):
        try:
            return _READ[option](text) if isinstance(option, str) else _member(text, option)
        except _No:
            continue
    return text


def _options(schema: object, root: Schema, depth: int = 0) -> Iterator[str | list[Any]]:
    """Yield what a value may be, in order: names of types, or lists of values."""
    if not isinstance(schema, Mapping) or depth > _REFERENCES_LIMIT:
        return
    if isinstance(reference := schema.get("$ref"), str):
        yield from _options(_resolved(reference, root), root, depth + 1)
    types = schema.get("type")
    named = [types] if isinstance(types, str) else types if isinstance(types, list) else []
    yield from (name for name in named if name in _READ)
    if not named and isinstance(members := schema.get("enum", [schema["const"]] if "const" in schema else None), list):
        yield members
    for key in ("anyOf", "oneOf", "allOf"):
        if isinstance(branches := schema.get(key), list):
            for branch in branches:
                yield from _options(branch, root, depth + 1)


def _resolved(reference: str, root: Schema) -> object:
    place: object = root
    for step in reference.removeprefix("#/").split("/"):
        place = place.get(step) if isinstance(place, Mapping) else None
    return place


def _guessed(text: str) -> Any:
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return text
    return text if isinstance(value, str) else value


def _member(text: str, members: list[Any]) -> Any:
    if text in members:
        return text
    value = _guessed(text)
    if value in members:
        return value
    raise _No


def _integer(text: str) -> int:
    number = _number(text)
    if number != int(number):
        raise _No
    return int(number)


def _number(text: str) -> int | float:
    text = text.strip()
    if len(text) > 300 or not _NUMBER.fullmatch(text):
        raise _No
    if _INTEGER.fullmatch(text):
        return int(text)
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise _No
    return number


def _boolean(text: str) -> bool:
    word = text.strip().lower()
    if word not in ("true", "false"):
        raise _No
    return word == "true"


def _null(text: str) -> None:
    if text.strip() not in ("null", "None"):
        raise _No


def _container(kind: type) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        value = repaired(text)
        if not isinstance(value, kind):
            raise _No
        return value

    return read


_READ: dict[str, Callable[[str], Any]] = {
    "string": str,
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "null": _null,
    "object": _container(dict),
    "array": _container(list),
}
