"""Files that callers upload: stored once, within quotas, read in the background, deleted with the last who has them.

Files belong to a workspace: for all others they do not exist.
"""

import asyncio
import contextlib
import logging
import secrets
from base64 import b64encode
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from hanlin.documents import parsing
from hanlin.documents.indexing import index
from hanlin.documents.limits import Limits
from hanlin.documents.reading import Indexer, Reader
from hanlin.documents.shelf import Shelf, meta_of
from hanlin.errors import AccessDenied, FileTooLarge, HanlinError, Overloaded, UnknownFile
from hanlin.home import Home
from hanlin.service.accounting import permit_from
from hanlin.service.reading import Pace, Readings, as_read
from hanlin.settings import Settings
from hanlin.store.blobs import Blobs, Incoming, is_digest
from hanlin.store.database import Store
from hanlin.store.files import ANY, check_quota
from hanlin.store.rows import FileFilters, FileRow, KeyRow, Quota
from hanlin.words import say

log = logging.getLogger("hanlin.service")

DOCUMENT = "file-extract"

_PREFIXES: Mapping[str, str] = {
    DOCUMENT: "file-fe-",
    "batch": "file-batch-",
    "fine-tune": "file-ft-",
    "batch_output": "file-batch_output-",
}
_SURFACE = "chat"
_AT_ONCE = 64
"""Uploads that a process takes in at the same time: each needs about a megabyte of memory."""

_OF_ONE_AT_ONCE = 48
"""Those of one workspace: however slowly it sends, there is room for others."""

_SMALL_BYTES = 1024 * 1024
_HEAD_BYTES = 16
_REMEMBERED = timedelta(days=30)
_TIDY_S = 3600.0
_PIECE_BYTES = 256 * 1024


@dataclass(frozen=True)
class FileLimits:
    """How large a file may be, by its purpose; an image among documents; and what a workspace may have."""

    by_purpose: Mapping[str, int]
    image_bytes: int
    quota: Quota

    @property
    def largest_bytes(self) -> int:
        return max(self.by_purpose.values())


def limits_of(settings: Settings) -> FileLimits:
    """Return the limits of files by the settings."""
    by_purpose = {
        DOCUMENT: settings.max_document_bytes,
        "batch": settings.max_batch_bytes,
        "fine-tune": settings.max_fine_tune_bytes,
    }
    return FileLimits(by_purpose, settings.max_image_bytes, Quota(settings.files_limit, settings.files_limit_bytes))


def permit(key: KeyRow, peer: Callable[[], str]) -> None:
    """Let a key use the files of its workspace: one that may chat, because that is what documents are for.

    Raises AccessDenied.
    """
    if key.surfaces and _SURFACE not in key.surfaces:
        raise AccessDenied(
            say(
                f"This key may not use files, which takes the surface {_SURFACE}: {', '.join(key.surfaces)}",
                f"该密钥不可使用文件（需要 {_SURFACE} 接口）",
            )
        )
    if key.addresses:
        permit_from(key, peer())


class Upload:
    """A file that is coming in. Its limit is that of its `purpose` once that is known, until then the largest."""

    def __init__(self, incoming: Incoming, limits: FileLimits) -> None:
        self.purpose = ""
        self._incoming = incoming
        self._limits = limits
        self._head = b""
        self._digest = ""
        self._is_dropped = False

    async def write(self, part: bytes) -> None:
        """Take in the next bytes. Raises FileTooLarge and DiskFull."""
        if len(self._head) < _HEAD_BYTES:
            self._head += part[:_HEAD_BYTES]
        limit_bytes = self.limit_bytes
        if self._incoming.size_bytes + len(part) > limit_bytes:
            raise FileTooLarge(limit_bytes)
        await self._incoming.write(part)

    @property
    def limit_bytes(self) -> int:
        if not self.purpose:
            return self._limits.largest_bytes
        most = self._limits.by_purpose.get(self.purpose, self._limits.largest_bytes)
        return min(most, self._limits.image_bytes) if self.purpose == DOCUMENT and is_image(self._head) else most

    async def finish(self) -> tuple[str, int]:
        """Return the digest of what has come, which is on the disk then, and its size. Raises as `write` does."""
        if self._incoming.size_bytes > self.limit_bytes:
            raise FileTooLarge(self.limit_bytes)
        if not self._digest:
            self._digest = await self._incoming.finish()
        return self._digest, self._incoming.size_bytes

    @property
    def held_bytes(self) -> int:
        """How much of it there is: nothing any more once it is dropped."""
        return 0 if self._is_dropped else self._incoming.size_bytes

    @property
    def md5(self) -> str:
        """The MD5 of a file that is `finish`ed, in base64, as Content-MD5 has it (RFC 1864)."""
        return b64encode(self._incoming.md5).decode()

    def keep(self, blobs: Blobs, digest: str) -> None:
        blobs.keep(self._incoming, digest)

    def drop(self) -> None:
        """Have nothing of it stay, unless it was kept."""
        self._is_dropped = True
        self._incoming.close()


class Intake:
    """The files that one call brings, one after another; what was not `added` when it closes is gone."""

    def __init__(self, blobs: Blobs, limits: FileLimits, used: Quota) -> None:
        """`used` is what the workspace had before."""
        self._blobs = blobs
        self._limits = limits
        self._used = used
        self._uploads: list[Upload] = []

    def begin(self) -> Upload:
        """Begin the next file. Raises FileQuotaExceeded where those that came before left no room, and DiskFull.

        How many there may be is decided when they are added: not all that come will be.
        """
        coming_bytes = sum(upload.held_bytes for upload in self._uploads)
        check_quota(Quota(self._used.files, self._used.size_bytes + coming_bytes), 0, self._limits.quota)
        upload = Upload(self._blobs.incoming(), self._limits)
        self._uploads.append(upload)
        return upload

    def close(self) -> None:
        for upload in self._uploads:
            upload.drop()


class Files:
    """The files of a service, and what reads them. `run` reads and tidies until cancelled; `close` is the end."""

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        shelf: Shelf,
        limits: FileLimits,
        reader: Reader,
        *,
        readers: int = 1,
        index: Indexer = index,
        pace: Pace | None = None,
        text_reader: Reader | None = None,
        picture_reader: Reader | None = None,
    ) -> None:
        """`text_reader` reads files without the text of their pictures, `picture_reader` with all of it.

        None leaves that to `reader`.
        """
        self.reader = reader
        self.text_reader = text_reader or reader
        self.picture_reader = picture_reader or reader
        self.limits = limits
        self.shelf = shelf
        self.index = index
        self._store = store
        self._coming: Counter[str] = Counter()
        self._running: asyncio.Task[None] | None = None
        self.blobs = blobs
        self.readings = Readings(store.files, blobs, shelf, reader, index, at_once=readers, pace=pace)

    async def run(self, *, reads: bool = True, tidies: bool = True) -> None:
        """Read documents, and delete what nobody has any more, until cancelled, or closed."""
        self._running = asyncio.current_task()
        async with asyncio.TaskGroup() as group:
            if reads:
                group.create_task(self.readings.run())
            if tidies:
                group.create_task(self._keep_tidy())

    async def close(self) -> None:
        """Give back what is being read, and be gone as far as other processes are concerned."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
        self.blobs.close()

    @asynccontextmanager
    async def receive(self, workspace_id: str) -> AsyncIterator[Upload]:
        """Begin a file; what is not `added` before the block ends is gone.

        Raises FileQuotaExceeded, DiskFull, and as `intake` does.
        """
        async with self.intake(workspace_id) as intake:
            yield intake.begin()

    @asynccontextmanager
    async def intake(self, workspace_id: str) -> AsyncIterator[Intake]:
        """Take in the files of one call, of which one comes at a time. Raises Overloaded when as many do as may."""
        if (coming := self._coming.total()) >= _AT_ONCE or self._coming[workspace_id] >= _OF_ONE_AT_ONCE:
            raise Overloaded(coming)
        self._coming[workspace_id] += 1
        try:
            with contextlib.closing(
                Intake(self.blobs, self.limits, await self._store.files.used(workspace_id))
            ) as intake:
                yield intake
        finally:
            self._coming[workspace_id] -= 1
            self._coming += Counter()  # without those that have none left

    async def add(
        self, upload: Upload, key: KeyRow, filename: str, description: str = "", *, waits: bool = True
    ) -> FileRow:
        """Keep a file that has come in whole, for the workspace of a key, and have it read if it is a document.

        A small document is waited for, a moment, if this `waits`. Raises FileTooLarge, FileQuotaExceeded and DiskFull.
        """
        digest, size_bytes = await upload.finish()
        row = FileRow(
            id=new_id(upload.purpose),
            workspace_id=key.workspace_id,
            key_id=key.id,
            purpose=upload.purpose,
            filename=filename,
            size_bytes=size_bytes,
            digest=digest,
            created_at=datetime.now(UTC),
            status="processing" if upload.purpose == DOCUMENT else "processed",
            description=description,
            md5=upload.md5,
        )
        async with self.blobs.turn(digest):
            row = self._as_read_before(row)
            await asyncio.to_thread(upload.keep, self.blobs, digest)
            try:
                await self._store.files.add(row, self.limits.quota)
            except BaseException:
                await self._drop(digest)
                raise
        if row.status != "processing":
            return row
        if size_bytes > _SMALL_BYTES or not waits:
            self.readings.wake()
            return row
        await self.readings.soon(row.id)
        return await self._store.files.find(row.workspace_id, row.id) or row

    async def find(self, workspace_id: str, file_id: str) -> FileRow:
        """Return a file of a workspace. Raises UnknownFile."""
        row = await self._store.files.find(workspace_id, file_id)
        if row is None:
            raise UnknownFile(file_id)
        return row

    async def known(self, ids: Collection[str]) -> Mapping[str, FileRow]:
        """Return what is known of some ids, whosever they are, deleted ones too."""
        return {row.id: row for row in await self._store.files.some(ids)}

    async def page(
        self, workspace_id: str, filters: FileFilters = ANY, after: str = "", limit: int = 100
    ) -> tuple[tuple[FileRow, ...], bool] | None:
        """Return files of a workspace as `store.files` does."""
        return await self._store.files.page(workspace_id, filters, after, limit)

    async def numbered(self, workspace_id: str, skip: int, limit: int) -> tuple[tuple[FileRow, ...], int]:
        """Return files of a workspace as `store.files` does."""
        return await self._store.files.numbered(workspace_id, skip, limit)

    async def delete(self, workspace_id: str, file_id: str) -> None:
        """Delete a file, and its bytes where no other file has them. Raises UnknownFile."""
        row = await self._store.files.delete(workspace_id, file_id)
        if row is None:
            raise UnknownFile(file_id)
        async with self.blobs.turn(row.digest):
            await self._drop(row.digest)

    async def content(self, row: FileRow) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of a file, a piece at a time. Raises UnknownFile when they are gone."""
        try:
            file = await asyncio.to_thread(open, self.blobs.path(row.digest), "rb")
        except FileNotFoundError:
            raise UnknownFile(row.id) from None
        with file:
            while piece := await asyncio.to_thread(file.read, _PIECE_BYTES):
                yield piece

    def _as_read_before(self, row: FileRow) -> FileRow:
        """Return a document as it is, where another file of the same bytes was read already."""
        meta = meta_of(self.shelf.path(row.digest)) if row.status == "processing" else None
        return row if meta is None else as_read(row, meta)

    async def _drop(self, digest: str) -> None:
        """Delete bytes, and what was read from them, if no file has them. For whoever has their turn."""
        if not await self._store.files.living([digest]):
            await asyncio.to_thread(self._remove, digest)

    def _remove(self, digest: str) -> None:
        self.blobs.remove(digest)
        self.shelf.remove(self.shelf.path(digest))

    async def _keep_tidy(self) -> None:
        while True:
            try:
                await self.tidy()
            except HanlinError:  # the store has logged it
                pass
            except OSError as error:
                log.warning("files: cannot be tidied: %s", error)
            except Exception:  # a mistake of ours must not end the reading of documents, which runs beside this
                log.exception("files: cannot be tidied")
            await asyncio.sleep(_TIDY_S)

    async def tidy(self) -> None:
        """Delete what killed processes left, and forget what was deleted long ago."""
        await self._store.files.forget(datetime.now(UTC) - _REMEMBERED)
        await asyncio.to_thread(self.blobs.clear)
        await asyncio.to_thread(self.shelf.clear, self.blobs.is_alive)
        documents = [name for name in await asyncio.to_thread(self.shelf.digests) if is_digest(name)]
        for digests in [*await asyncio.to_thread(list, self.blobs.digests()), documents]:
            nobodys = set(digests) - await self._living(digests)
            for digest in nobodys:
                async with self.blobs.turn(digest):
                    await self._drop(digest)

    async def _living(self, digests: list[str]) -> set[str]:
        found: set[str] = set()
        for start in range(0, len(digests), 1000):
            found |= await self._store.files.living(digests[start : start + 1000])
        return found


def open_files(home: Home, settings: Settings, store: Store) -> Files:
    """Return the files of a home, or of the folder that services share."""
    shared = Path(settings.files_folder).expanduser() if settings.files_folder else None
    files, documents = (home.files, home.documents) if shared is None else (shared / "files", shared / "documents")
    blobs = Blobs(files, settings.disk_reserve_bytes)
    limits = Limits(file_bytes=settings.max_document_bytes, image_bytes=settings.max_image_bytes)
    return Files(
        store,
        blobs,
        Shelf(documents, blobs.name),
        limits_of(settings),
        parsing.Reader(limits),
        readers=settings.readers,
        text_reader=parsing.Reader(msgspec.structs.replace(limits, reads_pictures=False)),
        picture_reader=parsing.Reader(msgspec.structs.replace(limits, looks_everywhere=True)),
    )


def new_id(purpose: str) -> str:
    """Return an id for a file of a purpose."""
    return _PREFIXES[purpose] + secrets.token_hex(12)


def is_image(head: bytes) -> bool:
    """Say whether a file begins as pictures do."""
    is_bitmap = head[:2] == b"BM" and head[6:10] == bytes(4)
    return is_bitmap or head.startswith((b"\x89PNG\r\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a"))


__all__ = [
    "DOCUMENT",
    "FileLimits",
    "Files",
    "Intake",
    "Upload",
    "is_image",
    "limits_of",
    "new_id",
    "open_files",
    "permit",
]
