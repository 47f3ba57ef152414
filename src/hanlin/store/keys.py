"""Keys that may call, and those that no longer may. Only hashes are known here; `hanlin.keys` makes them."""

import secrets
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta

import msgspec
from sqlalchemy import ColumnElement, or_
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from hanlin.errors import DuplicateKey, InvalidRequest, UnknownKey
from hanlin.store import columns, workspaces
from hanlin.store.audit import record
from hanlin.store.book import Book
from hanlin.store.engine import now_utc, reading, writing
from hanlin.store.rows import DEFAULT_WORKSPACE, UNLIMITED, KeyRow, Limits, Mark, Page, Role
from hanlin.store.tables import keys
from hanlin.words import say

Check = Callable[[KeyRow, KeyRow, Sequence[KeyRow]], None]
"""Raises what forbids a change, given the key as it was, as it will be, and the other keys with the role of an owner
that work now. None of them changes before the change that is checked is made."""


def _unknown(key_id: str) -> UnknownKey:
    return UnknownKey(
        say(
            f"{key_id}: no key has this id. `hanlin keys list` shows all",
            f"{key_id}：没有此编号的密钥。可用 `hanlin keys list` 查看全部",
        ),
        param="key",
    )


def _taken(row: KeyRow) -> DuplicateKey:
    return DuplicateKey(
        say(
            f"key …{row.hint}: stored already, or revoked. `hanlin keys list` shows it; make another one",
            f"密钥 …{row.hint}：已存在或已吊销。可用 `hanlin keys list` 查看；请另建一个",
        )
    )


_BOOK: Book[KeyRow] = Book(
    "keys",
    keys,
    columns.key,
    columns.of_key,
    kept=("id", "hash", "hint", "created_at", "revoked_at", "replaces_id", "origin_id"),
    shown=KeyRow.shown,
    unknown=_unknown,
    taken=_taken,
)


class Keys:
    """The keys of one database. Every method raises StoreFailed when the database cannot be used.

    Each change leaves a row in the audit log, in the name of `who`, unless a `check` forbids it.
    """

    def __init__(self, engine: AsyncEngine, now: Callable[[], datetime] = now_utc) -> None:
        self._engine = engine
        self._now = now

    async def add(
        self,
        name: str,
        key_hash: str,
        hint: str,
        *,
        workspace_id: str = DEFAULT_WORKSPACE,
        role: Role = "",
        models: Sequence[str] = (),
        surfaces: Sequence[str] = (),
        addresses: Sequence[str] = (),
        limits: Limits = UNLIMITED,
        expires_at: datetime | None = None,
        who: str = "",
    ) -> KeyRow:
        """Store a key under a new id. The fields are those of KeyRow.

        Raises UnknownWorkspace, and DuplicateKey for a hash that is known, also as revoked.
        """
        row = KeyRow(
            id=_new_id(),
            name=name,
            hash=key_hash,
            hint=hint,
            created_at=self._now(),
            workspace_id=workspace_id,
            role=role,
            models=tuple(models),
            surfaces=tuple(surfaces),
            addresses=tuple(addresses),
            limits=limits,
            expires_at=expires_at,
        )
        async with writing(self._engine) as connection:
            await workspaces.BOOK.existing(connection, workspace_id)
            await _BOOK.add(connection, row, who)
        return row

    async def all(self) -> tuple[KeyRow, ...]:
        """Return every key, revoked and expired ones too, oldest first."""
        return await _BOOK.all(self._engine)

    async def page(self, after: Mark | None = None, limit: int = 100, *, workspace_id: str = "") -> Page[KeyRow]:
        """Return up to `limit` keys, oldest first, from a mark on that an earlier page ended with."""
        only = (keys.c.workspace_id == workspace_id,) if workspace_id else ()
        return await _BOOK.page(self._engine, after, limit, *only)

    async def some(self, ids: Collection[str]) -> tuple[KeyRow, ...]:
        """Return the keys that have one of up to 10,000 ids."""
        async with reading(self._engine) as connection:
            return await _BOOK.some(connection, keys.c.id.in_(ids))

    async def get(self, key_id: str) -> KeyRow:
        """Return a key, working or not. Raises UnknownKey."""
        async with reading(self._engine) as connection:
            return await _BOOK.existing(connection, key_id)

    async def find(self, key_hash: str) -> KeyRow | None:
        """Return the working key with this hash; None when it is unknown, revoked or expired."""
        return await self._working(keys.c.hash == key_hash)

    async def find_by_id(self, key_id: str) -> KeyRow | None:
        """Return the working key with this id; None when it is unknown, revoked or expired."""
        return await self._working(keys.c.id == key_id)

    async def _working(self, condition: ColumnElement[bool]) -> KeyRow | None:
        async with reading(self._engine) as connection:
            found = await _BOOK.some(connection, condition, *_works(self._now()))
        return found[0] if found else None

    async def change(
        self, key_id: str, edit: Callable[[KeyRow], KeyRow], *, who: str = "", check: Check | None = None
    ) -> KeyRow:
        """Store what `edit` makes of a key and return it. Nobody else changes it in between.

        Raises UnknownKey, UnknownWorkspace, ValueError when `edit` changes what other methods are for (`hash`,
        `revoked_at`) or what never changes (`id`, `created_at`), and what `edit` and `check` raise.
        """
        async with writing(self._engine) as connection:
            now = self._now()
            checked = await _checked(connection, check, now)
            old, new = await _BOOK.change(connection, key_id, edit, now, who, checked)
            if new.workspace_id != old.workspace_id:
                await workspaces.BOOK.existing(connection, new.workspace_id)
        return new

    async def rotate(
        self,
        key_id: str,
        key_hash: str,
        hint: str,
        overlap: timedelta,
        *,
        who: str = "",
        check: Check | None = None,
    ) -> KeyRow:
        """Store a key that may what an older one may, and return it; the older one works for `overlap` yet.

        A key that was to expire sooner still does, and its successor at the same time. Raises UnknownKey, DuplicateKey,
        InvalidRequest for a key that no longer works, and what `check` raises, which is given the older key twice: as
        an owner it has its successor.
        """
        async with writing(self._engine) as connection:
            now = self._now()
            checked = await _checked(connection, check, now)
            old = await _BOOK.existing(connection, key_id, to_change=True)
            if checked is not None:
                checked(old, old)
            if not old.works(now):
                raise InvalidRequest(
                    say(
                        f"{key_id}: has been revoked or has expired, so that nothing can replace it. Make a key",
                        f"{key_id}：已吊销或已过期，无法轮换。请新建密钥",
                    )
                )
            last = now + overlap if old.expires_at is None else min(old.expires_at, now + overlap)
            await _BOOK.store(connection, msgspec.structs.replace(old, expires_at=last))
            new = msgspec.structs.replace(
                old,
                id=_new_id(),
                hash=key_hash,
                hint=hint,
                created_at=now,
                replaces_id=old.id,
                origin_id=old.counted_as,
            )
            await _BOOK.insert(connection, new)
            await record(connection, now, who, "keys.rotate", old.id, old.shown(), new.shown())
        return new

    async def revoke(self, key_id: str, *, who: str = "", check: Check | None = None) -> KeyRow:
        """Stop a key for good and return it. A revoked one keeps its first time.

        Raises UnknownKey, and what `check` raises.
        """
        async with writing(self._engine) as connection:
            now = self._now()
            checked = await _checked(connection, check, now)
            old = await _BOOK.existing(connection, key_id, to_change=True)
            new = old if old.revoked_at is not None else msgspec.structs.replace(old, revoked_at=now)
            if checked is not None:
                checked(old, new)
            if new != old:
                await _BOOK.replace(connection, old, new, now, who, "revoke")
        return new


def _new_id() -> str:
    return f"key-{secrets.token_hex(8)}"


def _works(at: datetime) -> tuple[ColumnElement[bool], ...]:
    """Return the conditions that `KeyRow.works` is about."""
    return keys.c.revoked_at.is_(None), or_(keys.c.expires_at.is_(None), keys.c.expires_at > at)


async def _checked(
    connection: AsyncConnection, check: Check | None, now: datetime
) -> Callable[[KeyRow, KeyRow], None] | None:
    """Return a check that knows the owners. They are locked first, and in one order: two changes never cross."""
    if check is None:
        return None
    owners = await _BOOK.some(connection, keys.c.role == "owner", *_works(now), to_change=True)

    def checked(old: KeyRow, new: KeyRow) -> None:
        check(old, new, [owner for owner in owners if owner.id != old.id])

    return checked
