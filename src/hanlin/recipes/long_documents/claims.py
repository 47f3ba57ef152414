"""Hold what an answer claims against what the model was given to read, while the answer is written.

Numbers, codes, titles, names and pages are claims; everything else passes at once. A claim is held until it is whole,
which takes a few characters, so that a wrong one has not left when it is found.
"""

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from hanlin.recipes.texts import folded, number, numbers, scaled, squeezed, terms

_DIGITS = {"〇": 0, "零": 0, "一": 1, "二": 2, "两": 2, "三": 3, "四": 4, "五": 5, "六": 6, "七": 7, "八": 8, "九": 9}
_UNITS = {"十": 10, "百": 100, "千": 1000}
_MYRIADS = {"万": 10_000, "亿": 100_000_000}
_NUMERAL = re.compile("[〇零一二两三四五六七八九十百千万亿]{1,20}")
_TEENS = ("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen")
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_ONES = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_SPELLED = {word: 10 + at for at, word in enumerate(_TEENS)} | {
    f"{ten}{joint}{one}": 20 + 10 * high + low
    for high, ten in enumerate(_TENS)
    for joint, low, one in [("", 0, ""), *(("-", at + 1, one) for at, one in enumerate(_ONES))]
}
_SPELLED_WORD = re.compile(rf"\b(?:{'|'.join(sorted(_SPELLED, key=len, reverse=True))})\b")

_RANGE = r"\d+(?:\s*[-–—~至到、,，和&]\s*(?:第\s*)?\d+)*"
_PAGE = rf"[（(\[【]?\s*(?:第\s*{_RANGE}\s*页|\b[Pp]{{1,2}}\.\s*{_RANGE}|\b[Pp]ages?\s+{_RANGE})\s*[）)\]】]?"
_CODE = r"[A-Za-z][A-Za-z]*[-_/]?\d[A-Za-z0-9_/-]*|\d+[-_/]?[A-Za-z][A-Za-z0-9_/-]*"
_NUMBER = r"\d+(?:[,，]\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?"
_NAME = r"[A-Z][a-z]+(?:\s[A-Z][a-z]+)+"
_CLAIM = re.compile(
    rf"(?P<page>{_PAGE})|(?P<title>《[^》\n]{{2,60}}》)|(?P<code>{_CODE})|(?P<number>{_NUMBER})|(?P<name>{_NAME})"
)
_OPEN = re.compile(
    r"(?:[（(\[【]\s*)?(?:第[\s\d\-–—~至到、,，和]*|\b[Pp](?:p|age|ages)?\.?[\s\d\-–—,&]*)$"
    r"|[（(\[【]\s*$|《[^》\n]{0,60}$|(?<![A-Za-z])[A-Z][a-z]*(?:\s[A-Z][a-z]*)*\s?$"
    r"|[A-Za-z0-9][A-Za-z0-9_/.,，-]*$"
)
_SHORT = 4
_PARTIAL_WORD = re.compile(r"[A-Za-z0-9_-]+$")
_SENTENCE_END = re.compile(r"[。！？!?\n]|\.\s")
_SAYS_NOTHING = re.compile(
    r"(?:没有|未|无)(?:提[到及]|说明|找到|包含|相关|涉及|记载|给出|明确)|不(?:包含|涉及)|无法(?:回答|得知|确定|找到)"
    r"|\b(?:do|does|did|is|are) ?n[o']t (?:mention|say|contain|provide|include|specif|state|given|available|found)"
    r"|\bnot (?:mentioned|stated|specified|provided|found|given|contained|in the document)"
    r"|\bno (?:information|mention|answer)\b",
    re.IGNORECASE,
)
_MEASURE = re.compile(r"(\d+)[A-Za-z]{1,4}")
_MOST_HELD = 120
_PIECE_CHARS = 120
_BULLET = re.compile(r"(?:^|\n)[ \t]*[（(]?$")

Kind = Literal["page", "title", "code", "number", "name", "answer"]


@dataclass(frozen=True)
class Fault:
    """A claim that nothing backs, as it was written. `shown` is what of it people would look for."""

    kind: Kind
    text: str

    @property
    def shown(self) -> str:
        return self.text.strip("（()[]【】） ")


class Supplied:
    """What an answer may rest on: all the text that the model was given, the pages of it.

    `pages` None: there are none to name. `derives`: the question asks for numbers that stand nowhere, such as sums.
    `translated`: the answer is in another language than the text, so that names are spelt otherwise.
    """

    def __init__(
        self,
        text: str,
        pages: frozenset[int] | None = None,
        *,
        derives: bool = False,
        translated: bool = False,
    ) -> None:
        self.text = text
        self.pages = pages
        self.derives = derives
        self.translated = translated

    @cached_property
    def numbers(self) -> frozenset[str]:
        spelled = {str(_SPELLED[word]) for word in _SPELLED_WORD.findall(self._folded)}
        numerals = {str(value) for run in _NUMERAL.findall(self.text) if (value := numeral(run)) is not None}
        return scaled(numbers(self.text)) | spelled | numerals

    @cached_property
    def terms(self) -> frozenset[str]:
        return terms(self.text)

    @cached_property
    def _folded(self) -> str:
        return folded(self.text)

    @cached_property
    def squeezed(self) -> str:
        return squeezed(self.text)

    def backs(self, kind: Kind, claim: str) -> bool:
        """Whether a claim is in the text, or is none that could be looked for."""
        if kind == "page":
            named = {int(digits) for digits in re.findall(r"\d+", claim)}
            return self.pages is None or named <= self.pages
        if kind == "number":
            plain = number(claim)
            return self.derives or len(plain) < 2 or plain in self.numbers or self._has(claim)
        if kind == "code" and (measure := _MEASURE.fullmatch(claim)):
            return self.backs("number", measure[1])
        if kind in ("name", "title") and self.translated:
            return True
        if kind == "name":
            return not (wanted := terms(claim)) or any(word in self.squeezed for word in wanted)
        return squeezed(claim) in self.squeezed

    def _has(self, claim: str) -> bool:
        """Whether a number stands in the text as it is written, as part of a version or a date, say."""
        return re.search(rf"(?<!\d){re.escape(folded(claim))}(?!\d)", self._folded) is not None


class Gate:
    """Lets an answer through, claim by claim. After a `fault` nothing passes until `go_on`.

    `asked` are the words of a question whose answer may not be there: then nothing passes before a word of the answer
    is found that the question does not have and the text does. A first sentence without one is a fault as a whole, of
    the kind `answer`, unless it says that there is none. After `mute` nothing passes any more.
    """

    def __init__(self, supplied: Supplied, asked: frozenset[str] | None = None) -> None:
        self.supplied = supplied
        self.muted = False
        self._asked = asked
        self.fault: Fault | None = None
        self.pages: set[int] = set()  # that the answer has named
        self.passed = ""
        self._held = ""

    def feed(self, text: str) -> str:
        """Take more of the answer; return what may leave."""
        # In pieces: what finds claims takes the square of the time for what has twice the length.
        out = self._fed(text[:_PIECE_CHARS])
        for at in range(_PIECE_CHARS, len(text), _PIECE_CHARS):
            out += self._fed(text[at : at + _PIECE_CHARS])
        return out

    def _fed(self, text: str) -> str:
        self._held += text
        if self.fault is not None or self.muted or not self._rests_on_something(over=False):
            return ""
        end = len(self._held)
        if (unfinished := _OPEN.search(self._held)) and end - unfinished.start() <= _MOST_HELD:
            end = unfinished.start()
        return self._let(end)

    def close(self) -> str:
        """Say that the answer is over; return what of it is left."""
        if self.fault is not None or self.muted or not self._rests_on_something(over=True):
            return ""
        return self._let(len(self._held))

    def mute(self, text: str) -> str:
        """Say this in the place of the answer, which ends here."""
        self.fault, self.muted, self._held = None, True, ""
        self.passed += text
        return text

    def drop(self) -> None:
        """Forget what has not left: it will be said again, otherwise."""
        self._held, self.fault = "", None

    def go_on(self, *, without: bool) -> str:
        """Let the claim at fault through, or leave it out, and return what may leave after it."""
        assert self.fault is not None
        fault, self.fault = self.fault, None
        self._held = self._held.removeprefix(fault.text)
        if not without:
            self.passed += fault.text
        return ("" if without else fault.text) + self.feed("")

    def _rests_on_something(self, *, over: bool) -> bool:
        """Whether the answer has begun to say something that the text says; a fault where it never does."""
        if self._asked is None:
            return True
        text = self._held if over else _PARTIAL_WORD.sub("", self._held)
        new = terms(text) - self._asked
        is_said = over or len(text) > _MOST_HELD or _SENTENCE_END.search(text) is not None
        may_end = not new or says_nothing(text) or self._is_a_word(text)
        if new & self.supplied.terms or (is_said and may_end):
            self._asked = None
            return True
        if is_said:
            self.fault = Fault("answer", self._held)
        return False

    def _is_a_word(self, text: str) -> bool:
        """Whether all of the answer is so short that a single character of the text may be what was asked for."""
        plain = squeezed(text)
        known = "".join(self._asked or ())
        return len(plain) <= _SHORT and any(sign in self.supplied.squeezed and sign not in known for sign in plain)

    def _let(self, end: int) -> str:
        at = 0
        for claim in _CLAIM.finditer(self._held, 0, end):
            kind: Kind = claim.lastgroup  # type: ignore[assignment]
            if self._counts_points(kind, claim) or self.supplied.backs(kind, claim[0]):
                if kind == "page":
                    self.pages |= {int(digits) for digits in re.findall(r"\d+", claim[0])}
                continue
            at = claim.start()
            self.fault = Fault(kind, claim[0])
            break
        else:
            at = end
        out, self._held = self._held[:at], self._held[at:]
        self.passed += out
        return out

    def _counts_points(self, kind: Kind, claim: re.Match[str]) -> bool:
        """Whether a number only numbers a line of a list."""
        before = (self.passed + self._held[: claim.start()])[-8:]
        after = self._held[claim.end() : claim.end() + 1]
        return kind == "number" and after in ".、)）:：" and bool(_BULLET.search(before or "\n"))


def says_nothing(answer: str) -> bool:
    """Whether an answer says that the documents do not hold one."""
    return len(answer) < 400 and bool(_SAYS_NOTHING.search(answer))


def numeral(run: str) -> int | None:
    """Return the value of a Chinese numeral; None for a run that is none, or a lone digit."""
    if len(run) < 2 and run not in _UNITS:
        return None
    if not any(character in _UNITS or character in _MYRIADS for character in run):
        return int("".join(str(_DIGITS[character]) for character in run))
    total = part = digit = 0
    for character in run:
        if character in _DIGITS:
            digit = _DIGITS[character]
        elif character in _UNITS:
            part += (digit or 1) * _UNITS[character]
            digit = 0
        elif character == "万":
            total, part, digit = total + (part + digit) * _MYRIADS["万"], 0, 0
        else:
            total, part, digit = (total + part + digit) * _MYRIADS["亿"], 0, 0
    return total + part + digit


__all__ = ["Fault", "Gate", "Supplied", "numeral", "says_nothing"]
