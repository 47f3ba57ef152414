"""Where in a schema there are schemas, and what its pointers and references lead to.

A place is written as a URI fragment: `#`, `#/properties/city`, `#/$defs/a~1b`.
"""

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

_ONE = (
    "additionalItems",
    "additionalProperties",
    "contains",
    "contentSchema",
    "else",
    "if",
    "items",
    "not",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
)
_SEVERAL = ("allOf", "anyOf", "items", "oneOf", "prefixItems")
_NAMED = ("$defs", "definitions", "dependencies", "dependentSchemas", "patternProperties", "properties")


def is_schema(part: Any) -> bool:
    return isinstance(part, bool | Mapping)


def step(name: str | int) -> str:
    """Write one step of a pointer."""
    return "/" + str(name).replace("~", "~0").replace("/", "~1")


def children(schema: Any) -> Iterator[tuple[str, Any]]:
    """Yield the schemas directly inside one, each with its pointer from there."""
    if not isinstance(schema, Mapping):
        return
    for keyword in _ONE:
        if is_schema(part := schema.get(keyword)):
            yield step(keyword), part
    for keyword in _SEVERAL:
        if isinstance(parts := schema.get(keyword), list):
            yield from ((step(keyword) + step(nth), part) for nth, part in enumerate(parts) if is_schema(part))
    for keyword in _NAMED:
        if isinstance(parts := schema.get(keyword), Mapping):
            yield from ((step(keyword) + step(name), part) for name, part in parts.items() if is_schema(part))


def target(reference: str) -> str:
    """Return the place that a `$ref` names, in our spelling. Raises ValueError when it is outside the schema."""
    if reference != "#" and not reference.startswith("#/"):
        raise ValueError(f"$ref {reference!r} is not followed: only references within the schema are, like '#/$defs/x'")
    steps = unquote(reference).split("/")[1:]
    return "#" + "".join(step(one.replace("~1", "/").replace("~0", "~")) for one in steps)


def at(root: Any, place: str) -> Any:
    """Return what stands at a place. Raises LookupError when there is nothing."""
    found = root
    for one in place.split("/")[1:]:
        name = one.replace("~1", "/").replace("~0", "~")
        found = found[int(name)] if isinstance(found, list) and name.isdigit() else found[name]
    return found
