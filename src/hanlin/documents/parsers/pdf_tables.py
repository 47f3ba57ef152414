"""The tables of a PDF page that are drawn with rules: the rules make cells, and the cells take the text within them."""

import ctypes
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pypdfium2.raw as pdfium

from hanlin.documents.parsers import flow

_OBJECTS = 20_000
_SEGMENTS = 4_000
_RULES = 3_000
_FORMS = 4  # drawings within drawings
_SHORT = 6.0  # points: no rule of a table is shorter
_STRAIGHT = 1.0
_NEAR = 3.0  # rules this near to one another are the two sides of one
_CELLS = 6_000
_TITLES = 3
_FILLED = 0.2  # a drawing with less text in its cells is a diagram

Matrix = tuple[float, float, float, float, float, float]
_UNMOVED: Matrix = (1, 0, 0, 1, 0, 0)


@dataclass(frozen=True, slots=True)
class Rule:
    """A straight line: at `at` across, from `start` to `end` along."""

    at: float
    start: float
    end: float


@dataclass(frozen=True)
class Ruled:
    """A table: its rows, the places of the rules between its columns, and the box that it stands in."""

    rows: Sequence[Sequence[str]]
    xs: Sequence[float]
    bottom: float
    top: float

    @property
    def left(self) -> float:
        return self.xs[0]

    @property
    def right(self) -> float:
        return self.xs[-1]

    @property
    def text(self) -> str:
        """The table as Markdown, without columns that nothing stands in."""
        kept = [column for column in range(len(self.xs) - 1) if any(row[column] for row in self.rows)]
        return flow.table([[row[column] for column in kept] for row in self.rows])

    @property
    def head(self) -> Sequence[Sequence[str]]:
        """The rows of the header: below titles, and two where the second belongs to it."""
        rows = [row for at, row in enumerate(self.rows) if at >= _TITLES or not flow.is_title(row)]
        two = len(rows) > 1 and flow.with_second(dict(enumerate(rows[0])), dict(enumerate(rows[1]))) is not None
        return rows[: 1 + two]

    def holds(self, x: float, y: float) -> bool:
        return self.left - 1 <= x <= self.right + 1 and self.bottom - 1 <= y <= self.top + 1


def tables(page: Any, text_in: Callable[[float, float, float, float], str]) -> list[Ruled]:
    """Return the tables of a page from its top down. `text_in` reads a box: left, bottom, right, top."""
    across, down = _rules(page)
    if len(across) < 2 or len(down) < 2:
        return []
    across, down = _merged(across), _merged(down)
    found = [_table(*group, text_in) for group in _groups(across, down)]
    return sorted(filter(None, found), key=lambda table: -table.top)


def continued(table: Ruled, before: Ruled) -> Ruled:
    """Return a table that begins a page, with the header of the one that ended the page before where it goes on.

    It does where its columns are the same to the point, and it begins with no header: with figures, where the other
    has any. Programs that repeat the header on each page say so by doing it.
    """
    same = len(table.xs) == len(before.xs) and all(
        abs(one - other) <= _NEAR for one, other in zip(table.xs, before.xs, strict=True)
    )
    has_figures = _has_figures(table.rows[0]) or not _has_figures(before.rows[-1])
    if not same or not has_figures or list(table.rows[0]) == list(before.head[0]):
        return table
    return replace(table, rows=[*before.head, *table.rows])


def _has_figures(row: Sequence[str]) -> bool:
    return any(character.isdigit() for text in row for character in text)


# Rules


def _rules(page: Any) -> tuple[list[Rule], list[Rule]]:
    """Return the rules that go across a page, and those that go down."""
    across: list[Rule] = []
    down: list[Rule] = []
    for path, matrix in _paths(page):
        for x0, y0, x1, y1 in _segments(path, matrix):
            if abs(y0 - y1) <= _STRAIGHT and abs(x0 - x1) >= _SHORT:
                across.append(Rule((y0 + y1) / 2, min(x0, x1), max(x0, x1)))
            elif abs(x0 - x1) <= _STRAIGHT and abs(y0 - y1) >= _SHORT:
                down.append(Rule((x0 + x1) / 2, min(y0, y1), max(y0, y1)))
        if len(across) + len(down) > _RULES:
            return [], []  # a map, a plot: no table has so many
    return across, down


def _paths(page: Any) -> Iterator[tuple[Any, Matrix]]:
    """Yield what is drawn on a page with lines, and where the drawing that it is a part of has moved it."""
    seen = 0
    waiting: list[tuple[Callable[[int], Any], int, Matrix, int]] = [
        (partial(pdfium.FPDFPage_GetObject, page), pdfium.FPDFPage_CountObjects(page), _UNMOVED, 0)
    ]
    while waiting:
        get, count, matrix, depth = waiting.pop()
        for index in range(min(count, _OBJECTS)):
            seen += 1
            if seen > _OBJECTS:
                return
            found = get(index)
            kind = pdfium.FPDFPageObj_GetType(found)
            if kind == pdfium.FPDF_PAGEOBJ_PATH:
                if _is_seen(found):
                    yield found, _times(_matrix(found), matrix)
            elif kind == pdfium.FPDF_PAGEOBJ_FORM and depth < _FORMS:
                count_within = pdfium.FPDFFormObj_CountObjects(found)
                moved = _times(_matrix(found), matrix)
                waiting.append((partial(pdfium.FPDFFormObj_GetObject, found), count_within, moved, depth + 1))


def _is_seen(path: Any) -> bool:
    filled, stroked = ctypes.c_int(), ctypes.c_int()
    return bool(pdfium.FPDFPath_GetDrawMode(path, filled, stroked)) and bool(filled.value or stroked.value)


def _matrix(found: Any) -> Matrix:
    matrix = pdfium.FS_MATRIX()
    if not pdfium.FPDFPageObj_GetMatrix(found, matrix):
        return _UNMOVED
    return matrix.a, matrix.b, matrix.c, matrix.d, matrix.e, matrix.f


def _times(first: Matrix, second: Matrix) -> Matrix:
    a, b, c, d, e, f = first
    p, q, r, s, t, u = second
    return a * p + b * r, a * q + b * s, c * p + d * r, c * q + d * s, e * p + f * r + t, e * q + f * s + u


def _segments(path: Any, matrix: Matrix) -> Iterator[tuple[float, float, float, float]]:
    """Yield the straight lines of a path, in the page's coordinates."""
    a, b, c, d, e, f = matrix
    x, y = ctypes.c_float(), ctypes.c_float()
    start = last = (0.0, 0.0)
    for index in range(min(pdfium.FPDFPath_CountSegments(path), _SEGMENTS)):
        segment = pdfium.FPDFPath_GetPathSegment(path, index)
        if not pdfium.FPDFPathSegment_GetPoint(segment, x, y):
            continue
        point = (a * x.value + c * y.value + e, b * x.value + d * y.value + f)
        kind = pdfium.FPDFPathSegment_GetType(segment)
        if kind == pdfium.FPDF_SEGMENT_MOVETO:
            start = point
        elif kind == pdfium.FPDF_SEGMENT_LINETO:
            yield *last, *point
        last = point
        if pdfium.FPDFPathSegment_GetClose(segment):
            yield *point, *start
            last = start


def _merged(rules: Sequence[Rule]) -> list[Rule]:
    """Put together what is one rule to the eye: the two sides of a thin box, the pieces of a row of borders."""
    merged: list[Rule] = []
    level: list[Rule] = []
    for rule in sorted(rules, key=lambda rule: rule.at):
        if level and rule.at - level[0].at > _NEAR:
            merged.extend(_along(level))
            level = []
        level.append(rule)
    merged.extend(_along(level))
    return merged


def _along(level: Sequence[Rule]) -> Iterator[Rule]:
    at = sum(rule.at for rule in level) / max(len(level), 1)
    start = end = None
    for rule in sorted(level, key=lambda rule: rule.start):
        if start is None or end is None:
            start, end = rule.start, rule.end
        elif rule.start <= end + _NEAR:
            end = max(end, rule.end)
        else:
            yield Rule(at, start, end)
            start, end = rule.start, rule.end
    if start is not None and end is not None:
        yield Rule(at, start, end)


def _groups(across: Sequence[Rule], down: Sequence[Rule]) -> Iterator[tuple[list[Rule], list[Rule]]]:
    """Yield the rules that are connected: those of one table."""
    touching = [[j for j, v in enumerate(down) if _meets(h, v)] for h in across]
    free = set(range(len(across)))
    taken: set[int] = set()
    by_down: dict[int, list[int]] = {}
    for i, meets in enumerate(touching):
        for j in meets:
            by_down.setdefault(j, []).append(i)
    while free:
        waiting, group, others = [free.pop()], list[int](), set[int]()
        while waiting:
            i = waiting.pop()
            group.append(i)
            for j in touching[i]:
                if j not in taken:
                    taken.add(j)
                    others.add(j)
                    further = [k for k in by_down[j] if k in free]
                    free.difference_update(further)
                    waiting += further
        if len(group) >= 3 and len(others) >= 3:
            yield [across[i] for i in group], [down[j] for j in others]


def _meets(across: Rule, down: Rule) -> bool:
    return across.start - _NEAR <= down.at <= across.end + _NEAR and down.start - _NEAR <= across.at <= down.end + _NEAR


# Cells


def _table(
    across: Sequence[Rule], down: Sequence[Rule], text_in: Callable[[float, float, float, float], str]
) -> Ruled | None:
    """Return the table that rules make, None when they make none: too few cells, too many, or hardly any text."""
    xs = _places([rule.at for rule in down])
    ys = _places([rule.at for rule in across])[::-1]
    width, height = len(xs) - 1, len(ys) - 1
    if width < 2 or height < 2 or width * height > _CELLS:
        return None
    owner = _owners(xs, ys, across, down)
    rows = [[""] * width for _ in range(height)]
    told = characters = 0
    for (row, column), (last_row, last_column) in _extents(owner).items():
        text = text_in(xs[column], ys[last_row + 1], xs[last_column + 1], ys[row])
        rows[row][column] = flow.joined(text.split("\n"))
        told += bool(rows[row][column])
        characters += len("".join(text.split()))
    if told < max(3, _FILLED * len(set(owner.values()))):
        return None
    if characters > 1.05 * len("".join(text_in(xs[0], ys[-1], xs[-1], ys[0]).split())) + 1:
        return None  # characters that stand in two cells: the rules go through them, as a plot's do
    for (row, column), (last_row, _) in _extents(owner).items():
        for below in filter(any, rows[row + 1 : last_row + 1]):
            below[column] = flow.repeated(rows[row][column])
    rows = [row for row in rows if any(row)]
    return Ruled(rows, xs, ys[-1], ys[0])


def _places(values: Sequence[float]) -> list[float]:
    """Return distinct places, in their order."""
    places: list[float] = []
    for value in sorted(values):
        if not places or value - places[-1] > _NEAR:
            places.append(value)
    return places


Place = tuple[int, int]


def _owners(
    xs: Sequence[float], ys: Sequence[float], across: Sequence[Rule], down: Sequence[Rule]
) -> dict[Place, Place]:
    """Return for each place in the grid the one that its cell begins with: without a rule between them two are one."""
    width, height = len(xs) - 1, len(ys) - 1
    owner: dict[Place, Place] = {}
    for row in range(height):
        y = (ys[row] + ys[row + 1]) / 2
        for column in range(width):
            x = (xs[column] + xs[column + 1]) / 2
            left, above = (row, column - 1), (row - 1, column)
            if column and not _is_ruled(down, xs[column], y):
                owner[row, column] = owner[left]
            elif row and not _is_ruled(across, ys[row], x):
                owner[row, column] = owner[above]
            else:
                owner[row, column] = (row, column)
    return owner


def _is_ruled(rules: Sequence[Rule], at: float, along: float) -> bool:
    return any(abs(rule.at - at) <= _NEAR and rule.start <= along <= rule.end for rule in rules)


def _extents(owner: dict[Place, Place]) -> dict[Place, Place]:
    """Return the last place of each cell by its first."""
    extents: dict[Place, Place] = {}
    for (row, column), first in owner.items():
        last = extents.get(first, first)
        extents[first] = max(row, last[0]), max(column, last[1])
    return extents


__all__ = ["Ruled", "tables"]
