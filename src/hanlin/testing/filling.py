"""Fill a JSON Schema with what a sentence says: numbers in their order, quoted words, names, members by mention.

What the sentence has nothing for is an example value where the schema demands it, and left out where not.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from hanlin.testing import schema as schemas

_NUMBER = re.compile(r"(?<![A-Za-z0-9_.])-?\d+(?:\.\d+)?(?![A-Za-z0-9_])")  # Chinese stands right beside it
_QUOTED = re.compile(r"[\"“「『]([^\"”」』]+)[\"”」』]|(?<!\w)['‘]([^'’]+)['’](?!\w)")
_START = r"(?:^|(?<=[.!?\n] ))"  # where any word has a capital: there, a name is several words, or does something
_NAMES = re.compile(
    rf"(?<![.!?\n] )(?<!^)\b[A-Z][\w'-]*(?:,? [A-Z][\w'-]*)*"
    rf"|{_START}[A-Z][\w'-]+(?: [A-Z][\w'-]+)+"
    rf"|{_START}(?!(?:Wh|It|Th|He|She|How)\w*\b)[A-Z][\w'-]+(?= (?:is|was|has|likes|lives|works)\b)"
)
_BEHIND_A_WORD = re.compile(r"\b(?:in|for|at|of|about|to|called|named)\s+((?:the\s+)?[\w'-]+)", re.IGNORECASE)
_CHINESE = re.compile(r"[\u4e00-\u9fff]+")
_CHINESE_FILLER = re.compile(
    r"请问|请|帮我|查一下|查询|查|一下|告诉我|今天|明天|现在|怎么样|怎样|如何|是什么|什么|多少|吗|呢|的|了|在|是"
)
_DATE = re.compile(r"\d{4}-\d\d-\d\d")


class Sentence:
    """What a sentence has to give. Every number and every word is given once, the last word as often as it is wanted.

    `known` are words that mean the tool or the schema itself, so that they are no values.
    """

    def __init__(self, text: str, known: str = "") -> None:
        self.text = text
        quoted = [one or other for one, other in _QUOTED.findall(text)]
        plain = _QUOTED.sub(" ", text)
        numbers = _NUMBER.findall(_DATE.sub(" ", plain))
        self._numbers = [float(number) if "." in number else int(number) for number in numbers]
        self._words: list[str] = [*quoted, *_names(plain, known)]
        self._last: list[str] = [word for word in re.findall(r"[\w'-]+", plain) if word.lower() not in known.lower()][
            -1:
        ]

    @property
    def has_values(self) -> bool:
        return bool(self._numbers or self._words)

    def number(self, *, whole: bool) -> float | int | None:
        """Return the next number; only one without a fraction where it has to be `whole`."""
        for nth, number in enumerate(self._numbers):
            if not whole or isinstance(number, int):
                return self._numbers.pop(nth)
        return None

    def word(self, *, needed: bool) -> str | None:
        """Return the next quoted text, name or object; the last word of all where one is `needed`."""
        if self._words:
            return self._words.pop(0)
        return self._last[0] if needed and self._last else None

    def words(self) -> list[str]:
        """Return all quoted texts, names and objects that are left."""
        words, self._words = self._words, []
        return words

    def numbers(self) -> list[float | int]:
        numbers, self._numbers = self._numbers, []
        return numbers

    def mentions(self, member: Any) -> bool:
        return re.search(rf"(?<![a-z0-9]){re.escape(str(member).lower())}(?![a-z0-9])", self.text.lower()) is not None


def fill(schema: Any, sentence: Sentence) -> Any:
    """Return a value for the schema. Raises SchemaError where there is none."""
    return _Filler(schema, sentence).fill(schema, needed=True)


def _names(text: str, known: str) -> Iterator[str]:
    for name in _NAMES.findall(text):
        if name.lower() not in known.lower():
            yield name
    if not _NAMES.search(text):
        yield from (word for word in _BEHIND_A_WORD.findall(text) if word.lower() not in known.lower())
    for run in _CHINESE.findall(text):
        kept = "".join(_known_apart(_CHINESE_FILLER.sub(" ", run), known))
        yield from (word for word in kept.split() if len(word) > 1)


def _known_apart(text: str, known: str) -> Iterator[str]:
    """Return the text with blanks for the pairs of characters that are known."""
    at = 0
    while at < len(text):
        pair = text[at : at + 2]
        yield " " if len(pair) == 2 and pair in known else text[at]
        at += 2 if len(pair) == 2 and pair in known else 1


class _Filler:
    """Fills the parts of one schema from one sentence."""

    def __init__(self, root: Any, sentence: Sentence) -> None:
        self._root = root
        self._sentence = sentence

    def fill(self, part: Any, *, needed: bool) -> Any:
        """Return a value, None where nothing is needed and the sentence has nothing."""
        if not isinstance(part, Mapping):
            return schemas.example(part)
        part = self._resolved(part)
        if "const" in part or "pattern" in part:
            return self._example(part)
        if enum := part.get("enum"):
            said = next((member for member in enum if self._sentence.mentions(member)), None)
            return said if said is not None else enum[0] if needed else None
        return self._typed(part, needed=needed)

    def _typed(self, part: Mapping[str, Any], *, needed: bool) -> Any:
        kind = part.get("type", "object" if "properties" in part else "string")
        value: Any = None
        if kind == "object":
            return self._object(part)
        if kind in ("integer", "number"):
            value = self._sentence.number(whole=kind == "integer")
        elif kind == "string":
            dates = _DATE.findall(self._sentence.text) if part.get("format") == "date" else []
            free = part.get("format") is None
            value = dates[0] if dates else self._sentence.word(needed=needed) if free else None
        elif kind == "array":
            value = self._array(part)
        return value if value is not None or not needed else self._example(part)

    def _object(self, part: Mapping[str, Any]) -> dict[str, Any]:
        required = part.get("required", [])
        properties: Mapping[str, Any] = part.get("properties", {})
        filled = {name: self.fill(one, needed=name in required) for name, one in properties.items()}
        missing = [name for name in required if name not in properties]
        return {
            **{name: value for name, value in filled.items() if value is not None or name in required},
            **{name: self.fill({"type": "string"}, needed=True) for name in missing},
        }

    def _array(self, part: Mapping[str, Any]) -> list[Any] | None:
        items = self._resolved(part.get("items") or {})
        if items.get("type") == "string" and "enum" not in items:
            return self._sentence.words() or None
        if items.get("type") in ("integer", "number"):
            return self._sentence.numbers() or None
        return None

    def _resolved(self, part: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the part itself, behind its reference and its first branch that may be more than null."""
        for _ in range(10):  # a reference may lead in a circle
            if "$ref" in part:
                found: Any = self._root
                for step in part["$ref"].removeprefix("#").strip("/").split("/"):
                    found = found.get(step, {}) if isinstance(found, Mapping) else {}
                part = {**found, **{key: value for key, value in part.items() if key != "$ref"}}
            elif branches := part.get("anyOf") or part.get("oneOf") or part.get("allOf"):
                part = next((one for one in branches if one.get("type") != "null"), {"type": "null"})
            else:
                break
        kinds = part.get("type")
        return (
            {**part, "type": next((one for one in kinds if one != "null"), "null")} if isinstance(kinds, list) else part
        )

    def _example(self, part: Mapping[str, Any]) -> Any:
        definitions = {key: self._root[key] for key in ("$defs", "definitions") if key in self._root}
        return schemas.example({**definitions, **part})
