"""Steps on the database of a home, and the workspaces in it by the names that people give them."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from hanlin.cli.show import Failed
from hanlin.home import Home
from hanlin.store.database import Store, open_store
from hanlin.store.rows import Workspace
from hanlin.words import say

Result = TypeVar("Result")

WHO = "cli"
"""In whose name the audit log has what is changed here."""


def in_store(home: Home, act: Callable[[Store], Awaitable[Result]]) -> Result:
    """Run one step on the home's database. Raises what opening and the step raise."""

    async def run() -> Result:
        async with await open_store(home.database) as store:
            return await act(store)

    return asyncio.run(run())


def looked_up(home: Home, act: Callable[[Store], Awaitable[Result]], otherwise: Result) -> Result:
    """Run a step that only looks; `otherwise` for a home without a database: looking at it must not make one."""
    return in_store(home, act) if home.database.exists() else otherwise


async def workspace_of(store: Store, word: str) -> Workspace:
    """Return the workspace of an id or a name. Raises Failed."""
    there = await store.workspaces.all()
    for found in (*(one for one in there if one.id == word), *(one for one in there if one.name == word)):
        return found
    raise unknown_workspace(word)


def unknown_workspace(word: str) -> Failed:
    return Failed(
        say(
            f"no workspace is called {word!r}: `hanlin workspaces list` shows all, `… create` makes one",
            f"没有名为 {word!r} 的业务空间：`hanlin workspaces list` 列出全部，`hanlin workspaces create` 可新建",
        )
    )
