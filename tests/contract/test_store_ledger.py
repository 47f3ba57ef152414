"""What the ledger promises on every database: each call once, sums that agree with the rows, and old rows that go."""

import asyncio
import random
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import aclosing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hanlin.store.database import Store, open_store
from hanlin.store.rollups import SUMS, key_of, sums_of
from hanlin.store.rows import EVERYTHING, Content, Dimension, Filters, LedgerRow, Mark, Outcome, Total
from hanlin.types import Usage

NewDatabase = Callable[[], Path | str]

NOON = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)

APPEND = """
import asyncio, sys
from pathlib import Path
from hanlin.store.database import open_store
from tests.contract.test_store_ledger import some_calls

async def main():
    where = sys.argv[1] if "://" in sys.argv[1] else Path(sys.argv[1])
    rows = some_calls(2000)
    async with await open_store(where) as store:
        for start in range(0, 2000, 50):
            await store.ledger.append(rows[start : start + 50])
            print(start, flush=True)

asyncio.run(main())
"""


@pytest.fixture
async def store(ready_database: Path | str) -> AsyncIterator[Store]:
    async with await open_store(ready_database) as store:
        yield store


def call(id: str = "call-1", **fields: Any) -> LedgerRow:
    usual: dict[str, Any] = {
        "began_at": NOON,
        "key_id": "key-1",
        "workspace_id": "default",
        "surface": "chat",
        "model": "qwen-plus",
        "deployment": "gpu-1",
        "usage": Usage(10, 5),
        "cost_nanos": 100,
        "list_cost_nanos": 200,
    }
    return LedgerRow(id=id, **{**usual, **fields})


def some_calls(count: int, seed: int = 1) -> list[LedgerRow]:
    """Calls of five days that differ in everything that totals can be told apart by."""
    chance = random.Random(seed)
    return [
        call(
            f"call-{seed}-{number}",
            parent_id="call-0" if number % 7 == 0 else "",
            began_at=NOON - timedelta(seconds=chance.randrange(5 * 86_400)),
            key_id=chance.choice(("key-1", "key-2", "key-3")),
            workspace_id=chance.choice(("default", "ws-1")),
            surface=chance.choice(("chat", "embeddings")),
            model=chance.choice(("qwen-plus", "qwen-max")),
            deployment=chance.choice(("", "gpu-1")),
            outcome=chance.choice((*([Outcome.ANSWERED] * 5), Outcome.FAILED, Outcome.CANCELLED)),
            usage=Usage(chance.randrange(100), chance.randrange(50), chance.randrange(10), chance.randrange(10)),
            cache_created=chance.randrange(5),
            estimated=chance.random() < 0.1,
            currency=chance.choice(("CNY", "USD")),
            cost_nanos=chance.randrange(10**9),
            list_cost_nanos=chance.randrange(10**9),
        )
        for number in range(count)
    ]


async def all_rows(store: Store, filters: Filters = EVERYTHING, limit: int = 100) -> list[LedgerRow]:
    """Read everything, page by page."""
    rows: list[LedgerRow] = []
    page = await store.ledger.page(filters, limit=limit)
    rows += page.rows
    while page.next is not None:
        page = await store.ledger.page(filters, page.next, limit)
        rows += page.rows
    return rows


def counted(rows: Iterable[LedgerRow], by: Iterable[Dimension] = ()) -> dict[tuple[Any, ...], tuple[int, ...]]:
    """Count rows one by one, as a patient reader would."""
    found: dict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0] * len(SUMS))
    for row in rows:
        dimensions = {"day": key_of(row)[0], **msgspec.structs.asdict(row)}
        total = found[*(dimensions[name] for name in by), row.currency]
        for number, value in enumerate(sums_of(row)):
            total[number] += value
    return {key: tuple(values) for key, values in found.items()}


def told(totals: Iterable[Total], by: Iterable[Dimension] = ()) -> dict[tuple[Any, ...], tuple[int, ...]]:
    return {
        (*(getattr(total, name) for name in by), total.currency): (
            total.calls,
            total.failed,
            total.estimated,
            total.usage.prompt,
            total.usage.completion,
            total.usage.cached,
            total.usage.reasoning,
            total.cache_created,
            total.cost_nanos,
            total.list_cost_nanos,
        )
        for total in totals
    }


async def is_of_one_mind(store: Store) -> bool:
    """Say whether the daily sums are those of the rows."""
    return told(await store.ledger.totals()) == counted(await all_rows(store, limit=1000))


# Rows


async def test_a_row_comes_back_as_it_was_appended(store: Store) -> None:
    """Whatever was known about a call can be looked up, and nothing else."""
    row = call(
        parent_id="call-0",
        began_at=NOON.replace(microsecond=123_456),
        served="千问 32B",
        stream=True,
        outcome=Outcome.FAILED,
        status=500,
        code="internal_error",
        finish_reason="stop",
        usage=Usage(100, 20, 30, 10),
        cache_created=7,
        media={"image": 2},
        estimated=True,
        queue_ms=0.25,
        first_token_ms=12.5,
        total_ms=1e6,
        price_version="2026-11-01",
        currency="USD",
        cost_nanos=2**53 + 1,
        list_cost_nanos=2**62,
        told_prompt=2**40,
        told_completion=0,
    )

    usual = LedgerRow(id="", began_at=NOON, key_id="", workspace_id="", surface="", model="")
    assert [name for name in row.__struct_fields__ if getattr(row, name) == getattr(usual, name)] == []

    added = await store.ledger.append([row, call("call-2")])

    assert added == 2
    assert await store.ledger.find("call-1") == row
    assert await store.ledger.find("call-2") == call("call-2")
    assert await store.ledger.find("call-3") is None


async def test_a_row_that_is_appended_again_counts_once(store: Store) -> None:
    """Whoever died between writing and noting that it was written writes again."""
    rows = some_calls(1500)

    first = await store.ledger.append(rows)
    second = await store.ledger.append(rows)
    third = await store.ledger.append([rows[7], call("call-new"), rows[7]])

    assert (first, second, third) == (1500, 0, 1)
    assert len(await all_rows(store)) == 1501
    assert await is_of_one_mind(store)


async def test_the_first_row_of_an_id_counts(store: Store) -> None:
    """A bill that has been seen does not change."""
    await store.ledger.append([call(cost_nanos=100), call(cost_nanos=900)])

    await store.ledger.append([call(cost_nanos=900)])

    assert [row.cost_nanos for row in await all_rows(store)] == [100]
    assert await is_of_one_mind(store)


@pytest.mark.parametrize("together", [True, False])
async def test_the_real_row_takes_the_place_of_a_guess_whichever_comes_first(store: Store, together: bool) -> None:
    """After a crash a call looks interrupted until its row turns up; the guess must neither hide it nor count too."""
    guess = call("late", outcome=Outcome.INTERRUPTED, deployment="", estimated=True, cost_nanos=1)
    real = call("late", cost_nanos=100)
    early, guess_again = call("early", cost_nanos=7), call("early", outcome=Outcome.INTERRUPTED, cost_nanos=3)

    if together:
        await store.ledger.append([guess, early, guess_again, real])
    else:
        for row in (guess, early, guess_again, real):
            await store.ledger.append([row])

    assert await store.ledger.find("late") == real
    assert await store.ledger.find("early") == early
    assert await is_of_one_mind(store)
    assert [(total.calls, total.failed, total.cost_nanos) for total in await store.ledger.totals()] == [(2, 0, 107)]


async def test_a_guess_that_was_replaced_leaves_no_empty_sums_behind(store: Store) -> None:
    """Nobody was ever served by the deployment "", and no report shows it."""
    await store.ledger.append([call(outcome=Outcome.INTERRUPTED, deployment="")])

    replaced = await store.ledger.append([call(deployment="gpu-1")])

    assert replaced == 1
    assert [total.deployment for total in await store.ledger.totals(["deployment"])] == ["gpu-1"]


async def test_a_second_guess_changes_nothing(store: Store) -> None:
    """Two processes may find the same call cut short; the first one's word is as good."""
    first = call(outcome=Outcome.INTERRUPTED, cost_nanos=1)
    await store.ledger.append([first])

    added = await store.ledger.append([call(outcome=Outcome.INTERRUPTED, cost_nanos=2)])

    assert added == 0
    assert await all_rows(store) == [first]


async def test_an_odd_word_of_an_engine_stops_no_bill(store: Store) -> None:
    """PostgreSQL takes no zero byte and nobody encodes half a character; the batch around it is money."""
    rows = [call("call-1"), call("call-2", served="a\0b\ud800c", finish_reason="\0"), call("call-3")]

    added = await store.ledger.append(rows)
    again = await store.ledger.append(rows)

    odd = await store.ledger.find("call-2")
    assert (added, again) == (3, 0)
    assert odd is not None
    assert (odd.served, odd.finish_reason) == ("a\ufffdb?c", "\ufffd")


async def test_nothing_is_appended_to_an_empty_ledger_without_rows(store: Store) -> None:
    """A writer with nothing to write is the usual one."""
    assert await store.ledger.append([]) == 0
    assert await all_rows(store) == []
    assert await store.ledger.totals() == ()
    assert await store.ledger.spent(key_id="key-1") == 0


async def test_writers_of_several_processes_that_bring_the_same_rows_count_each_once(new_database: NewDatabase) -> None:
    """Two that replay one dead process's rows, beside those who write their own: no row twice, nobody stuck."""
    where = new_database()
    rows = some_calls(600)
    guesses = [msgspec.structs.replace(row, outcome=Outcome.INTERRUPTED, cost_nanos=1) for row in rows[:300]]
    async with await open_store(where) as one, await open_store(where) as other:
        await one.ledger.append(guesses[::2])
        shuffled = [random.Random(seed).sample([*rows, *guesses], 900) for seed in range(6)]

        added = await asyncio.gather(
            *(
                (one, other)[number % 2].ledger.append(batch[start : start + 150])
                for number, batch in enumerate(shuffled)
                for start in range(0, 900, 150)
            )
        )

        assert sorted(await all_rows(one), key=id_of) == sorted(rows, key=id_of)
        assert await is_of_one_mind(one)
        # Those that took the place of a guess were new twice.
        assert 450 <= sum(added) <= 900


def id_of(row: LedgerRow) -> str:
    return row.id


def killed_while_appending(where: Path | str) -> int:
    """Append calls in another process, kill it after five batches of fifty, and return its status."""
    command = [sys.executable, "-c", APPEND, str(where)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        for _ in range(5):
            writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
    return writer.returncode


async def test_what_a_killed_writer_had_begun_is_finished_by_appending_it_again(new_database: NewDatabase) -> None:
    """kill -9 in the middle: rows and sums were written together or not at all."""
    where = new_database()
    async with await open_store(where):
        pass

    assert killed_while_appending(where) == -signal.SIGKILL

    async with await open_store(where) as store:
        written = len(await all_rows(store, limit=1000))
        assert 250 <= written < 2000
        assert await is_of_one_mind(store)
        added = await store.ledger.append(some_calls(2000))

        assert added == 2000 - written
        assert await is_of_one_mind(store)


async def test_a_writer_that_lost_patience_leaves_the_ledger_to_others(store: Store) -> None:
    """A deadline cuts a transaction anywhere; nothing of it may stay, its lock least of all."""
    rows = some_calls(400)
    failures: list[object] = []

    async with asyncio.timeout(9):  # less than a writer waits for another one's lock
        for delay_ms in range(0, 40, 3):
            task = asyncio.create_task(store.ledger.append(rows))
            await asyncio.sleep(delay_ms / 1000)
            task.cancel()
            # Kept, as a log would: what is referred to by a traceback stays.
            failures += await asyncio.gather(task, return_exceptions=True)
        await store.ledger.append(rows)

    assert len(await all_rows(store)) == 400
    assert await is_of_one_mind(store)


# Pages


async def test_pages_go_from_the_newest_to_the_oldest_without_gap_or_repetition(store: Store) -> None:
    """Also where several calls began in one moment, and whatever the size of a page is."""
    moments = [NOON - timedelta(seconds=number // 4) for number in range(25)]
    rows = [call(f"call-{number:02}", began_at=moment) for number, moment in enumerate(moments)]
    await store.ledger.append(rows)
    newest_first = sorted(rows, key=lambda row: (row.began_at, row.id), reverse=True)

    for limit in (1, 3, 4, 24, 25, 26):
        assert await all_rows(store, limit=limit) == newest_first


async def test_the_last_page_says_that_it_is(store: Store) -> None:
    """Nobody should have to ask for an empty page to find out."""
    await store.ledger.append([call("call-1"), call("call-2")])

    whole = await store.ledger.page(limit=2)
    half = await store.ledger.page(limit=1)

    assert whole.next is None
    assert half.next == Mark(NOON, "call-2")


async def test_a_row_that_arrives_while_somebody_pages_moves_nothing(store: Store) -> None:
    """Pages that are counted from the top would show a row twice with each call that is made meanwhile."""
    await store.ledger.append([call(f"call-{number}", began_at=NOON - timedelta(hours=number)) for number in range(4)])
    first = await store.ledger.page(limit=2)

    await store.ledger.append([call("newer", began_at=NOON + timedelta(hours=1))])
    second = await store.ledger.page(before=first.next, limit=2)

    assert [row.id for row in (*first.rows, *second.rows)] == ["call-0", "call-1", "call-2", "call-3"]


@pytest.mark.parametrize(
    "filters",
    [
        Filters(key_id="key-2"),
        Filters(workspace_id="ws-1"),
        Filters(model="qwen-max"),
        Filters(outcome=Outcome.FAILED),
        Filters(outcome=Outcome.ANSWERED),
        Filters(outcome=Outcome.INTERRUPTED),
        Filters(since=NOON - timedelta(days=2)),
        Filters(until=NOON - timedelta(days=2)),
        Filters(key_id="key-1", model="qwen-plus", outcome=Outcome.CANCELLED, since=NOON - timedelta(days=4)),
        Filters(key_id="key-nobody"),
    ],
)
async def test_filters_leave_the_rows_that_meet_all_of_them(store: Store, filters: Filters) -> None:
    """`since` is part of the time and `until` is not, so that two months next to each other share no call."""
    rows = some_calls(300)
    await store.ledger.append(rows)

    found = await all_rows(store, filters, limit=40)

    assert sorted(found, key=id_of) == sorted((row for row in rows if meets(row, filters)), key=id_of)


def meets(row: LedgerRow, filters: Filters) -> bool:
    return (
        filters.key_id in ("", row.key_id)
        and filters.workspace_id in ("", row.workspace_id)
        and filters.model in ("", row.model)
        and filters.outcome in (None, row.outcome)
        and (filters.since is None or filters.since <= row.began_at)
        and (filters.until is None or row.began_at < filters.until)
    )


async def test_the_ends_of_a_time_are_exact(store: Store) -> None:
    """A call at midnight belongs to one of two bills."""
    midnight = datetime(2026, 12, 1, tzinfo=UTC)
    just_before = midnight - timedelta(microseconds=1)
    await store.ledger.append([call("before", began_at=just_before), call("at", began_at=midnight)])

    november = await store.ledger.page(Filters(until=midnight))
    december = await store.ledger.page(Filters(since=midnight))

    assert [row.id for row in november.rows] == ["before"]
    assert [row.id for row in december.rows] == ["at"]
    assert [total.calls for total in await store.ledger.totals(filters=Filters(since=just_before))] == [2]
    assert [total.calls for total in await store.ledger.totals(filters=Filters(since=midnight))] == [1]


# Totals


async def test_totals_are_what_counting_row_by_row_comes_to(store: Store) -> None:
    """By days, by parts of days, by rows: the same numbers, told apart by whatever is asked for."""
    rows = some_calls(1000)
    await store.ledger.append(rows)
    chance = random.Random(2)
    dimensions: tuple[Dimension, ...] = ("day", "key_id", "workspace_id", "model", "deployment", "surface")

    for _ in range(60):
        by = [name for name in dimensions if chance.random() < 0.4]
        since, until = (NOON - timedelta(seconds=chance.randrange(6 * 86_400)) for _ in range(2))
        filters = Filters(
            key_id=chance.choice(("", "", "key-1")),
            workspace_id=chance.choice(("", "", "ws-1")),
            model=chance.choice(("", "", "qwen-max")),
            outcome=chance.choice((None, None, Outcome.FAILED, Outcome.ANSWERED)),
            since=chance.choice((None, min(since, until))),
            until=chance.choice((None, max(since, until))),
        )

        totals = await store.ledger.totals(by, filters)

        assert told(totals, by) == counted((row for row in rows if meets(row, filters)), by), (by, filters)


async def test_totals_keep_currencies_apart_and_come_in_order(store: Store) -> None:
    """Yuan and dollars have no sum."""
    days = [NOON - timedelta(days=number) for number in range(2)]
    await store.ledger.append(
        [
            call(f"call-{currency}-{number}", currency=currency, began_at=day)
            for currency in ("USD", "CNY")
            for number, day in enumerate(days)
        ]
    )

    totals = await store.ledger.totals(["day"])

    assert [(total.day, total.currency) for total in totals] == [
        (date(2026, 11, 25), "CNY"),
        (date(2026, 11, 25), "USD"),
        (date(2026, 11, 26), "CNY"),
        (date(2026, 11, 26), "USD"),
    ]
    assert all(total.key_id is None and total.usage == Usage(10, 5) for total in totals)


async def test_an_unknown_dimension_is_refused_by_name(store: Store) -> None:
    """Totals that are told apart by less than was asked for look right."""
    with pytest.raises(ValueError, match=r"^colour: not a dimension"):
        await store.ledger.totals(["model", "colour"])  # type: ignore[list-item]


# What was spent


async def test_what_was_spent_counts_one_currency_from_a_time_on(store: Store) -> None:
    """A budget is loaded with it at the start of a process, in the middle of its period."""
    await store.ledger.append(
        [
            call("now", cost_nanos=1),
            call("this month", began_at=NOON.replace(day=1), cost_nanos=10),
            call("last month", began_at=NOON.replace(month=10), cost_nanos=100),
            call("dollars", currency="USD", cost_nanos=1000),
            call("of another", key_id="key-2", cost_nanos=10_000),
            call("elsewhere", workspace_id="ws-1", cost_nanos=100_000),
        ]
    )
    month = datetime(2026, 11, 1, tzinfo=UTC)

    spent = store.ledger.spent
    assert await spent(key_id="key-1") == 100_111
    assert await spent(key_id="key-1", since=month) == 100_011
    assert await spent(key_id="key-1", since=NOON.replace(day=1, hour=13)) == 100_001
    assert await spent(key_id="key-1", currency="USD", since=month) == 1000
    assert await spent(workspace_id="default", since=month) == 10_011
    assert await spent(workspace_id="ws-1", since=NOON) == 100_000
    assert await spent(key_id="key-unknown", since=month) == 0


async def test_a_rotation_does_not_begin_a_budget_anew(store: Store) -> None:
    """Or else whoever may rotate a key may spend without end."""
    first = await store.keys.add("ci", "hash-a", "")
    second = await store.keys.rotate(first.id, "hash-b", "", timedelta(hours=1))
    third = await store.keys.rotate(second.id, "hash-c", "", timedelta(hours=1))
    other = await store.keys.add("other", "hash-d", "")
    await store.ledger.append(
        [
            call(f"call-{number}", key_id=key.id, cost_nanos=10**number)
            for number, key in enumerate((first, second, third, other))
        ]
    )

    spent = [await store.ledger.spent(key_id=key.id) for key in (first, second, third, other)]

    assert spent == [111, 111, 111, 1000]


async def test_spending_of_a_model_is_that_of_all_its_names(store: Store) -> None:
    """An alias is the model; another model is not, nor is another currency."""
    names = ("qwen-plus", "qwen-plus-0919", "qwen-max")
    for number, name in enumerate(names):
        await store.ledger.append([call(f"call-{number}", model=name, cost_nanos=10**number)])
    await store.ledger.append([call("call-dollars", model="qwen-plus", cost_nanos=10**6, currency="USD")])

    spent = await store.ledger.spent(models=names[:2])
    lately = await store.ledger.spent(models=names[:2], since=NOON + timedelta(days=400))

    assert (spent, lately) == (11, 0)


@pytest.mark.parametrize(("key_id", "workspace_id"), [("", ""), ("key-1", "default")])
async def test_spending_is_somebodys(store: Store, key_id: str, workspace_id: str) -> None:
    """Neither everybody's nor that of a key within a workspace: nobody has a budget for those."""
    with pytest.raises(ValueError, match="name a key, a workspace or models"):
        await store.ledger.spent(key_id=key_id, workspace_id=workspace_id)


# Prompts and answers


def content(id: str, **fields: Any) -> Content:
    usual = {"began_at": NOON, "workspace_id": "default", "prompt": '{"messages":[]}', "answer": '{"choices":[]}'}
    return Content(call_id=id, **{**usual, **fields})


async def test_what_a_call_said_is_found_by_its_id_and_the_first_counts(store: Store) -> None:
    """Whoever is not sure whether it arrived appends it again; nobody else's comes with it."""
    long = content("call-1", prompt='{"prompt":"' + "千" * 300_000 + '"}')
    await store.contents.append([long, content("call-2")])
    await store.contents.append([content("call-1", answer="other")])

    assert await store.contents.find("call-1") == long
    assert await store.contents.find("call-3") is None


async def test_a_purge_takes_prompts_and_answers_with_the_rows(store: Store) -> None:
    """Also of calls whose rows never came; what is younger stays."""
    old = NOON - timedelta(days=30)
    await store.ledger.append([call("old", began_at=old), call("new")])
    await store.contents.append(
        [content("old", began_at=old), content("without-row", began_at=old), content("new"), content("new-without-row")]
    )

    gone = [count async for count in store.ledger.purge(NOON - timedelta(days=1))]

    found = [await store.contents.find(one) for one in ("old", "without-row", "new", "new-without-row")]
    assert gone == [1]
    assert [one is not None for one in found] == [False, False, True, True]


# Retention


async def test_a_purge_deletes_old_rows_in_batches_and_keeps_the_sums(store: Store) -> None:
    """Whoever pays for a year needs the year's sums, not its rows."""
    rows = some_calls(300)
    await store.ledger.append(rows)
    by: list[Dimension] = ["day", "key_id", "model"]
    before, border = await store.ledger.totals(by), NOON - timedelta(days=2, hours=3)
    old = [row for row in rows if row.began_at < border]

    gone = [so_far async for so_far in store.ledger.purge(border, batch=50)]

    assert gone == [*range(50, len(old), 50), len(old)]
    assert sorted(await all_rows(store), key=id_of) == sorted((row for row in rows if row not in old), key=id_of)
    assert await store.ledger.totals(by) == before
    assert [so_far async for so_far in store.ledger.purge(border)] == []


@pytest.mark.parametrize("batch", [0, 10_001])
async def test_a_batch_that_is_none_or_too_much_is_refused(store: Store, batch: int) -> None:
    """Batches are how others get their turn, and how a statement stays within what databases take."""
    with pytest.raises(ValueError, match="it has 1 to 10000 rows"):
        await anext(store.ledger.purge(NOON, batch))


async def test_a_purge_holds_nothing_between_its_batches(store: Store) -> None:
    """Whoever follows its progress may write, and may stop it there."""
    await store.ledger.append([call(f"old-{number}", began_at=NOON - timedelta(days=9)) for number in range(20)])

    async with aclosing(store.ledger.purge(NOON - timedelta(days=1), batch=5)) as purge:
        async for so_far in purge:
            await store.ledger.append([call(f"new-{so_far}")])
            if so_far == 10:
                break

    assert sorted(row.id for row in await all_rows(store) if row.id.startswith("new")) == ["new-10", "new-5"]
    assert len(await all_rows(store)) == 12


async def test_writers_beside_a_purge_lose_nothing(new_database: NewDatabase) -> None:
    """Also when the purge runs in another process, for which a second store stands."""
    where = new_database()
    async with await open_store(where) as store, await open_store(where) as cleaner:
        await store.ledger.append([call(f"old-{number}", began_at=NOON - timedelta(days=9)) for number in range(300)])

        async def clean() -> None:
            async for _ in cleaner.ledger.purge(NOON - timedelta(days=1), batch=10):
                pass

        await asyncio.gather(
            clean(), *(store.ledger.append([call(f"new-{n}-{m}") for m in range(20)]) for n in range(10))
        )

        assert len(await all_rows(store)) == 200
        assert [total.calls for total in await store.ledger.totals()] == [500]
