"""The journal: what is known of a call goes into a file before its caller can know more, so that no death loses it.

    mark = journal.began(start)     before an engine is asked
    mark.delivered(tokens)          before a burst leaves
    mark.ended(row)                 before the last byte leaves

Each has happened once it returns, however the process ends after that: what the kernel was given outlives its process.
Rows that end in a block of `together` are written as that block ends, by one call of the system.
A loss of power is another matter; against it rows are forced to the disk every second (`LedgerWriter`), so that it
costs the latest second of rows, and of calls under way what the kernel had not written by itself.

When rows cannot be written, because the disk is full or the journal has reached its bound while the database is down,
calls go on: rows wait in memory, are written as soon as there is room, or reach the database before that. Only when
memory has its bound of them, too, are new ones lost, counted and told. `state` says which of it is the case, so that a
service that must bill every call can refuse them from `unwritten` on.

For one event loop: nothing here locks. How the files are laid out is told in `journal_left`.
"""

import contextlib
import logging
import os
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

import msgspec

from hanlin.home import cannot_use
from hanlin.metering.journal_calls import Calls, Nowhere, Slot, Start, Words
from hanlin.metering.journal_left import Cut, Found, Left, alone, hold, let_go, take_over
from hanlin.metering.journal_segments import Segment, Taken, Waiting, Write, line_of
from hanlin.store.rows import LedgerRow

MIB = 1024 * 1024

State = Literal["well", "unwritten", "losing"]

_REFUSED_BYTES = 4 * MIB
_QUIET_SEGMENT_S = 60.0  # a file whose rows are all settled is exchanged by then: less to read after a death
_REWRITTEN_ROWS = 1000  # at a time, while calls wait

_NOWHERE = Nowhere()

_End = tuple[LedgerRow, Slot | None]
"""The end of a call: its row, and the slot that its mark had."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Bounds:
    """How large things may grow. `total_bytes` is for the rows of one process that are not in the database yet.

    `kept_rows` is from how many rows in memory on new files are read back instead; a row takes about a kilobyte.
    `held_rows` is how many rows may wait that no disk would take.
    """

    segment_bytes: int = 4 * MIB
    total_bytes: int = 1024 * MIB
    kept_rows: int = 2_000
    held_rows: int = 20_000


class Mark(msgspec.Struct, eq=False):
    """A call under way, as the journal knows it. Made for every call, hence a Struct."""

    _journal: "Journal"
    _slot: Slot | None = None
    _words: Words = _NOWHERE
    _count: int = 0

    def delivered(self, completion_tokens: int) -> None:
        """Note how many tokens of the answer will have left, all told. For every burst: it is one store."""
        self._words[self._count] = completion_tokens

    def ended(self, row: LedgerRow) -> None:
        """Write the call's row. To be called once; nothing that is said afterwards counts."""
        slot, self._slot, self._words = self._slot, None, _NOWHERE
        self._journal.ended(row, slot)


class _Held:
    """Rows that no disk took, in the order of their calls' ends. Their calls keep their slots meanwhile."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._rows: dict[str, tuple[LedgerRow, Slot | None]] = {}
        self._fresh: deque[LedgerRow] = deque()

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, row: LedgerRow, slot: Slot | None) -> None:
        if row.id not in self._rows:
            self._rows[row.id] = row, slot
            self._fresh.append(row)

    def take(self, limit: int) -> list[Taken]:
        return [(self._fresh.popleft(), self) for _ in range(min(limit, len(self._fresh)))]

    def settle(self, *rows: LedgerRow) -> None:
        for row in rows:
            _, slot = self._rows.pop(row.id, (row, None))
            if slot is not None:
                self._calls.end(slot)

    def write_by(self, write: Callable[[Sequence[LedgerRow], bytearray], bool], limit: int) -> None:
        """Hand the oldest rows to `write` until it takes one no more; those that it took are gone from here."""
        for row, _ in list(islice(self._rows.values(), limit)):
            if not write((row,), line_of(row)):
                break
            self.settle(row)
        self._fresh = deque(row for row in self._fresh if row.id in self._rows)


class Journal:
    """The journal of one process. `open_journal` makes it; calls use `began` and `ended`, the rest is its owner's.

    `ended_rows` counts rows, `lost` those that nothing could keep; `unmarked` calls that leave no row if the process
    dies under them, because there was no room for their mark; `failure` is why rows cannot be written now.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        descriptor: int,
        bounds: Bounds,
        *,
        clock: Callable[[], float] = time.monotonic,
        write: Write = os.write,
        mapped: bool | None = None,
    ) -> None:
        self._folder = folder
        self._name = name
        self._descriptor = descriptor
        self._bounds = bounds
        self._clock = clock
        self._write = write
        self._calls = Calls(folder, name, mapped=mapped)
        self._held = _Held(self._calls)
        self._segment: Segment | None = None
        self._segments: list[Segment] = []
        self._made = 0
        self._unsynced: list[int] = []
        self._synced_bytes = -1
        self._blocked = False  # nothing is written before the next `tend`
        self._losing = False
        self._together: tuple[list[_End], bytearray] | None = None  # of a block that is not over, and their lines
        self._line = bytearray()  # of one row; a new buffer for each would cost a microsecond
        self.lost = 0
        self.ended_rows = 0
        self._damaged = 0
        self.failure = ""

    # --- for calls

    def began(self, start: Start) -> Mark:
        """Note that a call was admitted: before anybody is asked for a token."""
        slot = self._calls.begin(start)
        return Mark(self) if slot is None else Mark(self, slot, slot.words, slot.count)

    def ended(self, row: LedgerRow, slot: Slot | None = None) -> None:
        """Write the row of a call that has no mark (`Mark.ended` gives the slot of one that has)."""
        line = line_of(row, self._line)
        if self._together is None:
            self._end(((row, slot),), line)
        else:
            ends, lines = self._together
            ends.append((row, slot))
            lines += line

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Write the rows that are ended in the block as it ends. Nothing may wait in there."""
        ends: list[_End] = []
        lines = bytearray()
        self._together = ends, lines
        try:
            yield
        finally:
            self._together = None
            if ends:
                self._end(ends, lines)

    # --- how it is

    @property
    def state(self) -> State:
        """`unwritten`: rows are in memory only; `losing`: new ones are lost."""
        if len(self._held) >= self._bounds.held_rows:
            return "losing"
        return "unwritten" if self.failure or len(self._held) else "well"

    @property
    def pending_rows(self) -> int:
        """How many rows of this process are not in the database."""
        return sum(segment.pending for segment in self._segments) + len(self._held)

    @property
    def moved_rows(self) -> int:
        """How many rows of this process have been moved into the database."""
        return self.ended_rows - self.lost - self.pending_rows

    @property
    def size_bytes(self) -> int:
        """How much lies in this process's files of rows."""
        return sum(segment.size_bytes for segment in self._segments)

    @property
    def damaged(self) -> int:
        """How many lines of this process's own files could not be read back."""
        return self._damaged + sum(segment.damaged for segment in self._segments)

    @property
    def open_calls(self) -> int:
        return self._calls.open

    @property
    def unmarked(self) -> int:
        return self._calls.unmarked

    @property
    def unmarked_failure(self) -> str:
        """Why calls have no mark, "" when they have one."""
        return self._calls.failure

    # --- for the one who moves rows into the database

    def take(self, limit: int) -> list[Taken]:
        """Hand out the next rows, oldest first, `limit` at most; none when all are out."""
        sources: tuple[Waiting, ...] = (*self._segments, self._held)
        for source in sources:
            if taken := source.take(limit):
                return taken
        return []

    def tend(self) -> None:
        """Do what is due now and then: remove files that are settled, exchange an old one, try again what failed."""
        segment = self._segment
        if segment is not None and segment.rows and not segment.pending and self._age_s(segment) >= _QUIET_SEGMENT_S:
            self._close_segment()
        self._sweep()
        self._calls.tend()
        if self.failure or len(self._held):
            self._try_again(_REWRITTEN_ROWS)

    def unsynced(self) -> list[int]:
        """Return descriptors of what was written since the last time: to be forced to the disk, and closed."""
        descriptors, self._unsynced = self._unsynced, []
        segment = self._segment
        if segment is not None and segment.size_bytes != self._synced_bytes:
            with contextlib.suppress(OSError):  # too many files are open: next time
                descriptors.append(os.dup(segment.descriptor))
                if self._synced_bytes < 0:  # a new file: its name is to stay, too
                    descriptors.append(os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY))
                self._synced_bytes = segment.size_bytes
        return descriptors

    def take_over(self, cut: Cut | None = None, found: Found | None = None) -> list[Left]:
        """Return what dead processes left in the folder; it is this process's from now on. Raises OSError."""
        return take_over(self._folder, self._name, cut, found)

    def set_aside(self, row: LedgerRow) -> None:
        """Keep a row that the database does not take where people can find it."""
        path = self._folder / "refused.rows"
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                if os.fstat(descriptor).st_size < _REFUSED_BYTES:
                    os.write(descriptor, line_of(row))
            finally:
                os.close(descriptor)
        except OSError as error:
            _log.error("journal: %s: %s", path, error)

    def close(self) -> None:
        """Leave no files, or those with rows that are not in the database and calls that are not over.

        Whatever is left is found by the next `take_over`, of this process or another. To be called once.
        """
        if len(self._held):
            self._try_again(len(self._held))
        if len(self._held):
            _log.error("journal: %d rows are lost: %s", len(self._held), self.failure)
        self._close_segment()
        for descriptor in self.unsynced():
            with contextlib.suppress(OSError):
                os.fsync(descriptor)
            os.close(descriptor)
        self._sweep()
        self._calls.close()
        let_go(self._folder, self._name, self._descriptor, remove=not self._segments and not self._calls.open)

    # --- files

    def _end(self, ends: Sequence[_End], lines: bytearray) -> None:
        """Write rows, or hold them where no disk takes them; their calls are over once they are written."""
        self.ended_rows += len(ends)
        written = self._written([row for row, _ in ends], lines)
        for row, slot in ends:
            if not written and len(self._held) < self._bounds.held_rows:
                self._held.add(row, slot)
                continue
            if slot is not None:
                self._calls.end(slot)
            if not written:
                if not self._losing:
                    _log.error("journal: rows are lost: %s, and memory has its bound of them", self.failure)
                self._losing = True
                self.lost += 1

    def _written(self, rows: Sequence[LedgerRow], lines: bytearray) -> bool:
        """Write rows to the open file, all or none; False when that cannot be done now."""
        segment = self._segment or self._opened()
        if segment is None:
            return False
        try:
            segment.write(rows, lines, self._write)
        except OSError as error:
            self._stop(str(error))
            return False
        if self.failure:
            self._recovered()
        if segment.size_bytes >= self._bounds.segment_bytes:
            self._close_segment()
        return True

    def _opened(self) -> Segment | None:
        """Return a new segment to write to; None when there can be none now."""
        if self._blocked:
            return None
        if self.size_bytes + self._bounds.segment_bytes > self._bounds.total_bytes:
            self._stop(f"the journal has reached its bound of {self._bounds.total_bytes // MIB} MiB")
            return None
        self._made += 1
        path = self._folder / f"{self._name}.{self._made:06d}.rows"
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        except OSError as error:
            self._stop(str(error))
            return None
        keeps = sum(segment.kept for segment in self._segments) < self._bounds.kept_rows
        self._segment = Segment(path, descriptor, keeps_rows=keeps, began_s=self._clock())
        self._segments.append(self._segment)
        self._synced_bytes = -1
        return self._segment

    def _sweep(self) -> None:
        for segment in self._segments:
            if segment.is_done:
                segment.remove()
                self._damaged += segment.damaged
        self._segments = [segment for segment in self._segments if not segment.is_done]

    def _age_s(self, segment: Segment) -> float:
        return self._clock() - segment.began_s

    def _close_segment(self) -> None:
        if self._segment is not None:
            self._unsynced.append(self._segment.release())
            self._segment = None

    def _stop(self, why: str) -> None:
        if not self.failure:
            _log.error(
                "journal: rows wait in memory: %s. They are lost if the process dies before they are stored", why
            )
        self.failure = why
        self._blocked = True
        self._close_segment()

    def _try_again(self, limit: int) -> None:
        """Write what is in memory only; where nothing is, see whether it could be: somebody may wait for that."""
        self._blocked = False
        self._held.write_by(self._written, limit)
        if self.failure and not self._blocked and (segment := self._opened()) is not None:
            try:
                segment.probe(self._write)
            except OSError as error:
                self._stop(str(error))
            else:
                self._recovered()

    def _recovered(self) -> None:
        _log.warning("journal: rows are written again (lost so far: %d)", self.lost)
        self.failure = ""
        self._losing = False


def open_journal(folder: Path, bounds: Bounds = Bounds()) -> Journal:
    """Open a journal in a home's folder, beside those of other processes. Raises StartupError when that cannot be."""
    name = f"{time.time_ns():x}-{secrets.token_hex(4)}"
    try:
        with alone(folder):
            descriptor = hold(folder, name)
    except OSError as error:
        raise cannot_use(folder, error) from error
    assert descriptor is not None, "a name that nobody else has"
    return Journal(folder, name, descriptor, bounds)
