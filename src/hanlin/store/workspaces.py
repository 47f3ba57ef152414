"""Workspaces: who pays. The first, `default`, is made with the tables; none is ever deleted, because bills name it."""

import secrets
from collections.abc import Callable
from datetime import datetime

import msgspec
from sqlalchemy import or_
from sqlalchemy.ext.asyncio import AsyncEngine

from hanlin.errors import InvalidRequest, UnknownWorkspace
from hanlin.store import columns
from hanlin.store.book import Book
from hanlin.store.engine import now_utc, reading, writing
from hanlin.store.rows import UNLIMITED, Limits, Mark, Page, Workspace
from hanlin.store.tables import workspaces
from hanlin.words import say


def _taken(row: Workspace) -> InvalidRequest:
    return InvalidRequest(
        say(
            f"{row.name!r}: another workspace has this name. Choose another one",
            f"{row.name!r}：已有同名的业务空间。请换一个名称",
        ),
        param="name",
    )


BOOK: Book[Workspace] = Book(
    "workspaces",
    workspaces,
    columns.workspace,
    columns.of_workspace,
    kept=("id", "created_at"),
    shown=msgspec.to_builtins,
    unknown=UnknownWorkspace,
    taken=_taken,
)


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
        async with writing(self._engine) as connection:
            await BOOK.add(connection, row, who)
        return row

    async def all(self) -> tuple[Workspace, ...]:
        """Return every workspace, oldest first."""
        return await BOOK.all(self._engine)

    async def page(self, after: Mark | None = None, limit: int = 100) -> Page[Workspace]:
        """Return up to `limit` workspaces, oldest first, from a mark on that an earlier page ended with."""
        return await BOOK.page(self._engine, after, limit)

    async def get(self, workspace_id: str) -> Workspace:
        """Return a workspace. Raises UnknownWorkspace."""
        async with reading(self._engine) as connection:
            return await BOOK.existing(connection, workspace_id)

    async def called(self, word: str) -> Workspace:
        """Return the workspace whose id, or else whose name, is `word`. Raises UnknownWorkspace."""
        its = workspaces.c
        async with reading(self._engine) as connection:
            found = await BOOK.some(connection, or_(its.id == word, its.name == word))
        if not found:
            raise UnknownWorkspace(word)
        return min(found, key=lambda row: row.id != word)

    async def change(self, workspace_id: str, edit: Callable[[Workspace], Workspace], *, who: str = "") -> Workspace:
        """Store what `edit` makes of a workspace and return it. Nobody else changes it in between.

        Raises UnknownWorkspace, InvalidRequest for a name that another one has, ValueError when `edit` changes the id
        or the time it was made, and what `edit` raises.
        """
        async with writing(self._engine) as connection:
            _, new = await BOOK.change(connection, workspace_id, edit, self._now(), who)
        return new
