"""What processes that are no longer alive left in the journal's folder: rows, and calls under way.

    journal/lock                        held while a writer appears, or is looked for
    journal/<writer>.lock               held as long as the writer lives, however it ends
    journal/<writer>.000001.rows        its rows; the last file is the one that was written
    journal/<writer>.000000.calls       its calls under way
    journal/refused.rows                rows that the database would not take, for people to look at
    journal/….damaged                   files with lines that could not be read, the same

A lock, unlike a process's number in a file, cannot outlive its process nor be taken for another's.
"""

import fcntl
import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hanlin.metering.journal_calls import Start, interrupted, left_on
from hanlin.metering.journal_segments import Segment, Taken, removed, set_aside
from hanlin.store.rows import LedgerRow

_OURS = re.compile(r"([0-9a-f]+-[0-9a-f]+)\.(?:lock|(\d+)\.(rows|calls))")

Cut = Callable[[Start, LedgerRow], None]
"""Told of a call that a process died under, and of its row."""

Found = Callable[[LedgerRow], None]
"""Told of every row that is read of what a dead process left, those of calls that it died under included."""

_log = logging.getLogger(__name__)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Wait until no other process makes or takes over a writer's files in the folder."""
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def hold(folder: Path, name: str) -> int | None:
    """Lock a writer's files and return the lock's descriptor, or None while another process holds them.

    To be asked while `alone`: a lock file appears, and is found free, in one step.
    """
    descriptor = os.open(_lock_file(folder, name), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def let_go(folder: Path, name: str, descriptor: int, *, remove: bool) -> None:
    """Give a writer's files back. `remove`: there are none left, so that its lock is of no more use."""
    if remove:
        removed(_lock_file(folder, name))
    os.close(descriptor)


def take_over(folder: Path, own: str, cut: Cut | None = None, found: Found | None = None) -> "list[Left]":
    """Lock and return what dead processes left, oldest first. `own` is the name of the one that asks.

    `cut` is told of each call that was under way once its row is settled, `found` of every row once it is read. Raises
    OSError when the folder cannot be read.
    """
    with alone(folder):
        names = {match[1] for path in folder.iterdir() if (match := _OURS.fullmatch(path.name))}
        held = [(name, hold(folder, name)) for name in sorted(names - {own})]
    return [Left(folder, name, descriptor, cut, found) for name, descriptor in held if descriptor is not None]


class Left:
    """What one dead process left, in the hands of whoever took it over. Rows come first, then calls it died under.

    Dying over it is harmless: the next one takes everything over again, and rows are known by their ids.
    """

    def __init__(
        self, folder: Path, name: str, descriptor: int, cut: Cut | None = None, found: Found | None = None
    ) -> None:
        self._folder = folder
        self._cut = cut
        self._found = found
        self._name = name
        self._descriptor = descriptor
        files = [(path, match) for path in folder.iterdir() if (match := _OURS.fullmatch(path.name))]
        ours = sorted((path, match[3]) for path, match in files if match[1] == name)
        self._boards = [path for path, kind in ours if kind == "calls"]
        self.segments = [Segment(path) for path, kind in ours if kind == "rows"]
        self._interrupted: set[str] | None = None
        self._damaged = 0
        self._done = False
        self._stays = False
        self._under_way = dict(self._read_boards())

    @property
    def size_bytes(self) -> int:
        """How much of it there is to read."""
        return sum(segment.size_bytes for segment in self.segments)

    @property
    def damaged(self) -> int:
        """How many lines could not be read."""
        return self._damaged + sum(segment.damaged for segment in self.segments)

    @property
    def is_done(self) -> bool:
        """Whether all of it is settled, and removed."""
        return self._done

    @property
    def pending_rows(self) -> int:
        """How many rows are known to wait; what has not been read yet is not counted."""
        return sum(segment.taken - segment.settled for segment in self.segments) + len(self._under_way)

    def take(self, limit: int) -> list[Taken]:
        """Hand out the next rows, `limit` at most; none when all are out."""
        taken = self._take(limit)
        if self._found is not None:
            for row, _ in taken:
                self._found(row)
        return taken

    def _take(self, limit: int) -> list[Taken]:
        for segment in self.segments:
            if taken := segment.take(limit):
                for row, _ in taken:
                    self._under_way.pop(row.id, None)
                return taken
        if self._interrupted is None:
            self._interrupted = set(self._under_way)
        rows = [interrupted(*self._under_way[call]) for call in list(self._interrupted)[:limit]]
        self._interrupted.difference_update(row.id for row in rows)
        return [(row, self) for row in rows]

    def settle(self, *rows: LedgerRow) -> None:
        """Forget calls under way: their rows are in the database."""
        for row in rows:
            start, _ = self._under_way.pop(row.id)
            if self._cut is not None:
                self._cut(start, row)

    def sweep(self) -> None:
        """Remove what is settled."""
        for segment in self.segments:
            if segment.is_done:
                self._stays |= not segment.remove()
                self._damaged += segment.damaged
        self.segments = [segment for segment in self.segments if not segment.is_done]
        if self._interrupted is not None and not self.segments and not self._under_way and not self._done:
            self._done = True
            for board in self._boards:
                self._stays |= not removed(board)
            if not self._stays:  # or else it would be found, and told to the database, again and again
                self.let_go(remove=True)

    def let_go(self, *, remove: bool = False) -> None:
        """Leave the rest to whoever comes next."""
        if self._descriptor >= 0:
            let_go(self._folder, self._name, self._descriptor, remove=remove)
            self._descriptor = -1

    def _read_boards(self) -> Iterator[tuple[str, tuple[Start, int]]]:
        for board in list(self._boards):
            try:
                for start, tokens in left_on(board):
                    yield start.id, (start, tokens)
            except OSError as error:
                _log.error("journal: %s: %s. Calls that were under way may have no row", board, error)
                self._boards.remove(board)
                self._stays |= not set_aside(board)


def _lock_file(folder: Path, name: str) -> Path:
    return folder / f"{name}.lock"
