"""Services that share PostgreSQL and Redis are one: keys, limits, budgets and bills hold over all of them."""

import asyncio
import json
import os
import random
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from hanlin.home import Home
from hanlin.http.app import PREFIXES, ROUTES
from hanlin.store.database import Store
from hanlin.store.rows import NANOS, Budget, Filters, LedgerRow, Limits, Outcome
from hanlin.types import Usage
from tests.cluster import BODIES, PASSWORD, PATIENT_S, Cluster, asking, cluster, metrics, post, until
from tests.contract.test_cli import hanlin
from tests.service import KEY, Service

DRILL = os.environ.get("TEST_DRILLS") == "all"
SERVICES, CALLERS, YUAN = (4, 1000, 1.0) if DRILL else (2, 120, 0.1)


@pytest.fixture(scope="module")
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(request, tmp_path_factory.mktemp("shared")) as shared:
        yield shared


@pytest.fixture(scope="module")
def services(shared: Cluster) -> Iterator[list[Service]]:
    """Services that are started at the same moment, on a database without a table."""
    services = [shared.service() for _ in range(SERVICES)]
    for service in services:
        service.launch()
    try:
        for service in services:
            service.wait_ready()
        yield services
    finally:
        outputs = [service.output() for service in services]
        for service in services:
            service.close()
    assert not [output for output in outputs if PASSWORD in output]


@pytest.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    unlimited = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx2.AsyncClient(timeout=PATIENT_S, limits=unlimited) as client:
        yield client


async def test_services_that_start_at_once_make_one_database_and_one_first_key(
    shared: Cluster, services: list[Service], client: httpx2.AsyncClient
) -> None:
    """One of them makes the tables; the key of the environment is taken once and works at all."""
    keys = await shared.in_store(lambda store: store.keys.all())
    assert [row.name for row in keys] == ["first"]

    assert [(await post(client, service, KEY)).status_code for service in services] == [200] * SERVICES
    pages = [await metrics(client, service) for service in services]
    assert [page["hanlin_limits_away_seconds"] for page in pages] == [0] * SERVICES


async def test_a_key_that_the_command_makes_works_everywhere_and_its_end_counts_everywhere(
    shared: Cluster, services: list[Service], client: httpx2.AsyncClient, tmp_path: Path
) -> None:
    """The command needs what a service needs, from the environment or a file: where the database is, and the secret."""
    environment = shared.environment()
    made = hanlin(tmp_path, "keys", "create", "--name", "everywhere", "--json", **environment)
    assert made.returncode == 0, made.stderr
    key, key_id = (json.loads(made.stdout)[name] for name in ("key", "id"))
    assert [(await post(client, service, key)).status_code for service in services] == [200] * SERVICES

    toml = tmp_path / "elsewhere.toml"
    toml.write_text(f'database = "{shared.database}"\nsecret = "{environment["HANLIN_SECRET"]}"\n')
    assert hanlin(tmp_path, "keys", "revoke", key_id, HANLIN_CONFIG=str(toml)).returncode == 0

    async def refused() -> bool:
        return all([(await post(client, service, key)).status_code == 401 for service in services])

    await until(refused, "the key to be refused everywhere")
    assert not (Home(tmp_path).database).exists()


async def test_a_service_with_another_secret_is_refused_and_told_what_to_do(
    shared: Cluster, services: list[Service], tmp_path: Path
) -> None:
    """Or half of all calls would be refused, those that a balancer sends there."""
    stranger = shared.service({"HANLIN_SECRET": ""})
    stranger.launch()
    try:
        assert stranger.process is not None
        assert await asyncio.to_thread(stranger.process.wait, PATIENT_S) == 1
        assert "hashed with another secret" in stranger.output()
        assert PASSWORD not in stranger.output()
    finally:
        stranger.close()

    made = hanlin(tmp_path, "keys", "create", **shared.environment(HANLIN_SECRET=""))
    assert made.returncode == 1
    assert "hashed with another secret" in made.stderr


async def test_a_limit_holds_over_all_services(
    shared: Cluster, services: list[Service], client: httpx2.AsyncClient
) -> None:
    """It does not grow with their number."""
    key, _ = await shared.made(limits=Limits(rpm=10))

    answers = await asyncio.gather(*(post(client, services[number % SERVICES], key) for number in range(30)))

    assert sorted(answer.status_code for answer in answers) == [200] * 10 + [429] * 20


def test_there_is_a_body_for_every_route_that_generates() -> None:
    """The drill below calls all of them; a new one must not be left out."""
    prefix = PREFIXES[-1]
    posted = {path for path, methods in ROUTES.items() if "POST" in methods and path.startswith(prefix)}
    generating = posted - {f"{prefix}/files"}

    assert set(BODIES) == generating


def called(path: str, number: int) -> dict[str, Any]:
    """Return a call's body: an answer of hundreds of tokens, or a prompt of them."""
    text = f"long {number} " + "吃葡萄不吐葡萄皮" * (number % 20)
    if path == "/v1/embeddings":
        return {"input": text * 10}
    return {"max_tokens": 500, **(asking(text) if "chat" in path else {"prompt": text})}


async def insistent(client: httpx2.AsyncClient, service: Service, key: str, path: str, number: int) -> httpx2.Response:
    """Call as SDKs do: a 503, when Redis was too slow for its deadline on a busy machine, is tried again."""
    while (answer := await post(client, service, key, path, **called(path, number))).status_code == 503:  # noqa: ASYNC110
        await asyncio.sleep(1 + random.random())
    return answer


async def test_many_callers_pass_a_limit_of_tokens_by_one_reservation_at_most(
    shared: Cluster, services: list[Service], client: httpx2.AsyncClient
) -> None:
    """Whichever route they take, and whichever service answers."""
    tpm = 80 * CALLERS
    key, key_row = await shared.made(limits=Limits(tpm=tpm))
    began = time.monotonic()

    paths = [sorted(BODIES)[number % len(BODIES)] for number in range(CALLERS)]
    answers = await asyncio.gather(
        *(insistent(client, services[number % SERVICES], key, path, number) for number, path in enumerate(paths))
    )

    elapsed_s = time.monotonic() - began
    answered = sum(answer.status_code == 200 for answer in answers)
    assert {answer.status_code for answer in answers} == {200, 429}
    rows = await shared.rows_of(key_row, answered)
    tokens = [row.usage.total for row in rows]
    assert sum(tokens) <= tpm * (1 + elapsed_s / 60) + max(tokens)
    assert {row.surface for row in rows} == {"chat", "text_completion", "embeddings"}


async def test_a_budget_is_overspent_by_one_reservation_at_most_and_used_to_its_end(
    shared: Cluster, services: list[Service], client: httpx2.AsyncClient
) -> None:
    """Many callers at once, over all services and routes: what was spent is what Redis and the ledger say.

    Beyond it leads only a prompt with more tokens than were estimated.
    """
    budget = round(YUAN * NANOS)
    key, key_row = await shared.made(limits=Limits(budget=Budget(budget, "CNY", "total")))

    async def caller(number: int) -> list[int]:
        statuses: list[int] = []
        while 429 not in statuses and len(statuses) < 10:
            path = sorted(BODIES)[(number + len(statuses)) % len(BODIES)]
            answer = await insistent(client, services[number % SERVICES], key, path, number)
            assert answer.status_code == 200 or answer.json()["error"]["code"] == "insufficient_quota"
            statuses.append(answer.status_code)
        return statuses

    statuses = [status for one in await asyncio.gather(*map(caller, range(CALLERS))) for status in one]
    while statuses[-1] == 200:  # what was held at the time of the refusals has come back
        statuses.append((await insistent(client, services[0], key, "/v1/completions", 1)).status_code)

    rows = await shared.rows_of(key_row, statuses.count(200))
    spent = sum(row.cost_nanos for row in rows)
    most = max(row.cost_nanos for row in rows)
    assert budget - 10 * most < spent <= budget + most
    assert 429 in statuses

    async def all_settled() -> bool:
        return await asyncio.to_thread(shared.spent, key_row) == spent

    await until(all_settled, "Redis to know what was spent")
    (total,) = await shared.in_store(lambda store: store.ledger.totals(filters=Filters(key_id=key_row.id)))
    assert (total.calls, total.cost_nanos) == (len(rows), spent)


async def test_the_money_of_a_call_that_its_service_dies_under_counts_in_the_budget(
    shared: Cluster, services: list[Service], client: httpx2.AsyncClient
) -> None:
    """Nobody settles it; the next start finds it in the journal, and tells Redis what it cost."""
    key, key_row = await shared.made(limits=Limits(budget=Budget(NANOS, "CNY", "total")))
    answered = await post(client, services[0], key)
    assert answered.status_code == 200
    service = shared.service()
    await asyncio.to_thread(service.start)
    try:
        headers = {"authorization": f"Bearer {key}"}
        body = {**BODIES["/v1/chat/completions"], **asking("slowly"), "stream": True}
        async with client.stream("POST", f"{service.url}/v1/chat/completions", json=body, headers=headers) as stream:
            lines = stream.aiter_lines()
            for _ in range(12):
                await anext(lines)
            assert service.process is not None
            service.process.kill()
            service.process.wait()
        await asyncio.to_thread(service.start)

        rows = await shared.rows_of(key_row, 2)
        assert sorted(row.outcome for row in rows) == [Outcome.ANSWERED, Outcome.INTERRUPTED]
        assert all(row.cost_nanos > 0 for row in rows)

        async def is_counted() -> bool:
            return await asyncio.to_thread(shared.spent, key_row) == sum(row.cost_nanos for row in rows)

        await until(is_counted, "Redis to know what the call cost")
    finally:
        await asyncio.to_thread(service.close)


async def test_old_rows_go_when_a_service_starts_and_their_sums_stay(
    shared: Cluster, services: list[Service], client: httpx2.AsyncClient
) -> None:
    """While other services write."""
    key, key_row = await shared.made()
    now = datetime.now(UTC)

    def row(number: int) -> LedgerRow:
        return LedgerRow(
            id=f"old-{number}",
            began_at=now - timedelta(days=number % 60),
            key_id=key_row.id,
            workspace_id="default",
            surface="chat",
            model="qwen-plus",
            outcome=Outcome.ANSWERED,
            status=200,
            usage=Usage(10, 5),
            cost_nanos=100,
        )

    async def add(store: Store) -> None:
        await store.ledger.append([row(number) for number in range(600)])

    await shared.in_store(add)
    service = shared.service(ledger_keep_days=30)
    await asyncio.to_thread(service.start)
    try:

        async def is_done() -> bool:
            assert (await post(client, services[0], key)).status_code == 200
            return (await metrics(client, service))["hanlin_ledger_purged_timestamp_seconds"] > 0

        await until(is_done, "the purge to be over")
        found = await metrics(client, service)
        assert found["hanlin_ledger_purged_rows_total"] == 10 * 29
        assert found["hanlin_ledger_keep_days"] == 30
        assert "ledger: 290 rows from before" in service.output()
    finally:
        await asyncio.to_thread(service.close)

    async def left(store: Store) -> tuple[int, int]:
        old = await store.ledger.totals(
            filters=Filters(key_id=key_row.id, until=now.replace(hour=0, minute=0, second=0, microsecond=0))
        )
        page = await store.ledger.page(Filters(key_id=key_row.id, until=now - timedelta(days=31)))
        return sum(total.calls for total in old), len(page.rows)

    assert await shared.in_store(left) == (590, 0)
