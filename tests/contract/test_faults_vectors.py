"""What can go wrong behind calls for vectors, as the table of faults has it for chat: alone, and beside a replica."""

import asyncio
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from hanlin.catalogue import load
from hanlin.catalogue.models import Catalogue
from hanlin.engines.embedding import ServerEmbedder
from hanlin.engines.wire import Deadlines
from hanlin.errors import HanlinError
from hanlin.routing.capacity import Capacity
from hanlin.service.attempts import Call, Router
from hanlin.service.embedding import embed
from hanlin.service.embedding_planning import EmbeddingDeployment, asked
from hanlin.testing import FakeEngine, Rule, free_port
from hanlin.testing.embeddings import vector
from hanlin.types import EmbeddingRequest
from tests.contract.test_faults import FAILED, LIMIT_S, SILENT, TABLE, Row

TEXT = "春眠不觉晓"
DIMENSIONS = 1024
ROWS: dict[str, Row] = {
    **{case: row for case, row in TABLE.items() if row.at in ("refused", "unknown", "tls", "half-open")},
    **{case: row for case, row in TABLE.items() if set(row.rule) & {"status"}},
    "reset before the headers": Row("failed", FAILED, {"cut_after_chunks": -1, "reset": True}, tries=2),
    "not HTTP": Row("failed", FAILED, {"garbage_after_chunks": -1}, tries=2),
    "slow first byte": Row("stalled", SILENT, {"first_delay_s": 60.0}),
    "cut in the body": Row("failed", FAILED, {"cut_after_chunks": 0}, tries=2),
    "silent in the body": Row("stalled", SILENT, {"stall_after_chunks": 0}),
    "malformed": Row("failed", FAILED, {"garbage_after_chunks": 0}, tries=2),
    "frozen": Row("stalled", SILENT, at="frozen"),
}


@dataclass(frozen=True)
class Outcome:
    """What came of a call: status and code, the vectors, who was tried, and how long to wait."""

    status: int
    code: str | None
    vectors: Sequence[Sequence[float]]
    attempts: str
    retry_after_s: int | None = None


def deployment(name: str, url: str, model: str) -> EmbeddingDeployment:
    engine = ServerEmbedder(url, model=model, deadlines=Deadlines(LIMIT_S, LIMIT_S, LIMIT_S, 60.0))
    return EmbeddingDeployment(
        name=name,
        title=name,
        fingerprint=name,
        engine=engine,
        capacity=Capacity(4, 4),
        embedded=False,
        serves=("text-embedding-*",),
        there=engine.there,
    )


async def outcome(catalogue: Catalogue, router: Router, deployments: Sequence[EmbeddingDeployment]) -> Outcome:
    request = EmbeddingRequest("text-embedding-v4", (TEXT,), dimensions=DIMENSIONS)
    call = Call(asked(request, catalogue, deployments), router)
    try:
        result = await embed(call, 60.0)
    except HanlinError as problem:
        return Outcome(problem.status, problem.code, (), call.tried(), problem.retry_after_s)
    finally:
        for one in deployments:
            await one.engine.close()
    return Outcome(200, None, result.vectors, call.tried())


@pytest.fixture(scope="module")
def outcomes() -> Iterator[dict[str, Outcome]]:
    """Make all the calls of the table at once: alone, and beside a replica of the same model."""
    rules = [Rule(model=f"{case} {how}", **row.rule) for case, row in ROWS.items() for how in ("alone", "two")]
    with ExitStack() as stack:
        fake = stack.enter_context(FakeEngine(rules))
        frozen = stack.enter_context(FakeEngine())
        healthy = stack.enter_context(FakeEngine())
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=64))
        places = {
            "": fake.base_url,
            "refused": f"http://127.0.0.1:{free_port()}/v1",
            "unknown": "http://no-such-host.invalid/v1",
            "tls": fake.base_url.replace("http://", "https://"),
            "half-open": f"http://127.0.0.1:{silent.getsockname()[1]}/v1",
            "frozen": frozen.base_url,
        }
        frozen.freeze()
        yield asyncio.run(_all(places, healthy.base_url))


async def _all(places: dict[str, str], healthy: str) -> dict[str, Outcome]:
    catalogue, router = load(), Router(retry_share=100.0)
    calls: dict[str, Any] = {}
    for case, row in ROWS.items():
        bad = [deployment("bad", places[row.at], f"{case} {how}") for how in ("alone", "two")]
        calls[f"{case} alone"] = outcome(catalogue, router, bad[:1])
        calls[f"{case} two"] = outcome(catalogue, router, [bad[1], deployment("good", healthy, f"{case} two")])
    return dict(zip(calls, await asyncio.gather(*calls.values()), strict=True))


@pytest.mark.parametrize("case", ROWS)
def test_alone_a_fault_is_one_typed_error(outcomes: dict[str, Outcome], case: str) -> None:
    """With the status and code that clients act on, as for chat."""
    row, found = ROWS[case], outcomes[f"{case} alone"]

    assert (found.status, found.code) == row.alone
    assert found.attempts.count(f"bad;fault={row.fault}") == row.tries


@pytest.mark.parametrize("case", ROWS)
def test_beside_a_replica_a_fault_is_not_noticed(outcomes: dict[str, Outcome], case: str) -> None:
    """The vectors come from whoever can make them; only a request that is wrong itself is refused."""
    row, found = ROWS[case], outcomes[f"{case} two"]

    if not row.passed_on:
        assert (found.status, found.code) == row.alone
        return
    assert (found.status, found.code) == (200, None)
    assert found.vectors[0] == pytest.approx(vector(TEXT, DIMENSIONS), abs=1e-6)
    assert found.attempts == f"bad;fault={row.fault}, good"


def test_a_busy_servers_wait_is_passed_on(outcomes: dict[str, Outcome]) -> None:
    """An honest 429 says when to come back, in the server's own words."""
    assert outcomes["429 alone"].retry_after_s == 7


async def test_a_server_that_makes_other_vectors_is_not_asked() -> None:
    """An index that is made of two models finds nothing: an error is better than a vector that means something else."""
    with FakeEngine([Rule(status=503)]) as broken, FakeEngine() as other:
        first = deployment("first", broken.base_url, "bge-m3")
        second = deployment("second", other.base_url, "e5-large")

        found = await outcome(load(), Router(), [first, second])

        assert (found.status, found.attempts) == (503, "first;fault=unavailable")
        assert other.requests() == []
