"""With which secret the keys of a database were hashed: services that share one must not each have their own.

Its fingerprint stands in the audit log, where everything stands that decides who may call.
"""

from collections.abc import Callable
from datetime import datetime

from sqlalchemy import func, or_, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from hanlin.errors import StartupError
from hanlin.store.audit import record
from hanlin.store.engine import now_utc, reading, writing
from hanlin.store.tables import audit, keys
from hanlin.words import say

_WHAT = "secret.take"

# Any number will do, as long as every release of ours takes the same: of two that come first, one is.
_POSTGRES_TURN = "SELECT pg_advisory_xact_lock(7236218642)"


class SecretMark:
    """The secret of one database, by its fingerprint."""

    def __init__(self, engine: AsyncEngine, now: Callable[[], datetime] = now_utc) -> None:
        self._engine = engine
        self._now = now

    async def agree(self, fingerprint: str) -> None:
        """See that keys here are hashed with the secret of this fingerprint; the first to ask decides.

        Another one is taken once there have been keys and none works any more. Raises StartupError where it is not,
        and StoreFailed.
        """
        async with reading(self._engine) as connection:
            if await _noted(connection) == fingerprint:
                return
        async with writing(self._engine) as connection:
            if connection.dialect.name == "postgresql":
                await connection.execute(text(_POSTGRES_TURN))
            there = await _noted(connection)
            if there == fingerprint:
                return
            if there is not None and not await self._is_over(connection):
                raise _another()
            await record(connection, self._now(), "", _WHAT, "secret", there, fingerprint)

    async def _is_over(self, connection: AsyncConnection) -> bool:
        """Say whether there were keys, and none works: nobody loses anything."""
        alive = or_(keys.c.expires_at.is_(None), keys.c.expires_at > self._now())
        working = select(func.count()).select_from(keys).where(keys.c.revoked_at.is_(None), alive)
        there = select(func.count()).select_from(keys)
        return bool(await connection.scalar(there)) and not await connection.scalar(working)


async def _noted(connection: AsyncConnection) -> str | None:
    latest = select(audit.c.after).where(audit.c.what == _WHAT).order_by(audit.c.id.desc()).limit(1)
    found = await connection.scalar(latest)
    return None if found is None else str(found).strip('"')


def _another() -> StartupError:
    return StartupError(
        say(
            "keys in this database are hashed with another secret, so that none of them would work here. Take the same "
            "one: copy the file `secret` from the home of a service that shares the database, or give its hex digits "
            "as HANLIN_SECRET. If it is lost for good, revoke all keys (`hanlin keys list`, `hanlin keys revoke ID`) "
            "and start again, or take an empty database",
            "此数据库中的密钥以另一个机密计算哈希，在此均无法使用。请使用相同的机密："
            "从共用该数据库的服务的主目录复制 `secret` 文件，或以 HANLIN_SECRET 给出其十六进制值。若已无法找回，"
            "请吊销全部密钥（`hanlin keys list`、`hanlin keys revoke 编号`）后重新启动，或换用空数据库",
        )
    )
