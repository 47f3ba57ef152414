"""Web pages: headings, paragraphs, lists, tables and preformatted text. What a reader does not see is left out."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from lxml import etree

from hanlin.documents.parsers import encodings, flow, plain
from hanlin.documents.parsers.work import Work
from hanlin.documents.values import Page

_UNSEEN = frozenset(
    {"script", "style", "template", "svg", "noscript", "head", "rt", "rp", "select", "iframe", "object", "canvas"}
    | {"audio", "video"}
)
_VOID = frozenset(
    {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
)
_LISTS = frozenset({"ol", "ul", "menu"})
_TABLE = frozenset({"table", "tr", "td", "th"})
_BLOCKS = _LISTS | frozenset(
    {"address", "article", "aside", "blockquote", "body", "center", "dd", "details", "dialog", "div", "dl", "dt"}
    | {"fieldset", "figcaption", "figure", "footer", "form", "header", "hgroup", "hr", "html", "legend", "main", "nav"}
    | {"p", "section", "summary"}
)
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_LINE_END = "\v"
_HEAD_BYTES = 1024  # in which a page says how it is written
_TITLE_CHARACTERS = 300
_MOST_HANGING = 200  # columns in which a cell goes over the same rows
_PARAGRAPH_CHARACTERS = 600
"""A cell with more than this is a part of the page's layout, not of a table."""


def pages(work: Work) -> Iterator[Page]:
    body = Body()
    with work.path.open("rb") as file:
        declared = encodings.declared_in(file.read(_HEAD_BYTES))
    yield from flow.paged(_blocks(body, plain.text(work, declared), work))


def _blocks(body: "Body", texts: Iterable[str], work: Work) -> Iterator[str]:
    for block in blocks(body, texts):
        work.title = work.title or body.title or body.first_heading
        yield block


def blocks(body: "Body", texts: Iterable[str]) -> Iterator[str]:
    """Yield blocks of Markdown for HTML that comes in pieces."""
    parser = etree.HTMLParser(target=body, no_network=True)
    fed = False
    for text in texts:
        if text:
            parser.feed(text)
            fed = True
        yield from body.taken()
    if fed:
        parser.close()
    yield from body.taken()


@dataclass
class Table:
    rows: flow.Rows = field(default_factory=flow.Rows)
    row: list[str] = field(default_factory=list)
    cell: list[str] | None = None  # the lines of the cell that is being read
    columns: int = 1  # that it goes over
    height: int = 1  # the rows that it goes over
    hanging: dict[int, tuple[int, str]] = field(default_factory=dict)  # by column: for how many rows what hangs down

    def take(self, text: str) -> None:
        """Put a cell into the row, behind what hangs down there."""
        self.take_hanging()
        at = len(self.row)
        self.row += [text, *[""] * (self.columns - 1)]
        if self.height > 1 and len(self.hanging) < _MOST_HANGING:
            self.hanging.update(dict.fromkeys(range(at, len(self.row)), (self.height - 1, "")))
            self.hanging[at] = (self.height - 1, flow.repeated(text))

    def end_row(self) -> list[str]:
        """Return the row, with all that hangs down into it; nothing where it has no cell of its own."""
        own = bool(self.row)
        for at in sorted(self.hanging):
            if at >= len(self.row):
                self.row += [""] * (at - len(self.row))
                self.take_hanging()
        row, self.row = self.row, []
        return row if own else []

    def take_hanging(self) -> None:
        while (found := self.hanging.pop(len(self.row), None)) is not None:
            rows, text = found
            if rows > 1:
                self.hanging[len(self.row)] = (rows - 1, text)
            self.row.append(text)


class Body:
    """Hears the elements of a page and makes blocks of Markdown of them."""

    def __init__(self) -> None:
        self.title = ""
        self.first_heading = ""
        self._blocks: list[str] = []
        self._text: list[str] = []
        self._unseen = 0  # how deep within what nobody sees
        self._titles = False
        self._preformatted = 0
        self._lists: list[int] = []  # for each: how many items it has had, -1 where they are not counted
        self._label = ""  # of the item whose text comes next
        self._items: list[str] = []
        self._tables: list[Table] = []

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        if tag == "title":
            self._titles = not self.title
        if self._unseen:
            self._unseen += tag not in _VOID
        elif tag in _UNSEEN or (tag not in _VOID and _is_hidden(attributes)):
            self._unseen = 1
        elif tag == "br":
            self._text.append("\n" if self._preformatted else _LINE_END)
        elif tag == "img":
            self._text.append(attributes.get("alt", ""))
        elif tag in _HEADINGS or tag in _BLOCKS or tag in _TABLE or tag in ("li", "pre"):
            self._flush()
            self._start_block(tag, attributes)

    def _start_block(self, tag: str, attributes: Mapping[str, str]) -> None:
        if tag in _LISTS:
            self._lists.append(0 if tag == "ol" else -1)
        elif tag == "li":
            self._label = self._next_label()
        elif tag == "pre":
            self._preformatted += 1
        elif tag in _TABLE:
            self._start_table_part(tag, attributes)

    def end(self, tag: str) -> None:
        if tag == "title":
            self._titles = False
        if self._unseen:
            self._unseen -= tag not in _VOID  # the parser ends what it began, also what nobody closed
        elif tag in _HEADINGS:
            self._end_heading(_HEADINGS[tag])
        elif tag in _BLOCKS or tag == "li":
            self._flush()
            if tag in _LISTS and self._lists:
                self._lists.pop()
        elif tag == "pre" and self._preformatted:
            self._flush()
            self._preformatted -= 1
        elif tag in _TABLE:
            self._flush()
            self._end_table_part(tag)

    def data(self, data: str) -> None:
        if self._titles:
            if len(self.title) < _TITLE_CHARACTERS:
                self.title = " ".join(f"{self.title} {data[:_TITLE_CHARACTERS]}".split())
        elif not self._unseen:
            self._text.append(data)

    def close(self) -> None:
        self._flush()
        while self._tables:
            self._end_table_part("table")
        self._flush_items()

    def taken(self) -> list[str]:
        """Return the blocks that are complete, once."""
        blocks, self._blocks = self._blocks, []
        return blocks

    def _next_label(self) -> str:
        depth = "  " * min(max(len(self._lists) - 1, 0), 8)
        if not self._lists or self._lists[-1] < 0:
            return f"{depth}-"
        self._lists[-1] += 1
        return f"{depth}{self._lists[-1]}."

    def _end_heading(self, level: int) -> None:
        text = " ".join(self._taken_text().split())
        if text and self._tables:
            self._line(text)
        elif text:
            self.first_heading = self.first_heading or text
            self._block(flow.heading(text, level))

    def _taken_text(self) -> str:
        raw, self._text = "".join(self._text), []
        if self._preformatted:
            return raw.strip("\n")
        lines = (flow.joined(" ".join(line.split()) for line in part.split("\n")) for part in raw.split(_LINE_END))
        return "\n".join(filter(None, lines))

    def _flush(self) -> None:
        """Tell what has been read as a paragraph, an item of a list, a line of a cell."""
        text = self._taken_text()
        if not text.strip():
            return
        if self._tables:
            self._line(text)
        elif self._preformatted:
            self._block(f"```\n{text}\n```")
        elif self._label:
            self._items.append(f"{self._label} {' '.join(text.split())}")
            self._label = ""
            if sum(map(len, self._items)) > flow.SECTION_CHARACTERS // 2:
                self._flush_items()
        elif self._lists and self._items:
            self._items.append(f"{'  ' * min(len(self._lists), 8)}{' '.join(text.split())}")
        else:
            self._block(text)

    def _block(self, block: str) -> None:
        self._flush_items()
        self._blocks.append(block)

    def _flush_items(self) -> None:
        if self._items:
            self._blocks.append("\n".join(self._items))
            self._items = []

    # Tables

    def _line(self, text: str) -> None:
        """Add a line to the cell that is being read, or tell it by itself between cells (a caption)."""
        cell = self._tables[-1].cell
        if cell is not None:
            cell.append(text)
        elif len(self._tables) == 1:
            self._block(text)

    def _start_table_part(self, tag: str, attributes: Mapping[str, str]) -> None:
        if tag == "table":
            self._tables.append(Table())
        elif self._tables and tag == "tr":
            self._tables[-1].row = []
        elif self._tables:
            self._end_cell(self._tables[-1])
            table = self._tables[-1]
            table.cell = []
            table.columns = _span(attributes.get("colspan", ""), 50)
            table.height = _span(attributes.get("rowspan", ""), 999)

    def _end_table_part(self, tag: str) -> None:
        if not self._tables:
            return
        table = self._tables[-1]
        self._end_cell(table)
        if tag in ("tr", "table") and (row := table.end_row()):
            self._tell_row(table, row)
        if tag == "table":
            self._tables.pop()
            if not self._tables and (piece := table.rows.cut()) is not None:
                self._block(piece)

    def _end_cell(self, table: Table) -> None:
        if table.cell is not None:
            table.take("\n".join(table.cell))
            table.cell, table.columns, table.height = None, 1, 1

    def _tell_row(self, table: Table, row: list[str]) -> None:
        if len(self._tables) > 1:
            outer = self._tables[-2].cell
            if outer is not None:
                outer.append(" ".join(filter(None, map(flow.cell, row))))
        elif len(row) == 1 or any(len(text) > _PARAGRAPH_CHARACTERS for text in row):
            for piece in (table.rows.cut(), *row):
                if piece:
                    self._block(piece)
        elif (piece := table.rows.add(row)) is not None:
            self._block(piece)


def _span(value: str, most: int) -> int:
    return min(max(int(value), 1), most) if value.isascii() and value.isdigit() and len(value) < 6 else 1


def _is_hidden(attributes: Mapping[str, str]) -> bool:
    if "hidden" in attributes or attributes.get("aria-hidden") == "true":
        return True
    style = attributes.get("style", "")
    return "none" in style and "display:none" in style.replace(" ", "").lower()


__all__ = ["Body", "blocks", "pages"]
