"""Rewrite a schema's regular expression so that every converter of grammars takes it and JSON comes of it.

llama.cpp's converter wants `^…$`, knows neither `\\d` nor look-arounds, and writes what it matches into the JSON text
as it is: a `.` that matches a quotation mark would end the string. llguidance refuses look-arounds. So classes are
written out, and none holds a character that JSON escapes. What cannot be said that way is not said: None.
"""

import re

_MOST_REPEATED = 1500
"""llama.cpp refuses what would make more than 2000 rules of one repetition."""

_ESCAPED_IN_JSON = "\\x00-\\x1f\\x22\\x5c\\x7f"
_CLASSES = {"d": "0-9", "w": "A-Za-z0-9_", "s": "\\x20"}
_ANY = f"[^{_ESCAPED_IN_JSON}]"
_CONTROL = {"t": "\t", "n": "\n", "r": "\r", "f": "\f", "v": "\v", "0": "\0"}
_QUANTIFIER = re.compile(r"(\*|\+|\?|\{(\d+)(,?)(\d*)\})\??")


def plain(pattern: str, most: int | None) -> str | None:
    """Return the pattern as `^(…)$` in the common subset, or None when it cannot be said there.

    What may repeat for ever outside of groups does so `most` times; llama.cpp looks at no maxLength beside a pattern.
    """
    try:
        reader = _Reader(pattern, None if most is None else min(most, _MOST_REPEATED))
        text, _ = reader.alternatives(outermost=True)
        reader.end()
    except _Unsaid:
        return None
    return f"^({text})$"


class _Unsaid(Exception):
    """Something that one of the converters does not take."""


class _Reader:
    """Reads a pattern from left to right. Each method returns the rewritten text and how many rules it may become."""

    def __init__(self, pattern: str, most: int | None) -> None:
        self._pattern = pattern
        self._most = most
        self._groups = 0
        self._position = 0

    def end(self) -> None:
        if self._position < len(self._pattern):
            raise _Unsaid

    def alternatives(self, *, outermost: bool = False) -> tuple[str, int]:
        options = [self._sequence(outermost)]
        while self._peek() == "|":
            self._position += 1
            options.append(self._sequence(outermost))
        if any(not text for text, _ in options):
            raise _Unsaid
        return "|".join(text for text, _ in options), 1 + sum(weight for _, weight in options)

    def _sequence(self, outermost: bool) -> tuple[str, int]:
        made: list[tuple[str, int]] = []
        anchored = outermost and self._peek() == "^"
        self._position += anchored
        if outermost and not anchored:
            made.append(self._anything())
        while self._peek() not in ("", "|", ")", "$"):
            made.append(self._repeated(*self._atom()))
        if outermost and self._peek() == "$":
            self._position += 1
        elif outermost:
            made.append(self._anything())
        return "".join(text for text, _ in made), sum(weight for _, weight in made)

    def _anything(self) -> tuple[str, int]:
        return (_ANY + "*" if self._most is None else f"{_ANY}{{0,{self._most}}}"), 1

    def _repeated(self, text: str, weight: int) -> tuple[str, int]:
        quantifier = _QUANTIFIER.match(self._pattern, self._position)
        if quantifier is None:
            return text, weight
        self._position = quantifier.end()
        sign, fewest, most = quantifier[1], int(quantifier[2] or 0), int(quantifier[4] or 0)
        times = max(fewest, most, 1)
        if weight * times > _MOST_REPEATED:
            raise _Unsaid
        endless = sign in "*+" or (quantifier[3] and not quantifier[4])
        if endless and weight == 1 and self._groups == 0 and self._most is not None:
            fewest = 1 if sign == "+" else fewest
            sign = f"{{{fewest},{max(fewest, self._most)}}}"
        return text + sign, weight * times + 1

    def _atom(self) -> tuple[str, int]:
        character = self._take()
        if character == "(":
            return self._group()
        if character == "[":
            return self._class(), 1
        if character == ".":
            return _ANY, 1
        if character == "\\":
            return self._escape(), 1
        if character in "^*+?{}]":
            raise _Unsaid
        return _written(character), 1

    def _group(self) -> tuple[str, int]:
        if self._peek() == "?":
            self._position += 1
            if self._take() != ":":
                raise _Unsaid
        self._groups += 1
        text, weight = self.alternatives()
        self._groups -= 1
        if self._take() != ")":
            raise _Unsaid
        return f"({text})", weight

    def _escape(self) -> str:
        name = self._take()
        if name in _CLASSES:
            return f"[{_CLASSES[name]}]"
        if name.lower() in _CLASSES:
            return f"[^{_ESCAPED_IN_JSON}{_CLASSES[name.lower()]}]"
        return _written(self._character(name))

    def _character(self, name: str) -> str:
        """Return the character that an escape stands for."""
        if digits := {"x": 2, "u": 4}.get(name):
            code = self._pattern[self._position : self._position + digits]
            if not re.fullmatch(f"[0-9A-Fa-f]{{{digits}}}", code):
                raise _Unsaid
            self._position += digits
            return chr(int(code, 16))
        if name in _CONTROL:
            return _CONTROL[name]
        if name.isalnum():
            raise _Unsaid
        return name

    def _class(self) -> str:
        without = self._peek() == "^"
        self._position += without
        made = []
        while self._peek() != "]":
            made.append(self._member(without))
        self._position += 1
        if not made:
            raise _Unsaid
        return f"[^{_ESCAPED_IN_JSON}{''.join(made)}]" if without else f"[{''.join(made)}]"

    def _member(self, without: bool) -> str:
        first = self._take()
        if first == "\\":
            name = self._take()
            if name in _CLASSES:
                return _CLASSES[name]
            first = self._character(name)
        last = first
        if self._peek() == "-" and self._pattern[self._position + 1 : self._position + 2] not in ("]", ""):
            self._position += 1
            last = self._take()
            if last == "\\":
                last = self._character(self._take())
        if last < first or (not without and any(first <= character <= last for character in '"\\\x7f')):
            raise _Unsaid
        low, high = (_written(one, escaped=without) for one in (first, last))
        return low if first == last else f"{low}-{high}"

    def _peek(self) -> str:
        return self._pattern[self._position : self._position + 1]

    def _take(self) -> str:
        character = self._peek()
        if not character:
            raise _Unsaid
        self._position += 1
        return character


def _written(character: str, *, escaped: bool = False) -> str:
    """Write a character so that it means itself everywhere. `escaped`: it may be one that JSON escapes."""
    if character in '"\\\x7f' or character < " ":
        if not escaped:
            raise _Unsaid
    elif character.isalnum() or (character > "\x7f" and not "\ud800" <= character <= "\udfff"):
        return character
    if character > "\xff":
        raise _Unsaid
    return f"\\x{ord(character):02x}"
