"""Schemas compiled once: is a value what a schema, or a part of it, accepts?

The library is jsonschema-rs. Only its yes or no is asked for: that is quick whatever the schema, while its reports of
errors double with every level at which alternatives refer back to the schema (6 s for an expression 14 levels deep).
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import quote

import jsonschema_rs
import msgspec

from hanlin.schemas import parts
from hanlin.types import Schema

_BASE = "urn:hanlin:schema"
_DECLARED: dict[str, tuple[type[jsonschema_rs.Validator], int]] = {
    "https://json-schema.org/draft/2020-12/schema": (jsonschema_rs.Draft202012Validator, jsonschema_rs.Draft202012),
    "https://json-schema.org/draft/2019-09/schema": (jsonschema_rs.Draft201909Validator, jsonschema_rs.Draft201909),
    "http://json-schema.org/draft-07/schema": (jsonschema_rs.Draft7Validator, jsonschema_rs.Draft7),
    "http://json-schema.org/draft-06/schema": (jsonschema_rs.Draft6Validator, jsonschema_rs.Draft6),
    "http://json-schema.org/draft-04/schema": (jsonschema_rs.Draft4Validator, jsonschema_rs.Draft4),
}
# Clients leave `$schema` out and still write lists of `items` (draft 7) or `exclusiveMinimum: true` (draft 4).
_TRIED = (
    _DECLARED["https://json-schema.org/draft/2020-12/schema"],
    _DECLARED["http://json-schema.org/draft-07/schema"],
    _DECLARED["http://json-schema.org/draft-04/schema"],
)
_REGEX = jsonschema_rs.FancyRegexOptions(backtrack_limit=100_000)  # 10 ms; a text that needs more does not match

# A compiled schema takes some 25 times its text: 256 small ones and 16 of 64 KiB are 25 MB each.
_SMALL_CHARACTERS, _SMALL, _LARGE = 4096, 256, 16


class Judge:
    """One schema, compiled. Raises jsonschema_rs.ValidationError when it is none, ValueError when it is too deep."""

    def __init__(self, text: str) -> None:
        schema = msgspec.json.decode(text)
        declared = str(schema.pop("$schema", "")).rstrip("#")
        schema.pop("$id", None)  # places are counted from the schema's top, whatever address it has elsewhere
        self.schema: Schema = schema
        first = _DECLARED.get(declared)
        self._draft, self._number = _fitting_draft(schema, (first, *_TRIED) if first else _TRIED)
        self._registry = jsonschema_rs.Registry([(_BASE, schema)], draft=self._number)
        self._validators: dict[str, jsonschema_rs.Validator] = {"#": self._compiled(schema)}

    def at(self, place: str) -> Any:
        return parts.at(self.schema, place)

    def fits(self, value: Any, place: str = "#") -> bool:
        """Say whether the schema at a place accepts the value. Raises UnicodeEncodeError for half a surrogate pair."""
        validator = self._validators.get(place)
        if validator is None:
            # Places are parts of the schema, so that there is an end to them.
            reference = _BASE + quote(place, safe="#/~$")
            validator = self._validators[place] = self._compiled({"$ref": reference})
        return validator.is_valid(value)

    def complaint(self, value: Any, schema: dict[str, Any], mask: str) -> str | None:
        """Return what the library says about a value and a schema without schemas in it, `mask` where the value is."""
        try:
            self._draft(schema, mask=mask, pattern_options=_REGEX, offline=True).validate(value)
        except jsonschema_rs.ValidationError as error:
            return error.message
        return None

    def _compiled(self, schema: Any) -> jsonschema_rs.Validator:
        return self._draft(schema, registry=self._registry, pattern_options=_REGEX, offline=True)


def judge(schema: Schema) -> Judge:
    """Return the compiled schema, from memory when it was seen before."""
    return judge_of(msgspec.json.encode(schema).decode())


def judge_of(text: str) -> Judge:
    """Return the compiled form of a schema's JSON text, which must be an object."""
    return _small(text) if len(text) <= _SMALL_CHARACTERS else _large(text)


def is_pattern(pattern: str) -> bool:
    """Say whether a regular expression can be compiled, within the limits that keep it quick."""
    try:
        jsonschema_rs.Draft202012Validator({"pattern": pattern}, pattern_options=_REGEX, offline=True)
    except jsonschema_rs.ValidationError:
        return False
    return True


_small = lru_cache(_SMALL)(Judge)
_large = lru_cache(_LARGE)(Judge)


def _fitting_draft(
    schema: Mapping[str, Any], drafts: tuple[tuple[type[jsonschema_rs.Validator], int], ...]
) -> tuple[type[jsonschema_rs.Validator], int]:
    """Return the first draft whose rules the schema keeps; the first one's complaint is raised when it keeps none."""
    complaint: jsonschema_rs.ValidationError | None = None
    for draft, number in drafts:
        try:
            draft(schema, pattern_options=_REGEX, offline=True)  # type: ignore[arg-type]  # a dict, see Judge
        except jsonschema_rs.ValidationError as error:
            complaint = complaint or error
        else:
            return draft, number
    assert complaint is not None
    raise complaint
