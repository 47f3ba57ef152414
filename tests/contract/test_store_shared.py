"""A database that several services share: whose secret counts, and a server that hangs, stops and comes back."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from hanlin.errors import HanlinError, StartupError, StoreFailed
from hanlin.keys import fingerprint
from hanlin.store.database import Store, open_store
from hanlin.store.rows import LedgerRow, Outcome
from hanlin.types import Usage
from tests.postgres import POSTGRES_PROGRAMS, Postgres, need_postgres

NewDatabase = Callable[[], Path | str]

OURS, THEIRS = fingerprint(bytes(32)), fingerprint(bytes(31) + b"x")
BOUND_S = 20.0
"""The deadline of five seconds, and what a busy machine adds. Without one these tests would not end at all."""


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANLIN_LANG", "en")


@pytest.fixture
async def store(new_database: NewDatabase) -> AsyncIterator[Store]:
    async with await open_store(new_database()) as store:
        yield store


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest) -> Iterator[Postgres]:
    """A server that nobody else uses: it is hung and stopped."""
    need_postgres(request)
    assert POSTGRES_PROGRAMS is not None
    with Postgres(POSTGRES_PROGRAMS) as server:
        yield server


def row(call_id: str) -> LedgerRow:
    return LedgerRow(
        id=call_id,
        began_at=datetime.now(UTC),
        key_id="key-1",
        workspace_id="default",
        surface="chat",
        model="qwen-plus",
        outcome=Outcome.ANSWERED,
        status=200,
        usage=Usage(10, 5),
        cost_nanos=100,
    )


# --- whose secret ----------------------------------------------------------------------------------------------------


async def test_the_first_secret_counts_and_another_one_is_refused(store: Store) -> None:
    """A key that one service makes would be unknown to the other, and nobody would see why."""
    await store.secret.agree(OURS)
    await store.secret.agree(OURS)

    with pytest.raises(StartupError, match=r"hashed with another secret.*copy the file `secret`.*HANLIN_SECRET"):
        await store.secret.agree(THEIRS)

    marks = [one.after for one in await store.audit.page(subject="secret")]
    assert marks == [f'"{OURS}"']


async def test_a_lost_secret_is_followed_by_another_once_no_key_works(store: Store) -> None:
    """The way out that the message names."""
    await store.secret.agree(OURS)
    key = await store.keys.add("laptop", "hash-a", "")
    with pytest.raises(StartupError):
        await store.secret.agree(THEIRS)

    await store.keys.revoke(key.id)
    await store.secret.agree(THEIRS)

    await store.keys.add("server", "hash-b", "")
    with pytest.raises(StartupError):
        await store.secret.agree(OURS)


async def test_of_two_services_that_come_first_one_decides(new_database: NewDatabase) -> None:
    """They are started by the same command, in the same second."""
    where = new_database()
    stores = [await open_store(where) for _ in range(8)]

    results = await asyncio.gather(
        *(store.secret.agree((OURS, THEIRS)[number % 2]) for number, store in enumerate(stores)),
        return_exceptions=True,
    )

    assert len([one for one in results if isinstance(one, StartupError)]) == 4
    assert len([one for one in results if one is None]) == 4
    for store in stores:
        await store.close()


# --- a server that does not answer -----------------------------------------------------------------------------------


async def outcome(act: Awaitable[Any]) -> object:
    """Return what came of something, which may not take longer than the bound."""
    try:
        async with asyncio.timeout(BOUND_S):
            return await act
    except (HanlinError, StartupError) as error:
        return error


async def test_nobody_waits_for_a_server_that_hangs_and_it_is_used_again_when_it_goes_on(server: Postgres) -> None:
    """It keeps its connections, new ones too, and says nothing: no error would ever come."""
    where = server.database()
    store = await open_store(where)
    key = await store.keys.add("laptop", "hash-a", "")
    await asyncio.gather(*(store.keys.find("hash-a") for _ in range(4)))  # connections that lie ready
    server.hang()
    try:
        began = time.monotonic()
        results = await asyncio.gather(
            *(outcome(store.keys.find("hash-a")) for _ in range(20)),
            outcome(store.keys.add("other", "hash-b", "")),
            outcome(store.keys.revoke(key.id)),
            outcome(store.ledger.append([row("call-1")])),
            outcome(store.workspaces.all()),
            outcome(open_store(where)),
        )
        assert time.monotonic() - began < BOUND_S
        assert [type(one) for one in results] == [StoreFailed] * 24 + [StartupError]
        assert "the database cannot be used: no answer in time" in str(results[-1])
        assert store.failures == 24
    finally:
        server.go_on()

    found = await store.keys.find("hash-a")
    assert found is not None
    assert await store.ledger.append([row("call-1")]) in (0, 1)  # the server may have had it when it fell asleep
    assert (await store.ledger.totals())[0].calls == 1
    await store.close()


async def test_a_server_that_hangs_does_not_keep_anybody_from_closing(server: Postgres) -> None:
    """The end of a service must not depend on it."""
    store = await open_store(server.database())
    await asyncio.gather(*(store.keys.find("hash-a") for _ in range(4)))
    server.hang()
    try:
        async with asyncio.timeout(BOUND_S):
            await store.close()
    finally:
        server.go_on()


async def test_a_server_that_was_restarted_is_used_again(server: Postgres) -> None:
    """Connections of before are broken; the first who meets one does not have to."""
    where = server.database()
    store = await open_store(where)
    await store.keys.add("laptop", "hash-a", "")
    server.stop()
    try:
        assert isinstance(await outcome(store.keys.find("hash-a")), StoreFailed)
        refusal = await outcome(open_store(where))
        assert "See that the server runs" in str(refusal)
    finally:
        server.start()

    assert await store.keys.find("hash-a") is not None
    await store.close()


async def test_a_service_that_stops_within_a_transaction_lets_others_go_on(server: Postgres) -> None:
    """Its rows are locked as long as its transaction lasts, and that is what ends it."""
    store = await open_store(server.database())
    async with store._engine.connect() as connection:
        limit = await connection.exec_driver_sql("SHOW idle_in_transaction_session_timeout")
        assert limit.scalar_one() == "30s"
    await store.close()
