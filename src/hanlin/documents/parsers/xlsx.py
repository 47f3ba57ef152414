"""Workbooks: a page a sheet, or several for a long one, each with the sheet's name and header row.

Sheets are read as streams, row by row. Cells show what a person sees: dates as dates, shares as percents, the results
of formulas; a formula that was never computed is shown as it was written. Hidden sheets are left out, as long as there
is another one.
"""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from hanlin.documents.limits import MIB
from hanlin.documents.parsers import flow, xlsx_formats, xml
from hanlin.documents.parsers.archive import Archive
from hanlin.documents.parsers.work import Work
from hanlin.documents.parsers.xlsx_formats import Form
from hanlin.documents.unreadable import DocumentUnreadable
from hanlin.documents.values import Page

_S = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_R = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}"
_COLUMNS = 16_384
_SHARED = 3_000_000
_SHARED_CHARACTERS = 60_000_000
_ROWS_AT_A_TIME = 200
_CELL_CHARACTERS = 40_000  # Excel itself takes 32,767
_ROW_CHARACTERS = 10_000_000
_MOST_TITLES = 3
_TITLED_COLUMNS = 3
_MERGE = re.compile(rb'<(?:\w{1,20}:)?mergeCell\s[^<>]{0,200}?ref="([A-Z]{1,3})(\d{1,7}):([A-Z]{1,3})(\d{1,7})"')
_MERGE_BYTES = 256
_CHUNK_BYTES = 256 * 1024
_MERGED_BYTES = 64 * MIB  # of a sheet; larger ones are data, and nobody merges cells there
_MOST_MERGES = 50_000
_MOST_HANGING = 200  # columns in which a cell goes over the same rows

Row = dict[int, str]
"""A row's cells that are not empty, by their columns."""

Merges = Mapping[tuple[int, int], int]
"""The last row of cells that go over several, by their first row and their column."""


def pages(work: Work) -> Iterator[Page]:
    archive = Archive(work.path, work.limits)
    work.title = xml.title(archive)
    name = xml.main_part(archive, "xl/workbook.xml")
    root = xml.required(archive, name)
    related = xml.relations(archive, name)
    kinds = dict(related.values())
    properties = root.find(f"{_S}workbookPr")
    forms = xlsx_formats.forms(
        xml.parsed(archive.read(kinds.get("styles", ""))),
        since_1904=properties is not None and properties.get("date1904") in ("1", "true"),
    )
    shared = _shared(archive, kinds.get("sharedStrings", ""), work)
    number = 1
    for sheet in _seen(root.findall(f"{_S}sheets/{_S}sheet")):
        label = str(sheet.get("name", ""))
        kind, target = related.get(str(sheet.get(f"{_R}id")), ("", ""))
        if kind != "worksheet" or not archive.has(target):
            continue
        rows = _rows(archive, target, Sheet(shared, forms, _merges(archive, target)), work)
        for block in _blocks(rows):
            for piece in flow.pieces(block, flow.MOST_CHARACTERS):
                yield Page(number, f"{flow.heading(label, 1)}\n\n{piece}", label)
                number += 1


def _seen(sheets: Sequence[xml.Element]) -> Sequence[xml.Element]:
    return [sheet for sheet in sheets if sheet.get("state", "visible") == "visible"] or sheets


def _merges(archive: Archive, name: str) -> Merges:
    """Return which cells of a sheet go over several rows. They are listed behind its cells."""
    part, tail, found = archive.open(name), b"", dict[tuple[int, int], int]()
    while part.size <= _MERGED_BYTES and len(found) < _MOST_MERGES and (chunk := part.read(_CHUNK_BYTES)):
        for left, first, _, last in _MERGE.findall(tail + chunk):
            column = _column(left.decode("ascii"))
            if column is not None and int(last) > int(first):
                found[int(first), column] = int(last)
        tail = chunk[-_MERGE_BYTES:]
    part.close()
    return found


def _shared(archive: Archive, name: str, work: Work) -> Sequence[str]:
    strings = Strings()
    if archive.has(name):
        for _ in xml.stream(archive.open(name), strings, work):
            if len(strings.found) > _SHARED or strings.characters > _SHARED_CHARACTERS:
                raise DocumentUnreadable("too_large")
    return strings.found


def _rows(archive: Archive, name: str, sheet: "Sheet", work: Work) -> Iterator[Row]:
    for _ in xml.stream(archive.open(name), sheet, work):
        yield from sheet.taken()


def _blocks(rows: Iterator[Row]) -> Iterator[str]:
    """Yield tables of about a page each, all with the same header; titles stand above the first.

    The columns of a page are those that are used on it, so that a lonely cell far to the right takes no room elsewhere.
    """
    titles, header, rows = _begun(rows)
    if header is None:
        return
    held, filled, told = list[Row](), 0, False
    for row in rows:
        size = sum(map(len, row.values())) + 3 * len(row)
        if held and (filled + size > flow.SECTION_CHARACTERS or len(held) >= _ROWS_AT_A_TIME):
            yield _table(header, held, [] if told else titles)
            held, filled, told = [], 0, True
        held.append(row)
        filled += size
    if held or not told:
        yield _table(header, held, [] if told else titles)


def _begun(rows: Iterator[Row]) -> tuple[Sequence[str], Row | None, Iterator[Row]]:
    """Return the titles above a sheet's header, the header, and the rows below it.

    Rows of one cell are titles where a row of several follows; a header may go over two rows.
    """
    first = list(itertools.islice(rows, 1))
    while first and len(first[-1]) == 1 and len(first) <= _MOST_TITLES and (row := next(rows, None)) is not None:
        first.append(row)
    if not first:
        return [], None, rows
    if len(first) > 1 and len(first[-1]) < _TITLED_COLUMNS:
        return [], first[0], itertools.chain(first[1:], rows)
    *above, header = first
    row = next(rows, None)
    if row is not None and (more := flow.with_second(header, row)) is not None:
        header, row = more, next(rows, None)
    titles = [" ".join(text.split()) for title in above for text in title.values()]
    return titles, header, itertools.chain([row] if row is not None else [], rows)


def _table(header: Row, rows: Sequence[Row], titles: Sequence[str]) -> str:
    columns = sorted({column for row in (header, *rows) for column in row})
    lines = [flow.row([row.get(column, "") for column in columns], len(columns)) for row in (header, *rows)]
    return "\n\n".join([*titles, "\n".join([lines[0], f"{'| --- ' * len(columns)}|", *lines[1:]])])


class Strings:
    """Hears the strings that the cells of a workbook share."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self.characters = 0
        self._text: list[str] = []
        self._listens = self._aside = False

    def start(self, tag: str, _: Mapping[str, str]) -> None:
        name = tag.rpartition("}")[2]
        if name == "t":
            self._listens = not self._aside
        elif name == "rPh":  # how the characters are pronounced
            self._aside = True

    def end(self, tag: str) -> None:
        name = tag.rpartition("}")[2]
        if name == "t":
            self._listens = False
        elif name == "rPh":
            self._aside = False
        elif name == "si":
            text = "".join(self._text)
            self.characters += len(text)
            self.found.append(text)
            self._text = []

    def data(self, data: str) -> None:
        if self._listens:
            self._text.append(data)

    def close(self) -> None:
        pass


@dataclass
class Cell:
    column: int = 0
    kind: str = "n"
    form: int = 0
    value: list[str] = field(default_factory=list)
    formula: list[str] = field(default_factory=list)
    formula_id: str = ""


class Sheet:
    """Hears the cells of a sheet and gives away rows that have any text."""

    def __init__(self, shared: Sequence[str], forms: Sequence[Form], merges: Merges) -> None:
        self._shared = shared
        self._forms = forms
        self._merges = merges
        self._hanging: dict[int, tuple[int, str]] = {}  # by column: until which row what hangs down
        self._number = 0
        self._rows: list[Row] = []
        self._row: Row = {}
        self._cell: Cell | None = None
        self._into: list[str] | None = None  # where characters go now
        self._next_column = 0
        self._filled = 0  # the characters of the row
        self._formulas: dict[str, str] = {}

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        name = tag.rpartition("}")[2]
        if name == "c":
            column = _column(attributes.get("r", ""))
            self._cell = Cell(self._next_column if column is None else column, attributes.get("t", "n"))
            style = attributes.get("s", "0")
            self._cell.form = int(style) if style.isascii() and style.isdigit() and len(style) < 7 else 0
            self._next_column = self._cell.column + 1
        elif name == "row":
            self._row, self._next_column, self._filled = {}, 0, 0
            at = attributes.get("r", "")
            self._number = int(at) if at.isascii() and at.isdigit() and len(at) < 8 else self._number + 1
        elif self._cell is not None and name in ("v", "t"):
            self._into = self._cell.value
        elif self._cell is not None and name == "f":
            self._into = self._cell.formula
            self._cell.formula_id = attributes.get("si", "")

    def end(self, tag: str) -> None:
        name = tag.rpartition("}")[2]
        if name in ("v", "t", "f"):
            self._into = None
        elif name == "c" and self._cell is not None:
            if (text := self._shown(self._cell)[:_CELL_CHARACTERS]).strip() and len(self._row) < _COLUMNS:
                self._row[self._cell.column] = text
                self._filled += len(text)
                if self._filled > _ROW_CHARACTERS:
                    raise DocumentUnreadable("too_large")
                last = self._merges.get((self._number, self._cell.column))
                if last is not None and len(self._hanging) < _MOST_HANGING:
                    self._hanging[self._cell.column] = (last, flow.repeated(text))
            self._cell = None
        elif name == "row" and self._row:
            self._hanging = {at: held for at, held in self._hanging.items() if self._number <= held[0]}
            self._rows.append({at: text for at, (_, text) in self._hanging.items() if text} | self._row)
            self._row = {}

    def data(self, data: str) -> None:
        if self._into is not None:
            self._into.append(data)

    def close(self) -> None:
        pass

    def taken(self) -> list[Row]:
        rows, self._rows = self._rows, []
        return rows

    def _shown(self, cell: Cell) -> str:
        """Return what a person sees in a cell."""
        value, formula = "".join(cell.value), "".join(cell.formula)
        if cell.formula_id and formula:
            self._formulas[cell.formula_id] = formula
        if not value:
            formula = formula or self._formulas.get(cell.formula_id, "")
            return f"={formula}" if formula else ""
        if cell.kind == "s":
            index = int(value) if value.isascii() and value.isdigit() and len(value) < 9 else -1
            return self._shared[index] if 0 <= index < len(self._shared) else ""
        if cell.kind == "b":
            return "TRUE" if value.strip() == "1" else "FALSE"
        if cell.kind == "n":
            form = self._forms[cell.form] if cell.form < len(self._forms) else xlsx_formats.GENERAL
            return xlsx_formats.shown(value, form)
        return value


def _column(reference: str) -> int | None:
    """Return the column of a reference such as BC12, counted from 0; None for what no sheet has."""
    column = 0
    for letter in reference[:8]:
        if not "A" <= letter <= "Z":
            break
        column = column * 26 + ord(letter) - 64
    return column - 1 if 0 < column <= _COLUMNS else None


__all__ = ["Sheet", "Strings", "pages"]
