"""Write a text that a regular expression matches: enough of the syntax for the patterns of JSON Schemas.

Understood: literals, escapes (`\\d \\w \\s` and escaped characters), `.`, classes, groups, `|`, anchors at the ends,
and the quantifiers `? * + {m} {m,} {m,n}`. Look-arounds and back-references are refused by ValueError. No randomness:
the first alternative, the fewest repetitions.
"""

import re
from collections.abc import Callable

_CLASSES = {"d": "0", "w": "a", "s": " ", "D": "a", "W": "-", "S": "a", "t": "\t", "n": "\n", "r": "\r"}
_CANDIDATES = "a0A-_. 中" + "".join(chr(code) for code in range(33, 127))


def match(pattern: str, min_length: int = 0, max_length: int | None = None) -> str:
    """Return a text that `pattern` matches, of the length asked for. Raises ValueError when none is found."""
    try:
        wanted = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} is no regular expression: {error}") from error
    for extra in range(min_length + 2):
        text = _Writer(pattern, extra).write()
        if len(text) < min_length and not pattern.endswith("$"):
            text += "a" * (min_length - len(text))
        if wanted.search(text) and len(text) >= min_length and (max_length is None or len(text) <= max_length):
            return text
    raise ValueError(f"found no text for the pattern {pattern!r} with this length: write the answer out in the rule")


class _Writer:
    """One pass over a pattern; what may repeat for ever does so `extra` times more than it must."""

    def __init__(self, pattern: str, extra: int) -> None:
        self._pattern = pattern
        self._extra = extra
        self._position = 0

    def write(self) -> str:
        text = self._alternatives()
        if self._position < len(self._pattern):
            raise ValueError(f"the pattern {self._pattern!r} has an unmatched ')'")
        return text

    def _alternatives(self) -> str:
        options = [self._sequence()]
        while self._peek() == "|":
            self._position += 1
            options.append(self._sequence())
        return options[0]

    def _sequence(self) -> str:
        parts = []
        while self._peek() not in ("", "|", ")"):
            atom = self._atom()
            parts.append(atom * self._repetitions())
        return "".join(parts)

    def _atom(self) -> str:
        character = self._take()
        known: dict[str, Callable[[], str]] = {
            "^": str,
            "$": str,
            ".": lambda: "a",
            "(": self._grouped,
            "[": self._one_of,
            "\\": self._escaped,
        }
        return known[character]() if character in known else character

    def _grouped(self) -> str:
        if self._peek() == "?":
            self._position += 1
            if self._take() != ":":
                raise ValueError(f"the pattern {self._pattern!r} uses (?…), which is not understood here")
        text = self._alternatives()
        if self._take() != ")":
            raise ValueError(f"the pattern {self._pattern!r} has an unmatched '('")
        return text

    def _one_of(self) -> str:
        end = self._position + (1 if self._peek() != "^" else 2)
        while end < len(self._pattern) and self._pattern[end] != "]":
            end += 2 if self._pattern[end] == "\\" else 1
        body = self._pattern[self._position : end]
        self._position = end + 1
        members = re.compile(f"[{body}]")
        first = body[0] if body[:1] not in ("^", "\\") else ""
        for candidate in first + _CANDIDATES:
            if members.fullmatch(candidate):
                return candidate
        raise ValueError(f"found no character for [{body}] of the pattern {self._pattern!r}")

    def _escaped(self) -> str:
        character = self._take()
        if character in "bB" or character.isdigit():
            raise ValueError(f"the pattern {self._pattern!r} uses \\{character}, which is not understood here")
        return _CLASSES.get(character, character)

    def _repetitions(self) -> int:
        quantifier = re.compile(r"\*|\+|\?|\{(\d+)(,?)(\d*)\}").match(self._pattern, self._position)
        if quantifier is None:
            return 1
        self._position = quantifier.end()
        if self._peek() in ("?", "+"):
            self._position += 1  # lazy and possessive forms match the same texts
        if (sign := quantifier.group()) in "*+?":
            return {"*": self._extra, "+": 1 + self._extra, "?": 0}[sign]
        fewest, most = int(quantifier[1]), quantifier[3]
        if not quantifier[2]:
            return fewest
        return min(fewest + self._extra, int(most)) if most else fewest + self._extra

    def _peek(self) -> str:
        return self._pattern[self._position : self._position + 1]

    def _take(self) -> str:
        character = self._peek()
        if not character:
            raise ValueError(f"the pattern {self._pattern!r} ends too early")
        self._position += 1
        return character
