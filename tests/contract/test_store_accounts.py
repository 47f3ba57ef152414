"""What the store promises about keys and their scopes, workspaces, price lists, and the log of who changed them."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import AsyncEngine

from hanlin.errors import DuplicateKey, InvalidRequest, UnknownKey, UnknownWorkspace
from hanlin.store.database import Store, open_store
from hanlin.store.engine import connect_file, connect_server
from hanlin.store.keys import Keys
from hanlin.store.model_limits import UnknownLimits
from hanlin.store.rows import AuditRow, Budget, KeyRow, Limits

NewDatabase = Callable[[], Path | str]

NOON = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
LIMITS = Limits(rpm=60, tpm=2**40, concurrency=0, budget=Budget(5_000_000_000, "USD", "day"))


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANLIN_LANG", "en")


@pytest.fixture
async def store(ready_database: Path | str) -> AsyncIterator[Store]:
    async with await open_store(ready_database) as store:
        yield store


class Clock:
    """A time that a test sets."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def keys(new_database: NewDatabase, clock: Clock) -> AsyncIterator[Keys]:
    """Keys whose time a test sets."""
    where = new_database()
    async with await open_store(where):
        pass
    engine: AsyncEngine = connect_file(where) if isinstance(where, Path) else connect_server(make_url(where))
    yield Keys(engine, now=clock)
    await engine.dispose()


# Limits of models


async def test_limits_of_models_are_set_changed_and_removed_with_a_trace(store: Store) -> None:
    """Who loosened a limit is what an operator asks after the bill."""
    await store.limits.change("qwen3-*", lambda _: LIMITS, who="cli")
    changed = await store.limits.change("qwen3-*", lambda old: replace(old, rpm=7), who="key-1")
    await store.limits.change("qwen3-*", lambda old: old, who="nobody")
    await store.limits.change("a", lambda old: old, who="cli")
    there = await store.limits.all()
    gone = await store.limits.remove("qwen3-*", who="cli")

    assert changed.limits == replace(LIMITS, rpm=7)
    assert [row.pattern for row in there] == ["a", "qwen3-*"]
    assert there[1] == gone == changed
    assert [row.pattern for row in await store.limits.all()] == ["a"]
    trail = await store.audit.page(subject="qwen3-*")
    assert [(row.who, row.what) for row in reversed(trail)] == [
        ("cli", "limits.change"),
        ("key-1", "limits.change"),
        ("cli", "limits.remove"),
    ]
    assert [json.loads(row.before or "null") is None for row in reversed(trail)] == [True, False, False]
    with pytest.raises(UnknownLimits, match="no limits are set"):
        await store.limits.remove("qwen3-*")


async def test_many_who_change_a_models_limits_at_once_lose_no_change(store: Store) -> None:
    """Two admins with one page open."""
    await store.limits.change("m", lambda _: Limits(rpm=0))

    await asyncio.gather(
        *(store.limits.change("m", lambda old: replace(old, rpm=(old.rpm or 0) + 1)) for _ in range(8))
    )

    (row,) = await store.limits.all()
    assert row.limits.rpm == 8


# Keys


async def test_a_key_comes_back_with_all_that_it_may(store: Store) -> None:
    """A scope that is lost on its way to the database is a door left open."""
    workspace = await store.workspaces.add("research")

    added = await store.keys.add(
        "ci",
        "hash-a",
        "WXYZ",
        workspace_id=workspace.id,
        role="admin",
        models=["qwen-*", "千问"],
        surfaces=["chat"],
        addresses=["10.0.0.0/8"],
        limits=LIMITS,
        expires_at=datetime(2126, 1, 1, tzinfo=UTC),
    )

    assert await store.keys.find("hash-a") == added
    assert await store.keys.get(added.id) == added
    assert await store.keys.all() == (added,)
    assert (added.workspace_id, added.role, added.limits) == (workspace.id, "admin", LIMITS)
    assert (added.models, added.surfaces, added.addresses) == (("qwen-*", "千问"), ("chat",), ("10.0.0.0/8",))


async def test_a_key_without_scopes_is_of_the_default_workspace_and_unlimited(store: Store) -> None:
    """What the first start makes must simply work."""
    added = await store.keys.add("first", "hash-a", "")

    found = await store.keys.find("hash-a")

    assert found == added
    assert (added.workspace_id, added.role, added.limits, added.models) == ("default", "", Limits(), ())


async def test_no_limit_and_a_limit_of_nothing_stay_apart(store: Store) -> None:
    """A budget of zero lets nothing through; none at all lets everything."""
    nothing = Limits(rpm=0, tpm=None, budget=Budget(0, "CNY", "total"))

    added = await store.keys.add("frozen", "hash-a", "", limits=nothing)

    assert (await store.keys.get(added.id)).limits == nothing


async def test_a_key_of_a_workspace_that_is_not_there_is_refused(store: Store) -> None:
    """Its calls would be nobody's to pay."""
    with pytest.raises(UnknownWorkspace, match=r"^ws-nope: no workspace has this id"):
        await store.keys.add("stray", "hash-a", "", workspace_id="ws-nope")

    assert await store.keys.all() == ()


async def test_an_expired_key_is_no_longer_found(keys: Keys, clock: Clock) -> None:
    """To the moment: what was promised to end at noon ends at noon."""
    added = await keys.add("temporary", "hash-a", "", expires_at=NOON + timedelta(minutes=1))

    clock.now = NOON + timedelta(seconds=59.999)
    assert await keys.find("hash-a") == added
    clock.now = NOON + timedelta(minutes=1)
    assert await keys.find("hash-a") is None
    assert await keys.get(added.id) == added


async def test_a_change_keeps_what_it_is_not_about(store: Store) -> None:
    """An administrator who sets a limit must not reset a scope."""
    added = await store.keys.add("ci", "hash-a", "WXYZ", models=["qwen-*"], limits=Limits(rpm=10))

    changed = await store.keys.change(added.id, lambda row: replace(row, limits=replace(row.limits, tpm=1000)))

    assert changed == replace(added, limits=Limits(rpm=10, tpm=1000))
    assert await store.keys.find("hash-a") == changed


async def test_changes_that_meet_are_all_made(store: Store) -> None:
    """Two administrators at once: the second one sees what the first one did."""
    added = await store.keys.add("ci", "hash-a", "", limits=Limits(rpm=0))

    def one_more(row: KeyRow) -> KeyRow:
        return replace(row, limits=Limits(rpm=(row.limits.rpm or 0) + 1))

    await asyncio.gather(*(store.keys.change(added.id, one_more) for _ in range(10)))

    assert (await store.keys.get(added.id)).limits.rpm == 10


async def test_a_change_of_what_does_not_change_is_refused(store: Store) -> None:
    """A hash is changed by a rotation, an end is set by revoking; the rest is how bills find their key."""
    added = await store.keys.add("ci", "hash-a", "")

    for fields in ({"hash": "hash-b"}, {"id": "key-1"}, {"revoked_at": NOON}, {"origin_id": "key-1"}):
        with pytest.raises(ValueError, match=f"^{next(iter(fields))}: cannot be changed"):
            await store.keys.change(added.id, lambda row, fields=fields: replace(row, **fields))  # type: ignore[misc]

    assert await store.keys.all() == (added,)


async def test_a_change_that_cannot_be_made_says_so(store: Store) -> None:
    """A typo must not look like success."""
    added = await store.keys.add("ci", "hash-a", "")

    with pytest.raises(UnknownKey, match=r"^key-nope: no key has this id"):
        await store.keys.change("key-nope", lambda row: row)
    with pytest.raises(UnknownKey, match=r"^key-nope: no key has this id"):
        await store.keys.get("key-nope")
    with pytest.raises(UnknownWorkspace):
        await store.keys.change(added.id, lambda row: replace(row, workspace_id="ws-nope"))


async def test_after_a_rotation_both_keys_work_until_the_overlap_ends(keys: Keys, clock: Clock) -> None:
    """Long enough to tell every program the new one, and no longer."""
    old = await keys.add("ci", "hash-a", "aaaa", models=["qwen-*"], limits=LIMITS)

    new = await keys.rotate(old.id, "hash-b", "bbbb", timedelta(hours=1))

    assert new == replace(old, id=new.id, hash="hash-b", hint="bbbb", replaces_id=old.id, origin_id=old.id)
    assert await keys.find("hash-b") == new
    clock.now = NOON + timedelta(minutes=59)
    assert await keys.find("hash-a") == replace(old, expires_at=NOON + timedelta(hours=1))
    clock.now = NOON + timedelta(hours=1)
    assert await keys.find("hash-a") is None
    assert await keys.find("hash-b") == new


async def test_a_line_of_rotations_is_counted_as_its_first_key(keys: Keys) -> None:
    """Limits and budgets are those of whoever holds the key, not of its text."""
    first = await keys.add("ci", "hash-a", "")

    second = await keys.rotate(first.id, "hash-b", "", timedelta(0))
    third = await keys.rotate(second.id, "hash-c", "", timedelta(0))

    assert [key.counted_as for key in (first, second, third)] == [first.id] * 3
    assert third.replaces_id == second.id


async def test_a_rotation_prolongs_nothing(keys: Keys) -> None:
    """A key that was given for a day stays one, and so does its successor."""
    tomorrow = NOON + timedelta(days=1)
    old = await keys.add("guest", "hash-a", "", expires_at=tomorrow)

    new = await keys.rotate(old.id, "hash-b", "", timedelta(days=7))

    assert [row.expires_at for row in await keys.all()] == [tomorrow, tomorrow]
    assert new.expires_at == tomorrow


async def test_a_key_that_no_longer_works_cannot_be_rotated(keys: Keys, clock: Clock) -> None:
    """It would come back to life under another text."""
    revoked = await keys.add("leaked", "hash-a", "")
    await keys.revoke(revoked.id)
    expired = await keys.add("guest", "hash-b", "", expires_at=NOON + timedelta(days=1))
    clock.now = NOON + timedelta(days=2)

    for key in (revoked, expired):
        with pytest.raises(InvalidRequest, match=f"^{key.id}: has been revoked or has expired"):
            await keys.rotate(key.id, "hash-c", "", timedelta(hours=1))
    with pytest.raises(UnknownKey):
        await keys.rotate("key-nope", "hash-c", "", timedelta(hours=1))

    assert len(await keys.all()) == 2


async def test_a_rotation_to_a_key_that_is_known_changes_nothing(keys: Keys) -> None:
    """All or nothing: the old key must not end for a new one that was never stored."""
    old = await keys.add("ci", "hash-a", "")
    other = await keys.add("other", "hash-b", "")

    with pytest.raises(DuplicateKey):
        await keys.rotate(old.id, "hash-b", "", timedelta(0))

    assert await keys.all() == (old, other) or await keys.all() == (other, old)
    assert await keys.find("hash-a") == old


# Workspaces


async def test_every_database_has_a_default_workspace(new_database: NewDatabase) -> None:
    """Whoever needs none never hears of them."""
    async with await open_store(new_database()) as store:
        (default,) = await store.workspaces.all()

    assert (default.id, default.name, default.limits, default.keeps_content) == ("default", "default", Limits(), False)
    assert abs(default.created_at - datetime.now(UTC)) < timedelta(minutes=1)


async def test_a_workspace_comes_back_as_it_was_made(store: Store) -> None:
    """It says who pays, up to what, and whether prompts may be kept."""
    added = await store.workspaces.add("研究", limits=LIMITS, keeps_content=True)

    assert added.id.startswith("ws-")
    assert await store.workspaces.get(added.id) == added
    assert (await store.workspaces.all())[1:] == (added,)


async def test_a_workspace_is_changed_or_said_to_be_unknown(store: Store) -> None:
    """Its id and its age are what bills refer to; the rest is up to the administrator."""
    added = await store.workspaces.add("research")

    changed = await store.workspaces.change(added.id, lambda row: replace(row, limits=LIMITS, name="lab"))

    assert changed == replace(added, limits=LIMITS, name="lab")
    assert await store.workspaces.get(added.id) == changed
    with pytest.raises(UnknownWorkspace, match=r"^ws-nope: no workspace has this id"):
        await store.workspaces.change("ws-nope", lambda row: row)
    with pytest.raises(UnknownWorkspace):
        await store.workspaces.get("ws-nope")
    with pytest.raises(ValueError, match="id: cannot be changed"):
        await store.workspaces.change(added.id, lambda row: replace(row, id="ws-other"))


async def test_two_workspaces_never_have_one_name(store: Store) -> None:
    """People tell them apart by it, and pay by it."""
    added = await store.workspaces.add("research")

    with pytest.raises(InvalidRequest, match=r"^'research': another workspace has this name"):
        await store.workspaces.add("research")
    with pytest.raises(InvalidRequest, match=r"^'default': another workspace has this name"):
        await store.workspaces.change(added.id, lambda row: replace(row, name="default"))

    assert [row.name for row in await store.workspaces.all()] == ["default", "research"]


# Price lists


async def test_a_price_list_is_kept_once_and_found_by_its_version(store: Store) -> None:
    """Every start offers the list that it came with; old bills are worked out by the one that they name."""
    first = await store.prices.keep("2026-11-01", '{"qwen-plus": 800}')
    second = await store.prices.keep("2026-12-01", '{"qwen-plus": 700}')

    again = await store.prices.keep("2026-11-01", '{"qwen-plus": 800}')

    assert again == first
    assert await store.prices.find("2026-11-01") == first
    assert await store.prices.find("2025-01-01") is None
    assert await store.prices.all() == (first, second)


async def test_a_price_list_never_changes_under_its_version(store: Store) -> None:
    """Bills of a month ago would mean something else today."""
    first = await store.prices.keep("2026-11-01", '{"qwen-plus": 800}')

    with pytest.raises(InvalidRequest, match=r"^2026-11-01: a price list of this version is stored"):
        await store.prices.keep("2026-11-01", '{"qwen-plus": 1}')

    assert await store.prices.all() == (first,)


async def test_processes_that_start_at_once_keep_one_list_once(store: Store) -> None:
    """All workers of a service offer the same list in the same moment."""
    kept = await asyncio.gather(*(store.prices.keep("2026-11-01", "{}") for _ in range(5)))

    assert set(kept) == set(await store.prices.all())
    assert len(await store.audit.page(subject="2026-11-01")) == 1


# Who changed what


def values(text: str) -> Any:
    return json.loads(text) if text else None


async def test_every_change_leaves_who_what_before_and_after(store: Store) -> None:
    """The question after an incident, answered by the database itself."""
    workspace = await store.workspaces.add("research", who="cli")
    await store.workspaces.change(workspace.id, lambda row: replace(row, keeps_content=True), who="key-1")
    key = await store.keys.add("ci", "hash-a", "aaaa", who="key-1")
    await store.keys.change(key.id, lambda row: replace(row, name="laptop"), who="key-2")
    new = await store.keys.rotate(key.id, "hash-b", "bbbb", timedelta(hours=1), who="key-3")
    await store.keys.revoke(new.id, who="cli")
    await store.prices.keep("2026-11-01", "{}")

    log = (await store.audit.page())[::-1]

    assert [(row.who, row.what, row.subject) for row in log] == [
        ("cli", "workspaces.add", workspace.id),
        ("key-1", "workspaces.change", workspace.id),
        ("key-1", "keys.add", key.id),
        ("key-2", "keys.change", key.id),
        ("key-3", "keys.rotate", key.id),
        ("cli", "keys.revoke", new.id),
        ("", "prices.keep", "2026-11-01"),
    ]
    assert values(log[1].before)["keeps_content"] is False
    assert values(log[1].after)["keeps_content"] is True
    assert values(log[2].before) is None
    assert values(log[2].after) == json.loads(json.dumps(key.shown()))
    assert (values(log[3].before)["name"], values(log[3].after)["name"]) == ("ci", "laptop")
    assert (values(log[4].before)["hint"], values(log[4].after)["id"]) == ("aaaa", new.id)
    assert values(log[5].after)["revoked_at"] is not None
    assert all(abs(row.at - datetime.now(UTC)) < timedelta(minutes=1) for row in log)


async def test_the_log_never_holds_a_hash(store: Store) -> None:
    """It is read by more people than the keys are."""
    key = await store.keys.add("ci", "hash-secret-a", "aaaa")
    await store.keys.change(key.id, lambda row: replace(row, name="laptop"))
    await store.keys.rotate(key.id, "hash-secret-b", "bbbb", timedelta(0))

    log = await store.audit.page()

    assert log
    assert not any("hash-secret" in row.before + row.after for row in log)


async def test_what_changed_nothing_or_failed_leaves_nothing(store: Store) -> None:
    """A log that is full of what did not happen is not read."""
    key = await store.keys.add("ci", "hash-a", "")
    await store.keys.revoke(key.id)
    before = await store.audit.page()

    await store.keys.revoke(key.id)
    await store.keys.change(key.id, lambda row: row)
    await store.workspaces.change("default", lambda row: row)
    with pytest.raises(DuplicateKey):
        await store.keys.add("again", "hash-a", "")
    with pytest.raises(InvalidRequest):
        await store.workspaces.add("default")

    assert await store.audit.page() == before


async def test_other_rooms_changes_are_recorded_and_read_page_by_page(store: Store) -> None:
    """A reloaded configuration is a change as well."""
    for number in range(5):
        await store.audit.add("cli", "configuration.reload", f"file-{number % 2}", {"n": number}, ["a", number])

    newest = await store.audit.page(limit=2)
    rest = await store.audit.page(before=newest[-1].id)
    of_one = await store.audit.page(subject="file-1")

    assert [values(row.before)["n"] for row in (*newest, *rest)] == [4, 3, 2, 1, 0]
    assert [values(row.after) for row in of_one] == [["a", 3], ["a", 1]]
    assert await store.audit.page(who="cli") == (*newest, *rest)
    assert await store.audit.page(who="") == ()
    assert isinstance(newest[0], AuditRow)


def test_a_key_is_shown_without_its_hash() -> None:
    """Lists, exports and logs are made from this."""
    row = KeyRow(id="key-1", name="ci", hash="hash-a", hint="aaaa", created_at=NOON, limits=LIMITS)

    shown = row.shown()

    assert "hash" not in shown
    assert "hash-a" not in repr(row)
    assert shown["limits"]["budget"] == {"nanos": 5_000_000_000, "currency": "USD", "period": "day"}
    assert shown["created_at"] == "2026-11-26T12:00:00Z"
