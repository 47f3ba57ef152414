"""Files that callers uploaded, as rows; their bytes are `store.blobs`'.

A row outlives its file for a while, so that what was deleted can be told from what never was. Rows of files that are
to be read are also the line of those who wait for it: processes claim them, one at a time, for a limited time.
"""

from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, TextClause, and_, case, delete, func, insert, not_, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from hanlin.errors import FileQuotaExceeded
from hanlin.store import workspaces
from hanlin.store.engine import now_utc, reading, writing
from hanlin.store.rows import FileFilters, FileRow, Quota
from hanlin.store.tables import PENDING, files

ANY = FileFilters()

_FOUND = ("status", "reason", "details", "kind", "pages", "characters", "tokens")

_its = files.c


class Files:
    """The files of one database. Every method raises StoreFailed when the database cannot be used."""

    def __init__(self, engine: AsyncEngine, now: Callable[[], datetime] = now_utc) -> None:
        self._engine = engine
        self._now = now

    # what callers do

    async def add(self, row: FileRow, quota: Quota) -> None:
        """Store a new file. Raises FileQuotaExceeded where its workspace has no room for it, and UnknownWorkspace."""
        async with writing(self._engine) as connection:
            # Locked, so that uploads which come at once do not pass the quota together.
            await workspaces.BOOK.existing(connection, row.workspace_id, to_change=True)
            used = await _used(connection, row.workspace_id)
            check_quota(used, row.size_bytes, quota)
            await connection.execute(insert(files).values(msgspec.structs.asdict(row)))

    async def used(self, workspace_id: str) -> Quota:
        """Return what a workspace has: how many files, of how many bytes."""
        async with reading(self._engine) as connection:
            return await _used(connection, workspace_id)

    async def find(self, workspace_id: str, file_id: str) -> FileRow | None:
        """Return a file of a workspace; None where there is none, or no longer."""
        (row,) = await self.some([file_id]) or (None,)
        return row if row is not None and row.workspace_id == workspace_id and row.deleted_at is None else None

    async def some(self, ids: Collection[str]) -> tuple[FileRow, ...]:
        """Return what is known of up to 10,000 ids, whosever they are, deleted ones too, in any order."""
        async with reading(self._engine) as connection:
            found = await connection.execute(select(files).where(_its.id.in_(ids)))
            return tuple([FileRow(**row) for row in found.mappings()])

    async def page(
        self, workspace_id: str, filters: FileFilters = ANY, after: str = "", limit: int = 100
    ) -> tuple[tuple[FileRow, ...], bool] | None:
        """Return up to `limit` files of a workspace, newest first, and whether there are more.

        `after` is the last id of the page before, which may have been deleted since; None where it is unknown.
        """
        query = select(files).where(_its.workspace_id == workspace_id, _its.deleted_at.is_(None), *_met(filters))
        async with reading(self._engine) as connection:
            if after:
                marks = select(_its.created_at).where(_its.id == after, _its.workspace_id == workspace_id)
                at = await connection.scalar(marks)
                if at is None:
                    return None
                # The first condition alone can be looked up in an index.
                query = query.where(_its.created_at <= at, or_(_its.created_at < at, _its.id < after))
            query = query.order_by(_its.created_at.desc(), _its.id.desc()).limit(limit + 1)
            found = [FileRow(**row) for row in (await connection.execute(query)).mappings()]
        return tuple(found[:limit]), len(found) > limit

    async def numbered(self, workspace_id: str, skip: int, limit: int) -> tuple[tuple[FileRow, ...], int]:
        """Return up to `limit` files of a workspace, newest first, behind the first `skip`, and how many it has."""
        its_own = and_(_its.workspace_id == workspace_id, _its.deleted_at.is_(None))
        query = select(files).where(its_own).order_by(_its.created_at.desc(), _its.id.desc())
        async with reading(self._engine) as connection:
            found = (await connection.execute(query.offset(skip).limit(limit))).mappings()
            rows = tuple([FileRow(**row) for row in found])
            total = await connection.scalar(select(func.count()).select_from(files).where(its_own))
        return rows, total or 0

    async def delete(self, workspace_id: str, file_id: str) -> FileRow | None:
        """Remember a file as deleted and return what it was; None where there is none, or no longer."""
        its_own = and_(_its.id == file_id, _its.workspace_id == workspace_id, _its.deleted_at.is_(None))
        async with writing(self._engine) as connection:
            found = (await connection.execute(select(files).where(its_own).with_for_update())).mappings().one_or_none()
            if found is None:
                return None
            # Nobody can name what it was about any more.
            ended = {"deleted_at": self._now(), "filename": "", "description": "", "md5": ""}
            ended |= {"claimed_by": "", "claimed_until": None}
            await connection.execute(update(files).where(_its.id == file_id).values(ended))
        return FileRow(**found)

    async def living(self, digests: Collection[str]) -> set[str]:
        """Return which of up to 10,000 digests some file has."""
        async with reading(self._engine) as connection:
            query = select(_its.digest).where(_its.digest.in_(digests), _its.deleted_at.is_(None)).distinct()
            return set(await connection.scalars(query))

    async def forget(self, before: datetime) -> int:
        """Forget files that were deleted before a time; return how many."""
        async with writing(self._engine) as connection:
            return (await connection.execute(delete(files).where(_its.deleted_at < before))).rowcount

    # what reads them

    async def claimants(self) -> set[str]:
        """Return who claims files at the moment, alive or not."""
        async with reading(self._engine) as connection:
            return set(
                await connection.scalars(select(_its.claimed_by).where(PENDING, _its.claimed_by != "").distinct())
            )

    async def claim(
        self, by: str, lease: timedelta, gone: Collection[str] = (), served: Sequence[str] = ()
    ) -> FileRow | None:
        """Claim the file that has waited longest, and return it; None where none waits.

        What others claim is not taken while their lease lasts, unless they are known to be `gone`; nor are files of the
        same bytes: once the first is read, so are they. Workspaces that were `served` come after all others, the one
        that was served last at the end, so that thousands of files of one do not keep the others waiting.
        """
        now = self._now()
        waiting = _waiting(now, gone)
        turn: Sequence[ColumnElement[int]] = ()
        if served:
            turn = (case({name: number for number, name in enumerate(served, 1)}, value=_its.workspace_id, else_=0),)
        query = select(files).where(*waiting).order_by(*turn, _its.created_at, _its.id).limit(1)
        async with reading(self._engine) as connection:  # nearly always nothing waits: others may go on writing
            if (await connection.execute(query)).first() is None:
                return None
        async with writing(self._engine) as connection:
            locked = query.with_for_update(skip_locked=True)
            found = (await connection.execute(locked)).mappings().one_or_none()
            if found is None:
                return None
            row = msgspec.structs.replace(
                FileRow(**found), claimed_by=by, claimed_until=now + lease, attempts=found["attempts"] + 1
            )
            claimed = {name: getattr(row, name) for name in ("claimed_by", "claimed_until", "attempts")}
            await connection.execute(update(files).where(_its.id == row.id).values(claimed))
        return row

    async def renew(self, row: FileRow, lease: timedelta, done: int, total: int) -> bool:
        """Go on claiming a file, of whose pages so many are done; False where it was deleted or is another's now."""
        changes = {"claimed_until": self._now() + lease, "pages_done": done, "pages_total": total}
        async with writing(self._engine) as connection:
            return bool((await connection.execute(update(files).where(*_ours(row)).values(changes))).rowcount)

    async def release(self, row: FileRow, pause: timedelta, *, counts: bool = True) -> None:
        """Let others claim a file, after a pause; the attempt `counts` unless it was no fault of the file's."""
        changes = {
            "claimed_by": "",
            "claimed_until": self._now() + pause,
            "attempts": row.attempts if counts else row.attempts - 1,
        }
        async with writing(self._engine) as connection:
            await connection.execute(update(files).where(*_ours(row)).values(changes))

    async def end(self, row: FileRow) -> bool:
        """Store what became of a file that was claimed: its status and all that is known of it.

        False, and nothing is stored, where it was deleted or is another's now.
        """
        changes: dict[str, Any] = {name: getattr(row, name) for name in _FOUND}
        changes |= {"pages_done": row.pages, "pages_total": row.pages, "claimed_by": "", "claimed_until": None}
        async with writing(self._engine) as connection:
            return bool((await connection.execute(update(files).where(*_ours(row)).values(changes))).rowcount)


def check_quota(used: Quota, more_bytes: int, quota: Quota) -> None:
    """Raise FileQuotaExceeded where a workspace with so much has no room for one more file."""
    if used.files >= quota.files:
        raise FileQuotaExceeded.of_number(used.files, quota.files)
    if used.size_bytes + more_bytes > quota.size_bytes:
        raise FileQuotaExceeded.of_bytes(used.size_bytes, quota.size_bytes)


async def _used(connection: AsyncConnection, workspace_id: str) -> Quota:
    sums = select(func.count(), func.coalesce(func.sum(_its.size_bytes), 0))
    found = await connection.execute(sums.where(_its.workspace_id == workspace_id, _its.deleted_at.is_(None)))
    number, size_bytes = found.one()
    return Quota(number, int(size_bytes))


def _met(filters: FileFilters) -> list[ColumnElement[bool]]:
    met = []
    if filters.purpose:
        met.append(_its.purpose == filters.purpose)
    if filters.since is not None:
        met.append(_its.created_at >= filters.since)
    if filters.until is not None:
        met.append(_its.created_at < filters.until)
    return met


def _waiting(now: datetime, gone: Collection[str]) -> list[ColumnElement[bool] | TextClause]:
    """Return the conditions of files that may be claimed."""
    others = files.alias()
    is_read = and_(
        others.c.digest == _its.digest,
        others.c.id != _its.id,
        others.c.deleted_at.is_(None),
        others.c.claimed_until >= now,
        others.c.claimed_by.not_in(["", *gone]),
    )
    free = or_(_its.claimed_until.is_(None), _its.claimed_until < now, _its.claimed_by.in_(gone))
    return [PENDING, _its.deleted_at.is_(None), free, not_(select(others.c.id).where(is_read).exists())]


def _ours(row: FileRow) -> tuple[ColumnElement[bool], ...]:
    # With the attempt: a process that claims a file again must not be taken for itself before it lost it.
    return (
        _its.id == row.id,
        _its.claimed_by == row.claimed_by,
        _its.attempts == row.attempts,
        _its.deleted_at.is_(None),
    )


__all__ = ["ANY", "Files", "check_quota"]
