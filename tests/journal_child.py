"""A process that writes calls into a journal as fast as it can, and tells each step before and after it.

What it has told is the truth that rows are compared with: `asks` and `began`, `generated` and `delivered`, `ends` and
`ended`, each with a call's id and its tokens so far. Its rows go into the database at the same time.
"""

import asyncio
import json
import os
import random
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from hanlin.metering.journal import Bounds, Journal, Mark
from hanlin.metering.journal_left import alone, hold
from hanlin.metering.ledger import LedgerWriter, Patience
from hanlin.store.rows import LedgerRow
from hanlin.types import Usage
from tests.starts import start_of

AT_ONCE = 40
SMALL = Bounds(segment_bytes=32_000, kept_rows=100)

_TABLE = "CREATE TABLE IF NOT EXISTS calls (id TEXT PRIMARY KEY, outcome TEXT, completion INTEGER)"
_APPEND = """
INSERT INTO calls VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET outcome = excluded.outcome,
completion = excluded.completion WHERE calls.outcome = 'interrupted' AND excluded.outcome <> 'interrupted'
"""


class Sqlite:
    """A database that keeps the promise of `Sink`, for several processes."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def append(self, rows: Sequence[LedgerRow]) -> None:
        with closing(self._open()) as connection, connection:
            connection.executemany(_APPEND, [(row.id, row.outcome.value, row.usage.completion) for row in rows])

    def rows(self) -> dict[str, tuple[str, int]]:
        """Return outcome and completion tokens of every call, by id."""
        with closing(self._open()) as connection:
            return {row_id: (outcome, tokens) for row_id, outcome, tokens in connection.execute("SELECT * FROM calls")}

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=60)
        connection.execute(_TABLE)
        return connection


@dataclass
class Call:
    row: LedgerRow
    mark: Mark
    tokens: int = 0


def tell(word: str, call_id: str, tokens: int) -> None:
    os.write(1, f"{word} {call_id} {tokens}\n".encode())


def begun(journal: Journal, call_id: str) -> Call:
    row = LedgerRow(
        id=call_id,
        began_at=datetime.now(UTC),
        key_id="key-1",
        workspace_id="default",
        surface="chat",
        model="qwen-plus",
        stream=True,
        usage=Usage(prompt=10),
    )
    tell("asks", call_id, 0)
    call = Call(row, journal.began(start_of(row)))
    tell("began", call_id, 0)
    return call


def go_on(call: Call, tokens: int) -> None:
    call.tokens += tokens
    tell("generated", call.row.id, call.tokens)
    call.mark.delivered(call.tokens)
    tell("delivered", call.row.id, call.tokens)


def end(call: Call) -> None:
    tell("ends", call.row.id, call.tokens)
    call.mark.ended(msgspec.structs.replace(call.row, usage=Usage(10, call.tokens)))
    tell("ended", call.row.id, call.tokens)


def calls(journal: Journal, name: str) -> Iterator[None]:
    """Begin, go on with and end calls in any order, one step at a time, for ever."""
    chance = random.Random(name)
    count, under_way = 0, list[Call]()
    while True:
        if len(under_way) < AT_ONCE or chance.random() < 0.1:
            count += 1
            under_way.append(begun(journal, f"{name}-{count}"))
        call = chance.choice(under_way)
        if chance.random() < 0.7:
            go_on(call, chance.randrange(1, 5))
        else:
            end(call)
            under_way.remove(call)
        yield


async def move(writer: LedgerWriter) -> None:
    """Do what `run` does, without its pauses: more of it is under way at any moment."""
    while True:
        await writer.step()
        writer.tend()
        await asyncio.sleep(0.002)


async def main(folder: Path, database: Path, name: str, *, mapped: bool) -> None:
    writer_name = f"{int.from_bytes(os.urandom(6)):x}-{os.getpid():x}"
    with alone(folder):
        descriptor = hold(folder, writer_name)
    assert descriptor is not None
    journal = Journal(folder, writer_name, descriptor, SMALL, mapped=mapped)
    moving = asyncio.create_task(move(LedgerWriter(journal, Sqlite(database), Patience(batch_rows=50))))
    for step, _ in enumerate(calls(journal, name)):
        if step % 20 == 0:
            await asyncio.sleep(0)
            assert not moving.done(), moving.exception()


if __name__ == "__main__":
    folder, database, name, mapped = json.loads(sys.argv[1])
    asyncio.run(main(Path(folder), Path(database), name, mapped=mapped))
