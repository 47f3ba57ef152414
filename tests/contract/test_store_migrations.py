"""The way from one release's tables to the next one's and back, with rows in them: nothing that was there is lost."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import Column, Connection, MetaData, Table, Text, inspect, make_url, text
from sqlalchemy.ext.asyncio import AsyncEngine

from hanlin.errors import StartupError
from hanlin.store.database import migrate, open_store
from hanlin.store.engine import MIGRATION_S, changing, connect_file, connect_server
from hanlin.store.migrate import MIGRATIONS, Contents, Steps, revisions, run, steps_to
from hanlin.store.rows import Budget, Content, FileRow, KeyRow, LedgerRow, Limits, Quota
from hanlin.store.tables import UtcTime
from hanlin.types import Usage

NewDatabase = Callable[[], Path | str]
Picture = dict[str, Any]

KNOWN = ("0001_a", "0002_b", "0003_c")
MADE = datetime(2026, 10, 1, 8, 30, 0, 123_456, tzinfo=UTC)

KEYS_OF_RELEASE_ONE = Table(
    "keys",
    MetaData(),
    *(Column(name, Text) for name in ("id", "name", "hash", "hint")),
    Column("created_at", UtcTime),
    Column("revoked_at", UtcTime),
)
OLD_KEYS: list[dict[str, Any]] = [
    {"id": "key-1", "name": "laptop", "hash": "hash-a", "hint": "WXYZ", "created_at": MADE, "revoked_at": None},
    {"id": "key-2", "name": "第二个", "hash": "hash-b", "hint": "", "created_at": MADE, "revoked_at": MADE},
]


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANLIN_LANG", "en")


@pytest.fixture
async def of_release_one(new_database: NewDatabase) -> Path | str:
    """A database as the first release left it, with a key that works and one that was revoked."""
    where = new_database()
    await migrate(where, "0001_keys")
    engine = connect(where)
    async with changing(engine, MIGRATION_S) as connection:
        await connection.execute(KEYS_OF_RELEASE_ONE.insert(), OLD_KEYS)
    await engine.dispose()
    return where


def connect(where: Path | str) -> AsyncEngine:
    return connect_file(where) if isinstance(where, Path) else connect_server(make_url(where))


async def picture(where: Path | str) -> Picture:
    """Return everything in a database: its tables, what they are made of, and their rows."""

    def look(connection: Connection) -> Picture:
        found = inspect(connection)
        return {
            name: (
                [(column["name"], str(column["type"]), column["nullable"]) for column in found.get_columns(name)],
                found.get_pk_constraint(name)["constrained_columns"],
                sorted(unique["column_names"] for unique in found.get_unique_constraints(name)),
                sorted(index["name"] or "" for index in found.get_indexes(name)),
                sorted(map(repr, connection.execute(text(f"SELECT * FROM {name}")))),
            )
            for name in found.get_table_names()
        }

    engine = connect(where)
    async with engine.connect() as connection:
        seen = await connection.run_sync(look)
    await engine.dispose()
    return seen


async def test_keys_of_before_belong_to_the_default_workspace_and_may_what_they_might(
    of_release_one: Path | str,
) -> None:
    """After an update every program goes on as before."""
    async with await open_store(of_release_one) as store:
        found = await store.keys.all()
        default = await store.workspaces.get("default")
        works = await store.keys.find("hash-a")

    assert found == tuple(KeyRow(**fields) for fields in OLD_KEYS)
    assert [(key.workspace_id, key.limits, key.expires_at) for key in found] == [(default.id, Limits(), None)] * 2
    assert works == found[0]


async def test_there_and_back_leaves_a_database_as_it_was(of_release_one: Path | str) -> None:
    """The update was a mistake, and the older release starts again: its tables and rows, to the letter."""
    before = await picture(of_release_one)

    async with await open_store(of_release_one):
        pass
    changed = await picture(of_release_one)
    await migrate(of_release_one, "0001_keys")

    assert await picture(of_release_one) == before
    assert set(changed) > set(before)


async def test_back_and_there_again_keeps_what_the_older_release_knows(new_database: NewDatabase) -> None:
    """What came with the newer tables goes with them; the keys, and the hashes that callers are known by, stay."""
    where = new_database()
    async with await open_store(where) as store:
        workspace = await store.workspaces.add("research")
        limits = Limits(rpm=5, budget=Budget(1000))
        key = await store.keys.add("ci", "hash-a", "WXYZ", workspace_id=workspace.id, limits=limits, models=["qwen-*"])
        revoked = await store.keys.revoke((await store.keys.add("leaked", "hash-b", "")).id)
        await store.ledger.append([a_call(key)])

    await migrate(where, "0001_keys")
    async with await open_store(where) as store:
        found = await store.keys.all()
        calls = await store.ledger.page()
        workspaces = await store.workspaces.all()

    assert found == (
        KeyRow(id=key.id, name="ci", hash="hash-a", hint="WXYZ", created_at=key.created_at),
        KeyRow(
            id=revoked.id,
            name="leaked",
            hash="hash-b",
            hint="",
            created_at=revoked.created_at,
            revoked_at=found[1].revoked_at,
        ),
    )
    assert found[1].revoked_at == revoked.revoked_at
    assert calls.rows == ()
    assert [row.id for row in workspaces] == ["default"]


def a_call(key: KeyRow) -> LedgerRow:
    return LedgerRow(
        id="call-1",
        began_at=MADE,
        key_id=key.id,
        workspace_id=key.workspace_id,
        surface="chat",
        model="qwen-plus",
        usage=Usage(10, 5),
        cost_nanos=100,
    )


async def test_there_and_back_between_the_last_two_releases_keeps_the_accounts(new_database: NewDatabase) -> None:
    """Keys, bills, prices and the log of changes stay to the letter; what only the newer one knows goes."""
    where = new_database()
    await migrate(where, "0002_accounts")
    engine = connect(where)
    async with changing(engine, MIGRATION_S) as connection:
        await connection.execute(text("INSERT INTO prices VALUES ('v1', '2026-10-01 08:30:00', '{}')"))
        await connection.execute(
            text(
                "INSERT INTO audit (at, who, what, subject, before, after) "
                "VALUES ('2026-10-01 08:30:00', 'cli', 'prices.keep', 'v1', '', '')"
            )
        )
        await connection.execute(
            text("UPDATE workspaces SET keeps_content = :on, rpm = 5").bindparams(on=True)  # of before it did anything
        )
    await engine.dispose()
    before = await picture(where)

    async with await open_store(where) as store:
        await store.limits.change("qwen3-*", lambda _: Limits(rpm=5, budget=Budget(7)))
        await store.contents.append(
            [Content(call_id="call-1", began_at=MADE, workspace_id="default", prompt="{}", answer="{}")]
        )
        [workspace] = await store.workspaces.all()
    changed = await picture(where)
    await migrate(where, "0002_accounts")
    after = await picture(where)
    async with await open_store(where) as store:
        again = await store.limits.all()
        left = await store.contents.find("call-1")

    assert (workspace.keeps_content, workspace.limits) == (True, Limits(rpm=5))
    assert set(changed) - set(before) == {"model_limits", "contents", "files"}
    assert {**after, "audit": ()} == {**before, "audit": ()}
    assert (again, left) == ((), None)


async def test_there_and_back_over_files_keeps_bills_and_what_calls_said(new_database: NewDatabase) -> None:
    """The release before knows no files; its ledger and its contents are this one's to the letter."""
    where = new_database()
    await migrate(where, "0003_models_and_content")
    engine = connect(where)
    async with changing(engine, MIGRATION_S) as connection:
        await connection.execute(
            text("INSERT INTO contents VALUES ('call-1', '2026-10-01 08:30:00', 'default', '{}', '[]')")
        )
    await engine.dispose()
    before = await picture(where)

    async with await open_store(where) as store:
        key = await store.keys.add("ci", "hash-a", "WXYZ")
        await store.ledger.append([a_call(key), replace(a_call(key), id="call-2", told_prompt=7, told_completion=0)])
        told = [(row.told_prompt, row.told_completion) for row in reversed((await store.ledger.page()).rows)]
        await store.files.add(a_file(), Quota(1, 1000))
    changed = await picture(where)
    await migrate(where, "0003_models_and_content")
    older = await picture(where)
    async with await open_store(where) as store:
        again = await store.ledger.page()
        left = await store.files.find("default", a_file().id)

    assert told == [(None, None), (7, 0)]
    assert set(changed) - set(before) == {"files"}
    for name in ("contents", "prices", "workspaces", "model_limits"):
        assert older[name] == before[name]
    assert older["ledger"][:4] == before["ledger"][:4]
    assert [(row.id, row.told_prompt) for row in again.rows] == [("call-2", None), ("call-1", None)]
    assert left is None


async def test_files_of_the_release_before_are_there_without_what_it_did_not_keep(new_database: NewDatabase) -> None:
    """There and back again: what an older release knows of a file stays."""
    where = new_database()
    async with await open_store(where) as store:
        await store.files.add(replace(a_file(), description="signed", md5="Td5oBnUd0kfuUGMd0zd5Ig=="), Quota(1, 1000))
    made = await picture(where)
    await migrate(where, "0004_files")
    before = await picture(where)

    async with await open_store(where) as store:
        found = await store.files.find("default", a_file().id)
    after = await picture(where)

    assert found == a_file()
    assert {name for name in made if made[name] != before[name]} == {"files", "alembic_version"}
    assert {**after, "files": ()} == {**made, "files": ()}


def a_file() -> FileRow:
    return FileRow(
        id="file-fe-1",
        workspace_id="default",
        key_id="key-1",
        purpose="file-extract",
        filename="a.txt",
        size_bytes=1,
        digest="a" * 64,
        created_at=MADE,
    )


async def test_the_ledger_of_the_release_before_is_that_of_this_one(new_database: NewDatabase) -> None:
    """Bills are not touched on the way there, nor on the way back."""
    where = new_database()
    async with await open_store(where) as store:
        key = await store.keys.add("ci", "hash-a", "WXYZ")
        await store.ledger.append([a_call(key)])
        rows, totals = await store.ledger.page(), await store.ledger.totals(["key_id"])

    await migrate(where, "0002_accounts")
    async with await open_store(where) as store:
        assert await store.ledger.page() == rows
        assert await store.ledger.totals(["key_id"]) == totals
        assert [one.id for one in await store.keys.all()] == [key.id]


async def test_an_expired_key_does_not_come_back_to_life_in_an_older_release(new_database: NewDatabase) -> None:
    """It knows no end of a key, so that one that has ended is revoked for it."""
    where = new_database()
    now = datetime.now(UTC)
    async with await open_store(where) as store:
        ended = await store.keys.add("guest", "hash-a", "", expires_at=now - timedelta(days=1))
        later = await store.keys.add("ci", "hash-b", "", expires_at=now + timedelta(days=1))

    await migrate(where, "0001_keys")
    async with await open_store(where) as store:
        found = {key.id: key for key in await store.keys.all()}

    assert found[ended.id].revoked_at == ended.expires_at
    assert found[later.id].revoked_at is None


async def test_every_step_has_a_way_back(of_release_one: Path | str) -> None:
    """Down to a database without a table of ours, and up again from there."""
    async with await open_store(of_release_one):
        pass
    engine = connect(of_release_one)

    async with changing(engine, MIGRATION_S) as connection:
        await connection.run_sync(run, MIGRATIONS, Steps(back=revisions(MIGRATIONS)[::-1]))
    await engine.dispose()
    left = await picture(of_release_one)
    async with await open_store(of_release_one) as store:
        keys = await store.keys.all()

    assert set(left) == {"alembic_version"}
    assert keys == ()


async def test_a_step_back_that_fails_leaves_the_database_as_it_was(of_release_one: Path | str, tmp_path: Path) -> None:
    """Half a way back would be no release's tables."""
    async with await open_store(of_release_one):
        pass
    before = await picture(of_release_one)
    broken = tmp_path / "broken"
    shutil.copytree(MIGRATIONS, broken, ignore=shutil.ignore_patterns("__pycache__"))
    step = broken / "0002_accounts.py"
    step.write_text(step.read_text().replace('op.drop_column("keys", column.name)', 'op.execute("SELECT nonsense")'))

    with pytest.raises(StartupError, match=r"the database cannot be used: .*nonsense"):
        await migrate(of_release_one, "0001_keys", broken)

    assert await picture(of_release_one) == before


async def test_a_backup_is_made_before_a_sqlite_file_goes_back(tmp_path: Path) -> None:
    """The ledger goes with its tables; whoever wants it back has the file."""
    file = tmp_path / "hanlin.db"
    async with await open_store(file) as store:
        key = await store.keys.add("ci", "hash-a", "")
        await store.ledger.append([a_call(key)])

    await migrate(file, "0001_keys")

    with closing(sqlite3.connect(tmp_path / "hanlin.db.before-0001_keys")) as backup:
        assert backup.execute("SELECT id, key_id FROM ledger").fetchall() == [("call-1", key.id)]


async def test_a_database_that_is_there_already_stays_as_it_is(tmp_path: Path) -> None:
    """Also without a backup, which would replace one that means something."""
    file = tmp_path / "hanlin.db"
    await migrate(file, "0001_keys")

    await migrate(file, "0001_keys")

    assert not file.with_name("hanlin.db.before-0001_keys").exists()


async def test_a_revision_that_nobody_knows_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    """An operator who goes back is in a hurry."""
    with pytest.raises(
        StartupError, match=r"^0009_nope: no such revision. This Hanlin knows 0001_keys, 0002_accounts, 0003"
    ):
        await migrate(tmp_path / "hanlin.db", "0009_nope")


@pytest.mark.parametrize(
    ("at", "to", "steps"),
    [
        (None, "0001_a", Steps(forward=("0001_a",))),
        (None, "0003_c", Steps(forward=KNOWN)),
        ("0001_a", "0003_c", Steps(forward=("0002_b", "0003_c"))),
        ("0002_b", "0002_b", Steps()),
        ("0003_c", "0002_b", Steps(back=("0003_c",))),
        ("0003_c", "0001_a", Steps(back=("0003_c", "0002_b"))),
    ],
)
def test_the_way_between_two_revisions_is_taken_step_by_step(at: str | None, to: str, steps: Steps) -> None:
    """Forward from the oldest that is missing, back from the newest that is too much."""
    contents = Contents(at, frozenset({"keys"} if at else ()))

    assert steps_to(to, contents, KNOWN, "hanlin.db") == steps


def test_a_database_of_a_newer_release_is_not_taken_back_by_an_older_one() -> None:
    """Only the newer one knows how its steps are undone."""
    with pytest.raises(StartupError, match="newer than this Hanlin"):
        steps_to("0001_a", Contents("0004_d", frozenset({"keys"})), KNOWN, "hanlin.db")
