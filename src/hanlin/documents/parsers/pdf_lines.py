"""The lines of a PDF page, and what they are: headings, paragraphs, items of lists, in the order of reading.

A PDF says where each character stands and how large it is, no more. What belongs together is judged by that.
"""

import ctypes
import math
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

import pypdfium2.raw as pdfium

from hanlin.documents.parsers import flow

_HEADING = 1.12  # times the size of the text around it
_HEADING_CHARACTERS = 120
_LEVELS = 4
_COLUMN_INDENT = 5.0  # times its size: what begins further to the right is another column
_BULLET = re.compile(r"[•●○■□◆◇▪▫‣⁃]\s*\S|[-–—*·]\s+\S")
_NUMBERED = re.compile(
    r"[(（]?(?:\d{1,3}|[a-zA-Z]|[ivxIVX]{1,4}|[一二三四五六七八九十]{1,3})(?:[)）、．]|\.(?!\d))\s*\S|[①-⑳]"
    r"|第[一二三四五六七八九十百零\d]{1,5}[条章节款编部]|\d+(?:\.\d+)+\s"
)
_BULLETS = "•●○■□◆◇▪▫‣⁃·"
_BLANKS = re.compile(r"\s+")
_WIDE_GAP = 0.9  # times its size: no space between two words is so wide
_LINE_END = re.compile("[\ufffe\x02](?:\r\n)?|\r\n")  # the first two say that a word goes on in the next line
_LEADERS = re.compile(r"(?:\.\s?){4,}\s*[\divxlc]+$|[…·]{2,}\s*[\divxlc]+$")  # a line of a table of contents
_SENTENCE_END = re.compile(r"[。！？.!?：:；;”\"）)]$")


@dataclass(frozen=True, slots=True)
class Line:
    """A line of text and the box that it stands in: points, from the lower left corner of the page.

    `size` is that of its letters; `first` is where its text begins in the text of the page.
    """

    text: str
    left: float
    bottom: float
    right: float
    top: float
    size: float = 0.0
    first: int = -1

    @property
    def middle(self) -> tuple[float, float]:
        return (self.left + self.right) / 2, (self.bottom + self.top) / 2


@dataclass(frozen=True)
class Sizes:
    """How large the letters of a document are: those of its text, and those above it, the largest first."""

    text: float
    larger: tuple[float, ...] = ()

    def level(self, line: Line) -> int:
        """Return a line's level as a heading, 0 when it is none."""
        if line.size < self.text * _HEADING or len(line.text) > _HEADING_CHARACTERS:
            return 0
        return min(1 + sum(size > line.size * 1.04 for size in self.larger), _LEVELS)


def text_of(textpage: Any) -> str:
    """Return the text of a page as PDFium has it: lines end with a carriage return and a line feed."""
    count = pdfium.FPDFText_CountChars(textpage)
    if count <= 0:
        return ""
    buffer = ctypes.create_string_buffer(2 * (count + 1) * 2)  # beyond the basic plane a character takes four bytes
    written = pdfium.FPDFText_GetText(textpage, 0, count, ctypes.cast(buffer, ctypes.POINTER(ctypes.c_ushort)))
    return buffer.raw[: 2 * max(written - 1, 0)].decode("utf-16-le", "replace")


def lines_of(textpage: Any, text: str) -> list[Line]:
    """Return the lines of a page that have any text. One that ends within a word ends with the mark of that."""
    lines, at = [], 0
    box, start = pdfium.FS_RECTF(), pdfium.FS_RECTF()
    for end in (*_LINE_END.finditer(text), None):
        raw = text[at : end.start() if end is not None else None]
        stripped = raw.strip()
        if stripped:
            first = at + len(raw) - len(raw.lstrip())
            last = first + len(stripped) - 1
            divided = "\ufffe" if end is not None and end[0][0] in "\ufffe\x02" else ""
            if _box(textpage, first, start) and _box(textpage, last, box):
                bottom, top = min(start.bottom, box.bottom), max(start.top, box.top)
                left, right = min(start.left, box.left), max(start.right, box.right)
                size = _size(textpage, text, (first + last) // 2, first)
                lines.append(Line(stripped + divided, left, bottom, right, top, size, first))
            else:
                lines.append(Line(stripped + divided, 0, 0, 0, 0))
        at = end.end() if end is not None else at
    return lines


def _size(textpage: Any, text: str, index: int, first: int) -> float:
    """Return the size of the letter at or before a place in the text."""
    while index > first and text[index].isspace():
        index -= 1
    at = pdfium.FPDFText_GetCharIndexFromTextIndex(textpage, index)
    matrix = pdfium.FS_MATRIX()
    if at < 0 or not pdfium.FPDFText_GetMatrix(textpage, at, matrix):
        return 0.0
    return round(float(pdfium.FPDFText_GetFontSize(textpage, at)) * math.hypot(matrix.c, matrix.d), 2)


def _box(textpage: Any, index: int, box: Any) -> bool:
    at = pdfium.FPDFText_GetCharIndexFromTextIndex(textpage, index)
    return at >= 0 and bool(pdfium.FPDFText_GetLooseCharBox(textpage, at, box))


def gaps(textpage: Any, line: Line) -> list[tuple[int, float, float]]:
    """Return the wide gaps within a line: where in its text, and from where to where on the page."""
    found = []
    before, after = pdfium.FS_RECTF(), pdfium.FS_RECTF()
    for blank in _BLANKS.finditer(line.text):
        start, end = line.first + blank.start() - 1, line.first + blank.end()
        both = _box(textpage, start, before) and _box(textpage, end, after)
        if both and after.left - before.right > _WIDE_GAP * line.size:
            found.append((blank.start(), before.right, after.left))
    return found


def sizes_of(lines: Sequence[Line]) -> Sizes:
    """Return how large letters are, of lines that come from all over a document."""
    counts = Counter[float]()
    for line in lines:
        counts[round(line.size * 2) / 2] += len(line.text)
    if not counts:
        return Sizes(1e9)
    text = counts.most_common(1)[0][0]
    larger = sorted((size for size in counts if size >= text * _HEADING), reverse=True)
    distinct: list[float] = []
    for size in larger:
        if not distinct or size < distinct[-1] * 0.94:
            distinct.append(size)
    return Sizes(text, tuple(distinct[:_LEVELS]))


def blocks(lines: Sequence[Line], sizes: Sizes) -> Iterator[tuple[Line, str]]:
    """Yield paragraphs and headings as Markdown, each with its first line."""
    margins = _Margins.of(lines)
    held: list[Line] = []
    for line in lines:
        if held and not _goes_on(held, line, sizes, margins):
            yield held[0], _written(held, sizes)
            held = []
        held.append(line)
    if held:
        yield held[0], _written(held, sizes)


@dataclass(frozen=True)
class _Margins:
    """Where the lines of each column of a page begin and end, and how far most lines are apart."""

    starts: tuple[float, ...]
    sides: tuple[tuple[float, float], ...]
    leading: float

    @classmethod
    def of(cls, lines: Sequence[Line]) -> "_Margins":
        steps = [above.bottom - below.bottom for above, below in pairwise(lines)]
        ahead = [step for step in steps if step > 0.5]
        starts: list[float] = []
        columns: list[list[Line]] = []
        for line in sorted(lines, key=lambda line: line.left):
            if not columns or line.left - columns[-1][-1].left > _COLUMN_INDENT * max(line.size, 1):
                starts.append(line.left)
                columns.append([])
            columns[-1].append(line)
        sides = [
            (Counter(round(line.left) for line in column).most_common(1)[0][0], max(line.right for line in column))
            for column in columns
        ]
        return cls(tuple(starts), tuple(sides), median(ahead) if ahead else 0.0)

    def around(self, line: Line) -> tuple[float, float]:
        """Return the left and the right margin of the column that a line stands in."""
        return self.sides[max(bisect_right(self.starts, line.left) - 1, 0)]


def _goes_on(held: Sequence[Line], line: Line, sizes: Sizes, margins: _Margins) -> bool:
    """Say whether a line belongs to the paragraph before it."""
    last = held[-1]
    level = sizes.level(last)
    if level != sizes.level(line) or _BULLET.match(line.text) or _LEADERS.search(last.text):
        return False
    if _NUMBERED.match(line.text) and (_SENTENCE_END.search(last.text) or _ended_early(last, line, margins)):
        return False
    if level:
        return abs(last.bottom - line.bottom) < 2.2 * last.size and len(held) < 3
    step = last.bottom - line.bottom
    if step < -line.size:  # another column, or the text goes on above
        return not _SENTENCE_END.search(last.text)
    if step > max(1.4 * margins.leading, 0.1) or abs(last.size - line.size) > 0.25 * last.size:
        return False
    indent = line.left - margins.around(line)[0]
    if 0.9 * sizes.text < indent < 5 * sizes.text and abs(line.left - last.left) > 1 and not _is_item(held[0]):
        return False
    return not _ended_early(last, line, margins)


def _is_item(line: Line) -> bool:
    return bool(_BULLET.match(line.text) or _NUMBERED.match(line.text))


def _ended_early(last: Line, line: Line, margins: _Margins) -> bool:
    """Say whether the next line's first word would have had room on a line: then its end was meant."""
    width = (line.right - line.left) * len(flow.first_word(line.text)) / max(len(line.text), 1)
    return margins.around(last)[1] - last.right > width + 1.5 * last.size


def _written(lines: Sequence[Line], sizes: Sizes) -> str:
    text = flow.joined(line.text for line in lines)
    if level := sizes.level(lines[0]):
        return flow.heading(text, level)
    if text[:1] in _BULLETS and len(text) > 1:
        return f"- {text[1:].lstrip()}"
    return text


__all__ = ["Line", "Sizes", "blocks", "gaps", "lines_of", "sizes_of", "text_of"]
