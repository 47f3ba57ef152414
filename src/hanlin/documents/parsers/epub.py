"""Electronic books: the chapters in their order, each on a page of its own or on several."""

from collections.abc import Iterator
from urllib.parse import unquote

from lxml import etree

from hanlin.documents.parsers import encodings, flow, html, xml
from hanlin.documents.parsers.archive import Archive
from hanlin.documents.parsers.work import Work
from hanlin.documents.unreadable import DocumentUnreadable
from hanlin.documents.values import Page

_CONTAINER = "{urn:oasis:names:tc:opendocument:xmlns:container}"
_OPF = "{http://www.idpf.org/2007/opf}"
_DC = "{http://purl.org/dc/elements/1.1/}"
_ENCRYPTION = "{http://www.w3.org/2001/04/xmlenc#}"
_FONTS_ONLY = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")
_PIECE_CHARACTERS = 64 * 1024


def pages(work: Work) -> Iterator[Page]:
    archive = Archive(work.path, work.limits)
    _refuse_protected(archive)
    container = xml.required(archive, "META-INF/container.xml")
    root_file = container.find(f"{_CONTAINER}rootfiles/{_CONTAINER}rootfile")
    name = unquote(str(root_file.get("full-path", ""))) if root_file is not None else ""
    package = xml.required(archive, xml.within("", name))
    work.title = package.findtext(f"{_OPF}metadata/{_DC}title") or ""
    hrefs = {
        str(item.get("id")): str(item.get("href", ""))
        for item in package.iterfind(f"{_OPF}manifest/{_OPF}item")
        if "html" in str(item.get("media-type", "")) or "xml" in str(item.get("media-type", ""))
    }
    spine = [str(item.get("idref")) for item in package.iterfind(f"{_OPF}spine/{_OPF}itemref")]
    folder, number, told = name.rpartition("/")[0], 1, set[str]()
    for done, item in enumerate(spine):
        work.tick(done, len(spine))
        chapter = xml.within(folder, unquote(hrefs.get(item, "").partition("#")[0]))
        if not archive.has(chapter) or chapter in told:
            continue
        told.add(chapter)
        for page in _chapter(archive.read(chapter), number):
            yield page
            number = page.number + 1


def _chapter(data: bytes, number: int) -> Iterator[Page]:
    """Return the pages of a chapter, labelled with its first heading."""
    text, body = _decoded(data), html.Body()
    texts = (text[start : start + _PIECE_CHARACTERS] for start in range(0, len(text), _PIECE_CHARACTERS))
    blocks = list(html.blocks(body, texts))
    label = (body.first_heading or body.title)[:100]
    return flow.paged(blocks, size=flow.MOST_CHARACTERS, first=number, label=label)


def _decoded(data: bytes) -> str:
    declared = encodings.declared_in(data[:1024]) or "utf-8"
    for codec in (declared, "utf-8", "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "gb18030"):
        try:
            return data.decode(codec).replace("\0", "")
        except (UnicodeDecodeError, LookupError):
            continue
    return data.decode("utf-8", "replace").replace("\0", "")


def _refuse_protected(archive: Archive) -> None:
    """Refuse a book whose chapters are encrypted. Fonts often are, and nobody needs those here."""
    try:
        root = xml.parsed(archive.read("META-INF/encryption.xml"))
    except etree.XMLSyntaxError:
        return
    for method in root.iter(f"{_ENCRYPTION}EncryptionMethod") if root is not None else ():
        if method.get("Algorithm") not in _FONTS_ONLY and method.getparent().tag == f"{_ENCRYPTION}EncryptedData":
            raise DocumentUnreadable("encrypted")


__all__ = ["pages"]
