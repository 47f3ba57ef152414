"""Hold extracted values against their source: what does not stand there, nor follows from it, is no data. Pure."""

import math
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from hanlin.recipes.long_documents.claims import Supplied, numeral
from hanlin.recipes.texts import amount, folded, number, numbers, shared, squeezed, terms
from hanlin.types import Schema

_LONG_CHARS = 60
_LARGEST = 1e15  # what a float holds to the last digit
_LEAST_SHARED = 0.7
_WORDED = re.compile(
    r"摘要|总结|概述|概括|描述|说明|原因|理由|评价|分析|建议|要点|summar|descri|reason|comment|analys|explanation|overview",
    re.IGNORECASE,
)
"""Fields that are told in other words than the document's: only their numbers can be looked for."""

_TRUTHS = dict.fromkeys(("是", "有", "true", "yes", "y", "1", "√"), True) | dict.fromkeys(
    ("否", "无", "false", "no", "n", "0", "×"), False
)

_SCALES = {"万亿": 1e12, "亿": 1e8, "万": 1e4}
_NUMERALS = "零一二三四五六七八九"
_RUN = re.compile(r"[^\W_]+")
_WITHIN_NUMBER = re.compile(r"\d(?:\.\d|,\d{3}(?!\d))")
_FIGURE = re.compile(r"\d+(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|[〇零一二两三四五六七八九十百千万亿]{1,20}")
_ONLY_DIGITS = re.compile(r"[\d\W_]+")

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Source:
    """The text that values must come from."""

    text: str

    @cached_property
    def squeezed(self) -> str:
        return squeezed(self.text)

    @cached_property
    def joints(self) -> frozenset[int]:
        """Where in the squeezed text something was left out that numbers do not go over."""
        places, length, end = set[int](), 0, 0
        plain = folded(self.text)
        for word in _RUN.finditer(plain):
            if not _WITHIN_NUMBER.match(plain, max(end - 1, 0)):
                places.add(length)
            length, end = length + len(word[0]), word.end()
        return frozenset({*places, length})

    @cached_property
    def terms(self) -> frozenset[str]:
        return terms(self.text)

    @cached_property
    def numbers(self) -> frozenset[str]:
        return Supplied(self.text).numbers

    def holds(self, value: Any, name: str = "") -> bool:
        """Whether a value stands in the text: as it is, or without its signs, separators and unit, or reordered.

        Dates may be written otherwise, so that only their numbers count; a number may be in ten thousands or a
        percentage. Truth values are judgements and are not looked for.
        """
        if value is None or value == "" or isinstance(value, bool):
            return True
        if isinstance(value, int | float):
            return abs(value) < _LARGEST and number(f"{abs(value):.6f}") in self.numbers
        text = str(value)
        if self._says(squeezed(text)):
            return True
        if not self._has_numbers(text):
            return False
        words = {word for word in terms(text) if not _ONLY_DIGITS.fullmatch(word)}
        if _WORDED.search(name):
            return True
        if not words:
            return bool(numbers(text))
        return (len(text) > _LONG_CHARS or len(words) > 2) and shared(frozenset(words), self.terms) >= _LEAST_SHARED

    def _says(self, plain: str) -> bool:
        """Whether a squeezed value stands in the text, and is no piece of a longer number: 35元 is not in 135元."""
        at = self.squeezed.find(plain)
        while at >= 0:
            if not plain or not (self._cuts_number(at) or self._cuts_number(at + len(plain))):
                return True
            at = self.squeezed.find(plain, at + 1)
        return False

    def _cuts_number(self, at: int) -> bool:
        """Whether the digits on both sides of a place in the squeezed text are those of one number."""
        around = self.squeezed[max(at - 1, 0) : at + 1]
        return len(around) > 1 and around.isdigit() and at not in self.joints

    @cached_property
    def figures(self) -> list[str]:
        return _figures(self.text)

    def _has_numbers(self, text: str) -> bool:
        """Whether the numbers of a value are those of the text, and of one place in it where they are several.

        The parts of a date stand all over a document; only together they are one of its dates.
        """
        own = numbers(text)
        if len(own) > 1 and len(text) <= _LONG_CHARS:
            figures = sorted(_figures(text))
            return any(
                sorted(self.figures[at : at + len(figures)]) == figures
                for at in range(len(self.figures) - len(figures) + 1)
            )
        return all(found in self.numbers or (len(found) == 1 and _NUMERALS[int(found)] in self.text) for found in own)


def _figures(text: str) -> list[str]:
    """Return the numbers of a text in their order, those in words as digits."""
    return [
        number(run) if run[0].isdigit() else str(_NUMERALS.find(run) if len(run) == 1 else numeral(run))
        for run in _FIGURE.findall(unicodedata.normalize("NFKC", text))
    ]


def unbacked(value: Any, schema: Schema, source: Source) -> Iterator[tuple[Path, Any]]:
    """Yield the values that a source does not hold, with their places. Those of a closed list are judgements."""
    yield from _walk(value, schema, source, (), "")


def _walk(value: Any, schema: Schema, source: Source, path: Path, name: str) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, Mapping):
        properties = schema.get("properties", {})
        for key, part in value.items():
            yield from _walk(part, properties.get(key, {}), source, (*path, key), key)
    elif isinstance(value, list):
        for at, part in enumerate(value):
            yield from _walk(part, schema.get("items", {}), source, (*path, at), name)
    elif "enum" not in schema and "const" not in schema and not source.holds(value, name):
        yield path, value


def without(value: Any, paths: set[Path], path: Path = ()) -> Any:
    """Return a value in which what stands at these places is null; a list has such items no more."""
    if path in paths:
        return None
    if isinstance(value, Mapping):
        return {key: without(part, paths, (*path, key)) for key, part in value.items()}
    if isinstance(value, list):
        kept = [without(part, paths, (*path, at)) for at, part in enumerate(value)]
        return [part for part, before in zip(kept, value, strict=True) if part is not None or before is None]
    return value


def is_empty(value: Any) -> bool:
    """Whether nothing is said: null, empty text, or a list or object of nothing but that."""
    if isinstance(value, Mapping):
        return all(map(is_empty, value.values()))
    if isinstance(value, list):
        return all(map(is_empty, value))
    return value is None or value == ""


def typed(text: str, schema: Schema) -> Any:
    """Return a cell's text as its schema has it; None where it cannot be that."""
    kind = schema.get("type")
    if kind in ("number", "integer"):
        worth = amount(text)
        if worth is None or not math.isfinite(worth):
            return None
        worth = round(worth * next((factor for sign, factor in _SCALES.items() if sign in text), 1), 6)
        if kind == "integer":
            return int(worth) if worth.is_integer() else None
        return int(worth) if worth.is_integer() and "." not in text else worth
    if kind == "boolean":
        return _TRUTHS.get(text.strip().casefold())
    return text


def says_no_number(text: str, schema: Schema) -> bool:
    """Whether a cell leaves the number out that its field is: `-`, `N/A`, `暂无`."""
    return schema.get("type") in ("number", "integer") and not any(map(str.isnumeric, text))


__all__ = ["Path", "Source", "is_empty", "says_no_number", "typed", "unbacked", "without"]
