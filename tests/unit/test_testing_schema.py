"""Values made for JSON Schemas: judged by a small checker of their own."""

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hanlin.testing import example, patterns
from hanlin.testing.schema import SchemaError

TYPES: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}


def accepts(schema: Any, value: Any, root: Any) -> bool:
    """Say whether a schema accepts a value; every keyword that the maker claims to understand is looked at."""
    if isinstance(schema, bool):
        return schema
    if "$ref" in schema:
        target = root
        for step in schema["$ref"].removeprefix("#/").split("/") if schema["$ref"] != "#" else []:
            target = target[step]
        if not accepts(target, value, root):
            return False
    return (
        ("const" not in schema or value == schema["const"])
        and ("enum" not in schema or value in schema["enum"])
        and all(any(accepts(one, value, root) for one in schema[key]) for key in ("anyOf", "oneOf") if key in schema)
        and all(accepts(one, value, root) for one in schema.get("allOf", []))
        and _of_type(schema.get("type"), value)
        and (not isinstance(value, dict) or _object_fits(schema, value, root))
        and (not isinstance(value, list) or _array_fits(schema, value, root))
        and (not isinstance(value, str) or _text_fits(schema, value))
        and (isinstance(value, bool) or not isinstance(value, int | float) or _number_fits(schema, value))
    )


def _of_type(kind: Any, value: Any) -> bool:
    if kind is None:
        return True
    kinds = kind if isinstance(kind, list) else [kind]
    return any(isinstance(value, TYPES[one]) and (one == "boolean") >= isinstance(value, bool) for one in kinds)


def _object_fits(schema: dict[str, Any], value: dict[str, Any], root: Any) -> bool:
    properties = schema.get("properties", {})
    additional = schema.get("additionalProperties", True)
    return all(name in value for name in schema.get("required", [])) and all(
        accepts(properties.get(name, additional), part, root) for name, part in value.items()
    )


def _array_fits(schema: dict[str, Any], value: list[Any], root: Any) -> bool:
    first = schema.get("prefixItems", [])
    different = len({repr(one) for one in value}) == len(value)
    return (
        schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value))
        and (not schema.get("uniqueItems") or different)
        and all(
            accepts(first[nth] if nth < len(first) else schema.get("items", True), part, root)
            for nth, part in enumerate(value)
        )
    )


def _text_fits(schema: dict[str, Any], value: str) -> bool:
    return bool(
        schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value))
        and re.search(schema.get("pattern", ""), value) is not None
    )


def _number_fits(schema: dict[str, Any], value: float) -> bool:
    return bool(
        schema.get("minimum", value) <= value <= schema.get("maximum", value)
        and schema.get("exclusiveMinimum", value - 1) < value < schema.get("exclusiveMaximum", value + 1)
        and abs(value / schema.get("multipleOf", value or 1) % 1) < 1e-9
    )


ADDRESS = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "zip": {"type": "string", "pattern": "^[1-9][0-9]{5}$"}},
    "required": ["city", "zip"],
    "additionalProperties": False,
}

SCHEMAS: dict[str, Any] = {
    "anything": {},
    "always": True,
    "text of a length": {"type": "string", "minLength": 12, "maxLength": 12},
    "short text": {"type": "string", "maxLength": 1},
    "whole number": {"type": "integer", "minimum": 17, "maximum": 18},
    "number below zero": {"type": "number", "maximum": -3.5},
    "number between two": {"type": "number", "exclusiveMinimum": 0.2, "exclusiveMaximum": 0.7},
    "whole number above": {"type": "integer", "exclusiveMinimum": 1},
    "multiple": {"type": "integer", "minimum": 11, "multipleOf": 5},
    "boolean": {"type": "boolean"},
    "nothing": {"type": "null"},
    "one of": {"enum": ["红", "绿"]},
    "this one": {"const": {"kind": 1}},
    "text or nothing": {"type": ["string", "null"]},
    "nothing or text": {"anyOf": [{"type": "null"}, {"type": "string"}]},
    "all of": {
        "allOf": [{"type": "object", "required": ["a"]}, {"properties": {"a": {"const": 1}}, "required": ["a"]}]
    },
    "several": {"type": "array", "items": {"type": "integer"}, "minItems": 3, "uniqueItems": True},
    "several of a few": {"type": "array", "items": {"enum": ["a", "b", "c"]}, "minItems": 3, "uniqueItems": True},
    "several objects": {
        "type": "array",
        "items": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
        "minItems": 2,
        "uniqueItems": True,
    },
    "none": {"type": "array", "items": {"type": "string"}, "maxItems": 0},
    "pair": {"type": "array", "prefixItems": [{"type": "string"}, {"type": "boolean"}], "minItems": 2},
    "person": {
        "$defs": {"address": ADDRESS},
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "age": {"type": "integer", "minimum": 18},
            "home": {"$ref": "#/$defs/address"},
            "tags": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["name", "age", "home"],
    },
    "tree": {
        "type": "object",
        "properties": {"value": {"type": "integer"}, "children": {"type": "array", "items": {"$ref": "#"}}},
        "required": ["value", "children"],
    },
    "list": {
        "$defs": {
            "node": {
                "type": "object",
                "properties": {"next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
                "required": ["next"],
            }
        },
        "$ref": "#/$defs/node",
    },
    "undeclared": {"type": "object", "required": ["x"], "additionalProperties": {"type": "boolean"}},
    "impossible option": {"type": "object", "properties": {"x": {"type": "integer", "minimum": 2, "maximum": 1}}},
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_value_fits_the_schema_that_it_was_made_for(name: str) -> None:
    """What the fake says under constrained decoding must be what a real engine could have said."""
    schema = SCHEMAS[name]

    value = example(schema)

    assert accepts(schema, value, schema), value


def test_the_checker_of_these_tests_refuses_what_does_not_fit() -> None:
    """A checker that accepts everything would prove nothing."""
    wrong: list[tuple[Any, Any]] = [
        (SCHEMAS["person"], {"name": "李", "age": 17, "home": {"city": "杭州", "zip": "310000"}}),
        (SCHEMAS["person"], {"name": "李", "age": 18, "home": {"city": "杭州", "zip": "31"}}),
        (SCHEMAS["several"], [1, 1, 2]),
        (SCHEMAS["whole number"], True),
        (SCHEMAS["multiple"], 12),
        (SCHEMAS["one of"], "蓝"),
        (ADDRESS, {"city": "杭州", "zip": "310000", "street": ""}),
    ]

    assert [schema for schema, value in wrong if accepts(schema, value, schema)] == []


def test_values_are_the_same_every_time() -> None:
    """A test may then write the expected answer down."""
    assert example(SCHEMAS["person"]) == {
        "name": "文字",
        "age": 18,
        "home": {"city": "文字", "zip": "100000"},
        "tags": ["文字"],
    }


@pytest.mark.parametrize(
    "schema",
    [
        False,
        {"type": "integer", "minimum": 2, "maximum": 1},
        {"type": "something"},
        {"$ref": "#/$defs/missing"},
        {"$ref": "https://example.com/schema.json"},
        {"type": "object", "properties": {"again": {"$ref": "#"}}, "required": ["again"]},
        {"type": "string", "pattern": "(?=x)"},
    ],
)
def test_a_schema_that_accepts_nothing_is_refused(schema: Any) -> None:
    """An invented value would make a wrong test pass."""
    with pytest.raises(SchemaError):
        example(schema)


SIMPLE = st.one_of(
    st.builds(
        lambda low, size: {"type": "integer", "minimum": low, "maximum": low + size},
        st.integers(-99, 99),
        st.integers(0, 9),
    ),
    st.builds(
        lambda low, size: {"type": "string", "minLength": low, "maxLength": low + size},
        st.integers(0, 9),
        st.integers(0, 9),
    ),
    st.sampled_from([{"type": "boolean"}, {"type": "null"}, {"enum": [1, "二"]}, {"type": "number", "maximum": -0.5}]),
)
NESTED = st.recursive(
    SIMPLE,
    lambda inner: st.one_of(
        st.builds(
            lambda items, fewest: {"type": "array", "items": items, "minItems": fewest}, inner, st.integers(0, 3)
        ),
        st.builds(lambda branches: {"anyOf": branches}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(
            lambda parts, all_of_them: {
                "type": "object",
                "properties": parts,
                "required": list(parts) if all_of_them else [],
            },
            st.dictionaries(st.sampled_from("abcd"), inner, max_size=3),
            st.booleans(),
        ),
    ),
    max_leaves=8,
)


@given(NESTED)
@settings(deadline=None)
def test_any_nesting_of_simple_schemas_is_satisfied(schema: Any) -> None:
    """Users' schemas are deeper and odder than the ones in this file."""
    assert accepts(schema, example(schema), schema)


@pytest.mark.parametrize(
    ("pattern", "fewest"),
    [
        ("^[A-Z]{2}-\\d{4}$", 0),
        ("^(?:https?|ftp)://[a-z]+\\.(com|cn)$", 20),
        ("^1[3-9]\\d{9}$", 0),
        ("[\\u4e00-\\u9fa5]+", 3),
        ("^[^a-z\\s]+$", 5),
        ("^\\w+@\\w+\\.\\w{2,3}$", 0),
        ("a|b", 4),
        ("^a?b*c+.$", 0),
        ("^[a-c]{2,}?x{1,3}$", 6),
        ("\\{\\}", 0),
    ],
)
def test_a_text_is_found_for_the_patterns_that_people_write(pattern: str, fewest: int) -> None:
    """Codes, numbers, addresses: a pattern is how schemas say them."""
    text = patterns.match(pattern, fewest)

    assert re.search(pattern, text)
    assert len(text) >= fewest


@pytest.mark.parametrize("pattern", ["(?=a)b", "(a)\\1", "^ab$", "(a", "a)", "[z-", "\\"])
def test_a_pattern_beyond_the_generator_is_refused_by_name(pattern: str) -> None:
    """The rule's author is told to write the answer out instead."""
    with pytest.raises(ValueError) as refusal:
        patterns.match(pattern, min_length=3)

    assert repr(pattern) in str(refusal.value)
