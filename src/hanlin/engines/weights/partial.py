"""The unfinished file of one digest: what is there, where it came from, and writing at its end.

    partial/<sha256>/data           the first bytes of the weights
    partial/<sha256>/origin.json    which source wrote last, and what it needs to go on
    partial/<sha256>/pip-…/         what pip is downloading

Any source may go on where another stopped: only the digest of the whole decides. The holder of the lock owns all of it.
"""

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

import msgspec

from hanlin.engines.weights.errors import DiskFull, FolderUnusable, is_disk_full
from hanlin.engines.weights.store import digest_of, replace_text
from hanlin.engines.weights.values import Patience, Progress, Wanted

_RESERVE_BYTES = 64 * 1024 * 1024  # a disk filled to the last byte would take the database down with it


class Disk(Protocol):
    """What is asked of the disk; a fake one can be full."""

    def free_bytes(self, folder: Path) -> int: ...
    def open_to_append(self, path: Path) -> BinaryIO: ...


class LocalDisk:
    """The real one."""

    def free_bytes(self, folder: Path) -> int:
        return shutil.disk_usage(folder).free

    def open_to_append(self, path: Path) -> BinaryIO:
        return path.open("ab", buffering=1024 * 1024)


class Origin(msgspec.Struct, frozen=True):
    """Who wrote last. `etag` is the server's name for the version; `joined` counts the parts and bytes that are in."""

    source: str = ""
    etag: str = ""
    joined_parts: int = 0
    joined_bytes: int = 0


class Partial:
    """The unfinished file. Errors of the disk leave as DiskFull and FolderUnusable."""

    def __init__(self, folder: Path, size_bytes: int, disk: Disk) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.wanted_bytes = size_bytes
        self._disk = disk
        with self.disk_errors():
            folder.mkdir(parents=True, exist_ok=True)

    @property
    def size_bytes(self) -> int:
        """How much is there."""
        with self.disk_errors():
            return self.data.stat().st_size if self.data.exists() else 0

    @property
    def missing_bytes(self) -> int:
        return self.wanted_bytes - self.size_bytes

    @property
    def origin(self) -> Origin:
        """Who wrote last; nobody, when that is not known any more."""
        try:
            return msgspec.json.decode((self.folder / "origin.json").read_bytes(), type=Origin)
        except (OSError, msgspec.DecodeError):
            return Origin()

    def remember(self, origin: Origin) -> None:
        """Write down who writes from here on."""
        if origin != self.origin:
            with self.disk_errors():
                replace_text(self.folder / "origin.json", msgspec.json.encode(origin).decode())

    def cut(self, size_bytes: int) -> None:
        """Keep only the first bytes."""
        with self.disk_errors(), self.data.open("ab") as file:
            file.truncate(size_bytes)

    @contextlib.contextmanager
    def appending(self) -> Iterator[Callable[[bytes], None]]:
        """Give a function that writes at the end; what it took is in the file once the block is left."""
        with self.disk_errors():
            file = self._disk.open_to_append(self.data)

        # Only the file's own errors are the disk's: the block also reads from the network and reports progress.
        def write(data: bytes) -> None:
            with self.disk_errors():
                file.write(data)

        try:
            yield write
        finally:
            with self.disk_errors():
                file.close()

    def digest(self) -> str:
        """Return the SHA-256 of what is there."""
        with self.disk_errors():
            return digest_of(self.data)

    def discard(self) -> None:
        """Throw away everything that was fetched."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with self.disk_errors():
            self.folder.mkdir(parents=True, exist_ok=True)

    def remove(self) -> None:
        """Leave nothing behind, once the file has its final name."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextlib.contextmanager
    def scratch(self, prefix: str) -> Iterator[Path]:
        """Give an empty folder on the same disk that goes with the block."""
        with self.disk_errors():
            folder = Path(tempfile.mkdtemp(prefix=prefix, dir=self.folder))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def clear_scratch(self, prefix: str) -> None:
        """Remove the scratch folders of a process that was killed."""
        for folder in self.folder.glob(f"{prefix}*"):
            shutil.rmtree(folder, ignore_errors=True)

    def require_room(self, extra_bytes: int = 0) -> None:
        """Raise DiskFull unless the rest, and `extra_bytes` on the way, will fit."""
        needed = self.missing_bytes + extra_bytes + _RESERVE_BYTES
        with self.disk_errors():
            free = self._disk.free_bytes(self.folder)
        if free < needed:
            raise DiskFull(self.folder, needed, free)

    def disk_full(self) -> DiskFull:
        """The error for a disk that refused to take more."""
        return DiskFull(self.folder, self.missing_bytes, self._disk.free_bytes(self.folder))

    @contextlib.contextmanager
    def disk_errors(self) -> Iterator[None]:
        """Turn what the operating system says within the block into our errors."""
        try:
            yield
        except OSError as error:
            if is_disk_full(error):
                raise self.disk_full() from error
            raise FolderUnusable(error, self.folder) from error


@dataclass(frozen=True)
class Job:
    """One source at work on an unfinished file. `label` is what the user reads as the source's name."""

    wanted: Wanted
    partial: Partial
    label: str
    progress: Progress
    patience: Patience
