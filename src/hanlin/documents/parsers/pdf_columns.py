"""Pages in two columns whose lines were written straight across: each column is put together again.

Most programs write one column after the other, and nothing is to be done. Where they write line by line, both columns
look like one text with a gap in it. So do tables without rules, whose rows must stay whole: only columns that are full
of text are taken apart.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hanlin.documents.parsers import pdf_lines
from hanlin.documents.parsers.pdf_lines import Line

_SAMPLE = 5
_FEW = 3
_FULL = 0.75
_SIDE_CHARACTERS = 8
_WOVEN = 0.7  # of the lines that reach over the middle of the page have their gap there

Gutter = tuple[float, float]


def unwoven(textpage: Any, lines: Sequence[Line]) -> Sequence[Line]:
    """Return the lines in the order of reading; lines across both columns stay where they are."""
    gutter = _gutter(textpage, lines)
    if gutter is None:
        return lines
    middle = sum(gutter) / 2
    across = [line for line in lines if line.left < middle < line.right]
    if sum(len(_parts(textpage, line, middle)) == 2 for line in across) < _WOVEN * len(across):
        return lines
    ordered: list[Line] = []
    left: list[Line] = []
    right: list[Line] = []
    for line in lines:
        parts = _parts(textpage, line, middle)
        if len(parts) == 2:
            left.append(parts[0])
            right.append(parts[1])
        elif left and line.right <= middle:
            left.append(line)
        elif left and line.left >= middle:
            right.append(line)
        else:
            ordered += [*left, *right, line]
            left, right = [], []
    return [*ordered, *left, *right]


def _gutter(textpage: Any, lines: Sequence[Line]) -> Gutter | None:
    """Return the empty strip down the middle of a page of woven columns, None when it is no such page."""
    if len(lines) < _FEW:
        return None
    widest = sorted(lines, key=lambda line: line.left - line.right)[:_SAMPLE]
    strips = [(line, gap) for line in widest if " " in line.text for gap in pdf_lines.gaps(textpage, line)[:1]]
    if len(strips) < _FEW:
        return None
    start, end = max(gap[1] for _, gap in strips), min(gap[2] for _, gap in strips)
    full = [
        line
        for line, (at, gap_start, _) in strips
        if gap_start - line.left > _FULL * (start - line.left) and min(at, len(line.text) - at) >= _SIDE_CHARACTERS
    ]
    return (start, end) if end - start > 0 and len(full) >= _FEW else None


def _parts(textpage: Any, line: Line, middle: float) -> list[Line]:
    """Return the two halves of a line that has a gap in the middle, or the line itself."""
    if line.left < middle < line.right:
        for at, start, end in pdf_lines.gaps(textpage, line):
            if start <= middle <= end:
                before, after = line.text[:at].rstrip(), line.text[at:].lstrip()
                return [replace(line, text=before, right=start), replace(line, text=after, left=end, first=-1)]
    return [line]


__all__ = ["unwoven"]
