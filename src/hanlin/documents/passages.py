"""Cut pages into passages: pieces that can be read by themselves, small enough that several fit into a prompt.

Pure, and a stream: pages are read as they come and a passage leaves when it is full, so that a document of any length
takes the memory of a few pages. Text is cut where its author did: at headings, around tables, between paragraphs, and
inside what is too long for one passage at the ends of sentences.
"""

import re
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from hanlin.documents.values import Page, Passage

_UNIT = 36
_CHARACTER, _BYTE_BEYOND = 8, 20
"""Sizes are counted in 36ths of a token, to stay with whole numbers: 4.5 Latin letters or three quarters of a Chinese
character are a token. By that measure 400 to 800 tokens are 300 to 600 Chinese characters."""

_PATH = " › "
_TITLE_CHARS, _LEVELS = 80, 4

_BLANKS = re.compile(r"\n[ \t]*(?:\n[ \t]*)+")

_BORDER = re.compile(
    r"^(?:"
    r"(?P<marks>\#{1,6})[ \t]+(?P<title>\S.{0,198}?)[ \t\#]*$"
    r"|(?P<part>(?:第[\d〇零一二三四五六七八九十百]{1,6}[篇编部章]|附[录件]"
    r"|(?i:part|chapter|appendix|annex)\ [\dIVXLCivxlc]{1,6}\b)[^\n。！？；!?;，,]{0,80})$"
    r"|(?P<section>第[\d〇零一二三四五六七八九十百]{1,6}节[^\n。！？；!?;，,]{0,80})$"
    r"|(?P<table>[ \t]*\|.*(?:\n[ \t]*\|.*)+)$"
    r"|(?P<code>```[^\n]*\n(?:.*\n)*?```[ \t]*)$"
    r")",
    re.MULTILINE | re.VERBOSE,
)
"""What stands in a page beside its paragraphs: headings, marked as such or by their first word, tables and code."""

_SENTENCE_END = re.compile(r"[。！？!?；;…]+[”’」』）)\"']*\s*|\.[”’)\"']*\s+|\n\s*\n")
_LINE_END = re.compile(r"\n+")
_CLAUSE_END = re.compile(r"[，,、：:]\s*|\s+")
_ENDS: tuple[re.Pattern[str], ...] = (_SENTENCE_END, _LINE_END, _CLAUSE_END)
"""Where text may be cut, from the best place to the worst; when none of them helps it is cut anywhere."""

_TABLE_HEAD = re.compile(r"[ \t]*\|.*\n[ \t]*\|[ \t:|-]+(?:\n|$)")


class Sizes(msgspec.Struct, frozen=True, gc=False):
    """How large passages are, in tokens: one is closed from `least` on where the text allows it, should not have more
    than `good`, and never has more than `most`. Up to `shared` of them are the last sentences of the passage before.
    """

    least: int = 400
    good: int = 600
    most: int = 800
    shared: int = 90


class _Piece(msgspec.Struct, gc=False):
    """A part of a page that is left whole. `glue` stands before it when it is not the first of a passage.

    `level` is that of a heading, 0 of everything else; `head` are the first rows of the table that a row belongs to;
    `is_prose`: the next passage may repeat its last sentences.
    """

    page: int
    text: str
    units: int
    glue: str = "\n"
    level: int = 0
    head: str = ""
    is_prose: bool = False


def passages(pages: Iterable[Page], sizes: Sizes | None = None) -> Iterator[Passage]:
    """Yield the passages of pages in their order, numbered from 0.

    Every character of the pages that is not blank is in some passage, in its order. What a passage has beyond that is
    repeated: the last sentences of the passage before it, unless a heading parts the two, and the head of a table that
    had to be cut. Blank pages yield nothing.
    """
    sizes = sizes or Sizes()
    packer = _Packer(sizes)
    for page in pages:
        for piece in _pieces(page, sizes):
            yield from packer.take(piece)
    yield from packer.close()


def size_tokens(text: str) -> int:
    """Return about how many tokens a text is, by the measure of `Sizes`."""
    return -(-_units(text) // _UNIT)


def _units(text: str) -> int:
    size = _CHARACTER * len(text)
    if text.isascii():
        return size
    return size + _BYTE_BEYOND * (len(text.encode("utf-8", "replace")) - len(text))


class _Packer:
    """Fills one passage after the other with pieces."""

    def __init__(self, sizes: Sizes) -> None:
        self._least, self._good, self._most = sizes.least * _UNIT, sizes.good * _UNIT, sizes.most * _UNIT
        self._shared = sizes.shared * _UNIT
        self._number = 0
        self._path: list[tuple[int, str]] = []  # the headings above what comes next, with their levels
        self._pieces: list[_Piece] = []
        self._units = 0
        self._is_fresh = False  # it has more than what was repeated for it
        self._has_text = False  # and more than headings
        self._crumbs = ""
        self._level = 0

    def take(self, piece: _Piece) -> Iterator[Passage]:
        """Put a piece into the passage, and yield that one first if the piece belongs into the next."""
        if piece.level:
            if self._ends_at(piece.level):
                yield from self.leave(shares=False)
            self._enter(piece)
        while self._is_fresh and self._is_full(piece.units):
            yield from self.leave(shares=not piece.head)
        if not self._is_fresh:
            if self._units + piece.units + _units(piece.head) > self._most:
                self._forget()
            if piece.head and not piece.text.startswith(piece.head):
                self._add(_Piece(piece.page, piece.head, _units(piece.head)))
        self._add(piece)
        self._is_fresh, self._has_text = True, self._has_text or not piece.level

    def leave(self, *, shares: bool) -> Iterator[Passage]:
        """Yield what there is as a passage. The next one begins with its last sentences where it `shares` them, and
        with a heading that came last: that one belongs to what follows."""
        if not self._is_fresh:
            return
        carried = self._trailing_headings()
        kept = self._pieces[: len(self._pieces) - len(carried)]
        text = "".join([piece.glue + piece.text if place else piece.text for place, piece in enumerate(kept)])
        yield Passage(self._number, kept[0].page, kept[-1].page, self._crumbs, text.strip("\n"))
        self._number += 1
        self._forget()
        for piece in carried or (self._tail(kept) if shares else ()):
            self._add(piece)
        self._is_fresh = bool(carried)

    def close(self) -> Iterator[Passage]:
        """Yield what is left."""
        while self._is_fresh:
            yield from self.leave(shares=False)

    def _is_full(self, more: int) -> bool:
        total = self._units + more
        return total > self._most or (self._units >= self._least and total > self._good)

    def _forget(self) -> None:
        self._pieces, self._units, self._is_fresh, self._has_text = [], 0, False, False

    def _add(self, piece: _Piece) -> None:
        if not self._has_text:  # what is repeated is not the passage's own, and headings may follow each other
            self._crumbs = _PATH.join([title for _level, title in self._path])
            self._level = self._path[-1][0] if self._path else 0
        self._pieces.append(piece)
        self._units += piece.units

    def _ends_at(self, level: int) -> bool:
        """Say whether the passage is large enough to end at a heading; half as large will do before a new chapter."""
        return self._units >= (self._least if level > self._level else self._least // 2)

    def _enter(self, heading: _Piece) -> None:
        while self._path and self._path[-1][0] >= heading.level:
            self._path.pop()
        title = heading.text.strip().lstrip("#").strip(" \t#*")[:_TITLE_CHARS]
        self._path = [*self._path[-(_LEVELS - 1) :], (heading.level, title)]

    def _trailing_headings(self) -> list[_Piece]:
        found = len(self._pieces)
        while found and self._pieces[found - 1].level:
            found -= 1
        carried = self._pieces[found:]
        return carried if found and sum([piece.units for piece in carried]) <= self._least // 2 else []

    def _tail(self, pieces: Sequence[_Piece]) -> list[_Piece]:
        """Return the last sentences of a passage, as many as there is room for; none of a table or of code."""
        kept: list[_Piece] = []
        room = self._shared
        for piece in reversed(pieces):
            if not piece.is_prose or piece.units > room:
                break
            kept.append(piece)
            room -= piece.units
        if not kept and pieces[-1].is_prose:
            text = self._end_of(pieces[-1].text)
            kept = [_Piece(pieces[-1].page, text, _units(text), is_prose=True)] if text else []
        return kept[::-1]

    def _end_of(self, text: str) -> str:
        """Return the end of a long piece, from the beginning of a sentence on if there is one near, or of a line."""
        near = text[-(self._shared // _CHARACTER) :]
        for end in _ENDS:
            for match in end.finditer(near):
                if match.end() < len(near) and _units(near[match.end() :]) <= self._shared:
                    return near[match.end() :]
        return ""


def _pieces(page: Page, sizes: Sizes) -> Iterator[_Piece]:
    text, number, place = page.text, page.number, 0
    for border in _BORDER.finditer(text):
        if border.start() > place:
            yield from _paragraphs(text[place : border.start()], number, sizes)
        place = border.end()
        found = border.group()
        kind = border.lastgroup
        if kind == "table":
            yield from _table(found, number, sizes)
        elif kind == "code":
            yield from _lines(found, number, sizes)
        else:
            level = len(border["marks"]) if kind == "title" else 1 if kind == "part" else 2
            yield _Piece(number, found, _units(found), level=level)
    if place < len(text):
        yield from _paragraphs(text[place:] if place else text, number, sizes)


def _paragraphs(text: str, page: int, sizes: Sizes) -> Iterator[_Piece]:
    for paragraph in _BLANKS.split(text):
        whole = paragraph.strip()
        if not whole:
            continue
        units = _units(whole)
        if units <= sizes.good * _UNIT:
            yield _Piece(page, whole, units, is_prose=True)
            continue
        glue = "\n"
        for part in _cut(whole, sizes.good * _UNIT // 2, _ENDS):
            yield _Piece(page, part, _units(part), glue, is_prose=True)
            glue = ""


def _table(text: str, page: int, sizes: Sizes) -> Iterator[_Piece]:
    units = _units(text)
    if units <= sizes.most * _UNIT:
        yield _Piece(page, text, units)
        return
    match = _TABLE_HEAD.match(text)
    head = match.group() if match and _units(match.group()) <= sizes.shared * _UNIT else ""
    yield from _lines(text, page, sizes, head)


def _lines(text: str, page: int, sizes: Sizes, head: str = "") -> Iterator[_Piece]:
    """Yield the lines of a table or of code; `head` is the part of a table that is repeated above its rows."""
    units = _units(text)
    if units <= sizes.most * _UNIT:
        yield _Piece(page, text, units)
        return
    rest = text[len(head) :]
    first, glue = head, "\n"
    for line in rest.splitlines(keepends=True):
        for part in _cut(line, (sizes.most - sizes.shared) * _UNIT - _units(first), _ENDS[2:]):
            yield _Piece(page, first + part, _units(first + part), glue, head=head)
            first, glue = "", ""


def _cut(text: str, most: int, ends: Sequence[re.Pattern[str]]) -> Iterator[str]:
    """Yield the parts of a text in order, each of `most` units at most, cut at the first kind of end that allows it."""
    if _units(text) <= most:
        yield text
        return
    if not ends:
        step = max(most // (_CHARACTER + 3 * _BYTE_BEYOND), 1)
        yield from [text[start : start + step] for start in range(0, len(text), step)]
        return
    place = 0
    for end in [*[match.end() for match in ends[0].finditer(text)], len(text)]:
        part = text[place:end]
        place = end
        if part:
            yield from _cut(part, most, ends[1:])


__all__ = ["Sizes", "passages", "size_tokens"]
