"""PDF: the text of each page with its headings and ruled tables; a page without text is looked at as a picture."""

import contextlib
import ctypes
import itertools
import re
from collections.abc import Iterator, Sequence
from typing import Any

import pypdfium2
import pypdfium2.raw as pdfium

from hanlin.documents.parsers import pdf_columns, pdf_lines, pdf_tables
from hanlin.documents.parsers.pdf_lines import Line, Sizes
from hanlin.documents.parsers.pdf_tables import Ruled
from hanlin.documents.parsers.work import Work
from hanlin.documents.unreadable import DocumentUnreadable
from hanlin.documents.values import Page

_SAMPLES = 24  # pages that are looked at to know how large the document's text is
_FEW_CHARACTERS = 16
_DOTS_PER_POINT = 200 / 72
_PICTURE_PIXELS = 16_000_000
_PICTURE_POINTS = 40  # the sides of a picture that is looked at
_PAGE_PICTURES = 20
_UNREAD_SHARE = 0.5
_UNREADABLE = re.compile("[\ue000-\uf8ff\ufffd\x00-\x1f]")  # what comes of fonts that do not say what they show
_HEADING = re.compile("^#+ (.+)", re.MULTILINE)
_FURNITURE_LINES = 3  # above or below a table that goes over pages: the document's title, the page's number
_REOPEN_PAGES = 1_000  # PDFium keeps what it has parsed for as long as a document is open

Box = tuple[float, float, float, float]


def pages(work: Work) -> Iterator[Page]:
    document = _opened(work)
    count = len(document)
    if count > work.limits.pages:
        raise DocumentUnreadable("too_many_pages")
    if count == 0:
        raise DocumentUnreadable("broken")
    with contextlib.suppress(pypdfium2.PdfiumError):
        work.title = document.get_metadata_value("Title")
    sizes = _sizes(document, count)
    table: Ruled | None = None  # that ended the page before
    for index in range(count):
        if index and index % _REOPEN_PAGES == 0:
            document.close()
            document = _opened(work)
        text, table = _page(document, index, sizes, work, table)
        label = document.get_page_label(index) if index < len(document) else ""
        if not work.title and (found := _HEADING.search(text)):
            work.title = found[1]
        yield Page(index + 1, text, "" if label == str(index + 1) else label)
        work.tick(index + 1, count)
    if work.unread > _UNREAD_SHARE * count:
        raise DocumentUnreadable("needs_ocr")


def _opened(work: Work) -> pypdfium2.PdfDocument:
    try:
        return pypdfium2.PdfDocument(work.path)
    except pypdfium2.PdfiumError as error:
        raise DocumentUnreadable("encrypted" if "password" in str(error).lower() else "broken") from None


def _sizes(document: pypdfium2.PdfDocument, count: int) -> Sizes:
    lines: list[Line] = []
    for index in sorted({round(step * (count - 1) / max(_SAMPLES - 1, 1)) for step in range(_SAMPLES)}):
        with contextlib.suppress(pypdfium2.PdfiumError):
            page = document[index]
            textpage = page.get_textpage()
            lines += pdf_lines.lines_of(textpage.raw, pdf_lines.text_of(textpage.raw))
            textpage.close()
            page.close()
    return pdf_lines.sizes_of(lines)


def _page(
    document: pypdfium2.PdfDocument, index: int, sizes: Sizes, work: Work, before: Ruled | None
) -> tuple[str, Ruled | None]:
    """Return what stands on a page, and the table that ends it; a page that cannot be read at all is an empty one."""
    try:
        page = document[index]
    except pypdfium2.PdfiumError:
        return "", None
    try:
        textpage = page.get_textpage()
        raw = pdf_lines.text_of(textpage.raw)
        if _says_little(raw) and _has_pictures(page):
            textpage.close()
            return _looked_at(page, raw, work), None
        text, table = _text(page, textpage.raw, raw, sizes, before)
        if work.looks_everywhere:
            lines = pdf_lines.lines_of(textpage.raw, raw)
            text = "\n\n".join(filter(None, [text, *_in_pictures(page, lines, work)]))
        textpage.close()
        return text, table
    except pypdfium2.PdfiumError:
        return "", None
    finally:
        page.close()


def _text(page: Any, textpage: Any, raw: str, sizes: Sizes, before: Ruled | None) -> tuple[str, Ruled | None]:
    """Return the text of a page, and the table that ends it. `before` is the one that ended the page before."""
    lines = pdf_columns.unwoven(textpage, pdf_lines.lines_of(textpage, raw))
    ruled = pdf_tables.tables(page.raw, lambda *box: _text_in(textpage, *box))
    if not ruled:
        return "\n\n".join(text for _, text in pdf_lines.blocks(lines, sizes)), None
    outside = [line for line in lines if not any(table.holds(*line.middle) for table in ruled)]
    if before is not None and sum(line.bottom > ruled[0].top for line in outside) <= _FURNITURE_LINES:
        ruled[0] = pdf_tables.continued(ruled[0], before)
    ends = sum(line.top < ruled[-1].bottom for line in outside) <= _FURNITURE_LINES
    told: list[str] = []
    waiting = list(ruled)
    for first, text in pdf_lines.blocks(outside, sizes):
        while waiting and waiting[0].top >= first.top:
            told.append(waiting.pop(0).text)
        told.append(text)
    return "\n\n".join([*told, *(table.text for table in waiting)]), ruled[-1] if ends else None


def _text_in(textpage: Any, left: float, bottom: float, right: float, top: float) -> str:
    """Return the text within a box, a line a line."""
    count = pdfium.FPDFText_GetBoundedText(textpage, left, top, right, bottom, None, 0)
    if count <= 0:
        return ""
    buffer = ctypes.create_string_buffer(2 * count)
    pdfium.FPDFText_GetBoundedText(
        textpage, left, top, right, bottom, ctypes.cast(buffer, ctypes.POINTER(ctypes.c_ushort)), count
    )
    return buffer.raw.decode("utf-16-le", "replace").replace("\0", "").replace("\r\n", "\n")


def _says_little(text: str) -> bool:
    """Say whether a page has hardly any text, or only such as nobody can read: its font does not say what it shows."""
    plain = "".join(text.split())
    if len(plain) < _FEW_CHARACTERS:
        return True
    return len(_UNREADABLE.findall(plain[:500])) > 0.5 * min(len(plain), 500)


def _has_pictures(page: Any) -> bool:
    """Say whether there is anything to look at."""
    return bool(pdfium.FPDFPage_CountObjects(page.raw) > 0)


def _looked_at(page: Any, raw: str, work: Work) -> str:
    """Return what is written in the picture that a page is."""
    if not work.sight.can_read:
        if any(kind == pdfium.FPDF_PAGEOBJ_IMAGE for kind in _object_kinds(page)):
            work.unread += 1
        return raw.replace("\r\n", "\n").strip()
    return work.sight.read(_rendered(page))


def _rendered(page: Any, box: Box | None = None) -> Any:
    """Return a page, or what stands in a box of it, as an array of RGB."""
    width, height = page.get_size()
    scale = min(_DOTS_PER_POINT, (_PICTURE_PIXELS / max(width * height, 1)) ** 0.5)
    left, bottom, right, top = box or (0, 0, width, height)
    crop = (max(left, 0), max(bottom, 0), max(width - right, 0), max(height - top, 0))
    return page.render(scale=scale, crop=crop, rev_byteorder=True, prefer_bgrx=False).to_numpy()


def _in_pictures(page: Any, lines: Sequence[Line], work: Work) -> Iterator[str]:
    """Yield what is written in the pictures among a page's text; those that lie below text are told by it."""
    if page.get_rotation():
        return
    x, y, *_ = sheet = page.get_bbox()
    images = itertools.islice(page.get_objects(filter=[pdfium.FPDF_PAGEOBJ_IMAGE], max_depth=1), _PAGE_PICTURES)
    for box in [image.get_bounds() for image in images]:
        left, bottom = map(max, box[:2], sheet[:2])
        right, top = map(min, box[2:], sheet[2:])
        large = right - left >= _PICTURE_POINTS and top - bottom >= _PICTURE_POINTS
        middles = (line.middle for line in lines)
        if large and not any(left < at < right and bottom < height < top for at, height in middles):
            yield work.sight.read(_rendered(page, (left - x, bottom - y, right - x, top - y)))
            work.tick(0, 0)


def _object_kinds(page: Any) -> Iterator[int]:
    for index in range(min(pdfium.FPDFPage_CountObjects(page.raw), 1_000)):
        yield pdfium.FPDFPageObj_GetType(pdfium.FPDFPage_GetObject(page.raw, index))


__all__ = ["pages"]
