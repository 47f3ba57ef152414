"""Is a value said in a text, or was it made up? By the letter, as far as that can tell."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from hanlin.recipes.likeness import folded, terms

_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_UNIT_ENDS = "市省区县镇乡村路街站号个的"
_NUMERALS = {
    digit: number
    for number, digits in enumerate(("零〇", "一壹", "二两贰", "三叁", "四肆", "五伍", "六陆", "七柒", "八捌", "九玖"))
    for digit in digits
}
_SCALES = {"十": 10, "百": 100, "千": 1000, "万": 10_000, "亿": 100_000_000}
_HAN_NUMBER = re.compile(f"[{''.join(_NUMERALS)}{''.join(_SCALES)}]+")
_WORDS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"),
)
_PUNCTUATION = re.compile(r"[\s,.;:!?'\"，。；：！？、“”‘’「」『』（）()《》\[\]【】…—\-~·]+")
_MOST_SHARE = 0.5
_DIGITS = re.compile(r"\d+")
_FIGURES = re.compile(r"\d+(?:[-,. ]\d+)*")
_TELLING_FIGURES, _LONG_FIGURES = 3, 7
_LARGEST = 10**300  # beyond it, JSON has whole numbers that are no floats
_BELOW_ZERO = re.compile(r"[-−负]|零下|\b(?:minus|negative|below)\b")


@dataclass(frozen=True)
class Heard:
    """A text in which values are looked for; what it takes to find them is worked out once, however many they are."""

    text: str

    @cached_property
    def squeezed(self) -> str:
        return squeezed(self.text)

    @cached_property
    def figures(self) -> frozenset[str]:
        """Its runs of digits, as they stand there without spaces and marks."""
        return frozenset(_DIGITS.findall(self.squeezed))

    @cached_property
    def numbers(self) -> frozenset[float]:
        return numbers(self.text)

    @cached_property
    def terms(self) -> frozenset[str]:
        return terms(self.text)

    @cached_property
    def goes_below_zero(self) -> bool:
        return bool(_BELOW_ZERO.search(folded(self.text)))


def is_said(value: Any, heard: Heard) -> bool:
    """Say whether a value stands in a text: as it is, or as people write the same thing.

    Of several parts each must; truths and what is empty are never said by the letter.
    """
    if isinstance(value, bool) or value is None:
        return False
    if isinstance(value, int | float):
        is_known = abs(value) < _LARGEST and abs(float(value)) in heard.numbers
        return is_known and (value >= 0 or heard.goes_below_zero)
    if isinstance(value, Mapping):
        return bool(value) and all(is_said(one, heard) for one in value.values())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return bool(value) and all(is_said(one, heard) for one in value)
    return _is_text_said(str(value), heard)


def is_quoted(quote: str, heard: Heard) -> bool:
    """Say whether a text has this very wording in it; punctuation and spaces do not count."""
    bare = squeezed(quote)
    return bool(bare) and bare in heard.squeezed


def has_figures(figures: str, heard: Heard) -> bool:
    """Say whether a text has a number, also one that is written in parts; a part of another number is none.

    Long ones, such as those of telephones, are found wherever they stand: what comes before may be a number as well.
    """
    if float(figures) in heard.numbers:
        return True
    if len(figures) >= _LONG_FIGURES:
        return figures in heard.squeezed
    return figures in heard.figures


def unsaid_figures(text: str, heard: Heard) -> Iterator[str]:
    """Yield the figures of a text, of three digits and more, that were not said: neither together nor one by one."""
    for figures in _FIGURES.findall(text):
        plain, together = figures.replace(",", ""), re.sub(r"\D", "", figures)
        amount = bool(_NUMBER.fullmatch(plain)) and float(plain) in heard.numbers
        parts = [part for part in re.split(r"\D", figures) if len(part) >= _TELLING_FIGURES]
        known = amount or has_figures(together, heard) or all(has_figures(part, heard) for part in parts)
        if len(together) >= _TELLING_FIGURES and not known:
            yield figures


def squeezed(text: str) -> str:
    """Return a text without punctuation and spaces, as it is compared."""
    return _PUNCTUATION.sub("", folded(text))


def numbers(text: str) -> frozenset[float]:
    """Return the numbers of a text, in figures or in words, without their signs."""
    text = folded(text)
    bare = re.sub(r"(?<=\d),(?=\d{3}\b)", "", text)
    found = {number for one in _NUMBER.findall(bare) if math.isfinite(number := float(one))}
    found |= {float(whole) for one in _HAN_NUMBER.findall(text) if (whole := _han_number(one)) is not None}
    words = set(re.findall(r"[a-z]+", text))
    return frozenset(found | {float(number) for number, word in enumerate(_WORDS) if word in words})


def _is_text_said(value: str, heard: Heard) -> bool:
    bare, whole = squeezed(value), heard.squeezed
    if not bare:
        return False
    short = bare.rstrip(_UNIT_ENDS) or bare
    if short.isdecimal():
        return has_figures(short, heard)
    if bare in whole or short in whole:
        return True
    if figures := numbers(value):
        return figures <= heard.numbers and bool(_NUMBER.fullmatch(bare) or terms(value) & heard.terms)
    ours = terms(value)
    return len(ours & heard.terms) > _MOST_SHARE * len(ours)


def _han_number(text: str) -> int | None:
    """Return the number that Chinese numerals are, up to 10^12."""
    if all(mark in _NUMERALS for mark in text):
        return int("".join(str(_NUMERALS[mark]) for mark in text)) if len(text) <= 12 else None
    total = section = digit = 0
    for mark in text:
        if mark in _NUMERALS:
            digit = _NUMERALS[mark]
        elif _SCALES[mark] >= 10_000:
            total += (section + digit or 1) * _SCALES[mark]
            section = digit = 0
        else:
            section += (digit or 1) * _SCALES[mark]
            digit = 0
    return total + section + digit


__all__ = ["Heard", "has_figures", "is_quoted", "is_said", "numbers", "squeezed", "unsaid_figures"]
