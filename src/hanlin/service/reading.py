"""Read uploaded documents in the background: claim one, make pages and passages of it, say what became of it.

The line of those who wait is the table of files, so that any process may take the next one, and what a process was at
when it died is taken up by another. Whatever is wrong with a file becomes its `error`; what is wrong with the service,
such as a full disk, is tried again later.
"""

import asyncio
import contextlib
import errno
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import msgspec

from hanlin.documents.reading import Indexer, Reader
from hanlin.documents.shelf import Meta, Shelf, meta_of, write_meta
from hanlin.documents.unreadable import DocumentUnreadable
from hanlin.errors import HanlinError
from hanlin.store.blobs import Blobs
from hanlin.store.files import Files
from hanlin.store.rows import FileRow
from hanlin.words import say

log = logging.getLogger("hanlin.service")

FAILED = "failed"
"""The reason of files that could not be read by no fault of theirs, time and again."""

_MOST_ATTEMPTS = 3
_FULL = (errno.ENOSPC, errno.EDQUOT)
_KNOWN_WORKSPACES = 64
_END_S = 5.0


@dataclass(frozen=True)
class Pace:
    """How often the line is looked at, and claims are renewed, in seconds."""

    look_s: float = 2.0
    beat_s: float = 5.0
    lease_s: float = 60.0
    pause_s: float = 60.0
    soon_s: float = 1.0


class HowFar:
    """What a reader tells of its progress."""

    def __init__(self) -> None:
        self.done = self.total = 0

    def __call__(self, done: int, total: int) -> None:
        self.done, self.total = done, total


class Readings:
    """Reads up to `at_once` documents at a time, while `run` is under way."""

    def __init__(
        self,
        files: Files,
        blobs: Blobs,
        shelf: Shelf,
        reader: Reader,
        index: Indexer,
        *,
        at_once: int = 1,
        pace: Pace | None = None,
    ) -> None:
        self._files = files
        self._blobs = blobs
        self._shelf = shelf
        self._reader = reader
        self._index = index
        self._at_once = at_once
        self._pace = pace or Pace()
        self._wanted = asyncio.Event()
        self._free = 0
        self._awaited: dict[str, asyncio.Event] = {}
        self._served: list[str] = []

    async def run(self) -> None:
        """Read what waits, until cancelled."""
        self._free = self._at_once
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._at_once):
                    group.create_task(self._work())
        finally:
            self._free = 0

    def wake(self) -> None:
        """Have the line looked at now."""
        self._wanted.set()

    async def soon(self, file_id: str) -> None:
        """Return when a new file has been read, or will not be within a moment."""
        self.wake()
        if self._free <= 0:
            return
        over = self._awaited[file_id] = asyncio.Event()
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pace.soon_s):
                    await over.wait()
        finally:
            self._awaited.pop(file_id, None)

    async def _work(self) -> None:
        while True:
            self._wanted.clear()
            row = None
            try:
                row = await self._claim()
            except HanlinError:  # the store has logged it; the next look is soon
                pass
            except Exception:  # a mistake of ours must not end all reading without a word
                log.exception("documents that wait cannot be looked for")
            if row is not None:
                self._free -= 1
                try:
                    await self._read(row)
                finally:
                    self._free += 1
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pace.look_s):
                    await self._wanted.wait()

    async def _claim(self) -> FileRow | None:
        self._blobs.announce()
        gone = self._blobs.gone(await self._files.claimants())
        lease = timedelta(seconds=self._pace.lease_s)
        row = await self._files.claim(self._blobs.name, lease, gone, self._served)
        if row is not None:
            served = [workspace for workspace in self._served if workspace != row.workspace_id]
            self._served = [*served, row.workspace_id][-_KNOWN_WORKSPACES:]
        return row

    async def _read(self, row: FileRow) -> None:
        how_far = HowFar()
        job = asyncio.create_task(self._become(row, how_far))
        beating = asyncio.create_task(self._keep_claiming(row, how_far, job))
        try:
            await asyncio.wait([job])
        except asyncio.CancelledError:  # the process ends
            job.cancel()
            await asyncio.wait([job], timeout=_END_S)
            with contextlib.suppress(HanlinError, TimeoutError):
                async with asyncio.timeout(_END_S):
                    await self._files.release(row, timedelta(0), counts=False)
            raise
        finally:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)
            if (over := self._awaited.get(row.id)) is not None:
                over.set()
        # Cancelled, the file is gone or another's; and when the store fails, the claim ends by itself.
        if not job.cancelled() and (problem := job.exception()) is not None and not isinstance(problem, HanlinError):
            log.error("%s: reading it failed", row.id, exc_info=problem)

    async def _become(self, row: FileRow, how_far: HowFar) -> None:
        """Make a document of a file, or an error."""
        if row.attempts > _MOST_ATTEMPTS:  # whoever read it died, each time
            log.error("%s: reading it has failed %d times, it is given up", row.id, _MOST_ATTEMPTS)
            await self._fail(row, FAILED, _given_up())
            return
        meta, work = await asyncio.to_thread(meta_of, self._shelf.path(row.digest)), None
        try:
            if meta is None:
                work = await asyncio.to_thread(self._shelf.begin)
                meta = await self._make(row, work, how_far)
            await self._succeed(row, work, meta)
        except DocumentUnreadable as problem:
            await self._fail(row, problem.reason, problem.detail)
        except OSError as error:
            log.warning("%s: cannot be read now: %s", row.id, error)
            await self._files.release(row, timedelta(seconds=self._pace.pause_s), counts=error.errno not in _FULL)
        except HanlinError:
            raise
        except Exception:  # the end of a job: a reader's mistake must not end all reading
            log.exception("%s: reading it failed", row.id)
            await self._files.release(row, timedelta(seconds=self._pace.look_s))
        finally:
            if work is not None:
                self._shelf.remove(work)

    async def _make(self, row: FileRow, work: Path, how_far: HowFar) -> Meta:
        """Make a document in a folder, and return what it is."""
        # What its owner calls it is nobody's business who writes logs; what it ends with says what it is.
        name = row.id + Path(row.filename).suffix
        read = await self._reader.read(self._blobs.path(row.digest), name, work, how_far)
        meta = Meta(
            name=row.filename,
            kind=read.kind,
            pages=read.pages,
            characters=read.characters,
            tokens=read.tokens,
            title=read.title,
        )
        await _apart(lambda: self._index(work, row.filename))
        await asyncio.to_thread(write_meta, work, meta)
        return meta

    async def _succeed(self, row: FileRow, work: Path | None, meta: Meta) -> None:
        path = self._shelf.path(row.digest)
        async with self._blobs.turn(row.digest):
            if work is not None:
                await asyncio.to_thread(self._shelf.keep, work, path)
            kept = await self._files.end(as_read(row, meta))
            if not kept and not await self._files.living([row.digest]):
                await asyncio.to_thread(self._shelf.remove, path)

    async def _fail(self, row: FileRow, reason: str, details: str) -> None:
        await self._files.end(msgspec.structs.replace(row, status="error", reason=reason, details=details))
        log.info("%s: cannot be read: %s", row.id, reason)

    async def _keep_claiming(self, row: FileRow, how_far: HowFar, job: "asyncio.Task[None]") -> None:
        lease = timedelta(seconds=self._pace.lease_s)
        while True:
            await asyncio.sleep(self._pace.beat_s)
            with contextlib.suppress(HanlinError):  # until the lease is over it may come back
                if not await self._files.renew(row, lease, how_far.done, how_far.total):
                    job.cancel()
                    return


def as_read(row: FileRow, meta: Meta) -> FileRow:
    """Return a file that has been read."""
    return msgspec.structs.replace(
        row,
        status="processed",
        reason="",
        details="",
        kind=meta.kind,
        pages_done=meta.pages,
        pages_total=meta.pages,
        pages=meta.pages,
        characters=meta.characters,
        tokens=meta.tokens,
    )


def _given_up() -> str:
    return say(
        "it could not be read here, although nothing was found wrong with it: upload it again, or ask the operator "
        "of this service to look into its log",
        "未能解析，但未发现文件本身有问题：请重新上传，或请服务管理员查看日志",
    )


async def _apart(work: Callable[[], object]) -> None:
    """Run what may take long in a thread that nobody waits for at the end of the process."""
    loop = asyncio.get_running_loop()
    over: asyncio.Future[None] = loop.create_future()

    def tell(problem: BaseException | None) -> None:
        if not over.done():
            over.set_result(None) if problem is None else over.set_exception(problem)

    def run() -> None:
        problem: BaseException | None = None
        try:
            work()
        except BaseException as error:
            problem = error
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(tell, problem)

    threading.Thread(target=run, name="indexing", daemon=True).start()
    await over


__all__ = ["FAILED", "Pace", "Readings", "as_read"]
