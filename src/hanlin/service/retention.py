"""Delete the rows of calls that are older than the operator keeps them, once a day, a few at a time.

Whole days go, so that what is left of a day is all of it. Daily sums stay: what was spent stays known. Services that
share a database may all do this at once; each takes rows that no other one is at.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import msgspec

from hanlin.errors import StoreFailed
from hanlin.store.database import Store
from hanlin.words import say

log = logging.getLogger("hanlin.service")

_DAY_S = 86_400.0
_LOOK_S = 1.0
_AGAIN_S = 600.0
"""After how long a purge that failed is tried again."""


class RetentionState(msgspec.Struct, frozen=True):
    """How retention is: for how many days rows are kept, since the start `purged_rows` and `failures`.

    `done_at` is when the last purge was over (UNIX time), None before the first.
    """

    keep_days: int
    purged_rows: int
    failures: int
    done_at: float | None


def horizon(now: datetime, keep_days: int) -> datetime:
    """Return the midnight (UTC) before which rows go."""
    return now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=keep_days)


class Retention:
    """Owns the daily purge. `keep_days` 0: rows are kept for ever.

    `behind` says whether rows of earlier times are still on their way into the database: one that came after its day
    had gone would be counted twice.
    """

    def __init__(
        self,
        store: Store,
        keep_days: int,
        behind: Callable[[], bool] = lambda: False,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._keep_days = keep_days
        self._behind = behind
        self._now = now
        self._purged_rows = 0
        self._failures = 0
        self._done_at: float | None = None

    async def run(self) -> None:
        """Purge now and every day, until cancelled."""
        if not self._keep_days:
            return
        while True:
            if self._behind():
                await asyncio.sleep(_LOOK_S)
            else:
                await asyncio.sleep(_DAY_S if await self.purge() else _AGAIN_S)

    async def purge(self) -> bool:
        """Delete what is old, and say whether that is done; not while the database fails."""
        before, gone, began = horizon(self._now(), self._keep_days), 0, time.monotonic()
        try:
            async for so_far in self._store.ledger.purge(before):
                self._purged_rows += so_far - gone
                gone = so_far
        except StoreFailed:  # the store has logged why
            self._failures += 1
            return False
        finally:
            if gone:
                took_s = time.monotonic() - began
                log.info(
                    say(
                        f"ledger: {gone} rows from before {before:%Y-%m-%d} deleted in {took_s:.0f} s "
                        f"(ledger_keep_days = {self._keep_days})",
                        f"账目：已删除 {before:%Y-%m-%d} 之前的 {gone} 行，用时 {took_s:.0f} 秒"
                        f"（ledger_keep_days = {self._keep_days}）",
                    )
                )
        self._done_at = time.time()
        return True

    def state(self) -> RetentionState:
        return RetentionState(self._keep_days, self._purged_rows, self._failures, self._done_at)
