"""The boxed result of a solution: that there is one of it and no more, and when two results are the same."""

import re
import unicodedata
from fractions import Fraction

OPENING = r"\boxed{"

_LONGEST_VALUE = 200


def closing(text: str, opening: int) -> int | None:
    """Return where the brace closes that is open at the end of `\\boxed{`, which begins at `opening`."""
    begun = opening + len(OPENING)
    at = _Braces().feed(text[begun:])
    return None if at is None else begun + at


_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)


class _Braces:
    """Looks for the end of a brace that is open, in a text that comes in pieces; each is read once."""

    def __init__(self) -> None:
        self._depth = 1
        self._escapes = False  # the last piece ended with a backslash: `\\{` is no brace

    def feed(self, text: str) -> int | None:
        """Return where in this piece the brace is closed, None where it is not."""
        start = int(self._escapes and bool(text))
        if text:
            self._escapes = False
        for found in _BRACE.finditer(text, start):
            self._depth += {"{": 1, "}": -1}.get(found[0], 0)
            if self._depth == 0:
                return found.start()
        bare = text[start:]
        self._escapes = self._escapes or (len(bare) - len(bare.rstrip("\\"))) % 2 == 1
        return None

    def missing(self) -> str:
        """Return what closes it; behind a backslash, one brace more."""
        return "}" * (self._depth + self._escapes)


class OneBox:
    """Passes a solution on as it comes, in which only the last result is boxed.

    A box is held back until another one comes, which takes its frame away, or until the end. `value` is what stands in
    the final box, None as long as there is none. `prefix` stands in front of what comes, and is left as it is.
    """

    def __init__(self, prefix: str = "") -> None:
        self.value: str | None = None
        self._held = ""
        self._seen = 0  # characters of `_held` in which no further box begins
        self._boxing = False
        self._inside: list[str] | None = None  # a box of the prefix that is still open: its text so far
        self._braces = _Braces()
        opening = prefix.rfind(OPENING)
        if opening < 0:
            return
        inside = prefix[opening + len(OPENING) :]
        end = self._braces.feed(inside)
        if end is None:
            self._inside = [inside]
        else:
            self.value = inside[:end].strip() or None

    def feed(self, text: str) -> str:
        """Return what can be shown of the solution after `text`."""
        shown = ""
        if self._inside is not None:
            end = self._braces.feed(text)
            self._inside.append(text[:end])
            if end is None:
                return text
            self.value = "".join(self._inside).strip() or None
            shown, text = text[: end + 1], text[end + 1 :]
            self._inside = None
        self._held += text
        return shown + self._released()

    def close(self, *, cut: bool = False) -> str:
        """Return the rest. A solution that was cut short is left as it is, any other box is closed."""
        if self._inside is not None:
            inside, self._inside = "".join(self._inside), None
            if not cut:
                self.value = inside.strip() or None
            return "" if cut else self._braces.missing()
        rest, self._held = self._held, ""
        if not self._boxing or cut:
            return rest
        self._boxing = False
        braces = _Braces()
        if braces.feed(rest[len(OPENING) :]) is None:
            rest += braces.missing()
        end = closing(rest, 0)
        value = rest[len(OPENING) : end].strip()
        if self.value is not None or not value:
            return _unboxed(rest)
        self.value = value
        return rest

    def _released(self) -> str:
        shown = ""
        while True:
            if not self._boxing:
                opening = self._held.find(OPENING)
                if opening < 0:
                    kept = _may_begin(self._held)
                    shown += self._held[: len(self._held) - kept]
                    self._held = self._held[len(self._held) - kept :]
                    return shown
                shown, self._held, self._boxing = shown + self._held[:opening], self._held[opening:], True
            following = self._held.find(OPENING, max(len(OPENING), self._seen - len(OPENING) + 1))
            if following < 0:
                self._seen = len(self._held)
                return shown
            shown += _unboxed(self._held[:following])
            self._held, self._seen = self._held[following:], 0


def _may_begin(text: str) -> int:
    """Return how many characters at the end of a text may become the opening of a box."""
    return max((size for size in range(1, len(OPENING)) if text.endswith(OPENING[:size])), default=0)


def _unboxed(text: str) -> str:
    """Return a text that begins with a box without its frame; one that has another within it keeps its braces."""
    end = closing(text, 0)
    if end is None:
        return "{" + text[len(OPENING) :]
    return text[len(OPENING) : end] + text[end + 1 :]


def boxed(value: str) -> str | None:
    """Return a value in a box, None for what is none: nothing, several lines, braces that do not match."""
    value = value.strip().strip("$").strip()
    box = f"{OPENING}{value}}}"
    fits = 0 < len(value) <= _LONGEST_VALUE and "\n" not in value and OPENING not in value
    return box if fits and closing(box, 0) == len(box) - 1 else None


# --- when two results are the same

_DROPPED = re.compile(r"\\(?:left|right|displaystyle|,|;|:|!|quad|qquad)(?![a-zA-Z])|\$|~|\s|\^\{?\\circ\}?|°")
_WORDS = re.compile(r"\\(?:text|mathrm|mbox|textbf|mathbf)\{([^{}]*)\}")
_FRACTION = re.compile(r"(-?)\\frac\{?(-?\d+)\}?\{?(\d+)\}?")
_RATIO = re.compile(r"(-?\d+)/(\d+)")
_DECIMAL = re.compile(r"[-+]?\d+(?:\.\d+)?")
_UNITS = re.compile(
    r"(?<=\d)(?:[\u4e00-\u9fff]+|(?:cm|mm|km|kg|m|g|s|min|hours?|minutes?|dollars?|degrees?)(?:\^\{?[23]\}?)?)$"
)


_LONGEST_NUMBER = 200  # of more than some thousand digits, Python makes no number


def same_form(value: str) -> str:
    """Return a result in the form that equal ones share: numbers as fractions, without units, spaces and marks."""
    text = unicodedata.normalize("NFKC", _WORDS.sub(r"\1", value)).casefold()
    text = _DROPPED.sub("", text).replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac").replace("\\%", "%")
    text = re.sub(r"(?<=\d),(?=\d{3}(?:\D|$))", "", text).rstrip(".。")
    text = re.sub(r"^[a-z]=", "", text)
    text = _UNITS.sub("", text)
    if len(text) > _LONGEST_NUMBER:
        return text
    if found := _FRACTION.fullmatch(text):
        sign, top, bottom = found.groups()
        text = f"{sign}{top}/{bottom}".replace("--", "")
    if (found := _RATIO.fullmatch(text)) and int(found[2]):
        return str(Fraction(int(found[1]), int(found[2])))
    return str(Fraction(text)) if _DECIMAL.fullmatch(text) else text


__all__ = ["OPENING", "OneBox", "boxed", "closing", "same_form"]
