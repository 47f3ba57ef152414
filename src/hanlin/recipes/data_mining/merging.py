"""Put what was extracted from parts together, in the documents' order. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from hanlin.recipes.data_mining.verifying import is_empty
from hanlin.recipes.texts import squeezed
from hanlin.types import Schema


def merged(values: Sequence[Any], schema: Schema, overlaps: Sequence[str]) -> Any:
    """Return one value of those of all parts: lists follow each other, of single values the first that says something.

    `overlaps` are the texts that a part shares with the one before it ("" where it shares none): a record that stands
    in such a text, and in both parts, is one.
    """
    kind = schema.get("type")
    if kind == "array":
        return _joined(values, overlaps)
    if kind == "object" and isinstance(properties := schema.get("properties"), Mapping):
        return {
            key: merged([value.get(key) if isinstance(value, Mapping) else None for value in values], part, overlaps)
            for key, part in properties.items()
        }
    return next((value for value in values if not is_empty(value)), None)


def _joined(lists: Sequence[Any], overlaps: Sequence[str]) -> list[Any]:
    joined: list[Any] = []
    began = 0  # where the records of the part before begin
    for items, overlap in zip(lists, overlaps, strict=True):
        shared = squeezed(overlap)
        twins = range(began, len(joined)) if shared else range(0)
        began = len(joined)
        for item in items or []:
            if is_empty(item):
                continue
            twin = next((place for place in twins if _same(joined[place], item, shared)), None)
            if twin is None:
                joined.append(item)
            elif _said(item) > _said(joined[twin]):
                joined[twin] = item
    return joined


def _same(one: Any, other: Any, shared: str) -> bool:
    """Whether two records are one that was cut: they contradict nowhere, and what both say is in the shared text."""
    if not isinstance(one, Mapping) or not isinstance(other, Mapping):
        return bool(one == other and squeezed(str(one)) in shared)
    both = [key for key in one if not is_empty(one[key]) and not is_empty(other.get(key))]
    said = [(squeezed(str(one[key])), squeezed(str(other[key]))) for key in both]
    return bool(both) and all(first == second and first in shared for first, second in said)


def _said(record: Any) -> int:
    return sum(not is_empty(value) for value in record.values()) if isinstance(record, Mapping) else 1


def completed(value: Any, schema: Schema) -> Any:
    """Return a value with what was not found as its plain schema has it: null, or empty text, or an empty list.

    A record without what it cannot be without, a number say, is left out of its list; None where that is the whole.
    """
    kind = schema.get("type")
    if value is None:
        if schema.get("nullable") or (not kind and "enum" not in schema):
            return None
        if kind == "array":
            return []
        return "" if kind == "string" and "enum" not in schema else _MISSING
    if isinstance(value, Mapping) and isinstance(properties := schema.get("properties"), Mapping):
        made: dict[str, Any] = {}
        for key, part in properties.items():
            held = completed(value.get(key), part)
            if held is not _MISSING:
                made[key] = held
            elif key in schema.get("required", ()):
                return _MISSING
        return made
    if isinstance(value, list) and isinstance(items := schema.get("items"), Mapping):
        return [held for part in value if (held := completed(part, items)) is not _MISSING]
    return value


class _Missing:
    """Stands for what a schema demands and no document held."""


_MISSING = _Missing()


def is_missing(value: Any) -> bool:
    return value is _MISSING


__all__ = ["completed", "is_missing", "merged"]
