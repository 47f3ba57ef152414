"""The bytes of files, each once, named by their SHA-256: written as they come, there as a whole or not at all.

    <folder>/ab/abcdef…            the bytes of a file
    <folder>/ab/lock               held while somebody decides whether such bytes come or go
    <folder>/incoming/<process>/   what a process is writing now, and `alive`, which it holds as long as it lives

Several processes, and services that share the folder, may use it at once. What a process left unfinished that died, by
whatever means, is found by the lock that it no longer holds.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import logging
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from hanlin.errors import DiskFull
from hanlin.home import private_folder

AT_ONCE_BYTES = 256 * 1024
"""How much is written at once, away from the event loop."""

_log = logging.getLogger(__name__)

_TURN_PAUSE_S = 0.005
_HEX = frozenset("0123456789abcdef")
_DIGITS = 64


class Incoming:
    """A file that is coming in. What is not `kept` goes when its `async with` block ends."""

    def __init__(self, path: Path, keep_free_bytes: int) -> None:
        self.path = path
        self.size_bytes = 0
        self._keep_free_bytes = keep_free_bytes
        self._hash = hashlib.sha256()
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._parts: list[bytes] = []
        self._held_bytes = 0
        self._file: BinaryIO | None = None

    async def write(self, part: bytes) -> None:
        """Take in the next bytes; now and then it waits for the disk. Raises DiskFull."""
        self.size_bytes += len(part)
        self._parts.append(part)
        self._held_bytes += len(part)
        if self._held_bytes >= AT_ONCE_BYTES:
            await self._flush()

    async def finish(self) -> str:
        """Have everything on the disk, and return the digest. Raises DiskFull."""
        await self._flush(last=True)
        return self._hash.hexdigest()

    @property
    def md5(self) -> bytes:
        """The MD5 of what is on the disk, for clients that compare it with theirs."""
        return self._md5.digest()

    async def _flush(self, *, last: bool = False) -> None:
        parts, self._parts, self._held_bytes = self._parts, [], 0
        try:
            await asyncio.to_thread(self._put, b"".join(parts), last=last)
        except OSError as error:
            raise _refused(error) from error

    def _put(self, data: bytes, *, last: bool) -> None:
        if free_bytes(self.path.parent) - len(data) < self._keep_free_bytes:
            raise DiskFull
        if self._file is None:
            self._file = open(self.path, "xb", buffering=0, opener=_private)  # noqa: SIM115 (closed by `close`)
        view = memoryview(data)
        while len(view):
            view = view[self._file.write(view) :]
        self._hash.update(data)
        self._md5.update(data)
        if last:
            os.fsync(self._file.fileno())
            self._file.close()  # one of several must not hold a descriptor until all are there

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        self.path.unlink(missing_ok=True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Blobs:
    """The bytes in one folder, which is made when the first are written. `keep_free_bytes` of its disk stay free."""

    def __init__(self, folder: Path, keep_free_bytes: int = 0) -> None:
        self.folder = folder
        self.name = secrets.token_hex(8)
        """What this process is called by others, as long as it lives."""
        self._keep_free_bytes = keep_free_bytes
        self._alive: BinaryIO | None = None

    def incoming(self) -> Incoming:
        """Return where the next file is written, until it is kept. Raises DiskFull when there is no room at all."""
        self.announce()
        if free_bytes(self._own) < self._keep_free_bytes:
            raise DiskFull
        return Incoming(self._own / secrets.token_hex(8), self._keep_free_bytes)

    def announce(self) -> None:
        """Have others see that this process lives. Raises DiskFull."""
        if self._alive is None:
            beginning = self._incoming / f".{self.name}"
            try:
                private_folder(beginning)
                alive = open(beginning / "alive", "ab", opener=_private)  # noqa: SIM115 (held until `close`)
                fcntl.flock(alive.fileno(), fcntl.LOCK_EX)
                beginning.rename(self._own)  # only now: others take what has no such lock for a dead one's
            except OSError as error:
                raise _refused(error) from error
            self._alive = alive

    @asynccontextmanager
    async def turn(self, digest: str) -> AsyncIterator[None]:
        """Be the only one, of all processes, that decides whether some bytes come or go. Raises DiskFull."""
        bucket = self.path(digest).parent
        try:
            private_folder(bucket)
            lock = open(bucket / "lock", "ab", opener=_private)  # noqa: SIM115, ASYNC230 (closed below; small)
        except OSError as error:
            raise _refused(error) from error
        with lock:
            while not _took(lock):  # noqa: ASYNC110 (the kernel tells nobody; a turn lasts milliseconds)
                await asyncio.sleep(_TURN_PAUSE_S)
            yield

    def keep(self, incoming: Incoming, digest: str) -> None:
        """Keep what came in under its digest, if it is not there. For whoever has its turn. Raises DiskFull."""
        path = self.path(digest)
        try:
            if not path.exists():
                incoming.path.rename(path)
                _settle(path.parent)
        except OSError as error:
            raise _refused(error) from error

    def remove(self, digest: str) -> None:
        """Delete bytes, if they are there. For whoever has their turn."""
        self.path(digest).unlink(missing_ok=True)

    def path(self, digest: str) -> Path:
        """Return where bytes are, or would be. Raises ValueError for what is no digest."""
        if not is_digest(digest):
            raise ValueError(f"{digest!r} is not a SHA-256")
        return self.folder / digest[:2] / digest

    def digests(self) -> Iterator[list[str]]:
        """Yield the digests of everything that is kept, some at a time."""
        for bucket in _entries(self.folder):
            if found := [entry.name for entry in _entries(Path(bucket.path)) if is_digest(entry.name)]:
                yield found

    def is_alive(self, name: str) -> bool:
        """Say whether a process of this name lives, as far as this folder knows."""
        if name == self.name:
            return True
        try:
            with open(self._incoming / name / "alive", "rb") as alive:
                return not _took(alive)
        except OSError:
            return False

    def gone(self, names: Iterable[str]) -> list[str]:
        """Return those of some processes that are dead."""
        return [name for name in names if not self.is_alive(name)]

    def clear(self) -> None:
        """Delete what dead processes left unfinished."""
        for entry in _entries(self._incoming):
            if not entry.name.startswith(".") and not self.is_alive(entry.name):
                shutil.rmtree(entry.path, ignore_errors=True)

    def close(self) -> None:
        """Live no longer, as far as others are concerned."""
        if self._alive is not None:
            shutil.rmtree(self._own, ignore_errors=True)
            self._alive.close()
            self._alive = None

    @property
    def _incoming(self) -> Path:
        return self.folder / "incoming"

    @property
    def _own(self) -> Path:
        return self._incoming / self.name


def is_digest(text: str) -> bool:
    """Say whether a text could be the digest of some bytes."""
    return len(text) == _DIGITS and _HEX.issuperset(text)


def _refused(error: OSError) -> DiskFull:
    """Return what the caller learns. The operator learns why, in the log."""
    _log.error("files: %s", error)
    return DiskFull()


def free_bytes(folder: Path) -> int:
    """Return how much room the disk of a folder has for this user."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def _entries(folder: Path) -> list["os.DirEntry[str]"]:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as found:
        return list(found)
    return []


def _took(file: BinaryIO) -> bool:
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _settle(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


__all__ = ["Blobs", "Incoming", "free_bytes", "is_digest"]
