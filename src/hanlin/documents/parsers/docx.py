"""Word documents: headings, lists, tables and notes, on the pages where Word last put them.

The text is read as a stream and never held as a whole. A document that says nothing of its pages (Word leaves marks
where it broke them, other writers do not) is cut into sections of a readable size.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from hanlin.documents.parsers import docx_parts, flow, xml
from hanlin.documents.parsers.archive import Archive
from hanlin.documents.parsers.docx_parts import Numbering, Style, W
from hanlin.documents.parsers.picture import Pictures
from hanlin.documents.parsers.work import Work
from hanlin.documents.values import Page

_MARK = b"lastRenderedPageBreak"
_R = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}"
_CHUNK_BYTES = 256 * 1024
_SYMBOLS: Mapping[str, str] = {  # of Wingdings and Wingdings 2, by which forms are ticked
    "FE": "☑",
    "FD": "☒",
    "FC": "✓",
    "FB": "✗",
    "A8": "□",
    "6F": "□",
    "52": "☑",
    "51": "☒",
    "50": "✓",
    "4F": "✗",
    "A3": "□",
}
_SKIPPED = frozenset(
    {"Fallback", "rt", "pPrChange", "rPrChange", "tblPrChange", "trPrChange", "sectPrChange", "del", "moveFrom"}
)
"""What is told a second time (a drawing for old programs, the sound of a character), or was so before."""


def pages(work: Work) -> Iterator[Page]:
    archive = Archive(work.path, work.limits)
    name = xml.main_part(archive, "word/document.xml")
    work.title = xml.title(archive)
    related = dict(xml.relations(archive, name).values())
    has_pages = _has_pages(archive, name)
    images = {key: target for key, (kind, target) in xml.relations(archive, name).items() if kind == "image"}
    pictures = Pictures(work)

    def look(key: str) -> str:
        target = images.get(key, "")
        return pictures.text_of(target, lambda: archive.read(target)) if target and work.looks_everywhere else ""

    body = Body(
        docx_parts.styles(archive, related.get("styles", "")),
        docx_parts.numbering(archive, related.get("numbering", "")),
        {
            "": docx_parts.notes(archive, related.get("footnotes", "")),
            "e": docx_parts.notes(archive, related.get("endnotes", "")),
        },
        rendered=has_pages,
        look=look,
    )
    yield from flow.paged(
        _blocks(archive, name, body, work), size=flow.MOST_CHARACTERS if has_pages else flow.SECTION_CHARACTERS
    )


def _blocks(archive: Archive, name: str, body: "Body", work: Work) -> Iterator[str | None]:
    for _ in xml.stream(archive.open(name), body, work):
        if not work.title:
            work.title = body.first_heading
        yield from body.taken()


def _has_pages(archive: Archive, name: str) -> bool:
    """Say whether the document knows where its pages end."""
    part, tail = archive.open(name), b""
    while chunk := part.read(_CHUNK_BYTES):
        if _MARK in tail + chunk:
            return True
        tail = chunk[-len(_MARK) :]
    return False


@dataclass
class Paragraph:
    """A paragraph that is being read."""

    text: list[str] = field(default_factory=list)
    style: str = ""
    list_id: str | None = None
    depth: int | None = None
    outline: int | None = None
    ends_section: bool = False
    told: bool = False  # whether a part of it stands on an earlier page
    notes: list[str] = field(default_factory=list)


@dataclass
class Table:
    """A table that is being read; only those that stand in no other are told as such."""

    rows: flow.Rows = field(default_factory=flow.Rows)
    row: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)  # of the cell that is being read
    columns: int = 1  # that it goes over
    goes_on: bool = False  # the cell above, whose text is that of both
    above: list[str] = field(default_factory=list)  # the row above
    told: list[list[str]] = field(default_factory=list)  # the first rows, to know whether it is a table at all


class Body:
    """Hears the elements of a document and makes blocks of Markdown of them, None where a page ends."""

    def __init__(
        self,
        styles: Mapping[str, Style],
        numbering: Numbering,
        notes: Mapping[str, Mapping[str, str]],
        *,
        rendered: bool,
        look: Callable[[str], str] = lambda _: "",
    ) -> None:
        self.first_heading = ""
        self._styles = styles
        self._numbering = numbering
        self._notes = notes
        self._rendered = rendered
        self._look = look
        self._paragraphs: list[Paragraph] = []
        self._tables: list[Table] = []
        self._blocks: list[str | None] = []
        self._items: list[str] = []  # of a list that may go on
        self._listens = False  # whether characters are text now
        self._skipped = 0
        self._turned = True  # whether nothing has been told since a page's explicit end
        self._starts: Mapping[str, Callable[[Mapping[str, str]], None]] = {
            "p": self._start_paragraph,
            "t": self._start_text,
            "tbl": lambda _: self._tables.append(Table()),
            "tc": self._start_cell,
            "gridSpan": self._span,
            "vMerge": self._merge,
            "pStyle": self._style,
            "numId": self._list,
            "ilvl": self._depth,
            "outlineLvl": self._outline,
            "pageBreakBefore": self._break_before,
            "br": self._break,
            "cr": lambda _: self._add("\n"),
            "tab": lambda attributes: None if attributes else self._add("\t"),  # the others say where tabs stop
            "sym": lambda attributes: self._add(_SYMBOLS.get(attributes.get(f"{W}char", "")[-2:].upper(), "")),
            "noBreakHyphen": lambda _: self._add("-"),
            "blip": self._picture,
            "imagedata": self._picture,
            "lastRenderedPageBreak": self._rendered_break,
            "footnoteReference": lambda attributes: self._note("", attributes),
            "endnoteReference": lambda attributes: self._note("e", attributes),
        }
        self._ends: Mapping[str, Callable[[], None]] = {
            "p": self._end_paragraph,
            "t": self._end_text,
            "tc": self._end_cell,
            "tr": self._end_row,
            "tbl": self._end_table,
        }

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        name = tag.rpartition("}")[2]
        if self._skipped or name in _SKIPPED:
            self._skipped += 1
        elif (handler := self._starts.get(name)) is not None:
            handler(attributes)

    def end(self, tag: str) -> None:
        if self._skipped:
            self._skipped -= 1
        elif (handler := self._ends.get(tag.rpartition("}")[2])) is not None:
            handler()

    def data(self, data: str) -> None:
        if self._listens and not self._skipped:
            self._add(data)

    def close(self) -> None:
        self._flush_items()

    def taken(self) -> list[str | None]:
        """Return the blocks that are complete, once."""
        blocks, self._blocks = self._blocks, []
        return blocks

    # Text

    def _start_text(self, _: Mapping[str, str]) -> None:
        self._listens = True

    def _end_text(self) -> None:
        self._listens = False

    def _add(self, text: str) -> None:
        if self._paragraphs:
            self._paragraphs[-1].text.append(text)

    def _picture(self, attributes: Mapping[str, str]) -> None:
        """Tell what is written in a picture, on lines of its own."""
        key = attributes.get(f"{_R}embed") or attributes.get(f"{_R}id", "")
        if text := self._look(key):
            self._add(f"\n{text}\n")

    def _note(self, prefix: str, attributes: Mapping[str, str]) -> None:
        number = attributes.get(f"{W}id", "")
        if self._paragraphs and (text := self._notes[prefix].get(number)):
            self._add(f"[^{prefix}{number}]")
            self._paragraphs[-1].notes.append(f"[^{prefix}{number}]: {text}")

    # Paragraphs

    def _start_paragraph(self, _: Mapping[str, str]) -> None:
        self._paragraphs.append(Paragraph())

    def _style(self, attributes: Mapping[str, str]) -> None:
        if self._paragraphs:
            self._paragraphs[-1].style = _value(attributes)

    def _list(self, attributes: Mapping[str, str]) -> None:
        if self._paragraphs:
            self._paragraphs[-1].list_id = _value(attributes)

    def _depth(self, attributes: Mapping[str, str]) -> None:
        if self._paragraphs and (value := _value(attributes)).isdigit():
            self._paragraphs[-1].depth = int(value[:2])

    def _outline(self, attributes: Mapping[str, str]) -> None:
        if self._paragraphs and (value := _value(attributes)).isdigit():
            self._paragraphs[-1].outline = int(value[:2])

    def _end_paragraph(self) -> None:
        if not self._paragraphs:
            return
        paragraph = self._paragraphs.pop()
        self._tell(paragraph)
        for note in paragraph.notes:
            self._block(note)

    def _tell(self, paragraph: Paragraph) -> None:
        """Tell what has been read of a paragraph, as what its style and its list say it is."""
        text = "".join(paragraph.text).strip("\n")
        paragraph.text = []
        if not text.strip():
            return
        level, label, depth = self._place(paragraph)
        paragraph.told = True
        if self._tables:
            self._tables[-1].lines.append(f"{label} {text}" if label else text)
        elif level:
            heading = f"{label} {text}" if label not in ("", "-") else text
            self.first_heading = self.first_heading or heading
            self._block(flow.heading(heading, level))
        elif label:
            self._items.append(f"{'  ' * min(depth, 8)}{label} {' '.join(text.split())}")
            self._turned = False
            if sum(map(len, self._items)) > flow.SECTION_CHARACTERS // 2:
                self._flush_items()
        else:
            self._block(text)

    def _place(self, paragraph: Paragraph) -> tuple[int, str, int]:
        """Return a paragraph's level as a heading (0: none), its label in a list ("": none) and its depth there."""
        style = self._styles.get(paragraph.style, Style())
        level = style.level
        if paragraph.outline is not None:
            level = paragraph.outline + 1 if paragraph.outline < 9 else 0
        list_id = style.list_id if paragraph.list_id is None else paragraph.list_id
        if paragraph.told or list_id in ("", "0"):
            return (0 if paragraph.told else level), "", 0
        depth = paragraph.depth if paragraph.depth is not None else style.depth
        if depth is None:
            depth = self._numbering.depth_of(list_id, paragraph.style) or 0
        return level, self._numbering.next(list_id, depth) or "", depth

    def _block(self, block: str) -> None:
        self._flush_items()
        self._blocks.append(block)
        self._turned = False

    def _flush_items(self) -> None:
        if self._items:
            self._blocks.append("\n".join(self._items))
            self._items = []

    # Pages

    def _break(self, attributes: Mapping[str, str]) -> None:
        if attributes.get(f"{W}type") == "page":
            self._turn()
            self._turned = True
        else:
            self._add("\n")

    def _break_before(self, attributes: Mapping[str, str]) -> None:
        if _value(attributes) not in ("0", "false") and not self._rendered and not self._turned:
            self._turn()
            self._turned = True

    def _rendered_break(self, _: Mapping[str, str]) -> None:
        # Word marks the page that an explicit break begins as well.
        if self._turned and not (self._paragraphs and "".join(self._paragraphs[-1].text).strip()):
            self._turned = False
        else:
            self._turn()

    def _turn(self) -> None:
        """End the page here: within a paragraph, and within a table between two rows."""
        if self._tables:
            if (piece := self._tables[0].rows.cut()) is not None:
                self._block(piece)
        elif self._paragraphs:
            self._tell(self._paragraphs[-1])
        self._flush_items()
        self._blocks.append(None)

    # Tables

    def _start_cell(self, _: Mapping[str, str]) -> None:
        if self._tables:
            table = self._tables[-1]
            table.lines, table.columns, table.goes_on = [], 1, False

    def _span(self, attributes: Mapping[str, str]) -> None:
        if self._tables and (value := _value(attributes)).isdigit():
            self._tables[-1].columns = min(int(value[:3]), 63)

    def _merge(self, attributes: Mapping[str, str]) -> None:
        if self._tables:
            self._tables[-1].goes_on = _value(attributes) != "restart"

    def _end_cell(self) -> None:
        if self._tables:
            table = self._tables[-1]
            text = "\n".join(table.lines)
            if table.goes_on:
                at = len(table.row)
                text = flow.repeated(table.above[at]) if at < len(table.above) else ""
            table.row += [text, *[""] * (table.columns - 1)]
            table.lines = []

    def _end_row(self) -> None:
        if not self._tables:
            return
        table = self._tables[-1]
        row, table.row, self._turned = table.row, [], False
        table.above = row
        if len(self._tables) > 1:  # a table in a cell becomes lines of it
            self._tables[-2].lines.append(" ".join(filter(None, map(flow.cell, row))))
            return
        if len(table.told) < 2:
            table.told.append(row)
        if (piece := table.rows.add(row)) is not None:
            self._block(piece)

    def _end_table(self) -> None:
        if not self._tables:
            return
        table = self._tables.pop()
        if self._tables:
            return
        if len(table.told) == 1 and len(table.told[0]) == 1:  # a frame around a text
            self._block(table.told[0][0])
        elif (piece := table.rows.cut()) is not None:
            self._block(piece)


def _value(attributes: Mapping[str, str]) -> str:
    return next((value for name, value in attributes.items() if name.endswith("}val")), "")


__all__ = ["Body", "pages"]
