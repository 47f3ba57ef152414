"""What models are held to, all callers together, by name or pattern. What a pattern means is not decided here."""

from collections.abc import Callable
from datetime import datetime

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from hanlin.errors import HanlinError
from hanlin.store import columns
from hanlin.store.audit import record
from hanlin.store.engine import now_utc, reading, writing
from hanlin.store.rows import UNLIMITED, Limits, ModelLimits
from hanlin.store.tables import model_limits
from hanlin.words import say


class UnknownLimits(HanlinError):
    """No limits are set for the pattern that was given."""

    status, code, type = 404, "not_found", "invalid_request_error"

    def __init__(self, pattern: str) -> None:
        super().__init__(
            say(
                f"{pattern!r}: no limits are set for this. `hanlin limits list` shows all",
                f"{pattern!r}：没有为此设置限额。`hanlin limits list` 列出全部",
            )
        )


class LimitsOfModels:
    """The limits of models of one database. Every method raises StoreFailed when the database cannot be used.

    Each change leaves a row in the audit log, in the name of `who`.
    """

    def __init__(self, engine: AsyncEngine, now: Callable[[], datetime] = now_utc) -> None:
        self._engine = engine
        self._now = now

    async def change(self, pattern: str, edit: Callable[[Limits], Limits], *, who: str = "") -> ModelLimits:
        """Store what `edit` makes of a pattern's limits, of none where it has none yet, and return the row.

        Nobody else changes it in between. Raises what `edit` raises.
        """
        async with writing(self._engine) as connection:
            old = await _find_to_change(connection, pattern)
            new = ModelLimits(
                pattern=pattern,
                made_at=self._now() if old is None else old.made_at,
                limits=edit(UNLIMITED if old is None else old.limits),
            )
            if old is None:
                await connection.execute(insert(model_limits).values(columns.of_model_limits(new)))
            elif new != old:
                its_row = update(model_limits).where(model_limits.c.pattern == pattern)
                await connection.execute(its_row.values(columns.of_model_limits(new)))
            if new != old:
                await record(connection, self._now(), who, "limits.change", pattern, old, new)
        return new

    async def remove(self, pattern: str, *, who: str = "") -> ModelLimits:
        """Forget a pattern's limits, and return what they were. Raises UnknownLimits."""
        async with writing(self._engine) as connection:
            old = await _find_to_change(connection, pattern)
            if old is None:
                raise UnknownLimits(pattern)
            await connection.execute(delete(model_limits).where(model_limits.c.pattern == pattern))
            await record(connection, self._now(), who, "limits.remove", pattern, old)
        return old

    async def all(self) -> tuple[ModelLimits, ...]:
        """Return every row, by pattern."""
        async with reading(self._engine) as connection:
            found = await connection.execute(select(model_limits))
            # Sorted here, because databases put signs in orders of their own.
            return tuple(sorted(map(columns.model_limits, found.mappings()), key=lambda row: row.pattern))


async def _find_to_change(connection: AsyncConnection, pattern: str) -> ModelLimits | None:
    found = await connection.execute(select(model_limits).where(model_limits.c.pattern == pattern).with_for_update())
    row = found.mappings().one_or_none()
    return None if row is None else columns.model_limits(row)


__all__ = ["LimitsOfModels", "UnknownLimits"]
