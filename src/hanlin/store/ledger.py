"""The ledger: one row a call, and its sums by day, always of one mind because one transaction writes both.

Rows are told apart by their id, so that whoever is not sure whether some arrived appends them again. Sums outlive rows:
retention deletes rows, and what was spent stays known.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Collection, Sequence
from datetime import datetime
from typing import get_args

from sqlalchemy import bindparam, delete, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from hanlin.store import bulk, columns
from hanlin.store.contents import forget, forget_older
from hanlin.store.engine import BULK_S, LONG_S, reading, writing
from hanlin.store.rollups import DIMENSIONS, SUMS, changes
from hanlin.store.rows import EVERYTHING, Dimension, Filters, LedgerRow, Mark, Outcome, Page, Total
from hanlin.store.sums import added_up, conditions, spent_queries, totals_queries
from hanlin.store.tables import keys, ledger, ledger_days

_BATCH = 1000
"""Rows that one transaction writes: others wait for about a tenth of a second."""

_OLD_ONES = 250
"""Rows that one transaction deletes. Nobody is in a hurry, so that others wait for less."""

_MOST_OLD_ONES = 10_000  # databases take a statement of some 30,000 values

_UNLESS_THERE = "ON CONFLICT DO NOTHING"
_ADDED_TO_WHAT_IS_THERE = f"ON CONFLICT ({', '.join(DIMENSIONS)}) DO UPDATE SET " + ", ".join(
    f"{name} = ledger_days.{name} + excluded.{name}" for name in SUMS
)


class Ledger:
    """The calls of one database. Every method raises StoreFailed when the database cannot be used."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def append(self, rows: Sequence[LedgerRow]) -> int:
        """Store the rows that are not there yet, add them to the sums, and return how many they were.

        The first row of an id counts, and others of it are left out. A row that says `interrupted` is a guess made
        after a crash: the real one, should it turn up, takes its place. After a failure some of the rows may be
        stored; append them all again.
        """
        new = 0
        for start in range(0, len(rows), _BATCH):
            batch = _one_each(rows[start : start + _BATCH])
            try:
                async with writing(self._engine, BULK_S) as connection:
                    new += await _append_new(connection, batch)
            except _SomeThereError:
                async with writing(self._engine, BULK_S) as connection:
                    new += await _append(connection, batch)
        return new

    async def find(self, call_id: str) -> LedgerRow | None:
        """Return a call's row; None when there is none, or no longer."""
        async with reading(self._engine) as connection:
            found = await connection.execute(select(ledger).where(ledger.c.id == call_id))
            row = found.mappings().one_or_none()
        return None if row is None else columns.call(row)

    async def page(
        self, filters: Filters = EVERYTHING, before: Mark | None = None, limit: int = 100
    ) -> Page[LedgerRow]:
        """Return up to `limit` rows, newest first, from a mark on that an earlier page ended with."""
        query = select(ledger).where(*conditions(filters))
        if before is not None:
            # The first condition alone can be looked up in an index.
            query = query.where(
                ledger.c.began_at <= before.at,
                or_(ledger.c.began_at < before.at, ledger.c.id < before.id),
            )
        query = query.order_by(ledger.c.began_at.desc(), ledger.c.id.desc()).limit(limit + 1)
        async with reading(self._engine, LONG_S) as connection:
            found = [columns.call(row) for row in (await connection.execute(query)).mappings()]
        rows = tuple(found[:limit])
        return Page(rows, Mark(rows[-1].began_at, rows[-1].id) if len(found) > limit else None)

    async def totals(self, by: Collection[Dimension] = (), filters: Filters = EVERYTHING) -> tuple[Total, ...]:
        """Return what calls came to, told apart by some dimensions and always by currency, in their order.

        Whole days come from the daily sums. What is more or less than them at the two ends of a time, and everything
        when an outcome is asked for, comes from the rows, as far as retention has left them. Raises ValueError for
        another dimension.
        """
        if unknown := set(by) - set(get_args(Dimension)):
            raise ValueError(f"{', '.join(sorted(unknown))}: not a dimension")
        apart = [name for name in DIMENSIONS if name in by or name == "currency"]
        async with reading(self._engine, LONG_S) as connection:
            queries = totals_queries(filters, apart)
            found = [row for query in queries for row in (await connection.execute(query)).mappings()]
        return added_up(found, apart)

    async def spent(
        self,
        *,
        key_id: str = "",
        workspace_id: str = "",
        models: Collection[str] = (),
        currency: str = "CNY",
        since: datetime | None = None,
    ) -> int:
        """Return what a key, a workspace, or calls of some names were charged since a time (None: ever), in nanos.

        Keys of one line of rotations are one key here. Raises ValueError unless exactly one of the three is given.
        """
        if bool(key_id) + bool(workspace_id) + bool(models) != 1:
            raise ValueError("name a key, a workspace or models")
        async with reading(self._engine) as connection:
            if key_id:
                queries = spent_queries("key_id", await _line(connection, key_id), currency, since)
            elif workspace_id:
                queries = spent_queries("workspace_id", [workspace_id], currency, since)
            else:
                queries = spent_queries("model", models, currency, since)
            return sum([int(await connection.scalar(query) or 0) for query in queries])

    async def purge(self, before: datetime, batch: int = _OLD_ONES) -> AsyncGenerator[int, None]:
        """Delete the rows of calls that began before a time; yield how many are gone after each `batch` of them.

        What those calls said and were told goes with them, where it was kept. Each batch is a transaction of its own,
        and between two of them others have as much time as one took. Sums stay.
        Rows that come late are counted once more if theirs have been deleted: append what a crash left over first.
        Raises ValueError unless a batch has 1 to 10,000 rows.
        """
        if not 1 <= batch <= _MOST_OLD_ONES:
            raise ValueError(f"a batch of {batch}: it has 1 to {_MOST_OLD_ONES} rows")
        old = select(ledger.c.id).where(ledger.c.began_at < before).order_by(ledger.c.began_at).limit(batch)
        # Rows that are just being replaced are left to the next purge, instead of two waiting for each other.
        old = old.with_for_update(skip_locked=True)
        gone = 0
        while True:
            began = time.perf_counter()
            async with writing(self._engine, BULK_S) as connection:
                chosen = (await connection.scalars(old)).all()
                if not chosen:
                    await forget_older(connection, before)  # of calls whose rows never came here
                    return
                await connection.execute(delete(ledger).where(ledger.c.id.in_(chosen)))
                await forget(connection, chosen)
            took_s = time.perf_counter() - began
            gone += len(chosen)
            yield gone
            await asyncio.sleep(took_s)


def _one_each(rows: Sequence[LedgerRow]) -> list[LedgerRow]:
    """Return one row of each id, by the rule of `append`, in the order of ids: two writers of the same never cross."""
    rows = columns.storable(rows)
    found = {row.id: row for row in rows}
    if len(found) < len(rows):
        # The first counts; a guess only where there is no other, so that it is to come last.
        ranked = sorted(rows, key=lambda row: row.outcome is Outcome.INTERRUPTED)
        found = {row.id: row for row in reversed(ranked)}
    return [found[call_id] for call_id in sorted(found)]


class _SomeThereError(Exception):
    """Some rows of a batch are in the database already."""


async def _append_new(connection: AsyncConnection, batch: Sequence[LedgerRow]) -> int:
    """Write one transaction's rows and sums, all of them new, as nearly always; return how many they are.

    Raises _SomeThereError, and the transaction is to be taken back, where they are not: which ones that are is dear to
    ask.
    """
    calls = columns.of_calls(batch)
    if await bulk.insert(connection, ledger, columns.CALL, calls, _UNLESS_THERE) < len(batch):
        raise _SomeThereError
    await _add_up(connection, batch, ())
    return len(batch)


async def _append(connection: AsyncConnection, batch: Sequence[LedgerRow]) -> int:
    """Write one transaction's rows and sums; return how many rows are new or took the place of a guess."""
    calls = columns.of_calls(batch)
    tail = f"{_UNLESS_THERE} RETURNING id"
    added = {call_id for (call_id,) in await bulk.insert_returning(connection, ledger, columns.CALL, calls, tail)}
    new = [row for row in batch if row.id in added]
    late = {row.id: row for row in batch if row.id not in added and row.outcome is not Outcome.INTERRUPTED}
    guesses = await _replace(connection, late) if late else []
    new += [late[guess.id] for guess in guesses]
    if new:
        await _add_up(connection, new, guesses)
    return len(new)


async def _replace(connection: AsyncConnection, rows: dict[str, LedgerRow]) -> list[LedgerRow]:
    """Let rows take the place of guesses, where there are such; return the guesses that are gone."""
    query = select(ledger).where(ledger.c.id.in_(rows), ledger.c.outcome == Outcome.INTERRUPTED.value)
    found = await connection.execute(query.order_by(ledger.c.id).with_for_update())
    guesses = [columns.call(row) for row in found.mappings()]
    if guesses:
        real = [
            dict(zip(columns.CALL, row, strict=True)) for row in columns.of_calls([rows[one.id] for one in guesses])
        ]
        # A parameter may not have the name of a column that is set.
        replacing = update(ledger).where(ledger.c.id == bindparam("its_id"))
        await connection.execute(replacing, [{**row, "its_id": row["id"]} for row in real])
    return guesses


async def _add_up(connection: AsyncConnection, new: Sequence[LedgerRow], gone: Sequence[LedgerRow]) -> None:
    sums = [(*key, *values) for key, values in changes(new, gone)]
    await bulk.insert(connection, ledger_days, (*DIMENSIONS, *SUMS), sums, _ADDED_TO_WHAT_IS_THERE)


async def _line(connection: AsyncConnection, key_id: str) -> list[str]:
    """Return the ids of the keys that replaced each other, `key_id` among them."""
    origin = await connection.scalar(select(keys.c.origin_id).where(keys.c.id == key_id)) or key_id
    others = await connection.scalars(select(keys.c.id).where(keys.c.origin_id == origin))
    return sorted({key_id, origin, *others})
