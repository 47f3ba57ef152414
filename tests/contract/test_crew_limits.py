"""Limits of a service with several workers: what becomes of them when somebody dies, or does not answer.

That they decide as in one process is tested beside the other stores (`test_metering_stores`).
"""

import asyncio
from datetime import UTC, datetime

import msgspec
import pytest

from hanlin.errors import BudgetExceeded, LimitsUnavailable, PlacesExceeded
from hanlin.metering.limits import Subject
from hanlin.metering.memory import MemoryStore
from hanlin.metering.reserving import Meter
from hanlin.service.crew.counting import Counter
from hanlin.service.crew.limits import CoordinatedStore
from hanlin.store.rows import Budget, LedgerRow, Limits, Outcome
from hanlin.types import Usage
from tests.crew import Main, main_process, until
from tests.values import Clock

PATIENT_S = 20.0


def key(**limits: object) -> Subject:
    return Subject("key", "k", Limits(**limits))  # type: ignore[arg-type]


def row(call: str, nanos: int, tokens: int = 10) -> LedgerRow:
    return LedgerRow(
        id=call,
        began_at=datetime.now(UTC),
        key_id="k",
        workspace_id="default",
        surface="chat",
        model="qwen-plus",
        outcome=Outcome.INTERRUPTED,
        usage=Usage(tokens),
        cost_nanos=nanos,
    )


async def meter(main: Main, limit_s: float = PATIENT_S) -> Meter:
    return Meter(CoordinatedStore(await main.join(), limit_s=limit_s))


async def test_two_workers_have_one_limit() -> None:
    """The sum of what they let through is what the key may do."""
    subject = key(concurrency=3)
    async with main_process() as main:
        one, other = await meter(main), await meter(main)
        held = [await one.reserve([subject], 1), await other.reserve([subject], 1), await one.reserve([subject], 1)]

        with pytest.raises(PlacesExceeded):
            await other.reserve([subject], 1)
        one.settle(held[0], 1)
        await other.reserve([subject], 1)


async def test_calls_without_limits_never_ask() -> None:
    """They go on while the main process stands still, and cost nothing."""
    async with main_process() as main:
        free = await meter(main)

    reservation = await free.reserve([Subject("key", "k")], 10, 10)
    free.settle(reservation, 1)


async def test_what_a_dead_worker_held_comes_back_at_once_and_its_money_with_the_row() -> None:
    """A place is free; money that may have been spent is not, before it is known what was."""
    subject = key(concurrency=1, budget=Budget(100, "CNY", "total"))
    async with main_process() as main:
        line = await main.join()
        dying, other = Meter(CoordinatedStore(line, limit_s=PATIENT_S)), await meter(main)
        await dying.reserve([subject], 10, 80, call="call-1")

        main.hangs_up(line)
        await until(lambda: main.counter.orphans == 1, "the main process has noticed")
        with pytest.raises(BudgetExceeded):
            await other.reserve([subject], 10, 30)
        other.release(await other.reserve([subject], 10, 20))

        main.counter.found(row("call-1", 60))
        await until(lambda: main.counter.orphans == 0, "its row has settled it")
        with pytest.raises(BudgetExceeded):
            await other.reserve([subject], 10, 41)
        await other.reserve([subject], 10, 40)


async def test_a_call_that_was_paid_in_another_currency_costs_a_budget_nothing() -> None:
    """Another deployment answered than the one that it was reserved for; budgets count only their own money."""
    subject = key(budget=Budget(100, "CNY", "total"))
    async with main_process() as main:
        line = await main.join()
        await Meter(CoordinatedStore(line, limit_s=PATIENT_S)).reserve([subject], 10, 80, call="call-1")
        main.hangs_up(line)
        main.counter.found(msgspec.structs.replace(row("call-1", 60), currency="USD"))
        await until(lambda: main.counter.held == 0 and main.counter.orphans == 0, "its row has settled it")

        await (await meter(main)).reserve([subject], 10, 100)


async def test_a_row_that_is_read_before_the_death_is_noticed_counts_too() -> None:
    """The journal's lock and the socket are let go by the kernel in its own order."""
    subject = key(budget=Budget(100, "CNY", "total"))
    async with main_process() as main:
        line = await main.join()
        dying, other = Meter(CoordinatedStore(line, limit_s=PATIENT_S)), await meter(main)
        await dying.reserve([subject], 10, 80, call="call-1")

        main.counter.found(row("call-1", 60))
        main.hangs_up(line)
        await until(lambda: main.counter.held == 0 and main.counter.orphans == 0, "it is settled")

        with pytest.raises(BudgetExceeded):
            await other.reserve([subject], 10, 41)
        await other.reserve([subject], 10, 40)


async def test_money_of_a_call_that_never_began_comes_back_once_everything_is_read() -> None:
    """A worker may die between the decision and its journal: then there is no row, and nobody was asked for a token."""
    clock = Clock()
    counter = Counter(MemoryStore(clock=clock, wall=clock), clock)
    subject = key(budget=Budget(100, "CNY", "total"))
    async with main_process(counter=counter) as main:
        line = await main.join()
        await Meter(CoordinatedStore(line, limit_s=PATIENT_S)).reserve([subject], 10, 80, call="call-1")
        main.hangs_up(line)
        await until(lambda: counter.orphans == 1, "the main process has noticed")

        clock.now += 11
        counter.tidy(all_read=False)
        assert counter.orphans == 1
        counter.tidy(all_read=True)

        assert counter.orphans == 0
        await (await meter(main)).reserve([subject], 10, 100)


async def test_money_of_a_recipes_call_is_looked_up_once_everything_is_read() -> None:
    """What it cost stands in other rows, and some of them were in the database before the worker died."""
    counter = Counter()
    looked_up: list[str] = []
    counter.store.on_forgotten = lambda subject, _: looked_up.append(subject.id)
    subject = key(budget=Budget(100, "CNY", "total"))
    async with main_process(counter=counter) as main:
        line = await main.join()
        await Meter(CoordinatedStore(line, limit_s=PATIENT_S)).reserve([subject], 10, 80, call="call-1")
        main.hangs_up(line)
        await until(lambda: counter.orphans == 1, "the main process has noticed")
        counter.found(msgspec.structs.replace(row("call-1", 0), told_prompt=7, told_completion=3))

        counter.tidy(all_read=False)
        assert (counter.orphans, looked_up) == (1, [])
        counter.tidy(all_read=True)

        assert (counter.orphans, looked_up) == (0, [subject.id])


async def test_a_call_that_was_settled_is_not_charged_again_by_its_row() -> None:
    """A dead worker's journal holds rows of calls that had ended, too."""
    subject = key(budget=Budget(100, "CNY", "total"))
    async with main_process() as main:
        line = await main.join()
        dying, other = Meter(CoordinatedStore(line, limit_s=PATIENT_S)), await meter(main)
        reservation = await dying.reserve([subject], 10, 80, call="call-1")
        dying.settle(reservation, 10, 60)
        await until(lambda: main.counter.held == 0, "it is settled")

        main.hangs_up(line)
        main.counter.found(row("call-1", 60))

        await other.reserve([subject], 10, 40)


async def test_a_decision_that_comes_too_late_is_given_back() -> None:
    """Whoever asked was refused, and holds nothing; others are refused at once until the main process is heard."""
    subject, hears = key(concurrency=1), asyncio.Event()
    async with main_process() as main:
        line = await main.join(hears=hears)
        hasty = Meter(CoordinatedStore(line, limit_s=0.05))
        with pytest.raises(LimitsUnavailable):
            await hasty.reserve([subject], 1)
        assert line.is_away
        asked = line.number()
        with pytest.raises(LimitsUnavailable):
            await hasty.reserve([subject], 1)
        assert line.number() == asked + 1, "nobody asks who is away"

        hears.set()
        await until(lambda: not line.is_away, "it is heard again")

        hasty.settle(await hasty.reserve([subject], 1), 1)
        await until(lambda: main.counter.held == 0, "all is given back")


async def test_who_gives_up_waiting_holds_nothing() -> None:
    """A caller hangs up while the decision is on its way."""
    subject = key(concurrency=1)
    async with main_process() as main:
        one = await meter(main)
        asking = asyncio.create_task(one.reserve([subject], 1))
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)

        await one.reserve([subject], 1)


async def test_without_the_main_process_limited_calls_are_refused_at_once() -> None:
    """Nothing may be used beyond a limit; and a refusal that takes long is a stall."""
    async with main_process() as main:
        one = await meter(main)

    with pytest.raises(LimitsUnavailable):
        await one.reserve([key(rpm=10)], 1)
    assert one.standing().why
