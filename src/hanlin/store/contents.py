"""Prompts and answers of workspaces that keep them, beside the ledger's rows of the same calls."""

from collections.abc import Sequence
from datetime import datetime

import msgspec
from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from hanlin.store import bulk
from hanlin.store.engine import reading, writing
from hanlin.store.rows import Content
from hanlin.store.tables import contents

_UNLESS_THERE = "ON CONFLICT DO NOTHING RETURNING call_id"


class Contents:
    """What calls of one database said and were told. Every method raises StoreFailed when it cannot be used.

    `Ledger.purge` deletes them with the rows that they belong to.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def append(self, rows: Sequence[Content]) -> None:
        """Store what calls said and were told; the first of a call counts."""
        async with writing(self._engine) as connection:
            values = list(map(msgspec.structs.astuple, rows))
            await bulk.insert(connection, contents, Content.__struct_fields__, values, _UNLESS_THERE)

    async def find(self, call_id: str) -> Content | None:
        """Return what a call said and was told; None where that is not kept, or no longer."""
        async with reading(self._engine) as connection:
            found = await connection.execute(select(contents).where(contents.c.call_id == call_id))
            row = found.mappings().one_or_none()
        return None if row is None else Content(**row)


async def forget(connection: AsyncConnection, call_ids: Sequence[str]) -> None:
    """Delete what these calls said and were told, inside the transaction that deletes their rows."""
    await connection.execute(delete(contents).where(contents.c.call_id.in_(call_ids)))


async def forget_older(connection: AsyncConnection, before: datetime) -> None:
    """Delete what calls said and were told that began before a time, whatever has become of their rows."""
    await connection.execute(delete(contents).where(contents.c.began_at < before))


__all__ = ["Contents", "forget", "forget_older"]
