"""What the store promises of files on every database: whose they are, how many there may be, who reads them next."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import make_url

from hanlin.errors import FileQuotaExceeded
from hanlin.store.database import Store, open_store
from hanlin.store.engine import connect_file, connect_server
from hanlin.store.files import Files
from hanlin.store.rows import FileFilters, FileRow, Quota

NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)
MANY = Quota(1000, 1_000_000)
LEASE = timedelta(seconds=30)
READ: dict[str, Any] = {"status": "processed", "pages": 3, "characters": 300, "tokens": 100}


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now

    def passes(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(ready_database: Path | str) -> AsyncIterator[Store]:
    async with await open_store(ready_database) as store:
        yield store


@pytest.fixture
async def files(store: Store, ready_database: Path | str, clock: Clock) -> AsyncIterator[Files]:
    """The files of a database, at a time that the test decides."""
    engine = (
        connect_file(ready_database) if isinstance(ready_database, Path) else connect_server(make_url(ready_database))
    )
    yield Files(engine, clock)
    await engine.dispose()


def a_file(number: int = 1, **fields: Any) -> FileRow:
    usual: dict[str, Any] = {
        "id": f"file-fe-{number:024x}",
        "workspace_id": "default",
        "key_id": "key-1",
        "purpose": "file-extract",
        "filename": f"{number}.txt",
        "size_bytes": 10,
        "digest": f"{number:064x}",
        "created_at": NOON + timedelta(seconds=number),
    }
    return FileRow(**{**usual, **fields})


def to_read(number: int = 1, **fields: Any) -> FileRow:
    return a_file(number, status="processing", **fields)


async def test_a_file_is_found_in_its_workspace_only(store: Store) -> None:
    """Another workspace must not even learn that it exists."""
    row = a_file(reason="blank", details="why", pages=7, deleted_at=None, claimed_until=NOON)

    await store.files.add(row, MANY)

    assert await store.files.find("default", row.id) == row
    assert await store.files.find("ws-other", row.id) is None
    assert await store.files.find("default", "file-fe-nope") is None


async def test_a_workspace_has_no_more_files_and_no_more_bytes_than_it_may_have(store: Store) -> None:
    """A quota that is checked against what is stored, and not beside it, cannot be passed by two uploads at once."""
    await store.files.add(a_file(1), Quota(2, 25))
    await store.files.add(a_file(2), Quota(2, 25))

    with pytest.raises(FileQuotaExceeded, match=r"^Upload file number exceed limit\."):
        await store.files.add(a_file(3), Quota(2, 1000))
    with pytest.raises(FileQuotaExceeded, match=r"^Upload file capacity exceed limit\."):
        await store.files.add(a_file(3), Quota(9, 29))
    assert await store.files.used("default") == Quota(2, 20)
    await store.files.delete("default", a_file(1).id)
    await store.files.add(a_file(3), Quota(2, 25))
    assert await store.files.used("default") == Quota(2, 20)


async def test_files_are_listed_newest_first_page_by_page(store: Store) -> None:
    """Also those of one moment, and past a file that was deleted meanwhile."""
    moments = [1, 2, 2, 2, 3]
    rows = [a_file(n, created_at=NOON + timedelta(seconds=at)) for n, at in enumerate(moments)]
    for row in rows:
        await store.files.add(row, MANY)
    await store.workspaces.add("other")

    first = await store.files.page("default", limit=2)
    assert first is not None
    await store.files.delete("default", first[0][-1].id)
    second = await store.files.page("default", after=first[0][-1].id, limit=2)
    assert second is not None
    third = await store.files.page("default", after=second[0][-1].id, limit=2)

    assert (first, second, third) == (
        ((rows[4], rows[3]), True),
        ((rows[2], rows[1]), True),
        ((rows[0],), False),
    )
    assert await store.files.page("default", after="file-fe-nope") is None
    assert await store.files.page("ws-other", after=rows[0].id) is None
    assert await store.files.page("ws-other") == ((), False)


async def test_files_are_listed_by_the_number_of_their_page(store: Store) -> None:
    """In the same order, with the total of those that are there; deleted ones and those of others count nowhere."""
    rows = [a_file(n, created_at=NOON + timedelta(seconds=at)) for n, at in enumerate([1, 2, 2, 3])]
    for row in rows:
        await store.files.add(row, MANY)
    other = await store.workspaces.add("other")
    await store.files.add(a_file(9, workspace_id=other.id), MANY)
    await store.files.delete("default", rows[1].id)

    assert await store.files.numbered("default", 0, 2) == ((rows[3], rows[2]), 3)
    assert await store.files.numbered("default", 2, 2) == ((rows[0],), 3)
    assert await store.files.numbered("default", 99_999_999_00, 100) == ((), 3)
    assert await store.files.numbered("ws-none", 0, 100) == ((), 0)


async def test_a_list_can_be_of_a_purpose_and_of_a_time(store: Store) -> None:
    """The beginning belongs to a time, its end does not."""
    for row in (a_file(1), a_file(2, purpose="batch"), a_file(3)):
        await store.files.add(row, MANY)

    async def listed(**filters: Any) -> list[str]:
        page = await store.files.page("default", FileFilters(**filters))
        assert page is not None
        return [row.filename for row in page[0]]

    assert await listed(purpose="batch") == ["2.txt"]
    assert await listed(since=NOON + timedelta(seconds=2)) == ["3.txt", "2.txt"]
    assert await listed(until=NOON + timedelta(seconds=2)) == ["1.txt"]


async def test_a_deleted_file_is_remembered_for_a_while(files: Files, clock: Clock) -> None:
    """A call that names it is told that it is gone, not that it never was; its name is forgotten at once."""
    row = a_file(description="about whom", md5="Td5oBnUd0kfuUGMd0zd5Ig==")
    await files.add(row, MANY)

    deleted = await files.delete("default", a_file().id)
    again = await files.delete("default", a_file().id)
    (remembered,) = await files.some([a_file().id, "file-fe-nope"])

    assert (deleted, again) == (row, None)
    assert (remembered.deleted_at, remembered.filename, remembered.description, remembered.md5) == (NOON, "", "", "")
    assert await files.find("default", a_file().id) is None
    assert await files.page("default") == ((), False)
    assert await files.forget(NOON) == 0
    assert await files.forget(NOON + timedelta(seconds=1)) == 1
    assert await files.some([a_file().id]) == ()


async def test_nobody_deletes_the_files_of_another_workspace(store: Store) -> None:
    """Ids are no secrets."""
    await store.files.add(a_file(), MANY)

    assert await store.files.delete("ws-other", a_file().id) is None
    assert await store.files.find("default", a_file().id) == a_file()


async def test_bytes_live_as_long_as_one_file_has_them(store: Store) -> None:
    """Two callers upload the same report; one deletes it."""
    digest = "a" * 64
    await store.files.add(a_file(1, digest=digest), MANY)
    await store.files.add(a_file(2, digest=digest), MANY)

    await store.files.delete("default", a_file(1).id)
    assert await store.files.living([digest, "b" * 64]) == {digest}
    await store.files.delete("default", a_file(2).id)
    assert await store.files.living([digest]) == set()


async def test_a_file_is_claimed_by_one_process(files: Files) -> None:
    """The oldest first; two that read one document waste one of two cores."""
    for row in (to_read(1), to_read(2), a_file(3)):
        await files.add(row, MANY)

    first = await files.claim("process-1", LEASE)
    second = await files.claim("process-2", LEASE)

    assert first is not None
    assert second is not None
    assert [(row.id, row.claimed_by, row.attempts) for row in (first, second)] == [
        (to_read(1).id, "process-1", 1),
        (to_read(2).id, "process-2", 1),
    ]
    assert await files.claim("process-3", LEASE) is None
    assert await files.claimants() == {"process-1", "process-2"}


async def test_what_a_dead_process_read_is_read_by_another_one(files: Files, clock: Clock) -> None:
    """At once when it is known to be dead; else when its lease is over, unless it goes on claiming."""
    await files.add(to_read(), MANY)
    first = await files.claim("dead", LEASE)
    assert first is not None

    second = await files.claim("process-2", LEASE, gone=["dead"])
    assert second is not None
    assert not await files.renew(first, LEASE, 1, 2)
    clock.passes(20)
    assert await files.renew(second, LEASE, 5, 9)
    clock.passes(20)
    assert await files.claim("process-3", LEASE) is None
    clock.passes(20)
    third = await files.claim("process-3", LEASE)

    assert third is not None
    assert (third.attempts, third.pages_done, third.pages_total) == (3, 5, 9)
    assert not await files.end(replace(second, **READ))
    assert await files.end(replace(third, kind="pdf", **READ))
    found = await files.find("default", third.id)
    assert found is not None
    assert (found.status, found.kind, found.pages, found.tokens, found.claimed_by) == ("processed", "pdf", 3, 100, "")
    assert await files.claim("process-3", LEASE) is None


async def test_files_of_the_same_bytes_are_not_read_at_the_same_time(files: Files) -> None:
    """Once the first is read, so is the other."""
    for number in (1, 2):
        await files.add(to_read(number, digest="a" * 64), MANY)

    first = await files.claim("process-1", LEASE)
    assert first is not None
    assert await files.claim("process-2", LEASE) is None
    await files.end(replace(first, **READ))
    second = await files.claim("process-2", LEASE)

    assert second is not None
    assert second.id == to_read(2).id


async def test_a_workspace_with_many_files_does_not_keep_others_waiting(files: Files, store: Store) -> None:
    """Whoever was served last is served last."""
    other = (await store.workspaces.add("other")).id
    rows = [to_read(1), to_read(2), to_read(3), to_read(4, workspace_id=other)]
    for row in rows:
        await files.add(row, MANY)

    order: list[str] = []
    served: list[str] = []
    while (row_or_none := await files.claim("process-1", LEASE, served=served)) is not None:
        order.append(row_or_none.filename)
        served = [name for name in served if name != row_or_none.workspace_id] + [row_or_none.workspace_id]

    assert order == ["1.txt", "4.txt", "2.txt", "3.txt"]


async def test_a_file_that_is_given_back_waits_before_it_is_claimed_again(files: Files, clock: Clock) -> None:
    """A disk that is full now may have room in a minute."""
    await files.add(to_read(), MANY)
    claimed = await files.claim("process-1", LEASE)
    assert claimed is not None

    await files.release(claimed, timedelta(seconds=60))

    assert await files.claim("process-1", LEASE) is None
    clock.passes(61)
    assert await files.claim("process-1", LEASE) is not None


async def test_a_file_that_is_deleted_while_it_is_read_stays_deleted(files: Files) -> None:
    """Whoever reads it learns so, and stops."""
    await files.add(to_read(), MANY)
    claimed = await files.claim("process-1", LEASE)
    assert claimed is not None

    await files.delete("default", claimed.id)

    assert not await files.renew(claimed, LEASE, 1, 2)
    assert not await files.end(replace(claimed, **READ))
    assert await files.claim("process-2", LEASE) is None
    assert await files.find("default", claimed.id) is None
