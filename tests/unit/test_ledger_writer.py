"""Rows on their way into the database: each is there once, whatever the database does meanwhile."""

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from hanlin.errors import StoreFailed
from hanlin.metering.journal import Bounds, Journal, open_journal
from hanlin.metering.journal_segments import row_of
from hanlin.metering.ledger import LedgerWriter, Patience
from hanlin.store.rows import LedgerRow, Outcome
from hanlin.types import Usage
from tests.starts import start_of
from tests.values import LIMIT_S

BEGAN = datetime(2026, 11, 26, 12, tzinfo=UTC)
ROW = LedgerRow(
    id="call-0",
    began_at=BEGAN,
    key_id="key-1",
    workspace_id="default",
    surface="chat",
    model="qwen-plus",
    usage=Usage(10, 20),
    total_ms=2000,
)
HASTY = Patience(batch_rows=8, limit_s=0.05, pauses_s=(0.0,))


def rows(count: int, first: int = 0) -> list[LedgerRow]:
    return [msgspec.structs.replace(ROW, id=f"call-{number}") for number in range(first, first + count)]


def ids(count: int, first: int = 0) -> list[str]:
    return [row.id for row in rows(count, first)]


class Database:
    """A database that keeps the promise of `Sink`, and does what `before` and `after` a batch do."""

    def __init__(self) -> None:
        self.rows: dict[str, LedgerRow] = {}
        self.asked: list[int] = []
        self.told: Counter[str] = Counter()
        self.before: Callable[[Sequence[LedgerRow]], None] = lambda rows: None
        self.after: Callable[[Sequence[LedgerRow]], None] = lambda rows: None
        self.hangs = False
        self.has_rows = asyncio.Event()

    async def append(self, rows: Sequence[LedgerRow]) -> None:
        self.asked.append(len(rows))
        self.told.update(row.id for row in rows)
        if self.hangs:
            await asyncio.Event().wait()
        self.before(rows)
        for row in rows:
            known = self.rows.get(row.id)
            if known is None or known.outcome is Outcome.INTERRUPTED:
                self.rows[row.id] = row
        self.has_rows.set()
        self.after(rows)


def fail(rows: Sequence[LedgerRow]) -> None:
    raise StoreFailed


def refuse(row_id: str, error: Exception) -> Callable[[Sequence[LedgerRow]], None]:
    """Return what refuses every batch that has the row."""

    def look(rows: Sequence[LedgerRow]) -> None:
        if any(row.id == row_id for row in rows):
            raise error

    return look


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return open_journal(tmp_path)


@pytest.fixture
def database() -> Database:
    return Database()


def die(journal: Journal) -> None:
    """Do to the journal's files what the death of its process does: its lock is gone, nothing else happens."""
    os.close(journal._descriptor)


def files(folder: Path, kind: str) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix == kind)


async def steps(writer: LedgerWriter, count: int) -> None:
    for _ in range(count):
        await writer.step()
        writer.tend()


# --- the ordinary way ------------------------------------------------------------------------------------------------


async def test_whoever_asks_for_sums_waits_for_the_rows_that_are_on_their_way(
    journal: Journal, database: Database
) -> None:
    """A budget that begins with the ledger's sum must not forget the latest half second."""
    writer = LedgerWriter(journal, database)
    running = asyncio.create_task(writer.run())
    journal.ended(rows(1)[0])
    await database.has_rows.wait()
    for row in rows(3, first=1):
        journal.ended(row)  # just after a look: the next one is half a second away

    assert await writer.catch_up(within_s=30)
    assert list(database.rows) == ids(4)

    database.hangs = True
    journal.ended(rows(1, first=4)[0])
    assert not await writer.catch_up(within_s=0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_rows_get_into_the_database_in_batches(journal: Journal, database: Database) -> None:
    """A transaction for each row would be what the database is busy with."""
    writer = LedgerWriter(journal, database, Patience(batch_rows=8))
    for row in rows(20):
        journal.ended(row)

    pauses = [await writer.step() for _ in range(4)]

    assert list(database.rows) == ids(20)
    assert database.asked == [8, 8, 4]
    assert [pause > 0 for pause in pauses] == [False, False, True, True]
    assert (writer.state().pending_rows, writer.state().stored_rows, writer.state().state) == (0, 20, "well")


async def test_rows_move_while_the_writer_runs_and_what_is_left_moves_at_its_end(
    journal: Journal, database: Database, tmp_path: Path
) -> None:
    """As it is used: a task while calls are served, then `close`, then the journal."""
    writer = LedgerWriter(journal, database)
    running = asyncio.create_task(writer.run())
    journal.ended(rows(1)[0])
    async with asyncio.timeout(LIMIT_S):
        await database.has_rows.wait()

    running.cancel()
    await asyncio.wait([running])
    journal.ended(rows(2)[1])
    all_in = await writer.close(LIMIT_S)
    journal.close()

    assert all_in
    assert list(database.rows) == ids(2)
    assert os.listdir(tmp_path) == ["lock"]


async def test_what_is_not_in_memory_is_read_back(tmp_path: Path, database: Database) -> None:
    """The same rows by the other way, of which there are more than one reading gives."""
    journal = open_journal(tmp_path, Bounds(segment_bytes=200_000, kept_rows=0))
    writer = LedgerWriter(journal, database)
    for row in rows(2000):
        journal.ended(row)

    assert await writer.close(LIMIT_S)

    assert list(database.rows) == ids(2000)
    assert database.asked == [1000, 1000]


async def test_what_was_written_is_forced_to_the_disk(journal: Journal, database: Database) -> None:
    """A loss of power takes what is not; nothing of it may stay open afterwards."""
    writer = LedgerWriter(journal, database)
    journal.ended(ROW)
    before = len(os.listdir("/proc/self/fd"))

    await writer.force()
    await writer.force()

    assert len(os.listdir("/proc/self/fd")) == before
    assert journal.unsynced() == []


# --- a database that fails -------------------------------------------------------------------------------------------


async def test_a_database_that_is_down_gets_everything_when_it_is_back(
    journal: Journal, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """Calls go on meanwhile, and one line says what is the matter."""
    writer = LedgerWriter(journal, database, HASTY)
    database.before = fail
    for row in rows(20):
        journal.ended(row)
        await writer.step()
    state = writer.state()
    told = [record.levelname for record in caplog.records]

    database.before = lambda rows: None
    await steps(writer, 20)

    assert (state.state, state.pending_rows, state.failure) == ("behind", 20, "the database cannot be used")
    assert told == ["ERROR"]
    assert sorted(database.rows) == sorted(ids(20))
    assert (writer.state().state, writer.state().pending_rows, writer.state().failure) == ("well", 0, "")


async def test_pauses_between_attempts_grow_and_are_over_with_the_first_success(
    journal: Journal, database: Database
) -> None:
    """A database that comes up under a crowd that asks all the time goes down again."""
    writer = LedgerWriter(journal, database, Patience(pauses_s=(0.5, 1.0, 2.0)))
    database.before = fail
    journal.ended(ROW)

    pauses = [await writer.step() for _ in range(4)]
    database.before = lambda rows: None
    await writer.step()
    database.before = fail
    journal.ended(rows(2)[1])

    assert pauses == [0.5, 1.0, 2.0, 2.0]
    assert await writer.step() == 0.5


async def test_a_database_that_hangs_is_given_up_and_asked_again(journal: Journal, database: Database) -> None:
    """It says neither yes nor no; waiting for it would be the end of the ledger until a restart."""
    writer = LedgerWriter(journal, database, HASTY)
    database.hangs = True
    for row in rows(3):
        journal.ended(row)
    await writer.step()
    assert (writer.state().state, writer.state().failure) == ("behind", "no answer within 0.05 s")

    database.hangs = False
    await steps(writer, 4)

    assert sorted(database.rows) == ids(3)


async def test_a_database_that_takes_rows_and_then_fails_has_each_of_them_once(
    journal: Journal, database: Database
) -> None:
    """The connection broke between its commit and its word: we do not know, so it is told again."""
    writer = LedgerWriter(journal, database, HASTY)
    database.after = fail
    for row in rows(6):
        journal.ended(row)
    await steps(writer, 2)

    database.after = lambda rows: None
    await steps(writer, 6)

    assert sorted(database.rows) == ids(6)
    assert max(database.told.values()) > 1
    assert writer.state().pending_rows == 0


async def test_the_age_of_the_oldest_row_tells_how_long_it_has_been_failing(
    journal: Journal, database: Database
) -> None:
    """An operator sees whether it is seconds or the whole weekend."""
    writer = LedgerWriter(journal, database, HASTY, now=lambda: BEGAN + timedelta(seconds=62))
    database.before = fail
    journal.ended(ROW)

    await writer.step()

    assert writer.state().oldest_s == 60  # its call ended two seconds after it had begun


@pytest.mark.parametrize("error", [StoreFailed(), ValueError("a number is too large")], ids=["store", "mistake"])
async def test_a_row_that_the_database_never_takes_does_not_stop_the_others(
    journal: Journal, database: Database, tmp_path: Path, error: Exception
) -> None:
    """It is set aside for people to look at, once others have passed it three times: it cannot be the database."""
    writer = LedgerWriter(journal, database, HASTY)
    database.before = refuse("call-5", error)
    for row in rows(40):
        journal.ended(row)

    await steps(writer, 60)

    assert sorted(database.rows) == sorted(set(ids(40)) - {"call-5"})
    assert (writer.state().refused_rows, writer.state().pending_rows) == (1, 0)
    (line,) = (tmp_path / "refused.rows").read_bytes().splitlines()
    assert row_of(line) == rows(6)[5]


async def test_no_row_is_set_aside_because_the_database_was_down(journal: Journal, database: Database) -> None:
    """However often each of them failed alone meanwhile."""
    writer = LedgerWriter(journal, database, HASTY)
    for row in rows(3):
        journal.ended(row)

    for _ in range(5):  # it comes and goes
        database.before = fail
        await steps(writer, 12)
        database.before = lambda rows: None
        await steps(writer, 1)

    await steps(writer, 4)
    assert sorted(database.rows) == ids(3)
    assert writer.state().refused_rows == 0


async def test_a_writer_that_is_ended_while_the_database_hangs_leaves_the_rows_to_the_next(
    journal: Journal, database: Database, tmp_path: Path
) -> None:
    """A stop must end in time; what is not in the database is in files."""
    writer = LedgerWriter(journal, database)
    database.hangs = True
    for row in rows(3):
        journal.ended(row)

    assert not await writer.close(0.05)
    journal.close()

    database.hangs = False
    next_journal = open_journal(tmp_path)
    writer = LedgerWriter(next_journal, database)
    writer.take_over()
    assert await writer.close(LIMIT_S)
    assert list(database.rows) == ids(3)


# --- what dead processes left ----------------------------------------------------------------------------------------


async def test_a_call_that_a_process_died_under_leaves_one_interrupted_row(
    journal: Journal, database: Database, tmp_path: Path
) -> None:
    """With what had left of its answer. The finished ones leave theirs, and nothing else is left of it."""
    dead = open_journal(tmp_path)
    first, second, third = rows(3)
    dead.began(start_of(first)).ended(first)
    mark = dead.began(start_of(second, reserved_tokens=99))
    mark.delivered(7)
    dead.began(start_of(third)).ended(third)
    die(dead)
    cut: list[tuple[int, str, int]] = []
    writer = LedgerWriter(
        journal,
        database,
        cut=lambda start, row: cut.append((start.reserved_tokens, row.id, row.usage.completion)),
    )

    writer.take_over()
    all_in = await writer.close(LIMIT_S)
    journal.close()

    assert all_in
    assert {row.id: (row.outcome.value, row.usage.completion) for row in database.rows.values()} == {
        "call-0": ("answered", 20),
        "call-1": ("interrupted", 7),
        "call-2": ("answered", 20),
    }
    assert cut == [(99, "call-1", 7)]
    assert os.listdir(tmp_path) == ["lock"]


async def test_rows_are_replayed_into_a_database_that_has_them_already(
    journal: Journal, database: Database, tmp_path: Path
) -> None:
    """The process died after the database's commit and before the file was deleted."""
    dead = open_journal(tmp_path)
    for row in rows(5):
        dead.began(start_of(row)).ended(row)
    await LedgerWriter(dead, database).step()
    die(dead)
    writer = LedgerWriter(journal, database)

    writer.take_over()
    assert await writer.close(LIMIT_S)

    assert sorted(database.rows) == ids(5)
    assert set(database.told.values()) == {2}
    assert {row.outcome for row in database.rows.values()} == {Outcome.ANSWERED}


async def test_a_row_that_was_written_counts_although_its_call_is_still_marked(
    journal: Journal, database: Database, tmp_path: Path
) -> None:
    """The process died between the two: what happened is known, so that nothing has to be guessed."""
    dead = open_journal(tmp_path)
    dead.began(start_of(ROW))
    dead.ended(ROW)
    die(dead)
    writer = LedgerWriter(journal, database)

    writer.take_over()
    assert await writer.close(LIMIT_S)

    assert database.told == {"call-0": 1}
    assert database.rows["call-0"] == ROW


async def test_own_rows_do_not_wait_for_what_others_left(journal: Journal, database: Database, tmp_path: Path) -> None:
    """Hours of a journal may have to be replayed; somebody looks for the call that has just ended."""
    dead = open_journal(tmp_path)
    for row in rows(100, first=1):
        dead.ended(row)
    die(dead)
    writer = LedgerWriter(journal, database, HASTY)
    writer.take_over()
    await writer.step()
    journal.ended(ROW)

    await writer.step()

    assert "call-0" in database.rows
    assert len(database.rows) == 16


async def test_damage_in_what_was_left_is_counted_and_costs_nothing_else(
    journal: Journal, database: Database, tmp_path: Path
) -> None:
    """Also after the file that it was in has gone."""
    dead = open_journal(tmp_path)
    for row in rows(3):
        dead.ended(row)
    die(dead)
    (path,) = files(tmp_path, ".rows")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    writer = LedgerWriter(journal, database)

    writer.take_over()
    assert await writer.close(LIMIT_S)

    assert sorted(database.rows) == ["call-0", "call-2"]
    assert writer.state().damaged_lines == 1
    assert len(files(tmp_path, ".damaged")) == 1


async def test_a_damaged_line_in_its_own_file_does_not_keep_a_writer_from_ending(
    tmp_path: Path, database: Database
) -> None:
    """The row will never come, however long it is waited for."""
    journal = open_journal(tmp_path, Bounds(kept_rows=0))
    for row in rows(3):
        journal.ended(row)
    (path,) = files(tmp_path, ".rows")
    with path.open("r+b") as file:
        file.write(b"!")
    writer = LedgerWriter(journal, database)

    assert await writer.close(LIMIT_S)
    journal.close()

    assert sorted(database.rows) == ["call-1", "call-2"]
    assert (writer.state().damaged_lines, writer.state().pending_rows) == (1, 0)


async def test_files_that_cannot_be_read_are_set_aside_and_do_not_stop_the_rest(
    journal: Journal, database: Database, tmp_path: Path
) -> None:
    """A disk with a bad block; here it is folders of their names. They are not found again at every look."""
    dead = open_journal(tmp_path)
    dead.ended(ROW)
    die(dead)
    (path,) = files(tmp_path, ".rows")
    name = path.name.removesuffix(".000001.rows")
    os.mkdir(tmp_path / f"{name}.000000.rows")
    os.mkdir(tmp_path / f"{name}.000007.calls")
    writer = LedgerWriter(journal, database)

    writer.take_over()
    assert await writer.close(LIMIT_S)
    journal.close()

    assert list(database.rows) == ["call-0"]
    assert sorted(os.listdir(tmp_path)) == [f"{name}.000000.damaged", f"{name}.000007.damaged", "lock"]


async def test_whoever_takes_over_is_told_of_every_row_as_it_is_read(tmp_path: Path, database: Database) -> None:
    """The main process settles by them what a dead worker's calls held, whether the database answers or not."""
    dead = open_journal(tmp_path)
    for row in rows(2):
        dead.ended(row)
    dead.began(start_of(rows(1, 2)[0], reserved_tokens=99)).delivered(7)
    die(dead)
    found: list[tuple[str, Outcome]] = []
    database.before = fail
    writer = LedgerWriter(
        open_journal(tmp_path), database, HASTY, found=lambda row: found.append((row.id, row.outcome))
    )

    writer.take_over()
    assert writer.has_left
    await steps(writer, 4)

    answered, interrupted = Outcome.ANSWERED, Outcome.INTERRUPTED
    assert found == [("call-0", answered), ("call-1", answered), ("call-2", interrupted)]
    database.before = lambda rows: None
    await steps(writer, 12)
    assert not writer.has_left
    assert sorted(database.rows) == ids(3)


async def test_a_worker_leaves_what_dead_ones_left_to_the_main_process(tmp_path: Path, database: Database) -> None:
    """It would move the rows as well, but nobody would hear of them who holds something for their calls."""
    dead = open_journal(tmp_path)
    dead.ended(ROW)
    die(dead)
    own = open_journal(tmp_path)
    writer = LedgerWriter(own, database, takes_over=False)
    running = asyncio.create_task(writer.run())

    own.ended(rows(1, 1)[0])
    async with asyncio.timeout(LIMIT_S):
        await database.has_rows.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    assert list(database.rows) == ["call-1"]
    assert not writer.has_left
