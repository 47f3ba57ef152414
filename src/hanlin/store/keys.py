"""Keys that may call, and those that no longer may. Only hashes are known here; `hanlin.keys` makes them."""

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta

import msgspec
from sqlalchemy import insert, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from hanlin.errors import DuplicateKey, InvalidRequest, UnknownKey
from hanlin.store import columns
from hanlin.store.audit import record
from hanlin.store.engine import now_utc, reading, writing
from hanlin.store.rows import DEFAULT_WORKSPACE, UNLIMITED, KeyRow, Limits, Role
from hanlin.store.tables import keys
from hanlin.store.workspaces import existing
from hanlin.words import say

_KEPT = ("id", "hash", "hint", "created_at", "revoked_at", "replaces_id", "origin_id")


class Keys:
    """The keys of one database. Every method raises StoreFailed when the database cannot be used.

    Each change leaves a row in the audit log, in the name of `who`.
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
        with _unknown_so_far(hint):
            async with writing(self._engine) as connection:
                await existing(connection, workspace_id)
                await connection.execute(insert(keys).values(columns.of_key(row)))
                await record(connection, row.created_at, who, "keys.add", row.id, after=row.shown())
        return row

    async def all(self) -> tuple[KeyRow, ...]:
        """Return every key, revoked and expired ones too, oldest first."""
        async with reading(self._engine) as connection:
            found = await connection.execute(select(keys).order_by(keys.c.created_at, keys.c.id))
            return tuple(map(columns.key, found.mappings()))

    async def get(self, key_id: str) -> KeyRow:
        """Return a key, working or not. Raises UnknownKey."""
        async with reading(self._engine) as connection:
            return await _existing(connection, key_id)

    async def find(self, key_hash: str) -> KeyRow | None:
        """Return the working key with this hash; None when it is unknown, revoked or expired."""
        query = select(keys).where(
            keys.c.hash == key_hash,
            keys.c.revoked_at.is_(None),
            or_(keys.c.expires_at.is_(None), keys.c.expires_at > self._now()),
        )
        async with reading(self._engine) as connection:
            row = (await connection.execute(query)).mappings().one_or_none()
        return None if row is None else columns.key(row)

    async def change(self, key_id: str, edit: Callable[[KeyRow], KeyRow], *, who: str = "") -> KeyRow:
        """Store what `edit` makes of a key and return it. Nobody else changes it in between.

        Raises UnknownKey, UnknownWorkspace, ValueError when `edit` changes what other methods are for (`hash`,
        `revoked_at`) or what never changes (`id`, `created_at`), and what `edit` raises.
        """
        async with writing(self._engine) as connection:
            old = await _existing(connection, key_id, to_change=True)
            new = edit(old)
            if changed := [name for name in _KEPT if getattr(new, name) != getattr(old, name)]:
                raise ValueError(f"{', '.join(changed)}: cannot be changed")
            if new.workspace_id != old.workspace_id:
                await existing(connection, new.workspace_id)
            if new != old:
                await _store(connection, new)
                await record(connection, self._now(), who, "keys.change", new.id, old.shown(), new.shown())
        return new

    async def rotate(self, key_id: str, key_hash: str, hint: str, overlap: timedelta, *, who: str = "") -> KeyRow:
        """Store a key that may what an older one may, and return it; the older one works for `overlap` yet.

        A key that was to expire sooner still does, and its successor at the same time. Raises UnknownKey, DuplicateKey,
        and InvalidRequest for a key that no longer works.
        """
        now = self._now()
        with _unknown_so_far(hint):
            async with writing(self._engine) as connection:
                old = await _existing(connection, key_id, to_change=True)
                if not old.works(now):
                    raise InvalidRequest(
                        say(
                            f"{key_id}: has been revoked or has expired, so that nothing can replace it. Make a key",
                            f"{key_id}：已吊销或已过期，无法轮换。请新建密钥",
                        )
                    )
                last = now + overlap if old.expires_at is None else min(old.expires_at, now + overlap)
                await _store(connection, msgspec.structs.replace(old, expires_at=last))
                new = msgspec.structs.replace(
                    old,
                    id=_new_id(),
                    hash=key_hash,
                    hint=hint,
                    created_at=now,
                    replaces_id=old.id,
                    origin_id=old.counted_as,
                )
                await connection.execute(insert(keys).values(columns.of_key(new)))
                await record(connection, now, who, "keys.rotate", old.id, old.shown(), new.shown())
        return new

    async def revoke(self, key_id: str, *, who: str = "") -> KeyRow:
        """Stop a key for good and return it. A revoked one keeps its first time. Raises UnknownKey."""
        async with writing(self._engine) as connection:
            old = await _existing(connection, key_id, to_change=True)
            if old.revoked_at is not None:
                return old
            new = msgspec.structs.replace(old, revoked_at=self._now())
            await _store(connection, new)
            await record(connection, self._now(), who, "keys.revoke", key_id, old.shown(), new.shown())
        return new


def _new_id() -> str:
    return f"key-{secrets.token_hex(8)}"


async def _existing(connection: AsyncConnection, key_id: str, *, to_change: bool = False) -> KeyRow:
    """Return a key, `to_change` so that no other transaction can until ours ends. Raises UnknownKey."""
    query = select(keys).where(keys.c.id == key_id)
    found = await connection.execute(query.with_for_update() if to_change else query)
    row = found.mappings().one_or_none()
    if row is None:
        raise UnknownKey(
            say(
                f"{key_id}: no key has this id. `hanlin keys list` shows all",
                f"{key_id}：没有此编号的密钥。可用 `hanlin keys list` 查看全部",
            )
        )
    return columns.key(row)


async def _store(connection: AsyncConnection, row: KeyRow) -> None:
    await connection.execute(update(keys).where(keys.c.id == row.id).values(columns.of_key(row)))


@contextmanager
def _unknown_so_far(hint: str) -> Iterator[None]:
    """Turn the database's refusal of a second row for one hash into DuplicateKey."""
    try:
        yield
    except IntegrityError as error:
        raise DuplicateKey(
            say(
                f"key …{hint}: stored already, or revoked. `hanlin keys list` shows it; make another one",
                f"密钥 …{hint}：已存在或已吊销。可用 `hanlin keys list` 查看；请另建一个",
            )
        ) from error
