"""Say which constraints llama.cpp's server takes, and which it drops without a word (build b11549, with llguidance).

A grammar that cannot be parsed is refused. A JSON Schema that its grammar engine cannot enforce, all of it, is not:
the answer is 200, and nothing constrains it. Seen by asking the server with one schema for each keyword.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

_DROPPED = frozenset(
    {
        *("uniqueItems", "contains", "not", "if", "propertyNames", "dependentRequired", "dependentSchemas"),
        *("unevaluatedProperties", "unevaluatedItems"),
    }
)
_FORMATS = frozenset({"date", "date-time", "time", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "unknown"})
_TYPES = frozenset({"object", "array", "string", "integer", "number", "boolean", "null"})
_MAPS = frozenset({"properties", "patternProperties", "$defs", "definitions"})
_NO_SCHEMAS = frozenset({"const", "enum", "default", "examples", "required"})
_PATTERN_LIMITS = re.compile(r"\\[bB1-9]|\(\?[=!<]")
_QUOTED = re.compile(r'"(?:\\.|[^"\\])*"|\[(?:\\.|[^\]\\])*\]')


def parses(grammar: str) -> bool:
    """Say whether a GBNF grammar has a root and its brackets in order; one for llguidance is never refused."""
    if grammar.startswith("%llguidance"):
        return True
    plain = _QUOTED.sub("", grammar)
    return re.search(r"^\s*root\s*::=", plain, re.MULTILINE) is not None and plain.count("(") == plain.count(")")


def enforces(schema: Any) -> bool:
    """Say whether the server holds an answer to this schema."""
    if not isinstance(schema, Mapping):
        return schema is True
    return all(_enforced(part, schema) for part in _parts(schema))


def _enforced(part: Mapping[str, Any], root: Mapping[str, Any]) -> bool:
    kinds = part.get("type", [])
    return (
        not _DROPPED & part.keys()
        and part.get("format", "unknown") in _FORMATS
        and set(kinds if isinstance(kinds, list) else [kinds]) <= _TYPES
        and not _PATTERN_LIMITS.search(str(part.get("pattern", "")))
        and part.get("enum") != []
        and _leads_somewhere(part.get("$ref", "#"), root)
        and part.get("minimum", -1e308) <= part.get("maximum", 1e308)
    )


def _leads_somewhere(reference: str, root: Any) -> bool:
    for step in reference.removeprefix("#").strip("/").split("/") if reference != "#" else []:
        if not isinstance(root, Mapping) or step not in root:
            return False
        root = root[step]
    return True


def _parts(schema: Any) -> Iterator[Mapping[str, Any]]:
    """Return the schema and all schemas in it."""
    if isinstance(schema, list):
        for one in schema:
            yield from _parts(one)
    if not isinstance(schema, Mapping):
        return
    yield schema
    for keyword, part in schema.items():
        if keyword in _MAPS and isinstance(part, Mapping):
            yield from _parts(list(part.values()))
        elif keyword not in _NO_SCHEMAS:
            yield from _parts(part)
