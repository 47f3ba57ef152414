"""Text as a document: files that are nothing but text, and texts that stand in requests."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import msgspec

from hanlin.documents.reading import Progress
from hanlin.documents.shelf import write_pages
from hanlin.documents.unreadable import DocumentUnreadable
from hanlin.documents.values import Page

_KINDS = {".txt": "txt", ".md": "md", ".markdown": "md", ".csv": "csv", ".json": "json", ".jsonl": "json", "": "txt"}
_PAGE_CHARACTERS = 4000
_LINE_CHARACTERS = 2000


class PlainRead(msgspec.Struct, frozen=True):
    """What a file is that is nothing but text."""

    kind: str
    pages: int
    characters: int
    title: str = ""
    tokens: int = 0


class PlainReader:
    """Reads TXT, MD, CSV and JSON."""

    async def read(self, path: Path, filename: str, out_folder: Path, progress: Progress) -> PlainRead:
        read = await asyncio.to_thread(self._read, path, filename, out_folder)
        progress(read.pages, read.pages)
        return read

    def _read(self, path: Path, filename: str, out_folder: Path) -> PlainRead:
        kind = _KINDS.get(Path(filename).suffix.lower())
        content = path.read_bytes()
        if kind is None or b"\0" in content[:4096]:
            raise DocumentUnreadable("format")
        text = _decoded(content)
        if not text.strip():
            raise DocumentUnreadable("blank")
        pages = list(pages_of(text))
        write_pages(out_folder, pages)
        return PlainRead(kind, len(pages), len(text), tokens=len(text))


def pages_of(text: str) -> Iterator[Page]:
    """Yield a text as pages of about 4,000 characters, cut at ends of lines where there are any; nothing is lost."""
    number, start = 1, 0
    while start < len(text):
        end = min(start + _PAGE_CHARACTERS, len(text))
        if end < len(text):
            cut = max(text.rfind("\n", start, end), start)
            end = cut + 1 if end - cut <= _LINE_CHARACTERS else end
        yield Page(number, text[start:end])
        number, start = number + 1, end


def _decoded(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        pass
    import charset_normalizer  # takes as long to import as a small service to start; most files are UTF-8

    best = charset_normalizer.from_bytes(content).best()
    if best is None:
        raise DocumentUnreadable("broken")
    return str(best)


__all__ = ["PlainRead", "PlainReader", "pages_of"]
