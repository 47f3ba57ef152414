"""Say whether a decode that is held to a schema needs no second look: what it writes can be shown as it comes."""

from collections.abc import Mapping
from typing import Any

from hanlin.types import Schema

# Words that `for_decoding` writes in full, and those that say nothing about a value. Anything else (`not`, `pattern`,
# `uniqueItems` …) may have been narrowed to what engines know, or left out.
_HELD = frozenset(
    {"type", "properties", "required", "additionalProperties", "items", "minItems", "maxItems", "enum", "const"}
    | {"anyOf", "$ref", "$defs", "definitions", "minLength", "maxLength", "minimum", "maximum"}
    | {"title", "description", "default", "examples", "$schema", "$id", "$comment", "deprecated", "strict"}
)
_MOST_COUNTED = 1000
_COUNTS = ("minItems", "maxItems", "minLength", "maxLength")


def is_exact(schema: Schema) -> bool:
    """Whether everything that `schema` says is made sure of by a decode with `for_decoding(schema)`."""
    return _exact(schema)


def _exact(part: Any) -> bool:
    if isinstance(part, bool):
        return True
    if not isinstance(part, Mapping) or not part.keys() <= _HELD:
        return False
    if "anyOf" in part and not part.keys() <= {"anyOf", "$defs", "title", "description", "default"}:
        return False  # words beside an anyOf may have to be written into its branches
    if part.get("type") == "number" and part.keys() & {"minimum", "maximum"}:
        return False  # llama.cpp's own converter knows ranges of integers only
    if any(part.get(count, 0) > _MOST_COUNTED for count in _COUNTS):
        return False
    properties = part.get("properties", {})
    if not set(part.get("required", ())) <= properties.keys():
        return False
    groups = (*(part.get(word, {}).values() for word in ("properties", "$defs", "definitions")), part.get("anyOf", ()))
    inner = [one for group in groups for one in group]
    inner += [part[word] for word in ("items", "additionalProperties") if word in part]
    return all(map(_exact, inner))
