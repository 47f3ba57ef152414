"""Presentations: a page a slide, with its title as the heading, its tables, and what the speaker notes say.

A slide without text is looked at as pictures.
"""

from collections.abc import Iterator
from functools import partial

from hanlin.documents.parsers import flow, xml
from hanlin.documents.parsers.archive import Archive
from hanlin.documents.parsers.picture import Pictures
from hanlin.documents.parsers.work import Work
from hanlin.documents.values import Page
from hanlin.words import say

_A = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
_P = "{http://schemas.openxmlformats.org/presentationml/2006/main}"
_R = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}"
_TITLES = frozenset({"title", "ctrTitle"})
_FURNITURE = frozenset({"sldNum", "dt", "ftr", "hdr", "sldImg"})
_DEPTH = 20  # of groups within groups


def pages(work: Work) -> Iterator[Page]:
    archive = Archive(work.path, work.limits)
    work.title = xml.title(archive)
    name = xml.main_part(archive, "ppt/presentation.xml")
    related = xml.relations(archive, name)
    root = xml.required(archive, name)
    pictures = Pictures(work)
    slides = [str(slide.get(f"{_R}id")) for slide in root.iterfind(f"{_P}sldIdLst/{_P}sldId")]
    for number, slide_id in enumerate(slides, start=1):
        work.tick(number, len(slides))
        _, slide = related.get(slide_id, ("", ""))
        blocks = list(_blocks(archive, slide, pictures))
        if not work.title and blocks and blocks[0].startswith("# "):
            work.title = blocks[0][2:]
        yield Page(number, "\n\n".join(blocks))


def _blocks(archive: Archive, name: str, pictures: Pictures) -> Iterator[str]:
    """Yield what stands on a slide, its title first."""
    root = xml.parsed(archive.read(name))
    if root is None:
        return
    tree = root.find(f"{_P}cSld/{_P}spTree")
    titles, others = list[str](), list[str]()
    for is_title, block in _shapes(tree, 0):
        (titles if is_title else others).append(block)
    yield from titles[:1]
    yield from (title.removeprefix("# ") for title in titles[1:])
    yield from others
    related = xml.relations(archive, name)
    is_picture = not titles and not others and pictures.work.sight.can_read
    for found in tree.iter(f"{_A}blip") if tree is not None and (is_picture or pictures.work.looks_everywhere) else ():
        kind, target = related.get(str(found.get(f"{_R}embed")), ("", ""))
        if kind == "image" and (text := pictures.text_of(target, partial(archive.read, target))):
            yield text
    for kind, target in related.values():
        if kind == "diagramData":
            yield from _diagram(archive, target)
        elif kind == "notesSlide":
            yield from _notes(archive, target)


def _shapes(tree: xml.Element | None, depth: int) -> Iterator[tuple[bool, str]]:
    """Yield the texts of shapes in their order, and whether each is the slide's title."""
    for shape in tree if tree is not None and depth < _DEPTH else ():
        if shape.tag == f"{_P}grpSp":
            yield from _shapes(shape, depth + 1)
        elif shape.tag == f"{_P}graphicFrame":
            for found in shape.iter(f"{_A}tbl"):
                yield False, _table(found)
        elif shape.tag == f"{_P}sp":
            kind = _placeholder(shape)
            text = "" if kind in _FURNITURE else _text(shape.find(f"{_P}txBody"), plain=kind in _TITLES)
            if text and kind in _TITLES:
                yield True, flow.heading(text, 1)
            elif text:
                yield False, text


def _placeholder(shape: xml.Element) -> str:
    found = shape.find(f"{_P}nvSpPr/{_P}nvPr/{_P}ph")
    return "" if found is None else str(found.get("type", "body"))


def _text(body: xml.Element | None, *, plain: bool = False) -> str:
    """Return the paragraphs of a shape; those below the first level are items of a list."""
    lines = []
    for paragraph in body.iterfind(f"{_A}p") if body is not None else ():
        text = "".join(_runs(paragraph)).strip()
        if not text:
            continue
        properties = paragraph.find(f"{_A}pPr")
        level = str(properties.get("lvl", "0")) if properties is not None else "0"
        depth = int(level) if level.isdigit() and len(level) < 3 else 0
        lines.append(text if plain else f"{'  ' * min(depth, 8)}- {text}")
    if not plain and len(lines) == 1:
        return lines[0].strip().removeprefix("- ")
    return "\n".join(lines)


def _runs(paragraph: xml.Element) -> Iterator[str]:
    for element in paragraph.iter(f"{_A}t", f"{_A}br"):
        yield "\n" if element.tag == f"{_A}br" else element.text or ""


def _table(element: xml.Element) -> str:
    rows = list[list[str]]()
    for row in element.iterfind(f"{_A}tr"):
        cells = list[str]()
        for cell in row.iterfind(f"{_A}tc"):
            lines = ("".join(_runs(paragraph)) for paragraph in cell.iter(f"{_A}p"))
            if cell.get("vMerge") in ("1", "true"):
                above = rows[-1] if rows else []
                cells.append(flow.repeated(above[len(cells)]) if len(cells) < len(above) else "")
            else:
                cells.append("" if cell.get("hMerge") in ("1", "true") else " ".join(filter(None, lines)))
        rows.append(cells)
    return flow.table(rows)


def _diagram(archive: Archive, name: str) -> Iterator[str]:
    root = xml.parsed(archive.read(name))
    if root is None:
        return
    lines = ("".join(_runs(paragraph)).strip() for paragraph in root.iter(f"{_A}p"))
    if text := "\n".join(f"- {line}" for line in lines if line):
        yield text


def _notes(archive: Archive, name: str) -> Iterator[str]:
    root = xml.parsed(archive.read(name))
    bodies = (shape for shape in (root.iter(f"{_P}sp") if root is not None else ()) if _placeholder(shape) == "body")
    texts = [text for body in bodies if (text := _text(body.find(f"{_P}txBody"), plain=True))]
    if texts:
        yield f"{say('Notes', '备注')}: {' '.join(texts)}"


__all__ = ["pages"]
