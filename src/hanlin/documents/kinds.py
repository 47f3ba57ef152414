"""What kind of file something is: by its content where that is certain, by its name where content could be several.

A kind is a row: what it is called, how such files are named, who reads them, or what to do instead.
"""

import mmap
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from hanlin.documents.limits import Limits
from hanlin.documents.parsers import encodings
from hanlin.documents.parsers.archive import Archive
from hanlin.documents.unreadable import DocumentUnreadable
from hanlin.words import say

_HEAD_BYTES = 4096


@dataclass(frozen=True)
class Kind:
    """`parser` is a module of `hanlin.documents.parsers`; without one the kind is known and refused, with `instead`.

    `is_text` files are told apart by their names. `counts_pages`: its pages are those that people see, and the
    contract's limit of pages is about them.
    """

    name: str
    extensions: tuple[str, ...]
    parser: str = ""
    instead: tuple[str, str] = ("", "")
    is_text: bool = False
    counts_pages: bool = False


def _save_as(what: str) -> tuple[str, str]:
    return f"save it as {what} and upload that", f"请另存为 {what} 后重新上传"


KINDS: Sequence[Kind] = (
    Kind("pdf", ("pdf",), "pdf", counts_pages=True),
    Kind("docx", ("docx", "docm", "dotx"), "docx", counts_pages=True),
    Kind("xlsx", ("xlsx", "xlsm", "xltx"), "xlsx"),
    Kind("pptx", ("pptx", "pptm", "ppsx"), "pptx", counts_pages=True),
    Kind("epub", ("epub",), "epub"),
    Kind("html", ("html", "htm", "xhtml", "shtml"), "html", is_text=True),
    Kind("md", ("md", "markdown"), "plain", is_text=True),
    Kind("txt", ("txt", "text", "log", ""), "plain", is_text=True),
    Kind("csv", ("csv", "tsv", "tab"), "delimited", is_text=True),
    Kind("json", ("json", "jsonl", "ndjson"), "structured", is_text=True),
    Kind("png", ("png",), "picture"),
    Kind("jpeg", ("jpg", "jpeg"), "picture"),
    Kind("gif", ("gif",), "picture"),
    Kind("bmp", ("bmp",), "picture"),
    Kind("doc", ("doc", "dot", "wps"), instead=_save_as(".docx")),
    Kind("xls", ("xls", "xlt", "et"), instead=_save_as(".xlsx")),
    Kind("xlsb", ("xlsb",), instead=_save_as(".xlsx")),
    Kind("ppt", ("ppt", "pps", "dps"), instead=_save_as(".pptx")),
    Kind("mobi", ("mobi", "azw", "azw3", "prc"), instead=_save_as(".epub")),
    Kind("rtf", ("rtf",), instead=_save_as(".docx")),
    Kind("odf", ("odt", "ods", "odp"), instead=_save_as(".docx, .xlsx, .pptx")),
    Kind("webp", ("webp",), instead=_save_as(".png")),
    Kind("tiff", ("tif", "tiff"), instead=_save_as(".pdf, .png")),
    Kind("archive", ("zip", "gz", "7z", "rar", "tar"), instead=("unpack it and upload its files", "请解压后逐个上传")),
)
BY_NAME: Mapping[str, Kind] = {kind.name: kind for kind in KINDS}
BY_EXTENSION: Mapping[str, Kind] = {extension: kind for kind in KINDS for extension in kind.extensions}

_MAGIC: Sequence[tuple[int, bytes, str]] = (  # where in the file, what stands there, what it then is
    (0, b"\x89PNG\r\n\x1a\n", "png"),
    (0, b"\xff\xd8\xff", "jpeg"),
    (0, b"GIF87a", "gif"),
    (0, b"GIF89a", "gif"),
    (0, b"{\\rtf", "rtf"),
    (60, b"BOOKMOBI", "mobi"),
    (60, b"TEXtREAd", "mobi"),
    (8, b"WEBPVP8", "webp"),
    (0, b"II*\0", "tiff"),
    (0, b"MM\0*", "tiff"),
    (0, b"\x1f\x8b\x08", "archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "archive"),
    (0, b"Rar!\x1a\x07", "archive"),
    (257, b"ustar", "archive"),
)
_ZIP, _OLE = (b"PK\x03\x04", b"PK\x05\x06"), b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_OLE_STREAMS: Sequence[tuple[str, str]] = (  # an entry of the container's directory, and the kind that has it
    ("EncryptedPackage", "encrypted"),
    ("WordDocument", "doc"),
    ("Workbook", "xls"),
    ("Book", "xls"),
    ("PowerPoint Document", "ppt"),
)
_PARTS: Sequence[tuple[str, str]] = (  # how the name of a part begins, and the kind of archive that has such
    ("xl/workbook.bin", "xlsb"),
    ("word/", "docx"),
    ("xl/", "xlsx"),
    ("ppt/", "pptx"),
    ("meta-inf/container.xml", "epub"),
)
_SHEETS = ("xls", "xlsx", "xlsb")
_HTML = re.compile(
    r"\s*(?:<\?xml[^>]*>\s*)?(?:<!--(?:(?!-->).)*+-->\s*+)*+<(?:!doctype\s+html|html)[\s>]", re.IGNORECASE | re.DOTALL
)


def extension_of(filename: str) -> str:
    """Return what stands behind the last dot of a file's name, in lower case; "" where there is nothing."""
    return PurePath(filename.replace("\\", "/")).suffix[1:].lower()


def kind_of(path: Path, filename: str, limits: Limits) -> Kind:
    """Return the kind of a file that can be read. Raises DocumentUnreadable for all others.

    A file without a single byte is `blank`. One that is named as what its bytes cannot be is `broken`.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if not head:
        raise DocumentUnreadable("blank")
    named = BY_EXTENSION.get(extension_of(filename))
    kind = _certain(path, head, limits, named) or _text(path, named)
    if kind is None:
        if named is not None and not named.is_text and named.parser:
            raise DocumentUnreadable("broken")
        raise DocumentUnreadable("format", say(*named.instead) if named else "")
    if not kind.parser:
        raise DocumentUnreadable("format", say(*kind.instead))
    return kind


def _certain(path: Path, head: bytes, limits: Limits, named: Kind | None) -> Kind | None:
    """Return what the bytes leave no doubt about, None when they do."""
    if head.startswith(b"%PDF-") or (b"%PDF-" in head[:1024] and not (named is not None and named.is_text)):
        return BY_NAME["pdf"]
    if head.startswith(_ZIP):
        return _zipped(path, limits, named)
    if head.startswith(_OLE):
        return _contained(path)
    if head.startswith(b"BM") and head[6:10] == bytes(4) and len(head) > 26:
        return BY_NAME["bmp"]
    for at, magic, name in _MAGIC:
        if head.startswith(magic, at):
            return BY_NAME[name]
    return None


def _zipped(path: Path, limits: Limits, named: Kind | None) -> Kind:
    try:
        archive = Archive(path, limits)
    except DocumentUnreadable as error:
        # Half an archive says nothing of what it was to be; its name does.
        if error.reason == "broken" and (named is None or not named.parser or named.is_text):
            raise DocumentUnreadable("format") from None
        raise
    names = archive.names
    if "mimetype" in names and b"opendocument" in archive.read("mimetype"):
        return BY_NAME["odf"]
    for beginning, kind in _PARTS:
        if any(name.startswith(beginning) for name in names):
            return BY_NAME[kind]
    return BY_NAME["archive"]


def _contained(path: Path) -> Kind:
    """Tell the old formats of Office apart, which share a container with its encrypted new ones."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for stream, name in _OLE_STREAMS:
            if data.find(f"{stream}\0".encode("utf-16-le")) >= 0:
                if name == "encrypted":
                    raise DocumentUnreadable("encrypted")
                return BY_NAME[name]
    raise DocumentUnreadable("format")


def _text(path: Path, named: Kind | None) -> Kind | None:
    """Return the kind of a text file, None when it is none or is named as nothing that is read."""
    codec = encodings.encoding_of(path)
    if codec is None or named is None:
        return None
    beginning = next(encodings.text_of(path, codec), "").lstrip("\ufeff")[:_HEAD_BYTES]
    if _HTML.match(beginning):
        return BY_NAME["html"]
    if named.is_text:
        return named
    if named.name in _SHEETS:
        return BY_NAME["csv"]  # many programs export tables of text under a workbook's name
    return BY_NAME["json" if beginning.lstrip()[:1] in ("{", "[") else "txt"]


__all__ = ["BY_EXTENSION", "BY_NAME", "KINDS", "Kind", "extension_of", "kind_of"]
