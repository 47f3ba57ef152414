"""What changes while a service runs: price lists, limits of models, workspaces that keep content."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
from msgspec.structs import replace

from hanlin.catalogue.models import PriceTier
from hanlin.errors import RequestsExceeded, StoreFailed
from hanlin.metering.prices import PriceList
from hanlin.service import accounting as accounting_module
from hanlin.service.accounting import Accounting, Bill
from hanlin.service.charging import most_of_text
from hanlin.store.database import Store, open_store
from hanlin.store.prices import Prices
from hanlin.store.rows import Limits
from hanlin.types import Answering, Served
from tests.values import LIMIT_S, catalogue_of, model

CATALOGUE = catalogue_of(model(prices=(PriceTier(1.0, 2.0),)), model("qwen-max"))
ANSWERING = Answering("qwen-plus", "gpu", "", Served.UPSTREAM)


class Away:
    """Prices of a database that does not take them until it is back. `tried` is set when it was asked to."""

    def __init__(self, prices: Prices) -> None:
        self.prices = prices
        self.is_back = False
        self.tried = asyncio.Event()

    async def keep(self, version: str, text: str) -> Any:
        self.tried.set()
        if not self.is_back:
            raise StoreFailed
        return await self.prices.keep(version, text)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with await open_store(tmp_path / "hanlin.db") as store:
        yield store


@pytest.fixture
async def accounting(store: Store, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Accounting]:
    """Looks for changes all the time, and keeps no ledger."""
    monkeypatch.setattr(accounting_module, "_LOOK_S", 0.002)
    accounting = Accounting(store, CATALOGUE)
    await accounting.start()
    yield accounting
    await accounting.close()


async def admitted(accounting: Accounting, store: Store) -> Bill:
    [key] = await store.keys.all() or [await store.keys.add("test", "hash", "")]
    subjects = accounting.subjects(key, ANSWERING.model)
    most = most_of_text(("hello",), 5, ANSWERING)
    reservation = await accounting.reserve(subjects, most, "call-1") if subjects else None
    return accounting.begin(
        key,
        "call-1",
        "chat",
        ANSWERING,
        stream=False,
        began_unix_s=0.0,
        prompt_tokens=5,
        reservation=reservation,
    )


async def known(accounting: Accounting) -> bool:
    return bool(accounting._model_limits)


def dearer() -> PriceList:
    return PriceList({"qwen-plus": (PriceTier(7.0, 7.0),)})


async def until(holds: Callable[[], Awaitable[Any]]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not await holds():  # noqa: ASYNC110 (the database tells nobody)
            await asyncio.sleep(0.002)


async def test_a_new_list_is_in_force_at_once_and_kept_when_the_database_takes_it(
    accounting: Accounting, store: Store
) -> None:
    """An outage must neither stop a change of prices nor leave rows that nobody can work out again."""
    prices = store.prices
    away = Away(prices)
    store.prices = cast(Prices, away)
    new = dearer()

    accounting.exchange(new)
    in_force = accounting.prices
    await asyncio.wait_for(away.tried.wait(), LIMIT_S)
    before = await prices.find(new.version)
    away.is_back = True

    assert (in_force, before) == (new, None)
    await until(lambda: prices.find(new.version))


async def test_a_list_that_is_not_kept_yet_is_at_the_end(store: Store) -> None:
    """Its rows are in the ledger."""
    accounting = Accounting(store, CATALOGUE)
    new = dearer()
    accounting.exchange(new)

    await accounting.close()

    assert await store.prices.find(new.version) is not None


async def test_the_same_prices_are_no_change(accounting: Accounting) -> None:
    """A reload of a file that says the same: what is remembered stays."""
    before = accounting.prices

    accounting.exchange(PriceList.of(CATALOGUE))

    assert accounting.prices is before


async def test_where_no_model_has_limits_a_call_is_counted_for_nobody(accounting: Accounting, store: Store) -> None:
    """Nothing is worked out, nothing is held; a limit of one model leaves calls of others as they were."""
    free = await admitted(accounting, store)
    await store.limits.change("qwen-max", lambda _: Limits(rpm=1))
    await until(lambda: known(accounting))
    of_another = await admitted(accounting, store)

    assert free.rates() == of_another.rates() == ""
    assert accounting.meter.standing().subjects == 0


async def test_a_refusal_names_a_workspace_as_people_know_it(accounting: Accounting, store: Store) -> None:
    """By its name, also once that has changed; its id is for programs."""
    [workspace] = await store.workspaces.all()
    for name in ("research", "science"):
        change = partial(replace, name=name, limits=Limits(rpm=0))
        await store.workspaces.change(workspace.id, change)
        await accounting._look()

        with pytest.raises(RequestsExceeded, match=name):
            await admitted(accounting, store)


async def test_without_a_ledger_nothing_is_kept_of_anybody(accounting: Accounting, store: Store) -> None:
    """What is kept stands beside rows, and is purged with them: without rows it would stay for ever."""
    [workspace] = await store.workspaces.all()
    await store.workspaces.change(workspace.id, lambda row: replace(row, keeps_content=True))
    await accounting._look()

    bill = await admitted(accounting, store)

    assert bill.conversation is None
