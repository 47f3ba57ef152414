"""The documents that one caller may read: files of its workspace, and texts that stand in its requests.

What cannot be read is said in the contract's words (spec/scenarios.md §2.5), with what to do behind them.
"""

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from hanlin.documents.plain import pages_of
from hanlin.documents.reading import Reader
from hanlin.documents.retrieval import Answer, IndexedDocument
from hanlin.documents.shelf import Meta, meta_of, write_meta, write_pages
from hanlin.documents.unreadable import DocumentUnreadable
from hanlin.documents.values import Document
from hanlin.errors import FileDeleted, FileNotRead, FileUnfit, InvalidFile, TooManyFiles
from hanlin.metering.estimate import text_tokens
from hanlin.service.files import DOCUMENT, Files
from hanlin.store.rows import FileRow

MOST_FILES = 100
_SHOWN_NAME = 100
_FETCHED = "fetched"
_OF_READ = ("kind", "pages", "characters", "tokens", "title")
_PAGES = 15_000

_UNFIT: Mapping[str, str] = {
    "format": "format is not supported.",
    "encrypted": "format is not supported.",
    "broken": "format is not supported.",
    "blank": "content blank.",
    "needs_ocr": "content blank.",
    "too_many_pages": f"exceeds page limits ({_PAGES} pages).",
    "too_large": "exceeds size limit.",
    "timeout": "exceeds size limit.",
    "memory": "exceeds size limit.",
}
"""The vendor's words for each reason that a file cannot be read for; for any other, those of the format."""


class StoredDocument(IndexedDocument):
    """A document in a folder. Raises FileDeleted once that is gone."""

    def __init__(self, folder: Path, meta: Meta, *, id: str, name: str, digest: str) -> None:
        super().__init__(folder, id=id, name=name, digest=digest, pages=meta.pages, tokens=meta.tokens)

    async def ask(self, ask: Callable[[Path], Answer]) -> Answer:
        try:
            return await super().ask(ask)
        except FileNotFoundError:
            raise FileDeleted(self.id) from None


class WorkspaceLibrary:
    """What calls of one workspace may read."""

    def __init__(self, files: Files, workspace_id: str) -> None:
        self._files = files
        self._shelf = files.shelf
        self._workspace_id = workspace_id

    async def open(self, ids: Sequence[str]) -> Sequence[Document]:
        """Return the documents of these file ids, in order. Raises FileRefused for the first that cannot be had.

        What will not change is told before what may: a file that is still read is worth waiting for only if all others
        can be read.
        """
        if len(ids) > MOST_FILES:
            raise TooManyFiles(MOST_FILES)
        known = await self._files.known(set(ids)) if ids else {}
        rows = [self._readable(file_id, known.get(file_id)) for file_id in ids]
        if any(row.status == "processing" for row in rows):
            raise FileNotRead
        return await asyncio.to_thread(lambda: list(map(self._opened, rows)))

    def _readable(self, file_id: str, row: FileRow | None) -> FileRow:
        """Return a file that has been read, or will be. Raises FileRefused."""
        if row is None or row.workspace_id != self._workspace_id or row.purpose != DOCUMENT:
            raise InvalidFile(file_id[:100])
        if row.deleted_at is not None:
            raise FileDeleted(row.id)
        if row.status == "error":
            raise FileUnfit(row.id, _UNFIT.get(row.reason, _UNFIT["format"]), f"({row.details})" if row.details else "")
        return row

    def _opened(self, row: FileRow) -> Document:
        folder = self._shelf.path(row.digest)
        meta = meta_of(folder)
        if meta is None:
            raise FileDeleted(row.id)
        return StoredDocument(folder, meta, id=row.id, name=row.filename, digest=row.digest)

    async def hold(self, text: str, name: str) -> Document:
        """Return a document whose text stands in the request itself; the same text is indexed once."""
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        return await asyncio.to_thread(self._held, text, name, digest)

    def _held(self, text: str, name: str, digest: str) -> Document:
        folder = self._shelf.held(digest)
        meta = meta_of(folder)
        if meta is None:
            meta = self._make(text, folder)
        self._shelf.used(folder)
        return StoredDocument(folder, meta, id=digest, name=name, digest=digest)

    async def take(self, content: bytes, name: str, parsing: str) -> Document:
        """Return a document of bytes that were fetched for one request; the same bytes are read once.

        `parsing` is the vendor's word (spec/scenarios.md §3.1): `text_only` leaves out what stands in pictures,
        `text_and_images` reads those among text as well. Raises FileUnfit, by the name.
        """
        readers = {
            "text_only": (self._files.text_reader, b"\0text"),
            "text_and_images": (self._files.picture_reader, b"\0images"),
        }
        reader, mark = readers.get(parsing, (self._files.reader, b""))
        digest = await asyncio.to_thread(_digest, content, mark)
        folder = self._shelf.held(digest)
        meta = await asyncio.to_thread(meta_of, folder)
        if meta is None:
            try:
                meta = await self._read(content, name, reader, folder)
            except DocumentUnreadable as problem:
                words = _UNFIT.get(problem.reason, _UNFIT["format"])
                raise FileUnfit(name[:_SHOWN_NAME], words, f"({problem.detail})") from problem
        await asyncio.to_thread(self._shelf.used, folder)
        return StoredDocument(folder, meta, id=digest, name=name, digest=digest)

    async def _read(self, content: bytes, name: str, reader: Reader, folder: Path) -> Meta:
        self._files.blobs.announce()
        work = await asyncio.to_thread(self._shelf.begin)
        try:
            path = work / _FETCHED
            await asyncio.to_thread(path.write_bytes, content)
            read = await reader.read(path, name, work, lambda _done, _total: None)
            path.unlink()
            await asyncio.to_thread(self._files.index, work, name)
            meta = Meta(name=name, **{field: getattr(read, field) for field in _OF_READ})
            await asyncio.to_thread(write_meta, work, meta)
            await asyncio.to_thread(self._shelf.keep, work, folder)
        finally:
            await asyncio.to_thread(self._shelf.remove, work)
        await asyncio.to_thread(self._shelf.trim)
        return meta

    def _make(self, text: str, folder: Path) -> Meta:
        self._files.blobs.announce()
        work = self._shelf.begin()
        try:
            pages = list(pages_of(text))
            write_pages(work, pages)
            self._files.index(work, "")
            meta = Meta(name="", kind="text", pages=len(pages), characters=len(text), tokens=text_tokens(text))
            write_meta(work, meta)
            self._shelf.keep(work, folder)
        finally:
            self._shelf.remove(work)
        self._shelf.trim()
        return meta


def _digest(content: bytes, mark: bytes) -> str:
    digest = hashlib.sha256(content)
    digest.update(mark)
    return digest.hexdigest()


__all__ = ["MOST_FILES", "StoredDocument", "WorkspaceLibrary"]
