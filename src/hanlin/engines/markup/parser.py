"""Take a generation apart while it comes: thinking, then text and calls.

One parser for the streamed and the unstreamed answer, for all families of models: which form a model uses is seen from
what it writes. Text is held back only while it may be the beginning of a mark.
"""

import re
from collections.abc import Callable, Collection
from typing import Literal

from hanlin.engines.markup.forms import ARGUMENT_TAGS, CLOSES, FENCES, MARKS, Headed, Tagged, either, prefixes
from hanlin.engines.markup.pieces import Piece, Reasoning, Text, Unreadable
from hanlin.engines.markup.readers import HeadedCall, JsonCall, Reader, TaggedCall
from hanlin.engines.markup.thinking import ThinkingBlock

_FREE = tuple(text for text, mark in MARKS.items() if mark.bare)  # marks that count anywhere in a text
_PARTS_OF_FREE = prefixes(_FREE)
_PARTS_OF_MARKS = prefixes(MARKS)
_PARTS_OF_CLOSES = prefixes(CLOSES)
_LONGEST = max(map(len, (*MARKS, *CLOSES))) + 1

_MARK = re.compile(either(MARKS))
_CLOSE = re.compile(either(CLOSES))
_STRAY = re.compile(f"{either(CLOSES)}|(?={either(text for text, mark in MARKS.items() if mark.sure and mark.bare)})")
_SPACE = re.compile(r"\s*")
_MAY_MATTER = re.compile(r"[<\n]|\s\Z")  # a call begins with a mark, or at the beginning of a line
_BEGUN_FENCE = re.compile(r"\n[ \t]*`{1,2}\Z")
_BEGUN_FENCE_AT_START = re.compile(r"(?:\A|\n)[ \t]*`{1,2}\Z")
_FENCE_IN_CALL = re.compile(r"```\w*\s*(?=[{\[])")
_BEGUN_FENCE_IN_CALL = re.compile(r"`{1,3}\w*\s*")
_BEGUN_NAME = re.compile(r"[\w.\-:/]*\s*(?:<[^>]{0,12})?")


def _starts(line: str, *, json: bool) -> re.Pattern[str]:
    """Return the pattern of everything in which a call, or a fence, may begin; `line` is the beginning of a line."""
    at_line = "(?P<fence>```)" + (r"|(?P<json>[{\[])" if json else "")
    return re.compile(rf"(?P<mark>{either(_FREE)})|{line}[ \t]*(?:{at_line})")


_STARTS = {
    (fresh, json): _starts(r"(?:\A|\n)" if fresh else r"\n", json=json)
    for fresh in (False, True)
    for json in (False, True)
}


class MarkupParser:
    """Turns the text of one generation into pieces; the same ones, joined, however the text is cut.

    `tools` are the names that JSON without marks of its own must have to be a call. Without `calls`, the markup of
    calls is text. `thinking`: the generation may begin with a thinking block ("possible"), begins within one that the
    prompt has opened ("open"), or is not looked at for one ("none").
    """

    def __init__(
        self,
        *,
        tools: Collection[str] = (),
        calls: bool = False,
        thinking: Literal["none", "possible", "open"] = "possible",
    ) -> None:
        self._tools = frozenset(tools)
        self._calls = calls
        self._thinking = None if thinking == "none" else ThinkingBlock(inside=thinking == "open")
        self._step: Callable[[MarkupParser], bool] = MarkupParser._text
        self._buffer = ""  # what has not become a piece yet
        self._pieces: list[Piece] = []
        self._ended = False
        self._fresh = True  # nothing but white space since the start, or since a call
        self._in_fence = False  # within a Markdown fence that is text
        self._reader: Reader | None = None
        self._start = 0  # where the block of calls begins in the buffer
        self._at = 0  # how far the block is read
        self._lead = 0  # how much of its beginning is text if it is no call
        self._sure = False  # a mark says that it is one
        self._came = False  # a call has come out of it
        self._closed = False  # and a closing mark after it
        self._fenced = False  # it stands in a Markdown fence, which belongs to it

    def feed(self, text: str) -> list[Piece]:
        """Return what `text` completes."""
        return self._fed(text)

    def close(self) -> list[Piece]:
        """Return what is left at the end of the generation, whether it came to its end or was cut off."""
        self._ended = True
        return self._fed("")

    @property
    def thinks(self) -> bool:
        """Whether what comes next is thinking, as far as is known."""
        return self._thinking is not None and self._thinking.goes_on

    @property
    def open_call(self) -> str | None:
        """The name of the call whose arguments, as JSON, come next or are being written; None otherwise."""
        return self._reader.open_call if self._reader is not None else None

    def call_done(self) -> None:
        """Forget the open call: its arguments were obtained elsewhere.

        No `Called` will come of it; what follows may begin with its closing marks, which are swallowed. Raises
        ValueError if no call is open.
        """
        if self.open_call is None:
            raise ValueError("no call is open")
        self._after_call(len(self._buffer))

    def _fed(self, text: str) -> list[Piece]:
        pieces = self._pieces
        if self._thinking is not None:
            reasoning, text = self._thinking.feed(text, ended=self._ended)
            if reasoning:
                pieces.append(Reasoning(reasoning))
            if self._thinking.over:
                self._thinking = None
        if not self._calls or (
            not self._buffer and self._step is _TEXT and not self._fresh and not _MAY_MATTER.search(text)
        ):
            if text:
                pieces.append(Text(text))
        elif text or self._ended:
            self._buffer += text
            while self._step(self):
                pass
        self._pieces = []
        return pieces

    def _say(self, end: int) -> None:
        """Make the first `end` characters of the buffer text."""
        said, self._buffer = self._buffer[:end], self._buffer[end:]
        if not said:
            return
        if not said.isspace():
            self._fresh = self._fenced = False
        if self._pieces and isinstance(last := self._pieces[-1], Text):
            self._pieces[-1] = Text(last.text + said)
        else:
            self._pieces.append(Text(said))

    # Every step does a part of the work on the buffer. It returns false when it needs more text.

    def _text(self) -> bool:
        """Say what is text up to the next place where a call may begin."""
        buffer = self._buffer
        found = _STARTS[self._fresh, bool(self._tools) and not self._in_fence].search(buffer)
        if found is None:
            self._say(self._certain())
            return False
        kind = found.lastgroup or "mark"
        start, kept = found.start(kind), len(buffer[: found.start(kind)].rstrip())
        if kind == "fence" and self._in_fence:
            self._in_fence = False
            self._say(found.end())
            return True
        self._say(kept)
        mark = MARKS[found[kind]] if kind == "mark" else None
        self._start, self._lead = start - kept, len(found[kind])
        self._at = self._start + (self._lead if mark and mark.reads is None else 0)
        self._sure = mark is not None and mark.sure
        self._came = self._closed = False
        self._step = MarkupParser._fence if kind == "fence" else MarkupParser._inside
        return True

    def _certain(self) -> int:
        """Return up to where the buffer, in which no call begins, is text for certain."""
        buffer = self._buffer
        if self._ended:
            return len(buffer)
        end = len(buffer)
        mark_at = buffer.rfind("<")
        if mark_at >= 0 and buffer[mark_at:] in _PARTS_OF_FREE:
            end = mark_at
        elif begun := (_BEGUN_FENCE_AT_START if self._fresh else _BEGUN_FENCE).search(buffer):
            end = begun.start()
        return len(buffer[:end].rstrip())

    def _fence(self) -> bool:
        """Decide by its language whether a Markdown fence may hold a call."""
        line, newline, _ = self._buffer[self._start + 3 :].partition("\n")
        language = line.strip().lower()
        if newline and language in FENCES:
            self._at = self._start + 3 + len(line) + 1
            self._fenced = True
            self._step = MarkupParser._inside
            return True
        if not newline and not self._ended and any(known.startswith(language) for known in FENCES):
            return False
        self._in_fence = True
        return self._refuse()

    def _refuse(self) -> bool:
        """The block is no call: its beginning is text, the rest is looked at anew."""
        if self._fenced:
            self._fenced, self._in_fence = False, True
        self._step = _TEXT
        self._say(self._start + self._lead)
        return True

    def _inside(self) -> bool:
        """Find the next call of the block, or what closes it."""
        space = _SPACE.match(self._buffer, self._at)
        self._at = space.end() if space else self._at
        if self._came:
            self._buffer = self._buffer[self._at :]
            self._at, self._lead = 0, 1
        buffer = self._buffer
        rest = buffer[self._at : self._at + _LONGEST]
        if not rest and not self._ended:
            return False
        if self._came and rest and (stepped := self._closing(rest)) is not None:
            return stepped
        if rest and (stepped := self._opening(rest)) is not None:
            return stepped
        if self._came:
            self._step, self._fresh = _TEXT, True
            if self._ended and buffer in _PARTS_OF_CLOSES:
                self._buffer = ""
            return bool(self._buffer)
        if self._sure:
            self._step = MarkupParser._unreadable
            return True
        return self._refuse()

    def _closing(self, rest: str) -> bool | None:
        """Swallow what closes a call; None if `rest` is something else."""
        if close := _CLOSE.match(rest):
            self._closed = True
            self._at += close.end()
        elif self._fenced and rest.startswith("```"):
            self._closed, self._fenced = True, False
            self._at += 3
        elif not self._closed and rest[0] in "}],":
            self._at += 1
        elif not self._ended and (rest in _PARTS_OF_CLOSES or (self._fenced and rest in ("`", "``"))):
            return False
        else:
            return None
        return True

    def _opening(self, rest: str) -> bool | None:
        """Begin to read a call, or step over a mark around it; None if `rest` begins neither."""
        if found := _MARK.match(rest):
            mark = MARKS[found.group()]
            if self._came and mark.reads is None:
                return None  # a block of its own
            self._sure = self._sure or mark.sure
            if isinstance(mark.reads, Tagged):
                bare = self._at == self._start and not self._came
                return self._read(TaggedCall(mark.reads, self._start, self._at, bare=bare))
            if isinstance(mark.reads, Headed):
                return self._read(HeadedCall(mark.reads, self._start, self._at + found.end()))
            self._at += found.end()
            return True
        if not self._ended and rest in _PARTS_OF_MARKS:
            return False
        if rest[0] == "[" and not self._came:
            self._at += 1
            return True
        if rest[0] == "{" and not self._closed and (self._sure or self._tools):
            return self._read(JsonCall(self._start, self._at, None if self._sure else self._tools))
        return self._opening_in_mark() if self._sure and not self._came else None

    def _opening_in_mark(self) -> bool | None:
        """Begin to read what is a call only because a mark stands before it."""
        if fence := _FENCE_IN_CALL.match(self._buffer, self._at):
            self._fenced = True
            self._at = fence.end()
            return True
        if ARGUMENT_TAGS.head.match(self._buffer, self._at):
            return self._read(TaggedCall(ARGUMENT_TAGS, self._start, self._at, bare=False))
        written = self._buffer[self._at :]
        if not self._ended and (_BEGUN_FENCE_IN_CALL.fullmatch(written) or _BEGUN_NAME.fullmatch(written)):
            return False
        return None

    def _read(self, reader: Reader) -> bool:
        self._reader = reader
        self._step = MarkupParser._reading
        return True

    def _reading(self) -> bool:
        """Let the reader read on."""
        reader = self._reader
        assert reader is not None
        self._pieces += reader.read(self._buffer, ended=self._ended)
        if reader.refused:
            self._reader = None
            return self._refuse()
        if reader.end is None:
            return False
        self._after_call(reader.end)
        return True

    def _unreadable(self) -> bool:
        """Pass over a block that is no call, up to a closing mark, another call, or the end."""
        end = _STRAY.search(self._buffer, max(self._start + self._lead, self._at - _LONGEST))
        self._at = len(self._buffer)
        if end is None and not self._ended:
            return False
        at = end.end() if end else len(self._buffer)
        self._pieces.append(Unreadable(self._buffer[self._start : at]))
        self._after_call(at)
        return True

    def _after_call(self, end: int) -> None:
        self._fenced = self._fenced or (self._reader is not None and self._reader.fenced)
        self._reader = None
        self._buffer = self._buffer[end:]
        self._start = self._at = 0
        self._came, self._closed = True, False
        self._step = MarkupParser._inside


_TEXT = MarkupParser._text
