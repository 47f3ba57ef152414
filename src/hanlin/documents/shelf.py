"""What was read from files, one folder for each digest: whole or not there, shared by all files of the same bytes.

    <digest>/pages.jsonl    its pages, a line of JSON each, in their order
    <digest>/meta.json      what it is: the last that is written
    <digest>/index.db       its passages
    <digest>/notes/         what was written down of it (`hanlin.documents.notes`)
    held/<digest>/          the same for texts that stood in requests, the latest of them
    work/<owner>-…          what a process is making

Nothing here waits for an event loop: whoever has one calls from a thread.
"""

import contextlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec

from hanlin.documents.values import Page
from hanlin.home import private_folder

PAGES = "pages.jsonl"
META = "meta.json"

_HELD = "held"
_WORK = "work"
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Page).decode


class Meta(msgspec.Struct, frozen=True, kw_only=True):
    """What a document is. `name` is that of the first file with its bytes; `tokens` is an estimate."""

    name: str
    kind: str
    pages: int
    characters: int
    tokens: int
    title: str = ""


class Shelf:
    """The documents in a folder, as a process has them that is called `owner`.

    `held_documents` texts of requests are kept, of at most `held_bytes` together.
    """

    def __init__(self, folder: Path, owner: str = "", *, held_documents: int = 256, held_bytes: int = 1024**3) -> None:
        self.folder = folder
        self._owner = owner
        self.held_documents = held_documents
        self.held_bytes = held_bytes

    def path(self, digest: str) -> Path:
        """Return where the document of a file's bytes is, or would be."""
        return self.folder / digest

    def held(self, digest: str) -> Path:
        """Return where the document of a text's bytes is, or would be."""
        return self.folder / _HELD / digest

    def begin(self) -> Path:
        """Return a new folder to make a document in."""
        work = self.folder / _WORK / f"{self._owner}-{secrets.token_hex(8)}"
        private_folder(work)
        return work

    def keep(self, work: Path, path: Path) -> None:
        """Have what was made stand in its place; where such a document is already, that one stays."""
        private_folder(path.parent)
        try:
            work.rename(path)
        except OSError:
            if not path.is_dir():
                raise
            shutil.rmtree(work, ignore_errors=True)

    def remove(self, path: Path) -> None:
        """Delete a document, or what is half made, if it is there.

        A document loses its place at once: what others write into it meanwhile must not leave half a folder there.
        """
        if path.parent != self.folder / _WORK and path.is_dir():
            with contextlib.suppress(OSError):  # another one was first, or the disk is full
                aside = self.begin()
                try:
                    path.rename(aside / path.name)
                finally:
                    shutil.rmtree(aside, ignore_errors=True)
        shutil.rmtree(path, ignore_errors=True)

    def digests(self) -> list[str]:
        """Return the digests of all documents of files."""
        return [name for name in _names(self.folder) if name not in (_HELD, _WORK)]

    def newest(self) -> list[str]:
        """Return the digests of all documents of files, those first that came last."""
        return sorted(self.digests(), key=lambda digest: _time_of(self.folder / digest), reverse=True)

    def used(self, path: Path) -> None:
        """Note that a held document is used: those that are not go first."""
        with contextlib.suppress(OSError):
            os.utime(path)

    def trim(self) -> None:
        """Delete held documents until no more are left than may be, those first that nobody has used for longest."""
        folder = self.folder / _HELD
        found = sorted(((_time_of(folder / name), name) for name in _names(folder)), reverse=True)
        room_bytes = self.held_bytes
        for number, (_, name) in enumerate(found):
            room_bytes -= _size_of(folder / name)
            if number >= self.held_documents or (room_bytes < 0 and number):
                self.remove(folder / name)

    def clear(self, is_alive: Callable[[str], bool]) -> None:
        """Delete what processes left half made that are dead."""
        for name in _names(self.folder / _WORK):
            if not is_alive(name.partition("-")[0]):
                self.remove(self.folder / _WORK / name)


def write_pages(folder: Path, pages: Iterable[Page]) -> None:
    """Write a document's pages into its folder."""
    with open(folder / PAGES, "xb") as file:
        for page in pages:
            file.write(_encode(page) + b"\n")


def read_pages(folder: Path, first: int = 1, last: int | None = None) -> Iterator[Page]:
    """Yield pages in their order, by default all; both ends are included. Raises FileNotFoundError where none are."""
    with open(folder / PAGES, "rb") as file:
        for number, line in enumerate(file, 1):
            if last is not None and number > last:
                return
            if number >= first:
                yield _decode(line)


def write_meta(folder: Path, meta: Meta) -> None:
    """Write what a document is, as the last thing, and have all of it on the disk."""
    (folder / META).write_bytes(msgspec.json.encode(meta))
    for entry in _names(folder):
        descriptor = os.open(folder / entry, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def meta_of(folder: Path) -> Meta | None:
    """Return what a document is; None where there is none."""
    try:
        return msgspec.json.decode((folder / META).read_bytes(), type=Meta)
    except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
        return None


def _names(folder: Path) -> list[str]:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return os.listdir(folder)
    return []


def _time_of(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _size_of(folder: Path) -> int:
    size = 0
    for within, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                size += os.stat(os.path.join(within, name)).st_size
    return size


__all__ = ["META", "PAGES", "Meta", "Shelf", "meta_of", "read_pages", "write_meta", "write_pages"]
