"""Rows that are made, looked at and changed one by one, each change with its line in the audit log: what keys and
workspaces have in common.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Insert, RowMapping, Table, Update, insert, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from hanlin.errors import HanlinError
from hanlin.store.audit import record
from hanlin.store.engine import reading
from hanlin.store.rows import KeyRow, Mark, Page, Workspace

Row = TypeVar("Row", bound=KeyRow | Workspace)

Check = Callable[[Row, Row], None]
"""Raises what forbids a change, given the row as it was and as it will be."""


class Book(Generic[Row]):
    """The rows of one table; `what` is its name in the audit log, which has a row as `shown` returns it.

    No change touches the fields that are `kept`. A row that has what must be another one's alone, such as its name, is
    refused as `taken` says. Every method that has a connection works in its transaction.
    """

    def __init__(
        self,
        what: str,
        table: Table,
        read: Callable[[RowMapping], Row],
        write: Callable[[Row], Mapping[str, Any]],
        *,
        kept: Sequence[str],
        shown: Callable[[Row], object],
        unknown: Callable[[str], HanlinError],
        taken: Callable[[Row], HanlinError],
    ) -> None:
        self._what = what
        self._table = table
        self._read = read
        self._write = write
        self._kept = kept
        self._shown = shown
        self._unknown = unknown
        self._taken = taken

    async def all(self, engine: AsyncEngine) -> tuple[Row, ...]:
        """Return every row, oldest first."""
        async with reading(engine) as connection:
            return await self.some(connection)

    async def page(
        self, engine: AsyncEngine, after: Mark | None, limit: int, *conditions: ColumnElement[bool]
    ) -> Page[Row]:
        """Return up to `limit` rows, oldest first, from a mark on that an earlier page ended with.

        Rows that are added meanwhile come last, so that no page has one twice and none is passed over.
        """
        its = self._table.c
        query = select(self._table).where(*conditions)
        if after is not None:
            query = query.where(its.created_at >= after.at, or_(its.created_at > after.at, its.id > after.id))
        query = query.order_by(its.created_at, its.id).limit(limit + 1)
        async with reading(engine) as connection:
            found = [self._read(row) for row in (await connection.execute(query)).mappings()]
        rows = tuple(found[:limit])
        return Page(rows, Mark(rows[-1].created_at, rows[-1].id) if len(found) > limit else None)

    async def some(
        self, connection: AsyncConnection, *conditions: ColumnElement[bool], to_change: bool = False
    ) -> tuple[Row, ...]:
        """Return the rows that meet conditions, oldest first; `to_change` so that no other transaction can."""
        query = select(self._table).where(*conditions).order_by(self._table.c.created_at, self._table.c.id)
        found = await connection.execute(query.with_for_update() if to_change else query)
        return tuple(map(self._read, found.mappings()))

    async def existing(self, connection: AsyncConnection, row_id: str, *, to_change: bool = False) -> Row:
        """Return a row, `to_change` so that no other transaction can until ours ends. Raises what is `unknown`."""
        found = await self.some(connection, self._table.c.id == row_id, to_change=to_change)
        if not found:
            raise self._unknown(row_id)
        return found[0]

    async def add(self, connection: AsyncConnection, row: Row, who: str) -> None:
        """Store a new row."""
        await self.insert(connection, row)
        await record(connection, row.created_at, who, f"{self._what}.add", row.id, after=self._shown(row))

    async def insert(self, connection: AsyncConnection, row: Row) -> None:
        """Store a new row, as a part of a change that is recorded otherwise."""
        await self._write_row(connection, insert(self._table), row)

    async def change(
        self,
        connection: AsyncConnection,
        row_id: str,
        edit: Callable[[Row], Row],
        at: datetime,
        who: str,
        check: Check[Row] | None = None,
    ) -> tuple[Row, Row]:
        """Store what `edit` makes of a row; return it before and after.

        Raises what is `unknown`, ValueError when `edit` changes what is `kept`, and what `edit` and `check` raise.
        """
        old = await self.existing(connection, row_id, to_change=True)
        new = edit(old)
        if changed := [name for name in self._kept if getattr(new, name) != getattr(old, name)]:
            raise ValueError(f"{', '.join(changed)}: cannot be changed")
        if check is not None:
            check(old, new)
        if new != old:
            await self.replace(connection, old, new, at, who, "change")
        return old, new

    async def replace(self, connection: AsyncConnection, old: Row, new: Row, at: datetime, who: str, deed: str) -> None:
        """Store a row in place of what it was, which is locked. `deed` is the word for it in the audit log."""
        await self.store(connection, new)
        what = f"{self._what}.{deed}"
        await record(connection, at, who, what, new.id, self._shown(old), self._shown(new))

    async def store(self, connection: AsyncConnection, new: Row) -> None:
        """Store a row in place of what it was, as a part of a change that is recorded otherwise."""
        await self._write_row(connection, update(self._table).where(self._table.c.id == new.id), new)

    async def _write_row(self, connection: AsyncConnection, statement: Insert | Update, row: Row) -> None:
        try:
            await connection.execute(statement.values(self._write(row)))
        except IntegrityError as error:
            raise self._taken(row) from error
