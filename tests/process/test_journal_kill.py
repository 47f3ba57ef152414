"""The journal under kill -9: what a process said that it had written is there, once, and so is what it was cut in."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hanlin.metering.journal import open_journal
from hanlin.metering.ledger import LedgerWriter
from tests.journal_child import Sqlite

ROUNDS = int(os.environ.get("TEST_KILLS", "20")) // 2
LIMIT_S = 60.0  # for a machine that is busy elsewhere


class Child:
    """A running `journal_child`, and what it has told so far."""

    def __init__(self, folder: Path, database: Path, name: str, *, mapped: bool) -> None:
        arguments = json.dumps([str(folder), str(database), name, mapped])
        self.name = name
        self.told: list[tuple[str, str, int]] = []
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.journal_child", arguments],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            word, call_id, tokens = line.decode().split()
            self.told.append((word, call_id, int(tokens)))

    def wait_for_steps(self, count: int) -> None:
        deadline = time.monotonic() + LIMIT_S
        while len(self.told) < count:
            assert self._process.poll() is None, "it ended by itself"
            assert time.monotonic() < deadline
            time.sleep(0.001)

    def kill(self) -> None:
        """End it as the kernel does, and read what it had told until then."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Child]]:
    """Start children on one folder and one database; they end with the test."""
    children: list[Child] = []
    (tmp_path / "journal").mkdir()

    def start(name: str, **options: bool) -> Child:
        children.append(Child(tmp_path / "journal", tmp_path / "calls.db", name, **options))
        return children[-1]

    yield start
    for child in children:
        if child._process.poll() is None:
            child.kill()


async def replayed(folder: Path) -> dict[str, tuple[str, int]]:
    """Replay what dead processes left, as the next one does, and return what is in the database then."""
    database = Sqlite(folder / "calls.db")
    journal = open_journal(folder / "journal")
    writer = LedgerWriter(journal, database)
    writer.take_over()
    assert await writer.close(LIMIT_S)
    assert writer.state().damaged_lines == 0
    journal.close()
    return database.rows()


def compare(child: Child, rows: dict[str, tuple[str, int]]) -> dict[str, int]:
    """See that each call of a dead child has the one row that it must have; return how many of each kind there were."""
    last: dict[str, dict[str, int]] = {}
    for word, call_id, tokens in child.told:
        last.setdefault(call_id, {})[word] = tokens
    kinds = {"ended": 0, "cut": 0}
    for call_id, steps in last.items():
        row = rows.pop(call_id, None)
        delivered, generated = steps.get("delivered", 0), steps.get("generated", 0)
        if "ended" in steps:
            assert row == ("answered", steps["ended"]), call_id
            kinds["ended"] += 1
        elif "began" in steps:
            assert row is not None, call_id
            outcome, tokens = row
            assert outcome == "interrupted" or ("ends" in steps and row == ("answered", steps["ends"])), call_id
            assert delivered <= tokens <= generated, call_id
            kinds["cut"] += 1
        else:  # it died between the two words, or before
            assert row in (None, ("interrupted", 0)), call_id
    return kinds


def of(child: Child, rows: dict[str, tuple[str, int]]) -> dict[str, tuple[str, int]]:
    return {call_id: row for call_id, row in rows.items() if call_id.startswith(f"{child.name}-")}


async def test_every_call_of_processes_that_are_killed_has_one_row_with_the_right_count(
    start: Callable[..., Child], tmp_path: Path
) -> None:
    """Two at a time share folder and database, so that what one left is replayed while another writes on."""
    chance = random.Random(5)
    ended = cut = 0
    for number in range(ROUNDS):
        children = [start(f"{number}{letter}", mapped=letter == "a" or number % 2 == 0) for letter in "ab"]
        for child in children:
            child.wait_for_steps(chance.randrange(1, 20_000))
        chance.shuffle(children)
        for child in children:
            await asyncio.sleep(chance.random() * 0.05)
            child.kill()
            mine = of(child, await replayed(tmp_path))

            kinds = compare(child, mine)

            assert not mine, "rows of calls that nobody has heard of"
            ended, cut = ended + kinds["ended"], cut + kinds["cut"]
    assert os.listdir(tmp_path / "journal") == ["lock"]
    assert ended > ROUNDS
    assert cut > ROUNDS


# Its files may have 10,000 bytes: the kernel cuts the write that goes beyond it, in the middle of a row.
FULL = """
import os, resource, signal, sys
from pathlib import Path
import msgspec
from hanlin.metering.journal import open_journal
from tests.unit.test_ledger_writer import ROW
from tests.starts import start_of

resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
journal = open_journal(Path(sys.argv[1]))
for number in range(200):
    row = msgspec.structs.replace(ROW, id=f"full-{number}")
    journal.began(start_of(row)).ended(row)
    journal.tend()
print(journal.state, journal.unmarked, journal.lost, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


async def test_rows_survive_a_disk_that_is_full_in_the_middle_of_a_row(tmp_path: Path) -> None:
    """The real thing, as far as a test may have it: calls go on without a mark, and each row is in the next file."""
    (tmp_path / "journal").mkdir()

    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", FULL, str(tmp_path / "journal")],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )

    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "well 200 0\n"), done.stderr
    rows = await replayed(tmp_path)
    assert rows == {f"full-{number}": ("answered", 20) for number in range(200)}
