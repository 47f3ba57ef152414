"""The price lists that bills were worked out by: each version is kept for good, and never changes."""

from collections.abc import Callable
from datetime import datetime

import msgspec
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from hanlin.errors import InvalidRequest
from hanlin.store import bulk
from hanlin.store.audit import record
from hanlin.store.engine import now_utc, reading, writing
from hanlin.store.rows import PriceList
from hanlin.store.tables import prices
from hanlin.words import say

_UNLESS_THERE = "ON CONFLICT DO NOTHING"


class Prices:
    """The price lists of one database. Every method raises StoreFailed when the database cannot be used."""

    def __init__(self, engine: AsyncEngine, now: Callable[[], datetime] = now_utc) -> None:
        self._engine = engine
        self._now = now

    async def keep(self, version: str, text: str, *, who: str = "") -> PriceList:
        """Store a list, JSON text, unless it is there; return it with the time of the first time.

        Raises InvalidRequest when the version is there with another text: old bills would change their meaning.
        """
        async with writing(self._engine) as connection:
            row = PriceList(version=version, made_at=self._now(), text=text)
            if await bulk.insert(
                connection, prices, row.__struct_fields__, [msgspec.structs.astuple(row)], _UNLESS_THERE
            ):
                await record(connection, row.made_at, who, "prices.keep", version)
                return row
            there = await _find(connection, version)
        if there is None or there.text != text:
            raise InvalidRequest(
                say(
                    f"{version}: a price list of this version is stored, and it is another one. Give a new version",
                    f"{version}：已存在同一版本但内容不同的价目表。请使用新的版本号",
                )
            )
        return there

    async def find(self, version: str) -> PriceList | None:
        """Return the list of a version; None when there is none."""
        async with reading(self._engine) as connection:
            return await _find(connection, version)

    async def all(self) -> tuple[PriceList, ...]:
        """Return every list, oldest first."""
        async with reading(self._engine) as connection:
            found = await connection.execute(select(prices).order_by(prices.c.made_at, prices.c.version))
            return tuple(PriceList(**row) for row in found.mappings())


async def _find(connection: AsyncConnection, version: str) -> PriceList | None:
    found = await connection.execute(select(prices).where(prices.c.version == version))
    row = found.mappings().one_or_none()
    return None if row is None else PriceList(**row)
