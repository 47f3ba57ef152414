"""Refuse what is no JSON Schema, or one that would be unsafe or endless to work with."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NoReturn

import jsonschema_rs
import msgspec

from hanlin.errors import InvalidRequest
from hanlin.schemas import parts
from hanlin.schemas.validators import is_pattern, judge_of
from hanlin.types import Schema

MOST_BYTES = 64 * 1024
"""As JSON. Large enough for a generated API description, small enough to be compiled within a few ms."""

MOST_LEVELS = 32
"""Schemas within schemas: three times what OpenAI allows (10), and far from every recursion limit on the way."""

MOST_VISITS = 200_000
"""Schemas looked at for one value, references followed: some 20 ms. Doubling references reach it in 17 lines."""


def check(schema: Any, where: str) -> Schema:
    """Return the schema when it is one that we can work with; `where` names the parameter in the refusal.

    JSON Schema 2020-12, and what older drafts allow. Raises InvalidRequest with the place and what is wrong there.
    """
    if not isinstance(schema, Mapping):
        _refuse(where, "#", f"must be an object, not {type(schema).__name__}")
    try:
        text = msgspec.json.encode(schema).decode()
    except (RecursionError, UnicodeEncodeError, TypeError, ValueError, OverflowError) as error:
        _refuse(where, "#", f"cannot be written as JSON: {error}")
    if len(text) > MOST_BYTES or len(text.encode()) > MOST_BYTES:
        _refuse(where, "#", f"has {len(text.encode())} bytes, and {MOST_BYTES} are allowed: leave parts out")
    try:
        _examine(text)
    except _Fault as fault:
        _refuse(where, fault.place, fault.why)
    return schema


class _Fault(Exception):
    def __init__(self, place: str, why: str) -> None:
        super().__init__(why)
        self.place = place
        self.why = why


def _refuse(where: str, place: str, why: str) -> NoReturn:
    at = f" at {place[1:]}" if place != "#" else ""
    raise InvalidRequest(f"The JSON schema in '{where}' is not usable{at}: {_short(why)}", param=where)


def _short(text: str) -> str:
    return text if len(text) <= 300 else text[:297] + "…"


@lru_cache(256)  # of what was found in order; tools come with every request of a conversation
def _examine(text: str) -> None:
    schema = msgspec.json.decode(text)
    _Walk(schema).examine()
    try:
        judge_of(text)
    except jsonschema_rs.ValidationError as error:
        raise _Fault("#" + "".join(map(parts.step, error.instance_path)), _said(error)) from error
    except ValueError as error:
        raise _Fault("#", f"is nested too deeply: {error}") from error


def _said(error: jsonschema_rs.ValidationError) -> str:
    """Say what the library found. Where a keyword has several forms, the library does not say which: we do."""
    found = _short(msgspec.json.encode(error.instance).decode())
    if error.instance_path and error.instance_path[-1] == "type":
        return f"{found} is no type: there are string, number, integer, boolean, object, array and null"
    return error.message


class _Walk:
    """One walk over every schema within a schema, in use or not."""

    def __init__(self, root: Any) -> None:
        self._root = root
        self._places: dict[str, Any] = {}
        self._references: dict[str, str] = {}

    def examine(self) -> None:
        self._look(self._root, "#", 1)
        for place, led_to in self._references.items():
            if led_to not in self._places:
                raise _Fault(place, f"$ref {self._places[place]['$ref']!r} leads to no schema")
        if self._visits("#", {}) > MOST_VISITS:
            raise _Fault("#", "its references multiply: a value would be checked more than 200,000 times")

    def _look(self, schema: Any, place: str, level: int) -> None:
        if level > MOST_LEVELS:
            raise _Fault(place, f"more than {MOST_LEVELS} schemas are nested in each other")
        self._places[place] = schema
        if isinstance(schema, Mapping):
            self._look_at_words(schema, place)
        for pointer, part in parts.children(schema):
            self._look(part, place + pointer, level + 1)

    def _look_at_words(self, schema: Mapping[str, Any], place: str) -> None:
        if isinstance(reference := schema.get("$ref"), str):
            try:
                self._references[place] = parts.target(reference)
            except ValueError as error:
                raise _Fault(place, str(error)) from error
        for keyword in ("$dynamicRef", "$recursiveRef"):
            if keyword in schema:
                raise _Fault(place, f"{keyword} is not followed: use $ref")
        if place != "#" and isinstance(address := schema.get("$id"), str) and not address.startswith("#"):
            raise _Fault(place, f"a part cannot have its own $id ({address!r}): references count from the schema's top")
        patterns = schema.get("patternProperties")
        for pattern in [schema.get("pattern"), *(patterns if isinstance(patterns, Mapping) else ())]:
            if isinstance(pattern, str) and not is_pattern(pattern):
                raise _Fault(place, f"{pattern!r} is no regular expression that can be used here")

    def _visits(self, place: str, known: dict[str, int]) -> int:
        """Count the schemas that one value can meet; one that leads back to itself is counted where it is entered."""
        if place in known:
            return known[place]
        known[place] = 0
        ways = [place + pointer for pointer, _ in parts.children(self._places[place]) if not _is_store(pointer)]
        if place in self._references:
            ways.append(self._references[place])
        known[place] = 1 + sum(self._visits(way, known) for way in ways)
        return known[place]


def _is_store(pointer: str) -> bool:
    return pointer.startswith(("/$defs/", "/definitions/"))
