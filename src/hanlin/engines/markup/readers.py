"""Read one call from its first character on, in each of the ways in which calls are written.

A reader is handed the text from the start of the call's block again and again, longer every time, and remembers how far
it has come. It knows nothing of what stands around the call.
"""

import json
import re
from typing import Any, Protocol

import msgspec

from hanlin.engines.markup.forms import ARGUMENT_KEYS, CALL_KEYS, CLOSES, NAME_KEYS, Headed, Tagged, either, prefixes
from hanlin.engines.markup.pieces import Called, CallOpened, Cut, Piece, Unreadable
from hanlin.engines.markup.repair import repaired
from hanlin.engines.markup.scan import ObjectScan

_CLOSE = re.compile(either(CLOSES))
_PARTS_OF_CLOSES = prefixes(CLOSES)
_LONGEST_TAG = 320  # tags are looked for this far back when more text has come; keys and names are shorter


class Reader(Protocol):
    """`end` is where the call ends, None while it goes on. `refused`: it is no call, and its text is text.

    `open_call` is the name of the call whose arguments another may write. `fenced`: a Markdown fence was opened on the
    way, to be closed after the call.
    """

    end: int | None
    refused: bool
    fenced: bool

    @property
    def open_call(self) -> str | None: ...

    def read(self, text: str, *, ended: bool) -> list[Piece]: ...


def object_text(written: str) -> str | None:
    """Return `written` as the JSON text of an object, mended where that is safe; None if it is none.

    A string that holds the object is taken for it; null and an empty string are an object without anything in it.
    """
    try:
        value = msgspec.json.decode(written)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        value = repaired(written)
        if isinstance(value, dict):
            return json.dumps(value, ensure_ascii=False)
        written = ""
    if isinstance(value, dict):
        return written.strip()
    if isinstance(value, str):
        inner = value.strip()
        return "{}" if not inner else object_text(inner) if inner.startswith("{") else None
    return "{}" if value is None and written.strip() == "null" else None


class JsonCall(ObjectScan):
    """Reads `{"name": …, "arguments": {…}}`, in any order. With `names`, what is no call of one of them is refused."""

    def __init__(self, block_at: int, start: int, names: frozenset[str] | None) -> None:
        super().__init__(start, level=1)
        self.fenced = False
        self._block_at = block_at
        self._names = names
        self._name = ""
        self._keys: set[str] = set()
        self._arguments_at: int | None = None
        self._arguments_end: int | None = None
        self._pieces: list[Piece] = []

    @property
    def open_call(self) -> str | None:
        return self._name if self._name and self._arguments_end is None and self.end is None else None

    def read(self, text: str, *, ended: bool) -> list[Piece]:
        self.follow(text, ended=ended)
        if self._names is not None and not self.refused and self.end is None:
            self._refuse_early(text, self._names)
        if not self.refused:
            if self.end is not None:
                self._finish(text, self.end)
            elif ended:
                self._break_off(text)
        pieces, self._pieces = self._pieces, []
        return pieces

    def key(self, key: str) -> None:
        self._keys.add(key)
        self.refused = self._names is not None and key not in CALL_KEYS

    def value(self, key: str, at: int, first: str) -> None:
        if key in ARGUMENT_KEYS and self._arguments_at is None:
            self._arguments_at = at
            self.refused = self._names is not None and first not in "{\"'"
        elif key == "function" and first == "{" and self.level == 1:
            self.level = 2
        elif key in NAME_KEYS:
            self.refused = self._names is not None and first not in "\"'"

    def value_end(self, text: str, key: str, at: int, end: int) -> None:
        if key in ARGUMENT_KEYS and at == self._arguments_at:
            self._arguments_end = end
        elif key in NAME_KEYS and not self._name and text[at] in "\"'":
            # Names that somebody gave us are looked for as they are: early refusal must not depend on what is decoded.
            name = _string(text[at:end]) if self._names is None else text[at + 1 : end - 1]
            if self._names is not None and name not in self._names:
                self.refused = True
            elif name:
                self._open(name)

    def unexpected(self, at: int) -> None:
        if self._name and self._arguments_end is not None:  # only the brace is missing
            self.end, self.broken = at, True
        else:
            self.refused = self._names is not None

    def _open(self, name: str) -> None:
        self._name = name
        self._pieces.append(CallOpened(name, certain=self._names is None))

    def _refuse_early(self, text: str, names: frozenset[str]) -> None:
        """Refuse as soon as a key or a name cannot become one of those that a call has."""
        if (at := self.partial_string_at) is not None:
            begun = text[at + 1 :]
            if self.wants_key:
                self.refused = not any(key.startswith(begun) for key in CALL_KEYS)
            elif self._key in NAME_KEYS and not self._name:
                self.refused = not any(name.startswith(begun) for name in names)

    def _finish(self, text: str, end: int) -> None:
        name, arguments = self._name, self._written_arguments(text)
        if not name or arguments is None:
            name, arguments = self._mended(text[self.start : end], name)
        if self._names is not None and (name not in self._names or arguments is None or not self._has_arguments()):
            self.refused, self.end = True, None
        elif not name or arguments is None:
            self._pieces.append(Unreadable(text[self._block_at : end]))
        else:
            if not self._name:
                self._open(name)
            self._pieces.append(Called(self._name, arguments))

    def _has_arguments(self) -> bool:
        return not self._keys.isdisjoint(ARGUMENT_KEYS)

    def _written_arguments(self, text: str) -> str | None:
        if self._arguments_at is not None and self._arguments_end is not None:
            return object_text(text[self._arguments_at : self._arguments_end])
        return "{}" if not self.broken and self._keys.issubset(CALL_KEYS) and not self._has_arguments() else None

    def _mended(self, written: str, name: str) -> tuple[str, str | None]:
        """Return what the object says when it is read as a whole, mended."""
        value: Any = repaired(written)
        if isinstance(value, dict) and isinstance(value.get("function"), dict):
            value = value["function"]
        if not isinstance(value, dict):
            return name, None
        names = [value[key] for key in NAME_KEYS if isinstance(value.get(key), str)]
        arguments = [value[key] for key in ARGUMENT_KEYS if key in value]
        name = name or (names[0] if names else "")
        if arguments:
            return name, object_text(json.dumps(arguments[0], ensure_ascii=False))
        return name, "{}" if set(value) <= set(CALL_KEYS) else None

    def _break_off(self, text: str) -> None:
        """The generation ended here."""
        self.end = len(text)
        written = self._written_arguments(text) if self._arguments_end is not None else None
        if self._name and written is not None:
            self._pieces.append(Called(self._name, written))
        elif self._name and self._arguments_end is None:
            begun = "" if self._arguments_at is None else _without_part_of_close(text[self._arguments_at :])
            self._pieces.append(Cut(self._name, _inner(begun) if begun[:1] in ('"', "'") else begun))
        elif self._names is None:
            self._pieces.append(Unreadable(text[self._block_at :]))
        else:
            self.refused, self.end = True, None


def _string(written: str) -> str:
    """Decode a whole string, in quotes of either kind; "" if it cannot be."""
    value = repaired(written) if "\\" in written else written[1:-1]
    return value.strip() if isinstance(value, str) else ""


def _inner(begun: str) -> str:
    """Decode a JSON string that has no end yet."""
    whole = re.sub(r"\\(?:u[0-9a-fA-F]{0,3})?\Z", "", re.sub(r"\\\\", "\0", begun)).replace("\0", r"\\")
    value = repaired(whole + begun[0])
    return value if isinstance(value, str) else begun


def _without_part_of_close(written: str) -> str:
    """Leave out the beginning of a closing mark at the end."""
    at = written.rfind("<")
    return written[:at].rstrip("\n") if at >= 0 and written[at:] in _PARTS_OF_CLOSES else written


class HeadedCall:
    """Reads a head with the name, a separator, and the arguments: DeepSeek and Kimi."""

    _AFTER = re.compile(r"\s*(?:```\w*\s*)?")
    _NAME_LINE = re.compile(r"\s*([\w.\-]+)[ \t]*(?=[\n`{<])")

    def __init__(self, form: Headed, block_at: int, head_end: int) -> None:
        self.end: int | None = None
        self.refused = False
        self.fenced = False
        self._form = form
        self._block_at = block_at
        self._at = head_end  # after the mark, then after the name
        self._name = ""
        self._nameless = False
        self._scan: ObjectScan | None = None

    @property
    def open_call(self) -> str | None:
        return self._name if self._name and self.end is None else None

    def read(self, text: str, *, ended: bool) -> list[Piece]:
        pieces: list[Piece] = []
        if self._nameless:
            self._find_close(text)
        elif not self._name:
            self._find_name(text, ended)
            if self._name:
                pieces.append(CallOpened(self._name))
        if self._name and self._scan is None:
            self._find_arguments(text)
        if self._scan is not None:
            self._scan.follow(text, ended=ended)
            self.end = self._scan.end
        if self.end is not None or ended:
            pieces.append(self._outcome(text, self.end))
            self.end = len(text) if self.end is None else self.end
        return pieces

    def _find_close(self, text: str) -> None:
        close = _CLOSE.search(text, self._at)
        self.end = close.start() if close else None

    def _find_name(self, text: str, ended: bool) -> None:
        """Find the name, or that there is none; neither while more text may bring it."""
        close = _CLOSE.search(text, self._at)
        separator = text.find(self._form.separator, self._at, close.start() if close else len(text))
        if separator < 0:
            self._nameless = close is not None
        else:
            head = self._form.name.match(text[self._at : separator])
            name, after = head[1] if head else "", separator + len(self._form.separator)
            if name == self._form.named_later and not text[after:].lstrip().startswith("{"):
                line = self._NAME_LINE.match(text, after)
                if line is None and not ended and re.fullmatch(r"\s*[\w.\-]*[ \t]*", text[after:]):
                    return
                name, after = (line[1], line.end()) if line else ("", after)
            self._name, self._at = name, after
            self._nameless = not name
        if self._nameless:
            self._find_close(text)

    def _find_arguments(self, text: str) -> None:
        between = self._AFTER.match(text, self._at)
        at = between.end() if between else self._at
        self.fenced = "```" in text[self._at : at]
        rest = text[at : at + 1]
        if rest == "{":
            self._scan = ObjectScan(at)
        elif close := _CLOSE.search(text, at):
            self._at = at
            self.end = close.start()

    def _outcome(self, text: str, end: int | None) -> Piece:
        if not self._name:
            return Unreadable(text[self._block_at : end])
        start = self._scan.start if self._scan else self._at
        written = text[start:end].strip()
        if self._scan is None and self._AFTER.fullmatch(written) and end is not None:
            return Called(self._name, "{}")
        if end is not None:
            arguments = object_text(written)
            return Called(self._name, arguments) if arguments is not None else Unreadable(text[self._block_at : end])
        return Cut(self._name, _without_part_of_close(written) if self._scan else "")


class TaggedCall:
    """Reads a call whose parameters stand in tags."""

    open_call: str | None = None  # the arguments are no JSON: nobody else could write them
    fenced = False

    def __init__(self, form: Tagged, block_at: int, start: int, *, bare: bool) -> None:
        self.end: int | None = None
        self.refused = False
        self._form = form
        self._block_at = block_at
        self._start = start
        self._bare = bare
        self._name = ""
        self._body_at = self._before_end = 0
        self._at = start  # everything before is settled
        self._parameter: tuple[str, bool | None, int] | None = None  # key, whether a string, where the value begins
        self._values: dict[str, Any] = {}
        self._texts = False

    def read(self, text: str, *, ended: bool) -> list[Piece]:
        pieces: list[Piece] = []
        if not self._name:
            self._find_name(text, ended, pieces)
        while self._name and self.end is None and (self._value(text) if self._parameter else self._between(text)):
            pass
        if self._name and self.end is not None:
            pieces.append(self._whole(text, self.end))
        elif self._name and ended:
            self.end = len(text)
            pieces.append(self._cut(text))
        return pieces

    def _find_name(self, text: str, ended: bool, pieces: list[Piece]) -> None:
        head = self._form.head.match(text, self._start)
        if head:
            self._name, self._at, self._body_at = head[1], head.end(), head.end()
            pieces.append(CallOpened(self._name))
        elif self._bare and (ended or not self._may_be_head(text)):
            self.refused = True
        elif close := _CLOSE.search(text, self._start):
            self.end = close.start()
            pieces.append(Unreadable(text[self._block_at : self.end]))
        elif ended:
            self.end = len(text)
            pieces.append(Unreadable(text[self._block_at :]))

    def _may_be_head(self, text: str) -> bool:
        begun = text[self._start :]
        return len(begun) < _LONGEST_TAG and not re.search(r"[>\n]|.<", begun)

    def _between(self, text: str) -> bool:
        parameter = self._form.parameter.search(text, self._at)
        end = self._form.ends.search(text, self._at)
        if parameter and (not end or parameter.start() < end.start()):
            kind = parameter[2] if parameter.re.groups > 1 else None
            self._parameter = (parameter[1].strip(), None if kind is None else kind == "true", parameter.end())
            self._at = parameter.end()
            return True
        if end:
            self._before_end = end.start()
            self.end = end.end()
        self._at = max(self._at, len(text) - _LONGEST_TAG)
        return False

    def _value(self, text: str) -> bool:
        assert self._parameter is not None
        key, is_string, start = self._parameter
        found = self._form.value_ends.search(text, self._at)
        if found is None:
            self._at = max(self._at, len(text) - _LONGEST_TAG)
            return False
        self._values[key] = self._typed(self._lines(text[start : found.start()]), is_string)
        self._texts = self._texts or is_string is None
        self._parameter = None
        self._at = found.end()
        return True

    def _lines(self, value: str) -> str:
        return value.removeprefix("\n").removesuffix("\n") if self._form.lines else value

    def _typed(self, value: str, is_string: bool | None) -> Any:
        if is_string is not False:
            return value
        known = repaired(value)
        return known if known is not None or value.strip() == "null" else value

    def _whole(self, text: str, end: int) -> Piece:
        if not self._values:
            body = text[self._body_at : self._before_end].strip()
            if body:  # <function=f>{…}</function>
                arguments = object_text(body) if body.startswith("{") else None
                if arguments is None:
                    return Unreadable(text[self._block_at : end])
                return Called(self._name, arguments)
        return Called(self._name, json.dumps(self._values, ensure_ascii=False), texts=self._texts)

    def _cut(self, text: str) -> Piece:
        written = json.dumps(self._values, ensure_ascii=False)[:-1] if self._values or self._parameter else ""
        if self._parameter:
            key, is_string, start = self._parameter
            value = self._lines(_without_part_of_close(text[start:]))
            written += ", " if self._values else ""
            written += f"{json.dumps(key, ensure_ascii=False)}: "
            written += value if is_string is False else json.dumps(value, ensure_ascii=False)[:-1]
        return Cut(
            self._name, written, texts=self._texts or (self._parameter is not None and self._parameter[1] is None)
        )
