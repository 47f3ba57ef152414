"""One service in four processes: what callers, operators and the ledger see of it is one service."""

import asyncio
import collections
import contextlib
import signal
import stat
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from hanlin.home import Home, running, server_secret
from hanlin.keys import hash_key, new_key
from hanlin.store.database import open_store
from hanlin.store.rows import NANOS, Budget, KeyRow, LedgerRow, Limits, Outcome
from hanlin.testing import FakeEngine, Rule, wait_until
from tests.cli import hanlin
from tests.service import KEY, Service, ask, toml_of

WORKERS = 4
CALLERS = 300
STREAMS = 40
CHUNKS = tuple(f"{number} " for number in range(40))
LONG = Rule(contains="long", chunks=CHUNKS, chunk_delay_s=0.1)
HANGS = Rule(contains="hang", text="好好好", stall_after_chunks=1)
DEAR_TOKENS = 4_000
DEAR = Rule(
    contains="dear", text="好", usage={"prompt_tokens": 1, "completion_tokens": DEAR_TOKENS, "total_tokens": 4_001}
)
SLOW_AND_DEAR = Rule(
    contains="slow and costly",
    chunks=tuple("一二三四五六七八九十"),
    chunk_delay_s=0.05,
    usage={"prompt_tokens": 1, "completion_tokens": DEAR_TOKENS, "total_tokens": 4_001},
)
DEAR_NANOS = 800 + DEAR_TOKENS * 2_000  # of qwen-plus, in the catalogue
HELD_NANOS = DEAR_NANOS + 100 * 800  # a prompt is estimated before it is counted
QUICK = Rule(text="好")

Frames = list[str]


@pytest.fixture(scope="module")
def engine() -> Iterator[FakeEngine]:
    with FakeEngine([LONG, HANGS, SLOW_AND_DEAR, DEAR, QUICK]) as engine:
        yield engine


def config(engine: FakeEngine, **settings: Any) -> str:
    row = {"name": "fake", "url": engine.base_url, "slots": 400, "profile": "vllm"}
    return toml_of(row, **{"workers": WORKERS, "retry_share": 0, "probe_s": 3600, **settings})


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, engine: FakeEngine) -> Iterator[Service]:
    """The one service of those tests that leave it as it was."""
    with Service(tmp_path_factory.mktemp("home"), config=config(engine)) as service:
        yield service


def pids(service: Service) -> dict[int, int]:
    """Return the processes that answer, by their numbers."""
    rows = service.get("/health").json()["workers"]
    return {row["worker"]: row["pid"] for row in rows if row["state"] == "serving"}


async def made(service: Service, **limits: Any) -> tuple[str, KeyRow]:
    """Make a key as `hanlin keys create` does, while the service runs."""
    key = new_key()
    hashed = hash_key(server_secret(Home(service.home)), key)
    async with await open_store(Home(service.home).database) as store:
        return key, await store.keys.add("test", hashed, key[-4:], limits=Limits(**limits))


async def rows_of(service: Service, key: KeyRow, count: int) -> Sequence[LedgerRow]:
    """Wait for so many rows of a key."""
    async with await open_store(Home(service.home).database) as store, asyncio.timeout(60):
        while True:
            page = await store.ledger.page(limit=5000)
            found = [row for row in page.rows if row.key_id == key.id]
            if len(found) >= count:
                return found
            await asyncio.sleep(0.1)


@asynccontextmanager
async def caller(service: Service, key: str = KEY) -> AsyncIterator[httpx2.AsyncClient]:
    """Yield a client that makes as many connections as it has calls, so that all processes get some."""
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=0)
    headers = {"authorization": f"Bearer {key}"}
    async with httpx2.AsyncClient(base_url=service.base_url, headers=headers, limits=limits, timeout=120) as client:
        yield client


def body(content: str, *, stream: bool = False) -> dict[str, Any]:
    messages = [{"role": "user", "content": content}]
    return {"model": "qwen-plus", "messages": messages, "stream": stream, "max_tokens": DEAR_TOKENS}


async def status(client: httpx2.AsyncClient, content: str = "quick") -> int:
    return (await client.post("/chat/completions", json=body(content))).status_code


async def statuses(client: httpx2.AsyncClient, content: str, count: int) -> collections.Counter[int]:
    """Make so many calls at once, and count how they ended."""
    return collections.Counter(await asyncio.gather(*(status(client, content) for _ in range(count))))


async def read(client: httpx2.AsyncClient, content: str, opened: asyncio.Semaphore | None = None) -> Frames | None:
    """Return a stream's frames, None where it broke off; `opened` is released when its first text has come."""
    frames: Frames = []
    try:
        async with client.stream("POST", "/chat/completions", json=body(content, stream=True)) as response:
            assert response.status_code == 200, await response.aread()
            async for line in response.aiter_lines():
                if line.startswith("data: "):
                    frames.append(line.removeprefix("data: "))
                    if opened is not None and '"content":"0 "' in line:
                        opened.release()
    except httpx2.HTTPError:
        return None
    return frames


def is_whole(frames: Frames | None) -> bool:
    return frames is not None and frames[-1] == "[DONE]" and "".join(frames).count('"content"') >= len(CHUNKS)


@asynccontextmanager
async def streams(client: httpx2.AsyncClient, count: int) -> AsyncIterator[list["asyncio.Task[Frames | None]"]]:
    """Open long streams and yield them once all have begun."""
    opened = asyncio.Semaphore(0)
    reading = [asyncio.create_task(read(client, "long", opened)) for _ in range(count)]
    try:
        async with asyncio.timeout(60):
            for _ in range(count):
                await opened.acquire()
        yield reading
    finally:
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)


def samples(service: Service, name: str) -> dict[str, float]:
    """Return what each process says of a metric, added up over its other labels."""
    found: dict[str, float] = collections.defaultdict(float)
    for family in text_string_to_metric_families(service.get("/metrics").text):
        for sample in family.samples:
            if sample.name == name:
                found[sample.labels["worker"]] += sample.value
    return found


# --- one service -----------------------------------------------------------------------------------------------------


async def test_calls_are_spread_over_the_processes(service: Service) -> None:
    """That is what they are for; and what each did is on the one page of any of them."""
    before = samples(service, "hanlin_attempts_total")
    async with caller(service) as client:
        assert await statuses(client, "quick", 100) == {200: 100}

    after = samples(service, "hanlin_attempts_total")
    counts = {worker: count - before.get(worker, 0) for worker, count in after.items()}
    assert sum(counts.values()) == 100
    assert {worker for worker, count in counts.items() if count} == {"1", "2", "3", "4"}
    assert samples(service, "hanlin_worker_up") == {"1": 1, "2": 1, "3": 1, "4": 1, "main": 1}
    page = service.get("/metrics").text
    assert page.count("# TYPE hanlin_attempts_total counter") == 1


async def test_the_page_of_metrics_is_openmetrics_too(service: Service) -> None:
    """Prometheus asks for it, and is strict about it."""
    accept = {"accept": "application/openmetrics-text; version=1.0.0"}

    page = httpx2.get(f"{service.url}/metrics", headers=accept, timeout=30)

    assert page.headers["content-type"].startswith("application/openmetrics-text")
    assert page.text.endswith("# EOF\n")
    assert 'worker="main"' in page.text


async def test_every_call_leaves_one_row_whoever_answered_it(service: Service) -> None:
    """Five processes write to one database."""
    key, row = await made(service)
    async with caller(service, key) as client:
        assert await statuses(client, "quick", CALLERS) == {200: CALLERS}

    rows = await rows_of(service, row, CALLERS)

    assert len(rows) == len({one.id for one in rows}) == CALLERS
    assert samples(service, "hanlin_ledger_lost_rows_total") == dict.fromkeys(("1", "2", "3", "4", "main"), 0)


async def test_health_names_the_processes_and_the_home_the_main_one(service: Service) -> None:
    """An operator must find what to look at, and what to send signals to."""
    found = pids(service)

    assert sorted(found) == [1, 2, 3, 4]
    announced = running(Home(service.home))
    assert announced is not None
    assert announced.pid == service.pid
    assert {child.pid for child in psutil.Process(service.pid).children()} >= set(found.values())
    assert "4 worker processes" in service.output()
    socket = service.home / "run" / "workers.sock"
    assert stat.S_IMODE(socket.stat().st_mode) == 0o600


# --- limits ----------------------------------------------------------------------------------------------------------


async def test_a_limit_of_calls_at_once_is_one_for_all_processes(service: Service) -> None:
    """Of hundreds that come at the same time, exactly as many get in as may run."""
    key, _ = await made(service, concurrency=7)
    async with caller(service, key) as client:
        asking = [asyncio.create_task(status(client, "hang")) for _ in range(CALLERS)]
        done: set[asyncio.Task[int]] = set()
        async with asyncio.timeout(60):
            while len(done) < CALLERS - 7:
                done, _ = await asyncio.wait(asking, timeout=0.1)
        assert {task.result() for task in done} == {429}
        await asyncio.sleep(1)

        assert sum(not task.done() for task in asking) == 7
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
    async with caller(service, key) as client, asyncio.timeout(20):
        while await status(client) != 200:  # noqa: ASYNC110 (the service tells nobody)
            await asyncio.sleep(0.1)


async def test_a_limit_of_calls_a_minute_is_one_for_all_processes(service: Service) -> None:
    """A minute's calls refill by one a second, and no faster because there are four processes."""
    key, _ = await made(service, rpm=60)
    async with caller(service, key) as client:
        began = time.monotonic()
        counts = await statuses(client, "quick", CALLERS)
        took_s = time.monotonic() - began

    assert set(counts) == {200, 429}
    assert 60 <= counts[200] <= 61 + took_s


async def test_a_budget_of_one_yuan_is_overspent_by_at_most_one_reservation(service: Service) -> None:
    """What each call costs is known only at its end; calls that come at once must not spend it twice."""
    key, row = await made(service, budget=Budget(NANOS, "CNY", "total"))
    counts: collections.Counter[int] = collections.Counter()
    async with caller(service, key) as client:
        for _ in range(4):
            counts += await statuses(client, "dear", 100)

    rows = await rows_of(service, row, counts[200])
    spent = sum(one.cost_nanos for one in rows)
    assert set(counts) == {200, 429}
    assert {one.cost_nanos for one in rows} == {DEAR_NANOS}
    assert NANOS - HELD_NANOS < spent <= NANOS


async def test_a_revoked_key_stops_within_a_second_in_every_process(service: Service) -> None:
    """They have read it and believe it; nobody tells them."""
    key, row = await made(service)
    async with caller(service, key) as client:
        before = samples(service, "hanlin_calls_open")
        assert await statuses(client, "quick", 60) == {200: 60}

        async with await open_store(Home(service.home).database) as store:
            await store.keys.revoke(row.id)
        await asyncio.sleep(1.0)

        assert len(before) == 5
        assert await statuses(client, "quick", 60) == {401: 60}


# --- settings --------------------------------------------------------------------------------------------------------


async def test_a_changed_file_reaches_every_process_and_a_bad_one_none(engine: FakeEngine, tmp_path: Path) -> None:
    """Half of a service with other deployments than the other half would be a riddle."""
    with FakeEngine([Rule(text="other")]) as other, Service(tmp_path / "home", config=config(engine)) as service:
        service.configure(config(other))
        service.hup()
        await asyncio.to_thread(wait_until, lambda: "settings reloaded" in service.output(), "the reload", 20)
        async with caller(service) as client:
            assert await statuses(client, "quick", 60) == {200: 60}
        assert len(other.requests()) == 60

        service.configure(config(engine) + "\nnonsense")
        service.hup()
        await asyncio.to_thread(wait_until, lambda: "was not taken over" in service.output(), "the refusal", 20)
        async with caller(service) as client:
            assert await statuses(client, "quick", 60) == {200: 60}
        assert len(other.requests()) == 120


# --- ends ------------------------------------------------------------------------------------------------------------


async def test_a_killed_process_is_replaced_and_takes_nothing_with_it(engine: FakeEngine, tmp_path: Path) -> None:
    """Its callers lose their streams; the others, the limits and the ledger lose nothing."""
    with Service(tmp_path / "home", config=config(engine)) as service:
        key, row = await made(service, concurrency=STREAMS, budget=Budget(NANOS, "CNY", "total"))
        before = pids(service)
        async with caller(service, key) as client:
            async with streams(client, STREAMS) as reading:
                assert await status(client) == 429

                psutil.Process(before[2]).kill()
                found = await asyncio.gather(*reading)
            cut = sum(frames is None for frames in found)
            assert 0 < cut < STREAMS
            assert sum(map(is_whole, found)) == STREAMS - cut

            await asyncio.to_thread(wait_until, lambda: len(pids(service)) == WORKERS, "its successor", 60)
            assert {worker for worker, pid in pids(service).items() if pid != before[worker]} == {2}
            rows = await rows_of(service, row, STREAMS)
            outcomes = collections.Counter(one.outcome for one in rows)
            assert outcomes == {Outcome.INTERRUPTED: cut, Outcome.ANSWERED: STREAMS - cut}
            async with streams(client, STREAMS):
                assert await status(client) == 429


async def test_a_budget_neither_grows_nor_shrinks_because_processes_die(engine: FakeEngine, tmp_path: Path) -> None:
    """What calls held of it when they were killed is replaced by what their rows say, to the nano."""
    budget = 3 * NANOS
    with Service(tmp_path / "home", config=config(engine)) as service:
        key, row = await made(service, budget=Budget(budget, "CNY", "total"))
        async with caller(service, key) as client:
            over = asyncio.Event()

            async def calls() -> None:
                while not over.is_set():
                    with contextlib.suppress(httpx2.HTTPError):
                        await status(client, "slow and costly")
                    await asyncio.sleep(0.1)

            calling = [asyncio.create_task(calls()) for _ in range(40)]
            for worker in (1, 2, 3, 4):
                await asyncio.sleep(1.0)
                psutil.Process((await asyncio.to_thread(pids_when_all_serve, service))[worker]).kill()
            over.set()
            await asyncio.gather(*calling)
            await asyncio.to_thread(pids_when_all_serve, service)

            async def is_settled() -> bool:
                counts = [await status(client, "dear") for _ in range(3)]
                return counts == [429] * 3

            async with asyncio.timeout(60):
                while not await is_settled():
                    pass
            await asyncio.sleep(12)  # longer than a call without a row is waited for
            while await status(client, "dear") == 200:
                pass

        spent = await spent_by(service, row)
        rows = await rows_of(service, row, 1)
        assert Outcome.INTERRUPTED in {one.outcome for one in rows}
        assert budget - HELD_NANOS < spent <= budget


def pids_when_all_serve(service: Service) -> dict[int, int]:
    """Return the processes that answer, once all do."""

    def found() -> dict[int, int] | None:
        try:
            there = pids(service)
        except (httpx2.HTTPError, KeyError):
            return None
        return there if len(there) == WORKERS else None

    return dict(wait_until(found, "all processes serve", 60))


async def spent_by(service: Service, key: KeyRow) -> int:
    """Return what a key's calls cost, once all of their rows are in the database."""
    async with await open_store(Home(service.home).database) as store, asyncio.timeout(60):
        before, now = -1, 0
        while before != now:
            before = now
            await asyncio.sleep(2)
            now = await store.ledger.spent(key_id=key.id)
    return now


async def test_streams_that_are_open_at_sigterm_end_whole_in_every_process(engine: FakeEngine, tmp_path: Path) -> None:
    """A deployment of a new version happens at the busiest hour as well, and nobody may notice it."""
    with Service(tmp_path / "home", config=config(engine)) as service:
        async with caller(service) as client, streams(client, STREAMS) as reading:
            service.process.send_signal(signal.SIGTERM)  # type: ignore[union-attr]
            found = await asyncio.gather(*reading)
        code = await asyncio.to_thread(service.process.wait, 60)  # type: ignore[union-attr]

        assert list(map(is_whole, found)) == [True] * STREAMS
        assert code == 0
        assert f"finishing {STREAMS} open calls" in service.output()


async def test_who_outlasts_the_limit_is_told_in_every_process(engine: FakeEngine, tmp_path: Path) -> None:
    """A stream that just stops looks like an answer."""
    with Service(tmp_path / "home", config=config(engine, shutdown_s=0.5)) as service:
        async with caller(service) as client, streams(client, STREAMS) as reading:
            service.process.send_signal(signal.SIGTERM)  # type: ignore[union-attr]
            found = await asyncio.gather(*reading)
        assert await asyncio.to_thread(service.process.wait, 60) == 0  # type: ignore[union-attr]

    assert all(frames is not None and "ModelUnavailable" in frames[-1] for frames in found)


async def test_without_their_main_process_workers_end_and_the_next_start_goes_on(
    engine: FakeEngine, tmp_path: Path
) -> None:
    """No orphan may hold the port, and what was under way is in the ledger; one process takes over from four."""
    with Service(tmp_path / "home", config=config(engine)) as service:
        key, row = await made(service)
        workers = [psutil.Process(pid) for pid in pids(service).values()]
        async with caller(service, key) as client, streams(client, STREAMS) as reading:
            service.stop(signal.SIGKILL)
            assert await asyncio.gather(*reading) == [None] * STREAMS
        _, left = psutil.wait_procs(workers, 10)
        assert left == []

        service.configure(config(engine, workers=1))
        service.launch()
        await asyncio.to_thread(service.wait_ready)

        rows = await rows_of(service, row, STREAMS)
        assert {one.outcome for one in rows} == {Outcome.INTERRUPTED}
        assert len(rows) == STREAMS
        assert ask(service.client()).choices[0].message.content == "好"


async def test_a_service_of_one_process_is_taken_over_by_four(engine: FakeEngine, tmp_path: Path) -> None:
    """What one left in the journal is not any worker's own."""
    with Service(tmp_path / "home", config=config(engine, workers=1)) as service:
        key, row = await made(service)
        async with caller(service, key) as client, streams(client, STREAMS) as reading:
            service.stop(signal.SIGKILL)
            await asyncio.gather(*reading)

        service.configure(config(engine))
        service.launch()
        await asyncio.to_thread(service.wait_ready)

        assert len(await rows_of(service, row, STREAMS)) == STREAMS


async def test_while_the_main_process_stands_still_only_limited_calls_are_refused(
    engine: FakeEngine, tmp_path: Path
) -> None:
    """Quickly, and not a call more than may be; afterwards all is as before."""
    with Service(tmp_path / "home", config=config(engine)) as service:
        key, _ = await made(service, rpm=100_000)
        async with caller(service, key) as limited, caller(service) as free:
            assert await statuses(limited, "quick", 20) == {200: 20}

            service.process.send_signal(signal.SIGSTOP)  # type: ignore[union-attr]
            try:
                assert await statuses(limited, "quick", 40) == {503: 40}
                assert await statuses(free, "quick", 40) == {200: 40}
            finally:
                service.process.send_signal(signal.SIGCONT)  # type: ignore[union-attr]

            async with asyncio.timeout(30):
                while await statuses(limited, "quick", 20) != {200: 20}:  # noqa: ASYNC110 (the service tells nobody)
                    await asyncio.sleep(0.1)


@pytest.mark.parametrize("nonsense", ["0", "-1", "65", "many"])
def test_a_number_of_processes_that_makes_no_sense_is_refused(tmp_path: Path, nonsense: str) -> None:
    """With the setting's name, and what it may be."""
    done = hanlin(tmp_path / "home", "serve", "--workers", nonsense)

    assert done.returncode == 1
    assert f"workers = '{nonsense}' does not fit" in done.stderr


async def test_a_worker_that_cannot_start_ends_the_start(engine: FakeEngine, tmp_path: Path) -> None:
    """A service that starts for ever tells nobody what is wrong."""
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "sitecustomize.py").write_text(
        "import os, sys\nif 'hanlin.cli.worker' in sys.orig_argv: os._exit(3)\n", encoding="utf-8"
    )
    environment = {"PYTHONPATH": f"{broken}:{Path(__file__).parents[2] / 'src'}"}
    service = Service(tmp_path / "home", config=config(engine), environment=environment)
    service.launch()

    code = await asyncio.to_thread(service.process.wait, 60)  # type: ignore[union-attr]

    assert code == 1
    assert "cannot start: it ended with code 3" in service.output()
    service.close()
