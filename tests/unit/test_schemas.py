"""Schemas of callers: accepted or refused, values judged and mended, and what engines are given of them."""

import json
import re
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hanlin.errors import InvalidRequest
from hanlin.schemas import check, fitted, for_decoding, moved, problem
from hanlin.schemas.patterns import plain
from hanlin.testing import example

WHERE = "tools.0.function.parameters"

TREE: dict[str, Any] = {
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
            },
            "required": ["name", "children"],
        }
    },
    "$ref": "#/$defs/node",
}

EXPRESSION: dict[str, Any] = {
    "anyOf": [
        {"type": "object", "properties": {"op": {"const": word}, "arg": {"$ref": "#"}}, "required": ["op", "arg"]}
        for word in ("neg", "not")
    ]
    + [{"type": "integer"}]
}
"""Alternatives that refer back: where libraries that report errors take twice as long at every level."""

ORDER: dict[str, Any] = {
    "$defs": {
        "Item": {
            "type": "object",
            "properties": {"sku": {"type": "string", "pattern": "^[A-Z]{2}\\d{4}$"}, "count": {"type": "integer"}},
            "required": ["sku", "count"],
            "additionalProperties": False,
        }
    },
    "type": "object",
    "properties": {
        "customer": {"type": "string", "minLength": 1},
        "items": {"type": "array", "items": {"$ref": "#/$defs/Item"}, "minItems": 1},
        "express": {"type": "boolean"},
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
        "unit": {"enum": ["celsius", "fahrenheit"]},
        "weight": {"type": "number", "exclusiveMinimum": 0},
    },
    "required": ["customer", "items"],
    "additionalProperties": False,
}
ITEM = {"sku": "AB1234", "count": 3}


def one(schema: Any, *, required: bool = True) -> dict[str, Any]:
    """An object with one property, `a`."""
    return {"type": "object", "properties": {"a": schema}, **({"required": ["a"]} if required else {})}


SCHEMAS: dict[str, Any] = {
    "anything": {},
    "any object": {"type": "object"},
    "an order": ORDER,
    "a tree": TREE,
    "an expression": EXPRESSION,
    "a pair as 2020 writes it": {"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}]},
    "a pair as draft 7 writes it": {"type": "array", "items": [{"type": "string"}, {"type": "integer"}]},
    "draft 4": {"type": "integer", "minimum": 3, "exclusiveMinimum": True},
    "definitions": {"definitions": {"x": {"type": "integer"}}, **one({"$ref": "#/definitions/x"})},
    "a declared draft": {"$schema": "http://json-schema.org/draft-07/schema#", "$id": "https://a.b/c", **one({})},
    "an unknown draft": {"$schema": "https://example.com/own", **one({"type": "string"})},
    "names with signs": {"$defs": {"a/b ~%": {"type": "string"}}, **one({"$ref": "#/$defs/a~1b%20~0%25"})},
    "a property called $ref": one({"type": "object", "properties": {"$ref": {"type": "string"}}}),
    "words of OpenAPI": one({"type": "string", "nullable": True, "format": "binary", "x-order": 1}),
    "zod's union": one({"oneOf": [{"type": "string"}, {"type": "null"}], "discriminator": {"propertyName": "k"}}),
    "beside $ref": {"$defs": {"x": {"type": "string"}},
     **one({"$ref": "#/$defs/x", "description": "d", "minLength": 2})},
    "all of two": {"allOf": [one({"type": "string"}), {"properties": {"b": {"type": "integer"}}, "required": ["b"]}]},
    "mixed constants": one({"enum": ["a", 1, None, True, 2.5]}),
    "no extras": one({"type": "string"}) | {"additionalProperties": False},
    "a map": {"type": "object", "additionalProperties": {"type": "integer"}, "minProperties": 0},
    "unnamed but required": {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a", "b"]},
    "several types": one({"type": ["string", "integer", "null"], "maxLength": 5, "minimum": 2}),
    "a long text": one({"type": "string", "minLength": 10, "maxLength": 50_000}),
    "forms beside properties": {**one({"type": "string"}, required=False),
     "anyOf": [{"required": ["a"]}, {"minProperties": 1}]},
}  # fmt: skip


@pytest.mark.parametrize("name", SCHEMAS)
def test_schemas_that_clients_write_are_accepted(name: str) -> None:
    """Clients generate them with pydantic, zod and by hand, in four drafts; a refusal would stop a working program."""
    assert check(SCHEMAS[name], WHERE) is SCHEMAS[name]


BEYOND_THE_FAKE = {"draft 4", "names with signs"}


@pytest.mark.parametrize("name", sorted(SCHEMAS.keys() - BEYOND_THE_FAKE))
def test_what_the_fake_engine_says_fits(name: str) -> None:
    """The fake stands for an engine under constrained decoding: the two must agree about what a schema means."""
    assert problem(example(SCHEMAS[name]), SCHEMAS[name]) is None


def nested(levels: int) -> Any:
    schema: Any = {"type": "string"}
    for _ in range(levels):
        schema = one(schema)
    return schema


def doubling(lines: int) -> Any:
    """References that multiply: every line has the next one twice."""
    defs = {f"d{nth}": {"allOf": [{"$ref": f"#/$defs/d{nth + 1}"}] * 2} for nth in range(lines)}
    return {"$defs": {**defs, f"d{lines}": {"type": "integer"}}, "$ref": "#/$defs/d0"}


REFUSED: list[tuple[Any, str]] = [
    (["string"], "must be an object, not list"),
    (True, "must be an object, not bool"),
    ({"type": "strin"}, 'at /type: "strin" is no type: there are string, number,'),
    (one({"type": "dict"}), 'at /properties/a/type: "dict" is no type'),
    (one({"type": "string", "required": True}), "at /properties/a/required: true is not of type"),
    (one({"minLength": -1}), "at /properties/a/minLength: -1 is less than the minimum of 0"),
    (one({"pattern": "(a"}), "at /properties/a: '(a' is no regular expression"),
    ({"$defs": {"unused": {"patternProperties": {"[": {}}}}}, "at /$defs/unused: '[' is no regular expression"),
    (one({"pattern": "(((a{100}){100}){100}){100}"}), "is no regular expression"),
    ({"$ref": "https://example.com/schema.json"}, "'https://example.com/schema.json' is not followed"),
    ({"$ref": "file:///etc/passwd"}, "'file:///etc/passwd' is not followed"),
    (one({"$ref": "other.json#/x"}), "at /properties/a: $ref 'other.json#/x' is not followed"),
    (one({"$ref": "#/$defs/missing"}), "at /properties/a: $ref '#/$defs/missing' leads to no schema"),
    (one({"$ref": "#/required"}), "leads to no schema"),
    (one({"$dynamicRef": "#x"}), "at /properties/a: $dynamicRef is not followed"),
    (one({"$id": "https://a.b/c"}), "a part cannot have its own $id"),
    (nested(32), "more than 32 schemas are nested"),
    ({"description": "长" * 22_000}, "has 66018 bytes, and 65536 are allowed"),
    ({"const": "\ud800"}, "cannot be written as JSON"),
    (doubling(20), "its references multiply"),
]


@pytest.mark.parametrize(("schema", "why"), REFUSED)
def test_what_is_no_usable_schema_is_refused_with_its_place(schema: Any, why: str) -> None:
    """The author must find the fault among twenty tools, and nothing may be fetched to look for it."""
    with pytest.raises(InvalidRequest) as refusal:
        check(schema, WHERE)

    assert why in refusal.value.message
    assert f"'{WHERE}'" in refusal.value.message
    assert refusal.value.param == WHERE


def test_a_schema_just_within_the_limits_is_accepted() -> None:
    """A limit that is off by one is found by somebody else."""
    check(nested(31), WHERE)
    check({"description": "x" * (65536 - len('{"description":""}'))}, WHERE)
    check(doubling(15), WHERE)


PROBLEMS: list[tuple[Any, Any, str]] = [
    (ORDER, [], '[] is not of type "object"'),
    (ORDER, {"items": [ITEM]}, '"customer" is a required property'),
    (ORDER, {"customer": "", "items": [ITEM]}, '/customer: "" is shorter than 1 character'),
    (ORDER, {"customer": "李", "items": []}, "/items: [] has less than 1 item"),
    (ORDER, {"customer": "李", "items": [ITEM, {**ITEM, "count": "2"}]},
     '/items/1/count: "2" is not of type "integer"'),
    (ORDER, {"customer": "李", "items": [{**ITEM, "sku": "x"}]},
     '/items/0/sku: "x" does not match "^[A-Z]{2}\\d{4}$"'),
    (ORDER, {"customer": "李", "items": [ITEM], "express": 1}, '/express: 1 is not of type "boolean"'),
    (ORDER, {"customer": "李", "items": [ITEM], "note": 1}, "/note: 1 fits none of the 2 forms that are allowed"),
    (ORDER, {"customer": "李", "items": [ITEM], "unit": "K"}, '/unit: "K" is not one of "celsius" or "fahrenheit"'),
    (ORDER, {"customer": "李", "items": [ITEM], "weight": 0}, "/weight: 0 is less than or equal to the minimum of 0"),
    (ORDER, {"customer": "李", "items": [ITEM], "x": 1}, "Additional properties are not allowed ('x' was unexpected)"),
    (EXPRESSION, {"op": "not", "arg": {"op": "neg", "arg": "x"}}, '/arg/arg: "x" fits none of the 3 forms'),
    (EXPRESSION, {"op": "not"}, '"arg" is a required property'),
    ({"oneOf": [{"type": "integer"}, {"minimum": 1}]}, 2, "2 fits more than one form of oneOf"),
    ({"not": {"type": "string"}}, "x", '"x" is what the schema rules out'),
    ({"if": {"type": "integer"}, "then": {"minimum": 3}}, 1, "1 is less than the minimum of 3"),
    ({"contains": {"type": "integer"}}, ["a"], '["a"] does not contain what it must'),
    ({"propertyNames": {"maxLength": 1}}, {"abc": 1}, "has a property with a name that is not allowed"),
    ({"uniqueItems": True}, [1, 1], "[1,1] has non-unique elements"),
    (one(False, required=False), {"a": 1}, "/a: 1 is not allowed here"),
    ({"additionalProperties": {"type": "integer"}}, {"a/b": "x"}, '/a~1b: "x" is not of type "integer"'),
    ({"prefixItems": [{"type": "string"}], "items": {"type": "integer"}}, ["x", "y"],
     '/1: "y" is not of type "integer"'),
    ({"type": "string"}, ["long"] * 99, '"long","long","long"'),
    ({"type": "string"}, "\ud800", "half of a surrogate pair"),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "value", "why"), PROBLEMS)
def test_a_problem_is_told_in_one_sentence_with_its_path(schema: Any, value: Any, why: str) -> None:
    """A model that is shown the sentence can do better the next time; so can a person."""
    said = problem(value, check(schema, WHERE))

    assert said is not None
    assert why in said
    assert len(said) <= 300
    assert "\n" not in said


def within(seconds: float) -> Any:
    return pytest.approx(0, abs=seconds)


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        pytest.param({"pattern": "^(a+)+$"}, "a" * 50_000 + "b", id="a pattern that backtracks"),
        pytest.param({"pattern": "^(?=(a|a)+$)(a+)+\\1$"}, "a" * 5_000 + "b", id="with look-ahead and reference"),
        pytest.param({"$ref": "#", "type": "integer"}, "x", id="a reference to itself"),
        pytest.param({"allOf": [{"$ref": "#"}, {"$ref": "#"}, {"type": "integer"}]}, "x", id="twice"),
    ],
)
def test_schemas_made_to_last_for_ever_do_not(schema: Any, value: Any) -> None:
    """A caller must not be able to stop the service for everybody else."""
    before = time.perf_counter()

    assert problem(value, check(schema, WHERE)) is not None
    assert fitted(value, schema) == value
    assert time.perf_counter() - before == within(2)


def test_a_fault_deep_in_alternatives_is_found_at_once() -> None:
    """The library's own report takes 6 s for 14 levels and doubles with each; we ask it yes or no only."""
    value: Any = "x"
    for _ in range(40):
        value = {"op": "neg", "arg": value}
    before = time.perf_counter()

    said = problem(value, EXPRESSION)

    assert said is not None
    assert said.startswith("/arg/arg/arg")
    assert time.perf_counter() - before == within(2)


FITTED: list[tuple[str, Any, Any, Any]] = [
    ("a number in quotes", one({"type": "integer"}), {"a": " 3 "}, {"a": 3}),
    ("a fraction in quotes", one({"type": "number"}), {"a": "-2.5e1"}, {"a": -25.0}),
    ("a whole fraction in quotes", one({"type": "integer"}), {"a": "3.0"}, {"a": 3}),
    ("words instead of a number", one({"type": "integer"}), {"a": "three"}, {"a": "three"}),
    ("a fraction where a whole is wanted", one({"type": "integer"}), {"a": "3.5"}, {"a": "3.5"}),
    ("truth in quotes", one({"type": "boolean"}), {"a": "True"}, {"a": True}),
    ("yes is not true", one({"type": "boolean"}), {"a": "yes"}, {"a": "yes"}),
    ("a number where text is wanted", one({"type": "string"}), {"a": 3}, {"a": "3"}),
    ("truth where text is wanted", one({"type": "string"}), {"a": True}, {"a": "true"}),
    ("null in quotes", one({"type": ["integer", "null"]}), {"a": "null"}, {"a": None}),
    ("one for a list", one({"type": "array", "items": {"type": "string"}}), {"a": "x"}, {"a": ["x"]}),
    ("one in quotes for a list", one({"type": "array", "items": {"type": "integer"}}), {"a": "3"}, {"a": [3]}),
    ("a list in quotes", one({"type": "array", "items": {"type": "integer"}}), {"a": '[1, "2"]'}, {"a": [1, 2]}),
    ("an object in quotes", one(one({"type": "integer"})), {"a": '{"a": "1"}'}, {"a": {"a": 1}}),
    ("everything in quotes", one({"type": "integer"}), '{"a": "1"}', {"a": 1}),
    ("null for what is optional", one({"type": "string"}, required=False), {"a": None}, {}),
    ("null for what is not", one({"type": "string"}), {"a": None}, {"a": None}),
    ("null where it is allowed", one({"type": ["string", "null"]}, required=False), {"a": None, "b": 1},
     {"a": None, "b": 1}),
    ("one too many", SCHEMAS["no extras"], {"a": "x", "b": 1}, {"a": "x"}),
    ("one too many, one too few", SCHEMAS["no extras"], {"b": 1}, {"b": 1}),
    ("capitals", one({"enum": ["celsius", "kelvin"]}), {"a": " Celsius"}, {"a": "celsius"}),
    ("capitals that differ", one({"enum": ["a", "A"]}), {"a": "a "}, {"a": "a "}),
    ("a constant in quotes", one({"enum": [1, 2]}), {"a": "2"}, {"a": 2}),
    ("a constant", one({"const": "fixed"}), {"a": "Fixed"}, {"a": "fixed"}),
    ("by reference", ORDER, {"customer": 7, "items": {"sku": "AB1234", "count": "3"}},
     {"customer": "7", "items": [ITEM]}),
    ("a union", one({"anyOf": [{"type": "integer"}, {"type": "null"}]}), {"a": "3"}, {"a": 3}),
    ("the form that keeps more", one({"anyOf": [
        {"type": "object", "properties": {"x": {"type": "integer"}}, "additionalProperties": False},
        {"type": "object", "properties": {"y": {"type": "integer"}, "z": {"type": "integer"}},
         "additionalProperties": False},
    ]}), {"a": {"x": 1, "y": "1", "z": "2"}}, {"a": {"y": 1, "z": 2}}),
    ("all of", SCHEMAS["all of two"], {"a": 1, "b": "2"}, {"a": "1", "b": 2}),
    ("a map", SCHEMAS["a map"], {"x": "1", "y": 2}, {"x": 1, "y": 2}),
    ("a pair", SCHEMAS["a pair as draft 7 writes it"], ["x", "2"], ["x", 2]),
    ("deep in a tree", TREE, {"name": 1, "children": {"name": "b", "children": "[]"}},
     {"name": "1", "children": [{"name": "b", "children": []}]}),
    ("half of it beyond repair", ORDER, {"customer": 7, "items": "none"}, {"customer": 7, "items": "none"}),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "value", "wanted"), [row[1:] for row in FITTED], ids=[row[0] for row in FITTED])
def test_what_is_nearly_right_is_put_right(schema: Any, value: Any, wanted: Any) -> None:
    """Small models know what to say and stumble over how; agents should not fail over a pair of quotation marks."""
    before = json.dumps(value)

    made = fitted(value, check(schema, WHERE))

    assert (made, type(made)) == (wanted, type(wanted))
    assert json.dumps(made) == json.dumps(wanted)  # 1 and True are equal in Python only
    assert json.dumps(value) == before


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=5)
    | st.sampled_from(["3", "true", "null", "[1]", '{"a": 1}', "Celsius", "AB1234"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["a", "b", "name", "children", "op", "arg", "items", "count"]), inner,
     max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(st.sampled_from(sorted(SCHEMAS)), JSON)
@settings(deadline=None, max_examples=300)
def test_mending_gives_a_value_that_fits_or_the_one_that_came(name: str, value: Any) -> None:
    """Never a third thing: what a client gets was said by the model, or means the same and fits."""
    schema = SCHEMAS[name]

    made = fitted(value, schema)

    assert made is value or problem(made, schema) is None
    if problem(value, schema) is None:
        assert made is value


@pytest.mark.parametrize("name", sorted(SCHEMAS.keys() - BEYOND_THE_FAKE))
def test_a_schema_can_be_moved_into_another(name: str) -> None:
    """A grammar for "one of these tools" holds the schemas of all; references count from the top of what holds them."""
    place = "#/anyOf/1/properties/arguments"
    call = {"properties": {"arguments": moved(SCHEMAS[name], place)}, "required": ["arguments"]}

    whole = check({"anyOf": [{"type": "null"}, call]}, WHERE)

    assert problem({"arguments": example(SCHEMAS[name])}, whole) is None
    assert problem({"arguments": example(for_decoding(SCHEMAS[name]))}, whole) is None
    assert problem(example(for_decoding(whole)), whole) is None


# --- for engines ------------------------------------------------------------------------------------------------------

WORDS = {"type", "properties", "required", "additionalProperties", "items", "prefixItems", "enum", "anyOf", "$ref"} | {
    "minItems", "maxItems", "minLength", "maxLength", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum",
    "multipleOf", "pattern", "format", "minProperties", "maxProperties",
}  # fmt: skip
"""What both llguidance and llama.cpp's converter were seen to take (Nov 2026)."""


def words(schema: Any) -> set[str]:
    """All keywords in a written schema."""
    if not isinstance(schema, dict):
        return set()
    found = set(schema) - {"$defs", "x-guidance"}
    inner = [schema.get("items"), schema.get("additionalProperties"), *schema.get("properties", {}).values()]
    inner += [*schema.get("anyOf", ()), *schema.get("prefixItems", ()), *schema.get("$defs", {}).values()]
    return found.union(*map(words, inner))


@pytest.mark.parametrize("name", SCHEMAS)
def test_engines_are_given_what_they_know_and_it_can_be_said(name: str) -> None:
    """llama.cpp generates without any constraint, and without a word, where llguidance refuses a schema."""
    written = for_decoding(SCHEMAS[name])

    check(written, WHERE)
    assert words(written) <= WORDS
    assert problem(example(written), SCHEMAS[name]) is None
    assert for_decoding(SCHEMAS[name]) == written


GUIDANCE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": ", "lenient": True}
TEXT = {"type": "string", "maxLength": 2000}
WHOLE = {"type": "integer", "minimum": -9 * 10**18, "maximum": 9 * 10**18}


def closed(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


WRITTEN: list[tuple[str, Any, Any]] = [
    ("a text", {"type": "string"}, TEXT),
    ("a short text", {"type": "string", "maxLength": 9, "title": "t"}, {"type": "string", "maxLength": 9}),
    ("a text that must be long", {"type": "string", "minLength": 3000}, {"type": "string"}),
    ("beyond counting", {"type": "string", "maxLength": 50_000}, {"type": "string"}),
    ("a date", {"type": "string", "format": "date"}, {"type": "string", "format": "date"}),
    ("a format of one's own", {"type": "string", "format": "sku"}, TEXT),
    ("a constant", {"const": "x"}, {"enum": ["x"]}),
    ("constants of a type", {"type": "string", "enum": ["a", 1, None]}, {"enum": ["a"]}),
    ("a list", {"type": "array", "items": {"type": "boolean"}},
     {"type": "array", "items": {"type": "boolean"}, "maxItems": 64}),
    ("a list of its own length", {"type": "array", "items": {"type": "null"}, "minItems": 70},
     {"type": "array", "items": {"type": "null"}, "minItems": 70, "maxItems": 70}),
    ("different ones", {"type": "array", "items": {"enum": ["a", "b"]}, "uniqueItems": True},
     {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 2}),
    ("a pair", {"type": "array", "prefixItems": [{"type": "null"}, {"type": "boolean"}], "items": False},
     {"type": "array", "prefixItems": [{"type": "null"}, {"type": "boolean"}], "minItems": 2, "maxItems": 2}),
    ("a number above", {"type": "integer", "exclusiveMinimum": 2.5, "maximum": 7},
     {"type": "integer", "minimum": 3, "maximum": 7}),
    ("draft 4", SCHEMAS["draft 4"], {"type": "integer", "minimum": 4, "maximum": 9 * 10**18}),
    ("an object", one({"type": "integer"}), closed(a=WHOLE)),
    ("nothing", {"type": "object", "properties": {}},
     {"type": "object", "properties": {}, "additionalProperties": False}),
    ("a property that cannot be", {"properties": {"a": {"type": "null"}, "b": False}, "required": ["a"]},
     closed(a={"type": "null"})),
    ("a name to come",
     {"type": "object", "properties": {}, "required": ["b"], "additionalProperties": {"type": "null"}},
     {"type": "object", "properties": {"b": {"type": "null"}}, "required": ["b"],
      "additionalProperties": {"type": "null"}}),
    ("what cannot be held to", {"type": "string", "not": {"const": "x"}, "if": {}, "then": {}}, TEXT),
    ("as pydantic writes it", {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
     {"anyOf": [TEXT, {"type": "null"}]}),
    ("several types", {"type": ["string", "null"], "maxLength": 3},
     {"anyOf": [{"type": "string", "maxLength": 3}, {"type": "null"}]}),
    ("one of", {"oneOf": [{"type": "null"}, {"type": "boolean"}]}, {"anyOf": [{"type": "null"}, {"type": "boolean"}]}),
    ("beside the forms", {**one({"type": "null"}, required=False), "anyOf": [{"required": ["a"]}]},
     closed(a={"type": "null"})),
    ("all of", SCHEMAS["all of two"], closed(a=TEXT, b=WHOLE)),
    ("all of what is elsewhere", {
     "$defs": {"x": one({"type": "null"}), "y": {"required": ["b"], "properties": {"b": True}}},
     "allOf": [{"$ref": "#/$defs/x"}, {"$ref": "#/$defs/y"}], "properties": {"b": {"type": "boolean"}}},
     closed(b={"type": "boolean"}, a={"type": "null"})),
    ("all of what contradicts", {"type": "string", "allOf": [{"type": "integer"}]}, TEXT),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "written"), [row[1:] for row in WRITTEN], ids=[row[0] for row in WRITTEN])
def test_a_schema_is_written_so_that_decoding_ends(schema: Any, written: Any) -> None:
    """Bounds where there are none; narrower words where the schema's own are not understood."""
    assert for_decoding(schema) == {**written, "x-guidance": GUIDANCE}


def test_bounds_can_be_chosen() -> None:
    """A tool that writes files needs longer texts than an extraction; an engine of one's own may need no bound."""
    schema = {"type": "array", "items": {"type": "string"}}

    assert for_decoding(schema, max_string=9000, max_items=3)["maxItems"] == 3
    assert for_decoding(schema, max_string=9000)["items"] == {"type": "string", "maxLength": 9000}
    assert for_decoding(schema, max_string=None)["items"] == {"type": "string"}


def test_a_schema_that_refers_to_itself_comes_to_an_end() -> None:
    """A small model goes on to the next level for ever: the last one has no further."""
    written = for_decoding(TREE)

    assert {"$ref"} <= words(written)
    value = example(written)
    levels = 0
    while value["children"]:
        value, levels = value["children"][0], levels + 1
    assert levels <= 8
    last = [part for part in written["$defs"].values() if part["properties"]["children"].get("maxItems") == 0]
    assert len(last) == 1


def test_any_value_comes_to_an_end_too() -> None:
    """`{}` and `true` invite small models most of all."""
    written = for_decoding({"type": "object"})

    assert written["type"] == "object"
    assert written["maxProperties"] == 64
    assert "anyOf" not in str(written["$defs"]["any-8"]["anyOf"])
    assert {form["type"] for form in written["$defs"]["any-8"]["anyOf"]} == {"string", "number", "boolean", "null"}


def test_what_is_written_stays_small() -> None:
    """Neighbours of an anyOf are copied into its forms: copies of copies would fill the memory."""
    schema: Any = {"type": "string"}
    for _ in range(10):
        schema = {**one(schema), "anyOf": [{"required": ["a"]}, {"required": ["b"]}, {"minProperties": 1}]}
    check(schema, WHERE)

    assert len(json.dumps(for_decoding(schema))) < 20_000


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("^\\d{6}$", "310000", "31000x"),
        ("^1[3-9]\\d{9}$", "13812345678", "12812345678"),
        ("[0-9]{3}", "ab123c", "ab12c"),
        ("^\\w+@[\\w.-]+\\.\\w{2,3}$", "a_1@b-c.cn", "a@b"),
        ("^(\\+86)?\\s?1\\d+$", "+86 13", "+8613x"),
        ("^(?:https?|ftp)://[^\\s/]+", "https://a.cn/x", "http:/a"),
        ("^[\\u4e00-\\u9fa5]{2,4}$", "杭州", "杭"),
        ("^a|b$", "ax", "xa"),
        ("^[A-Z]+?-.$", "AB-c", "AB-"),
        ("^[^x]$", "y", "x"),
    ],
)
def test_patterns_are_written_in_the_words_of_every_engine(pattern: str, matching: str, other: str) -> None:
    """llama.cpp refuses a request for a `\\d`; what is written must accept no more than the pattern does."""
    written = plain(pattern, 200)

    assert written is not None
    assert not re.search(r"\\[a-wyzA-Z.\-/\"]|\(\?", written)
    assert (bool(re.search(written, matching)), bool(re.search(pattern, matching))) == (True, True)
    assert (bool(re.search(written, other)), bool(re.search(pattern, other))) == (False, False)


@pytest.mark.parametrize(
    "pattern",
    ["(?=a)b", "(?<!a)b", "(a)\\1", "\\bx", "\\p{L}", "^a^b$", '^"$', "^[ -~]+$", "^\\\\$", "^\\t$",
     "^(a{1000}){1000}$", "^$",
     "(|a)", "^(a", "^a)$", "*", "^a{2000}$"],
)  # fmt: skip
def test_patterns_beyond_some_engine_are_left_to_be_checked_afterwards(pattern: str) -> None:
    """A character that JSON escapes would end the text in the middle."""
    assert plain(pattern, 200) is None
    assert "pattern" not in for_decoding({"type": "string", "pattern": pattern})


@given(st.text("ab01.[]()^$|*+?{}\\dw,-2", max_size=12), st.text("ab01.-", max_size=8))
@settings(deadline=None, max_examples=500)
def test_a_rewritten_pattern_accepts_nothing_new(pattern: str, text: str) -> None:
    """A decode that is held to it must not write what the check afterwards refuses."""
    written = plain(pattern, 200)
    try:
        check({"pattern": pattern}, WHERE)
    except InvalidRequest:
        return

    if written is not None and problem(text, check({"pattern": written}, WHERE)) is None:
        assert problem(text, {"pattern": pattern}) is None
