"""PDF: the text of each page with its headings and ruled tables; a page without text is looked at as a picture."""

import contextlib
import ctypes
import re
from collections.abc import Iterator
from typing import Any

import pypdfium2
import pypdfium2.raw as pdfium

from hanlin.documents.parsers import pdf_columns, pdf_lines, pdf_tables
from hanlin.documents.parsers.ocr import Eyes
from hanlin.documents.parsers.pdf_lines import Line, Sizes
from hanlin.documents.parsers.work import Work
from hanlin.documents.unreadable import DocumentUnreadable
from hanlin.documents.values import Page

_SAMPLES = 24  # pages that are looked at to know how large the document's text is
_FEW_CHARACTERS = 16
_DOTS_PER_POINT = 200 / 72
_PICTURE_PIXELS = 16_000_000
_UNREAD_SHARE = 0.5
_UNREADABLE = re.compile("[\ue000-\uf8ff\ufffd\x00-\x1f]")  # what comes of fonts that do not say what they show
_HEADING = re.compile("^#+ (.+)", re.MULTILINE)
_REOPEN_PAGES = 1_000  # PDFium keeps what it has parsed for as long as a document is open


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
    eyes = Eyes(work.limits)
    for index in range(count):
        if index and index % _REOPEN_PAGES == 0:
            document.close()
            document = _opened(work)
        text = _page(document, index, sizes, eyes, work)
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


def _page(document: pypdfium2.PdfDocument, index: int, sizes: Sizes, eyes: Eyes, work: Work) -> str:
    """Return what stands on a page; a page that cannot be read at all is an empty one."""
    try:
        page = document[index]
    except pypdfium2.PdfiumError:
        return ""
    try:
        textpage = page.get_textpage()
        raw = pdf_lines.text_of(textpage.raw)
        if _says_little(raw) and _has_pictures(page):
            textpage.close()
            return _looked_at(page, raw, eyes, work)
        text = _text(page, textpage.raw, raw, sizes)
        textpage.close()
        return text
    except pypdfium2.PdfiumError:
        return ""
    finally:
        page.close()


def _text(page: Any, textpage: Any, raw: str, sizes: Sizes) -> str:
    lines = pdf_columns.unwoven(textpage, pdf_lines.lines_of(textpage, raw))
    ruled = pdf_tables.tables(page.raw, lambda *box: _text_in(textpage, *box))
    if not ruled:
        return "\n\n".join(text for _, text in pdf_lines.blocks(lines, sizes))
    outside = [line for line in lines if not any(table.holds(*line.middle) for table in ruled)]
    told: list[str] = []
    waiting = list(ruled)
    for first, text in pdf_lines.blocks(outside, sizes):
        while waiting and waiting[0].top >= first.top:
            told.append(waiting.pop(0).text)
        told.append(text)
    return "\n\n".join([*told, *(table.text for table in waiting)])


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


def _looked_at(page: Any, raw: str, eyes: Eyes, work: Work) -> str:
    """Return what is written in the picture that a page is."""
    if not eyes.can_read:
        if any(kind == pdfium.FPDF_PAGEOBJ_IMAGE for kind in _object_kinds(page)):
            work.unread += 1
        return raw.replace("\r\n", "\n").strip()
    width, height = page.get_size()
    scale = min(_DOTS_PER_POINT, (_PICTURE_PIXELS / max(width * height, 1)) ** 0.5)
    bitmap = page.render(scale=scale, rev_byteorder=True, prefer_bgrx=False)
    picture = bitmap.to_numpy()
    return eyes.read(picture)


def _object_kinds(page: Any) -> Iterator[int]:
    for index in range(min(pdfium.FPDFPage_CountObjects(page.raw), 1_000)):
        yield pdfium.FPDFPageObj_GetType(pdfium.FPDFPage_GetObject(page.raw, index))


__all__ = ["pages"]
