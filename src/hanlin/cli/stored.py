"""Steps on the database of a home."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from hanlin.home import Home
from hanlin.store.database import Store, open_store

Result = TypeVar("Result")


def in_store(home: Home, act: Callable[[Store], Awaitable[Result]]) -> Result:
    """Run one step on the home's database. Raises what opening and the step raise."""

    async def run() -> Result:
        async with await open_store(home.database) as store:
            return await act(store)

    return asyncio.run(run())


def looked_up(home: Home, act: Callable[[Store], Awaitable[Result]], otherwise: Result) -> Result:
    """Run a step that only looks; `otherwise` for a home without a database: looking at it must not make one."""
    return in_store(home, act) if home.database.exists() else otherwise
