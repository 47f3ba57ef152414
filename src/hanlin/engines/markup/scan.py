"""Follow a JSON object while it is being written: where it ends, and what is known of the call in it by then."""

import re

from hanlin.engines.markup.forms import CLOSES, MARKS, either, prefixes

_STOPS = (*CLOSES, *(text for text, mark in MARKS.items() if mark.sure))
_STOP = re.compile(either(_STOPS))
_PARTS_OF_STOPS = prefixes(_STOPS)
_LONGEST_STOP = max(map(len, _STOPS))

_NEXT = re.compile(r"\S")
_BRACKET_OR_QUOTE = re.compile(r"[\"'{}\[\]<]")
# Marks that are one token of the vocabulary cannot be meant as text, even within a string. The others end a string only
# after a line end, which JSON does not allow there: a quote was forgotten.
_IN_STRING = {quote: re.compile(rf"[{quote}\\\n]|<(?=/?(?:[|｜]|\Z))") for quote in "\"'"}


class ObjectScan:
    """Follows one object, JSON or a dictionary as Python writes it, without decoding it. `start` is its brace.

    `end` is where it ends: after its last brace or, when `broken`, before what cannot be part of it. `level` is the
    depth at which the hooks see keys and values; 0 for nowhere. A hook that has seen enough sets `refused`.
    """

    def __init__(self, start: int, level: int = 0) -> None:
        self.start = start
        self.level = level
        self.end: int | None = None
        self.broken = False
        self.refused = False
        self._at = start
        self._depth = 0
        self._quote = ""
        self._string_at = 0
        self._key = ""
        self._wants = ""  # what comes next at the level: a key, a colon, a value, its end
        self._value_at = 0

    def follow(self, text: str, *, ended: bool) -> None:
        """Go on in `text`, which begins with what was seen before, as far as it can be told what is what."""
        while self.end is None and not self.refused:
            if not (self._in_string(text, ended) if self._quote else self._in_structure(text, ended)):
                return

    def key(self, key: str) -> None:
        """A key at the level is complete."""

    def value(self, key: str, at: int, first: str) -> None:
        """The value of `key` begins at `at`."""

    def value_end(self, text: str, key: str, at: int, end: int) -> None:
        """The value of `key` is complete."""

    def unexpected(self, at: int) -> None:
        """At the level stands what cannot stand there in JSON."""

    @property
    def partial_string_at(self) -> int | None:
        """Where the string that is being written at the level began, quote included."""
        return self._string_at if self._quote and self._depth == self.level else None

    @property
    def wants_key(self) -> bool:
        return self._wants == "key"

    def _in_string(self, text: str, ended: bool) -> bool:
        found = _IN_STRING[self._quote].search(text, self._at)
        if found is None:
            self._at = len(text)
            return False
        self._at = found.start()
        character = found.group()
        if character == "\\":
            if self._at + 1 == len(text):
                return False
            self._at += 2
        elif character == self._quote:
            self._at += 1
            self._quote = ""
            if self._depth == self.level:
                self._string_ended(text)
        else:
            return self._pass(text, ended)
        return True

    def _pass(self, text: str, ended: bool) -> bool:
        """Stop at a mark that ends everything, step over anything else, wait where it cannot be told yet."""
        mark_at = self._at
        while mark_at < len(text) and text[mark_at].isspace():
            mark_at += 1
        if _STOP.match(text, mark_at):
            self.end, self.broken = self._at, True
            return True
        rest = text[mark_at : mark_at + _LONGEST_STOP]
        if not ended and (not rest or (len(text) == mark_at + len(rest) and rest in _PARTS_OF_STOPS)):
            return False
        self._at = max(mark_at, self._at + 1)
        return True

    def _in_structure(self, text: str, ended: bool) -> bool:
        pattern = _NEXT if self._depth <= self.level else _BRACKET_OR_QUOTE
        found = pattern.search(text, self._at)
        if found is None:
            self._at = len(text)
            return False
        self._at = found.start()
        character = found.group()
        if character == "<":
            return self._pass(text, ended)
        if self._depth == self.level:
            self._at_level(text, character)
            if self.end is not None or self.refused:
                return False
        if character in "\"'":
            self._quote, self._string_at = character, self._at
        elif character in "{[}]":
            self._bracket(text, character)
        self._at += 1
        return True

    def _bracket(self, text: str, character: str) -> None:
        if character in "{[":
            self._depth += 1
            if self._depth == self.level:
                self._wants = "key"
            return
        self._depth -= 1
        if self._depth == 0:
            self.end = self._at + 1
        elif self._depth == self.level and self._wants == "end":
            self._wants = "comma"
            self.value_end(text, self._key, self._value_at, self._at + 1)

    def _at_level(self, text: str, character: str) -> None:
        match self._wants:
            case "key" if character not in "\"'}":
                self.unexpected(self._at)
            case "colon":
                if character == ":":
                    self._wants = "value"
                else:
                    self.unexpected(self._at)
            case "value":
                self._value_at = self._at
                self._wants = "end"
                self.value(self._key, self._at, character)
            case "end" if character in ",}":  # a number or a word has no end of its own
                self.value_end(text, self._key, self._value_at, self._at)
                self._wants = "key"
            case "comma" if character == ",":
                self._wants = "key"
            case "comma" if character != "}":
                self.unexpected(self._at)

    def _string_ended(self, text: str) -> None:
        if self._wants == "key":
            self._key = text[self._string_at + 1 : self._at - 1]
            self._wants = "colon"
            self.key(self._key)
        elif self._wants == "end":
            self._wants = "comma"
            self.value_end(text, self._key, self._value_at, self._at)
