"""What the meter promises its callers, on the store of one process; and what it costs to promise nothing."""

import asyncio
import sys
from datetime import UTC, datetime
from typing import Any

import pytest

from hanlin.errors import (
    BudgetExceeded,
    LimitsUnavailable,
    PlacesExceeded,
    StartupError,
    StoreFailed,
    TokensExceeded,
    UnsupportedHere,
)
from hanlin.metering.limits import Demand, Subject
from hanlin.metering.memory import MemoryStore
from hanlin.metering.outage import divided
from hanlin.metering.periods import span
from hanlin.metering.rates import Rates, Window
from hanlin.metering.redis import RedisStore
from hanlin.metering.reserving import Meter, Reservation, Spent, nothing_spent
from hanlin.store.rows import UNLIMITED, Budget, Limits
from tests.metering import states
from tests.values import Clock

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC).timestamp()
DAY_S = 86_400


def key(name: str = "k", **limits: Any) -> Subject:
    return Subject("key", name, Limits(**limits))


def meter(clock: Clock | None = None, spent: Spent = nothing_spent) -> tuple[Meter, MemoryStore]:
    clock = clock or Clock(NOON)
    store = MemoryStore(clock=clock, wall=clock)
    return Meter(store, spent, wall=clock), store


async def test_whoever_has_no_limits_leaves_no_trace() -> None:
    """Most calls are such calls; they must cost nothing, and ten million keys no memory."""
    one, store = meter()
    nobody = [key(), Subject("workspace", "w"), Subject("model", "m", UNLIMITED)]

    reservation = await one.reserve(nobody, 10**9, 10**15)
    await one.extend(reservation, 10**9, 10**15)
    one.settle(reservation, 10**9, 10**15)

    assert store.standing().subjects == 0
    assert one.rates(reservation) == Rates()


async def test_settling_twice_settles_once() -> None:
    """A stream's end and its caller's hang-up come together."""
    one, store = meter()
    subject = key(tpm=1_000, concurrency=2, budget=Budget(1_000))
    first, _second = await one.reserve([subject], 100, 100), await one.reserve([subject], 100, 100)

    for used in (40, 70, 0):
        one.settle(first, used, used)
    one.release(first)

    (state,) = await states(store, first)
    assert (state.running, state.spent, state.reserved) == (1, 40, 100)


async def test_nothing_generated_gives_everything_back_but_the_call() -> None:
    """A call that found no engine costs no tokens and no money; it was a call."""
    one, store = meter()
    subject = key(rpm=2, tpm=100, concurrency=1, budget=Budget(100))

    for _ in range(2):
        one.release(await one.reserve([subject], 100, 100))

    (state,) = await states(store, Reservation([subject], [span(Budget(100), NOON)]))
    assert (state.running, state.spent, state.reserved) == (0, 0, 0)
    assert state.tokens_full_at <= NOON
    assert state.requests_full_at == NOON + 60


async def test_a_refused_extension_leaves_what_was_held() -> None:
    """The recipe may wait, or end with what it has; its reservation is still its own."""
    one, store = meter()
    subject = key(tpm=1_000, concurrency=1, budget=Budget(100))
    call = await one.reserve([subject], 600, 60)
    with pytest.raises(TokensExceeded):
        await one.extend(call, 500, 1)
    with pytest.raises(BudgetExceeded):
        await one.extend(call, 1, 41)
    with pytest.raises(PlacesExceeded):
        await one.reserve([subject], 1, 1)

    await one.extend(call, 400, 40)

    assert call.held == Demand(1, 1_000, 100)
    one.settle(call, 0, 0)
    (state,) = await states(store, call)
    assert (state.running, state.spent, state.reserved) == (0, 0, 0)


async def test_what_is_left_is_told_with_every_call_that_is_admitted() -> None:
    """By the decision itself: the headers of two calls at once do not say the same."""
    one, _ = meter()
    subject = key(rpm=10, tpm=6_000)

    first, second = await one.reserve([subject], 1_000), await one.reserve([subject], 2_000)

    assert one.rates(first) == Rates(Window(10, 9, 6.0), Window(6_000, 5_000, 10.0))
    assert one.rates(second) == Rates(Window(10, 8, 12.0), Window(6_000, 3_000, 30.0))


async def test_money_that_turns_out_to_be_of_another_currency_leaves_the_budget_as_it_was() -> None:
    """Somebody else answered in the end: dollars are no yuan, and the ledger's sum has them apart as well."""
    one, store = meter()
    subject = key(tpm=1_000, budget=Budget(1_000))
    first, second = await one.reserve([subject], 100, 100), await one.reserve([subject], 100, 100)

    one.settle(first, 40, 70, currency="USD")
    one.settle(second, 40, 70, currency="CNY")

    (state,) = await states(store, first)
    assert (state.spent, state.reserved) == (70, 0)


async def test_money_of_another_currency_than_the_budget_is_refused() -> None:
    """A budget that silently counts nothing is worse than none; what costs nothing has no currency."""
    one, _ = meter()
    subject = key(budget=Budget(100, "CNY"))

    with pytest.raises(UnsupportedHere, match=r"is in CNY, and what answers here is paid in USD|以 CNY 计"):
        await one.reserve([subject], 10, 10, currency="USD")

    await one.reserve([subject], 10, 0, currency="USD")


async def test_the_ledger_is_asked_once_for_each_period() -> None:
    """By whoever comes first; the others wait for the same answer."""
    asked: list[datetime | None] = []
    clock = Clock(NOON)

    async def spent(_subject: Subject, since: datetime | None) -> int:
        asked.append(since)
        await asyncio.sleep(0)
        return 95

    one, _ = meter(clock, spent)
    subject = key(budget=Budget(100, period="day"))

    results = await asyncio.gather(*(one.reserve([subject], 0, 5) for _ in range(5)), return_exceptions=True)
    clock.now += DAY_S
    await one.reserve([subject], 0, 5)

    assert sorted(type(result).__name__ for result in results) == ["BudgetExceeded"] * 4 + ["Reservation"]
    assert asked == [datetime(2026, 11, 26, tzinfo=UTC), datetime(2026, 11, 27, tzinfo=UTC)]


async def test_a_ledger_that_cannot_be_read_stops_whoever_has_a_budget_and_nobody_else() -> None:
    """Only until it can: what was spent before is not known, and might be everything."""
    broken = [True]

    async def spent(_subject: Subject, _since: datetime | None) -> int:
        if broken[0]:
            raise StoreFailed
        return 0

    one, _ = meter(spent=spent)
    subject = key(budget=Budget(100))
    with pytest.raises(LimitsUnavailable):
        await one.reserve([subject], 10, 10)
    await one.reserve([key("other", rpm=1)], 10, 10)
    await one.reserve([subject], 10, 0)
    broken[0] = False

    await one.reserve([subject], 10, 10)


async def test_a_caller_that_leaves_does_not_end_the_question_that_others_wait_for() -> None:
    """It is one question of many callers."""
    answer = asyncio.Event()

    async def spent(_subject: Subject, _since: datetime | None) -> int:
        await answer.wait()
        return 0

    one, _ = meter(spent=spent)
    subject = key(budget=Budget(100))
    leaving, staying = (asyncio.create_task(one.reserve([subject], 0, 10)) for _ in range(2))
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    answer.set()

    assert isinstance(await staying, Reservation)


async def test_what_nobody_can_tell_is_looked_up() -> None:
    """A recipe's call that died has its cost in rows that somebody else may have stored: the ledger has them all."""

    async def spent(_subject: Subject, _since: datetime | None) -> int:
        return 70

    one, store = meter(spent=spent)
    subject = key(budget=Budget(100))
    store.begin(subject, span(Budget(100), NOON), 0)

    one.look_up([subject, key("unlimited")], NOON)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    with pytest.raises(BudgetExceeded):
        await one.reserve([subject], 1, 40)
    await one.reserve([subject], 1, 30)
    await one.close()


async def test_subjects_that_rest_are_forgotten() -> None:
    """A year of temporary keys must not fill the memory; whoever still uses something is kept."""
    clock = Clock(NOON)
    one, store = meter(clock)
    busy = key("busy", concurrency=1)
    await one.reserve([busy], 1)
    paying = key("paying", budget=Budget(100, period="day"))
    one.settle(await one.reserve([paying], 0, 60), 0, 60)

    for number in range(10_000):
        clock.now += 0.1
        one.settle(await one.reserve([key(f"{number}", rpm=60)], 1), 1)

    assert store.standing().subjects < 2_500
    with pytest.raises(PlacesExceeded):
        await one.reserve([busy], 1)
    with pytest.raises(BudgetExceeded):
        await one.reserve([paying], 0, 41)


async def test_what_a_budget_spent_is_forgotten_when_its_period_is_over() -> None:
    """Yesterday's counters are of no use to anybody."""
    clock = Clock(NOON)
    one, store = meter(clock)
    for number in range(1_000):
        subject = key(f"{number}", budget=Budget(100, period="day"))
        one.settle(await one.reserve([subject], 0, 60), 0, 60)
    clock.now += DAY_S

    for number in range(100):
        one.settle(await one.reserve([key(f"new {number}", rpm=60)], 1), 1)

    assert store.standing().subjects < 150


def test_a_share_divides_what_is_left_and_never_rounds_a_budget_up() -> None:
    """The processes together must not have more than there is; one call at a time is the least that is a share."""
    limits = Limits(rpm=10, tpm=1_000, concurrency=1, budget=Budget(1_000))

    share = divided(limits, 3, spent=401)

    assert share == Limits(4, 334, 1, Budget(401 + 199))
    assert divided(limits, 3, spent=2_000).budget == Budget(2_000)
    assert divided(Limits(rpm=0), 3, spent=0) == Limits(rpm=0)


def test_redis_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an extra: one process needs none."""
    monkeypatch.setitem(sys.modules, "redis.asyncio.connection", None)

    with pytest.raises(StartupError, match=r"pip install 'hanlin\[redis\]'"):
        RedisStore("redis://127.0.0.1:1")


def test_an_address_that_is_none_stops_the_start_and_hides_its_password() -> None:
    """The setting may hold one."""
    with pytest.raises(StartupError) as caught:
        RedisStore("http://:secret@127.0.0.1:1")

    assert "secret" not in str(caught.value)
    assert "redis://" in str(caught.value)
