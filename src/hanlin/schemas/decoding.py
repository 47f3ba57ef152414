"""Write a schema for constrained decoding: what every engine takes, and what a small model comes to an end with.

Two converters set the limits. llguidance (in the engine that we ship) knows most of JSON Schema, but where it refuses a
schema, llama.cpp generates *without any constraint*. llama.cpp's own converter ignores much of what it does not know,
and answers 400 to the rest. So the schema is written anew from the words that both understand; `problem` checks the
remainder.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from hanlin.schemas import parts
from hanlin.schemas.patterns import plain
from hanlin.types import Schema

MOST_COUNTED = 2000
"""llama.cpp's grammars count to 2000: more is refused, or taken for "no end", depending on its age."""

MOST_NESTED = 8
"""How often a schema that refers to itself is entered: deeper than people's data, short enough to come to an end."""

MOST_PARTS = 2500
"""Parts written for one schema; what comes after them may be anything."""

_MOST_FORMS = 8  # of an anyOf whose neighbours are written into every one of its forms
_DEEPEST = 40  # parts within parts; below them anything may stand
_MOST_ADDED = 64  # parts of an allOf, once references in it are followed
_MOST_NUMBER = 9 * 10**18  # within 64 bits, and above every id in use; without it llguidance lets digits go on for ever
_FORMATS = frozenset({"date", "date-time", "time", "uuid", "ipv4", "ipv6"})  # of a length of their own
_LONG_FORMATS = frozenset({"email", "hostname", "duration"})

# What models of all sizes write by themselves. Free white space is where small ones stay for ever.
_GUIDANCE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": ", "lenient": True}

_SILENT = frozenset(
    {"$anchor", "$comment", "$defs", "$id", "$schema", "default", "definitions", "deprecated", "description"}
    | {"discriminator", "else", "examples", "if", "not", "nullable", "readOnly", "strict", "then", "title", "writeOnly"}
)
"""What says nothing about a value, or nothing that a decode could be held to."""

_KINDS = {
    "object": ("properties", "required", "additionalProperties", "patternProperties", "minProperties", "maxProperties"),
    "array": ("items", "prefixItems", "minItems", "maxItems", "uniqueItems", "contains"),
    "string": ("pattern", "format", "minLength", "maxLength"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}
"""The words by which a schema without a type shows what it is about."""


def for_decoding(schema: Schema, *, max_string: int | None = MOST_COUNTED, max_items: int = 64) -> Schema:
    """Return the schema that an engine is to be held to: what fits it fits `schema`, save for what engines cannot do.

    Strings without a bound get `max_string` characters (None: no bound), arrays and maps `max_items` items; a bound of
    the schema's own stays, unless it is beyond what can be counted. Objects take the properties that they name.
    """
    writer = _Writer(schema, max_string, max_items)
    written = writer.written(schema, 0)
    return {
        **(writer.anything(0) if written is None else written),
        **({"$defs": writer.defs} if writer.defs else {}),
        "x-guidance": _GUIDANCE,
    }


class _Writer:
    """Writes parts of one schema anew. None stands for a part that no value fits.

    `level` counts how often the way to a part has come by a reference that leads back: a definition is written once a
    level, and the last level is without it, so that the definitions have no circle.
    """

    def __init__(self, root: Schema, max_string: int | None, max_items: int) -> None:
        self._root = root
        self._max_string = max_string
        self._max_items = max_items
        self._entered = ["#"]
        self._count = 0
        self._depth = 0
        self._names: dict[tuple[str, int], str | None] = {}
        self.defs: dict[str, Any] = {}

    def written(self, schema: Any, level: int) -> dict[str, Any] | None:
        if not isinstance(schema, Mapping):
            return self.anything(level) if schema is True else None
        self._count += 1
        self._depth += 1
        try:
            if self._count > MOST_PARTS or self._depth > _DEEPEST:
                return self.anything(level)
            if "$ref" in schema and not _speaks(_without(schema, "$ref")):
                return self._referred(parts.target(schema["$ref"]), level)
            joined, places = self._joined(schema)
            return self._entering(places, joined, level)
        finally:
            self._depth -= 1

    def _entering(self, places: list[str], joined: Mapping[str, Any], level: int) -> dict[str, Any] | None:
        """Write a schema into which what stands at other places was written: one level deeper if it is within them."""
        level += any(place in self._entered for place in places)
        if level > MOST_NESTED:
            return None
        before = len(self._entered)
        self._entered += places
        written = self._plainly(joined, level)
        del self._entered[before:]
        return written

    def _plainly(self, joined: Mapping[str, Any], level: int) -> dict[str, Any] | None:
        for keyword in ("anyOf", "oneOf"):
            if keyword in joined:
                return self._union(joined, keyword, level)
        options = [joined["const"]] if "const" in joined else joined.get("enum")
        if options is not None:
            return _constants(options, joined)
        return self._typed(joined, level)

    def anything(self, level: int) -> dict[str, Any]:
        """Return the schema of any value that comes to an end."""
        name = f"any-{level}"
        if name not in self.defs:
            scalars = [{"type": kind} for kind in ("string", "number", "boolean", "null")]
            forms = [self._typed(scalar, level) for scalar in scalars]
            if level < MOST_NESTED:
                deeper = self.anything(level + 1)
                forms += [{"type": "array", "items": deeper, "maxItems": self._max_items}, self._map(deeper)]
            self.defs[name] = {"anyOf": forms}
        return {"$ref": f"#/$defs/{name}"}

    def _referred(self, place: str, level: int) -> dict[str, Any] | None:
        level += place in self._entered
        if level > MOST_NESTED:
            return None
        key = (place, level)
        if key not in self._names:
            # Names of our own: converters make rule names of them, in which `a_b` and `a-b` would be the same.
            name = self._names[key] = f"part-{len(self._names)}"
            before = len(self._entered)
            self._entered.append(place)
            written = self.written(parts.at(self._root, place), level)
            del self._entered[before:]
            if written is None:
                self._names[key] = None
            else:
                self.defs[name] = written
        known = self._names[key]
        return None if known is None else {"$ref": f"#/$defs/{known}"}

    def _joined(self, schema: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """Write what `$ref` and `allOf` add into the schema beside them; return it and the places that it came from.

        What contradicts is left out, to be found afterwards.
        """
        joined: dict[str, Any] = {}
        places: list[str] = []
        waiting: list[Any] = [schema]
        for part in waiting:  # which grows while it is read
            if not isinstance(part, Mapping):
                continue
            if "$ref" in part and (place := parts.target(part["$ref"])) not in places:
                places.append(place)
                waiting.append(parts.at(self._root, place))
            waiting += part.get("allOf", ())[: _MOST_ADDED - len(waiting)] if len(waiting) < _MOST_ADDED else ()
            joined = _merged(joined, _without(part, "$ref", "allOf")) or joined
        return joined, places

    def _union(self, schema: Mapping[str, Any], keyword: str, level: int) -> dict[str, Any] | None:
        branches, rest = schema[keyword], _without(schema, keyword)
        if _speaks(rest):
            merged = self._spread(rest, branches)
            if merged is None:
                return self.written(rest, level)
            branches = merged
        forms: list[Any] = []
        for branch in branches:
            form = self.written(branch, level)
            if form is not None and form not in forms:
                forms.append(form)
        if len(forms) < 2:
            return forms[0] if forms else None
        return {"anyOf": forms}

    def _spread(self, rest: Mapping[str, Any], branches: list[Any]) -> list[dict[str, Any]] | None:
        """Write the words beside an anyOf into each of its branches, as engines look at one or the other."""
        text = msgspec.json.encode(rest)
        if len(branches) > _MOST_FORMS or b'"anyOf"' in text or b'"oneOf"' in text:
            return None  # copies of copies would have no end
        merged = [_merged(rest, branch) for branch in branches if isinstance(branch, Mapping)]
        spread = [one for one in merged if one is not None]
        return spread if len(spread) == len(branches) else None

    def _typed(self, schema: Mapping[str, Any], level: int) -> dict[str, Any] | None:
        kinds = schema.get("type")
        if kinds is None:
            kinds = next((kind for kind, words in _KINDS.items() if any(word in schema for word in words)), None)
        if kinds is None:
            return self.anything(level)
        writers = {"object": self._object, "array": self._array, "string": self._string}
        forms = []
        for kind in [kinds] if isinstance(kinds, str) else kinds:
            if kind in writers:
                form = writers[kind](schema, level)
            elif kind in ("integer", "number"):
                form = _number(kind, schema)
            else:
                form = {"type": kind}
            if form is not None:
                forms.append(form)
        if len(forms) < 2:
            return forms[0] if forms else None
        return {"anyOf": forms}

    def _object(self, schema: Mapping[str, Any], level: int) -> dict[str, Any] | None:
        named = {"properties", "patternProperties"} & schema.keys()
        additional = schema.get("additionalProperties", not named)
        if patterned := list(schema.get("patternProperties", {}).values()):
            # Which name belongs to which pattern is checked afterwards.
            additional = True if additional is True else {"anyOf": [*patterned, additional]}
        properties = dict(schema.get("properties", {}))
        required = schema.get("required", ())
        unnamed = schema.get("additionalProperties", True)
        if unnamed is not False:
            properties |= {name: unnamed for name in required if name not in properties}
        made: dict[str, Any] = {}
        for name, part in properties.items():
            form = self.written(part, level)
            if form is not None:
                made[name] = form
            elif name in required:
                return None
        more = None if additional is False else self.written(additional, level + (additional is True))
        if not made and more is not None:
            return self._map(more, schema)
        wanted = [name for name in made if name in required]
        return {
            "type": "object",
            "properties": made,
            **({"required": wanted} if wanted else {}),
            "additionalProperties": False if more is None else more,
        }

    def _map(self, values: Any, schema: Mapping[str, Any] = {}) -> dict[str, Any]:
        fewest = min(int(schema.get("minProperties", 0)), MOST_COUNTED)
        most = max(min(int(schema.get("maxProperties", self._max_items)), MOST_COUNTED), fewest)
        return {
            "type": "object",
            "additionalProperties": values,
            **({"minProperties": fewest} if fewest else {}),
            "maxProperties": most,
        }

    def _array(self, schema: Mapping[str, Any], level: int) -> dict[str, Any] | None:
        fewest, most = self._bounds(schema, "Items", self._max_items)
        items = schema.get("items", True)
        first = items if isinstance(items, list) else schema.get("prefixItems", [])
        rest = schema.get("additionalItems", True) if isinstance(items, list) else items
        if first and (fewest or 0) <= len(first):
            return self._tuple(first[:most], fewest or 0, level)
        form = self.written({"anyOf": [*first, rest]} if first else rest, level)
        if form is None:
            return None if fewest else {"type": "array", "items": {"type": "null"}, "maxItems": 0}
        if schema.get("uniqueItems") and "enum" in form and most is not None:
            most = max(min(most, len(form["enum"])), fewest or 0)
        return {
            "type": "array",
            "items": form,
            **({"minItems": fewest} if fewest else {}),
            **({"maxItems": most} if most is not None else {}),
        }

    def _tuple(self, first: list[Any], fewest: int, level: int) -> dict[str, Any] | None:
        forms = []
        for part in first:
            form = self.written(part, level)
            if form is None:
                break
            forms.append(form)
        if len(forms) < fewest:
            return None
        # llama.cpp takes a list for exactly so many items, and refuses `items: false` beside it.
        return {"type": "array", "prefixItems": forms, "minItems": len(forms), "maxItems": len(forms)}

    def _string(self, schema: Mapping[str, Any], _level: int) -> dict[str, Any]:
        fewest, most = self._bounds(schema, "Length", self._max_string)
        bounds = {
            **({"minLength": fewest} if fewest else {}),
            **({"maxLength": most} if most is not None else {}),
        }
        if "pattern" in schema:
            pattern = plain(schema["pattern"], self._max_string)
            return {"type": "string", **({"pattern": pattern} if pattern else {}), **bounds}
        kind = schema.get("format")
        if kind in _FORMATS:
            return {"type": "string", "format": kind}
        return {"type": "string", **({"format": kind} if kind in _LONG_FORMATS else {}), **bounds}

    def _bounds(self, schema: Mapping[str, Any], what: str, usual: int | None) -> tuple[int | None, int | None]:
        """Return the fewest and the most of what is counted; None for a bound that is not, or beyond counting.

        Of two that contradict the upper one goes: an engine would refuse them, and hold the answer to nothing at all.
        """
        fewest, most = schema.get("min" + what), schema.get("max" + what)
        counted = max(MOST_COUNTED, usual or 0)
        if most is not None and most < (fewest or 0):
            most = math.inf
        if most is None:
            most = usual if usual is None else max(usual, fewest or 0)
        return (
            int(fewest) if fewest is not None and fewest <= MOST_COUNTED else None,
            int(most) if most is not None and most <= counted else None,
        )


def _number(kind: str, schema: Mapping[str, Any]) -> dict[str, Any] | None:
    low, high = schema.get("minimum", -math.inf), schema.get("maximum", math.inf)
    above, below = schema.get("exclusiveMinimum", -math.inf), schema.get("exclusiveMaximum", math.inf)
    if isinstance(above, bool):  # draft 4: whether `minimum` itself is left out
        above = low if above else -math.inf
    if isinstance(below, bool):
        below = high if below else math.inf
    low, high = max(low, -_MOST_NUMBER), min(high, _MOST_NUMBER)
    made: dict[str, Any] = {"type": kind}
    if kind == "integer":
        least = math.ceil(low) if above < low else math.floor(above) + 1
        most = math.floor(high) if below > high else math.ceil(below) - 1
        made |= {"minimum": least, "maximum": most}
    else:
        least, most = max(low, above), min(high, below)
        made |= {"exclusiveMinimum" if above >= low else "minimum": least}
        made |= {"exclusiveMaximum" if below <= high else "maximum": most}
    if "multipleOf" in schema:
        made["multipleOf"] = schema["multipleOf"]
    return made if least <= most else None


def _constants(options: Iterable[Any], schema: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the constants of the types that a schema names: llguidance takes an enum without one for impossible."""
    kinds = schema.get("type")
    kinds = [kinds] if isinstance(kinds, str) else kinds
    taken = [option for option in options if kinds is None or _kind(option) & set(kinds)]
    return {"enum": taken} if taken else None


def _kind(value: Any) -> set[str]:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return {"number", "integer"} if float(value).is_integer() else {"number"}
    names = {bool: "boolean", str: "string", list: "array", dict: "object", type(None): "null"}
    return {names.get(type(value), "")}


def _speaks(schema: Mapping[str, Any]) -> bool:
    return not schema.keys() <= _SILENT


def _without(schema: Mapping[str, Any], *keywords: str) -> dict[str, Any]:
    return {keyword: value for keyword, value in schema.items() if keyword not in keywords}


_GREATER = frozenset({"minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"})
_LESS = frozenset({"maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"})


def _merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the schema of what fits both, or None where that takes more than putting their words together."""
    if _closed_against(one, other) or _closed_against(other, one):
        return None
    merged = dict(one)
    for keyword, value in other.items():
        if keyword not in merged or keyword in _SILENT:
            merged[keyword] = merged.get(keyword, value)
        elif merged[keyword] != value:
            both = _both(keyword, merged[keyword], value)
            if both is None:
                return None
            merged[keyword] = both
    return merged


def _both(keyword: str, one: Any, other: Any) -> Any:
    """Return what a keyword must say for two schemas at once; None when one word cannot say it."""
    if keyword in _GREATER or keyword in _LESS:
        return max(one, other) if keyword in _GREATER else min(one, other)
    if keyword == "required":
        return list(dict.fromkeys([*one, *other]))
    if keyword == "allOf":
        return [*one, *other]
    if keyword == "enum":
        return [option for option in one if option in other] or None
    if keyword == "type":
        kinds, others = ([kind] if isinstance(kind, str) else kind for kind in (one, other))
        common = [kind for kind in kinds if kind in others or (kind == "integer" and "number" in others)]
        return common or (["integer"] if "integer" in others and "number" in kinds else None)
    if keyword == "additionalProperties":
        return False if False in (one, other) else one if other is True else other if one is True else None
    if keyword == "properties":
        return _properties(one, other)
    return None


def _properties(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any] | None:
    made = dict(one)
    for name, part in other.items():
        if name not in made or made[name] == part or made[name] is True:
            made[name] = part
        elif part is not True:
            both = _merged(made[name], part) if isinstance(made[name], Mapping) and isinstance(part, Mapping) else None
            if both is None:
                return None
            made[name] = both
    return made


def _closed_against(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Say whether `one` takes only the properties that it names while `other` names more."""
    return one.get("additionalProperties") is False and not (
        other.get("properties", {}).keys() <= one.get("properties", {}).keys()
    )
