"""Who changed what, and when: rows are added and read, never changed. The other parts of this room add theirs inside
the transaction of the change itself, so that there is no change without its row.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from hanlin.store.engine import now_utc, reading, writing
from hanlin.store.rows import AuditRow
from hanlin.store.tables import audit


class Audit:
    """The changes of one database. Every method raises StoreFailed when the database cannot be used."""

    def __init__(self, engine: AsyncEngine, now: Callable[[], datetime] = now_utc) -> None:
        self._engine = engine
        self._now = now

    async def add(self, who: str, what: str, subject: str, before: object = None, after: object = None) -> None:
        """Record a change that was made elsewhere; msgspec must be able to encode `before` and `after`."""
        async with writing(self._engine) as connection:
            await record(connection, self._now(), who, what, subject, before, after)

    async def page(
        self, *, subject: str = "", who: str | None = None, before: int | None = None, limit: int = 100
    ) -> tuple[AuditRow, ...]:
        """Return changes, newest first: those of a subject, by somebody, made before the one with the id `before`."""
        rows = select(audit).order_by(audit.c.id.desc()).limit(limit)
        if subject:
            rows = rows.where(audit.c.subject == subject)
        if who is not None:
            rows = rows.where(audit.c.who == who)
        if before is not None:
            rows = rows.where(audit.c.id < before)
        async with reading(self._engine) as connection:
            return tuple(AuditRow(**row) for row in (await connection.execute(rows)).mappings())


async def record(
    connection: AsyncConnection,
    at: datetime,
    who: str,
    what: str,
    subject: str,
    before: object = None,
    after: object = None,
) -> None:
    """Add a change's row to the transaction that makes it."""
    columns: dict[str, Any] = {"at": at, "who": who, "what": what, "subject": subject}
    await connection.execute(insert(audit).values(**columns, before=_json(before), after=_json(after)))


def _json(value: object) -> str:
    return "" if value is None else msgspec.json.encode(value).decode()
