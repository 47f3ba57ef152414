"""What limits cost a call: holding what it may use and settling what it used, in memory and over Redis.

Prints microseconds of processor time for a call in memory (a core spends 100 of them on each of 10,000 calls a second),
and for Redis also what a caller waits, alone and among 64. The best of several rounds counts: a busy machine makes
every figure larger, and none smaller.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable

from hanlin.catalogue.loading import load
from hanlin.metering.estimate import text_tokens
from hanlin.metering.limits import Subject
from hanlin.metering.memory import MemoryStore
from hanlin.metering.prices import Counted, PriceList
from hanlin.metering.redis import RedisStore
from hanlin.metering.reserving import LimitStore, Meter
from hanlin.store.rows import Budget, Limits
from hanlin.types import Usage
from tests.metering import LACKS, RedisServer

ROUNDS = 9
MEMORY_CALLS = 5_000
REDIS_CALLS = 1_500
CALLERS = 64
PAGE = "The lake lies in the west of the city. 西湖在城西，三面环山。"

AMPLE = Limits(rpm=10**9, tpm=10**12, concurrency=10**6, budget=Budget(10**15))
RATES = Limits(rpm=10**9, tpm=10**12)
CASES: dict[str, tuple[Subject, ...]] = {
    "no limits": (Subject("key", "a"), Subject("workspace", "w"), Subject("model", "m")),
    "a key's calls and tokens": (Subject("key", "b", RATES), Subject("workspace", "w"), Subject("model", "m")),
    "a key's, all four": (Subject("key", "c", AMPLE), Subject("workspace", "w"), Subject("model", "m")),
    "key, workspace, model, all four": tuple(Subject(kind, "d", AMPLE) for kind in ("key", "workspace", "model")),
}


async def calls(meter: Meter, subjects: tuple[Subject, ...], number: int) -> None:
    for _ in range(number):
        reservation = await meter.reserve(subjects, 1_000, 1_000)
        meter.settle(reservation, 300, 300)


async def among(meter: Meter, subjects: tuple[Subject, ...], callers: int) -> None:
    await asyncio.gather(*(calls(meter, subjects, REDIS_CALLS // callers) for _ in range(callers)))


async def best(work: Callable[[], Awaitable[None]], number: int) -> tuple[float, float]:
    """Return microseconds of one of so many calls: what it takes, and what of that this process works."""
    waits, costs = [], []
    for _ in range(ROUNDS):
        began, worked = time.perf_counter(), time.process_time()
        await work()
        waits.append(time.perf_counter() - began)
        costs.append(time.process_time() - worked)
    return min(waits) / number * 1e6, min(costs) / number * 1e6


async def in_memory() -> None:
    meter = Meter(MemoryStore())
    print("in memory, reserve and settle                      µs")
    for name, subjects in CASES.items():
        _, cost = await best(lambda subjects=subjects: calls(meter, subjects, MEMORY_CALLS), MEMORY_CALLS)  # type: ignore[misc]
        print(f"  {name:44} {cost:8.2f}")


async def over_redis(url: str) -> None:
    store: LimitStore = RedisStore(url, limit_s=30)
    meter = Meter(store)
    print("\nover Redis, reserve and settle             alone: waits µs   among 64: waits µs   works µs   calls/s")
    for name, subjects in CASES.items():
        alone, _ = await best(lambda subjects=subjects: among(meter, subjects, 1), REDIS_CALLS)  # type: ignore[misc]
        each, cost = await best(lambda subjects=subjects: among(meter, subjects, CALLERS), REDIS_CALLS)  # type: ignore[misc]
        print(f"  {name:44} {alone:12.1f} {each * CALLERS:20.0f} {cost:10.1f} {1e6 / each:9,.0f}")
    await meter.close()


async def beside() -> None:
    prices, counted = PriceList.of(load()), Counted(Usage(1_000, 200, 100, 50))
    print("\nbeside it                                          µs")
    for name, work in (
        ("the cost of a call", lambda: prices.cost("qwen-plus", counted)),
        ("an estimate of 60 characters", lambda: text_tokens(PAGE)),
        ("an estimate of 6,000 characters", lambda: text_tokens(PAGE * 100)),
        ("an estimate of 600,000 characters", lambda text=PAGE * 10_000: text_tokens(text)),
    ):

        async def repeat(work: Callable[[], object] = work) -> None:
            for _ in range(1_000):
                work()

        _, cost = await best(repeat, 1_000)
        print(f"  {name:44} {cost:8.2f}")


async def main() -> int:
    await in_memory()
    if LACKS:
        print(f"\nNOT MEASURED over Redis: missing here: {' and '.join(LACKS)}")
    else:
        with RedisServer() as redis:
            await over_redis(redis.url)
    await beside()
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
