"""Where in a schema there are schemas, and what its pointers and references lead to.

A place is written as a URI fragment: `#`, `#/properties/city`, `#/$defs/a~1b`.
"""

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, unquote

_ONE = frozenset(
    {"additionalItems", "additionalProperties", "contains", "contentSchema", "else", "if", "items", "not"}
    | {"propertyNames", "then", "unevaluatedItems", "unevaluatedProperties"}
)
_SEVERAL = frozenset({"allOf", "anyOf", "items", "oneOf", "prefixItems"})
_NAMED = frozenset({"$defs", "definitions", "dependencies", "dependentSchemas", "patternProperties", "properties"})


def is_schema(part: Any) -> bool:
    """Say whether it could be a schema; whether it is a sound one is another question."""
    return isinstance(part, bool | Mapping)


def step(name: str | int) -> str:
    """Write one step of a pointer."""
    return "/" + str(name).replace("~", "~0").replace("/", "~1")


def children(schema: Any) -> Iterator[tuple[str, Any]]:
    """Yield the schemas directly inside one, each with its pointer from there."""
    if not isinstance(schema, dict):
        return
    for keyword, value in schema.items():
        if isinstance(value, list) and keyword in _SEVERAL:
            yield from ((step(keyword) + step(nth), part) for nth, part in enumerate(value) if is_schema(part))
        elif isinstance(value, dict) and keyword in _NAMED:
            yield from ((step(keyword) + step(name), part) for name, part in value.items() if is_schema(part))
        elif keyword in _ONE and is_schema(value):
            yield step(keyword), value


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


def moved(schema: Mapping[str, Any], place: str) -> dict[str, Any]:
    """Return the schema as it must be written to stand at a place of another one (`#/anyOf/0/properties/arguments`).

    Its references count from the top, so they take the way to their new home along; its own address is left behind.
    """
    return _moved({word: part for word, part in schema.items() if word not in ("$id", "$schema")}, place)


def _moved(part: Mapping[str, Any], place: str) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for keyword, value in part.items():
        if keyword == "$ref":
            made[keyword] = quote(place + target(value)[1:], safe="#/~$")
        elif isinstance(value, list) and keyword in _SEVERAL:
            made[keyword] = [_moved(one, place) if isinstance(one, Mapping) else one for one in value]
        elif isinstance(value, Mapping) and keyword in _NAMED:
            made[keyword] = {
                name: _moved(one, place) if isinstance(one, Mapping) else one for name, one in value.items()
            }
        elif isinstance(value, Mapping) and keyword in _ONE:
            made[keyword] = _moved(value, place)
        else:
            made[keyword] = value
    return made
