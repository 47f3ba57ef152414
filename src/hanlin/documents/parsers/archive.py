"""A zip archive whose parts are read within bounds, whatever it says about itself.

Nothing is ever unpacked to the disk, and an archive within an archive is not opened.
"""

import struct
import zipfile
from pathlib import Path
from typing import IO

from hanlin.documents.limits import MIB, Limits
from hanlin.documents.unreadable import DocumentUnreadable

_ALWAYS_BYTES = 64 * MIB
"""What a part may unpack to however small it is packed: a ratio says little about the short and the monotonous."""

_PART_BYTES = 32 * MIB
_DIRECTORY_BYTES = 16 * MIB
_END = struct.Struct("<4s4H2LH")


class Part:
    """A part of an archive, read like a file. It fails as too large at the first byte beyond its bound."""

    def __init__(self, archive: "Archive", file: IO[bytes], most: int, size: int) -> None:
        self._archive = archive
        self._file = file
        self._left = most
        self.size = size  # as the archive says; only for showing how far a reader has come
        self.done = 0

    def read(self, count: int = -1) -> bytes:
        data = self._file.read(min(count, self._left + 1) if count >= 0 else self._left + 1)
        self._left -= len(data)
        self.done += len(data)
        self._archive.spend(len(data))
        if self._left < 0:
            raise DocumentUnreadable("too_large")
        return data

    def close(self) -> None:
        self._file.close()


class Archive:
    """Raises DocumentUnreadable: `broken` for what is no archive, `encrypted`, `too_large`."""

    def __init__(self, path: Path, limits: Limits) -> None:
        self._limits = limits
        self._left = limits.unpacked_bytes
        _check_directory(path)
        try:
            self._file = zipfile.ZipFile(path)
        except zipfile.BadZipFile:
            raise DocumentUnreadable("broken") from None
        infos = self._file.infolist()
        if len(infos) > limits.archive_entries:
            raise DocumentUnreadable("too_large")
        # Names of parts differ in nothing but their letters' case at most; some writers have the wrong slashes.
        self._infos = {info.filename.replace("\\", "/").lstrip("/").lower(): info for info in infos}

    @property
    def names(self) -> list[str]:
        """The names of all parts, in lower case."""
        return list(self._infos)

    def has(self, name: str) -> bool:
        return name.lower() in self._infos

    def open(self, name: str) -> Part:
        """Return a part to be read. KeyError when there is none of this name."""
        info = self._infos[name.lower()]
        if info.flag_bits & 1:
            raise DocumentUnreadable("encrypted")
        most = min(max(_ALWAYS_BYTES, self._limits.unpacked_ratio * info.compress_size), self._limits.unpacked_bytes)
        if info.file_size > most:
            raise DocumentUnreadable("too_large")
        return Part(self, self._file.open(info), most, info.file_size)

    def read(self, name: str, most: int = _PART_BYTES) -> bytes:
        """Return a whole part of at most `most` bytes, b"" when there is none of this name."""
        if not self.has(name):
            return b""
        part = self.open(name)
        data = part.read(most + 1)
        part.close()
        if len(data) > most:
            raise DocumentUnreadable("too_large")
        return data

    def spend(self, count: int) -> None:
        """Take bytes from what all parts together may unpack to."""
        self._left -= count
        if self._left < 0:
            raise DocumentUnreadable("too_large")


def _check_directory(path: Path) -> None:
    """Refuse a list of parts that would fill the memory before a single one of them is looked at."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - 65_536 - _END.size))
        tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < _END.size:
        raise DocumentUnreadable("broken")
    directory_bytes = _END.unpack_from(tail, at)[5]
    if directory_bytes > _DIRECTORY_BYTES:
        raise DocumentUnreadable("too_large" if directory_bytes < size else "broken")


__all__ = ["Archive", "Part"]
