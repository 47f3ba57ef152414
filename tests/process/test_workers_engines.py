"""Engines of the main process behind four workers: one engine, its places counted once, stopped by whoever hangs up."""

import asyncio
import collections
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from hanlin.testing import Rule, wait_until
from hanlin.testing.gpu_server import VARIABLE, StandIn, install
from tests.conftest import VECTORS, home_with_vectors
from tests.process.test_workers import body, caller, is_whole, pids, read, samples, status, streams
from tests.service import Service, ask, ask_streamed, toml_of

WORKERS = 4
SLOTS = 3
CHUNKS = tuple(f"{number} " for number in range(40))
LONG = Rule(contains="long", chunks=CHUNKS, chunk_delay_s=0.1)
ENDLESS = Rule(contains="endless", text="喋" * 2000, chunk_delay_s=0.1)


def gpu(programs: Path, name: str = "gpu") -> dict[str, Any]:
    return {
        "name": name,
        "engine": "vllm",
        "weights": "Qwen/Qwen3-8B",
        "executable": str(programs / "vllm"),
        "slots": SLOTS,
        "serves": ["qwen*"],
    }


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("programs"))


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, programs: Path) -> Iterator[Service]:
    stand_in = StandIn(rule=(LONG, ENDLESS, Rule(text="好")))
    config = toml_of(gpu(programs), workers=WORKERS, queue_limit=20)
    environment = {VARIABLE: stand_in.json()}
    with Service(tmp_path_factory.mktemp("home"), config=config, environment=environment) as service:
        yield service


def state(service: Service) -> dict[str, Any]:
    (row,) = service.get("/health").json()["deployments"]
    return dict(row)


def test_an_engine_answers_through_every_worker_whole_and_streamed(service: Service) -> None:
    """As it does in one process, and there is one of it."""
    with service.client() as client:
        for _ in range(8):
            answer = ask(client)
            assert answer.choices[0].message.content == "好"
            assert answer.system_fingerprint == "gpu"
            assert answer.usage is not None
            stream = [chunk.choices[0].delta.content or "" for chunk in ask_streamed(client) if chunk.choices]
            assert "".join(stream) == "好"

    assert (state(service)["state"], state(service)["slots"]) == ("ready", SLOTS)
    assert set(samples(service, "hanlin_deployment_slots")) == {"main"}


async def test_its_places_are_counted_once_for_all_workers(service: Service) -> None:
    """Neither four times as many run as may, nor do calls wait while there is room; who waits is served in turn."""
    most = 0
    async with caller(service) as client:
        reading = [asyncio.create_task(read(client, "long")) for _ in range(12)]
        while not all(task.done() for task in reading):
            rows = [await asyncio.to_thread(state, service) for _ in range(2)]
            most = max(most, *(row["running"] for row in rows))
            assert all(row["running"] <= SLOTS for row in rows)
            await asyncio.sleep(0.05)

    assert most == SLOTS
    assert all(is_whole(task.result()) for task in reading)


async def test_a_full_line_is_full_for_all_workers(service: Service) -> None:
    """Three run, twenty wait, and nobody else does, whichever process they came to."""
    async with caller(service) as client:
        asking = [asyncio.create_task(status(client, "endless")) for _ in range(60)]
        done: set[asyncio.Task[int]] = set()
        async with asyncio.timeout(30):
            while len(done) < 60 - SLOTS - 20:
                done, _ = await asyncio.wait(asking, timeout=0.1)
        assert {task.result() for task in done} == {503}
        await asyncio.to_thread(wait_until, lambda: state(service)["waiting"] == 20, "twenty wait")
        await asyncio.to_thread(wait_until, lambda: state(service)["running"] == SLOTS, "all run")
        assert len(asking) - sum(task.done() for task in asking) == SLOTS + 20
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
    await asyncio.to_thread(wait_until, lambda: not state(service)["running"], "all are gone")


@pytest.mark.parametrize("stream", [True, False])
async def test_a_caller_who_hangs_up_frees_the_engine(service: Service, stream: bool) -> None:
    """All the way down: worker, main process, engine."""
    async with caller(service) as client:
        asking = [
            asyncio.create_task(client.post("/chat/completions", json=body("endless", stream=stream)))
            for _ in range(SLOTS)
        ]
        await asyncio.to_thread(wait_until, lambda: state(service)["running"] == SLOTS, "all run")
        await asyncio.sleep(0.3)
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)

        assert await status(client) == 200, "there is a place at once"


async def test_a_dead_worker_leaves_its_places_to_the_others(service: Service) -> None:
    """It can give nothing back itself."""
    async with caller(service) as client, streams(client, SLOTS):
        for pid in pids(service).values():
            psutil.Process(pid).kill()
    await asyncio.to_thread(wait_until, lambda: len(pids_or_none(service)) == WORKERS, "their successors", 60)

    async with caller(service) as client:
        assert await asyncio.gather(*(status(client) for _ in range(SLOTS))) == [200] * SLOTS
    # What a worker says of places is a moment old.
    await asyncio.to_thread(wait_until, lambda: state(service)["running"] == 0, "free places")


def pids_or_none(service: Service) -> dict[int, int]:
    """Return the processes that answer; none while none does."""
    try:
        return pids(service)
    except httpx2.HTTPError:
        return {}


def test_an_engine_comes_and_goes_with_the_file_in_every_worker(programs: Path, tmp_path: Path) -> None:
    """Whoever answers must know the engines of now."""
    config = toml_of(gpu(programs), workers=2)
    environment = {VARIABLE: StandIn(rule=(Rule(text="好"),)).json()}
    with Service(tmp_path / "home", config=config, environment=environment) as service:
        service.configure(toml_of(gpu(programs, "other"), workers=2))
        service.hup()
        wait_until(lambda: "deployments: other" in service.output(), "the reload", 20)

        with service.client() as client:
            assert {ask(client).system_fingerprint for _ in range(8)} == {"other"}
        wait_until(lambda: service.states() == {"other": "ready"}, "every process shows how the engine is")


# --- the embedded engines --------------------------------------------------------------------------------------------


@pytest.mark.embedded
def test_the_embedded_engine_answers_through_its_workers(embedded: Callable[..., Service]) -> None:
    """Streamed and unstreamed, with the same words: they are drawn with the same seed."""
    with embedded("--workers", "3") as service, service.client() as client:
        whole = {ask(client, max_tokens=16, seed=7).choices[0].message.content for _ in range(4)}
        streamed = {
            "".join(
                chunk.choices[0].delta.content or ""
                for chunk in ask_streamed(client, max_tokens=16, seed=7)
                if chunk.choices
            )
            for _ in range(4)
        }
        long_prompt = ask(client, "数一数 " * 60, max_tokens=4)
        filled = client.completions.create(
            model="qwen2.5-coder-7b-instruct", prompt="<|fim_prefix|>def add(<|fim_suffix|><|fim_middle|>", max_tokens=8
        )

        assert len(whole) == 1
        assert streamed == whole
        assert long_prompt.usage is not None
        assert long_prompt.usage.prompt_tokens > 120
        assert filled.choices[0].text
        (row,) = service.get("/health").json()["deployments"]
        assert (row["state"], row["slots"]) == ("ready", 4)
        assert "served by    3 worker processes" in service.output()


@pytest.mark.embedded
async def test_a_hang_up_through_a_worker_frees_the_embedded_engine(embedded: Callable[..., Service]) -> None:
    """Slots are few there, and an answer takes long."""
    service = await asyncio.to_thread(lambda: embedded("--workers", "2", "--slots", "1").start())
    async with caller(service) as client:
        asking = asyncio.create_task(
            client.post("/chat/completions", json={**body("写一篇很长的文章", stream=True), "max_tokens": 2000})
        )
        await asyncio.to_thread(wait_until, lambda: state(service)["running"] == 1, "it runs", 20)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)

        await asyncio.to_thread(wait_until, lambda: state(service)["running"] == 0, "its place is free", 5)
        answer = await client.post("/chat/completions", json={**body("你好"), "max_tokens": 4})
    assert answer.status_code == 200


@pytest.mark.embedded
def test_embeddings_come_through_workers(tmp_path: Path) -> None:
    """The embedding model, too, is there once."""
    home = home_with_vectors(tmp_path / "home")
    arguments = ("--workers", "2", "--weights", "qwen2.5-coder-0.5b-instruct")
    with Service(home, *arguments, environment={"HANLIN_EMBEDDINGS": "true"}) as service, service.client() as client:
        found = [client.embeddings.create(model="text-embedding-v4", input=["你好", "再见"]) for _ in range(4)]

        assert {len(answer.data) for answer in found} == {2}
        assert len({str(answer.data[0].embedding) for answer in found}) == 1
        (row,) = service.get("/health").json()["embeddings"]
        assert row["title"].lower().startswith(VECTORS)
        assert collections.Counter(one["state"] for one in service.get("/health").json()["workers"]) == {"serving": 2}
