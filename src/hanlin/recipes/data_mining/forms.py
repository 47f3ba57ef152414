"""The form of what is extracted: a JSON Schema, the caller's own or one that follows from the instruction.

An example in the instruction is read as it is; otherwise the base model names the fields once, held to a small form.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec

from hanlin.errors import InvalidRequest
from hanlin.recipes import shaped
from hanlin.recipes.recipe import Base
from hanlin.recipes.texts import squeezed
from hanlin.schemas import check, parts
from hanlin.types import Message, Schema, Shape

_MOST_FIELDS = 40
_NUMERIC = re.compile(r"数字类型|数值类型|整数|浮点|为数字|number|integer|float|int\b", re.IGNORECASE)
_LABEL_FIELD = re.compile(r"类别|标签|分类|情感|label|category|class|sentiment|tag", re.IGNORECASE)
_MOST_ALTERNATIVES, _ALTERNATIVE_CHARS = 21, 24
_MOST_SCANNED = 300_000

_DEEPEST = 12
_MOST_PARTS = 2000
_KEPT = ("enum", "const", "description", "maxItems", "required")

_TYPES: Mapping[str, Schema] = {
    "string": {"type": "string"},
    "number": {"type": "number"},
    "integer": {"type": "integer"},
    "boolean": {"type": "boolean"},
    "list": {"type": "array", "items": {"type": "string"}},
}

_FIELDS: Schema = {
    "type": "object",
    "properties": {
        "many": {"type": "boolean"},
        "fields": {
            "type": "array",
            "minItems": 1,
            "maxItems": _MOST_FIELDS,
            "items": {
                "type": "object",
                "properties": {
                    "name": {"type": "string", "minLength": 1, "maxLength": 60},
                    "type": {"enum": list(_TYPES)},
                },
                "required": ["name", "type"],
                "additionalProperties": False,
            },
        },
    },
    "required": ["many", "fields"],
    "additionalProperties": False,
}


@dataclass(frozen=True)
class Form:
    """What the answer must be. `given`: the caller sent the schema, so that it holds to the letter."""

    schema: Schema
    given: bool = False

    @cached_property
    def plain(self) -> Schema:
        return plain(self.schema)

    @property
    def records(self) -> tuple[str | None, Schema] | None:
        """Return the key and the schema of the records, where the form is a list of objects at its top or below it.

        The key is None for a list at the top. A form with several lists, or with none, is one object.
        """
        if self.plain.get("type") == "array":
            items = self.plain.get("items")
            return (None, items) if items is not None and _is_object(items) else None
        lists = [
            (key, part["items"])
            for key, part in (self.plain.get("properties") or {}).items()
            if isinstance(part, Mapping) and part.get("type") == "array" and _is_object(part.get("items"))
        ]
        return lists[0] if len(lists) == 1 else None


def _is_object(schema: Any) -> bool:
    return isinstance(schema, Mapping) and schema.get("type") == "object" and bool(schema.get("properties"))


async def form_of(
    base: Base, model: str, instruction: str, shape: Shape | None, sample: str, labels: tuple[str, ...]
) -> Form:
    """Return the form of an answer: the caller's schema, that of an example, or one that the model derives."""
    if shape is not None and shape.schema:
        return Form(shape.schema, given=True)
    example = example_in(instruction)
    if example is not None:
        return Form(_with_labels(schema_of(example), labels))
    return Form(_with_labels(await _derived(base, model, instruction, sample), labels))


async def _derived(base: Base, model: str, instruction: str, sample: str) -> Schema:
    """Have the fields named that an instruction asks for. Keys are its own words where it has any."""
    prompt = (
        "An instruction asks for data of a document. Name the fields of one record, with their types, exactly as the "
        "instruction spells them; where it names none, as the document does. `many` says whether the document may hold "
        "several records. Text fields are strings, prices and dates too, unless the instruction asks for numbers."
        f"\n\nDocument, its beginning:\n{sample}\n\nInstruction:\n{instruction}"
    )
    try:
        named = await shaped.ask(base, model, [Message("user", prompt)], _FIELDS, max_tokens=800)
    except shaped.Unfit:
        return {"type": "array", "items": {"type": "object", "properties": {"text": {"type": "string"}}}}
    said = squeezed(instruction)
    fields = {row["name"].strip(): row["type"] for row in named["fields"]}
    verbatim = {name: kind for name, kind in fields.items() if squeezed(name) and squeezed(name) in said}
    numeric = bool(_NUMERIC.search(instruction))
    properties = {
        name: _TYPES["string" if kind in ("number", "integer") and not numeric else kind]
        for name, kind in (verbatim or fields).items()
    }
    record: Schema = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    return {"type": "array", "items": record} if named["many"] else record


def example_in(instruction: str) -> Any:
    """Return the JSON that an instruction shows as an example, None where there is none: the longest that has keys.

    An instruction of nothing but brackets is not read to its end: each of them could begin an example.
    """
    found: list[tuple[int, Any]] = []
    left = _MOST_SCANNED
    for start in (match.start() for match in re.finditer(r"[\[{]", instruction)):
        if left <= 0:
            break
        text = _balanced(instruction, start)
        left -= len(instruction) - start if text is None else len(text)
        if text is None:
            continue
        try:
            value = msgspec.json.decode(_mended(text))
        except msgspec.DecodeError:
            continue
        if _has_keys(value):
            found.append((len(text), value))
    return max(found, key=lambda pair: pair[0])[1] if found else None


def _balanced(text: str, start: int) -> str | None:
    depth, quoted, at = 0, False, start
    while at < len(text):
        sign = text[at]
        if sign == "\\" and quoted:
            at += 1
        elif sign == '"':
            quoted = not quoted
        elif not quoted and sign in "[{":
            depth += 1
        elif not quoted and sign in "]}":
            depth -= 1
            if depth == 0:
                return text[start : at + 1]
        at += 1
    return None


def _mended(text: str) -> str:
    """Return an example as JSON: people leave out values, and write `…` where more would follow."""
    # Each begins where blanks begin: from every one of them, a long run would be read again and again.
    text = re.sub(r"(?:(?<![\s…])|(?=,)),?\s*+(?:\.{3}|…++)\s*+(?=[\]},])", "", text)
    text = re.sub(r"(:\s*)(?=[,}])", r'\1""', text)
    return re.sub(r",(\s*[\]}])", r"\1", text)


def _has_keys(value: Any) -> bool:
    if isinstance(value, list):
        return any(map(_has_keys, value))
    return isinstance(value, dict) and bool(value) and "$schema" not in value


def schema_of(example: Any) -> Schema:
    """Return the schema that an example stands for: its keys, and types by what stands there."""
    if _looks_like_schema(example):
        return _shown_schema(example)
    if isinstance(example, dict):
        properties = {key: schema_of(value) for key, value in example.items()}
        return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    if isinstance(example, list):
        return {"type": "array", "items": schema_of(example[0]) if example else {"type": "string"}}
    if isinstance(example, bool):
        return {"type": "boolean"}
    if isinstance(example, int | float):
        return {"type": "integer" if isinstance(example, int) and example else "number"}
    if isinstance(example, str) and "|" in example and (alternatives := _alternatives(example)):
        return {"enum": alternatives}
    return {"type": "string"}


def _looks_like_schema(example: Any) -> bool:
    return (
        isinstance(example, dict)
        and example.get("type") == "object"
        and isinstance(example.get("properties"), dict)
        and bool(example["properties"])
    )


def _shown_schema(example: Any) -> Schema:
    """Return a schema that was shown in place of an example; of one that is none, its fields and their plain types."""
    try:
        check(example, "messages")
    except InvalidRequest:
        kinds = {
            key: part.get("type") if isinstance(part, dict) else part for key, part in example["properties"].items()
        }
        properties = {key: _TYPES.get(str(kind), _TYPES["string"]) for key, kind in kinds.items()}
        return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    schema: Schema = example
    return schema


def _alternatives(example: str) -> list[str]:
    """Return the values that an example such as `high | low` lists, none where it is a value itself."""
    if "\n" in example.strip():
        return []
    parts = [part.strip() for part in re.split(r"[|/]", example)]
    fits = 2 <= len(parts) <= _MOST_ALTERNATIVES and all(0 < len(part) <= _ALTERNATIVE_CHARS for part in parts)
    return parts if fits else []


def _with_labels(schema: Schema, labels: tuple[str, ...]) -> Schema:
    """Return the schema with the labels of the instruction for the one field that is about them."""
    if not labels:
        return schema
    if schema.get("type") == "array":
        return {**schema, "items": _with_labels(schema.get("items", {}), labels)}
    properties = schema.get("properties")
    if not isinstance(properties, Mapping):
        return schema
    about = [name for name in properties if _LABEL_FIELD.search(name) and properties[name].get("type") == "string"]
    if len(about) != 1:
        return schema
    return {**schema, "properties": {**properties, about[0]: {"enum": list(labels)}}}


def plain(schema: Schema) -> Schema:
    """Return a schema without references, and with one form where it has several: the first that is not null.

    Deeper than data is, and beyond 2,000 parts (references to themselves double and double), anything goes.
    """
    return _Plain(schema).of(schema, 0)


@dataclass
class _Plain:
    """Makes the parts of one schema plain; `left` is how many more it will."""

    root: Schema
    left: int = _MOST_PARTS

    def of(self, schema: Any, depth: int) -> Schema:
        self.left -= 1
        if depth > _DEEPEST or self.left < 0 or not isinstance(schema, Mapping):
            return {}
        if isinstance(reference := schema.get("$ref"), str):
            return self.of(parts.at(self.root, parts.target(reference)), depth + 1)
        for word in ("anyOf", "oneOf", "allOf"):
            forms = [one for one in schema.get(word) or () if isinstance(one, Mapping) and one.get("type") != "null"]
            if forms:
                made = self.of(forms[0], depth + 1)
                return {**made, "nullable": True} if _may_be_null(schema) else made
        kind = schema.get("type")
        if isinstance(kind, list):
            kind = next((word for word in kind if word != "null"), "string")
        kept = {key: value for key, value in schema.items() if key in _KEPT}
        if _may_be_null(schema):
            kept["nullable"] = True
        if isinstance(properties := schema.get("properties"), Mapping):
            kept["properties"] = {key: self.of(part, depth + 1) for key, part in properties.items()}
            kind = "object"
        if isinstance(items := schema.get("items"), Mapping):
            kept["items"] = self.of(items, depth + 1)
            kind = "array"
        return {**kept, **({"type": kind} if kind else {})}


def _may_be_null(schema: Schema) -> bool:
    kinds = schema.get("type")
    forms = [form for word in ("anyOf", "oneOf") for form in schema.get(word) or () if isinstance(form, Mapping)]
    return (
        (isinstance(kinds, list) and "null" in kinds)
        or any(form.get("type") == "null" for form in forms)
        or None in schema.get("enum", ())
        or bool(schema.get("nullable"))
    )


def loose(schema: Schema) -> Schema:
    """Return the plain schema of a part's answer: what the part does not hold is null, and lists have a bound."""
    kind = schema.get("type")
    if kind == "object" and isinstance(schema.get("properties"), Mapping):
        properties = {key: loose(part) for key, part in schema["properties"].items()}
        return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    if kind == "array":
        items = schema.get("items")
        bound = min(schema.get("maxItems", MOST_RECORDS), MOST_RECORDS)
        return {"type": "array", "maxItems": bound, "items": loose(items) if isinstance(items, Mapping) else {}}
    if "enum" in schema:
        return {"enum": [*schema["enum"], *([None] if None not in schema["enum"] else [])]}
    if kind in ("string", "number", "integer", "boolean"):
        kept = {key: value for key, value in schema.items() if key in ("description",)}
        return {**kept, "type": [kind, "null"], **({"maxLength": MOST_CHARS} if kind == "string" else {})}
    return {"type": ["string", "null"], "maxLength": MOST_CHARS} if not kind else schema


MOST_RECORDS = 40
"""Records that one answer of the base model holds; a part with more is read in halves."""

MOST_CHARS = 600

__all__ = ["MOST_RECORDS", "Form", "example_in", "form_of", "loose", "plain", "schema_of"]
