"""Limits in Redis when things die: the Redis, the way to it, and the processes that share it."""

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from hanlin.errors import BudgetExceeded, HanlinError, LimitsUnavailable, RequestsExceeded, TokensExceeded
from hanlin.metering.limits import Admitted, Demand, Subject
from hanlin.metering.outage import Policy, SharedStore
from hanlin.metering.periods import span
from hanlin.metering.redis import LIMIT_S, RedisStore
from hanlin.metering.reserving import Meter, Reservation
from hanlin.store.rows import NANOS, Budget, Limits
from tests.metering import RedisServer, need_redis, states
from tests.slow_way import SlowWay

PROCESSES = 4
BUSY_S = 3.0  # how much later than it should a busy machine may notice something
PATIENT_S = 60.0  # for tests in which nothing is away, on a machine that may stand still

CALLERS = """
import asyncio, json, random, sys
from hanlin.errors import QuotaExceeded
from hanlin.metering.limits import Subject
from hanlin.metering.redis import RedisStore
from hanlin.metering.reserving import Meter
from hanlin.store.rows import Budget, Limits

url, seed, callers, tpm, budget = sys.argv[1], *map(int, sys.argv[2:])
KEY = Subject("key", "shared", Limits(tpm=tpm, budget=Budget(budget)))
draw = random.Random(seed)

async def caller(meter, tokens):
    try:
        reservation = await meter.reserve([KEY], tokens, 1_000 * tokens)
    except QuotaExceeded:
        return 0
    await asyncio.sleep(0.01 * draw.random())
    used = draw.randrange(tokens + 1)
    meter.settle(reservation, used, 1_000 * used)
    return used

async def main():
    meter = Meter(RedisStore(url, limit_s=60))
    sys.stdin.read(1)
    used = await asyncio.gather(*(caller(meter, draw.randrange(1, 2_000)) for _ in range(callers)))
    await meter.close()
    print(json.dumps(sum(used)))

asyncio.run(main())
"""

HOLDER = """
import asyncio, sys
from hanlin.metering.limits import Subject
from hanlin.metering.redis import RedisStore
from hanlin.metering.reserving import Meter
from hanlin.store.rows import Budget, Limits

async def main():
    meter = Meter(RedisStore(sys.argv[1], limit_s=60, lease_s=float(sys.argv[2])))
    await meter.reserve([Subject("key", "k", Limits(concurrency=1, budget=Budget(100)))], 10, 80)
    print("held", flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.fixture
def redis(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    need_redis(request)
    with RedisServer() as server:
        yield server


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANLIN_LANG", "en")


def key(**limits: Any) -> Subject:
    return Subject("key", "k", Limits(**limits))


@asynccontextmanager
async def meter_on(url: str, policy: Policy, limit_s: float = LIMIT_S) -> AsyncIterator[Meter]:
    meter = Meter(SharedStore(RedisStore(url, limit_s=limit_s), policy, PROCESSES))
    try:
        yield meter
    finally:
        await meter.close()


def program(text: str, *arguments: object) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-c", text, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(30):
        while not await condition():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.02)


async def until_back(meter: Meter) -> None:
    async def is_back() -> bool:
        standing = meter.standing()
        return standing.outages > 0 and standing.away_since is None

    await until(is_back)


async def outcomes(meter: Meter, subject: Subject, calls: int, nanos: int = 0) -> list[str]:
    """Return what became of so many calls at once; none of them may take longer than the deadline."""
    began = time.monotonic()
    results = await asyncio.gather(*(meter.reserve([subject], 10, nanos) for _ in range(calls)), return_exceptions=True)
    assert time.monotonic() - began < LIMIT_S + BUSY_S
    assert all(isinstance(result, Reservation | HanlinError) for result in results), results
    return sorted(type(result).__name__ for result in results)


# --- Redis is away ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["stopped", "hung"])
async def test_open_means_a_share_of_every_limit_and_no_waiting(redis: RedisServer, how: str) -> None:
    """Four processes that each go on with a quarter use no more than all of it."""
    subject = key(rpm=20)
    async with meter_on(redis.url, "open") as meter:
        meter.settle(await meter.reserve([subject], 10), 10)
        redis.kill() if how == "stopped" else redis.signal(signal.SIGSTOP)

        assert await outcomes(meter, subject, 12) == 7 * ["RequestsExceeded"] + 5 * ["Reservation"]
        assert await outcomes(meter, subject, 50) == 50 * ["RequestsExceeded"]

        with pytest.raises(RequestsExceeded, match=r"may make 5 calls a minute.*divided by 4 for now, because Redis"):
            await meter.reserve([subject], 10)
        standing = meter.standing()
        assert standing.away_since is not None
        assert standing.why
        assert standing.outages == 1


@pytest.mark.parametrize("how", ["stopped", "hung"])
async def test_closed_means_that_limited_calls_are_told_to_come_back(redis: RedisServer, how: str) -> None:
    """Nothing is used that nobody counts; whoever has no limits does not notice."""
    subject = key(rpm=20)
    async with meter_on(redis.url, "closed") as meter:
        await meter.reserve([subject], 10)
        redis.kill() if how == "stopped" else redis.signal(signal.SIGSTOP)

        assert await outcomes(meter, subject, 50) == 50 * ["LimitsUnavailable"]
        assert await outcomes(meter, key(), 50) == 50 * ["Reservation"]
        with pytest.raises(LimitsUnavailable) as caught:
            await meter.reserve([subject], 10)
        assert (caught.value.status, caught.value.code, caught.value.retry_after_s) == (503, "ModelUnavailable", 2)
        assert "127.0.0.1" not in caught.value.message


async def test_one_probe_finds_out_that_redis_is_back(redis: RedisServer) -> None:
    """No call is made to try it; once it answers, its limits hold again."""
    subject = key(concurrency=2)
    async with meter_on(redis.url, "open") as meter:
        first = await meter.reserve([subject], 10)
        redis.signal(signal.SIGSTOP)
        assert await outcomes(meter, subject, 3) == ["PlacesExceeded"] * 2 + ["Reservation"]

        redis.signal(signal.SIGCONT)
        await until_back(meter)

        assert await outcomes(meter, subject, 3) == ["PlacesExceeded"] * 2 + ["Reservation"]
        meter.settle(first, 10)


async def test_money_spent_while_redis_was_away_is_counted_when_it_is_back(redis: RedisServer) -> None:
    """In the calls that Redis knew of, in those it did not, and in those that end later: nothing is spent twice."""
    subject = key(budget=Budget(1000, period="total"))
    async with meter_on(redis.url, "open") as meter:
        known = await meter.reserve([subject], 0, 200)
        redis.signal(signal.SIGSTOP)
        # A quarter of the 800 that nobody holds is this process's.
        assert await outcomes(meter, subject, 1, 201) == ["BudgetExceeded"]
        unknown, later = await meter.reserve([subject], 0, 100), await meter.reserve([subject], 0, 100)
        assert await outcomes(meter, subject, 1, 1) == ["BudgetExceeded"]
        meter.settle(known, 0, 150)
        meter.settle(unknown, 0, 70)
        assert meter.standing().owed == 3  # two settlements, and the demand that Redis may still decide about

        redis.signal(signal.SIGCONT)
        await until_back(meter)
        meter.settle(later, 0, 30)

        with pytest.raises(BudgetExceeded, match=r"0\.00000025 CNY are spent, 0 CNY held"):
            await meter.reserve([subject], 0, 751)
        meter.settle(await meter.reserve([subject], 0, 750), 0, 750)

        async def has_told_everything() -> bool:
            return not meter.standing().owed

        await until(has_told_everything)


async def test_a_recipe_goes_on_when_redis_goes_away_under_it(redis: RedisServer) -> None:
    """What it asks for meanwhile is this process's share; in the end it is one call with one bill."""
    subject = key(concurrency=1, tpm=4000, budget=Budget(1000, period="total"))
    async with meter_on(redis.url, "open") as meter:
        call = await meter.reserve([subject], 1000, 200)
        redis.signal(signal.SIGSTOP)
        await meter.extend(call, 500, 100)
        with pytest.raises(BudgetExceeded):
            await meter.extend(call, 100, 101)
        with pytest.raises(TokensExceeded):
            await meter.extend(call, 501, 1)

        redis.signal(signal.SIGCONT)
        await until_back(meter)
        await meter.extend(call, 500, 100)
        meter.settle(call, 1200, 333)

        with pytest.raises(BudgetExceeded, match=r"0\.000000333 CNY are spent, 0 CNY held"):
            await meter.reserve([subject], 10, 668)
        # Redis may have heard the demand that it did not answer: 500 tokens are missing until they have refilled.
        await meter.reserve([subject], 4000 - 1200 - 500, 667)


async def test_what_a_sleeping_redis_decides_after_all_is_given_back(redis: RedisServer) -> None:
    """It wakes up with the demands of calls that went on without it long ago."""
    subject = key(concurrency=3, budget=Budget(1000, period="total"))
    async with meter_on(redis.url, "closed") as meter:
        meter.settle(await meter.reserve([subject], 0, 1), 0, 1)
        redis.signal(signal.SIGSTOP)
        assert await outcomes(meter, subject, 3, 300) == 3 * ["LimitsUnavailable"]

        redis.signal(signal.SIGCONT)
        await until_back(meter)

        assert await outcomes(meter, subject, 3, 333) == 3 * ["Reservation"]


async def test_a_redis_that_lost_everything_asks_the_ledger_again(redis: RedisServer) -> None:
    """It was restarted without its data: budgets must not begin anew."""
    spent = [0]
    subject = key(budget=Budget(1000, period="total"))

    async def in_ledger(_subject: Subject, _since: object) -> int:
        return spent[0]

    store = SharedStore(RedisStore(redis.url), "closed", PROCESSES)
    meter = Meter(store, in_ledger)
    meter.settle(await meter.reserve([subject], 0, 600), 0, 600)
    spent[0] = 600
    redis.kill()
    assert await outcomes(meter, subject, 1, 1) == ["LimitsUnavailable"]
    redis.start()
    await until_back(meter)

    assert await outcomes(meter, subject, 1, 401) == ["BudgetExceeded"]
    assert await outcomes(meter, subject, 1, 400) == ["Reservation"]
    await meter.close()


async def test_a_redis_that_lost_everything_learns_what_was_on_its_way_into_the_ledger(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was spent without it is told to a Redis that knows nothing of the period, and does not count it."""
    monkeypatch.setattr("hanlin.metering.reserving._ON_ITS_WAY_S", 0.2)
    spent = [0]
    subject = key(budget=Budget(1000, period="total"))

    async def in_ledger(_subject: Subject, _since: object) -> int:
        found, spent[0] = spent[0], 100  # its row is there when the ledger is asked once more
        return found

    store = SharedStore(RedisStore(redis.url), "open", PROCESSES)
    meter = Meter(store, in_ledger)
    redis.kill()
    call = await meter.reserve([subject], 0, 100)
    meter.settle(call, 0, 100)
    spent[0] = 0
    redis.start()
    await until_back(meter)

    async def has_learnt() -> bool:
        (state,) = await states(store, call)
        return state.spent == 100

    await until(has_learnt)
    await meter.close()


async def test_a_slow_redis_is_waited_for_up_to_the_deadline_and_not_longer(redis: RedisServer) -> None:
    """Slow is not away, until it is of no use."""
    async with SlowWay(redis.port) as way, meter_on(way.url, "closed", limit_s=2.0) as meter:
        way.delay_s = 0.05
        await meter.reserve([key(rpm=20)], 10)
        assert meter.standing().away_since is None

        way.delay_s = 30.0
        began = time.monotonic()
        with pytest.raises(LimitsUnavailable):
            await meter.reserve([key(rpm=20)], 10)
        assert time.monotonic() - began < 2.0 + BUSY_S


async def test_a_caller_that_leaves_while_it_waits_holds_nothing(redis: RedisServer) -> None:
    """The decision comes for nobody: what it holds is given back at once, not after a lease."""
    subject = key(concurrency=1)
    async with meter_on(redis.url, "closed", PATIENT_S) as meter:
        task = asyncio.create_task(meter.reserve([subject], 10))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

        async def has_place() -> bool:
            return await outcomes(meter, subject, 1) == ["Reservation"]

        await until(has_place)


# --- many processes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("tpm", "budget"), [(100_000, 10**6 * NANOS), (10**9, NANOS // 10)])
async def test_a_thousand_callers_in_four_processes_pass_a_limit_by_one_reservation_at_most(
    redis: RedisServer, tpm: int, budget: int
) -> None:
    """Neither the tokens of a minute nor the money of a month grow with the number of processes."""
    began = time.monotonic()
    processes = [program(CALLERS, redis.url, seed, 250, tpm, budget) for seed in range(PROCESSES)]
    outputs = await asyncio.gather(*(asyncio.to_thread(process.communicate, b"!", 120) for process in processes))
    elapsed_s = time.monotonic() - began
    tokens = sum(json.loads(output) for output, _ in outputs)

    store = RedisStore(redis.url, limit_s=PATIENT_S)
    limits = Limits(tpm=tpm, budget=Budget(budget))
    (state,) = await states(store, Reservation([Subject("key", "shared", limits)], [span(Budget(budget), time.time())]))
    await store.close()

    assert tokens <= tpm * (1 + elapsed_s / 60) + 2_000
    assert state.spent == 1_000 * tokens <= budget
    assert state.reserved == 0
    assert tokens > min(tpm, budget // 1_000) / 4  # something was done


async def test_the_place_of_a_killed_process_is_free_after_its_lease(redis: RedisServer) -> None:
    """kill -9 settles nothing; its place and what it held of the budget come back all the same."""
    lease_s = 4.0
    process = program(HOLDER, redis.url, lease_s)
    assert process.stdout is not None
    assert await asyncio.to_thread(process.stdout.readline) == b"held\n"
    meter = Meter(RedisStore(redis.url, limit_s=PATIENT_S, lease_s=lease_s))
    subject = key(concurrency=1, budget=Budget(100))

    assert await outcomes(meter, subject, 1, 80) in (["BudgetExceeded"], ["PlacesExceeded"])
    process.kill()
    await asyncio.to_thread(process.communicate)

    async def has_place() -> bool:
        return await outcomes(meter, subject, 1, 80) == ["Reservation"]

    await until(has_place)
    await meter.close()


async def test_a_call_that_outlasts_its_lease_keeps_its_place(redis: RedisServer) -> None:
    """Its process renews it: a long answer is not a dead one."""
    lease_s = 3.0
    store = RedisStore(redis.url, limit_s=PATIENT_S, lease_s=lease_s)
    meter, subject = Meter(store), key(concurrency=1)
    call = await meter.reserve([subject], 10)

    await asyncio.sleep(1.5 * lease_s)

    assert await outcomes(meter, subject, 1) == ["PlacesExceeded"]
    meter.settle(call, 10)
    verdict = await store.take(Reservation([subject], call.spans), Demand())
    assert isinstance(verdict, Admitted)
    await meter.close()
