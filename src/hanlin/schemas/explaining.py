"""Say why a value does not fit a schema: the place, and what is wrong there.

Looks for the first fault from the outside in, one branch of alternatives only: the one that the value comes nearest to.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from hanlin.schemas import parts
from hanlin.schemas.validators import Judge, judge
from hanlin.types import Schema

_DEEPEST = 64  # a fault further down is reported there
_MASK = "\x00"  # stands for the value in the library's sentences
_MOST_CHARACTERS = 300
_ALONE = (
    "const",
    "dependentRequired",
    "enum",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "multipleOf",
    "pattern",
    "required",
    "type",
    "uniqueItems",
)
"""Keywords without schemas in them."""

_REST = {
    "contains": "does not contain what it must",
    "dependentSchemas": "lacks what one of its properties demands",
    "dependencies": "lacks what one of its properties demands",
    "propertyNames": "has a property with a name that is not allowed",
    "unevaluatedItems": "has more items than allowed",
    "unevaluatedProperties": "has properties that are not allowed",
    "not": "is what the schema rules out",
}
"""What is said when nothing but such a keyword can be at fault."""


def problem(value: Any, schema: Schema) -> str | None:
    """Return why the value does not fit, in one sentence with its path (`/items/0/price: …`); None when it fits."""
    known = judge(schema)
    try:
        if known.fits(value):
            return None
        path, why = _Search(known).fault(value, "#", "")
    except UnicodeEncodeError:
        return "a text in it has half of a surrogate pair, which is no character"
    sentence = f"{path}: {why}" if path else why
    return sentence if len(sentence) <= _MOST_CHARACTERS else sentence[: _MOST_CHARACTERS - 1] + "…"


class _Search:
    """Finds a fault of a value that does not fit."""

    def __init__(self, known: Judge) -> None:
        self._judge = known
        self._steps = 0

    def fault(self, value: Any, place: str, path: str) -> tuple[str, str]:
        """Return the path of the fault and what is wrong there; `place` does not accept `value`."""
        self._steps += 1
        schema = self._judge.at(place)
        if not isinstance(schema, Mapping):
            return path, f"{_shown(value)} is not allowed here"
        if (why := self._judge.complaint(value, _alone(schema), _MASK)) is not None:
            return path, why.replace(_MASK, _shown(value))
        if self._steps < _DEEPEST:
            for part, inner, name in self._parts(schema, place, value):
                if not self._judge.fits(part, inner):
                    return self.fault(part, inner, path + name)
            for keyword in ("anyOf", "oneOf"):
                if keyword in schema and (found := self._among(value, schema[keyword], place + "/" + keyword, path)):
                    return found
        rest = next((said for keyword, said in _REST.items() if keyword in schema), "does not fit the schema")
        return path, f"{_shown(value)} {rest}"

    def _parts(self, schema: Mapping[str, Any], place: str, value: Any) -> Iterator[tuple[Any, str, str]]:
        """Yield what must fit as well: a part of the value, the place that judges it, the step of the path to it."""
        if "$ref" in schema:
            yield value, parts.target(schema["$ref"]), ""
        for nth in range(len(schema.get("allOf", ()))):
            yield value, f"{place}/allOf/{nth}", ""
        if "if" in schema:
            chosen = "then" if self._judge.fits(value, place + "/if") else "else"
            if chosen in schema:
                yield value, f"{place}/{chosen}", ""
        if isinstance(value, Mapping):
            yield from self._properties(schema, place, value)
        elif isinstance(value, list):
            yield from self._items(schema, place, value)

    def _properties(
        self, schema: Mapping[str, Any], place: str, value: Mapping[str, Any]
    ) -> Iterator[tuple[Any, str, str]]:
        for name, part in value.items():
            if name in schema.get("properties", ()):
                yield part, f"{place}/properties{parts.step(name)}", parts.step(name)
            elif isinstance(schema.get("additionalProperties"), Mapping) and "patternProperties" not in schema:
                yield part, f"{place}/additionalProperties", parts.step(name)

    def _items(self, schema: Mapping[str, Any], place: str, value: list[Any]) -> Iterator[tuple[Any, str, str]]:
        items = schema.get("items")
        keyword, first = ("items", items) if isinstance(items, list) else ("prefixItems", schema.get("prefixItems", ()))
        for nth, part in enumerate(value):
            if nth < len(first):
                yield part, f"{place}/{keyword}/{nth}", parts.step(nth)
            elif parts.is_schema(items):
                yield part, f"{place}/items", parts.step(nth)

    def _among(self, value: Any, branches: list[Any], place: str, path: str) -> tuple[str, str] | None:
        places = [f"{place}/{nth}" for nth in range(len(branches))]
        fitting = [one for one in places if self._judge.fits(value, one)]
        if fitting and place.endswith("anyOf"):
            return None
        if fitting:
            return (path, f"{_shown(value)} fits more than one form of oneOf") if len(fitting) > 1 else None
        nearest = max(places, key=lambda one: self._nearness(value, one))
        if self._nearness(value, nearest) == (False, 0):
            return path, f"{_shown(value)} fits none of the {len(places)} forms that are allowed"
        return self.fault(value, nearest, path)

    def _nearness(self, value: Any, place: str) -> tuple[bool, int]:
        """Rate a branch: has the value its type, and how many of the value's parts have their place in it?"""
        schema = self._judge.at(place)
        for _ in range(_DEEPEST):
            if not isinstance(schema, Mapping) or "$ref" not in schema:
                break
            place = parts.target(schema["$ref"])
            schema = self._judge.at(place)
        if not isinstance(schema, Mapping):
            return False, 0
        typed = self._judge.complaint(value, {key: schema[key] for key in ("type",) if key in schema}, _MASK) is None
        judged = [self._judge.fits(part, inner) for part, inner, name in self._parts(schema, place, value) if name]
        constant = [word for word in ("const", "enum") if word in schema]
        return typed and not (constant and not isinstance(value, str)), sum(1 if one else -1 for one in judged)


def _alone(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a schema says by itself, without the schemas in it."""
    alone = {keyword: schema[keyword] for keyword in _ALONE if keyword in schema}
    if schema.get("additionalProperties") is False:
        alone["additionalProperties"] = False
        for keyword in ("properties", "patternProperties"):
            alone[keyword] = {name: {} for name in schema.get(keyword, ())}
    return alone


def _shown(value: Any) -> str:
    try:
        text = msgspec.json.encode(value).decode()
    except (UnicodeEncodeError, RecursionError, TypeError, ValueError, OverflowError):
        text = str(type(value).__name__)
    return text if len(text) <= 80 else text[:79] + "…"
