"""What keeps limits keeps them alike: one process' memory, the main process of several, Redis. Time is an argument."""

import asyncio
import contextlib
import itertools
import math
from collections.abc import AsyncIterator, Callable, Iterator
from importlib import import_module
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hanlin.errors import BudgetExceeded, PlacesExceeded, TokensExceeded
from hanlin.metering.limits import BY_MINUTE, BY_SECOND, Admitted, Demand, Pace, Refused, State, Subject
from hanlin.metering.memory import MemoryStore
from hanlin.metering.periods import NO_SPAN, span
from hanlin.metering.redis import RedisStore
from hanlin.metering.reserving import LimitStore, Meter, Reservation
from hanlin.service.crew.counting import Counter
from hanlin.service.crew.limits import CoordinatedStore
from hanlin.store.rows import Budget, Limits
from tests.crew import main_process
from tests.metering import RedisServer, need_redis, states, take
from tests.values import Clock

Kind = Literal["memory", "coordinator", "redis"]
Open = Callable[..., "contextlib.AbstractAsyncContextManager[LimitStore]"]

DAY_S = 86_400.0
NOON = 1_790_000_000.0
PATIENT_S = 20.0  # these tests are about decisions; this machine may be busy
PREFIXES = (f"{{test-{number}}}" for number in itertools.count())
SLOW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def redis(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    need_redis(request)
    with RedisServer() as server:
        yield server


@pytest.fixture(params=["memory", "coordinator", "redis"])
def open_store(request: pytest.FixtureRequest) -> Open:
    """Return what opens an empty store on a clock. Each test runs on all of them."""
    if request.param == "coordinator":
        return asked_of_the_main_process
    url = request.getfixturevalue("redis").url if request.param == "redis" else ""
    return lambda clock, pace=BY_MINUTE: opened(url, clock, pace)


@contextlib.asynccontextmanager
async def opened(
    url: str, clock: Clock, pace: Pace = BY_MINUTE, lease_s: float = 9 * DAY_S
) -> AsyncIterator[LimitStore]:
    store: LimitStore = MemoryStore(pace, clock, clock)
    if url:
        store = RedisStore(url, pace, limit_s=PATIENT_S, lease_s=lease_s, prefix=next(PREFIXES), clock=clock)
    try:
        yield store
    finally:
        await store.close()


@contextlib.asynccontextmanager
async def asked_of_the_main_process(clock: Clock, pace: Pace = BY_MINUTE) -> AsyncIterator[LimitStore]:
    async with main_process(counter=Counter(MemoryStore(pace, clock, clock))) as main:
        yield CoordinatedStore(await main.join(), pace, limit_s=PATIENT_S)


def key(**limits: Any) -> Subject:
    return Subject("key", "k", Limits(**limits))


def reservation(*subjects: Subject, at: float = NOON) -> Reservation:
    spans = [NO_SPAN if one.limits.budget is None else span(one.limits.budget, at) for one in subjects]
    return Reservation(subjects, spans)


async def admitted(store: LimitStore, subject: Subject, demand: Demand, wanted: int = 100) -> int:
    """Return how many of so many calls at once may begin."""
    verdicts = await asyncio.gather(*(take(store, reservation(subject), demand) for _ in range(wanted)))
    return sum(isinstance(verdict, Admitted) for verdict in verdicts)


# --- one limit at a time ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rpm", [1, 7, 60, 70, 97])
async def test_a_minute_has_its_calls_and_not_one_more(open_store: Open, rpm: int) -> None:
    """Also where a call is no whole number of seconds: a limit of 70 is 70."""
    clock = Clock()
    async with open_store(clock) as store:
        assert await admitted(store, key(rpm=rpm), Demand()) == rpm

        clock.now += 60
        assert await admitted(store, key(rpm=rpm), Demand()) == rpm


async def test_a_minute_refills_steadily(open_store: Open) -> None:
    """Whoever used it up waits for the next call, not for the next minute."""
    clock, subject = Clock(), key(rpm=60)
    async with open_store(clock) as store:
        await admitted(store, subject, Demand())

        clock.now += 2.5
        assert await admitted(store, subject, Demand()) == 2


async def test_by_the_second_a_key_has_a_sixtieth_of_its_minute_at_once(open_store: Open) -> None:
    """This is how Model Studio enforces them."""
    clock, subject = Clock(), key(rpm=600, tpm=60_000)
    async with open_store(clock, BY_SECOND) as store:
        assert await admitted(store, subject, Demand(1, 50)) == 10
        clock.now += 1
        assert await admitted(store, subject, Demand(1, 500)) == 2


async def test_a_guard_against_bursts_lets_a_minute_begin_slowly(open_store: Open) -> None:
    """The minute has room for all of them; what is behind it may not."""
    clock, subject = Clock(), key(rpm=600)
    async with open_store(clock, Pace(burst=3.0)) as store:
        assert await admitted(store, subject, Demand()) == 30
        verdict = await take(store, reservation(subject), Demand())

        assert isinstance(verdict, Refused)
        assert (verdict.which, round(verdict.wait_s, 3)) == ("burst", 0.033)


async def test_a_call_longer_than_a_minute_of_tokens_waits_for_a_full_one_and_leaves_debt(open_store: Open) -> None:
    """It must not be told to wait for ever, nor be let in again and again."""
    clock, subject = Clock(), key(tpm=1000)
    async with open_store(clock) as store:
        assert await admitted(store, subject, Demand(1, 100), 1) == 1

        early = await take(store, reservation(subject), Demand(1, 5000))
        clock.now += 6
        late = await take(store, reservation(subject), Demand(1, 5000))
        next_one = await take(store, reservation(subject), Demand(1, 1))

        assert isinstance(early, Refused)
        assert early.wait_s == pytest.approx(6)
        assert isinstance(late, Admitted)
        assert isinstance(next_one, Refused)
        assert next_one.wait_s == pytest.approx(240.06)


async def test_a_place_is_free_again_when_its_call_is_settled(open_store: Open) -> None:
    """And not before, however long it takes."""
    clock, subject = Clock(), key(concurrency=2)
    async with open_store(clock) as store:
        first, second, third = (reservation(subject) for _ in range(3))
        verdicts = [await take(store, one, Demand()) for one in (first, second, third)]
        store.settle(first, Demand(1, 10))

        assert [type(verdict) for verdict in verdicts] == [Admitted, Admitted, Refused]
        assert isinstance(await take(store, third, Demand()), Admitted)


async def test_a_budget_is_kept_to_the_nano(open_store: Open) -> None:
    """Refused is what spent, reserved and its own reservation together would pass it with, and nothing else."""
    clock, subject = Clock(), key(budget=Budget(100, period="day"))
    async with open_store(clock) as store:
        call = reservation(subject)
        assert isinstance(await take(store, call, Demand(1, 0, 60)), Admitted)
        assert isinstance(await take(store, reservation(subject), Demand(1, 0, 41)), Refused)
        assert isinstance(await take(store, reservation(subject), Demand(1, 0, 40)), Admitted)

        store.settle(call, Demand(1, 0, 25))
        verdict = await take(store, reservation(subject), Demand(1, 0, 36))

        assert isinstance(verdict, Refused)
        assert (verdict.state.spent, verdict.state.reserved) == (25, 40)
        assert isinstance(await take(store, reservation(subject), Demand(1, 0, 35)), Admitted)


async def test_what_costs_nothing_is_never_refused_for_money(open_store: Open) -> None:
    """A stand-in is free; a used-up or empty budget must not stop it."""
    async with open_store(Clock()) as store:
        assert await admitted(store, key(budget=Budget(0)), Demand(1, 10, 0), 3) == 3
        assert await admitted(store, key(budget=Budget(0)), Demand(1, 10, 1), 3) == 0


async def test_a_new_day_has_the_whole_budget_and_the_old_one_keeps_its_calls(open_store: Open) -> None:
    """A call is paid in the period in which it began, as its row in the ledger says."""
    clock, subject = Clock(NOON), key(budget=Budget(100, period="day"))
    async with open_store(clock) as store:
        yesterday = reservation(subject)
        await take(store, yesterday, Demand(1, 0, 90))
        clock.now += DAY_S

        today = reservation(subject, at=clock.now)
        assert isinstance(await take(store, today, Demand(1, 0, 100)), Admitted)
        store.settle(yesterday, Demand(1, 0, 90))
        store.settle(today, Demand(1, 0, 30))

        (state,) = await states(store, reservation(subject, at=clock.now))
        assert (state.spent, state.reserved) == (30, 0)


@pytest.mark.parametrize("limits", [{"rpm": 0}, {"tpm": 0}, {"concurrency": 0}])
async def test_a_limit_of_nothing_lets_nothing_through(open_store: Open, limits: dict[str, int]) -> None:
    """0 is not "no limit", and waiting does not help."""
    async with open_store(Clock()) as store:
        verdict = await take(store, reservation(key(**limits)), Demand(1, 0, 0))

        assert isinstance(verdict, Refused)
        assert verdict.wait_s == math.inf


# --- reserve and settle ----------------------------------------------------------------------------------------------


async def test_what_was_not_used_is_given_back(open_store: Open) -> None:
    """Callers allow long answers and get short ones; the difference must not count."""
    clock, subject = Clock(), key(tpm=1000)
    async with open_store(clock) as store:
        call = reservation(subject)
        await take(store, call, Demand(1, 1000))
        store.settle(call, Demand(1, 100))

        assert await admitted(store, subject, Demand(1, 90), 20) == 10


async def test_what_was_used_beyond_the_reservation_is_taken_too(open_store: Open) -> None:
    """It was generated; the next calls wait until it is made good."""
    clock, subject = Clock(), key(tpm=1000, budget=Budget(100))
    async with open_store(clock) as store:
        call = reservation(subject)
        await take(store, call, Demand(1, 500, 50))
        store.settle(call, Demand(1, 1500, 120))

        (state,) = await states(store, call)
        verdict = await take(store, reservation(subject), Demand(1, 10, 0))
        assert (state.spent, state.reserved) == (120, 0)
        assert isinstance(verdict, Refused)
        assert verdict.wait_s == pytest.approx(30.6)


async def test_a_call_counts_although_it_used_nothing(open_store: Open) -> None:
    """A limit of calls is one of attempts: a program that fails in a loop is the one to be slowed down."""
    async with open_store(Clock()) as store:
        for _ in range(2):
            call = reservation(key(rpm=2))
            await take(store, call, Demand(1, 10))
            store.settle(call, Demand(0))

        assert isinstance(await take(store, reservation(key(rpm=2)), Demand()), Refused)


async def test_a_recipe_with_one_place_may_make_further_calls(open_store: Open) -> None:
    """They add to the reservation of the call that they belong to, and are settled with it."""
    subject = key(concurrency=1, rpm=1, tpm=1000, budget=Budget(100))
    async with open_store(Clock()) as store:
        call = reservation(subject)
        await take(store, call, Demand(1, 200, 20))
        assert isinstance(await take(store, call, Demand(0, 300, 30)), Admitted)
        assert isinstance(await take(store, call, Demand(0, 600, 1)), Refused)
        assert isinstance(await take(store, call, Demand(0, 1, 51)), Refused)

        (held,) = await states(store, call)
        store.settle(call, Demand(1, 450, 45))
        (after,) = await states(store, call)

        assert (held.running, held.reserved) == (1, 50)
        assert (after.running, after.spent, after.reserved) == (0, 45, 0)
        assert await admitted(store, key(tpm=1000), Demand(1, 550), 2) == 1


async def test_a_refusal_by_one_of_several_changes_none_of_them(open_store: Open) -> None:
    """Whoever retries against a full workspace must not use up his key meanwhile."""
    mine, ours = key(rpm=5, tpm=100, concurrency=3, budget=Budget(50)), Subject("workspace", "w", Limits(concurrency=0))
    async with open_store(Clock()) as store:
        await take(store, reservation(mine), Demand(1, 10, 10))
        before = await states(store, reservation(mine))

        for _ in range(3):
            assert isinstance(await take(store, reservation(mine, ours), Demand(1, 10, 10)), Refused)

        assert await states(store, reservation(mine)) == before


async def test_the_limit_that_lasts_longest_is_the_one_that_is_named(open_store: Open) -> None:
    """Whoever is told to come back in a second must not be told to come back next month then."""
    mine, ours = key(rpm=1), Subject("workspace", "w", Limits(budget=Budget(5)))
    async with open_store(Clock()) as store:
        await take(store, reservation(mine, ours), Demand(1, 0, 5))

        verdict = await take(store, reservation(mine, ours), Demand(1, 0, 6))

        assert isinstance(verdict, Refused)
        assert (verdict.which, verdict.subject.kind, verdict.wait_s) == ("budget", "workspace", math.inf)


async def test_of_a_period_that_nobody_spoke_of_nothing_is_decided(open_store: Open) -> None:
    """What was spent before this process, or this Redis, stands in the ledger: it is asked, once."""
    asked: list[tuple[str, str]] = []

    async def spent(subject: Subject, since: object) -> int:
        asked.append((subject.ref, str(since)))
        await asyncio.sleep(0)
        return 70

    subject = key(budget=Budget(100, period="month"))
    async with open_store(Clock()) as store:
        meter = Meter(store, spent, wall=lambda: NOON)
        results = await asyncio.gather(*(meter.reserve([subject], 0, 10) for _ in range(8)), return_exceptions=True)

        assert sum(isinstance(result, Reservation) for result in results) == 3
        assert asked == [("key:k", "2026-09-01 00:00:00+00:00")]


async def test_money_of_a_call_that_died_is_charged_to_its_own_period(open_store: Open) -> None:
    """Its reservation lapses with its process, and what it had generated is in the ledger alone."""
    subject = key(budget=Budget(100, period="day"))
    async with open_store(Clock(NOON)) as store:
        await take(store, reservation(subject), Demand(1, 0, 10))
        meter = Meter(store, wall=lambda: NOON)

        meter.charge("chatcmpl-1", [subject], 25, began_at=NOON - 10)
        meter.charge("chatcmpl-2", [subject], 40, began_at=NOON - DAY_S)

        (state,) = await states(store, reservation(subject))
        assert (state.spent, state.reserved) == (25, 10)


# --- any order of anything -------------------------------------------------------------------------------------------

EVERYTHING = (
    Subject("key", "a", Limits(rpm=11, tpm=700, concurrency=4, budget=Budget(900, period="total"))),
    Subject("workspace", "w", Limits(tpm=1500, budget=Budget(1000, period="total"))),
    Subject("model", "m", Limits(rpm=17, concurrency=6)),
)


class Step(msgspec.Struct, frozen=True):
    """What happens next: time passes, then a call begins, asks for more, or ends with a share, in percent, of what it
    held."""

    what: Literal["begin", "more", "end"]
    wait_s: float
    whom: int
    tokens: int
    nanos: int
    share: int


steps = st.lists(
    st.builds(
        Step,
        what=st.sampled_from(["begin", "begin", "begin", "more", "end", "end"]),
        wait_s=st.sampled_from([0.0, 0.0, 0.01, 0.5, 3.0, 41.7, 300.0]),
        whom=st.integers(0, 20),
        tokens=st.integers(0, 900),
        nanos=st.integers(0, 300),
        share=st.integers(0, 140),
    ),
    max_size=40,
)


class Run:
    """A run of steps on one store, and what must be true of it after each.

    The laws are about calls that use no more than they hold; other runs are `lawless`.
    """

    def __init__(self, store: LimitStore, clock: Clock, subjects: tuple[Subject, ...], *, lawless: bool) -> None:
        self.lawless = lawless
        self.store = store
        self.clock = clock
        self.subjects = subjects
        self.open: list[Reservation] = []
        self.used: list[Demand] = []
        self.largest = 0
        self.began_at = clock.now
        self.seen: list[tuple[str, list[State]]] = []

    async def step(self, step: Step) -> None:
        self.clock.now += step.wait_s
        if step.what == "end":
            await self.end(step)
        elif step.what == "begin":
            await self.take(reservation(*self.subjects), Demand(1, step.tokens, step.nanos))
        elif self.open:
            await self.take(self.open[step.whom % len(self.open)], Demand(0, step.tokens, step.nanos))

    async def take(self, call: Reservation, demand: Demand) -> None:
        self.largest = max(self.largest, demand.tokens)
        verdict = await take(self.store, call, demand)
        self.seen.append((type(verdict).__name__, list(verdict.states)))
        if isinstance(verdict, Refused):
            self.check_reason(verdict, demand)
        elif demand.calls:
            self.open.append(call)
        if not self.lawless:
            self.check(verdict)

    async def end(self, step: Step) -> None:
        if self.open:
            call = self.open.pop(step.whom % len(self.open))
            held, share = call.held, step.share if self.lawless else min(step.share, 100)
            used = Demand(1, held.tokens * share // 100, held.nanos * share // 100)
            self.store.settle(call, used)
            self.used.append(used)

    def check_reason(self, verdict: Refused, demand: Demand) -> None:
        limits, state = verdict.subject.limits, verdict.state
        if verdict.which == "budget":
            assert limits.budget is not None
            assert state.spent + state.reserved + demand.nanos > limits.budget.nanos
        if verdict.which == "concurrency":
            assert limits.concurrency is not None
            assert state.running + demand.calls > limits.concurrency
        assert verdict.wait_s > 0

    def check(self, verdict: Admitted | Refused) -> None:
        held, used = [one.held for one in self.open], self.used
        tokens = sum(one.tokens for one in (*held, *used))
        elapsed_s = self.clock.now - self.began_at
        for subject, state in zip(self.subjects, verdict.states, strict=True):
            limits = subject.limits
            if limits.tpm is not None:
                assert tokens <= limits.tpm * (1 + elapsed_s / 60) + self.largest + 1e-3
            if limits.rpm is not None:
                assert len(held) + len(used) <= limits.rpm * (1 + elapsed_s / 60) + 1e-3
            if limits.concurrency is not None:
                assert state.running == len(held) <= limits.concurrency
            if limits.budget is not None:
                assert state.spent == sum(one.nanos for one in used)
                assert state.reserved == sum(one.nanos for one in held)
                assert state.spent + state.reserved <= limits.budget.nanos

    async def finish(self) -> None:
        """End every call with nothing used, and let a day pass: everything must be as new, but for what was spent."""
        for call in self.open:
            self.store.settle(call, Demand(0))
        self.clock.now += DAY_S
        for state in await states(self.store, reservation(*self.subjects)):
            assert max(state.requests_full_at, state.tokens_full_at) <= self.clock.now
            assert (state.running, state.reserved) == (0, 0)


@pytest.mark.parametrize("pace", [BY_MINUTE, BY_SECOND, Pace(burst=2.0)])
@SLOW
@given(steps=steps)
def test_whatever_happens_in_whatever_order_the_limits_hold(open_store: Open, pace: Pace, steps: list[Step]) -> None:
    """Tokens pass a limit by at most one reservation, money and places not at all, and no call is refused without a
    reason."""

    async def scenario() -> None:
        clock = Clock()
        async with open_store(clock, pace) as store:
            run = Run(store, clock, EVERYTHING, lawless=False)
            for step in steps:
                await run.step(step)
            await run.finish()

    asyncio.run(scenario())


@pytest.mark.parametrize("pace", [BY_MINUTE, BY_SECOND, Pace(burst=2.0)])
@SLOW
@given(steps=steps)
def test_memory_and_redis_decide_alike(redis: RedisServer, pace: Pace, steps: list[Step]) -> None:
    """They are two programs in two languages with one rule; a difference would be a limit that moves with the size of
    an installation."""

    async def scenario() -> list[Run]:
        runs = []
        for url in ("", redis.url):
            clock = Clock()
            async with opened(url, clock, pace) as store:
                run = Run(store, clock, EVERYTHING, lawless=True)
                for step in steps:
                    await run.step(step)
                runs.append(run)
        return runs

    memory, redis_run = asyncio.run(scenario())
    assert [(word, [numbers(state) for state in states]) for word, states in memory.seen] == [
        (word, [numbers(state) for state in states]) for word, states in redis_run.seen
    ]


def numbers(state: State) -> tuple[object, ...]:
    """Return a state without its period, which Redis is told of and memory keeps."""
    return msgspec.structs.astuple(msgspec.structs.replace(state, period="", ends_at=math.inf))


@SLOW
@given(
    sizes=st.lists(st.tuples(st.integers(1, 400), st.integers(0, 100)), min_size=1, max_size=60),
    pauses_s=st.lists(st.sampled_from([0.0, 0.0, 0.0002, 0.001]), min_size=20, max_size=20),
)
def test_however_callers_overlap_no_more_than_one_reservation_is_too_much(
    open_store: Open, sizes: list[tuple[int, int]], pauses_s: list[float]
) -> None:
    """All of them ask at once, work for a moment and settle; a third give up while they wait for the decision."""

    async def scenario() -> None:
        clock = Clock()
        subject = key(tpm=2000, concurrency=20, budget=Budget(1500))
        async with open_store(clock) as store:
            meter = Meter(store, wall=lambda: NOON)
            tokens = 0

            async def caller(number: int, size: int, share: int) -> None:
                nonlocal tokens
                try:
                    call = await meter.reserve([subject], size, size)
                except (TokensExceeded, BudgetExceeded, PlacesExceeded):
                    return
                used = size * share // 100
                try:
                    await asyncio.sleep(0)
                finally:
                    tokens += used
                    meter.settle(call, used, used)
                    meter.settle(call, used, used)  # again: nothing

            tasks = [asyncio.create_task(caller(number, *one)) for number, one in enumerate(sizes)]
            for task, pause_s in zip(tasks[::3], pauses_s, strict=False):
                await asyncio.sleep(pause_s)
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

            # What was admitted for somebody who has left is given back when Redis says so: behind this first question.
            await states(store, reservation(subject))
            (state,) = await states(store, reservation(subject))
            assert tokens <= 2000 + max(size for size, _ in sizes)
            assert state.spent == tokens <= 1500
            assert (state.running, state.reserved) == (0, 0)

    asyncio.run(scenario())


# --- Redis alone -----------------------------------------------------------------------------------------------------


async def test_what_a_dead_process_held_comes_back_after_its_lease(redis: RedisServer) -> None:
    """Nobody settles for a process that was killed; its place must not be lost for good."""
    clock, subject = Clock(), key(concurrency=1, budget=Budget(100))
    async with opened(redis.url, clock, lease_s=60) as store:
        await take(store, reservation(subject), Demand(1, 10, 80))

        clock.now += 59
        assert isinstance(await take(store, reservation(subject), Demand(1, 10, 80)), Refused)
        clock.now += 1
        assert isinstance(await take(store, reservation(subject), Demand(1, 10, 80)), Admitted)


async def test_a_call_that_outlived_its_lease_is_paid_all_the_same(redis: RedisServer) -> None:
    """Its process was away for longer than a lease, and is not dead."""
    clock, subject = Clock(), key(concurrency=1, budget=Budget(100))
    async with opened(redis.url, clock, lease_s=60) as store:
        late = reservation(subject)
        await take(store, late, Demand(1, 10, 80))
        clock.now += 61
        other = reservation(subject)
        await take(store, other, Demand(1, 10, 10))

        store.settle(late, Demand(1, 10, 50))

        (state,) = await states(store, reservation(subject))
        assert (state.running, state.spent, state.reserved) == (1, 50, 10)


async def test_the_same_charge_is_counted_once(redis: RedisServer) -> None:
    """A process that dies while it replays its journal replays it again."""
    subject, clock = key(budget=Budget(100)), Clock(NOON)
    async with opened(redis.url, clock) as store:
        await take(store, reservation(subject), Demand(1, 0, 1))
        for _ in range(3):
            store.charge("chatcmpl-1", subject, span(Budget(100), NOON), 20)

        (state,) = await states(store, reservation(subject))
        assert state.spent == 20


async def test_nothing_in_redis_is_for_ever_and_nothing_that_counts_is_lost_early(redis: RedisServer) -> None:
    """Keys of subjects that rest expire; those that still say something must not."""
    subject = key(rpm=1, tpm=10, concurrency=1)
    store = RedisStore(redis.url, limit_s=PATIENT_S, prefix="{expiry}")
    call = reservation(subject)
    await take(store, call, Demand(1, 100))
    paying = Subject("workspace", "w", Limits(budget=Budget(100)))
    await take(store, reservation(paying), Demand(1, 0, 10))
    await take(store, reservation(Subject("model", "m", Limits(rpm=1))), Demand())
    store.settle(call, Demand(1, 200))
    await states(store, call)

    client = import_module("redis").Redis(port=redis.port, decode_responses=True)
    ttls = {str(name): int(client.ttl(name)) for name in client.scan_iter("{expiry}*")}
    client.close()
    await store.close()

    day_s = int(DAY_S)
    assert set(ttls) >= {"{expiry}:limits:key:k", "{expiry}:limits:workspace:w", "{expiry}:limits:workspace:w:leases"}
    assert 1_200 <= ttls["{expiry}:limits:key:k"] <= 1_200 + 61
    assert 60 <= ttls["{expiry}:limits:model:m"] <= 60 + 61
    assert 31 * day_s < ttls["{expiry}:limits:workspace:w"] <= 35 * day_s
    assert 60 < ttls["{expiry}:limits:workspace:w:leases"] <= 120


async def test_amounts_beyond_what_a_double_holds_are_added_exactly(redis: RedisServer) -> None:
    """Lua counts in doubles; a company's budget of ten million yuan must not lose the last digits."""
    huge = 10_000_001 * 10**9 + 1
    subject = key(budget=Budget(3 * huge))
    async with opened(redis.url, Clock()) as store:
        for _ in range(2):
            call = reservation(subject)
            await take(store, call, Demand(1, 0, huge))
            store.settle(call, Demand(1, 0, huge))

        (state,) = await states(store, reservation(subject))
        assert (state.spent, state.reserved) == (2 * huge, 0)
