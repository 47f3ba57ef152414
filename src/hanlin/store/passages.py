"""The index of one document: its passages and the words in them, in an SQLite file of its own.

Such a file is written once, beside its place, and then renamed into it: what stands there is whole, and is only read.
It can be made again from the document's pages at any time, so that whatever is wrong with it is cured by that. Nothing
here waits on an event loop: callers run it in a thread.
"""

import contextlib
import errno
import os
import secrets
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

_APPLICATION = 0x48616E6C
FORMAT = 1
"""Raised whenever the tables change, or how words are cut: an index of another format is made again."""

_TABLES = (
    f"PRAGMA application_id = {_APPLICATION}",
    f"PRAGMA user_version = {FORMAT}",
    "CREATE TABLE passages (number INTEGER PRIMARY KEY, first_page INTEGER NOT NULL, last_page INTEGER NOT NULL, "
    "heading TEXT NOT NULL, text TEXT NOT NULL)",
    # Words arrive cut, with blanks between them, and their text is kept above: the index need not know it.
    "CREATE VIRTUAL TABLE lexicon USING fts5(words, content='', tokenize=\"ascii tokenchars '.'\")",
    "CREATE VIRTUAL TABLE terms USING fts5vocab(lexicon, 'row')",
)

_BATCH = 256
_MOST_OPEN = 32
_READ_CACHE_KIB = 2048


class Row(NamedTuple):
    """A passage as it is stored; `number` counts from 0."""

    number: int
    first_page: int
    last_page: int
    heading: str
    text: str


class IndexUnusable(Exception):
    """There is no index, or it is damaged or of another format: it has to be made from the document's pages."""


def build(path: Path, rows: Iterable[tuple[Row, str]]) -> int:
    """Write the index of passages with their words, and return how many there are.

    `rows` may be a stream: no more than a few hundred of them are held. Until the last is written an index that was
    there before stays in its place; when anything fails, the new one leaves no trace. Raises OSError.
    """
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with contextlib.closing(sqlite3.connect(beside, isolation_level=None)) as connection:
            # A file that no one else knows needs no journal: it is complete or it is deleted.
            connection.execute("PRAGMA journal_mode = OFF")
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute("BEGIN")
            for statement in _TABLES:
                connection.execute(statement)
            count = 0
            for batch in _batches(rows):
                connection.executemany("INSERT INTO passages VALUES (?, ?, ?, ?, ?)", [row for row, _words in batch])
                words = [(row.number, words) for row, words in batch]
                connection.executemany("INSERT INTO lexicon (rowid, words) VALUES (?, ?)", words)
                count += len(batch)
            connection.execute("COMMIT")
        _flush(beside)
        beside.replace(path)
    except sqlite3.Error as error:
        is_full = error.sqlite_errorcode == sqlite3.SQLITE_FULL
        raise OSError(errno.ENOSPC if is_full else errno.EIO, f"cannot be written: {error}", str(path)) from error
    finally:
        beside.unlink(missing_ok=True)
    return count


def _batches(rows: Iterable[tuple[Row, str]]) -> Iterator[list[tuple[Row, str]]]:
    batch = []
    for row in rows:
        batch.append(row)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _flush(path: Path) -> None:
    """See that a file is on the disk before its name is: otherwise a loss of power leaves the name without it."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class Indexes:
    """Reads indexes, and keeps the files of those that were read last open. Safe for any number of threads.

    Every method raises IndexUnusable.
    """

    def __init__(self, most_open: int = _MOST_OPEN) -> None:
        self._most_open = most_open
        self._lock = threading.Lock()
        self._idle: OrderedDict[tuple[Path, int, int], list[sqlite3.Connection]] = OrderedDict()
        self._open = 0

    def count(self, path: Path) -> int:
        """Return how many passages there are."""
        with self._reading(path) as connection:
            (last,) = connection.execute("SELECT max(number) FROM passages").fetchone()
            return 0 if last is None else int(last) + 1

    def search(self, path: Path, match: str, limit: int) -> list[tuple[int, float]]:
        """Return the numbers of the passages that fit an FTS5 expression best, with their BM25 weight, best first."""
        with self._reading(path) as connection:
            statement = "SELECT rowid, -rank FROM lexicon WHERE lexicon MATCH ? ORDER BY rank, rowid LIMIT ?"
            return connection.execute(statement, (match, limit)).fetchall()

    def frequencies(self, path: Path, terms: Iterable[str]) -> Mapping[str, int]:
        """Return in how many passages each of the terms occurs, without those that occur in none."""
        with self._reading(path) as connection:
            found = {}
            for term in terms:
                row = connection.execute("SELECT doc FROM terms WHERE term = ?", (term,)).fetchone()
                if row:
                    found[term] = int(row[0])
            return found

    def rows(self, path: Path, numbers: Sequence[int]) -> list[Row]:
        """Return passages by their numbers, in that order, without those that do not exist."""
        with self._reading(path) as connection:
            statement = "SELECT number, first_page, last_page, heading, text FROM passages WHERE number = ?"
            found = [connection.execute(statement, (number,)).fetchone() for number in numbers]
            return [Row(*row) for row in found if row]

    def span(self, path: Path, first: int, last: int) -> list[Row]:
        """Return the passages from one number to another, both included."""
        with self._reading(path) as connection:
            statement = (
                "SELECT number, first_page, last_page, heading, text FROM passages "
                "WHERE number BETWEEN ? AND ? ORDER BY number"
            )
            return [Row(*row) for row in connection.execute(statement, (first, last))]

    def close(self) -> None:
        """Close everything that nobody reads just now."""
        with self._lock:
            connections = [connection for kept in self._idle.values() for connection in kept]
            self._idle.clear()
            self._open = 0
        _close(connections)

    @contextlib.contextmanager
    def _reading(self, path: Path) -> Iterator[sqlite3.Connection]:
        """Lend a connection to the file that has the name now."""
        connection = None
        try:
            status = path.stat()
            key = (path, status.st_ino, status.st_mtime_ns)
            connection = self._taken(key)
            if connection is None:
                self._drop_deleted()
                connection = _opened(path)
            yield connection
        except (sqlite3.DatabaseError, OSError) as error:
            if connection:
                connection.close()
            raise IndexUnusable(f"{path}: {error}") from error
        except BaseException:
            if connection:
                connection.close()
            raise
        self._put_back(key, connection)

    def _taken(self, key: tuple[Path, int, int]) -> sqlite3.Connection | None:
        with self._lock:
            kept = self._idle.get(key)
            if not kept:
                return None
            self._open -= 1
            connection = kept.pop()
            if not kept:
                del self._idle[key]
            return connection

    def _drop_deleted(self) -> None:
        """Close files that have lost their name: as long as one is open, its room on the disk is not free."""
        with self._lock:
            gone = [key for key in self._idle if not key[0].exists()]
            connections = [connection for key in gone for connection in self._idle.pop(key)]
            self._open -= len(connections)
        _close(connections)

    def _put_back(self, key: tuple[Path, int, int], connection: sqlite3.Connection) -> None:
        superfluous = []
        with self._lock:
            self._idle.setdefault(key, []).append(connection)
            self._idle.move_to_end(key)
            self._open += 1
            while self._open > self._most_open:
                oldest = next(iter(self._idle))
                superfluous.append(self._idle[oldest].pop())
                self._open -= 1
                if not self._idle[oldest]:
                    del self._idle[oldest]
        _close(superfluous)


def _opened(path: Path) -> sqlite3.Connection:
    # Immutable: nobody writes into a file that has its name, so there is nothing to lock or to wait for.
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?immutable=1", uri=True, check_same_thread=False)
    try:
        connection.execute(f"PRAGMA cache_size = -{_READ_CACHE_KIB}")
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if (application, version) != (_APPLICATION, FORMAT):
            raise sqlite3.DatabaseError("not an index of this format")
        connection.execute("SELECT rowid FROM lexicon LIMIT 0")
    except BaseException:
        connection.close()
        raise
    return connection


def _close(connections: Iterable[sqlite3.Connection]) -> None:
    for connection in connections:
        connection.close()


__all__ = ["FORMAT", "IndexUnusable", "Indexes", "Row", "build"]
