"""Keys that may call, and those that no longer may. Only hashes are known here; `hanlin.keys` makes them."""

import dataclasses
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Row, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from hanlin.errors import DuplicateKey, UnknownKey
from hanlin.store.engine import reading, writing
from hanlin.store.tables import keys
from hanlin.words import say


@dataclass(frozen=True)
class KeyRow:
    """A key as stored. `hint` is the end of its text; `revoked_at` is None while it works."""

    id: str
    name: str
    hash: str = dataclasses.field(repr=False)
    hint: str
    created_at: datetime
    revoked_at: datetime | None = None


def _now() -> datetime:
    return datetime.now(UTC)


class Keys:
    """The keys of one database. Every method raises StoreFailed when the database cannot be used."""

    def __init__(self, engine: AsyncEngine, now: Callable[[], datetime] = _now) -> None:
        self._engine = engine
        self._now = now

    async def add(self, name: str, key_hash: str, hint: str) -> KeyRow:
        """Store a key under a new id. Raises DuplicateKey for a hash that is known, also as revoked."""
        row = KeyRow(f"key-{secrets.token_hex(8)}", name, key_hash, hint, self._now())
        try:
            async with writing(self._engine) as connection:
                await connection.execute(insert(keys).values(dataclasses.asdict(row)))
        except IntegrityError as error:
            raise DuplicateKey(
                say(
                    f"key …{hint}: stored already, or revoked. `hanlin keys list` shows it; make another one",
                    f"密钥 …{hint}：已存在或已吊销。可用 `hanlin keys list` 查看；请另建一个",
                )
            ) from error
        return row

    async def all(self) -> tuple[KeyRow, ...]:
        """Return every key, revoked ones too, oldest first."""
        async with reading(self._engine) as connection:
            rows = await connection.execute(select(keys).order_by(keys.c.created_at, keys.c.id))
            return tuple(_key(row) for row in rows)

    async def find(self, key_hash: str) -> KeyRow | None:
        """Return the working key with this hash; None when it is unknown or revoked."""
        async with reading(self._engine) as connection:
            rows = await connection.execute(select(keys).where(keys.c.hash == key_hash, keys.c.revoked_at.is_(None)))
            row = rows.one_or_none()
        return None if row is None else _key(row)

    async def revoke(self, key_id: str) -> KeyRow:
        """Stop a key for good and return it. A revoked one keeps its first time. Raises UnknownKey."""
        async with writing(self._engine) as connection:
            await connection.execute(
                update(keys).where(keys.c.id == key_id, keys.c.revoked_at.is_(None)).values(revoked_at=self._now())
            )
            row = (await connection.execute(select(keys).where(keys.c.id == key_id))).one_or_none()
        if row is None:
            raise UnknownKey(
                say(
                    f"{key_id}: no key has this id. `hanlin keys list` shows all",
                    f"{key_id}：没有此编号的密钥。可用 `hanlin keys list` 查看全部",
                )
            )
        return _key(row)


def _key(row: "Row[tuple[object, ...]]") -> KeyRow:
    return KeyRow(**row._mapping)
