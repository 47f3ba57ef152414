"""Rows in files, a line each: the row as JSON, a space, and its checksum.

What the death of a process tore is the last line of its last file, and known by its checksum. A line that was damaged
in the middle is skipped: the next line's end tells where to go on. Names of fields are part of every line, so that a
release can read what an older one left behind.
"""

import contextlib
import errno
import logging
import os
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol
from zlib import crc32

import msgspec

from hanlin.store.rows import LedgerRow

DAMAGED_FILES = 16
"""How many files with damaged lines are kept for people to look at; the oldest go first."""

_CHUNK_BYTES = 256 * 1024
_CHECKSUM_BYTES = 9
_PROBE_BYTES = 4096
_CHUNK_ROWS = 256  # taken in one go while calls wait: about a millisecond

_encode_into = msgspec.json.Encoder().encode_into
_decode = msgspec.json.Decoder(LedgerRow).decode

_log = logging.getLogger(__name__)


class Source(Protocol):
    """Where rows were taken from, which wants to know when they are in the database."""

    def settle(self, *rows: LedgerRow) -> None: ...


class Waiting(Protocol):
    """Where rows wait to be taken."""

    def take(self, limit: int) -> "list[Taken]": ...


Write = Callable[[int, bytes | bytearray], int]
"""`os.write`; a disk that is full is another."""

Taken = tuple[LedgerRow, Source]


def line_of(row: LedgerRow, line: bytearray | None = None) -> bytearray:
    """Return a row as a line of a segment, in the buffer that is given: a new one costs a microsecond."""
    line = bytearray() if line is None else line
    _encode_into(row, line)
    line += b" %08x\n" % crc32(line)
    return line


def row_of(line: bytes) -> LedgerRow | None:
    """Return the row of a line, its end left out; None when it is damaged."""
    body = line[:-_CHECKSUM_BYTES]
    if line[-_CHECKSUM_BYTES:] != b" %08x" % crc32(body):
        return None
    try:
        return _decode(body)
    except msgspec.DecodeError:
        return None


def removed(path: Path) -> bool:
    """Remove a file that is settled, and say whether it is gone."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        # What is in it is told to the database once more at the next start, and known there by its ids.
        _log.error("journal: %s cannot be removed: %s", path, error)
        return False
    return True


def set_aside(path: Path) -> bool:
    """Rename a file that could not be read, because somebody may want to look at it; say whether that was done."""
    try:
        path.rename(path.with_suffix(".damaged"))
    except FileNotFoundError:
        return True  # somebody tidied up
    except OSError as error:
        _log.error("journal: %s cannot be renamed: %s", path, error)
        return False
    for old in sorted(path.parent.glob("*.damaged"))[:-DAMAGED_FILES]:
        removed(old)
    return True


class Segment:
    """A file of rows, which are handed out in the order of their calls' ends. It may go when all are settled.

    One that is written keeps its rows in memory, too, where `keeps_rows` says so: reading them back costs as much as
    writing them. Without a descriptor it is a file that was found.
    """

    def __init__(self, path: Path, descriptor: int = -1, *, keeps_rows: bool = False, began_s: float = 0.0) -> None:
        self.path = path
        self.began_s = began_s
        self.size_bytes = 0
        self.rows = 0
        self.taken = 0
        self.settled = 0
        self.damaged = 0
        self.descriptor = descriptor
        self._kept: deque[LedgerRow] | None = deque() if keeps_rows else None
        self._read_bytes = 0
        self._at_end = False
        if descriptor < 0:
            with contextlib.suppress(OSError):  # a file that cannot be read says so when it is
                self.size_bytes = path.stat().st_size

    @property
    def is_open(self) -> bool:
        """Whether rows are still written to it."""
        return self.descriptor >= 0

    @property
    def kept(self) -> int:
        """How many rows wait in memory."""
        return 0 if self._kept is None else len(self._kept)

    @property
    def pending(self) -> int:
        """How many of the rows that this process has written are not settled, and could be."""
        return max(self.rows - self.settled - self.damaged, 0)

    @property
    def is_done(self) -> bool:
        """Whether every row that it has, and will have, is settled."""
        if self.is_open or self.settled < self.taken:
            return False
        return not self._kept if self._kept is not None else self._at_end or self.settled == self.rows > 0

    def write(self, rows: Sequence[LedgerRow], lines: bytearray, write: Write = os.write) -> None:
        """Write rows, whose `lines` these are, all or none: once this returns, they outlive the process.

        Raises OSError, after which nothing may follow.
        """
        written = write(self.descriptor, lines)
        if written < len(lines):
            self._cut()
        self.size_bytes += written
        self.rows += len(rows)
        if self._kept is not None:
            self._kept += rows

    def probe(self, write: Write = os.write) -> None:
        """Raise the OSError that writing would raise now. What is written is read as nothing."""
        if write(self.descriptor, b"\n" * _PROBE_BYTES) < _PROBE_BYTES:
            self._cut()
        self.size_bytes += _PROBE_BYTES

    def take(self, limit: int) -> list[Taken]:
        """Hand out the next rows, `limit` at most; none when there are none now."""
        if self._kept is not None:
            rows = [self._kept.popleft() for _ in range(min(limit, len(self._kept)))]
        else:
            rows = [] if self._at_end else self._read(min(limit, _CHUNK_ROWS))
        self.taken += len(rows)
        return [(row, self) for row in rows]

    def settle(self, *rows: LedgerRow) -> None:
        self.settled += len(rows)

    def release(self) -> int:
        """Write no more to it, and return its descriptor, which is the caller's from here on."""
        descriptor, self.descriptor = self.descriptor, -1
        return descriptor

    def remove(self) -> bool:
        """Remove the file, and say whether it is gone. One with damaged lines is set aside instead."""
        return set_aside(self.path) if self.damaged else removed(self.path)

    def _cut(self) -> None:
        """Take back what was written in part, and say why that was."""
        with contextlib.suppress(OSError):
            os.ftruncate(self.descriptor, self.size_bytes)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _read(self, limit: int) -> list[LedgerRow]:
        rows: list[LedgerRow] = []
        while not rows:
            try:
                with self.path.open("rb") as file:
                    file.seek(self._read_bytes)
                    chunk = file.read(_CHUNK_BYTES)
            except OSError as error:
                self._found_damage(str(error))
                chunk = b""
            if not chunk:
                self._at_end = not self.is_open
                break
            if not (read := self._read_lines(chunk, limit, rows)):
                break  # a piece of a line, and more is to come
            self._read_bytes += read
        return rows

    def _read_lines(self, chunk: bytes, limit: int, rows: list[LedgerRow]) -> int:
        """Add the rows of whole lines, and return how many bytes are done with."""
        start = 0
        while len(rows) < limit and (end := chunk.find(b"\n", start)) >= 0:
            if (row := row_of(chunk[start:end])) is not None:
                rows.append(row)
            elif end > start:  # an empty line is what a probe left
                self._found_damage("a line does not fit its checksum")
            start = end + 1
        if start or self.is_open:
            return start
        if len(chunk) == _CHUNK_BYTES:
            self._found_damage("no line ends in a stretch of it")
        elif (row := row_of(chunk)) is not None:  # all but its end was written: as good as whole
            rows.append(row)
        return len(chunk)

    def _found_damage(self, why: str) -> None:
        if not self.damaged:  # once a file: it may be all of them
            _log.error("journal: %s: %s. What can be read is used, and the file is kept", self.path, why)
        self.damaged += 1
