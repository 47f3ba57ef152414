"""What the store promises on every database, and what it promises about the SQLite file of one service."""

import asyncio
import logging
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, make_url

from hanlin.errors import DuplicateKey, StartupError, StoreFailed, UnknownKey
from hanlin.store.database import Store, open_store
from hanlin.store.engine import connect_file, connect_server
from hanlin.store.keys import Keys
from hanlin.store.migrate import MIGRATIONS, Contents, lacking, revisions
from hanlin.store.tables import metadata

NewDatabase = Callable[[], Path | str]

NEXT_STEP = """
import os, signal
import sqlalchemy as sa
from alembic import op
revision, down_revision = "0006_next", "0005_files_told"

def upgrade():
    op.create_table("next", sa.Column("id", sa.Integer, primary_key=True))
    op.add_column("keys", sa.Column("note", sa.Text))
"""

OPEN = """
import asyncio, sys
from pathlib import Path
from hanlin.store.database import open_store

async def main():
    where = sys.argv[1] if "://" in sys.argv[1] else Path(sys.argv[1])
    async with await open_store(where, Path(sys.argv[2])) as store:
        await store.keys.add("one", sys.argv[3], "")

asyncio.run(main())
"""


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANLIN_LANG", "en")


@pytest.fixture
async def store(ready_database: Path | str) -> AsyncIterator[Store]:
    async with await open_store(ready_database) as store:
        yield store


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    """The migrations of a later release: ours and one more."""
    folder = tmp_path / "newer"
    shutil.copytree(MIGRATIONS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "0006_next.py").write_text(NEXT_STEP)
    return folder


def program(where: Path | str, migrations: Path, key_hash: str) -> "subprocess.Popen[str]":
    """Another process that opens the store and adds a key."""
    command = [sys.executable, "-c", OPEN, str(where), str(migrations), key_hash]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


async def test_a_key_that_was_added_is_found_by_its_hash(store: Store) -> None:
    """This is how every call is told from a stranger's."""
    added = await store.keys.add("laptop", "hash-a", "WXYZ")

    found = await store.keys.find("hash-a")

    assert found == added
    assert added.id.startswith("key-")
    assert (added.name, added.hash, added.hint, added.revoked_at) == ("laptop", "hash-a", "WXYZ", None)
    assert abs(added.created_at - datetime.now(UTC)) < timedelta(minutes=1)


async def test_an_unknown_hash_finds_nothing(store: Store) -> None:
    """And costs no exception: strangers are frequent."""
    await store.keys.add("laptop", "hash-a", "")

    assert await store.keys.find("hash-b") is None
    assert await store.keys.find("") is None


async def test_keys_are_listed_oldest_first_with_the_revoked_ones(store: Store) -> None:
    """The list answers "which key was that?", also about a key that no longer works."""
    assert await store.keys.all() == ()
    first = await store.keys.add("first", "hash-a", "aaaa")
    second = await store.keys.add("第二个", "hash-b", "bbbb")
    revoked = await store.keys.revoke(first.id)

    listed = await store.keys.all()

    assert listed == (revoked, second)
    assert first.id != second.id


async def test_a_revoked_key_is_no_longer_found(store: Store) -> None:
    """Whoever looks a key up gets one that works, and cannot forget to check."""
    key = await store.keys.add("laptop", "hash-a", "")
    other = await store.keys.add("server", "hash-b", "")

    revoked = await store.keys.revoke(key.id)

    assert revoked.revoked_at is not None
    assert await store.keys.find("hash-a") is None
    assert await store.keys.find("hash-b") == other


async def test_revoking_twice_keeps_the_first_time(store: Store) -> None:
    """The time tells since when a leaked key was harmless."""
    key = await store.keys.add("laptop", "hash-a", "")

    first = await store.keys.revoke(key.id)
    second = await store.keys.revoke(key.id)

    assert first == second


async def test_revoking_an_unknown_key_says_so(store: Store) -> None:
    """A typo must not look like success."""
    with pytest.raises(UnknownKey, match=r"^key-nope: no key has this id"):
        await store.keys.revoke("key-nope")


async def test_a_key_cannot_be_stored_twice_not_even_after_it_was_revoked(store: Store) -> None:
    """Two rows for one key would bill one of two owners by chance, and adding again would undo a revocation."""
    key = await store.keys.add("laptop", "hash-a", "WXYZ")
    with pytest.raises(DuplicateKey, match=r"^key …WXYZ: stored already"):
        await store.keys.add("again", "hash-a", "WXYZ")
    await store.keys.revoke(key.id)

    with pytest.raises(DuplicateKey):
        await store.keys.add("again", "hash-a", "WXYZ")

    assert [row.name for row in await store.keys.all()] == ["laptop"]


async def test_times_come_back_in_utc_whatever_zone_they_were_given_in(new_database: NewDatabase) -> None:
    """SQLite stores no zone; eight hours of error in a ledger would be money."""
    where = new_database()
    beijing = datetime(2026, 11, 22, 8, 0, 0, 123456, tzinfo=timezone(timedelta(hours=8)))
    async with await open_store(where):
        pass
    engine = connect_file(where) if isinstance(where, Path) else connect_server(make_url(where))

    await Keys(engine, now=lambda: beijing).add("laptop", "hash-a", "")
    found = await Keys(engine).find("hash-a")
    await engine.dispose()

    assert found is not None
    assert found.created_at.isoformat() == "2026-11-22T00:00:00.123456+00:00"


async def test_many_calls_at_once_are_all_served(store: Store) -> None:
    """Writers wait for their turn instead of failing with "database is locked"."""
    await asyncio.gather(*(store.keys.add(f"key {number}", f"hash-{number}", "") for number in range(40)))

    found = await asyncio.gather(*(store.keys.find(f"hash-{number}") for number in range(40)))

    assert [row and row.name for row in found] == [f"key {number}" for number in range(40)]


async def test_what_was_stored_is_there_after_opening_again(new_database: NewDatabase) -> None:
    """A restart loses nothing and migrates nothing twice."""
    where = new_database()
    async with await open_store(where) as store:
        added = await store.keys.add("laptop", "hash-a", "")

    async with await open_store(where) as store:
        assert await store.keys.all() == (added,)


async def test_the_migrations_lead_to_the_tables_that_the_statements_use(new_database: NewDatabase) -> None:
    """Two descriptions of one schema drift apart unless something compares them."""
    where = new_database()
    async with await open_store(where):
        pass
    engine = connect_file(where) if isinstance(where, Path) else connect_server(make_url(where))

    def differences(connection: Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection), metadata))

    async with engine.connect() as connection:
        found = await connection.run_sync(differences)
    await engine.dispose()

    assert found == []


async def test_an_older_database_is_migrated_with_its_rows(new_database: NewDatabase, newer: Path) -> None:
    """An update of Hanlin is an install and a restart."""
    where = new_database()
    async with await open_store(where) as store:
        added = await store.keys.add("laptop", "hash-a", "")

    async with await open_store(where, newer) as store:
        found = await store.keys.find("hash-a")

    assert found == added
    with pytest.raises(StartupError, match="newer than this Hanlin"):
        await open_store(where)


async def test_a_newer_database_is_refused_with_both_revisions_and_the_remedy(
    new_database: NewDatabase, newer: Path
) -> None:
    """An older Hanlin must not write into tables that it does not know."""
    where = new_database()
    async with await open_store(where, newer):
        pass

    with pytest.raises(StartupError) as refusal:
        await open_store(where)

    message = str(refusal.value)
    assert "it is at '0006_next', and the newest known here is '0005_files_told'" in message
    assert "Install the newer Hanlin again, or restore the backup" in message


@pytest.mark.parametrize("stored", [False, True])
async def test_a_migration_killed_on_its_way_leaves_the_database_as_it_was(
    new_database: NewDatabase, newer: Path, stored: bool
) -> None:
    """kill -9, a full disk or a power cut between two steps must not need an expert."""
    where = new_database()
    if stored:
        async with await open_store(where) as store:
            await store.keys.add("laptop", "hash-a", "")
    killing = newer.with_name("killing")
    shutil.copytree(newer, killing, ignore=shutil.ignore_patterns("__pycache__"))
    (killing / "0006_next.py").write_text(NEXT_STEP + "    os.kill(os.getpid(), signal.SIGKILL)\n")

    with program(where, killing, "hash-b") as process:
        process.communicate()

    assert process.returncode == -signal.SIGKILL
    async with await open_store(where) as store:
        assert [row.name for row in await store.keys.all()] == (["laptop"] if stored else [])
    async with await open_store(where, newer) as store:
        await store.keys.add("server", "hash-c", "")


async def test_a_step_that_fails_leaves_the_database_as_it_was(new_database: NewDatabase, newer: Path) -> None:
    """A step may meet rows that nobody thought of."""
    where = new_database()
    async with await open_store(where) as store:
        added = await store.keys.add("laptop", "hash-a", "")
    (newer / "0006_next.py").write_text(NEXT_STEP + "    op.execute('SELECT nonsense')\n")

    with pytest.raises(StartupError, match=r"the database cannot be used: .*nonsense"):
        await open_store(where, newer)

    async with await open_store(where) as store:
        assert await store.keys.all() == (added,)


def test_processes_that_open_a_new_database_at_once_migrate_it_once(new_database: NewDatabase) -> None:
    """`hanlin keys create` beside the first start, or three servers on one PostgreSQL."""
    where = new_database()

    processes = [program(where, MIGRATIONS, f"hash-{number}") for number in range(3)]
    errors = [process.communicate()[1] for process in processes]

    assert [process.returncode for process in processes] == [0, 0, 0], "\n".join(errors)


async def test_opening_says_nothing_unless_a_database_with_rows_is_migrated(
    new_database: NewDatabase, newer: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A library that sets logging up takes it away from the service."""
    caplog.set_level(logging.WARNING)
    before = (logging.root.level, list(logging.root.handlers))
    where = new_database()

    for folder in (MIGRATIONS, MIGRATIONS, newer):
        async with await open_store(where, folder):
            pass

    assert caplog.records == []
    assert (logging.root.level, logging.root.handlers) == before


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def test_a_backup_is_made_before_a_sqlite_file_with_rows_is_migrated(tmp_path: Path, newer: Path) -> None:
    """The way back, should the update be a mistake: the old Hanlin runs on the copy."""
    file = tmp_path / "hanlin.db"
    async with await open_store(file) as store:
        added = await store.keys.add("laptop", "hash-a", "")
    assert names(tmp_path) == ["hanlin.db", "newer"]

    async with await open_store(file, newer) as store:
        await store.keys.add("later", "hash-b", "")

    backup = tmp_path / "hanlin.db.before-0006_next"
    assert mode(backup) == 0o600
    backup.replace(file)
    async with await open_store(file) as store:
        assert await store.keys.all() == (added,)


async def test_a_backup_holds_what_a_killed_server_had_not_moved_out_of_its_log_yet(
    tmp_path: Path, newer: Path
) -> None:
    """A plain copy of the file would lose the newest rows."""
    file = tmp_path / "hanlin.db"
    async with await open_store(file) as store:
        await store.keys.add("laptop", "hash-a", "")
        killed = tmp_path / "killed" / "hanlin.db"
        killed.parent.mkdir()
        for name in ("hanlin.db", "hanlin.db-wal"):
            shutil.copy(tmp_path / name, killed.parent)
    assert killed.with_name("hanlin.db-wal").stat().st_size > 0

    async with await open_store(killed, newer):
        pass

    with closing(sqlite3.connect(killed.with_name("hanlin.db.before-0006_next"))) as backup:
        assert backup.execute("SELECT name FROM keys").fetchall() == [("laptop",)]


async def test_a_backup_that_cannot_be_written_stops_the_start_before_anything_changed(
    tmp_path: Path, newer: Path
) -> None:
    """No way back, no migration."""
    file = tmp_path / "hanlin.db"
    async with await open_store(file):
        pass
    (tmp_path / "hanlin.db.before-0006_next.tmp").mkdir()

    with pytest.raises(StartupError, match=r"before-0006_next: the backup before the migration cannot be written"):
        await open_store(file, newer)

    async with await open_store(file):
        pass


async def test_a_sqlite_file_is_open_to_its_owner_only(tmp_path: Path) -> None:
    """Also with its log, where the newest rows are."""
    file = tmp_path / "hanlin.db"

    async with await open_store(file) as store:
        await store.keys.add("laptop", "hash-a", "")
        modes = {name: mode(tmp_path / name) for name in names(tmp_path)}

    assert modes == dict.fromkeys(("hanlin.db", "hanlin.db-shm", "hanlin.db-wal"), 0o600)


@pytest.mark.parametrize("name", ["a?b=c", "50%20", "a b#c", "翰林"])
async def test_a_path_may_hold_what_means_something_in_a_url(tmp_path: Path, name: str) -> None:
    """The home is wherever the user wants it."""
    file = tmp_path / name / "hanlin.db"
    file.parent.mkdir()

    async with await open_store(file) as store:
        await store.keys.add("laptop", "hash-a", "")

    assert names(file.parent) == ["hanlin.db"]


async def test_a_file_that_is_no_database_stops_the_start_and_stays_as_it_is(tmp_path: Path) -> None:
    """The user decides what becomes of it."""
    file = tmp_path / "hanlin.db"
    file.write_bytes(b"not a database " * 1000)

    with pytest.raises(StartupError, match=r"the database cannot be used: file is not a database. Restore it from"):
        await open_store(file)

    assert file.read_bytes() == b"not a database " * 1000


@pytest.mark.parametrize("damage", ["schema", "cut"])
async def test_a_damaged_database_stops_the_start_with_the_remedy(tmp_path: Path, damage: str) -> None:
    """Not a traceback, and never a fresh database in its place without a word."""
    file = tmp_path / "hanlin.db"
    async with await open_store(file) as store:
        await store.keys.add("laptop", "hash-a", "")
    content = file.read_bytes()
    file.write_bytes(content[:200] + b"\xff" * 3896 + content[4096:] if damage == "schema" else content[:6000])

    with pytest.raises(StartupError, match=r"hanlin.db: the database cannot be used: .*or move it away"):
        async with await open_store(file) as store:
            await store.keys.all()


async def test_a_folder_in_the_place_of_the_database_stops_the_start(tmp_path: Path) -> None:
    """Containers make one when a mounted file is missing."""
    file = tmp_path / "hanlin.db"
    file.mkdir()

    with pytest.raises(StartupError, match=r"hanlin.db: cannot be used: a folder is where a file is needed"):
        await open_store(file)


async def test_tables_of_a_stranger_are_refused(tmp_path: Path) -> None:
    """We neither read keys from them nor change them."""
    file = tmp_path / "hanlin.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE keys (id INTEGER)")

    with pytest.raises(StartupError, match=r"holds tables that Hanlin did not make \(keys\)"):
        await open_store(file)


async def test_a_database_that_breaks_while_open_is_a_typed_failure_with_its_reason_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The caller gets a 500 in the contract's shape, the operator learns why; neither sees statements or hashes."""
    file = tmp_path / "hanlin.db"
    async with await open_store(file) as store:
        with closing(sqlite3.connect(file)) as connection:
            connection.execute("DROP TABLE keys")

        with pytest.raises(StoreFailed):
            await store.keys.find("hash-a")
        with pytest.raises(StoreFailed):
            await store.keys.add("laptop", "hash-a", "")
        assert store.failures == 2

    assert caplog.messages == ["database: no such table: keys"]


async def test_a_server_that_cannot_be_reached_stops_the_start_without_showing_the_password(tmp_path: Path) -> None:
    """The message ends in logs."""
    with pytest.raises(StartupError, match=r"the database cannot be used: .*See that the server runs") as refusal:
        await open_store(f"postgresql://hanlin:geheim@/hanlin?host={tmp_path}")

    assert "geheim" not in str(refusal.value)


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("geheim", "is not a URL. Give postgresql://USER:PASSWORD@HOST/DATABASE"),
        ("postgresql://hanlin:ge@heim:geheim@localhost/hanlin", "is not a URL"),
        ("postgresql://hanlin@localhost:geheim/hanlin", "is not a URL"),
        ("postgresql://localhost/hanlin?password=geheim", "postgresql://localhost/hanlin: 'password' is not an option"),
        ("mysql://hanlin:geheim@localhost/hanlin", "mysql://hanlin:***@localhost/hanlin: not a database that is supp"),
    ],
)
async def test_an_address_of_another_kind_is_refused_without_showing_the_password(where: str, words: str) -> None:
    """The message ends in logs."""
    with pytest.raises(StartupError) as refusal:
        await open_store(where)

    assert words in str(refusal.value)
    assert "geheim" not in str(refusal.value)


def test_migrations_form_one_line_and_are_named_after_their_files() -> None:
    """The cheap check at start reads file names; Alembic reads what is inside. 32 characters fit its table."""
    scripts = ScriptDirectory(MIGRATIONS, version_locations=[MIGRATIONS])

    line = tuple(script.revision for script in scripts.walk_revisions())[::-1]

    assert revisions(MIGRATIONS) == line
    assert all(len(name) <= 32 for name in line)
    assert all(Path(script.path).stem == script.revision for script in scripts.walk_revisions())


def test_an_up_to_date_database_is_opened_without_alembic(tmp_path: Path) -> None:
    """Its import costs a tenth of a second and 11 MB at every start."""
    file = tmp_path / "hanlin.db"
    with program(file, MIGRATIONS, "hash-a") as first:
        first.communicate()
    check = OPEN + "\nsys.exit('alembic' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", check, str(file), str(MIGRATIONS), "hash-b"], check=False)

    assert (first.returncode, done.returncode) == (0, 0)


@pytest.mark.parametrize(
    ("revision", "steps"), [(None, ("0001_a", "0002_b", "0003_c")), ("0001_a", ("0002_b", "0003_c")), ("0003_c", ())]
)
def test_what_a_database_lacks_follows_from_its_revision(revision: str | None, steps: tuple[str, ...]) -> None:
    """Steps are taken in order, each once."""
    contents = Contents(revision, frozenset({"keys"} if revision else ()))

    assert lacking(contents, ("0001_a", "0002_b", "0003_c"), "hanlin.db") == steps
