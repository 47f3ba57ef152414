"""What administrators do, on every kind of database: the rules that need one, and changes that meet."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from hanlin.catalogue import load
from hanlin.errors import InvalidRequest, RoleAccessDenied, UnknownKey, UnknownPrice, UnknownWorkspace
from hanlin.metering.prices import PriceList
from hanlin.service.administration.cursors import mark_of
from hanlin.service.administration.steward import AT_HOME, Actor, Steward
from hanlin.service.administration.values import (
    MOST_TOTALS,
    AuditAsked,
    KeyChange,
    KeysAsked,
    KeyView,
    LimitsChange,
    NewKey,
    NewWorkspace,
    PricesAsked,
    Rotation,
    UsageAsked,
    WorkspaceChange,
    WorkspacesAsked,
)
from hanlin.store.database import Store, open_store
from hanlin.store.rows import LedgerRow
from hanlin.types import Usage

CATALOGUE = load()
PRICES = PriceList.of(CATALOGUE)


@pytest.fixture(autouse=True)
def _english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANLIN_LANG", "en")


@pytest.fixture
async def store(ready_database: Path | str) -> AsyncIterator[Store]:
    async with await open_store(ready_database) as store:
        yield store


def steward(store: Store, actor: Actor = AT_HOME, **more: Any) -> Steward:
    return Steward(store, CATALOGUE, PRICES, actor, secret=b"secret", **more)


def acting(store: Store, key: KeyView, **more: Any) -> Steward:
    """Return who administers with a key."""
    return steward(store, Actor(key.id, key.role), **more)


# Owners


async def test_two_owners_that_end_each_other_at_once_leave_one(store: Store) -> None:
    """Each sees the other one, and without a lock both would be gone."""
    for _ in range(10):
        one, other = [await steward(store).make_key(NewKey(role="owner")) for _ in range(2)]

        ended = await asyncio.gather(
            acting(store, one).revoke_key(other.id), acting(store, other).revoke_key(one.id), return_exceptions=True
        )

        assert sorted(isinstance(result, InvalidRequest) for result in ended) == [False, True]
        states = [(await steward(store).key(key.id)).state for key in (one, other)]
        assert sorted(states) == ["revoked", "works"]
        for key in (one, other):
            await steward(store).revoke_key(key.id)


async def test_changes_of_many_keys_by_many_at_once_are_all_made(store: Store) -> None:
    """Owners are locked by everybody in one order: nobody waits for whom he keeps waiting."""
    owners = [await steward(store).make_key(NewKey(role="owner")) for _ in range(3)]
    keys = [await steward(store).make_key(NewKey()) for _ in range(3)]

    await asyncio.gather(
        *(
            acting(store, owner).change_key(key.id, KeyChange(name=f"{owner.id} {number}"))
            for number in range(3)
            for owner in owners
            for key in (*keys, *owners)
        )
    )

    changes = (await steward(store).audit(AuditAsked(limit=1000))).data
    assert sum(change.what == "keys.change" for change in changes) == 54


async def test_an_owner_that_ends_sooner_or_works_from_less_does_not_replace_one(store: Store) -> None:
    """When the lasting one were gone, the other's end would be everybody's."""
    lasting = await steward(store).make_key(NewKey(role="owner"))
    soon = datetime.now(UTC) + timedelta(hours=1)
    await steward(store).make_key(NewKey(role="owner", expires_at=soon))
    await steward(store).make_key(NewKey(role="owner", addresses=("10.0.0.0/8",)))
    await steward(store).make_key(NewKey(role="admin"))
    gone = await steward(store).make_key(NewKey(role="owner"))
    await steward(store).revoke_key(gone.id)

    with pytest.raises(InvalidRequest, match="last owner"):
        await acting(store, lasting).revoke_key(lasting.id)
    await steward(store).make_key(NewKey(role="owner"))

    assert (await acting(store, lasting).revoke_key(lasting.id)).state == "revoked"


async def test_an_owners_key_that_no_longer_works_may_be_changed(store: Store) -> None:
    """Nobody is locked out by what is over already."""
    owner = await steward(store).make_key(NewKey(role="owner"))
    await steward(store).revoke_key(owner.id)

    changed = await steward(store, Actor("key-x", "owner")).change_key(owner.id, KeyChange(role="", name="old"))

    assert (changed.role, changed.state) == ("", "revoked")


async def test_what_was_refused_leaves_no_trace(store: Store) -> None:
    """The log holds what happened."""
    owner = await steward(store).make_key(NewKey(role="owner"))
    admin = await steward(store).make_key(NewKey(role="admin"))
    before = await steward(store).audit(AuditAsked())

    for refused in (
        acting(store, admin).revoke_key(owner.id),
        acting(store, admin).rotate_key(owner.id, Rotation()),
        acting(store, admin).change_key(owner.id, KeyChange(name="x")),
        acting(store, admin).make_key(NewKey(role="viewer")),
    ):
        with pytest.raises(RoleAccessDenied):
            await refused
    with pytest.raises(InvalidRequest):
        await acting(store, owner).change_key(owner.id, KeyChange(role="admin"))

    assert await steward(store).audit(AuditAsked()) == before
    assert await steward(store).key(owner.id) == KeyView(**_without(owner, "key"))


def _without(value: KeyView, *names: str) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__struct_fields__ if name not in names}


async def test_a_rotated_owner_has_its_successor(store: Store) -> None:
    """Also at once."""
    owner = await steward(store).make_key(NewKey(role="owner"))

    new = await acting(store, owner).rotate_key(owner.id, Rotation(overlap_s=0))

    assert (new.role, new.state, new.replaced.state) == ("owner", "works", "expired")


# Keys and workspaces


async def test_a_time_is_judged_by_the_clock_that_was_given(store: Store) -> None:
    """States in answers are those of the moment."""
    noon = datetime(2126, 1, 1, 12, tzinfo=UTC)
    ending = NewKey(expires_at=noon + timedelta(minutes=1))

    key = await steward(store, now=lambda: noon).make_key(ending)

    assert key.state == "works"
    assert (await steward(store, now=lambda: noon + timedelta(minutes=1)).key(key.id)).state == "expired"
    with pytest.raises(InvalidRequest, match="later time"):
        await steward(store, now=lambda: noon + timedelta(minutes=1)).make_key(ending)


async def test_values_that_were_made_here_are_held_to_the_same_bounds(store: Store) -> None:
    """The home's own commands send no JSON."""
    for wrong in (NewKey(name="x" * 201), NewKey(name="a\0"), NewKey(name="\udcff"), NewKey(models=("",))):
        with pytest.raises(InvalidRequest):
            await steward(store).make_key(wrong)
    with pytest.raises(InvalidRequest):
        await steward(store).make_workspace(NewWorkspace(name=""))
    with pytest.raises(InvalidRequest):
        await steward(store).keys(KeysAsked(limit=5000))


async def test_pages_lose_no_row_of_one_moment(store: Store) -> None:
    """Keys that were made in one moment are told apart by their ids."""
    made = {(await steward(store).make_key(NewKey(name=str(number)))).id for number in range(9)}
    seen: list[str] = []
    after: str | None = ""
    while after is not None:
        page = await steward(store).keys(KeysAsked(limit=2, after=after))
        seen += [row.id for row in page.data]
        after = page.next

    assert len(seen) == 9
    assert set(seen) == made
    full = await steward(store).keys(KeysAsked(limit=9))
    assert full.next is None
    assert mark_of("") is None


async def test_a_workspace_is_called_by_its_id_first(store: Store) -> None:
    """Somebody may give one the id of another as its name."""
    first = await steward(store).make_workspace(NewWorkspace(name="first"))
    await steward(store).make_workspace(NewWorkspace(name=first.id))

    assert (await steward(store).workspace(first.id)).name == "first"
    assert (await steward(store).workspace("first")).id == first.id
    with pytest.raises(UnknownWorkspace):
        await steward(store).workspace("second")
    assert next(row.name for row in (await steward(store).workspaces(WorkspacesAsked())).data) == "default"


async def test_names_of_the_operators_own_can_be_allowed_and_nothing_else(store: Store) -> None:
    """They stand in the settings, which are asked only when the catalogue does not do."""
    asked: list[str] = []

    def own() -> list[str]:
        asked.append("asked")
        return ["our-own-model"]

    his = steward(store, own_names=own)
    assert (await his.make_key(NewKey(models=("qwen-*",)))).models == ("qwen-*",)
    assert asked == []
    assert (await his.make_key(NewKey(models=("our-own-*", "our-own-*")))).models == ("our-own-*",)
    with pytest.raises(InvalidRequest, match="matches no name"):
        await his.make_key(NewKey(models=("their-own-*",)))


async def test_a_change_of_nothing_is_refused(store: Store) -> None:
    """It would be said to be done."""
    key = await steward(store).make_key(NewKey())

    with pytest.raises(InvalidRequest, match="nothing to change"):
        await steward(store).change_key(key.id, KeyChange())
    with pytest.raises(InvalidRequest, match="nothing to change"):
        await steward(store).change_workspace("default", WorkspaceChange())
    with pytest.raises(UnknownKey):
        await steward(store).change_key("key-none", KeyChange(limits=LimitsChange(rpm=1)))


# Usage and prices


async def test_an_answer_about_usage_has_a_bound(store: Store) -> None:
    """Somebody who asks for every key on every day must not take the service's memory."""
    noon = datetime(2026, 11, 20, 12, tzinfo=UTC)
    rows = [
        LedgerRow(
            id=f"call-{number}",
            began_at=noon,
            key_id=f"key-{number}",
            workspace_id="default",
            surface="chat",
            model="qwen-plus",
            usage=Usage(1, 1),
        )
        for number in range(MOST_TOTALS + 1)
    ]
    await store.ledger.append(rows)

    with pytest.raises(InvalidRequest, match="Ask about less"):
        await steward(store).usage(UsageAsked(by=("key",)))
    assert (await steward(store).usage(UsageAsked())).total[0].calls == MOST_TOTALS + 1


async def test_prices_are_found_by_name_alias_and_pattern(store: Store) -> None:
    """A name that is nobody's would pass for free."""
    found = await steward(store).prices(PricesAsked(name=("qwen-plus", "qwen3-max*", "qwen-plus")))

    assert found.version == PRICES.version
    assert found.prices[0].tiers == CATALOGUE.by_name["qwen-plus"].prices
    assert len({price.name for price in found.prices}) == len(found.prices) > 1
    for wrong in ("qwen-pluss", "claude-*"):
        with pytest.raises(UnknownPrice):
            await steward(store).prices(PricesAsked(name=(wrong,)))
    with pytest.raises(UnknownPrice):
        await steward(store).price_list(PRICES.version)
    await store.prices.keep(PRICES.version, PRICES.text)
    assert (await steward(store).price_list(PRICES.version)).list["listed"]["qwen-plus"]
