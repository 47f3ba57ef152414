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
    before: list[tuple[int, dict[str, str]]] = []  # what the records of the part before say, and where they are
    for items, overlap in zip(lists, overlaps, strict=True):
        shared = squeezed(overlap)
        twins = [(place, said) for place, said in before if _stands(said, shared)] if shared else []
        before = []
        for item in items or []:
            said = _spoken(item)
            if not said:
                continue
            twin = next((place for place, other in twins if _same(other, said, shared)), len(joined))
            if twin == len(joined):
                joined.append(item)
            elif len(said) > len(_spoken(joined[twin])):
                joined[twin] = item
            before.append((twin, said))
    return joined


def _spoken(record: Any) -> dict[str, str]:
    """Return what a record says, by key, without signs and blanks."""
    values = record.items() if isinstance(record, Mapping) else [("", record)]
    return {key: squeezed(str(value)) or str(value) for key, value in values if not is_empty(value)}


def _stands(said: Mapping[str, str], shared: str) -> bool:
    return any(value in shared for value in said.values())


def _same(one: Mapping[str, str], other: Mapping[str, str], shared: str) -> bool:
    """Whether two records are one that was cut: they contradict nowhere, and what both say is in the shared text."""
    both = one.keys() & other.keys()
    return bool(both) and all(one[key] == other[key] and one[key] in shared for key in both)


def completed(value: Any, schema: Schema, *, strict: bool) -> Any:
    """Return a value with what was not found as its plain schema has it: null, or empty text, or an empty list.

    With `strict` a record without what it cannot be without, a number say, is left out of its list; a whole that lacks
    such a thing is missing (`is_missing`). Otherwise that is null.
    """
    if value is None:
        return _nothing(schema, strict=strict)
    if isinstance(value, Mapping) and isinstance(properties := schema.get("properties"), Mapping):
        made = {key: completed(value.get(key), part, strict=strict) for key, part in properties.items()}
        if any(made[key] is _MISSING for key in schema.get("required", ()) if key in made):
            return _MISSING
        return {key: held for key, held in made.items() if held is not _MISSING}
    if isinstance(value, list) and isinstance(items := schema.get("items"), Mapping):
        return [held for part in value if (held := completed(part, items, strict=strict)) is not _MISSING]
    return value


def _nothing(schema: Schema, *, strict: bool) -> Any:
    kind = schema.get("type")
    if schema.get("nullable") or (not kind and "enum" not in schema):
        return None
    if kind == "array":
        return []
    if kind == "string" and "enum" not in schema:
        return ""
    return _MISSING if strict else None


class _Missing:
    """Stands for what a schema demands and no document held."""


_MISSING = _Missing()


def is_missing(value: Any) -> bool:
    return value is _MISSING


__all__ = ["completed", "is_missing", "merged"]
