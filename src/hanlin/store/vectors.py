"""The vectors of one document's passages: a file that grows, row after row in the order of the passages.

It begins with a line that says what the rows are, padded to one size; the rest is numbers of four bytes. What a process
wrote before it died is kept: only a row that is not whole is written again. Readers map the file and need no lock.
"""

import array
import contextlib
import fcntl
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec

from hanlin.store.passages import FORMAT

_HEAD_BYTES = 256
_FLOAT_BYTES = 4


class Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the rows of a file are: vectors of a `model`, `dimensions` numbers each, of `passages` passages in all.

    `format` is the index's: cut in another way, the passages are others.
    """

    model: str
    dimensions: int
    passages: int
    format: int = FORMAT


class Vectors(msgspec.Struct, frozen=True):
    """How much of a file there is to read: `rows` rows of its head's dimensions from `offset` bytes on."""

    path: Path
    head: Head
    rows: int
    offset: int = _HEAD_BYTES


class VectorsTaken(Exception):
    """Somebody else writes into the file just now."""


def there(path: Path) -> Vectors | None:
    """Return what can be read of a file; None where there is none, or none of this format."""
    try:
        with open(path, "rb") as file:
            return _there(path, file)
    except OSError:
        return None


@contextlib.contextmanager
def appending(path: Path, model: str, passages: int) -> Iterator["Appender"]:
    """Open a file for its one writer, who goes on after its last whole row. A file of another model begins anew.

    Raises VectorsTaken while somebody else has it open so.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise VectorsTaken(str(path)) from error
        found = _there(path, file)
        if found is None or (found.head.model, found.head.passages) != (model, passages):
            file.truncate(0)
            found = None
        yield Appender(file, model, passages, found)


class Appender:
    """Writes rows at the end of a file. `rows` is how many there are."""

    def __init__(self, file: BinaryIO, model: str, passages: int, found: Vectors | None) -> None:
        self._file = file
        self._model = model
        self._passages = passages
        self._head = found.head if found else None
        self.rows = found.rows if found else 0

    def append(self, vectors: Sequence[Sequence[float]]) -> None:
        """Write vectors of the next passages. Raises ValueError when they are not as long as those before."""
        if not vectors:
            return
        dimensions = self._head.dimensions if self._head else len(vectors[0])
        if not dimensions or any(len(vector) != dimensions for vector in vectors):
            raise ValueError(f"vectors of {dimensions} numbers are followed by others")
        if self._head is None:
            self._head = Head(self._model, dimensions, self._passages)
            self._file.seek(0)
            self._file.write(msgspec.json.encode(self._head).ljust(_HEAD_BYTES - 1) + b"\n")
        numbers = array.array("f")
        for vector in vectors:
            numbers.extend(vector)
        self._file.seek(_HEAD_BYTES + self.rows * dimensions * _FLOAT_BYTES)
        self._file.write(numbers.tobytes())
        self._file.flush()
        self.rows += len(vectors)


def _there(path: Path, file: BinaryIO) -> Vectors | None:
    file.seek(0)
    try:
        head = msgspec.json.decode(file.read(_HEAD_BYTES), type=Head)
    except msgspec.DecodeError:
        return None
    if head.format != FORMAT or head.dimensions < 1:
        return None
    size = file.seek(0, os.SEEK_END) - _HEAD_BYTES
    return Vectors(path, head, min(size // (head.dimensions * _FLOAT_BYTES), head.passages))


__all__ = ["Appender", "Head", "Vectors", "VectorsTaken", "appending", "there"]
