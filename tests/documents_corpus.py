"""Files that are broken, hostile or not what their names say, made on the spot, and what must become of each.

Nearly all of them are small: what makes them dangerous is what a careless reader would make of them.
"""

import io
import itertools
import json
import os
import random
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.big_documents import pdf_of, shown, write_docx, write_pdf

Make = Callable[[Path], None]

W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
ZH = "泵站的巡检记录由值班人员填写，每天两次。"
PASSWD = "root:x:0:0"
"""How the file begins that external entities and paths that climb are after."""


@dataclass(frozen=True)
class Case:
    """`outcome` is a reason, or text that must be among what is read. Several, where libraries may choose.

    `within` are the most pages that may come of it; `ocr` lets pictures be looked at.
    """

    filename: str
    make: Make
    outcome: tuple[str, ...]
    absent: str = "\0"
    ocr: bool = False
    within: int = 15_000


def _bytes(data: bytes) -> Make:
    return lambda path: _put(path, data)


def _put(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def _cut(make: Make, share: float) -> Make:
    """Keep only a share of a good file."""

    def cut(path: Path) -> None:
        make(path)
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * share)])

    return cut


# PDF


def pdf(path: Path) -> None:
    write_pdf(path, pages=3, language="zh", needles={2: ZH})


def pdf_raw(objects: Mapping[int, str | bytes], *, more: str = "", root: int = 1) -> bytes:
    """Return a PDF of these objects, with a table that finds them."""
    made, offsets = io.BytesIO(), dict[int, int]()
    made.write(b"%PDF-1.7\n")
    for number, body in objects.items():
        offsets[number] = made.tell()
        data = body.encode() if isinstance(body, str) else body
        made.write(b"%d 0 obj\n%b\nendobj\n" % (number, data))
    at, last = made.tell(), max(objects)
    made.write(b"xref\n0 %d\n0000000000 65535 f \n" % (last + 1))
    for number in range(1, last + 1):
        made.write(b"%010d 00000 n \n" % offsets.get(number, 0))
    made.write(f"trailer\n<< /Size {last + 1} /Root {root} 0 R {more} >>\nstartxref\n{at}\n%%EOF\n".encode())
    return made.getvalue()


def pdf_stream(data: bytes, entries: str = "") -> bytes:
    return b"<< /Length %d %b >>\nstream\n%b\nendstream" % (len(data), entries.encode(), data)


PAGE = "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] {more} >>"


def pdf_of_one(
    content: bytes, *, resources: str = "", entries: str = "", others: Mapping[int, str | bytes] = {}
) -> bytes:
    """Return a PDF of one page."""
    return pdf_raw(
        {
            1: "<< /Type /Catalog /Pages 2 0 R >>",
            2: "<< /Type /Pages /Count 1 /Kids [3 0 R] >>",
            3: PAGE.format(more=f"/Contents 4 0 R /Resources << {resources} >>"),
            4: pdf_stream(content, entries),
            **others,
        }
    )


def pdf_of_picture(path: Path) -> None:
    """Write what a scanner makes: a page that is one picture."""
    picture = pdf_stream(
        zlib.compress(b"\xff" * 30_000),
        "/Type /XObject /Subtype /Image /Width 100 /Height 100 /ColorSpace /DeviceRGB /BitsPerComponent 8"
        " /Filter /FlateDecode",
    )
    _put(path, pdf_of_one(b"q 595 0 0 842 0 0 cm /I Do Q", resources="/XObject << /I 5 0 R >>", others={5: picture}))


def pdf_of_many(path: Path, pages: int) -> None:
    """Write a PDF of many pages that say little more than their numbers."""
    pdf_of(path, lambda page: shown(f"This is page number {page} of this file", 72, 700, 12), pages)


def pdf_of_shared_pages(path: Path, pages: int) -> None:
    """Write a PDF whose pages are all the same object: it takes hardly any room."""
    kids = " ".join(["3 0 R"] * pages)
    objects = {
        1: "<< /Type /Catalog /Pages 2 0 R >>",
        2: f"<< /Type /Pages /Count {pages} /Kids [{kids}] >>",
        3: PAGE.format(more=""),
    }
    _put(path, pdf_raw(objects))


def pdf_nested_pages(depth: int) -> bytes:
    objects: dict[int, str | bytes] = {1: "<< /Type /Catalog /Pages 2 0 R >>"}
    for level in range(depth):
        objects[2 + level] = f"<< /Type /Pages /Count 1 /Kids [{3 + level} 0 R] /Parent {1 + level} 0 R >>"
    objects[2 + depth] = PAGE.format(more="")
    return pdf_raw(objects)


# Zip archives and Office files

RELATIONS = (
    '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="r1" '
    'Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" Target="{0}"/>'
    "</Relationships>"
)


def zipped(parts: Mapping[str, str | bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return made.getvalue()


def docx(body: str, *, before: str = "", more: Mapping[str, str | bytes] = {}) -> bytes:
    document = f'<?xml version="1.0"?>{before}<w:document xmlns:w="{W}"><w:body>{body}</w:body></w:document>'
    return zipped({"_rels/.rels": RELATIONS.format("word/document.xml"), "word/document.xml": document, **more})


def paragraph(text: str) -> str:
    return f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>"


def _columns(count: int) -> Iterator[str]:
    """Yield the names of columns as sheets count them: A, Z, AA, ZZ, AAA."""
    for length in (1, 2, 3):
        for letters in itertools.product("ABCDEFGHIJKLMNOPQRSTUVWXYZ", repeat=length):
            if count > 0:
                yield "".join(letters)
            count -= 1


def xlsx(
    rows: str, *, strings: str | None = None, sheets: int = 1, before: str = "", merged: Sequence[str] = ()
) -> bytes:
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    of = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    listed = "".join(f'<sheet name="S{n}" sheetId="{n}" r:id="s{n}"/>' for n in range(1, sheets + 1))
    related = "".join(
        f'<Relationship Id="s{n}" Type="{of}/worksheet" Target="worksheets/sheet{n}.xml"/>'
        for n in range(1, sheets + 1)
    )
    if strings is not None:
        related += f'<Relationship Id="x" Type="{of}/sharedStrings" Target="sharedStrings.xml"/>'
    joined = "".join(f'<mergeCell ref="{cells}"/>' for cells in merged)
    joined = f"<mergeCells>{joined}</mergeCells>" if merged else ""
    parts: dict[str, str | bytes] = {
        "_rels/.rels": RELATIONS.format("xl/workbook.xml"),
        "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{of}"><sheets>{listed}</sheets></workbook>',
        "xl/_rels/workbook.xml.rels": (
            f'<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">{related}</Relationships>'
        ),
    }
    for number in range(1, sheets + 1):
        data = f'{before}<worksheet xmlns="{main}"><sheetData>{rows}</sheetData>{joined}</worksheet>'
        parts[f"xl/worksheets/sheet{number}.xml"] = data
    if strings is not None:
        parts["xl/sharedStrings.xml"] = f'<sst xmlns="{main}">{strings}</sst>'
    return zipped(parts)


def cell(reference: str, text: str) -> str:
    return f'<c r="{reference}" t="inlineStr"><is><t>{text}</t></is></c>'


def pptx(slide: str | None) -> bytes:
    p = "http://schemas.openxmlformats.org/presentationml/2006/main"
    a = "http://schemas.openxmlformats.org/drawingml/2006/main"
    of = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    parts: dict[str, str | bytes] = {
        "_rels/.rels": RELATIONS.format("ppt/presentation.xml"),
        "ppt/presentation.xml": (
            f'<p:presentation xmlns:p="{p}" xmlns:r="{of}"><p:sldIdLst><p:sldId id="1" r:id="s"/></p:sldIdLst>'
            "</p:presentation>"
        ),
        "ppt/_rels/presentation.xml.rels": (
            '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
            f'<Relationship Id="s" Type="{of}/slide" Target="slides/slide1.xml"/></Relationships>'
        ),
    }
    if slide is not None:
        parts["ppt/slides/slide1.xml"] = (
            f'<p:sld xmlns:p="{p}" xmlns:a="{a}"><p:cSld><p:spTree>{slide}</p:spTree></p:cSld></p:sld>'
        )
    return zipped(parts)


def epub(
    chapters: Mapping[str, str], *, spine: int = 1, more: Mapping[str, str | bytes] = {}, stored: Mapping[str, str] = {}
) -> bytes:
    """Return a book. `chapters` are what its list says, `stored` what is there when that is something else."""
    items = "".join(
        f'<item id="c{n}" href="{name}" media-type="application/xhtml+xml"/>' for n, name in enumerate(chapters)
    )
    order = "".join(f'<itemref idref="c{n}"/>' for n in range(len(chapters))) * spine
    return zipped(
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": (
                '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
                '<rootfile full-path="OEBPS/book.opf"/></rootfiles></container>'
            ),
            "OEBPS/book.opf": (
                '<package xmlns="http://www.idpf.org/2007/opf"><metadata><dc:title '
                'xmlns:dc="http://purl.org/dc/elements/1.1/">Book</dc:title></metadata>'
                f"<manifest>{items}</manifest><spine>{order}</spine></package>"
            ),
            **{f"OEBPS/{name}": text for name, text in (stored or chapters).items()},
            **more,
        }
    )


def lying(data: bytes, name: bytes, size: int) -> bytes:
    """Make an archive say that a part is as small as this."""
    made = bytearray(data)
    for magic, at_size, at_name in ((b"PK\x03\x04", 22, 30), (b"PK\x01\x02", 24, 46)):
        at = -1
        while (at := made.find(magic, at + 1)) >= 0:
            if made[at + at_name :].startswith(name):
                struct.pack_into("<L", made, at + at_size, size)
    return bytes(made)


def flagged(data: bytes) -> bytes:
    """Make an archive say that its parts are encrypted."""
    made = bytearray(data)
    for magic, at_flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = -1
        while (at := made.find(magic, at + 1)) >= 0:
            made[at + at_flags] |= 1
    return bytes(made)


def overlapping(name: str, data: bytes, times: int) -> bytes:
    """Return an archive whose list names one and the same part many times."""
    packed = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = packed.compress(data) + packed.flush()
    crc, sizes = zlib.crc32(data), (len(body), len(data))
    local = struct.pack("<4s5H3L2H", b"PK\x03\x04", 20, 0, 8, 0, 0, crc, *sizes, len(name), 0) + name.encode() + body
    entries = b""
    for number in range(times):
        own = f"{name}{number}".encode()
        entries += struct.pack(
            "<4s6H3L5H2L", b"PK\x01\x02", 20, 20, 0, 8, 0, 0, crc, *sizes, len(own), 0, 0, 0, 0, 0, 0
        )
        entries += own
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, times, times, len(entries), len(local), 0)
    return local + entries + end


def ole(stream: str) -> bytes:
    """Return the container of the old Office with a stream of this name."""
    return b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504) + f"{stream}\0".encode("utf-16-le") + bytes(1000)


def entities(root: str, text: str = "") -> str:
    """Return a document type whose entities, taken literally, are a billion words."""
    made = "".join(f'<!ENTITY e{level} "{f"&e{level - 1};" * 10 if level else "lol"}">' for level in range(10))
    return f"<!DOCTYPE {root} [{made}]>{text}"


def external(root: str) -> str:
    return f'<!DOCTYPE {root} [<!ENTITY x SYSTEM "file:///etc/passwd">]>'


# Pictures


def png(width: int, height: int, data: bytes = b"") -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">L", len(body)) + kind + body + struct.pack(">L", zlib.crc32(kind + body))

    header = struct.pack(">LLBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def _noise(count: int) -> bytes:
    return random.Random(count).randbytes(count)


def _link(path: Path) -> None:
    (path.parent / "target.txt").write_text(ZH, encoding="utf-8")
    path.symlink_to(path.parent / "target.txt")


def _scratched(data: bytes) -> bytes:
    """Change some bytes in the middle of an archive's largest part."""
    at = data.index(b"word/document.xml") + 60
    return data[:at] + b"\x55" * 12 + data[at + 12 :]


def _good(write: Callable[..., None]) -> Make:
    return lambda path: write(path, pages=3, language="zh", needles={2: ZH})


PDFS: Mapping[str, Case] = {
    "pdf good": Case("a.pdf", pdf, (ZH,)),
    "pdf of ten thousand pages": Case("a.pdf", lambda path: pdf_of_many(path, 10_000), ("page number 10000 of",)),
    "pdf of sixteen thousand pages": Case("a.pdf", lambda path: pdf_of_shared_pages(path, 16_000), ("too_many_pages",)),
    "pdf cut after its header": Case("a.pdf", _bytes(b"%PDF-1.7\n"), ("broken",)),
    "pdf cut to a tenth": Case("a.pdf", _cut(pdf, 0.1), ("broken", "blank")),
    "pdf cut in the middle": Case("a.pdf", _cut(pdf, 0.5), ("broken", "blank", "泵")),
    "pdf without its end": Case("a.pdf", _cut(pdf, 0.97), (ZH, "broken")),
    "pdf of noise": Case("a.pdf", _bytes(b"%PDF-1.7\n" + _noise(20_000)), ("broken",)),
    "pdf of empty pages": Case("a.pdf", lambda path: pdf_of_shared_pages(path, 3), ("blank",)),
    "pdf encrypted": Case(
        "a.pdf",
        _bytes(
            pdf_raw(
                {
                    1: "<< /Type /Catalog /Pages 2 0 R >>",
                    2: "<< /Type /Pages /Count 1 /Kids [3 0 R] >>",
                    3: PAGE.format(more=""),
                    4: f"<< /Filter /Standard /V 1 /R 2 /O <{'41' * 32}> /U <{'42' * 32}> /P -4 >>",
                },
                more=f"/Encrypt 4 0 R /ID [<{'00' * 16}> <{'00' * 16}>]",
            )
        ),
        ("encrypted",),
    ),
    "pdf whose pages go in a circle": Case(
        "a.pdf",
        _bytes(
            pdf_raw(
                {
                    1: "<< /Type /Catalog /Pages 2 0 R >>",
                    2: "<< /Type /Pages /Count 10 /Kids [3 0 R 2 0 R] /Parent 3 0 R >>",
                    3: "<< /Type /Pages /Count 10 /Kids [2 0 R 3 0 R] /Parent 2 0 R >>",
                }
            )
        ),
        ("broken", "blank"),
    ),
    "pdf whose pages are deeply nested": Case("a.pdf", _bytes(pdf_nested_pages(5_000)), ("broken", "blank")),
    "pdf that claims a billion pages": Case(
        "a.pdf",
        _bytes(
            pdf_raw(
                {
                    1: "<< /Type /Catalog /Pages 2 0 R >>",
                    2: "<< /Type /Pages /Count 1000000000 /Kids [3 0 R] >>",
                    3: PAGE.format(more=""),
                }
            )
        ),
        ("too_many_pages", "broken", "blank"),
    ),
    "pdf with a stream that unpacks to hundreds of megabytes": Case(
        "a.pdf",
        lambda path: _put(
            path,
            pdf_of_one(
                zlib.compress(zlib.compress(b" " * 200_000_000, 1), 9), entries="/Filter [/FlateDecode /FlateDecode]"
            ),
        ),
        ("blank", "broken", "memory"),
    ),
    "pdf with a drawing that draws itself": Case(
        "a.pdf",
        _bytes(
            pdf_of_one(
                b"/X Do",
                resources="/XObject << /X 5 0 R >>",
                others={
                    5: pdf_stream(
                        b"/X Do /X Do",
                        "/Type /XObject /Subtype /Form /BBox [0 0 9 9] /Resources << /XObject << /X 5 0 R >> >>",
                    )
                },
            )
        ),
        ("blank", "broken"),
    ),
    "pdf whose tables go in a circle": Case(
        "a.pdf",
        _bytes(b"%PDF-1.7\nxref\n0 1\n0000000000 65535 f \ntrailer\n<< /Size 1 /Prev 9 >>\nstartxref\n9\n%%EOF\n"),
        ("broken",),
    ),
    "pdf with deeply nested lists": Case(
        "a.pdf", _bytes(pdf_raw({1: "[" * 100_000 + "]" * 100_000, 2: "<< >>"})), ("broken",)
    ),
    "pdf with a million operators": Case(
        "a.pdf",
        _bytes(pdf_of_one(zlib.compress(b"q " * 1_000_000), entries="/Filter /FlateDecode")),
        ("blank", "broken"),
    ),
    "pdf with a table of very many cells": Case(
        "a.pdf",
        _bytes(
            pdf_of_one(
                zlib.compress(
                    "".join(
                        [f"10 {10 + n * 8} m 590 {10 + n * 8} l S\n" for n in range(90)]
                        + [f"{10 + n * 8} 10 m {10 + n * 8} 730 l S\n" for n in range(70)]
                    ).encode()
                ),
                entries="/Filter /FlateDecode",
            )
        ),
        ("blank",),
    ),
    "pdf of pictures": Case("a.pdf", pdf_of_picture, ("needs_ocr",)),
}

ARCHIVES: Mapping[str, Case] = {
    "docx good": Case("a.docx", _good(write_docx), (ZH,)),
    "docx that is a bomb": Case(
        "a.docx",
        lambda path: _put(path, docx(paragraph("x" * 1_000_000) * 80)),
        ("too_large",),
    ),
    "docx that lies about its size": Case(
        "a.docx", _bytes(lying(docx(paragraph("x" * 5_000_000)), b"word/document.xml", 1000)), ("broken",)
    ),
    "docx cut in the middle": Case("a.docx", _cut(_good(write_docx), 0.5), ("broken",)),
    "docx cut to its beginning": Case("a.docx", _cut(_good(write_docx), 0.01), ("broken",)),
    "docx without its end": Case("a.docx", _cut(_good(write_docx), 0.99), ("broken",)),
    "docx of noise": Case("a.docx", _bytes(b"PK\x03\x04" + _noise(5_000)), ("broken",)),
    "docx without a document": Case("a.docx", _bytes(zipped({"word/styles.xml": "<x/>"})), ("broken",)),
    "docx that is no xml": Case("a.docx", _bytes(zipped({"word/document.xml": "<w:document><w:body>"})), ("broken",)),
    "docx with a part that is damaged": Case(
        "a.docx",
        _bytes(_scratched(docx(paragraph(ZH * 100)))),
        ("broken",),
    ),
    "docx without text": Case("a.docx", _bytes(docx("<w:p/>")), ("blank",)),
    "docx with a billion words": Case("a.docx", _bytes(docx(paragraph("&e9;"), before=entities("w"))), ("broken",)),
    "docx that wants another file": Case(
        "a.docx", _bytes(docx(paragraph("&x;"), before=external("w"))), ("broken", "blank"), absent=PASSWD
    ),
    "docx of nested tables": Case(
        "a.docx",
        _bytes(docx("<w:tbl><w:tr><w:tc>" * 20_000 + paragraph(ZH) + "</w:tc></w:tr></w:tbl>" * 20_000)),
        ("broken", ZH),
    ),
    "docx of one endless paragraph": Case(
        "a.docx", lambda path: _put(path, docx(paragraph(_varied(2_000_000)))), ("endless 1999",)
    ),
    "docx of cells that go on from cells that are not there": Case(
        "a.docx",
        _bytes(
            docx(f"<w:tbl><w:tr><w:tc><w:tcPr><w:vMerge/></w:tcPr></w:tc><w:tc>{paragraph(ZH)}</w:tc></w:tr></w:tbl>")
        ),
        (ZH,),
    ),
    "docx whose parts are encrypted": Case("a.docx", _bytes(flagged(docx(paragraph(ZH)))), ("encrypted",)),
    "docx with a password": Case("a.docx", _bytes(ole("EncryptedPackage")), ("encrypted",)),
    "xlsx with a password": Case("a.xlsx", _bytes(ole("EncryptedPackage")), ("encrypted",)),
    "docx named as pdf": Case("a.pdf", _bytes(docx(paragraph(ZH))), (ZH,)),
    "pdf named as docx": Case("a.docx", pdf, (ZH,)),
    "an archive in an archive": Case("a.zip", _bytes(zipped({"a.docx": docx(paragraph(ZH))})), ("format",)),
    "an archive named as docx": Case("a.docx", _bytes(zipped({"a.txt": ZH})), ("format",)),
    "an archive of too many parts": Case(
        "a.docx", lambda path: _put(path, zipped({f"word/{n}": b"" for n in range(25_000)})), ("too_large",)
    ),
    "an archive whose parts overlap": Case(
        "a.xlsx", _bytes(overlapping("xl/worksheets/sheet", b" " * 1_000_000, 2_000)), ("broken",)
    ),
    "xlsx with references beyond all sheets": Case(
        "a.xlsx",
        _bytes(
            xlsx(
                f'<row r="1">{cell("A1", "甲")}{cell("ZZZZZZ99999999999", "乙")}</row>'
                f'<row r="1048576">{cell("XFD1048576", "丙")}{cell("-1", "丁")}{cell("", "戊")}</row>'
            )
        ),
        ("戊",),
        within=1,
    ),
    "xlsx with strings that are not there": Case(
        "a.xlsx",
        _bytes(
            xlsx(f'<row><c t="s"><v>99999999999999</v></c><c t="s"><v>-1</v></c>{cell("C1", ZH)}</row>', strings="")
        ),
        (ZH,),
    ),
    "xlsx with one long string in all cells": Case(
        "a.xlsx",
        lambda path: _put(
            path,
            xlsx("<row>" + '<c t="s"><v>0</v></c>' * 1_000 + "</row>", strings=f"<si><t>{_varied(1_000_000)}</t></si>"),
        ),
        ("too_large", "memory"),
    ),
    "xlsx of five hundred sheets": Case(
        "a.xlsx", lambda path: _put(path, xlsx(f"<row>{cell('A1', ZH)}</row>", sheets=500)), (ZH,), within=500
    ),
    "xlsx whose cells all go down to the last row": Case(
        "a.xlsx",
        lambda path: _put(
            path,
            xlsx(
                "".join(f'<row r="{n}">{cell(f"B{n}", ZH)}</row>' for n in range(1, 30_000)),
                merged=[f"A{n}:A1048576" for n in range(1, 30_000)],
            ),
        ),
        (ZH,),
        within=30_000,
    ),
    "xlsx with merged cells that are none": Case(
        "a.xlsx",
        _bytes(
            xlsx(f'<row r="x">{cell("A1", ZH)}</row>', merged=["A1:A0", "ZZZ1:ZZZ9", "A9999999:B9999999", "A1" * 99])
        ),
        (ZH,),
    ),
    "xlsx with labels that go down in every column": Case(
        "a.xlsx",
        lambda path: _put(
            path,
            xlsx(
                "<row r='1'>" + '<c t="s"><v>0</v></c>' * 300 + "</row>" + "<row><c><v>1</v></c></row>" * 1_000,
                strings=f"<si><t>{ZH}</t></si>",
                merged=[f"{column}1:{column}1048576" for column in _columns(300)],
            ),
        ),
        (ZH,),
    ),
    "xlsx with a billion words": Case(
        "a.xlsx", _bytes(xlsx(f"<row>{cell('A1', '&e9;')}</row>", before=entities("w"))), ("broken",)
    ),
    "xlsx without cells": Case("a.xlsx", _bytes(xlsx("")), ("blank",)),
    "xlsx with an empty workbook": Case("a.xlsx", _bytes(zipped({"xl/workbook.xml": ""})), ("broken",)),
    "pptx without its slide": Case("a.pptx", _bytes(pptx(None)), ("blank",)),
    "pptx of nested groups": Case(
        "a.pptx", _bytes(pptx("<p:grpSp>" * 3_000 + "</p:grpSp>" * 3_000)), ("broken", "blank")
    ),
    "pptx with a billion words": Case(
        "a.pptx", _bytes(zipped({"ppt/presentation.xml": entities("p", "<p>&e9;</p>")})), ("blank", "broken")
    ),
    "epub good": Case("a.epub", _bytes(epub({"a.xhtml": f"<html><body><p>{ZH}</p></body></html>"})), (ZH,)),
    "epub whose chapters climb out": Case(
        "a.epub",
        _bytes(epub({"../../../../../../etc/passwd": "", "/etc/passwd": ""}, stored={"x": ""})),
        ("blank",),
        absent=PASSWD,
    ),
    "epub whose parts are named to climb out": Case(
        "a.epub", _bytes(epub({"../../../../../../tmp/x.xhtml": f"<p>{ZH}</p>"})), (ZH, "blank")
    ),
    "epub that wants another file": Case(
        "a.epub",
        _bytes(epub({"a.xhtml": f'<?xml version="1.0"?>{external("html")}<html><body><p>{ZH}&x;</p></body></html>'})),
        (ZH,),
        absent=PASSWD,
    ),
    "epub that tells one chapter for ever": Case(
        "a.epub",
        lambda path: _put(path, epub({"a.xhtml": f"<p>{ZH}</p>" * 1_000}, spine=50_000)),
        (ZH,),
        within=10,
    ),
    "epub with a licence": Case(
        "a.epub",
        _bytes(
            epub(
                {"a.xhtml": ZH},
                more={
                    "META-INF/encryption.xml": (
                        '<encryption xmlns:e="http://www.w3.org/2001/04/xmlenc#"><e:EncryptedData>'
                        '<e:EncryptionMethod Algorithm="http://www.w3.org/2001/04/xmlenc#aes128-cbc"/>'
                        "</e:EncryptedData></encryption>"
                    )
                },
            )
        ),
        ("encrypted",),
    ),
    "epub of chapters in a trap": Case(
        "a.epub",
        _bytes(epub({"a.xhtml": f'<?xml version="1.0" encoding="punycode"?><p>{ZH}{"-a" * 200_000}'})),
        (ZH,),
    ),
    "epub without a list": Case("a.epub", _bytes(zipped({"META-INF/container.xml": "<container/>"})), ("broken",)),
}

TEXTS: Mapping[str, Case] = {
    "nothing at all": Case("a.txt", _bytes(b""), ("blank",)),
    "a pdf of nothing at all": Case("a.pdf", _bytes(b""), ("blank",)),
    "blanks": Case("a.txt", _bytes(b" \n\t\r\n" * 1000), ("blank",)),
    "noise named as text": Case("a.txt", _bytes(_noise(5_000)), ("format",)),
    "noise named as docx": Case("a.docx", _bytes(_noise(5_000)), ("broken",)),
    "noise named as picture": Case("a.png", _bytes(_noise(5_000)), ("broken",)),
    "noise of no name": Case("a.bin", _bytes(_noise(5_000)), ("format",)),
    "text of an unknown name": Case("a.xyz", _bytes(ZH.encode()), ("format",)),
    "a program": Case("a.exe", _bytes(b"MZ" + bytes(100) + _noise(5_000)), ("format",)),
    "zeros": Case("a.txt", _bytes(bytes(5_000)), ("format",)),
    "text with zeros in it": Case("a.txt", _bytes(f"{ZH}\0\n".encode() * 20), (ZH,)),
    "utf-8 that is damaged": Case("a.txt", _bytes((f"{ZH}\n" * 50).encode()[:-1].replace(b"\n", b"\xff\n", 3)), (ZH,)),
    "utf-16 that is cut": Case("a.txt", _bytes((f"{ZH}\n" * 5).encode("utf-16")[:-1]), (ZH,)),
    "gb18030": Case("a.txt", _bytes(ZH.encode("gb18030")), (ZH,)),
    "big5": Case("a.txt", _bytes("泵站的巡檢記錄由值班人員填寫".encode("big5")), ("泵站的巡檢記錄",)),
    "csv of one endless line": Case(
        "a.csv",
        lambda path: _put(path, b"value,other\n" + b"12345,67890;" * 8_400_000),
        ("12345,67890;",),
        within=40_000,
    ),
    "csv with an endless quotation": Case("a.csv", _bytes(b'a,b\n1,"2\n' + b"3,4\n" * 500_000 + ZH.encode()), (ZH,)),
    "csv of too many columns": Case(
        "a.csv", _bytes((",".join(map(str, range(100_000))) + f"\n1,{ZH}\n").encode()), (ZH,)
    ),
    "html of nested divisions": Case(
        "a.html", _bytes(f"<html>{'<div>' * 100_000}{ZH}{'</div>' * 100_000}".encode()), (ZH,)
    ),
    "html of lists without ends": Case("a.html", _bytes(f"<html>{'<ul><li>' * 20_000}{ZH}".encode()), (ZH,)),
    "html of tables without ends": Case("a.html", _bytes(f"<html>{'<table><tr><td>' * 20_000}{ZH}".encode()), (ZH,)),
    "html with an endless attribute": Case(
        "a.html", _bytes(f'<html><p title="{"x" * 5_000_000}">{ZH}'.encode()), (ZH,)
    ),
    "html of tags without ends": Case("a.html", _bytes(f"<html>{'<b>' * 300_000}{ZH}".encode()), (ZH,)),
    "html of cells that hang down": Case(
        "a.html",
        _bytes(
            f"<html><table><tr>{f'<td rowspan=65534 colspan=1000>{ZH}' * 200}{'<tr><td>x' * 2_000}</table>".encode()
        ),
        (ZH,),
    ),
    "html with an endless title": Case(
        "a.html", _bytes(f"<html><title>{'&amp;' * 500_000}</title><p>{ZH}".encode()), (ZH,)
    ),
    "html of one endless paragraph": Case(
        "a.html", lambda path: _put(path, b"<html><p>" + b"word\n" * 1_000_000 + ZH.encode()), (ZH,)
    ),
    "html that says it is written in a trap": Case(
        "a.html", _bytes(b'<html><meta charset="punycode"><p>' + ZH.encode("gb18030") + b"-a" * 200_000), (ZH,)
    ),
    "text of nothing but ends of pages": Case("a.txt", lambda path: _put(path, b"\f" * 20_000_000), ("too_large",)),
    "csv whose first lines are one quotation": Case(
        "a.csv", lambda path: _put(path, (b'"' + b"x" * 500_000 + b"\n") * 5 + ZH.encode()), (ZH,), within=2_000
    ),
    "html named as pdf": Case("a.pdf", _bytes(f"<!DOCTYPE html><html><p>{ZH}".encode()), (ZH,)),
    "json of nested lists": Case("a.json", _bytes(b"[" * 100_000 + b"]" * 100_000), ("[[[[",)),
    "json of nested objects": Case("a.json", _bytes(b'{"a":' * 100_000 + b"1" + b"}" * 100_000), ('{"a":{"a":',)),
    "json that is cut": Case("a.json", _bytes(json.dumps([{"a": ZH}], ensure_ascii=False)[:-2].encode()), (ZH,)),
    "json with an endless number": Case("a.json", _bytes(b'[{"a":' + b"9" * 200_000 + b"}]"), ("999999",)),
    "json of records unlike one another": Case(
        "a.json",
        _bytes(json.dumps([{"a": 1}] * 5_000 + [{"b": [ZH]}] + [{"a": 2}] * 5_000, ensure_ascii=False).encode()),
        (ZH,),
    ),
    "an old word document": Case("a.doc", _bytes(ole("WordDocument")), ("format",)),
    "an old workbook": Case("a.xls", _bytes(ole("Workbook")), ("format",)),
    "an old presentation": Case("a.ppt", _bytes(ole("PowerPoint Document")), ("format",)),
    "an old word document named as docx": Case("a.docx", _bytes(ole("WordDocument")), ("format",)),
    "a mobi book": Case("a.mobi", _bytes(bytes(60) + b"BOOKMOBI" + bytes(500)), ("format",)),
    "rich text": Case("a.rtf", _bytes(b"{\\rtf1\\ansi text}"), ("format",)),
    "packed": Case("a.gz", _bytes(b"\x1f\x8b\x08" + _noise(100)), ("format",)),
    "a link": Case("a.txt", _link, ("broken",)),
    "a pipe": Case("a.txt", lambda path: os.mkfifo(path), ("broken",)),
    "a folder": Case("a.txt", lambda path: path.mkdir(), ("broken",)),
}

PICTURES: Mapping[str, Case] = {
    "png of two billion pixels": Case("a.png", _bytes(png(50_000, 50_000)), ("too_large",)),
    "png that nobody can read": Case("a.png", _bytes(png(100, 100, b"\xff" * 30_100)), ("needs_ocr",)),
    "png that is cut": Case("a.png", _bytes(png(1000, 1000, bytes(3_001_000))[:-900]), ("broken",), ocr=True),
    "png of no size": Case("a.png", _bytes(png(0, 0)), ("broken",)),
    "jpeg of noise": Case("a.jpg", _bytes(b"\xff\xd8\xff\xe0" + _noise(2_000)), ("broken",)),
    "gif of four billion pixels": Case("a.gif", _bytes(b"GIF89a" + b"\xff" * 4 + bytes(20)), ("too_large", "broken")),
    "bmp of four billion pixels": Case(
        "a.bmp",
        _bytes(b"BM" + bytes(8) + struct.pack("<LLllHHLLLLLL", 54, 40, 60_000, 60_000, 1, 24, 0, 0, 0, 0, 0, 0)),
        ("too_large", "broken"),
    ),
    "png named as jpeg": Case("a.jpg", _bytes(png(100, 100, b"\xff" * 30_100)), ("needs_ocr",)),
}

CORPUS: Mapping[str, Case] = {**PDFS, **ARCHIVES, **TEXTS, **PICTURES}


def _varied(characters: int) -> str:
    """Return text that no packer makes small."""
    chance, words, length = random.Random(7), list[str](), 0
    while length < characters:
        word = f"endless {len(words)} {chance.getrandbits(64):x}"
        words.append(word)
        length += len(word) + 1
    return " ".join(words)
