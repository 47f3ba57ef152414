"""Understand what somebody wants a model for: the tasks a text speaks of, its length, and its languages.

Pure, and no language model: words are compared with the rows of `tasks.toml`. Which model then fits is `choose`'s.
"""

import re
from collections.abc import Mapping
from functools import cached_property, lru_cache
from typing import Annotated

import msgspec
from msgspec import Meta

from hanlin.words import say

Text = Annotated[str, Meta(min_length=1)]
Weight = Annotated[float, Meta(ge=0)]

GENERAL = "general"
"""The task that general models suit, and the one that a text asks for when it names no other."""


class Task(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Something people want done. Keywords in Latin letters match where a word begins (the whole word when they end in
    `$`), Chinese ones anywhere.

    `general` says whether a general model does it too; `needs` what a stand-in would have to be able to do;
    `least_tokens` is the room it takes when the text names no length; a text that names `from_tokens` or more is about
    it too; the weights say how much capability and price count for it, 1 being usual.
    """

    name: Text
    en: Text
    zh: Text
    keywords: tuple[Text, ...] = ()
    general: bool = True
    needs: tuple[Text, ...] = ()
    least_tokens: int = 0
    from_tokens: int | None = None
    grade_weight: Weight = 1.0
    price_weight: Weight = 1.0

    @property
    def title(self) -> str:
        return say(self.en, self.zh)


class Language(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A language that a text may name; `code` is what model rows write in `languages`."""

    code: Text
    en: Text
    zh: Text
    keywords: Annotated[tuple[Text, ...], Meta(min_length=1)]

    @property
    def title(self) -> str:
        return say(self.en, self.zh)


class LengthUnit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A unit in which people give the length of a text, and how many tokens one is, on the generous side."""

    units: Annotated[tuple[Text, ...], Meta(min_length=1)]
    tokens: Annotated[float, Meta(gt=0)]


class Wish(msgspec.Struct, frozen=True):
    """What a text asks for. `tasks` has at least one entry, the most telling first; `tokens` is 0 when nothing says."""

    tasks: tuple[Task, ...]
    tokens: int
    languages: tuple[Language, ...]


class Tasks(msgspec.Struct, frozen=True, dict=True):
    """The rows of `tasks.toml`: tasks in order of precedence, languages, units of length."""

    by_name: Mapping[str, Task]
    languages: tuple[Language, ...]
    lengths: tuple[LengthUnit, ...]

    def understand(self, text: str) -> Wish:
        """Return the tasks that the text speaks of (general use when none), the tokens it needs, its languages."""
        folded = text.casefold()
        named = self.tokens(text)
        tasks = tuple(
            task
            for task in self.by_name.values()
            if _mentions(folded, task.keywords) or (task.from_tokens is not None and named >= task.from_tokens)
        )
        tasks = tasks or (self.by_name[GENERAL],)
        tokens = named or max(task.least_tokens for task in tasks)
        return Wish(tasks, tokens, tuple(one for one in self.languages if _mentions(folded, one.keywords)))

    def tokens(self, text: str) -> int:
        """Return the length that a text names, in tokens: "10万字", "200 pages", "50k tokens"; the largest, or 0."""
        found = (
            round(_number(match["number"], match["scale"]) * self._tokens_of[match["unit"]])
            for match in self._length.finditer(text.casefold())
        )
        return max(found, default=0)

    @cached_property
    def _tokens_of(self) -> dict[str, float]:
        return {unit.casefold(): length.tokens for length in self.lengths for unit in length.units}

    @cached_property
    def _length(self) -> re.Pattern[str]:
        units = "|".join(re.escape(unit) for unit in sorted(self._tokens_of, key=len, reverse=True))
        return re.compile(
            rf"(?P<number>\d[\d,]*(?:\.\d+)?|[一二两三四五六七八九十百千]+|[万亿])\s*"
            rf"(?P<scale>万亿|[千万亿]|k|m|thousand|million)?[\s个多余来-]*(?P<unit>{units})"
        )


def _mentions(folded: str, keywords: tuple[str, ...]) -> bool:
    return any(_pattern(word).search(folded) for word in keywords)


@lru_cache(maxsize=1024)
def _pattern(keyword: str) -> re.Pattern[str]:
    word = keyword.casefold()
    if not word.isascii():
        return re.compile(re.escape(word))
    end = "(?![a-z])" if word.endswith("$") else ""
    return re.compile(rf"(?<![a-z]){re.escape(word.removesuffix('$'))}{end}")


_SCALES = {"千": 1e3, "万": 1e4, "亿": 1e8, "k": 1e3, "m": 1e6, "thousand": 1e3, "million": 1e6, "万亿": 1e12}
_DIGITS = {"一": 1, "二": 2, "两": 2, "三": 3, "四": 4, "五": 5, "六": 6, "七": 7, "八": 8, "九": 9}
_PLACES = {"十": 10, "百": 100, "千": 1000}


def _number(digits: str, scale: str | None) -> float:
    """Read a number in figures or in Chinese, times its scale: ("1.5", "万"), ("二十", "万"), ("3,000", None)."""
    factor = _SCALES[scale] if scale else 1
    if digits in _SCALES:
        return _SCALES[digits] * factor
    if digits[0].isdecimal():
        return float(digits.replace(",", "")) * factor
    total, digit = 0, 0
    for character in digits:
        if character in _DIGITS:
            digit = _DIGITS[character]
        else:
            total += (digit or 1) * _PLACES[character]
            digit = 0
    return (total + digit) * factor


__all__ = ["GENERAL", "Language", "LengthUnit", "Task", "Tasks", "Wish"]
