"""The journal: what was written is read back, whatever a death, a damaged disk or a full one did to the rest."""

import errno
import os
import stat
from datetime import UTC, datetime
from pathlib import Path
from zlib import crc32

import msgspec
import pytest

from hanlin.errors import StartupError
from hanlin.metering.journal import Bounds, Journal, open_journal
from hanlin.metering.journal_left import hold
from hanlin.metering.journal_segments import DAMAGED_FILES, Segment, line_of
from hanlin.store.rows import LedgerRow, Outcome
from hanlin.types import Usage
from tests.starts import start_of

ROW = LedgerRow(
    id="call-1",
    began_at=datetime(2026, 11, 26, 12, 0, 0, 123456, UTC),
    key_id="key-1",
    workspace_id="default",
    surface="chat",
    model="qwen-plus 通义\n",
    usage=Usage(10, 20, 5, 3),
    media={"image": 2},
    total_ms=1.5,
    cost_nanos=123,
)


BOUNDS = Bounds()


def rows(count: int, first: int = 0) -> list[LedgerRow]:
    return [msgspec.structs.replace(ROW, id=f"call-{number}") for number in range(first, first + count)]


def file_of(folder: Path, content: bytes) -> Segment:
    path = folder / "1-a.000001.rows"
    path.write_bytes(content)
    return Segment(path)


def read(segment: Segment, limit: int = 1000) -> list[LedgerRow]:
    """Return all rows that a segment hands out, and settle them."""
    found = []
    while taken := segment.take(limit):
        for row, source in taken:
            found.append(row)
            source.settle(row)
    return found


def left_in(folder: Path) -> list[LedgerRow]:
    """Return what the next process finds in the folder, and remove it as if all of it were in a database."""
    journal = open_journal(folder)
    found = []
    for left in journal.take_over():
        while taken := left.take(100):
            for row, source in taken:
                found.append(row)
                source.settle(row)
        left.sweep()
        assert left.is_done
    journal.close()
    return found


def die(journal: Journal) -> None:
    """Do to the journal's files what the death of its process does: its lock is gone, nothing else happens."""
    os.close(journal._descriptor)


class Disk:
    """A disk that takes `room` more bytes and is full then, as the operating system says it."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.calls = 0

    def write(self, descriptor: int, content: bytes | bytearray) -> int:
        self.calls += 1
        if not self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = os.write(descriptor, content[: self.room])
        self.room -= written
        return written


def on(disk: Disk, folder: Path, bounds: Bounds = BOUNDS) -> Journal:
    descriptor = hold(folder, "1-a")
    assert descriptor is not None
    return Journal(folder, "1-a", descriptor, bounds, write=disk.write)


# --- files of rows ---------------------------------------------------------------------------------------------------


def test_a_row_comes_back_as_it_was(tmp_path: Path) -> None:
    """Whatever a name holds: an end of line in it would be the end of its row."""
    segment = file_of(tmp_path, bytes(line_of(ROW)))

    assert read(segment) == [ROW]


def test_a_file_that_ends_anywhere_in_a_row_keeps_all_rows_before_it(tmp_path: Path) -> None:
    """A death, and more so a loss of power, may cut the last write at any byte."""
    whole = b"".join(map(bytes, map(line_of, rows(2))))
    last = bytes(line_of(rows(1, first=2)[0]))

    for cut in range(len(last)):
        segment = file_of(tmp_path, whole + last[:cut])

        # Without the end of its line it is whole as well: its checksum says so.
        expected = rows(3) if cut == len(last) - 1 else rows(2)
        assert (read(segment), segment.damaged) == (expected, 0), cut


def test_a_damaged_byte_costs_its_own_row_only(tmp_path: Path) -> None:
    """A disk that loses a byte must not take the rest of four megabytes with it."""
    lines = [bytes(line_of(row)) for row in rows(3)]

    for place in range(len(lines[1])):
        damaged = bytearray(lines[1])
        damaged[place] ^= 0x55
        segment = file_of(tmp_path, lines[0] + damaged + lines[2])

        found = [row.id for row in read(segment)]

        is_end = place == len(lines[1]) - 1  # without it, two rows are one line
        assert found == (["call-0"] if is_end else ["call-0", "call-2"]), place
        assert segment.damaged


def test_a_stretch_without_an_end_of_line_is_skipped(tmp_path: Path) -> None:
    """File systems have left zeros where a file was growing when the power failed."""
    before, after = rows(2)
    segment = file_of(tmp_path, bytes(line_of(before) + bytes(1024 * 1024) + b"\n" + line_of(after)))

    assert read(segment) == [before, after]
    assert segment.damaged


def test_a_line_that_was_written_by_another_release_is_read_as_far_as_it_is_known(tmp_path: Path) -> None:
    """The journal of the release before is replayed by the next one, and after a step back the other way round."""
    known = msgspec.json.encode({**msgspec.to_builtins(ROW), "tomorrow": 1})
    segment = file_of(tmp_path, known + b" %08x\n" % crc32(known))

    assert read(segment) == [ROW]


def test_a_file_with_damaged_lines_is_kept_for_people_to_look_at(tmp_path: Path) -> None:
    """What a checksum says is not what happened: somebody has to see the bytes. Old ones go, or the disk fills up."""
    for number in range(DAMAGED_FILES + 3):
        path = tmp_path / f"1-a.{number:06d}.rows"
        path.write_bytes(b"nonsense\n")
        segment = Segment(path)

        assert read(segment) == []
        segment.remove()

    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [f"1-a.{number:06d}.damaged" for number in range(3, DAMAGED_FILES + 3)]


def test_rows_are_handed_out_in_order_a_few_at_a_time(tmp_path: Path) -> None:
    """A backlog of hours must not be in memory all at once."""
    segment = file_of(tmp_path, b"".join(map(bytes, map(line_of, rows(5)))))

    assert [row.id for row, _ in segment.take(2)] == ["call-0", "call-1"]
    assert read(segment, limit=2) == rows(3, first=2)
    assert not segment.is_done  # the first two are not settled


# --- the journal of a process ----------------------------------------------------------------------------------------


def test_a_finished_call_is_found_after_a_death(tmp_path: Path) -> None:
    """`ended` has returned: from here on the row outlives the process, without anything being closed."""
    journal = open_journal(tmp_path)
    journal.ended(ROW)

    die(journal)

    assert left_in(tmp_path) == [ROW]
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_files_are_for_their_owner_only(tmp_path: Path) -> None:
    """They say who called what, and when."""
    journal = open_journal(tmp_path)
    journal.began(start_of(ROW))
    journal.ended(ROW)
    journal.set_aside(ROW)

    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}

    assert len(list(tmp_path.iterdir())) == 5
    assert modes == {0o600}


def test_a_full_file_is_followed_by_the_next(tmp_path: Path) -> None:
    """One file for ever could never be deleted while calls come."""
    journal = open_journal(tmp_path, Bounds(segment_bytes=2 * len(line_of(ROW))))
    for row in rows(5):
        journal.ended(row)

    assert len(list(tmp_path.glob("*.rows"))) == 3
    die(journal)
    assert left_in(tmp_path) == rows(5)


def test_a_file_goes_when_all_its_rows_are_settled(tmp_path: Path) -> None:
    """Not before: a row that was handed out is not in the database yet."""
    journal = open_journal(tmp_path, Bounds(segment_bytes=2 * len(line_of(ROW))))
    for row in rows(5):
        journal.ended(row)
    taken = journal.take(5) + journal.take(5) + journal.take(5)
    assert [row.id for row, _ in taken] == [f"call-{number}" for number in range(5)]

    for row, source in taken[:3]:
        source.settle(row)
    journal.tend()

    assert [path.name[-6:] for path in sorted(tmp_path.glob("*.rows"))] == ["2.rows", "3.rows"]
    assert journal.pending_rows == 2


def test_a_quiet_file_is_exchanged_once_its_rows_are_settled(tmp_path: Path) -> None:
    """After a death there is little to read that the database has already."""
    now = 0.0
    descriptor = hold(tmp_path, "1-a")
    assert descriptor is not None
    journal = Journal(tmp_path, "1-a", descriptor, Bounds(), clock=lambda: now)
    journal.ended(ROW)
    now = 61.0
    journal.tend()
    assert list(tmp_path.glob("*.rows"))

    for row, source in journal.take(1):
        source.settle(row)
    journal.tend()

    assert not list(tmp_path.glob("*.rows"))


def test_rows_beyond_what_memory_should_hold_are_read_back(tmp_path: Path) -> None:
    """While a database is down for hours, the journal grows on the disk and not in memory."""
    journal = open_journal(tmp_path, Bounds(segment_bytes=2 * len(line_of(ROW)), kept_rows=3))
    for row in rows(9):
        journal.ended(row)
    in_memory = sum(segment.kept for segment in journal._segments)

    found = []
    while taken := journal.take(4):
        found += [row for row, _ in taken]

    assert in_memory == 4
    assert found == rows(9)


def test_a_file_that_is_written_is_read_as_it_grows(tmp_path: Path) -> None:
    """Also when its rows are not kept in memory: no row may be skipped at what was the end for a moment."""
    journal = open_journal(tmp_path, Bounds(kept_rows=0))
    found = []
    for row in rows(5):
        journal.ended(row)
        found += [row for row, _ in journal.take(10)]
        assert not journal.take(10)

    assert found == rows(5)


def test_a_journal_whose_rows_are_settled_leaves_nothing_behind(tmp_path: Path) -> None:
    """An ordinary stop, and the next start has nothing to read."""
    journal = open_journal(tmp_path)
    mark = journal.began(start_of(ROW))
    mark.delivered(3)
    mark.ended(ROW)
    for row, source in journal.take(10):
        source.settle(row)

    journal.close()

    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_a_journal_that_is_closed_too_early_leaves_its_rows_and_calls_to_the_next(tmp_path: Path) -> None:
    """The database is down, a call would not end: the service stops nevertheless, and nothing is lost."""
    journal = open_journal(tmp_path)
    one, two = rows(2)
    journal.began(start_of(one))
    journal.ended(two)

    journal.close()

    assert [(row.id, row.outcome) for row in left_in(tmp_path)] == [
        ("call-1", Outcome.ANSWERED),
        ("call-0", Outcome.INTERRUPTED),
    ]


def test_what_was_written_is_handed_over_to_be_forced_to_the_disk_once(tmp_path: Path) -> None:
    """Forcing is slow and happens elsewhere; what nobody has written to since need not be forced again."""
    journal = open_journal(tmp_path)
    journal.ended(ROW)

    new = journal.unsynced()
    nothing = journal.unsynced()
    journal.ended(ROW)
    more = journal.unsynced()

    assert (len(new), len(nothing), len(more)) == (2, 0, 1)  # with the folder, which has a new name in it
    for descriptor in new + more:
        os.fsync(descriptor)
        os.close(descriptor)


def test_a_folder_that_cannot_be_used_stops_the_start(tmp_path: Path) -> None:
    """With the reason, as for all that a start needs of its home."""
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(StartupError, match="file"):
        open_journal(tmp_path / "file")


# --- other processes -------------------------------------------------------------------------------------------------


def test_files_of_a_living_process_are_left_alone(tmp_path: Path) -> None:
    """Workers share the folder: one that starts must not declare the calls of another interrupted."""
    living = open_journal(tmp_path)
    living.began(start_of(rows(1)[0]))
    living.ended(ROW)
    files = sorted(path.name for path in tmp_path.iterdir())

    assert left_in(tmp_path) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == files


def test_what_a_process_left_is_taken_over_by_one_other_only(tmp_path: Path) -> None:
    """Two that start at once would both ask the database for the same rows, and delete files under each other."""
    dead = open_journal(tmp_path)
    dead.ended(ROW)
    die(dead)
    one, two = open_journal(tmp_path), open_journal(tmp_path)

    assert [len(one.take_over()), len(two.take_over())] == [1, 0]


def test_a_process_that_dies_while_it_replays_leaves_the_rest_to_the_next(tmp_path: Path) -> None:
    """Rows that the database got the first time are known to it by their ids."""
    dead = open_journal(tmp_path, Bounds(segment_bytes=1))
    for row in rows(3):
        dead.ended(row)
    dead.began(start_of(rows(1, first=9)[0]))
    die(dead)
    second = open_journal(tmp_path)
    (left,) = second.take_over()
    for row, source in left.take(1) + left.take(1):
        source.settle(row)
    left.sweep()

    left.let_go()
    die(second)

    assert [row.id for row in left_in(tmp_path)] == ["call-1", "call-2", "call-9"]


def test_files_whose_lock_is_gone_are_taken_over_as_well(tmp_path: Path) -> None:
    """Somebody tidied up what looked empty."""
    dead = open_journal(tmp_path)
    dead.ended(ROW)
    die(dead)
    for path in tmp_path.glob("*.lock"):
        path.unlink()

    assert left_in(tmp_path) == [ROW]


# --- a disk that is full ---------------------------------------------------------------------------------------------


def test_rows_that_no_disk_takes_wait_in_memory_and_are_written_when_there_is_room(tmp_path: Path) -> None:
    """The row that was being written is written whole then, and what is left of the attempt is no row."""
    size = len(line_of(rows(1)[0]))
    disk = Disk(room=2 * size + 7)
    journal = on(disk, tmp_path)
    for row in rows(4):
        journal.ended(row)
    assert (journal.state, journal.pending_rows) == ("unwritten", 4)

    disk.room = 10**6
    journal.tend()

    assert (journal.state, journal.failure, journal.lost) == ("well", "", 0)
    die(journal)
    assert left_in(tmp_path) == rows(4)


def test_rows_that_end_together_are_written_by_one_call(tmp_path: Path) -> None:
    """And as they would be alone: each is marked until then, and found after a death from then on."""
    disk = Disk(room=10**6)
    journal = on(disk, tmp_path)
    marks = [journal.began(start_of(row)) for row in rows(3)]

    with journal.together():
        for mark, row in zip(marks, rows(3), strict=True):
            mark.ended(row)
        assert (journal.open_calls, disk.calls) == (3, 0)

    assert (journal.open_calls, disk.calls, journal.ended_rows, journal.pending_rows) == (0, 1, 3, 3)
    with journal.together():
        pass
    assert disk.calls == 1
    die(journal)
    assert left_in(tmp_path) == rows(3)


def test_a_mistake_among_rows_that_end_together_costs_only_its_own(tmp_path: Path) -> None:
    """What cannot be written as text is told to whoever wrote it; whatever else happens in the block, the rows stay."""
    journal = open_journal(tmp_path)

    with pytest.raises(RuntimeError), journal.together():  # noqa: PT012 (the block is what is tried)
        journal.ended(rows(1)[0])
        with pytest.raises(UnicodeEncodeError):
            journal.ended(msgspec.structs.replace(ROW, id="half", deployment="\ud800"))
        journal.ended(rows(2)[1])
        raise RuntimeError

    journal.ended(rows(3)[2])
    assert (journal.ended_rows, journal.state) == (3, "well")
    die(journal)
    assert left_in(tmp_path) == rows(3)


def test_rows_that_end_together_on_a_full_disk_wait_in_memory(tmp_path: Path) -> None:
    """Of what it took of them nothing stays: half of a block would be written twice."""
    size = len(line_of(rows(1)[0]))
    disk = Disk(room=2 * size)
    journal = on(disk, tmp_path)
    marks = [journal.began(start_of(row)) for row in rows(3)]

    with journal.together():
        for mark, row in zip(marks, rows(3), strict=True):
            mark.ended(row)

    assert (journal.state, journal.pending_rows, journal.open_calls) == ("unwritten", 3, 3)
    disk.room = 10**6
    journal.tend()
    assert (journal.state, journal.open_calls, journal.lost) == ("well", 0, 0)
    die(journal)
    assert left_in(tmp_path) == rows(3)


def test_a_database_gets_the_rows_that_no_disk_takes(tmp_path: Path) -> None:
    """It may be on another machine: calls are billed as long as one of the two works."""
    journal = on(Disk(room=0), tmp_path)
    for row in rows(3):
        journal.ended(row)

    taken = journal.take(10)
    for row, source in taken:
        source.settle(row)

    assert [row for row, _ in taken] == rows(3)
    assert journal.pending_rows == 0


def test_a_call_whose_row_waits_in_memory_stays_marked(tmp_path: Path) -> None:
    """If the process dies after all, an `interrupted` row is better than none."""
    journal = on(Disk(room=0), tmp_path)
    mark = journal.began(start_of(ROW))
    mark.delivered(20)
    mark.ended(ROW)
    assert journal.open_calls == 1

    die(journal)

    assert [(row.id, row.outcome, row.usage.completion) for row in left_in(tmp_path)] == [
        ("call-1", Outcome.INTERRUPTED, 20)
    ]


def test_a_mark_is_taken_back_when_its_row_left_memory(tmp_path: Path) -> None:
    """By either way: on the disk, or in the database."""
    disk = Disk(room=0)
    journal = on(disk, tmp_path)
    for row in rows(2):
        journal.began(start_of(row)).ended(row)
    ((row, source),) = journal.take(1)

    source.settle(row)
    assert journal.open_calls == 1
    disk.room = 10**6
    journal.tend()

    assert journal.open_calls == 0


def test_a_disk_with_room_is_noticed_without_a_call(tmp_path: Path) -> None:
    """A service that refuses calls while they cannot be billed has none that would notice."""
    disk = Disk(room=0)
    journal = on(disk, tmp_path)
    journal.ended(ROW)
    for row, source in journal.take(1):
        source.settle(row)
    journal.tend()
    before: str = journal.state

    disk.room = 10**6
    journal.tend()

    assert (before, journal.state) == ("unwritten", "well")
    journal.ended(ROW)
    die(journal)
    assert left_in(tmp_path) == [ROW]


def test_memory_has_a_bound_too_and_what_is_lost_is_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A service that grew until it was killed would lose more than the rows it cannot keep."""
    journal = on(Disk(room=0), tmp_path, Bounds(held_rows=2))

    for row in rows(5):
        journal.began(start_of(row)).ended(row)

    assert (journal.state, journal.lost, journal.pending_rows, journal.open_calls) == ("losing", 3, 2, 2)
    assert [row for row, _ in journal.take(10)] == rows(2)
    assert [record.message for record in caplog.records if "lost" in record.message][-1].startswith("journal: rows are")


def test_the_journal_has_a_bound_on_the_disk(tmp_path: Path) -> None:
    """A database that is down for days must not fill the disk that everything else needs."""
    size = len(line_of(rows(1)[0]))
    journal = open_journal(tmp_path, Bounds(segment_bytes=size, total_bytes=3 * size))
    for row in rows(4):
        journal.ended(row)
    assert (journal.state, journal.size_bytes) == ("unwritten", 3 * size)
    assert "bound" in journal.failure

    for row, source in journal.take(1):
        source.settle(row)
    journal.tend()
    journal.tend()

    assert (journal.state, journal.pending_rows) == ("well", 3)


def test_a_full_disk_at_the_end_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The last moment at which rows can be lost: how many they are must not be guessed."""
    journal = on(Disk(room=0), tmp_path)
    journal.ended(ROW)

    journal.close()

    assert "1 rows are lost" in caplog.text


def test_an_error_is_told_once_and_not_for_every_call(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A thousand calls a second would fill what is left of the disk with lines about it."""
    disk = Disk(room=0)
    journal = on(disk, tmp_path)

    for row in rows(5):
        journal.ended(row)
        journal.tend()
    disk.room = 10**6
    journal.tend()

    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
