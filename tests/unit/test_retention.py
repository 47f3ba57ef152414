"""Which rows go because of their age, when, and what is known of it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from hanlin.errors import StoreFailed
from hanlin.service import retention as retention_module
from hanlin.service.retention import Retention, RetentionState, horizon

NOW = datetime(2026, 11, 27, 3, 30, tzinfo=UTC)


class Shelf:
    """A database whose ledger has old rows, three batches of them, and may fail after the first."""

    def __init__(self) -> None:
        self.fails = False
        self.asked: list[datetime] = []

    @property
    def ledger(self) -> "Shelf":
        return self

    async def purge(self, before: datetime) -> AsyncIterator[int]:
        self.asked.append(before)
        yield 250
        if self.fails:
            raise StoreFailed
        yield 500
        yield 600


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.001)


def kept(shelf: Any, keep_days: int, **more: Any) -> Retention:
    return Retention(shelf, keep_days, now=lambda: NOW, **more)


@pytest.mark.parametrize(
    ("now", "days", "midnight"),
    [
        (NOW, 1, datetime(2026, 11, 26, tzinfo=UTC)),
        (NOW, 30, datetime(2026, 10, 28, tzinfo=UTC)),
        (datetime(2026, 11, 27, 3, tzinfo=timezone(timedelta(hours=8))), 1, datetime(2026, 11, 25, tzinfo=UTC)),
    ],
)
def test_whole_days_go_as_bills_have_them(now: datetime, days: int, midnight: datetime) -> None:
    """Half a day would leave a page that does not add up to its day."""
    assert horizon(now, days) == midnight


async def test_a_purge_deletes_what_is_older_and_is_noted(shelf: Shelf, caplog: pytest.LogCaptureFixture) -> None:
    """One line in the log, and numbers for the page."""
    caplog.set_level("INFO")
    retention = kept(shelf, 30)
    assert retention.state() == RetentionState(30, 0, 0, None)

    assert await retention.purge()

    assert shelf.asked == [datetime(2026, 10, 28, tzinfo=UTC)]
    assert retention.state().purged_rows == 600
    assert retention.state().done_at is not None
    assert [line for line in caplog.messages if "600" in line and "2026-10-28" in line]


async def test_a_purge_that_breaks_is_tried_again_sooner_than_tomorrow(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it had deleted counts."""
    monkeypatch.setattr(retention_module, "_AGAIN_S", 0.001)
    shelf.fails = True
    retention = kept(shelf, 30)

    task = asyncio.create_task(retention.run())
    await until(lambda: len(shelf.asked) >= 2)
    shelf.fails = False
    await until(lambda: retention.state().done_at is not None)
    asked = len(shelf.asked)
    await asyncio.sleep(0.01)
    task.cancel()

    assert len(shelf.asked) == asked, "the next one is tomorrow's"
    assert retention.state().failures == asked - 1
    assert retention.state().purged_rows == 250 * (asked - 1) + 600


async def test_nothing_goes_while_earlier_rows_are_on_their_way(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that came after its day had gone would be added to the sums a second time."""
    monkeypatch.setattr(retention_module, "_LOOK_S", 0.001)
    behind = True
    retention = kept(shelf, 30, behind=lambda: behind)

    task = asyncio.create_task(retention.run())
    await asyncio.sleep(0.01)
    assert shelf.asked == []
    behind = False
    await until(lambda: retention.state().done_at is not None)
    task.cancel()


async def test_rows_are_kept_for_ever_unless_days_are_given(shelf: Shelf) -> None:
    """Nobody's bill disappears by default."""
    await kept(shelf, 0).run()

    assert shelf.asked == []
