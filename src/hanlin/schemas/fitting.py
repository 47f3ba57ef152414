"""Put right what models get nearly right, where nothing is lost by it: `"3"` for 3, one item for a list of one.

Nothing is guessed: of two readings that fit, the one that keeps more is taken; what fits already stays as it is.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from hanlin.schemas import parts
from hanlin.schemas.validators import Judge, judge
from hanlin.types import Schema

_MOST_STEPS = 10_000  # alternatives within alternatives multiply; the value is then left as it is
_DEEPEST = 100
_NO = object()  # "cannot be read as that"


def fitted(value: Any, schema: Schema) -> Any:
    """Return the value in the form that the schema wants, or unchanged when there is none; never altered in place."""
    known = judge(schema)
    try:
        if known.fits(value):
            return value
        mended = _Mender(known).mended(value, "#", 0)
        return mended if known.fits(mended) else value
    except (UnicodeEncodeError, OverflowError, _TooMuchWork):  # half a surrogate pair; more than 64 bits
        return value


class _TooMuchWork(Exception):
    """The schema has more readings than are worth trying."""


class _Mender:
    """One value on its way to fit one schema."""

    def __init__(self, known: Judge) -> None:
        self._judge = known
        self._steps = 0

    def mended(self, value: Any, place: str, depth: int) -> Any:
        """Return what the schema at a place would rather have; it may still not fit."""
        self._steps += 1
        if self._steps > _MOST_STEPS or depth > _DEEPEST:
            raise _TooMuchWork
        schema = self._judge.at(place)
        if not isinstance(schema, Mapping):
            return value
        if "$ref" in schema:
            value = self.mended(value, parts.target(schema["$ref"]), depth + 1)
        for nth in range(len(schema.get("allOf", ()))):
            value = self.mended(value, f"{place}/allOf/{nth}", depth + 1)
        value = _read(value, schema)
        if isinstance(value, Mapping):
            value = self._object(value, schema, place, depth)
        elif isinstance(value, list):
            value = self._array(value, schema, place, depth)
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                value = self._alternative(value, f"{place}/{keyword}", len(schema[keyword]), depth)
        return value

    def _object(self, value: Mapping[str, Any], schema: Mapping[str, Any], place: str, depth: int) -> dict[str, Any]:
        properties, additional = schema.get("properties", {}), schema.get("additionalProperties", True)
        made: dict[str, Any] = {}
        for name, part in value.items():
            if name in properties:
                inner = f"{place}/properties{parts.step(name)}"
                if part is None and name not in schema.get("required", ()) and not self._judge.fits(None, inner):
                    continue  # "I have none" of something optional
                made[name] = self.mended(part, inner, depth + 1)
            elif "patternProperties" in schema or additional is True:
                made[name] = part
            elif additional is not False:
                made[name] = self.mended(part, f"{place}/additionalProperties", depth + 1)
        return made

    def _array(self, value: list[Any], schema: Mapping[str, Any], place: str, depth: int) -> list[Any]:
        items = schema.get("items")
        keyword, first = ("items", items) if isinstance(items, list) else ("prefixItems", schema.get("prefixItems", ()))
        made = []
        for nth, part in enumerate(value):
            if nth < len(first):
                made.append(self.mended(part, f"{place}/{keyword}/{nth}", depth + 1))
            elif isinstance(items, Mapping):
                made.append(self.mended(part, f"{place}/items", depth + 1))
            else:
                made.append(part)
        return made

    def _alternative(self, value: Any, place: str, count: int, depth: int) -> Any:
        places = [f"{place}/{nth}" for nth in range(count)]
        if any(self._judge.fits(value, one) for one in places):
            return value
        made = [(self.mended(value, one, depth + 1), one) for one in places]
        fitting = [candidate for candidate, one in made if self._judge.fits(candidate, one)]
        return max(fitting, key=lambda candidate: len(msgspec.json.encode(candidate)), default=value)


def _read(value: Any, schema: Mapping[str, Any]) -> Any:
    """Read a value as one of the constants or types that a schema names."""
    options = [schema["const"]] if "const" in schema else schema.get("enum")
    if options is not None:
        alike = [option for option in options if _plain(option) == _plain(value)]
        return alike[0] if len(alike) == 1 else value
    kinds = schema.get("type", ())
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if any(_is(value, kind) for kind in kinds):
        # 3.0 is an integer to JSON Schema; clients in other languages are not so sure.
        return int(value) if isinstance(value, float) and "number" not in kinds and value.is_integer() else value
    for kind in kinds:
        if (made := _READINGS[kind](value)) is not _NO:
            return made
    return value


def _plain(value: Any) -> str:
    return (value if isinstance(value, str) else msgspec.json.encode(value).decode()).strip().casefold()


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    if isinstance(value, float):
        return kind == "number" or (kind == "integer" and value.is_integer())
    names: dict[type, tuple[str, ...]] = {int: ("integer", "number"), str: ("string",), list: ("array",)}
    names |= {dict: ("object",), type(None): ("null",)}
    return kind in names.get(type(value), ())


def _integer(value: Any) -> Any:
    number = _number(value)
    if isinstance(number, float):
        return int(number) if number.is_integer() and abs(number) < 2**53 else _NO
    return number


def _number(value: Any) -> Any:
    if isinstance(value, str) and re.fullmatch(r"[+-]?[0-9]{1,18}", text := value.strip()):
        return int(text)
    if isinstance(value, str) and re.fullmatch(r"[+-]?[0-9]{1,18}(\.[0-9]{1,300})?([eE][+-]?[0-9]{1,3})?", text):
        number = float(text)
        return number if math.isfinite(number) else _NO
    return _NO


def _boolean(value: Any) -> Any:
    return {"true": True, "false": False}.get(value.strip().lower(), _NO) if isinstance(value, str) else _NO


def _null(value: Any) -> Any:
    return None if isinstance(value, str) and value.strip().lower() == "null" else _NO


def _string(value: Any) -> Any:
    return msgspec.json.encode(value).decode() if isinstance(value, bool | int | float) else _NO


def _array(value: Any) -> Any:
    parsed = _parsed(value)
    return parsed if isinstance(parsed, list) else [value]


def _object(value: Any) -> Any:
    parsed = _parsed(value)
    return parsed if isinstance(parsed, dict) else _NO


def _parsed(value: Any) -> Any:
    try:
        return msgspec.json.decode(value) if isinstance(value, str) else _NO
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return _NO


_READINGS: dict[str, Callable[[Any], Any]] = {
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "null": _null,
    "string": _string,
    "array": _array,
    "object": _object,
}
