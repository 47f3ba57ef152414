"""Make a value that a JSON Schema accepts: what a model under constrained decoding would be held to.

Deterministic, and made without a model: the same schema gives the same value everywhere. Understood: `type`, `enum`,
`const`, `$ref` into the schema itself, `anyOf`, `oneOf`, `allOf`, `properties`, `required`, `additionalProperties`,
`items`, `prefixItems`, `minItems`, `maxItems`, `uniqueItems`, `minLength`, `maxLength`, `pattern`, `format`, `minimum`,
`maximum`, `exclusiveMinimum`, `exclusiveMaximum` and `multipleOf`. Anything else (`not`, `if`, …) is not looked at.

    >>> example({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]})
    {'city': '文字'}
"""

import math
from collections.abc import Mapping
from typing import Any

from hanlin.testing import patterns

_WORD = "文字"
_FORMATS = {
    "date": "2026-01-15",
    "time": "08:30:00Z",
    "date-time": "2026-01-15T08:30:00Z",
    "email": "hanlin@example.com",
    "uri": "https://example.com/",
    "uuid": "123e4567-e89b-42d3-a456-426614174000",
    "ipv4": "192.0.2.1",
    "hostname": "example.com",
}
_FULL_DEPTH = 4  # below it only what the schema demands is made, so that recursive schemas come to an end
_LAST_DEPTH = 40


class SchemaError(ValueError):
    """No value was found for a schema; the message says for which part."""


def example(schema: Any) -> Any:
    """Return a value that `schema` accepts. Raises SchemaError where it accepts none or is beyond this generator."""
    return _Maker(schema).make(schema, 0, 0)


class _Maker:
    """Makes values for parts of one schema. `nth` numbers the items of an array, so that they can differ."""

    def __init__(self, root: Any) -> None:
        self._root = root

    def make(self, schema: Any, depth: int, nth: int) -> Any:
        if schema is True or schema == {}:
            return _WORD
        if not isinstance(schema, Mapping):
            raise SchemaError(f"{schema!r} accepts no value")
        if depth > _LAST_DEPTH:
            raise SchemaError("the schema demands a value without end: its $ref leads back to itself")
        if "const" in schema:
            return schema["const"]
        if enum := schema.get("enum"):
            return enum[nth % len(enum)]
        for keyword in ("anyOf", "oneOf"):
            if branches := schema.get(keyword):
                return self._first(schema, keyword, branches, depth, nth)
        if "$ref" in schema or "allOf" in schema:
            return self.make(self._joined(schema), depth + 1, nth)
        return self._typed(schema, depth, nth)

    def _first(self, schema: Mapping[str, Any], keyword: str, branches: list[Any], depth: int, nth: int) -> Any:
        rest = {key: value for key, value in schema.items() if key != keyword}
        ordered = branches if depth < _FULL_DEPTH else sorted(branches, key=lambda branch: "$ref" in str(branch))
        why = SchemaError(f"no branch of {keyword} accepts a value")
        for branch in ordered:
            try:
                return self.make(
                    _merged(rest, branch) if isinstance(branch, Mapping) else branch and rest, depth + 1, nth
                )
            except SchemaError as error:
                why = error
        raise why

    def _joined(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        joined: Mapping[str, Any] = {key: value for key, value in schema.items() if key not in ("$ref", "allOf")}
        for part in ([{"$ref": schema["$ref"]}] if "$ref" in schema else []) + list(schema.get("allOf", [])):
            joined = _merged(self._resolve(part["$ref"]) if "$ref" in part else part, joined)
        return joined

    def _resolve(self, reference: str) -> Mapping[str, Any]:
        found = self._root
        for step in reference.removeprefix("#").removeprefix("/").split("/") if reference != "#" else []:
            name = step.replace("~1", "/").replace("~0", "~")
            if not isinstance(found, Mapping) or name not in found:
                raise SchemaError(f"{reference!r} leads nowhere: only references into the schema itself are followed")
            found = found[name]
        if not isinstance(found, Mapping):
            raise SchemaError(f"{reference!r} does not lead to a schema")
        return found

    def _typed(self, schema: Mapping[str, Any], depth: int, nth: int) -> Any:
        kind = _type_of(schema)
        if kind == "object":
            return self._object(schema, depth, nth)
        if kind == "array":
            return self._array(schema, depth)
        simple = {"string": _string, "integer": _number, "number": _number, "boolean": _boolean, "null": _null}
        if kind not in simple:
            raise SchemaError(f"unknown type {kind!r}")
        return simple[kind](schema, nth)

    def _object(self, schema: Mapping[str, Any], depth: int, nth: int) -> dict[str, Any]:
        properties: Mapping[str, Any] = schema.get("properties", {})
        required = list(schema.get("required", []))
        made: dict[str, Any] = {}
        for name, part in properties.items():
            if name not in required and depth >= _FULL_DEPTH:
                continue
            try:
                made[name] = self.make(part, depth + 1, nth)
            except SchemaError:
                if name in required:
                    raise
        additional = schema.get("additionalProperties", True)
        for name in required:
            if name not in properties:
                made[name] = self.make(additional, depth + 1, nth)
        return made

    def _array(self, schema: Mapping[str, Any], depth: int) -> list[Any]:
        first = list(schema.get("prefixItems", []))
        rest = schema.get("items", True)
        fewest = schema.get("minItems", 0)
        wanted = max(fewest, len(first) or 1) if depth < _FULL_DEPTH else max(fewest, len(first))
        size = min(wanted, schema.get("maxItems", wanted))
        made: list[Any] = []
        for nth in range(size):
            try:
                made.append(self.make(first[nth] if nth < len(first) else rest, depth + 1, nth))
            except SchemaError:
                if nth < fewest:
                    raise
                break
        return made


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = {**base, **over}
    if "properties" in base and "properties" in over:
        merged["properties"] = {**base["properties"], **over["properties"]}
    if "required" in base and "required" in over:
        merged["required"] = list(dict.fromkeys([*base["required"], *over["required"]]))
    return merged


def _type_of(schema: Mapping[str, Any]) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), "null")
    if kind is not None:
        return str(kind)
    if "properties" in schema or "required" in schema:
        return "object"
    if "items" in schema or "prefixItems" in schema or "minItems" in schema:
        return "array"
    return "number" if {"minimum", "maximum", "multipleOf"} & schema.keys() else "string"


def _string(schema: Mapping[str, Any], nth: int) -> str:
    fewest, most = schema.get("minLength", 0), schema.get("maxLength")
    if pattern := schema.get("pattern"):
        try:
            return patterns.match(pattern, fewest, most)
        except ValueError as error:
            raise SchemaError(str(error)) from error
    if (known := _FORMATS.get(schema.get("format", ""))) is not None:
        return known
    word = _WORD if nth == 0 else f"{_WORD}{nth + 1}"
    longer = word.ljust(fewest, _WORD[0])
    if most is None or len(longer) <= most:
        return longer
    # Items of an array still differ when there is room for one character only.
    return chr(ord(_WORD[0]) + nth) * int(most)


def _number(schema: Mapping[str, Any], nth: int) -> int | float:
    whole = _type_of(schema) == "integer"
    step: float = schema.get("multipleOf", 1)
    lowest: float = max(schema.get("minimum", -math.inf), schema.get("exclusiveMinimum", -math.inf))
    highest: float = min(schema.get("maximum", math.inf), schema.get("exclusiveMaximum", math.inf))
    start = 1.0 if lowest <= 1 <= highest else (lowest if lowest > 1 else highest)
    times = math.floor(start / step) if start == highest else math.ceil(start / step)
    for offset in (nth, 0, 1, -1):
        value = (times + offset) * step
        if _within(value, schema):
            return int(value) if whole or float(value).is_integer() else value
    if not whole and "multipleOf" not in schema and _within(middle := (lowest + highest) / 2, schema):
        return middle
    raise SchemaError(f"no number lies within {dict(schema)!r}")


def _within(value: float, schema: Mapping[str, Any]) -> bool:
    return bool(
        schema.get("minimum", -math.inf) <= value <= schema.get("maximum", math.inf)
        and schema.get("exclusiveMinimum", -math.inf) < value < schema.get("exclusiveMaximum", math.inf)
    )


def _boolean(_schema: Mapping[str, Any], nth: int) -> bool:
    return nth % 2 == 0


def _null(_schema: Mapping[str, Any], _nth: int) -> None:
    return None
