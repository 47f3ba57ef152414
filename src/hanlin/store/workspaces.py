"""Workspaces: who pays. The first, `default`, is made with the tables; none is ever deleted, because bills name it."""

import secrets
from collections.abc import Callable
from datetime import datetime

from sqlalchemy import insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from hanlin.errors import HanlinError, InvalidRequest
from hanlin.store import columns
from hanlin.store.audit import record
from hanlin.store.engine import now_utc, reading, writing
from hanlin.store.rows import UNLIMITED, Limits, Workspace
from hanlin.store.tables import workspaces
from hanlin.words import say

_KEPT = ("id", "created_at")


class UnknownWorkspace(HanlinError):
    """No workspace has the id that was given."""

    status, code, type = 404, "not_found", "invalid_request_error"

    def __init__(self, workspace_id: str) -> None:
        super().__init__(say(f"{workspace_id}: no workspace has this id", f"{workspace_id}：没有此编号的业务空间"))


class Workspaces:
    """The workspaces of one database. Every method raises StoreFailed when the database cannot be used.

    Each change leaves a row in the audit log, in the name of `who`.
    """

    def __init__(self, engine: AsyncEngine, now: Callable[[], datetime] = now_utc) -> None:
        self._engine = engine
        self._now = now

    async def add(
        self, name: str, *, limits: Limits = UNLIMITED, keeps_content: bool = False, who: str = ""
    ) -> Workspace:
        """Store a workspace under a new id. Raises InvalidRequest for a name that another one has."""
        row = Workspace(
            id=f"ws-{secrets.token_hex(8)}",
            name=name,
            created_at=self._now(),
            limits=limits,
            keeps_content=keeps_content,
        )
        try:
            async with writing(self._engine) as connection:
                await connection.execute(insert(workspaces).values(columns.of_workspace(row)))
                await record(connection, row.created_at, who, "workspaces.add", row.id, after=row)
        except IntegrityError as error:
            raise _taken(name) from error
        return row

    async def all(self) -> tuple[Workspace, ...]:
        """Return every workspace, oldest first."""
        async with reading(self._engine) as connection:
            found = await connection.execute(select(workspaces).order_by(workspaces.c.created_at, workspaces.c.id))
            return tuple(map(columns.workspace, found.mappings()))

    async def get(self, workspace_id: str) -> Workspace:
        """Return a workspace. Raises UnknownWorkspace."""
        async with reading(self._engine) as connection:
            return await existing(connection, workspace_id)

    async def change(self, workspace_id: str, edit: Callable[[Workspace], Workspace], *, who: str = "") -> Workspace:
        """Store what `edit` makes of a workspace and return it. Nobody else changes it in between.

        Raises UnknownWorkspace, InvalidRequest for a name that another one has, ValueError when `edit` changes the id
        or the time it was made, and what `edit` raises.
        """
        new = None
        try:
            async with writing(self._engine) as connection:
                old = await existing(connection, workspace_id, to_change=True)
                new = edit(old)
                if any(getattr(new, name) != getattr(old, name) for name in _KEPT):
                    raise ValueError(f"{', '.join(_KEPT)}: cannot be changed")
                if new != old:
                    table = update(workspaces).where(workspaces.c.id == workspace_id)
                    await connection.execute(table.values(columns.of_workspace(new)))
                    await record(connection, self._now(), who, "workspaces.change", new.id, old, new)
        except IntegrityError as error:
            raise _taken("" if new is None else new.name) from error
        return new


async def existing(connection: AsyncConnection, workspace_id: str, *, to_change: bool = False) -> Workspace:
    """Return a workspace, `to_change` so that no other transaction can until ours ends. Raises UnknownWorkspace."""
    query = select(workspaces).where(workspaces.c.id == workspace_id)
    found = await connection.execute(query.with_for_update() if to_change else query)
    row = found.mappings().one_or_none()
    if row is None:
        raise UnknownWorkspace(workspace_id)
    return columns.workspace(row)


def _taken(name: str) -> InvalidRequest:
    return InvalidRequest(
        say(
            f"{name!r}: another workspace has this name. Choose another one",
            f"{name!r}：已有同名的业务空间。请换一个名称",
        ),
        param="name",
    )
