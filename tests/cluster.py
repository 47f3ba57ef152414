"""Several services, each a process with a home of its own, on one PostgreSQL, one Redis and one fake engine."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from hanlin.keys import fingerprint, hash_key, new_key
from hanlin.store.database import Store, open_store
from hanlin.store.rows import Filters, KeyRow, LedgerRow
from hanlin.testing import FakeEngine, Rule
from tests.metering import RedisServer, need_redis
from tests.postgres import POSTGRES_PROGRAMS, Postgres, need_postgres
from tests.service import Service, toml_of

SECRET = bytes(range(32))
PASSWORD = "geheim"
PATIENT_S = 60.0

SLOW = Rule(contains="slowly", text="慢" * 400, chunk_delay_s=0.05)
RULES = (SLOW, Rule(contains="long", text="长" * 400, chunk_tokens=100), Rule(text="你好"))

BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"model": "qwen-plus", "messages": [{"role": "user", "content": "你好"}]},
    "/v1/completions": {"model": "qwen-coder-turbo", "prompt": "你好"},
    "/v1/embeddings": {"model": "text-embedding-v4", "input": "你好", "dimensions": 1024},
}
"""A call of each route that generates."""

Result = TypeVar("Result")


class Cluster:
    """What the services share; each test may make a database of its own."""

    def __init__(self, folder: Path, postgres: Postgres, redis: RedisServer, engine: FakeEngine) -> None:
        self.folder = folder
        self.postgres = postgres
        self.redis = redis
        self.engine = engine
        # The password is not asked for here, and must not be seen anywhere.
        self.database = postgres.database().replace("hanlin@", f"hanlin:{PASSWORD}@")
        self._services = 0

    def environment(self, **more: str) -> dict[str, str]:
        """Return what makes a service, or a command, one of these."""
        shared = {"HANLIN_DATABASE": self.database, "HANLIN_REDIS": self.redis.url, "HANLIN_SECRET": SECRET.hex()}
        return {**shared, **more}

    def service(self, environment: dict[str, str] | None = None, **settings: Any) -> Service:
        """Return a service that is not started yet."""
        self._services += 1
        fake = {"name": "fake", "url": self.engine.base_url, "profile": "vllm", "slots": 2000}
        config = toml_of(
            {**fake, "serves": ["qwen-*", "text-embedding-*"]},
            **{"retry_share": 0, "probe_s": 3600, "queue_limit": 5000, **settings},
        )
        home = self.folder / f"home-{self._services}"
        return Service(home, environment=self.environment(**(environment or {})), config=config)

    async def in_store(self, act: Callable[[Store], Awaitable[Result]]) -> Result:
        async with await open_store(self.database) as store:
            return await act(store)

    async def made(self, **more: Any) -> tuple[str, KeyRow]:
        """Make a key as `hanlin keys create` does."""
        key = new_key()
        return key, await self.in_store(lambda store: store.keys.add("test", hash_key(SECRET, key), key[-4:], **more))

    async def rows_of(self, key: KeyRow, count: int) -> list[LedgerRow]:
        """Wait for so many rows of a key, and see that there are no more."""
        deadline = time.monotonic() + PATIENT_S
        while len(rows := await self.in_store(lambda store: rows_in(store, key))) < count:
            assert time.monotonic() < deadline, f"{len(rows)} rows of {count}"
            await asyncio.sleep(0.2)
        assert len(rows) == count
        return rows

    def spent(self, key: KeyRow, period: str = "total") -> int:
        """Return what Redis says that a key has spent, in nanos."""
        import redis  # an extra

        name = f"{{hanlin:{fingerprint(SECRET)[:8]}}}:limits:key:{key.id}"
        with redis.Redis.from_url(self.redis.url) as client:
            return int(client.hget(name, f"s CNY {period}") or 0)


@contextmanager
def cluster(request: pytest.FixtureRequest, folder: Path) -> Iterator[Cluster]:
    """Start what services share; skip, loudly, where something is missing."""
    need_redis(request)
    need_postgres(request)
    assert POSTGRES_PROGRAMS is not None
    with Postgres(POSTGRES_PROGRAMS) as postgres, RedisServer() as redis, FakeEngine(RULES) as engine:
        yield Cluster(folder, postgres, redis, engine)


async def rows_in(store: Store, key: KeyRow) -> list[LedgerRow]:
    rows: list[LedgerRow] = []
    page = await store.ledger.page(Filters(key_id=key.id), limit=1000)
    rows += page.rows
    while page.next is not None:
        page = await store.ledger.page(Filters(key_id=key.id), page.next, limit=1000)
        rows += page.rows
    return rows


async def post(
    client: httpx2.AsyncClient, service: Service, key: str, path: str = "/v1/chat/completions", **more: Any
) -> httpx2.Response:
    """Call a route that generates."""
    headers = {"authorization": f"Bearer {key}"}
    return await client.post(service.url + path, json={**BODIES[path], **more}, headers=headers)


def asking(content: str) -> dict[str, Any]:
    """Return what a chat call's body says instead."""
    return {"messages": [{"role": "user", "content": content}]}


async def metrics(client: httpx2.AsyncClient, service: Service) -> dict[str, float]:
    """Return the samples of /metrics that stand alone or are the state that holds, by name."""
    page = (await client.get(f"{service.url}/metrics")).text
    samples = [sample for family in text_string_to_metric_families(page) for sample in family.samples]
    found = {sample.name: float(sample.value) for sample in samples if not sample.labels}
    return found | {
        f"{sample.name} {sample.labels[sample.name]}": float(sample.value)
        for sample in samples
        if sample.name in sample.labels
    }


async def until(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    deadline = time.monotonic() + PATIENT_S
    while not await condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        await asyncio.sleep(0.1)
