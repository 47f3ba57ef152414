"""A running service while Redis or PostgreSQL is stopped, hangs or is slow: what callers get is what was chosen.

Nobody waits for longer than a bound, the page at /metrics shows it, and afterwards nothing is lost or counted twice.
"""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx2
import pytest

from hanlin.store.rows import NANOS, Budget, Filters, Limits
from tests.cluster import PASSWORD, PATIENT_S, Cluster, cluster, metrics, post, until
from tests.contract.test_cli import hanlin
from tests.service import KEY, Service
from tests.slow_way import SlowWay

BOUND_S = 20.0
"""Far beyond every deadline, and far below any wait without one."""


@pytest.fixture(scope="module")
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(request, tmp_path_factory.mktemp("outages")) as shared:
        yield shared


@pytest.fixture
async def way(shared: Cluster) -> AsyncIterator[SlowWay]:
    """The way of the services of this test to Redis."""
    async with SlowWay(shared.redis.port) as way:
        yield way


@pytest.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(timeout=BOUND_S) as client:
        yield client


async def started(shared: Cluster, stack: AsyncExitStack, **settings: str) -> Service:
    """Return a service that ends with the stack; its settings are given as HANLIN_… variables."""
    service = shared.service({f"HANLIN_{name.upper()}": value for name, value in settings.items()})
    stack.push_async_callback(asyncio.to_thread, service.close)
    await asyncio.to_thread(service.start)
    return service


async def is_away(client: httpx2.AsyncClient, service: Service) -> bool:
    return (await metrics(client, service))["hanlin_limits_away_seconds"] > 0


async def is_back(client: httpx2.AsyncClient, service: Service) -> bool:
    page = await metrics(client, service)
    return page["hanlin_limits_away_seconds"] == 0 and page["hanlin_limits_owed"] == 0


# --- Redis -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["stopped", "hung", "slow"])
async def test_callers_get_what_the_policy_says_while_redis_is_away(
    shared: Cluster, client: httpx2.AsyncClient, way: SlowWay, how: str
) -> None:
    """One service refuses limited calls, the other goes on within its half; calls without limits notice nothing."""
    async with AsyncExitStack() as stack:
        closed, opened = await asyncio.gather(
            started(shared, stack, redis=way.url),
            started(shared, stack, redis=way.url, redis_policy="open", redis_services="2"),
        )
        key, key_row = await shared.made(limits=Limits(rpm=20, budget=Budget(1000 * NANOS, "CNY", "total")))
        other, _ = await shared.made(limits=Limits(rpm=20))
        assert (await post(client, closed, key)).status_code == 200
        assert (await post(client, opened, other)).status_code == 200

        async def has_settled() -> bool:
            return await asyncio.to_thread(shared.spent, key_row) > 0

        await until(has_settled, "Redis to know what the first call has cost")
        match how:
            case "stopped":
                shared.redis.kill()
            case "hung":
                shared.redis.signal(signal.SIGSTOP)
            case _:
                way.delay_s = 5.0
        try:
            began = time.monotonic()
            refused = await asyncio.gather(*(post(client, closed, key) for _ in range(20)))
            shares = await asyncio.gather(*(post(client, opened, key) for _ in range(20)))
            free = await asyncio.gather(*(post(client, closed, KEY) for _ in range(20)))
            assert time.monotonic() - began < BOUND_S

            assert [answer.status_code for answer in refused] == [503] * 20
            assert {answer.json()["error"]["code"] for answer in refused} == {"ModelUnavailable"}
            assert {answer.headers["retry-after"] for answer in refused} == {"2"}
            assert sorted(answer.status_code for answer in shares) == [200] * 10 + [429] * 10
            over = next(answer for answer in shares if answer.status_code == 429)
            assert "divided by 2 for now, because Redis" in over.json()["error"]["message"]
            assert [answer.status_code for answer in free] == [200] * 20

            page = await metrics(client, closed)
            assert page["hanlin_limits_away_seconds"] > 0
            assert page["hanlin_limits_outages_total"] == 1
            assert page["hanlin_limits_alone_total"] == 20
            assert (await metrics(client, opened))["hanlin_limits_alone_total"] == 20
        finally:
            way.delay_s = 0.0
            shared.redis.start() if how == "stopped" else shared.redis.signal(signal.SIGCONT)

        for service in (closed, opened):
            await until(lambda service=service: is_back(client, service), "Redis to be back")  # type: ignore[misc]

        async def is_answered() -> bool:
            # What Redis had been told before it hung it does afterwards: attempts that count, until they refill.
            return (await post(client, closed, key)).status_code == 200

        await until(is_answered, "a call within the limit")
        rows = await shared.rows_of(key_row, 12)
        spent = sum(row.cost_nanos for row in rows)

        async def is_told() -> bool:
            told = await asyncio.to_thread(shared.spent, key_row)
            # This Redis keeps nothing when it is killed: the ledger's sum may have what it is told of as well. Nothing
            # is missing from it, although rows of the outage may have been on their way into the ledger.
            return spent <= told <= 2 * spent if how == "stopped" else told == spent

        await until(is_told, "Redis to know what was spent without it")
        assert PASSWORD not in closed.output() + opened.output()


async def test_a_service_starts_without_redis_and_says_what_holds_until_it_is_there(
    shared: Cluster, client: httpx2.AsyncClient
) -> None:
    """A Redis that is started later must not be a reason to start the service again."""
    shared.redis.kill()
    try:
        async with AsyncExitStack() as stack:
            service = await started(shared, stack)
            key, _ = await shared.made(limits=Limits(rpm=20))
            assert "calls that have limits are refused (redis_policy = closed)" in service.output()
            assert (await post(client, service, key)).status_code == 503
            assert (await post(client, service, KEY)).status_code == 200

            shared.redis.start()
            await until(lambda: is_back(client, service), "Redis to be there")
            assert (await post(client, service, key)).status_code == 200
    finally:
        shared.redis.kill()  # it may not have come so far
        shared.redis.start()


async def test_a_redis_that_lost_everything_gives_no_budget_anew(shared: Cluster, client: httpx2.AsyncClient) -> None:
    """What was spent is asked of the ledger. That Redis is away shows although nobody calls."""
    async with AsyncExitStack() as stack:
        service = await started(shared, stack)
        each = (await shared_cost(shared, client, service)) * 2
        key, key_row = await shared.made(limits=Limits(budget=Budget(10 * each, "CNY", "total")))
        answers = [(await post(client, service, key, max_tokens=2)).status_code for _ in range(8)]
        await shared.rows_of(key_row, answers.count(200))

        shared.redis.kill()
        try:
            await until(lambda: is_away(client, service), "Redis to be away")
        finally:
            shared.redis.start()
        await until(lambda: is_back(client, service), "Redis to be back")
        while answers[-1] == 200 and len(answers) < 100:
            answers.append((await post(client, service, key, max_tokens=2)).status_code)

        rows = await shared.rows_of(key_row, answers.count(200))
        assert answers[-1] == 429
        assert 8 < len(rows) < 100
        assert sum(row.cost_nanos for row in rows) <= 10 * each


async def shared_cost(shared: Cluster, client: httpx2.AsyncClient, service: Service) -> int:
    """Return what a small call costs."""
    key, key_row = await shared.made()
    assert (await post(client, service, key, max_tokens=2)).status_code == 200
    (row,) = await shared.rows_of(key_row, 1)
    return row.cost_nanos


# --- PostgreSQL ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["stopped", "hung"])
async def test_calls_go_on_while_the_database_is_away_and_their_rows_wait(
    shared: Cluster, client: httpx2.AsyncClient, tmp_path: Path, how: str
) -> None:
    """Keys that worked go on working; whoever needs the database is told so in time, also at the command line."""
    async with AsyncExitStack() as stack:
        service = await started(shared, stack)
        key, key_row = await shared.made(limits=Limits(rpm=10_000))
        assert (await post(client, service, key)).status_code == 200
        await shared.rows_of(key_row, 1)
        shared.postgres.hang() if how == "hung" else shared.postgres.stop()
        calls = 1
        try:

            async def is_behind() -> bool:
                nonlocal calls
                answers = await asyncio.gather(*(post(client, service, key) for _ in range(10)))
                assert [answer.status_code for answer in answers] == [200] * 10
                calls += 10
                return (await metrics(client, service))["hanlin_ledger_state behind"] == 1

            await until(is_behind, "the ledger to be behind")
            page = await metrics(client, service)
            assert page["hanlin_ledger_pending_rows"] == calls - 1
            assert page["hanlin_database_failures_total"] > 0

            began = time.monotonic()
            unknown, command = await asyncio.gather(
                post(client, service, "sk-unknown"),
                asyncio.to_thread(hanlin, tmp_path, "keys", "list", **shared.environment()),
            )
            assert time.monotonic() - began < BOUND_S
            assert unknown.status_code == 500
            assert "database unavailable" in unknown.json()["error"]["message"]
            assert command.returncode == 1
            assert "the database cannot be used" in command.stderr
            assert PASSWORD not in command.stderr
        finally:
            shared.postgres.go_on() if how == "hung" else shared.postgres.start()

        rows = await shared.rows_of(key_row, calls)

        async def is_well() -> bool:
            page = await metrics(client, service)
            return page["hanlin_ledger_state well"] == 1 and page["hanlin_ledger_pending_rows"] == 0

        await until(is_well, "the ledger to be well")
        (total,) = await shared.in_store(lambda store: store.ledger.totals(filters=Filters(key_id=key_row.id)))
        assert (total.calls, total.cost_nanos) == (calls, sum(row.cost_nanos for row in rows))
        assert PASSWORD not in service.output()


async def test_a_service_ends_while_the_database_hangs_and_its_rows_are_there_after_the_next_start(
    shared: Cluster, client: httpx2.AsyncClient
) -> None:
    """They wait in the journal of its home."""
    async with AsyncExitStack() as stack:
        service = await started(shared, stack)
        key, key_row = await shared.made()
        assert (await post(client, service, key)).status_code == 200
        await shared.rows_of(key_row, 1)
        shared.postgres.hang()
        try:
            answers = [await post(client, service, key) for _ in range(5)]
            assert [answer.status_code for answer in answers] == [200] * 5
            assert await asyncio.to_thread(service.stop, within_s=PATIENT_S) == 0

            began = time.monotonic()
            service.launch()
            assert service.process is not None
            assert await asyncio.to_thread(service.process.wait, PATIENT_S) == 1
            assert time.monotonic() - began < 2 * BOUND_S
            assert "the database cannot be used: no answer in time" in service.output()
        finally:
            shared.postgres.go_on()

        await asyncio.to_thread(service.start)
        await shared.rows_of(key_row, 6)
