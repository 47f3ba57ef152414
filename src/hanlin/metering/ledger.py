"""Move rows from the journal into the database, behind the calls, whatever the database does meanwhile.

Each row is there once: what is told to the database twice, because somebody died or gave up between its commit and our
knowing of it, is known by its id.
"""

import asyncio
import contextlib
import logging
import os
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby, islice
from operator import itemgetter
from typing import Literal, Protocol

import msgspec

from hanlin.errors import StoreFailed
from hanlin.metering.journal import Journal
from hanlin.metering.journal_left import Cut, Found, Left
from hanlin.metering.journal_segments import Taken, Waiting
from hanlin.store.rows import LedgerRow

_LOOK_EVERY_S = 0.5
_SYNC_EVERY_S = 1.0
_TAKE_OVER_EVERY_S = 5.0
_STRIKES = 3
"""How often a row must fail alone, and another pass right after it, before it is the row's fault."""

_log = logging.getLogger(__name__)


class Sink(Protocol):
    """Where rows go. Taking a row again changes nothing, nor does an `interrupted` one after the real one."""

    async def append(self, rows: Sequence[LedgerRow]) -> object: ...


@dataclass(frozen=True)
class Patience:
    """How the database is treated: rows at a time, how long it may take over them, and the pauses after failures."""

    batch_rows: int = 1000
    limit_s: float = 10.0
    pauses_s: tuple[float, ...] = (0.5, 1.0, 2.0, 5.0, 10.0)


class LedgerState(msgspec.Struct, frozen=True, kw_only=True):
    """How the ledger is at this moment.

    `state` is `well`; `behind`: the database does not take rows, which are safe in files; `unwritten`: there are rows
    that are in memory only; `losing`: new rows are lost. `pending_rows` leaves out what dead processes left and nobody
    has read yet, `journal_bytes` counts it. `oldest_s` is how long ago the call of the oldest row ended that the
    database was asked to take and did not. `failure` is why, in a few words, "" when nothing fails.

    Since the start: `stored_rows` in the database, `lost_rows` nowhere, `refused_rows` in the file of that name,
    `damaged_lines` unreadable, and `unmarked_calls` that would have left no row, had the process died under them.
    """

    state: Literal["well", "behind", "unwritten", "losing"]
    open_calls: int
    pending_rows: int
    journal_bytes: int
    oldest_s: float
    failure: str
    stored_rows: int
    lost_rows: int
    refused_rows: int
    damaged_lines: int
    unmarked_calls: int


def _now() -> datetime:
    return datetime.now(UTC)


class LedgerWriter:
    """Owns the way of rows from the journal to the database, those that dead processes left included.

    `run` it while calls are served, then `close` it, and the journal after that. `cut` is told of each call that a
    process died under when its row is in the database, so that what was reserved for it can be let go; it may be told
    twice, and must not raise. So must `found`, which is told of every row of dead processes as soon as it is read.
    Of several writers on one folder one `takes_over`: it is the one who knows what to make of dead processes.
    """

    def __init__(
        self,
        journal: Journal,
        sink: Sink,
        patience: Patience = Patience(),
        *,
        cut: Cut | None = None,
        found: Found | None = None,
        takes_over: bool = True,
        now: Callable[[], datetime] = _now,
    ) -> None:
        self._journal = journal
        self._sink = sink
        self._patience = patience
        self._cut = cut
        self._found = found
        self._takes_over = takes_over
        self._now = now
        self._left: list[Left] = []
        self._taken: deque[Taken] = deque()
        self._size = patience.batch_rows
        self._failures = 0
        self._failure = ""
        self._alone = ""
        self._strikes: Counter[str] = Counter()
        self._stored_rows = 0
        self._refused_rows = 0
        self._damaged_lines = 0
        self._hurry = asyncio.Event()
        self._moved = asyncio.Event()

    async def run(self) -> None:
        """Move rows as they come, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            if self._takes_over:
                tasks.create_task(_always(self._take_over, _TAKE_OVER_EVERY_S))
            tasks.create_task(_always(self._move, 0.0))
            tasks.create_task(_always(self._tend, _LOOK_EVERY_S))
            tasks.create_task(_always(self.force, _SYNC_EVERY_S))

    async def close(self, within_s: float) -> bool:
        """Move what is left, and say whether all of it is in the database after `within_s`. The rest stays in files."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while self._taken or self._journal.pending_rows or self._left:
                    pause_s = await self.step()
                    self.tend()
                    await asyncio.sleep(pause_s if self._failures else 0)
        all_in = not (self._taken or self._journal.pending_rows or self._left)
        for left in self._left:
            left.let_go()
        self._left = []
        return all_in

    async def catch_up(self, within_s: float) -> bool:
        """Say whether every row that was in the journal just now is in the database after `within_s`, as it runs."""
        goal = self._journal.ended_rows - self._journal.lost
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while self._journal.moved_rows < goal:
                    self._hurry.set()
                    await self._moved.wait()
        return self._journal.moved_rows >= goal

    @property
    def is_behind(self) -> bool:
        """Whether there are rows that a dead process left, or that the database has refused so far."""
        return bool(self._left or self._failures)

    def state(self) -> LedgerState:
        journal = self._journal
        left = self._left
        known: Literal["well", "behind"] = "behind" if self._failures else "well"
        return LedgerState(
            state=known if journal.state == "well" else journal.state,
            open_calls=journal.open_calls,
            pending_rows=journal.pending_rows + sum(one.pending_rows for one in left),
            journal_bytes=journal.size_bytes + sum(one.size_bytes for one in left),
            oldest_s=max((self._age_s(row) for row, _ in self._taken), default=0.0) if self._failures else 0.0,
            failure=journal.failure or self._failure or journal.unmarked_failure,
            stored_rows=self._stored_rows,
            lost_rows=journal.lost,
            refused_rows=self._refused_rows,
            damaged_lines=self._damaged_lines + journal.damaged + sum(one.damaged for one in left),
            unmarked_calls=journal.unmarked,
        )

    def take_over(self) -> None:
        """Take over what dead processes left: it is moved after this process's own rows. Raises OSError."""
        self._left += self._journal.take_over(self._cut, self._found)

    @property
    def has_left(self) -> bool:
        """Whether something of what was taken over is not in the database yet."""
        return bool(self._left)

    def tend(self) -> None:
        """Remove files whose rows are all in the database, and let the journal try again what failed."""
        self._journal.tend()
        for left in self._left:
            left.sweep()
            if left.is_done:
                self._damaged_lines += left.damaged
        self._left = [left for left in self._left if not left.is_done]

    async def step(self) -> float:
        """Move some rows, and return how long to wait before the next step."""
        await self._top_up()
        batch = list(islice(self._taken, self._size))
        if not batch:
            return _LOOK_EVERY_S
        try:
            async with asyncio.timeout(self._patience.limit_s):
                await self._sink.append([row for row, _ in batch])
        except Exception as error:  # whatever it is, the rows are here still, and are tried again
            return self._failed(batch, error)
        self._stored(batch)
        return 0.0 if len(self._taken) or len(batch) == self._size else _LOOK_EVERY_S

    async def force(self) -> None:
        """Force to the disk what the journal has written: from here on a loss of power does not take it."""
        if descriptors := self._journal.unsynced():
            await asyncio.to_thread(_force, descriptors)

    async def _take_over(self) -> None:
        try:
            self.take_over()
        except OSError as error:
            _log.error("ledger: what other processes left cannot be looked for: %s", error)

    async def _tend(self) -> None:
        self.tend()

    async def _move(self) -> None:
        pause_s = await self.step()
        if self._failures:
            await asyncio.sleep(pause_s)
        else:  # unless somebody waits for it
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._hurry.wait()
            self._hurry.clear()

    async def _top_up(self) -> None:
        """Take rows until there is a batch: this process's own first, because somebody may be looking at them."""
        wanted = max(self._size, 2)  # one that fails alone is judged by the next one
        sources: tuple[Waiting, ...] = (self._journal, *self._left)
        for source in sources:
            while len(self._taken) < wanted and (taken := source.take(wanted - len(self._taken))):
                self._taken += taken
                await asyncio.sleep(0)  # rows that are read back take their time: calls come in between

    def _stored(self, batch: Sequence[Taken]) -> None:
        for source, several in groupby(batch, itemgetter(1)):
            source.settle(*[row for row, _ in several])
        for _ in batch:
            self._taken.popleft()
        self._stored_rows += len(batch)
        self._moved.set()
        self._moved = asyncio.Event()
        self._judge({row.id for row, _ in batch})
        if self._failures:
            _log.warning("ledger: the database takes rows again, %d wait", self.state().pending_rows)
        self._failures, self._failure = 0, ""
        self._size = min(2 * self._size, self._patience.batch_rows)

    def _failed(self, batch: Sequence[Taken], error: Exception) -> float:
        """Note a failure and return how long to wait. The next batch is smaller: it may be a row's fault."""
        failure = f"no answer within {self._patience.limit_s:g} s" if isinstance(error, TimeoutError) else _words(error)
        if failure != self._failure:
            # What the store itself has no word for is a mistake of somebody's: where it was made is worth knowing.
            known = isinstance(error, StoreFailed | TimeoutError)
            _log.error("ledger: %d rows wait for the database: %s", len(batch), failure, exc_info=not known)
        self._failure = failure
        self._failures += 1
        self._size = max(1, len(batch) // 2)
        if len(batch) == 1:
            self._alone = batch[0][0].id
            self._taken.rotate(-1)
        pauses = self._patience.pauses_s
        return pauses[min(self._failures, len(pauses)) - 1]

    def _judge(self, passed: set[str]) -> None:
        """Count it against the row that failed alone that others pass: one that nothing mends must not stop them."""
        for row_id in passed & self._strikes.keys():
            del self._strikes[row_id]
        alone, self._alone = self._alone, ""
        if not alone or alone in passed:
            return
        self._strikes[alone] += 1
        if self._strikes[alone] >= _STRIKES:
            self._refuse(alone)

    def _refuse(self, row_id: str) -> None:
        del self._strikes[row_id]
        for taken in self._taken:
            row, source = taken
            if row.id == row_id:
                _log.error("ledger: the database takes every row but %s: it is set aside in refused.rows", row_id)
                self._journal.set_aside(row)
                self._refused_rows += 1
                self._taken.remove(taken)
                source.settle(row)
                return

    def _age_s(self, row: LedgerRow) -> float:
        return max((self._now() - row.began_at).total_seconds() - (row.total_ms or 0.0) / 1000, 0.0)


async def _always(work: Callable[[], Awaitable[None]], pause_s: float) -> None:
    while True:
        try:
            await work()
        except Exception:  # a mistake of ours must not end the ledger: rows would pile up until the next start
            _log.exception("ledger: it goes on after a mistake")
            await asyncio.sleep(_LOOK_EVERY_S)
        await asyncio.sleep(pause_s)


def _force(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        try:
            os.fsync(descriptor)
        except OSError as error:
            _log.error("journal: rows could not be forced to the disk: %s", error)
        finally:
            os.close(descriptor)


def _words(error: Exception) -> str:
    return "the database cannot be used" if isinstance(error, StoreFailed) else f"{type(error).__name__}: {error}"
